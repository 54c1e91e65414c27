"""What goes side by side: a process's share of the cores must follow from the config alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from behavior_llava import pipeline
from behavior_llava.stages import Unfinished


@dataclass
class Work:
    """A run of which some jobs are finished."""

    finished: set[tuple[str, str]]
    config: Any = field(default_factory=lambda: SimpleNamespace(side_by_side=2, model="a folder"))
    folder: Path = Path("run")
    limit: int | None = None
    like: tuple[Path, ...] = ()
    is_looking: bool = False
    told: set[str] = field(default_factory=set)

    def trained(self, name: str) -> None:
        self._look("trained", name)

    def evaluated(self, name: str) -> None:
        self._look("evaluated", name)

    def _look(self, method: str, name: str) -> None:
        assert self.is_looking, "the work itself belongs in another process"
        if (method, name) not in self.finished:
            raise Unfinished(name)


ALL = [(method, (name,)) for method in ("trained", "evaluated") for name in ("shuffled", "behavior")]


def planned(
    monkeypatch: pytest.MonkeyPatch, jobs: list[Any], finished: set[tuple[str, str]]
) -> tuple[list[Any], set[int], int, dict[int, int]]:
    """Jobs handed out, threads of each, processes, and who waits for whom."""
    seen: dict[str, Any] = {}

    def record(function: Any, jobs: list[Any], **how: Any) -> None:
        seen.update(jobs=[job[-1] for job in jobs], threads={job[-2] for job in jobs}, **how)

    monkeypatch.setattr(pipeline, "run_side_by_side", record)
    monkeypatch.setattr(pipeline.os, "cpu_count", lambda: 8)
    work: Any = Work(finished)
    pipeline._side_by_side(work, jobs, 2)
    assert not work.is_looking
    return seen["jobs"], seen["threads"], seen["processes"], dict(seen["after"])


def test_an_evaluation_waits_for_its_own_training(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, threads, processes, after = planned(monkeypatch, ALL, set())
    assert jobs == ALL
    assert (threads, processes, after) == ({4}, 2, {2: 0, 3: 1})


def test_what_is_finished_is_left_out_and_waited_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, _, _, after = planned(monkeypatch, ALL, {("trained", "shuffled")})
    assert jobs == [ALL[1], ALL[2], ALL[3]]
    assert after == {2: 0}


@pytest.mark.parametrize("jobs", [ALL[:1], ALL[:2], ALL])
@pytest.mark.parametrize("finished", [set(), {("trained", "shuffled")}])
def test_the_share_of_the_cores_does_not_depend_on_what_is_left(
    monkeypatch: pytest.MonkeyPatch, jobs: list[Any], finished: set[tuple[str, str]]
) -> None:
    """A lone job beside idle cores still has the threads of one of two: else `train`, then `run` would end in
    other numbers than `run`."""
    handed, threads, processes, _ = planned(monkeypatch, jobs, finished)
    assert processes == 2
    assert threads == ({4} if handed else set())
