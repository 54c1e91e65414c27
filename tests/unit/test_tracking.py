"""What is measured while a model trains: right numbers, once each, and nothing of the training changed."""

from __future__ import annotations

import json
import math
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example
from behavior_llava.models import auto
from behavior_llava.training import trainer
from behavior_llava.training.batching import Collator
from behavior_llava.training.lora import LoraConfig
from behavior_llava.training.tracking import EVENTS, TRACKED, Probe, perplexity
from behavior_llava.training.trainer import TrainConfig, train

if TYPE_CHECKING:
    from behavior_llava.core.schema import Media
    from behavior_llava.models.auto import VisionLanguageModel

STEPS = 7
ARGUMENTS = {"learning_rate": 0.01, "per_device_train_batch_size": 2, "save_steps": 2, "logging_steps": 3}
LORA = LoraConfig(rank=4, alpha=8, dropout=0.3)


@pytest.fixture(scope="module")
def rows(media: dict[str, Media]) -> list[Example]:
    items = [media["a"], None, media["b"]]
    words = ["joy", "anger", "a good day", "sadness"]
    return [
        Example(f"row{n}", f"what do viewers feel {n}", words[n % 4], items[n % 3]) for n in range(2 * STEPS)
    ]


@pytest.fixture(scope="module")
def held_out(media: dict[str, Media]) -> list[Example]:
    return [
        Example("held0", "describe", "a red sky", media["c"]),
        Example("held1", "it was a good day", "joy and a good day joy and a good day"),
        Example("held2", "what do viewers feel", "joy", media["clip"]),
    ]


def noisy(model: VisionLanguageModel) -> float:
    """Draws from every source of random numbers there is."""
    return float(torch.rand(3).sum()) + random.random() + float(np.random.rand())


def said(rows: list[Example]) -> Probe:
    """How many of the rows are answered with a word at all, as generate says it."""
    asked = [Example(row.id, row.prompt, None, row.media) for row in rows]

    def measure(model: VisionLanguageModel) -> float:
        assert not model.network.training
        assert model.network.config.use_cache
        assert not torch.is_grad_enabled()
        return sum(bool(text) for text in model.generate(asked, max_new_tokens=3)) / len(asked)

    return Probe("said", measure)


def probes(held_out: list[Example]) -> list[Probe]:
    return [
        perplexity("perplexity", held_out, batch_rows=2),
        said(held_out),
        Probe("noise", noisy),
        Probe("undefined", lambda _: None),
        Probe("no number", lambda _: math.inf),
    ]


def run(model_folder: Path, rows: list[Example], folder: Path, track: list[Probe], **fields: Any) -> None:
    config = TrainConfig(epochs=1, arguments=ARGUMENTS, **fields)
    model = auto.load(str(model_folder), FrameStore(folder.parent / "frames"), device="cpu")
    train(model, rows, config, folder, seed=0, label="test", probes=track)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def same(folder: Path, other: Path) -> bool:
    first, second = weights(folder), weights(other)
    equal = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    return equal and trainer.loss_curve(folder) == trainer.loss_curve(other)


def tracked(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / TRACKED).read_text(encoding="utf-8"))


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's own reader finds."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in EventFileLoader(str(folder / "logs" / EVENTS)).Load():
        for value in event.summary.value:
            (number,) = value.tensor.float_val
            found.setdefault(value.tag, []).append((event.step, number))
    return found


@pytest.fixture(scope="module")
def watched(
    tiny_folder: Path, rows: list[Example], held_out: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("watched") / "stage"
    run(tiny_folder, rows, folder, probes(held_out), track_every=2, lora=LORA)
    return folder


def test_perplexity_is_that_of_all_tokens(tiny: VisionLanguageModel, held_out: list[Example]) -> None:
    """e to the mean over tokens, each row alone, whatever the batches."""
    total, tokens = 0.0, 0
    with torch.no_grad():
        for row in held_out:
            batch = tiny.inputs([row], supervise=True)
            count = int((batch["labels"] != -100).sum())
            total += float(tiny.network(**batch).loss) * count
            tokens += count
    expected = math.exp(total / tokens)
    for size in (1, 2, 8):
        with torch.no_grad():
            assert perplexity("p", held_out, batch_rows=size).measure(tiny) == pytest.approx(
                expected, rel=1e-5
            )
    assert perplexity("p", []).measure(tiny) is None


def test_tracking_changes_nothing(
    tiny_folder: Path, rows: list[Example], watched: Path, tmp_path: Path
) -> None:
    run(tiny_folder, rows, tmp_path / "stage", [], lora=LORA)
    assert same(tmp_path / "stage", watched)
    assert not (tmp_path / "stage" / TRACKED).exists()


def test_values_are_of_their_steps(watched: Path, held_out: list[Example], tmp_path: Path) -> None:
    found = tracked(watched)
    assert [entry["step"] for entry in found] == [2, 4, 6, 7]
    for entry in found:
        assert sorted(entry["values"]) == ["no number", "noise", "perplexity", "said", "undefined"]
        assert entry["values"]["undefined"] is None
        assert entry["values"]["no number"] is None
    assert len({entry["values"]["perplexity"] for entry in found}) == 4
    # the last is the finished model's
    model = auto.load(str(watched / "model"), FrameStore(tmp_path), device="cpu")
    with torch.no_grad():
        last = perplexity("p", held_out).measure(model)
    assert found[-1]["values"]["perplexity"] == pytest.approx(last, rel=1e-4)


def test_tensorboard_reads_the_logs(watched: Path) -> None:
    found = events(watched)
    assert sorted(found) == [
        "tracked/noise",
        "tracked/perplexity",
        "tracked/said",
        "train/grad_norm",
        "train/learning_rate",
        "train/loss",
    ]
    # every third step, and at every checkpoint: none would hold the losses since the last entry
    curve = trainer.loss_curve(watched)
    assert [step for step, _ in curve] == [2, 3, 4, 6, 7]
    assert found["train/loss"] == [(step, pytest.approx(value)) for step, value in curve]
    assert found["tracked/perplexity"] == [
        (entry["step"], pytest.approx(entry["values"]["perplexity"])) for entry in tracked(watched)
    ]
    assert [path.name for path in (watched / "logs").iterdir()] == [EVENTS]
    assert socket.gethostname().encode() not in (watched / "logs" / EVENTS).read_bytes()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("batch", [1, 4, 6, 7])
def test_a_kill_leaves_every_value_once(
    tiny_folder: Path,
    rows: list[Example],
    held_out: list[Example],
    watched: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    asked, original = 0, Collator.__call__

    def counted(self: Collator, examples: Any) -> dict[str, Any]:
        nonlocal asked
        asked += examples[0].id.startswith("row")  # not a probe's
        if asked == batch:
            raise Killed
        return original(self, examples)

    with monkeypatch.context() as patch:
        patch.setattr(Collator, "__call__", counted)
        patch.setattr(trainer, "can_share", lambda *_: True)  # which collates too
        with pytest.raises(Killed):
            run(tiny_folder, rows, tmp_path / "stage", probes(held_out), track_every=2, lora=LORA)
    assert [entry["step"] for entry in tracked(tmp_path / "stage")] == list(range(2, batch, 2))
    run(tiny_folder, rows, tmp_path / "stage", probes(held_out), track_every=2, lora=LORA)
    assert same(tmp_path / "stage", watched)
    assert tracked(tmp_path / "stage") == tracked(watched)
    assert events(tmp_path / "stage") == events(watched)
