"""Batches made ahead: the same bits, a refusal that reads like one, and no process left behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pytest
import torch
from torch.utils.data import DataLoader

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import auto
from behavior_llava.training import prefetching
from behavior_llava.training.batching import ROWS, Collator, collated
from behavior_llava.training.prefetching import Ahead, AsSent, context, deaths_told, opened
from behavior_llava.training.trainer import Batches, Rows, TrainConfig, train

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel


@pytest.fixture
def rows(media: dict[str, Media]) -> list[Example]:
    items = [media["a"], None, media["b"], media["clip"], media["c"]]
    words = ["joy", "anger", "a good day", "sadness"]
    return [Example(f"row{n}", f"what do viewers feel {n}", words[n % 4], items[n % 5]) for n in range(14)]


def batches(model: VisionLanguageModel, rows: list[Example], num_workers: int) -> Iterator[dict[str, Any]]:
    """In twos, the last one of a single row that does not count."""
    shares = [[number, number + 1] for number in range(0, len(rows), 2)]
    collator = Collator(model.without_weights() if num_workers else model)
    loader = DataLoader(
        AsSent(len(rows)),
        batch_sampler=Batches(Rows(rows), shares),
        collate_fn=Ahead(partial(collated, collator)),
        num_workers=num_workers,
        multiprocessing_context=context(num_workers),
    )
    return opened(iter(loader))


@pytest.mark.slow
def test_batches_made_ahead_are_the_same(tiny: VisionLanguageModel, rows: list[Example]) -> None:
    _ = torch.randn(512, 512) @ torch.randn(512, 512)  # torch's threads are there before the workers
    here, ahead = list(batches(tiny, rows, 0)), list(batches(tiny, rows, 2))
    assert len(here) == len(ahead) == 7
    for one, other in zip(here, ahead, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, other[name]), name
            else:
                assert value == other[name], name


@pytest.mark.parametrize("num_workers", [0, 1])
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
    found = "media cannot be read since they were collected (media_missing) in one of row4, row5"
    assert caught.value.found == found
    assert str(caught.value).startswith(f"{found}; put the files back, or")
    assert "Traceback" not in str(caught.value)


class Killing(list[Example]):
    """Rows of which one, when it is looked up, kills a worker."""

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: Any) -> Any:
        if index == 8:
            for worker in multiprocessing.active_children()[:1]:
                os.kill(worker.pid or 0, signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.slow
def test_a_killed_worker_ends_the_training_and_is_told(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    model = auto.load(str(tiny_folder), FrameStore(tmp_path / "frames"), device="cpu")
    arguments = {"per_device_train_batch_size": 1, "dataloader_num_workers": 2}
    config = TrainConfig(epochs=1, share_media=False, arguments=arguments)
    start_s = time.monotonic()
    with pytest.raises(UserError, match=r"dataloader_num_workers: a process that makes batches was ended"):
        train(model, Killing(rows), config, tmp_path / "stage", seed=0, label="test")
    assert time.monotonic() - start_s < 60


def test_only_a_workers_death_is_told_so() -> None:
    with pytest.raises(UserError, match=r"was ended \(Killed\)"), deaths_told():
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")
    with pytest.raises(UserError, match="by the system or by hand"), deaths_told():
        raise RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly")
    with pytest.raises(UserError, match="by the system or by hand"), deaths_told():
        raise ConnectionResetError(104, "Connection reset by peer")
    with pytest.raises(RuntimeError, match="sizes"), deaths_told():
        raise RuntimeError("sizes do not match")


def test_the_default_keeps_a_cpu_to_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prefetching.default_workers(on_cpu=True) == 0
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for cores, processes, expected in ((1, 1, 0), (2, 1, 1), (3, 1, 2), (64, 1, 4), (16, 8, 1), (64, 8, 4)):
        monkeypatch.setattr(prefetching.os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert prefetching.default_workers(on_cpu=False) == expected


# ---- whole trainings, in a process of their own ------------------------------------------------------------

_TRAINING = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import auto
from behavior_llava.training import trainer

if __name__ == "__main__":
    model_folder, to, media = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    _ = torch.randn(512, 512) @ torch.randn(512, 512)  # torch's threads are there before the workers
    items = [None if one is None else Media(*one[:3], tuple(one[3])) for one in media]
    rows = [Example(f"row{n}", f"what do viewers feel {n}", "joy", items[n % len(items)]) for n in range(14)]
    found = []
    for workers in (0, 2):
        arguments = {
            "learning_rate": 0.01, "per_device_train_batch_size": 2, "logging_steps": 1,
            "dataloader_num_workers": workers,
        }
        config = trainer.TrainConfig(epochs=1, arguments=arguments)
        model = auto.load(model_folder, FrameStore(to / f"frames{workers}"), device="cpu")
        folder = to / f"stage{workers}"
        trainer.train(model, rows, config, folder, seed=0, label="test")
        found.append((load_file(folder / "model" / "model.safetensors"), trainer.loss_curve(folder)))
    (weights, curve), (other, other_curve) = found
    same = curve == other_curve and all(torch.equal(weights[name], other[name]) for name in weights)
    print(json.dumps({"same": same, "steps": len(curve), "threads": torch.get_num_threads()}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_training_with_workers_learns_the_same_weights(
    tiny_folder: Path, media: dict[str, Media], tmp_path: Path, threads: int
) -> None:
    script = tmp_path / "training.py"
    script.write_text(_TRAINING)
    items = [media["a"], None, media["b"], media["clip"], media["c"]]
    told = json.dumps(
        [None if item is None else [item.path, item.kind, item.sha256, item.times_s] for item in items]
    )
    done = subprocess.run(
        [sys.executable, str(script), str(tiny_folder), str(tmp_path), told],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"same": True, "steps": 7, "threads": threads}


_PARENT = """
import time, torch
from torch.utils.data import DataLoader
from behavior_llava.training.prefetching import Ahead, AsSent, context, end_with_parent

def batch(numbers):
    return {"x": torch.randn(256, 256) @ torch.randn(256, 256)}

if __name__ == "__main__":
    torch.randn(512, 512) @ torch.randn(512, 512)
    loader = iter(DataLoader(
        AsSent(10_000_000), batch_size=4, collate_fn=Ahead(batch), num_workers=2,
        multiprocessing_context=context(2), worker_init_fn=end_with_parent,
    ))
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


@pytest.mark.slow
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
