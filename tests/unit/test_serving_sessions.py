"""Visitors of the demo: terms, rate, files, the hour; and dialogues stored by opt-in alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from behavior_llava.core.errors import UserError
from behavior_llava.serving import sessions as sessions_module
from behavior_llava.serving import uploads
from behavior_llava.serving.dialogues import Dialogues, new_code
from behavior_llava.serving.sessions import HOUR_S, Key, Rate, Sessions
from behavior_llava.serving.uploads import Refused, private_folder

SERVING = Path(sessions_module.__file__).parent
ONE, TWO = Key("cookie one", "tab"), Key("cookie two", "tab")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_the_terms_say_all_they_must() -> None:
    text = (SERVING / "terms.md").read_text() + (SERVING / "terms_storing.md").read_text()
    for (
        wanted
    ) in """research non-commercial illegal harmful violent racist sexual private privacy safety offensive
    CC.BY IP.address Delete cookie""".split():
        assert re.search(wanted, text), wanted


def test_only_the_tab_that_accepted_has_a_session(tmp_path: Path) -> None:
    there = Sessions(tmp_path)
    with pytest.raises(Refused, match="accept the terms"):
        there.of(ONE)
    there.accept(ONE, "a")
    assert there.of(ONE).folder.stat().st_mode & 0o077 == 0
    for other in (TWO, Key(ONE.visitor, "another tab"), Key("", "tab")):
        with pytest.raises(Refused):
            there.of(other)
    assert there.has_accepted(ONE.visitor)
    assert not there.has_accepted(TWO.visitor)
    assert not there.has_accepted("")
    with pytest.raises(Refused, match="cookie"):
        there.accept(Key("", "tab"), "a")


def test_an_ended_session_leaves_nothing(tmp_path: Path) -> None:
    there = Sessions(tmp_path)
    there.accept(ONE, "a")
    session = there.of(ONE)
    (session.folder / "picture.jpg").touch()
    session.rounds.append(("q", "a"))
    session.code, session.is_stored_wanted = "code", True
    waiting = tmp_path / "waiting"
    waiting.touch()
    there.note_upload(ONE.visitor, waiting)
    there.end(ONE)
    assert session.stop.is_set()
    assert session.rounds == []
    assert (session.code, session.is_stored_wanted) == (None, False)  # an answer under way is not stored
    assert list(tmp_path.iterdir()) == []
    assert not there.owns(ONE.visitor, waiting)
    there.end(ONE)  # twice is once


def test_an_upload_is_its_visitors_and_is_taken_once(tmp_path: Path) -> None:
    there = Sessions(tmp_path)
    path = tmp_path / "x"
    there.note_upload(ONE.visitor, path)
    with pytest.raises(Refused):
        there.take_upload(TWO.visitor, path)
    there.take_upload(ONE.visitor, path)
    with pytest.raises(Refused):
        there.take_upload(ONE.visitor, path)


def test_after_an_hour_files_and_sessions_are_gone(tmp_path: Path) -> None:
    clock = Clock()
    there = Sessions(tmp_path, clock=clock)
    there.accept(ONE, "a")
    session = there.of(ONE)
    (session.folder / "picture.jpg").touch()
    session.view, session.uploaded_s = object(), clock()  # type: ignore[assignment]
    waiting = tmp_path / "waiting"
    waiting.touch()
    there.note_upload(ONE.visitor, waiting)
    clock.now_s += HOUR_S - 1
    there.sweep()
    assert waiting.exists()
    assert session.view is not None
    there.of(ONE)  # still used
    clock.now_s += 2
    there.sweep()
    assert session.view is None
    assert list(session.folder.iterdir()) == []
    assert not waiting.exists()
    assert there.of(ONE) is session
    clock.now_s += HOUR_S + 1
    there.sweep()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Refused):
        there.of(ONE)


def test_there_are_not_endlessly_many_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "MOST_SESSIONS", 2)
    there = Sessions(tmp_path)
    there.accept(ONE, "a")
    there.accept(TWO, "a")
    there.accept(TWO, "a")
    with pytest.raises(Refused, match="Too many"):
        there.accept(Key("three", "tab"), "a")


def test_one_address_does_not_take_all_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "MOST_OF_ADDRESS", 2)
    there = Sessions(tmp_path)
    for number in range(2):
        there.accept(Key(f"made up {number}", "tab"), "a")
    with pytest.raises(Refused, match="at your address"):
        there.accept(Key("made up 2", "tab"), "a")
    there.accept(Key("made up 0", "tab"), "a")  # who is there stays
    there.accept(ONE, "b")
    there.end(Key("made up 0", "tab"))
    there.accept(Key("made up 2", "tab"), "a")


def test_the_rate_holds_for_an_address_and_a_minute() -> None:
    clock = Clock()
    rate = Rate(3, clock)
    for _ in range(3):
        rate.take("a")
    with pytest.raises(Refused, match="wait 60 seconds"):
        rate.take("a")
    rate.take("b")
    clock.now_s += 61
    rate.take("a")
    assert list(rate._times) == ["a"]  # addresses are forgotten


# ---- the private folder ------------------------------------------------------------------------------------


def test_the_folder_is_private_and_goes(tmp_path: Path) -> None:
    with private_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "x").touch()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_is_swept_and_what_lives_is_not(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from behavior_llava.serving.uploads import private_folder
with private_folder(Path({str(tmp_path)!r})) as folder:
    (folder / "secret.jpg").write_text("x")
    print(folder, flush=True)
    time.sleep(600)
"""
    alive = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert alive.stdout is not None
    left = Path(alive.stdout.readline().strip())
    try:
        with private_folder(tmp_path):
            assert (left / "secret.jpg").exists()
        os.kill(alive.pid, signal.SIGKILL)
        alive.wait()
        assert left.exists()
        with private_folder(tmp_path):
            assert not left.exists()
    finally:
        alive.kill()
        alive.wait()
        alive.stdout.close()


