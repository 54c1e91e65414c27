"""Kept answers: only what is missing is computed, what is kept tells nothing of the machine it came from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior_llava import cli, results
from behavior_llava.core.config import check
from behavior_llava.core.errors import UserError
from behavior_llava.evaluation.summary import PREDICTIONS
from behavior_llava.pipeline import Cell
from behavior_llava.serving import predict
from behavior_llava.stages import RunConfig

SETTINGS: dict[str, Any] = {
    "name": "kept",
    "arms": ["base", "content_only", "behavior"],
    "seeds": [0, 4],
    "side_by_side": 2,
    "collect": {"sources": [{"kind": "sandbox", "settings": {"seed": 3}}]},
    "evaluate": {"tasks": ["emoset"]},
}


@dataclass
class FakeStage:
    folder: Path

    def manifest(self) -> dict[str, Any]:
        return {"seconds": 12.5, "commit": "abc"}


@dataclass
class FakeRun:
    """Answers that name their cell."""

    folder: Path
    config: RunConfig

    def evaluated(self, name: str, seed: int) -> FakeStage:
        place = self.folder / f"{name}{seed}"
        place.mkdir(parents=True, exist_ok=True)
        row = dict.fromkeys(PREDICTIONS.names) | {
            "arm": name,
            "seed": seed,
            "primary": True,
            "media_path": "/somewhere/of/mine/a.jpg",
        }
        pq.write_table(pa.Table.from_pylist([row], schema=PREDICTIONS), place / results.ANSWERS)
        return FakeStage(place)

    def task_facts(self) -> dict[str, Any]:
        return {"emoset": {"metric": "accuracy"}}

    def contaminated(self) -> FakeStage:
        place = self.folder / "contamination"
        place.mkdir(parents=True, exist_ok=True)
        hits = [("emoset", "a"), ("emoset", "a"), ("emoset", "b"), ("other", "c")]
        table = pa.table({"task": [task for task, _ in hits], "sample_id": [id for _, id in hits]})
        pq.write_table(table, place / "hits.parquet")
        return FakeStage(place)

    def costs(self) -> dict[str, float]:
        trained = {f"train/seed{seed}/{arm}": 2.0 for seed in (0, 4) for arm in self.config.arms}
        return trained | {"collect": 3.0, "build/posts": 1.0, "base/seed0": 5.0, "base/seed4": 6.0}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], list[Cell]]]:
    """What the pipeline was asked for: the config's seeds, and the cells."""
    calls: list[tuple[tuple[int, ...], list[Cell]]] = []

    def fake(config: RunConfig, folder: Path, *, only: Sequence[Cell], **_: Any) -> FakeRun:
        calls.append((config.seeds, list(only)))
        return FakeRun(folder, config)

    monkeypatch.setattr(results.pipeline, "run", fake)
    monkeypatch.setattr(results.comparing, "compare", lambda folders, out, config: out / "index.html")
    return calls


def settings(**changes: Any) -> RunConfig:
    return check(RunConfig, SETTINGS | changes, where="test")


def test_only_what_is_missing_is_computed(tmp_path: Path, asked: list[Any]) -> None:
    kept = tmp_path / "kept"
    assert results.run(settings(), tmp_path / "run", kept) == tmp_path / "run" / "report" / "index.html"
    assert asked == [
        ((0,), [("base", 0), ("content_only", 0)]),
        ((0,), [("behavior", 0)]),
        ((4,), [("base", 4), ("content_only", 4)]),
        ((4,), [("behavior", 4)]),
    ]
    asked.clear()
    # in another place, of more seeds, under another name, one arm at a time
    # as where git took up the manifest alone
    (results.place_of(kept, ("behavior", 0)) / results.ANSWERS).unlink()
    changed = settings(name="other", seeds=[0, 4, 5], side_by_side=1)
    results.run(changed, tmp_path / "elsewhere", kept)
    assert asked == [
        ((0,), [("behavior", 0)]),
        ((5,), [("base", 5)]),
        ((5,), [("content_only", 5)]),
        ((5,), [("behavior", 5)]),
    ]
    asked.clear()
    results.run(changed, tmp_path / "third", kept)
    assert asked == []


def test_what_is_kept_is_small_and_tells_no_path(tmp_path: Path, asked: list[Any]) -> None:
    kept = tmp_path / "kept"
    results.run(settings(), tmp_path / "run", kept)
    files = sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file())
    cells = [f"evaluate/seed{seed}/{arm}" for seed in (0, 4) for arm in SETTINGS["arms"]]
    names = ("manifest.json", "predictions.parquet")
    wanted = [f"{cell}/{name}" for cell in cells for name in names]
    wanted += [f"evaluate/seed{seed}/contamination.json" for seed in (0, 4)]
    assert json.loads((kept / wanted[-1]).read_text()) == {"emoset": 2}
    assert files == sorted([*wanted, "config.yaml", "evaluate/scores/tasks.json"])
    table = pq.read_table(results.place_of(kept, ("behavior", 4)) / results.ANSWERS)
    assert table.schema == PREDICTIONS
    assert table.to_pylist()[0]["arm"] == "behavior"
    assert table["media_path"].null_count == len(table) == 1
    for path in kept.rglob("*"):
        assert path.is_dir() or b"somewhere" not in path.read_bytes()
    told = json.loads((results.place_of(kept, ("base", 0)) / "manifest.json").read_text())
    assert (told["seconds"], told["commit"]) == (12.5, "abc")
    shared = {"collect": 3.0, "build/posts": 1.0, "base/seed0": 5.0}
    assert told["costs"] == shared | {"train/seed0/base": 2.0}
    assert set(told["machine"]) == {"device", "processor", "cores", "memory_gib", "python"}
    assert "seeds:\n- 0\n- 4\n" in (kept / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("changes", "limit"),
    [({"arms": ["base", "behavior"]}, None), ({}, 7), ({"training": {"ratio": 2.0}}, None)],
)
def test_cells_of_other_settings_are_not_taken_for_these(
    changes: dict[str, Any], limit: int | None, tmp_path: Path, asked: list[Any]
) -> None:
    kept = tmp_path / "kept"
    results.run(settings(), tmp_path / "run", kept)
    asked.clear()
    with pytest.raises(UserError, match=r"of other settings than the config's.*remove it there"):
        results.run(settings(**changes), tmp_path / "run", kept, limit=limit)
    assert asked == []


def test_a_run_to_take_over_from_may_be_gone_where_results_are_kept(tmp_path: Path) -> None:
    assert not cli._is_run(tmp_path / "gone", is_needed=False)
    with pytest.raises(UserError, match="is no folder of a run"):
        cli._is_run(tmp_path / "gone", is_needed=True)
    (tmp_path / "config.yaml").touch()
    assert cli._is_run(tmp_path, is_needed=True)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(predict.os, "scandir", closed)
    with pytest.raises(UserError, match=r"cannot be listed \(Permission denied\)"):
        list(predict.items(tmp_path))
