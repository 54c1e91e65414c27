"""A training stage: what it refuses to learn from, what it learns, and that a kill changes nothing of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import auto
from behavior_llava.training import trainer
from behavior_llava.training.batching import Collator, check_packing, gate, pack
from behavior_llava.training.lora import LoraConfig
from behavior_llava.training.trainer import TrainConfig, train

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel

ARGUMENTS = {"learning_rate": 0.01, "per_device_train_batch_size": 2, "save_steps": 2, "logging_steps": 1}
STEPS = 7


@pytest.fixture(scope="module")
def rows(media: dict[str, Media]) -> list[Example]:
    """Two rows a step."""
    items = [media["a"], None, media["b"], media["clip"], media["c"]]
    words = ["joy", "anger", "a good day", "sadness"]
    return [
        Example(f"row{n}", f"what do viewers feel {n}", words[n % 4], items[n % 5]) for n in range(2 * STEPS)
    ]


def config(**arguments: Any) -> TrainConfig:
    return TrainConfig(epochs=1, arguments={**ARGUMENTS, **arguments})


def run(
    model_folder: Path, rows: list[Example], folder: Path, settings: TrainConfig | None = None
) -> dict[str, Any]:
    model = auto.load(str(model_folder), FrameStore(folder.parent / "frames"), device="cpu")
    return train(model, rows, settings or config(), folder, seed=0, label="test")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(tiny_folder: Path, rows: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "stage"
    facts = run(tiny_folder, rows, folder)
    assert facts["rows"] == 2 * STEPS
    assert facts["steps"] == STEPS
    return folder


def same(folder: Path, other: Path) -> bool:
    first, second = weights(folder), weights(other)
    equal = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    return equal and trainer.loss_curve(folder) == trainer.loss_curve(other)


# ---- what may be learned from ------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Callable[[Example], Example], str]] = {
    "no answer": (lambda row: replace(row, completion=None), "no answer"),
    "an empty answer": (lambda row: replace(row, completion=""), "no answer"),
    "blanks": (lambda row: replace(row, completion=" \n "), "no answer"),
    "a picture in the prompt": (
        lambda row: replace(row, prompt="see <image> here"),
        "media placeholder <image>",
    ),
    "a picture in the answer": (lambda row: replace(row, completion="<image>"), "media placeholder <image>"),
    "too long": (lambda row: replace(row, prompt="word " * 101), "words where 100 tokens are allowed"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_gate_names_the_row_at_fault(tiny: VisionLanguageModel, rows: list[Example], name: str) -> None:
    change, told = FAULTS[name]
    gate(tiny, rows, max_tokens=100)
    with pytest.raises(UserError, match=told) as caught:
        gate(tiny, [*rows[:3], change(rows[3]), *rows[4:]], max_tokens=100)
    assert caught.value.where == "row3"


def test_nothing_is_trained_before_the_gate(tiny_folder: Path, rows: list[Example], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row13: has no answer"):
        run(tiny_folder, [*rows[:-1], replace(rows[-1], completion="")], tmp_path / "stage")
    assert not (tmp_path / "stage").exists()


def test_a_row_whose_tokens_are_not_its_templates_is_refused(
    tiny: VisionLanguageModel, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "completion_ids", lambda *_, **__: [5, 6])
    with pytest.raises(UserError, match="row0: the row's tokens are not those of its template"):
        Collator(tiny)(rows[:2])


def test_no_other_row_takes_the_place_of_one_that_is_gone(
    tiny: VisionLanguageModel, rows: list[Example], tmp_path: Path
) -> None:
    gone = replace(rows[0], id="gone", media=Media(str(tmp_path / "gone.png"), "image", "ab" * 32))
    with pytest.raises(UserError, match=r"media_missing.*gone"):
        Collator(tiny)([rows[1], gone])


# ---- rows that share a sequence ----------------------------------------------------------------------------


def gradients(model: VisionLanguageModel, batch: dict[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    model.network.zero_grad()
    loss = model.network(**batch).loss
    loss.backward()
    found = {
        name: value.grad.clone() for name, value in model.network.named_parameters() if value.grad is not None
    }
    model.network.zero_grad()
    return float(loss.detach()), found


@pytest.mark.parametrize("length", [40, 64, 200])
def test_packed_rows_teach_what_padded_rows_teach(
    tiny: VisionLanguageModel, rows: list[Example], length: int
) -> None:
    padded, packed = Collator(tiny)(rows[:6]), Collator(tiny, length)(rows[:6])
    num_tokens = int(padded["attention_mask"].sum())
    assert (packed["labels"] != -100).sum() == (padded["labels"] != -100).sum()
    assert num_tokens <= packed["input_ids"].numel()
    assert len(packed["input_ids"]) < 6 or length == 40
    loss, grads = gradients(tiny, padded)
    packed_loss, packed_grads = gradients(tiny, packed)
    assert packed_loss == pytest.approx(loss, abs=1e-5)
    assert grads.keys() == packed_grads.keys()
    for name, grad in grads.items():
        assert torch.allclose(grad, packed_grads[name], atol=1e-5), name


def test_pictures_stay_with_their_rows(tiny: VisionLanguageModel, rows: list[Example]) -> None:
    """The order of the pictures is that of the rows in their sequences, not that of the batch."""
    batch = tiny.inputs(rows[:5], supervise=True)
    packed = pack(batch, [tiny.num_images(row) for row in rows[:5]], 1000)
    assert len(packed["input_ids"]) == 1
    lengths = batch["attention_mask"].sum(1).tolist()
    order = sorted(range(5), key=lambda row: -lengths[row])
    assert [i for i in order if tiny.num_images(rows[i])] != sorted(
        i for i in order if tiny.num_images(rows[i])
    )
    wanted = torch.cat(
        [tiny.inputs([rows[i]], supervise=True)["pixel_values"] for i in order if rows[i].media]
    )
    assert torch.equal(packed["pixel_values"], wanted)


def test_a_model_that_mixes_packed_rows_is_refused(
    tiny: VisionLanguageModel, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_packing(tiny, rows, 200)
    forward = tiny.network.forward

    def mixing(**batch: Any) -> Any:
        batch.pop("position_ids", None)  # all that tells where a row begins
        return forward(**batch)

    monkeypatch.setattr(tiny.network, "forward", mixing)
    with pytest.raises(UserError, match="does not keep packed rows apart"):
        check_packing(tiny, rows, 200)


def test_inputs_of_an_unknown_form_are_not_packed(tiny: VisionLanguageModel, rows: list[Example]) -> None:
    batch = {**tiny.inputs(rows[:2], supervise=True), "image_grid_thw": torch.ones(1, 3)}
    with pytest.raises(UserError, match="cannot be packed"):
        pack(batch, [1, 0], 100)


# ---- settings ----------------------------------------------------------------------------------------------


def test_frozen_parts_stay_and_others_learn(tiny_folder: Path, rows: list[Example], tmp_path: Path) -> None:
    settings = TrainConfig(epochs=1, freeze=("vision_tower", r"layers\.0\.mlp"), arguments=ARGUMENTS)
    run(tiny_folder, rows[:4], tmp_path / "stage", settings)
    before, after = load_file(tiny_folder / "model.safetensors"), weights(tmp_path / "stage")
    frozen = {name for name in before if torch.equal(before[name], after[name])}
    assert frozen == {name for name in before if "vision_tower" in name or "layers.0.mlp" in name}
    assert len(frozen) < len(before)


LORA = TrainConfig(
    epochs=1, lora=LoraConfig(rank=4, alpha=8, dropout=0.1), freeze=("vision_tower",), arguments=ARGUMENTS
)


def test_adapters_are_merged_into_a_plain_model(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    facts = run(tiny_folder, rows, tmp_path / "stage", LORA)
    assert facts["steps"] == STEPS
    before, after = load_file(tiny_folder / "model.safetensors"), weights(tmp_path / "stage")
    assert before.keys() == after.keys()
    learned = {name for name in before if not torch.equal(before[name], after[name])}
    assert learned == {
        name
        for name in before
        if "multi_modal_projector" in name
        or re.search(r"language_model.*(q|k|v|o|gate|up|down)_proj\.weight", name)
    }
    assert len(learned) == 4 + 7 * sum("q_proj" in name for name in before if "language_model" in name)
    # what is merged is what the adapters said
    adapters = load_file(tmp_path / "stage" / "adapters" / "adapter_model.safetensors")
    name = next(key for key in adapters if "q_proj.lora_A" in key)
    low = adapters[name.replace("lora_A", "lora_B")] @ adapters[name]
    merged = next(key for key in learned if key.endswith(re.search(r"layers.*q_proj", name)[0] + ".weight"))  # pyright: ignore[reportOptionalSubscript]
    torch.testing.assert_close(after[merged] - before[merged], 8 / 4 * low, atol=1e-6, rtol=1e-4)
    assert not (tmp_path / "stage" / "model" / "adapter_config.json").exists()
    # loads in a process that knows transformers alone, and says what our model says
    model = auto.load(str(tmp_path / "stage" / "model"), FrameStore(tmp_path / "frames"), device="cpu")
    expected = model.generate([replace(rows[0], completion=None)], max_new_tokens=6)
    assert rows[0].media is not None
    assert transformers_alone(tmp_path / "stage" / "model", rows[0].media.path, rows[0].prompt) == expected


ALONE = """
import json, sys
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
folder, picture, prompt = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder)
network = AutoModelForImageTextToText.from_pretrained(folder).eval()
messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]
text = processor.apply_chat_template(messages, add_generation_prompt=True)
inputs = processor(text=text, images=[Image.open(picture).convert("RGB")], return_tensors="pt")
ids = network.generate(**inputs, max_new_tokens=6, do_sample=False)
said = processor.batch_decode(ids[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
assert not any(name.split(".")[0] in ("behavior_llava", "peft") for name in sys.modules)
print(json.dumps([one.strip() for one in said]))
"""


def transformers_alone(folder: Path, picture: str, prompt: str) -> list[str]:
    """What a process that has never heard of this project answers."""
    ran = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), picture, prompt],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout.splitlines()[-1])


def test_adapters_continue_after_a_kill_to_the_same_bits(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    run(tiny_folder, rows, tmp_path / "whole", LORA)
    interrupted(tiny_folder, rows, tmp_path / "stage", 5, LORA)
    assert checkpoints(tmp_path / "stage")
    run(tiny_folder, rows, tmp_path / "stage", LORA)
    assert same(tmp_path / "stage", tmp_path / "whole")


def test_adapters_of_another_size_do_not_continue(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    interrupted(tiny_folder, rows, tmp_path / "stage", 5, LORA)
    (checkpoint,) = checkpoints(tmp_path / "stage")
    file = checkpoint / "adapter_model.safetensors"
    adapters = load_file(file)
    adapters["renamed"] = adapters.pop(next(name for name in adapters if "lora_A" in name))
    save_file(adapters, file)
    with pytest.raises(UserError, match="the checkpoint's weights do not fit"):
        run(tiny_folder, rows, tmp_path / "stage", LORA)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"targets": "nothing_like_it"}, "lora.targets 'nothing_like_it' cannot be used"),
        ({"targets": "("}, "cannot be used"),
        ({"whole": ("projektor",)}, "lora.whole names 'projektor'"),
    ],
)
def test_adapters_for_parts_that_are_not_there(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        run(
            tiny_folder,
            rows,
            tmp_path / "stage",
            TrainConfig(epochs=1, lora=LoraConfig(**settings), arguments=ARGUMENTS),
        )


def test_freezing_starts_from_nothing_frozen(tiny_folder: Path, tmp_path: Path) -> None:
    network = auto.load(str(tiny_folder), FrameStore(tmp_path), device="cpu").network
    trainer.freeze(network, ("vision_tower",))
    trainer.freeze(network, ("projector",))
    assert {name for name, value in network.named_parameters() if not value.requires_grad} == {
        name for name, _ in network.named_parameters() if "projector" in name
    }
    with pytest.raises(UserError, match="'vision_towr' matches no parameter"):
        trainer.freeze(network, ("projector", "vision_towr"))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("learning_rat", 0.1, "learning_rat"),
        ("lr_scheduler_type", "cosinus", "cosinus"),
        ("optim", "adam_best", "adam_best"),
        ("seed", 3, "seed is set by the method"),
        ("num_train_epochs", 3, "num_train_epochs is set by the method"),
        ("learning_rate", "1e-3", "learning_rate"),
    ],
)
def test_arguments_transformers_does_not_take(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, name: str, value: Any, told: str
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        run(tiny_folder, rows[:2], tmp_path / "stage", config(**{name: value}))
    assert caught.value.where == "arguments"


def test_rows_are_learned_in_their_order(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def noted(self: Collator, examples: list[Example]) -> dict[str, Any]:
        seen.extend(example.id for example in examples)
        return original(self, examples)

    original = Collator.__call__
    monkeypatch.setattr(Collator, "__call__", noted)
    order = [*rows[5:9], rows[5], rows[0]]
    run(tiny_folder, order, tmp_path / "stage")
    assert seen == [row.id for row in order]


# ---- a loss that is no number ------------------------------------------------------------------------------


@pytest.mark.parametrize("logging_steps", [1, 3, 50])
def test_a_loss_that_is_no_number_stops(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, logging_steps: int
) -> None:
    settings = config(learning_rate=1e30, logging_steps=logging_steps, max_grad_norm=0.0, warmup_steps=0)
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d"):
        run(tiny_folder, rows, tmp_path / "stage", settings)
    assert not (tmp_path / "stage" / "model").exists()


# ---- kills -------------------------------------------------------------------------------------------------


def test_it_learns_and_leaves_only_the_model(tiny_folder: Path, undisturbed: Path) -> None:
    curve = trainer.loss_curve(undisturbed)
    assert [step for step, _ in curve] == list(range(1, STEPS + 1))
    assert curve[-1][1] < curve[0][1]
    assert sorted(path.name for path in undisturbed.iterdir()) == ["loss.json", "model"]


def test_the_same_seed_gives_the_same_bits(
    tiny_folder: Path, rows: list[Example], undisturbed: Path, tmp_path: Path
) -> None:
    run(tiny_folder, rows, tmp_path / "stage")
    assert same(tmp_path / "stage", undisturbed)


class Killed(BaseException):
    pass


def interrupted(
    model_folder: Path, rows: list[Example], folder: Path, batch: int, settings: TrainConfig | None = None
) -> None:
    """Trains until the given batch is asked for."""
    asked, original = 0, Collator.__call__

    def counted(self: Collator, examples: list[Example]) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked == batch:
            raise Killed
        return original(self, examples)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Collator, "__call__", counted)
        with pytest.raises(Killed):
            run(model_folder, rows, folder, settings)
    assert not (folder / "model").exists()
    assert not (folder / "loss.json").exists()


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("checkpoint-*"))


@pytest.mark.parametrize("batch", [2, 4, 7])
def test_it_continues_to_the_same_bits(
    tiny_folder: Path, rows: list[Example], undisturbed: Path, tmp_path: Path, batch: int
) -> None:
    interrupted(tiny_folder, rows, tmp_path / "stage", batch)
    assert bool(checkpoints(tmp_path / "stage")) == (batch > 2)
    facts = run(tiny_folder, rows, tmp_path / "stage")
    assert facts["steps"] == STEPS
    assert same(tmp_path / "stage", undisturbed)


def spoiled(checkpoint: Path, how: str) -> None:
    """A checkpoint as a kill while it is written or removed may leave it."""
    if how == "no mark":
        (checkpoint / trainer.COMPLETE).unlink()
        (checkpoint / "trainer_state.json").write_text('{"global_st')
    if how == "a file is gone":
        (checkpoint / "optimizer.pt").unlink()
    if how == "empty":
        shutil.rmtree(checkpoint)
        checkpoint.mkdir()


@pytest.mark.parametrize("how", ["no mark", "a file is gone", "empty"])
def test_a_checkpoint_cut_off_is_not_used(
    tiny_folder: Path, rows: list[Example], undisturbed: Path, tmp_path: Path, how: str
) -> None:
    interrupted(tiny_folder, rows, tmp_path / "stage", 6)
    last = checkpoints(tmp_path / "stage")[-1]
    assert json.loads((last / trainer.COMPLETE).read_text())
    spoiled(last, how)
    run(tiny_folder, rows, tmp_path / "stage")
    assert same(tmp_path / "stage", undisturbed)


def test_the_checkpoint_before_a_cut_off_one_is_used(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    interrupted(tiny_folder, rows, tmp_path / "stage", 6)
    last = checkpoints(tmp_path / "stage")[-1]
    shutil.copytree(last, last.with_name("checkpoint-6"))
    spoiled(last.with_name("checkpoint-6"), "no mark")
    found = trainer._last_whole_checkpoint(tmp_path / "stage" / "checkpoints")
    assert found == str(last)
    assert not last.with_name("checkpoint-6").exists()


def test_the_loss_curve_is_written_after_the_model(
    tiny_folder: Path, rows: list[Example], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds loss.json finds a whole model beside it."""

    def cut_off(self: VisionLanguageModel, folder: Path) -> None:
        folder.mkdir()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(auto.VisionLanguageModel, "save", cut_off)
        with pytest.raises(Killed):
            run(tiny_folder, rows, tmp_path / "stage")
    assert not (tmp_path / "stage" / "loss.json").exists()
    run(tiny_folder, rows, tmp_path / "stage")
    assert same(tmp_path / "stage", undisturbed)


def train_and_die(model_folder: Path, rows: list[Example], folder: Path, batch: int) -> None:
    asked, original = 0, Collator.__call__

    def counted(self: Collator, examples: list[Example]) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked == batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, examples)

    Collator.__call__ = counted  # type: ignore[method-assign]
    run(model_folder, rows, folder)


def test_a_process_killed_at_any_step_changes_nothing(
    tiny_folder: Path, rows: list[Example], undisturbed: Path, tmp_path: Path
) -> None:
    batch = random.randint(1, STEPS)
    process = multiprocessing.get_context("spawn").Process(
        target=train_and_die, args=(tiny_folder, rows, tmp_path / "stage", batch), daemon=True
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, f"killed at batch {batch}"
    run(tiny_folder, rows, tmp_path / "stage")
    assert same(tmp_path / "stage", undisturbed), f"killed at batch {batch}"