def test_the_sweep_follows_no_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / f"{uploads.PREFIX}x").symlink_to(elsewhere)
    with private_folder(tmp_path / "t"):
        pass
    assert (elsewhere / "lock").exists()


def test_what_nobody_reported_goes_after_an_hour(tmp_path: Path) -> None:
    (tmp_path / "old folder").mkdir()
    (tmp_path / "folder").mkdir()
    old = [tmp_path / "tmp1", tmp_path / "old folder" / "x.png", tmp_path / "folder" / "y.png"]
    new = [tmp_path / "tmp2", tmp_path / "folder" / "z.png"]
    for path in [*old, *new]:
        path.touch()
    aged_s = time.time() - HOUR_S - 1
    for path in old:
        os.utime(path, (aged_s, aged_s))
    uploads.remove_old(tmp_path, HOUR_S)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(new)
    os.utime(tmp_path / "old folder", (aged_s, aged_s))
    uploads.remove_old(tmp_path, HOUR_S)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "tmp2"]


# ---- stored dialogues --------------------------------------------------------------------------------------


def test_a_stored_dialogue_tells_nobody_and_is_deleted_by_its_code(tmp_path: Path) -> None:
    picture = tmp_path / "p.jpg"
    picture.write_bytes(b"jpeg")
    kept = Dialogues(tmp_path / "store")
    kept.open()
    assert (tmp_path / "store").stat().st_mode & 0o077 == 0
    code, other = new_code(), new_code()
    kept.keep(code, model="m", rounds=[("q", "a")], pictures=[picture])
    kept.keep(code, model="m", rounds=[("q", "a"), ("r", "b")], pictures=[picture])
    kept.keep(other, model="m", rounds=[("x", "y")], pictures=[])
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["1.jpg", "dialogue.json", "dialogue.json"]
    told = [json.loads(path.read_text()) for path in files if path.name == "dialogue.json"]
    assert sorted(len(one["rounds"]) for one in told) == [1, 2]
    assert all(set(one) == {"schema", "license", "day", "model", "pictures", "rounds"} for one in told)
    # who reads the store cannot delete
    assert not any(code in str(path) or code in path.read_text(errors="replace") for path in files)
    for name in (files[0].parent.name, "", "..", "../store"):
        assert not kept.delete(name)
    assert kept.delete(f" {code} ")
    assert [path.name for path in (tmp_path / "store").rglob("*") if path.is_file()] == ["dialogue.json"]
    assert not kept.delete(code)


def test_a_new_upload_replaces_stored_pictures(tmp_path: Path) -> None:
    picture = tmp_path / "p.jpg"
    picture.write_bytes(b"jpeg")
    kept = Dialogues(tmp_path / "store")
    kept.open()
    kept.keep("c", model="m", rounds=[("q", "a")], pictures=[picture] * 3)
    kept.keep("c", model="m", rounds=[("q", "a")], pictures=[picture])
    assert sorted(path.name for path in (tmp_path / "store").rglob("*.*")) == ["1.jpg", "dialogue.json"]


def test_a_store_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        Dialogues(tmp_path / "file").open()
