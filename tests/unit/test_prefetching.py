"""Batches made ahead: the same bits, a refusal that reads like one, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import auto
from behavior_llava.training import prefetching, trainer
from behavior_llava.training.batching import ROWS, Collator
from behavior_llava.training.prefetching import Ahead, opened
from behavior_llava.training.trainer import Rows, TrainConfig, train

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel


@pytest.fixture
def rows(media: dict[str, Media]) -> list[Example]:
    items = [media["a"], None, media["b"], media["clip"], media["c"]]
    words = ["joy", "anger", "a good day", "sadness"]
    return [Example(f"row{n}", f"what do viewers feel {n}", words[n % 4], items[n % 5]) for n in range(14)]


@pytest.fixture(autouse=True)
def quiet_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # is put back afterwards


def batches(model: VisionLanguageModel, rows: list[Example], num_workers: int) -> Iterator[dict[str, Any]]:
    collate = Ahead(Collator(model))
    return opened(iter(DataLoader(Rows(rows), batch_size=2, collate_fn=collate, num_workers=num_workers)))


def test_batches_made_ahead_are_the_same(tiny: VisionLanguageModel, rows: list[Example]) -> None:
    here, ahead = list(batches(tiny, rows, 0)), list(batches(tiny, rows, 2))
    assert len(here) == len(ahead) == 7
    for one, other in zip(here, ahead, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, other[name]), name
            else:
                assert value == other[name], name


def test_training_with_workers_learns_the_same_weights(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    found = []
    for workers in (0, 2):
        arguments = {"learning_rate": 0.01, "per_device_train_batch_size": 2, "logging_steps": 1}
        config = TrainConfig(epochs=1, arguments={**arguments, "dataloader_num_workers": workers})
        model = auto.load(str(tiny_folder), FrameStore(tmp_path / f"frames{workers}"), device="cpu")
        folder = tmp_path / f"stage{workers}"
        train(model, rows, config, folder, seed=0, label="test")
        found.append((load_file(folder / "model" / "model.safetensors"), trainer.loss_curve(folder)))
    (weights, curve), (other, other_curve) = found
    assert curve == other_curve
    assert len(curve) == 7
    assert all(torch.equal(weights[name], other[name]) for name in weights)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_refusal_comes_in_its_turn_and_without_a_trace(
    tiny: VisionLanguageModel, rows: list[Example], tmp_path: Path, num_workers: int
) -> None:
    gone = Media(str(tmp_path / "gone.jpg"), "image", "ab" * 32)
    wrong = [
        *rows[:4],
        replace(rows[4], media=gone),
        *rows[5:8],
        replace(rows[8], completion="<image>"),
        *rows[9:],
    ]
    waiting = batches(tiny, wrong, num_workers)
    assert [id for id, _ in next(waiting)[ROWS]] == ["row0", "row1"]
    next(waiting)
    with pytest.raises(UserError) as caught:
        next(waiting)
    assert str(caught.value) == (
        "media cannot be read since they were collected (media_missing) in one of row4, row5; "
        "run collect again."
    )


def test_workers_are_refused_where_processes_are_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetching.multiprocessing, "get_start_method", lambda: "spawn")
    prefetching.check(0)
    with pytest.raises(UserError, match="does not fork"):
        prefetching.check(2)


def test_the_default_keeps_a_cpu_to_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prefetching.default_workers(on_cpu=True) == 0
    for cores, expected in ((1, 1), (2, 1), (3, 2), (64, 4)):
        monkeypatch.setattr(prefetching.os, "cpu_count", lambda cores=cores: cores)
        assert prefetching.default_workers(on_cpu=False) == expected


_PARENT = """
import sys, time, torch
from torch.utils.data import DataLoader
from behavior_llava.training.prefetching import Ahead

def batch(numbers):
    torch.randn(256, 256) @ torch.randn(256, 256)
    return {"x": torch.zeros(64, 1024)}

if __name__ == "__main__":
    torch.randn(512, 512) @ torch.randn(512, 512)  # threads are there before the fork
    loader = iter(DataLoader(range(10_000_000), batch_size=4, collate_fn=Ahead(batch), num_workers=2))
    next(loader)
    print(*(worker.pid for worker in loader._workers), flush=True)
    time.sleep(600)
"""


def is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{number}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    workers = [int(number) for number in parent.stdout.readline().split()]
    try:
        assert len(workers) == 2
        assert all(map(is_alive, workers))
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        end_s = time.monotonic() + 20  # torch looks for the parent every 5 s
        while any(map(is_alive, workers)) and time.monotonic() < end_s:
            time.sleep(0.1)
        assert not any(map(is_alive, workers))
    finally:
        parent.kill()
        parent.stdout.close()
        for number in filter(is_alive, workers):
            os.kill(number, signal.SIGKILL)
