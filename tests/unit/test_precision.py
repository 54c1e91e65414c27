"""Training a model that was loaded in bf16: what learns is fp32, and no small update is lost.

There is no GPU here: bf16 on the processor is the same arithmetic.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example
from behavior_llava.models import auto
from behavior_llava.training import precision, tower, trainer
from behavior_llava.training.batching import Collator
from behavior_llava.training.lora import LoraConfig
from behavior_llava.training.tracking import Probe, perplexity
from behavior_llava.training.trainer import TrainConfig, train

if TYPE_CHECKING:
    from behavior_llava.core.schema import Media
    from behavior_llava.models.auto import VisionLanguageModel

STEPS = 6
LORA = LoraConfig(rank=4, alpha=8, dropout=0.1)


@pytest.fixture(scope="module")
def rows(media: dict[str, Media]) -> list[Example]:
    items = [media["a"], None, media["clip"]]
    words = ["joy", "anger", "a good day", "sadness"]
    return [
        Example(f"row{n}", f"what do viewers feel {n}", words[n % 4], items[n % 3]) for n in range(2 * STEPS)
    ]


def config(**fields: Any) -> TrainConfig:
    arguments = {"learning_rate": 1e-5, "per_device_train_batch_size": 2, "logging_steps": 1, "save_steps": 2}
    arguments |= {"lr_scheduler_type": "constant", "warmup_steps": 0} | fields.pop("arguments", {})
    return TrainConfig(epochs=1, freeze=("vision_tower",), track_every=STEPS, arguments=arguments, **fields)


def loaded(folder: Path, dtype: torch.dtype, frames: Path) -> VisionLanguageModel:
    """As it is loaded on a GPU; buffers stay as they are."""
    model = auto.load(str(folder), FrameStore(frames), device="cpu")
    for parameter in model.network.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


class Watched:
    """A probe that keeps the weights as they are."""

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}
        self.learning: set[str] = set()

    def __call__(self, model: VisionLanguageModel) -> float:
        named = dict(model.network.named_parameters())
        self.weights = {name: value.detach().clone() for name, value in named.items()}
        self.learning = {name for name, value in named.items() if value.requires_grad}
        return 0.0


def trained(
    folder: Path, rows: list[Example], stage: Path, settings: TrainConfig, dtype: torch.dtype = torch.bfloat16
) -> Watched:
    watched, model = Watched(), loaded(folder, dtype, stage.parent / "frames")
    probes = [Probe("weights", watched), perplexity("perplexity", rows[:4])]
    train(model, rows, settings, stage, seed=0, label="test", probes=probes)
    return watched


def test_an_update_that_bf16_loses_survives() -> None:
    """A thousand steps of 1e-5 on a weight of 1: bf16 stays at 1, what learns arrives at 0.99."""
    ends = {}
    for is_raised in (False, True):
        network = torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
        network.weight.data.fill_(1.0)
        if is_raised:
            precision.raise_what_learns(network)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, weight_decay=0.0)
        for _ in range(1000):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                network(torch.ones(1, 1)).sum().backward()
            optimizer.step()
        ends[is_raised] = float(network.weight.detach())
    assert ends[False] == 1.0
    assert ends[True] == pytest.approx(0.99, abs=1e-4)


def test_tied_and_frozen_weights_stay_what_they_are() -> None:
    network = torch.nn.ModuleDict({name: torch.nn.Linear(2, 2, bias=False) for name in ("a", "b", "frozen")})
    network.to(torch.bfloat16)
    network["b"].weight = network["a"].weight  # pyright: ignore[reportAttributeAccessIssue]
    network["frozen"].requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    types = precision.types_of(network)
    assert precision.computes_in_bf16(network)
    precision.raise_what_learns(network)
    assert network["a"].weight is network["b"].weight
    assert {name: value.dtype for name, value in network.state_dict().items()} == {
        "a.weight": torch.float32,
        "b.weight": torch.float32,
        "frozen.weight": torch.bfloat16,
    }
    precision.restore(network, types)
    assert network["a"].weight is network["b"].weight
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(value.dtype == torch.bfloat16 for value in network.state_dict().values())


@pytest.mark.parametrize("pack_tokens", [None, 200])
def test_all_weights_learn_in_fp32_beside_a_frozen_tower(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, pack_tokens: int | None
) -> None:
    found = trained(tiny_folder, rows, tmp_path / "stage", config(pack_tokens=pack_tokens))
    before = {
        name: value.to(torch.bfloat16) for name, value in load_file(tiny_folder / "model.safetensors").items()
    }
    assert found.learning
    for name, value in found.weights.items():
        assert value.dtype == (torch.float32 if name in found.learning else torch.bfloat16), name
        assert ("vision_tower" not in name) == (name in found.learning)
    # AdamW moves each weight that has a gradient by about its rate a step, far below what bf16 can hold
    start = loaded(tiny_folder, torch.bfloat16, tmp_path).network.state_dict()
    name = next(name for name in found.learning if "layers.0" in name and "q_proj" in name)
    moved = (found.weights[name] - start[name].float()).abs()
    assert (moved > 2e-6).float().mean() > 0.95
    assert moved.max() < 2 * STEPS * 1e-5
    saved = load_file(tmp_path / "stage" / "model" / "model.safetensors")
    assert saved.keys() == before.keys()
    assert {value.dtype for value in saved.values()} == {torch.bfloat16}
    frozen = {name for name in saved if "vision_tower" in name}
    assert frozen
    assert all(torch.equal(saved[name], before[name]) for name in frozen)


def test_adapters_are_fp32_on_a_frozen_bf16_base(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    found = trained(tiny_folder, rows, tmp_path / "stage", config(lora=LORA))
    of_types = {dtype: {n for n, v in found.weights.items() if v.dtype == dtype} for dtype in
                (torch.float32, torch.bfloat16)}  # fmt: skip
    assert of_types[torch.float32] == found.learning
    assert of_types[torch.float32] | of_types[torch.bfloat16] == set(found.weights)
    learning = {name for name in found.weights if "lora_" in name or "modules_to_save" in name}
    assert found.learning == learning
    assert any("lora_B" in name and value.abs().max() > 0 for name, value in found.weights.items())
    adapters = load_file(tmp_path / "stage" / "adapters" / "adapter_model.safetensors")
    assert {value.dtype for value in adapters.values()} == {torch.float32}
    saved = load_file(tmp_path / "stage" / "model" / "model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.bfloat16}
    auto.load(str(tmp_path / "stage" / "model"), FrameStore(tmp_path / "frames"), device="cpu")


@pytest.mark.parametrize("adapters", [None, LORA])
def test_a_kill_loses_no_digit(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, adapters: LoraConfig | None
) -> None:
    """The checkpoint holds fp32, and is read as fp32."""
    whole = trained(tiny_folder, rows, tmp_path / "whole" / "stage", config(lora=adapters))
    asked, original = 0, Collator.__call__

    class Killed(BaseException):
        pass

    def counted(self: Collator, examples: Any) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise Killed
        return original(self, examples)

    stage = tmp_path / "killed" / "stage"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Collator, "__call__", counted)
        patch.setattr(trainer, "can_share", lambda *_: True)  # which collates too
        with pytest.raises(Killed):
            trained(tiny_folder, rows, stage, config(lora=adapters))
    assert list((stage / "checkpoints").glob("checkpoint-2"))
    again = trained(tiny_folder, rows, stage, config(lora=adapters))
    assert again.weights.keys() == whole.weights.keys()
    for name, value in whole.weights.items():
        assert again.weights[name].dtype == value.dtype
        assert torch.equal(again.weights[name], value), name


def test_it_learns_what_fp32_learns(tiny_folder: Path, rows: list[Example], tmp_path: Path) -> None:
    """By plain descent: the way the weights go is that of the gradients."""
    settings = config(arguments={"optim": "sgd", "learning_rate": 1e-4})
    losses, ways = [], []
    for name, dtype in (("half", torch.bfloat16), ("full", torch.float32)):
        found = trained(tiny_folder, rows, tmp_path / name / "stage", settings, dtype)
        losses.append([loss for _, loss in trainer.loss_curve(tmp_path / name / "stage")])
        start = loaded(tiny_folder, dtype, tmp_path / "frames").network.state_dict()
        way = [(found.weights[key] - start[key].float()).flatten() for key in sorted(found.learning)]
        ways.append(torch.cat(way))
    half, full = losses
    assert half == pytest.approx(full, rel=0.05)
    assert half != full
    assert float(torch.cosine_similarity(ways[0], ways[1], dim=0)) > 0.95
    assert float(ways[0].norm() / ways[1].norm()) == pytest.approx(1, abs=0.1)


def test_the_tower_alone_learns_in_fp32(
    tiny_folder: Path, media: dict[str, Media], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tower, "MIN_PICTURES", 1)
    rows = [
        Example(f"row{name}", "describe", words, media[name])
        for name, words in zip("abcd", ("red sky", "blue sky", "a red day", "good"), strict=True)
    ]
    model = loaded(tiny_folder, torch.bfloat16, tmp_path)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    arguments = {"learning_rate": 0.01, "logging_steps": 1, "per_device_train_batch_size": 2}
    settings = TrainConfig(epochs=3, arguments=arguments)
    told = tower.pretrain(model, rows, settings, tmp_path / "tower", seed=0)
    assert told["tower_loss"] is not None
    after = model.network.state_dict()
    learned = {name for name in before if not torch.equal(before[name], after[name])}
    assert learned
    assert all("vision_tower" in name for name in learned)
    assert all(value.dtype == before[name].dtype for name, value in after.items())
