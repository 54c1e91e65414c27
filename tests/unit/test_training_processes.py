"""Training in two processes: what one process learns, to the same bits after a kill, and nobody left waiting.

Each test starts `torchrun` on the processor. The rows, model and settings travel as files.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate.commands.launch import (
    _validate_launch_command,
    launch_command_parser,
    prepare_multi_gpu_env,
)
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.architectures import ARCHITECTURES, build
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration

from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example
from behavior_llava.models import auto
from behavior_llava.training import trainer
from behavior_llava.training.batching import Uncounted, collated
from behavior_llava.training.lora import LoraConfig
from behavior_llava.training.trainer import Idle, TrainConfig, shares, train

if TYPE_CHECKING:
    from collections.abc import Mapping

    from behavior_llava.core.schema import Media

WAIT_S = 240
ROOT = Path(__file__).parents[2]


# ---- who learns what ---------------------------------------------------------------------------------------


@given(
    num_rows=st.integers(0, 60),
    per_process=st.integers(1, 4),
    accumulation=st.integers(1, 3),
    processes=st.integers(1, 4),
)
def test_every_row_is_shown_once_and_in_its_step(
    num_rows: int, per_process: int, accumulation: int, processes: int
) -> None:
    of = [
        shares(
            num_rows,
            per_process=per_process,
            accumulation=accumulation,
            processes=processes,
            process=process,
        )
        for process in range(processes)
    ]
    assert len({len(batches) for batches in of}) == 1  # nobody waits for a batch that never comes
    step = per_process * accumulation * processes
    seen: Counter[int] = Counter()
    for batches in of:
        for number, batch in enumerate(batches):
            assert 1 <= len(batch) <= per_process
            counted = [row for row in batch if not isinstance(row, Idle)]
            assert counted == batch or len(batch) == 1
            assert {row // step for row in batch} == {number // accumulation}
            seen.update(counted)
    assert seen == Counter(range(num_rows))


def test_shares_by_hand() -> None:
    def of(process: int, num_rows: int = 11) -> list[list[int]]:
        return shares(num_rows, per_process=2, accumulation=2, processes=2, process=process)

    # eight rows in two rounds, and three that are left in one
    assert of(0) == [[0, 1], [4, 5], [8]]
    assert of(1) == [[2, 3], [6, 7], [9, 10]]
    assert of(0, 1) == [[0]] or of(1, 1) == [[0]]
    idle = [row for process in (0, 1) for row in of(process, 1)[0] if isinstance(row, Idle)]
    assert idle == [0]


# ---- two processes -----------------------------------------------------------------------------------------

PROGRAM = """
import os, pickle, signal, sys
from pathlib import Path
import torch
torch.use_deterministic_algorithms(True)
from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.models import auto
from behavior_llava.training import trainer
from behavior_llava.training.batching import Collator

if os.environ.get("ACCELERATE_USE_FSDP") == "true":
    # accelerate runs FSDP on accelerators alone (AcceleratorState.__init__): the processor passes for one
    from accelerate.state import DistributedType, PartialState
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)
    torch.distributed.init_process_group("gloo")

model_folder, rows, config, folder, spoil = pickle.loads(Path(sys.argv[1]).read_bytes())
model = auto.load(str(model_folder), FrameStore(folder.parent / "frames"), device="cpu")
if spoil is not None:
    original = trainer.supervised_loss
    number = 0
    def spoiled(outputs, labels, num_items_in_batch=None):
        global number
        number += 1
        if number == spoil and os.environ["RANK"] == "1":
            outputs.logits = outputs.logits * float("nan")
        return original(outputs, labels, num_items_in_batch)
    trainer.supervised_loss = spoiled
try:
    trainer.train(model, rows, config, folder, seed=0, label="test")
except UserError as error:
    (folder.parent / f"refused{os.environ['RANK']}.txt").write_text(str(error))
