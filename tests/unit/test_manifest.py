"""Stage folders: skipped, continued or started again, and never mistaken for finished."""

from __future__ import annotations

import json
import logging
import multiprocessing
import shutil
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from behavior_llava.core import manifest
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import (
    MANIFEST,
    PLAN,
    Stage,
    fingerprint,
    folder_state,
    only_one,
    write_json,
)


def stage(folder: Path, config: dict[str, Any] | None = None, inputs: dict[str, str] | None = None) -> Stage:
    return Stage(folder / "stage", "stage", {"rate": 1} if config is None else config, inputs or {})


def finish(work: Stage, rows: int = 3) -> None:
    with work.work() as facts:
        (work.folder / "rows").write_text(str(rows))
        facts["rows"] = rows


class Interrupted(Exception):
    pass


def interrupt(work: Stage) -> None:
    def half() -> None:
        with work.work():
            (work.folder / "half").write_text("x")
            raise Interrupted

    with pytest.raises(Interrupted):
        half()


# ---- taken over from another run ----


def test_a_stage_is_taken_over_where_the_very_same_is_finished(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert not stage(two).adopt(one / "stage")
    interrupt(stage(one))
    assert not stage(two).adopt(one / "stage")
    finish(stage(one))
    assert not stage(two, {"rate": 2}).adopt(one / "stage")
    assert not (two / "stage").exists()
    taken = stage(two)
    interrupt(taken)
    (taken.folder / "own").touch()
    assert taken.adopt(one / "stage")
    assert taken.is_finished
    assert taken.manifest() == stage(one).manifest()
    assert not (taken.folder / "own").exists()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for place in (one, two):
        shutil.move(place, moved / place.name)
    assert stage(moved / "two").is_finished


def test_who_works_again_leaves_the_others_stage_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    finish(stage(one), rows=3)
    assert stage(two).adopt(one / "stage")
    changed = stage(two, {"rate": 2})
    finish(changed, rows=4)
    assert not changed.folder.is_symlink()
    assert (stage(one).folder / "rows").read_text() == "3"
    assert stage(one).is_finished
    assert changed.is_finished


def test_nothing_is_taken_over_in_place_of_a_persons_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    finish(stage(one))
    (two / "stage").mkdir(parents=True)
    (two / "stage" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="no run wrote"):
        stage(two).adopt(one / "stage")
    assert (two / "stage" / "mine.txt").exists()


# ---- finished, continued, started again --------------------------------------------------------------------


def test_a_finished_stage_is_known_by_a_new_process(tmp_path: Path) -> None:
    assert not stage(tmp_path).is_finished
    finish(stage(tmp_path))
    again = stage(tmp_path)
    assert again.is_finished
    assert again.invalidated_by == []
    found = again.manifest()
    assert found["rows"] == 3
    assert found["config"] == {"rate": 1}
    assert found["fingerprint"] == again.fingerprint
    assert found["versions"]["behavior-llava"]


def test_the_order_of_settings_does_not_matter_and_paths_do_not_either(tmp_path: Path) -> None:
    finish(stage(tmp_path, {"a": 1, "b": Path("x"), "c": (1, 2)}))
    assert stage(tmp_path, {"c": [1, 2], "b": "x", "a": 1}).is_finished


def test_an_interrupted_stage_continues_with_what_it_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(stage(tmp_path))
    again = stage(tmp_path)
    assert not again.is_finished
    with caplog.at_level(logging.INFO):
        finish(again)
    assert (again.folder / "half").exists()
    assert "stage continues" in caplog.text
    assert again.is_finished


def test_a_change_starts_again_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finish(stage(tmp_path))
    changed = stage(tmp_path, {"rate": 2})
    assert not changed.is_finished
    assert changed.invalidated_by == ["config.rate: 1 -> 2"]
    with caplog.at_level(logging.INFO), changed.work():
        assert not (changed.folder / "rows").exists()
    assert "stage starts again: config.rate: 1 -> 2" in caplog.text


def test_a_change_upstream_travels_down(tmp_path: Path) -> None:
    first = Stage(tmp_path / "1", "first", {"rate": 1}, {})
    second = Stage(tmp_path / "2", "second", {}, {"first": first.fingerprint})
    third = Stage(tmp_path / "3", "third", {}, {"second": second.fingerprint})
    finish(third)
    changed = Stage(tmp_path / "1", "first", {"rate": 2}, {})
    second = Stage(tmp_path / "2", "second", {}, {"first": changed.fingerprint})
    again = Stage(tmp_path / "3", "third", {}, {"second": second.fingerprint})
    assert not again.is_finished
    assert again.invalidated_by[0].startswith("inputs.second: ")


def test_the_manifest_is_written_after_everything_else(tmp_path: Path) -> None:
    work = stage(tmp_path)
    with work.work():
        assert (work.folder / PLAN).exists()
        assert not (work.folder / MANIFEST).exists()
        assert not work.is_finished
    assert (work.folder / MANIFEST).exists()


def test_working_again_takes_the_old_manifest_away_first(tmp_path: Path) -> None:
    finish(stage(tmp_path))
    interrupt(stage(tmp_path))
    assert not stage(tmp_path).is_finished


def test_facts_that_are_no_json_do_not_finish_a_stage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"), stage(tmp_path).work() as facts:
        facts["loss"] = float("nan")
    assert not stage(tmp_path).is_finished


def test_a_folder_cut_off_while_it_is_emptied_is_never_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = stage(tmp_path)
    finish(old)
    removed: list[Path] = []

    def cut_off(target: Path, *_: object) -> None:
        """Removes one file, by turns the plan, the manifest and the rows, and is killed."""
        target = Path(target)
        victim = target / name if target.is_dir() else target
        victim.unlink(missing_ok=True)
        removed.append(victim)
        raise Interrupted

    for name in ("rows", PLAN, MANIFEST):
        shutil.rmtree(old.folder, ignore_errors=True)
        finish(stage(tmp_path))
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", cut_off)
            with pytest.raises(Interrupted), stage(tmp_path, {"rate": 2}).work():
                pass
        assert not stage(tmp_path).is_finished, name
        # and it can be worked on again, with either plan
        if (old.folder / PLAN).exists() or not old.folder.exists():
            finish(stage(tmp_path, {"rate": 2}))
    assert len(removed) == 3


# ---- folders that are not ours -----------------------------------------------------------------------------


def test_files_of_a_person_are_never_removed(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="holds files that no run wrote"), stage(tmp_path).work():
        pass
    assert (tmp_path / "stage" / "thesis.txt").exists()


def test_an_empty_folder_and_a_plan_cut_off_are_ours(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    finish(stage(tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / f"{PLAN}.4711.part").write_text('{"st')
    other = Stage(tmp_path / "other", "other", {}, {})
    finish(other)
    assert other.is_finished


@pytest.mark.parametrize("content", [b"", b'{"stage": "st', b"\xff\xfe", b"[1, 2"])
def test_a_torn_plan_is_told_and_kept(tmp_path: Path, content: bytes) -> None:
    finish(stage(tmp_path))
    (tmp_path / "stage" / PLAN).write_bytes(content)
    torn = stage(tmp_path)
    with pytest.raises(UserError, match=r"plan\.json: cannot be read .*delete this folder"):
        _ = torn.is_finished
    with pytest.raises(UserError, match="cannot be read"), torn.work():
        pass
    assert (tmp_path / "stage" / "rows").exists()


# ---- files -------------------------------------------------------------------------------------------------


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": 2, "b": object()})
    assert json.loads(path.read_text()) == {"a": 1}

    def cut_off(*_: object) -> None:
        raise Interrupted

    monkeypatch.setattr(manifest.os, "fsync", cut_off)
    with pytest.raises(Interrupted):
        write_json(path, {"a": 3})
    assert json.loads(path.read_text()) == {"a": 1}


def test_fingerprints_tell_values_apart() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    values = [{"a": 1}, {"a": "1"}, {"a": [1]}, {"a": None}, {}, {"b": 1}, [["a", 1]]]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_folder_state_sees_added_changed_and_renamed_files(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_text("1")
    states = [folder_state(folder)]
    assert folder_state(folder) == states[0]
    (folder / "b").write_text("1")
    states.append(folder_state(folder))
    (folder / "b").write_text("12")
    states.append(folder_state(folder))
    (folder / "b").rename(folder / "c")
    states.append(folder_state(folder))
    states.append(folder_state(folder / "c"))
    assert len(set(states)) == 5
    with pytest.raises(UserError, match="no such file or folder"):
        folder_state(tmp_path / "none")


# ---- one at a time -----------------------------------------------------------------------------------------


def hold(folder: str, held: Connection) -> None:
    with only_one(Path(folder)):
        held.send("held")
        time.sleep(60)


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    other = context.Process(target=hold, args=(str(tmp_path), theirs), daemon=True)
    other.start()
    try:
        assert ours.poll(60)
        with pytest.raises(UserError, match="another run is at work"), only_one(tmp_path):
            pass
        other.kill()  # the lock goes with its process, however that ends
        other.join(60)
        with only_one(tmp_path):
            pass
    finally:
        other.kill()
        other.join(60)