finally:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
"""


def settings(processes: int, *, accumulation: int = 1, **fields: Any) -> TrainConfig:
    """Four rows a step, whatever the number of processes."""
    arguments = {
        "learning_rate": 0.01,
        "per_device_train_batch_size": 4 // (processes * accumulation),
        "gradient_accumulation_steps": accumulation,
        "save_steps": 2,
        "logging_steps": 1,
        **fields.pop("arguments", {}),
    }
    return TrainConfig(epochs=1, arguments=arguments, **fields)


def started(
    processes: int,
    model_folder: Path,
    rows: list[Example],
    config: TrainConfig,
    folder: Path,
    spoil: int | None = None,
    *,
    fsdp: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """The program in that many processes, as a group of its own; with weights split where fsdp is given."""
    place = folder.parent
    place.mkdir(parents=True, exist_ok=True)
    (place / "program.py").write_text(PROGRAM)
    (place / "given.pickle").write_bytes(pickle.dumps((model_folder, rows, config, folder, spoil)))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.Popen(
        [sys.executable, *launch, str(place / "program.py"), str(place / "given.pickle")],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "ACCELERATE_USE_CPU": "true",
            "CUDA_VISIBLE_DEVICES": "",
            **(fsdp or {}),
        },
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, said[-3000:]


@pytest.fixture(scope="module")
def rows(media: dict[str, Media]) -> list[Example]:
    """Seven steps of four rows, the last of them of one; some pictures twice, some rows of text alone."""
    items = [media["a"], media["a"], None, media["b"], None, None, media["clip"]]
    words = ["joy", "anger", "a good day", "sadness"]
    return [Example(f"row{n}", f"what do viewers feel {n}", words[n % 4], items[n % 7]) for n in range(25)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def alone(model_folder: Path, rows: list[Example], config: TrainConfig, folder: Path) -> None:
    model = auto.load(str(model_folder), FrameStore(folder.parent / "frames"), device="cpu")
    train(model, rows, config, folder, seed=0, label="test")


def close(folder: Path, other: Path, tolerance: float = 1e-5) -> None:
    first, second = trainer.loss_curve(folder), trainer.loss_curve(other)
    assert [step for step, _ in first] == [step for step, _ in second] == list(range(1, 8))
    for (_, value), (_, expected) in zip(first, second, strict=True):
        assert value == pytest.approx(expected, abs=tolerance)


SETTINGS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "accumulated": {"accumulation": 2},
    "adapters, packed, vision frozen, less memory": {
        "lora": LoraConfig(rank=4, alpha=8),
        "freeze": ("vision_tower",),
        "pack_tokens": 200,
        "arguments": {"activation_checkpointing": True},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_learn_what_one_learns(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, name: str
) -> None:
    # plain descent: Adam divides by the gradient's size, and turns 1e-9 of rounding into a step of any size
    fields = {**SETTINGS[name]}
    fields["arguments"] = {"optim": "sgd", "learning_rate": 0.05, **fields.get("arguments", {})}
    finished(started(2, tiny_folder, rows, settings(2, **fields), tmp_path / "two" / "stage"))
    alone(tiny_folder, rows, settings(1, **fields), tmp_path / "one" / "stage")
    close(tmp_path / "two" / "stage", tmp_path / "one" / "stage")
    before = load_file(tiny_folder / "model.safetensors")
    first, second = weights(tmp_path / "two" / "stage"), weights(tmp_path / "one" / "stage")
    assert first.keys() == second.keys() == before.keys()
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], atol=1e-5, rtol=1e-4)
        assert torch.equal(value, before[key]) == torch.equal(second[key], before[key]), key


def kill_all(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the launcher and its workers, which it puts into sessions of their own."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    for pid in (process.pid, *map(int, listed.stdout.split())):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=WAIT_S)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_killed_at_any_step_continue_to_the_same_bits(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, name: str
) -> None:
    config = settings(2, **SETTINGS[name])
    finished(started(2, tiny_folder, rows, config, tmp_path / "whole" / "stage"))
    wanted = random.choice([0, 2, 4, 6])  # a checkpoint is there, and a moment later is the kill
    place = tmp_path / "cut" / "stage"
    process = started(2, tiny_folder, rows, config, place)
    began = time.monotonic()
    while not (place / "checkpoints" / f"checkpoint-{wanted}").exists() and process.poll() is None:
        assert time.monotonic() - began < WAIT_S
        if not wanted and (place / "logs").exists():
            break
        time.sleep(0.002)
    time.sleep(random.random() * 0.1)
    kill_all(process)
    assert not (place / "loss.json").exists(), f"not killed in time at {wanted}"
    finished(started(2, tiny_folder, rows, config, place))
    assert trainer.loss_curve(place) == trainer.loss_curve(tmp_path / "whole" / "stage"), wanted
    first, second = weights(place), weights(tmp_path / "whole" / "stage")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first), f"killed at {wanted}"
    assert not (place / "checkpoints").exists()


@pytest.mark.slow
def test_all_processes_stop_at_a_loss_that_is_no_number(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    """The second process meets it, in the second round of the second step; both name its row."""
    config = settings(2, accumulation=2, share_media=False)
    finished(started(2, tiny_folder, rows, config, tmp_path / "stage", spoil=4))
    told = [(tmp_path / f"refused{rank}.txt").read_text() for rank in (0, 1)]
    assert told[0] == told[1]
    assert "the loss is nan at step 2, because of row7" in told[0]
    assert not (tmp_path / "stage" / "model").exists()


def test_a_checkpoint_of_more_processes_is_refused(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    checkpoint = tmp_path / "stage" / "checkpoints" / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    for rank in (0, 1):
        (checkpoint / f"rng_state_{rank}.pth").write_bytes(b"")
    (checkpoint / trainer.COMPLETE).write_text('["rng_state_0.pth", "rng_state_1.pth"]')
    with pytest.raises(trainer.UserError, match="of 2 processes, not 1"):
        alone(tiny_folder, rows, settings(1), tmp_path / "stage")
    assert checkpoint.exists()


def test_a_row_that_does_not_count_teaches_nothing(tiny_folder: Path, rows: list[Example]) -> None:
    model = auto.load(str(tiny_folder), FrameStore(tiny_folder.parent / "frames"), device="cpu")
    collate = trainer.Collator(model)
    row = replace(rows[0])
    counted = collated(collate, [row])
    assert counted["rows"] == [("row0", int((counted["labels"] != -100).sum()))]
    batch = collated(collate, [Uncounted(row)])
    assert (batch["labels"] == -100).all()
    outputs = model.network(**{key: value for key, value in batch.items() if key not in ("labels", "rows")})
    found = trainer.supervised_loss(outputs, batch["labels"], 5)
    found.backward()
    assert float(found.detach()) == 0
    grads = [value.grad for value in model.network.parameters() if value.grad is not None]
    assert grads
    assert not any(grad.any() for grad in grads)


# ---- weights split over two processes ----------------------------------------------------------------------


def split_weights() -> dict[str, str]:
    """What `accelerate launch` sets for our file, in single precision and for the processor."""
    given = ["--config_file", str(ROOT / "configs" / "accelerate" / "fsdp.yaml")]
    given += ["--num_processes", "2", "--mixed_precision", "no", "program.py"]
    told, _, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    found = prepare_multi_gpu_env(told)
    added = {key: value for key, value in found.items() if os.environ.get(key) != value}
    assert added["FSDP_VERSION"] == "2"
    return {**added, "ACCELERATE_TORCH_DEVICE": "cpu"}


SPLIT: dict[str, dict[str, Any]] = {
    "all weights": {},
    "accumulated, vision frozen": {"accumulation": 2, "freeze": ("vision_tower",)},
    "adapters, embeddings frozen": {"lora": LoraConfig(rank=4, alpha=8)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPLIT)
def test_split_weights_learn_what_whole_ones_learn(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, name: str
) -> None:
    """One process often has a batch of text alone while the other sees pictures."""
    fields = {**SPLIT[name]}
    fields["arguments"] = {"optim": "sgd", "learning_rate": 0.05}
    config = settings(2, **fields)
    finished(started(2, tiny_folder, rows, config, tmp_path / "split" / "stage", fsdp=split_weights()))
    alone(tiny_folder, rows, settings(1, **fields), tmp_path / "one" / "stage")
    close(tmp_path / "split" / "stage", tmp_path / "one" / "stage")
    first, second = weights(tmp_path / "split" / "stage"), weights(tmp_path / "one" / "stage")
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], atol=1e-5, rtol=1e-4)
    found, told = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "split" / "stage" / "model", output_loading_info=True
    )
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(found) is LlavaForConditionalGeneration


@pytest.mark.slow
@pytest.mark.parametrize("name", SPLIT)
def test_split_weights_killed_continue_to_the_same_bits(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, name: str
) -> None:
    config = settings(2, **SPLIT[name])
    whole, place = tmp_path / "whole" / "stage", tmp_path / "cut" / "stage"
    finished(started(2, tiny_folder, rows, config, whole, fsdp=split_weights()))
    process = started(2, tiny_folder, rows, config, place, fsdp=split_weights())
    began = time.monotonic()
    wanted = random.choice([2, 4])
    while not (place / "checkpoints" / f"checkpoint-{wanted}" / trainer.COMPLETE).exists():
        assert process.poll() is None
        assert time.monotonic() - began < WAIT_S
        time.sleep(0.002)
    time.sleep(random.random() * 0.1)
    kill_all(process)
    assert not (place / "loss.json").exists(), f"not killed in time at {wanted}"
    finished(started(2, tiny_folder, rows, config, place, fsdp=split_weights()))
    assert trainer.loss_curve(place) == trainer.loss_curve(whole), wanted
    first, second = weights(place), weights(whole)
    assert all(torch.equal(first[key], second[key]) for key in first), f"killed at {wanted}"


def test_the_older_way_to_split_weights_is_refused() -> None:
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=1, cpu_ram_efficient_loading=False, sync_module_states=False
    )
    with pytest.raises(trainer.UserError, match="set fsdp_version: 2"):
        trainer.split(None, plugin)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_are_split_at_the_language_models_layers(name: str, tmp_path: Path) -> None:
    build(name, tmp_path)
    network = auto.load(str(tmp_path), FrameStore(tmp_path / "frames"), device="cpu").network
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    trainer.split(network, plugin)
    plugin.set_auto_wrap_policy(network)
    cut = fsdp2_prepare_auto_wrap_policy(plugin, network)
    assert cut is not None
    assert [module for module in network.modules() if cut(module)] == list(network.get_decoder().layers)


def test_deepspeed_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(trainer.UserError, match=r"arguments: DeepSpeed .*fsdp\.yaml"):
        trainer.arguments(settings(1, arguments={"deepspeed": {}}), tmp_path, seed=0, on_cpu=True)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(trainer.UserError, match="accelerate launch: DeepSpeed"):
        trainer.arguments(settings(1), tmp_path, seed=0, on_cpu=True)
