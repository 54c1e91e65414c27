"""Facts that several processes keep in one file, and of which nothing is left once they are forgotten."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior_llava.core import cache
from behavior_llava.core.cache import Cache, Hashes, file_state, forget
from behavior_llava.core.errors import UserError

FIRST, SECOND = "a1" * 32, "b2" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "seen.sqlite"


def child(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Python code in a process of its own, with Cache, Hashes and Path at hand."""
    begin = "import os, sys; from pathlib import Path; from behavior_llava.core.cache import Cache, Hashes\n"
    return subprocess.Popen([sys.executable, "-c", begin + code, *map(str, arguments)])


def files_of(path: Path) -> Iterator[Path]:
    """The SQLite file, its log and its index."""
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            yield file


def is_anywhere(path: Path, *words: str) -> bool:
    return any(word.encode() in file.read_bytes() for file in files_of(path) for word in words)


# ---- facts -------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: value is not None)


@settings(max_examples=50, deadline=None)
@given(facts=JSON)
def test_what_is_kept_is_found(facts: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "roundtrip.sqlite"
    with Cache(path, "captions", {}) as kept:
        kept.keep({FIRST: facts})
        assert kept.find(FIRST) == facts
    with Cache(path, "captions", {}) as again:
        assert again.find(FIRST) == facts


def test_nothing_is_found_before_it_is_kept(path: Path) -> None:
    with Cache(path, "captions", {}) as kept:
        assert kept.find(FIRST) is None
        kept.keep({})
        kept.keep({SECOND: "b"})
        assert kept.find(FIRST) is None
        assert kept.find("") is None


def test_what_is_kept_later_takes_its_place(path: Path) -> None:
    with Cache(path, "captions", {}) as kept:
        kept.keep({FIRST: "old", SECOND: "b"})
        kept.keep({FIRST: "new"})
        assert (kept.find(FIRST), kept.find(SECOND)) == ("new", "b")


def test_kinds_and_settings_are_apart(path: Path) -> None:
    asked = [("captions", {"model": "a"}), ("captions", {"model": "b"}), ("tags", {"model": "a"})]
    for kind, chosen in asked:
        with Cache(path, kind, chosen) as kept:
            assert kept.find(FIRST) is None
            kept.keep({FIRST: [kind, chosen]})
    for kind, chosen in asked:
        with Cache(path, kind, chosen) as kept:
            assert kept.find(FIRST) == [kind, chosen]


def test_the_order_of_settings_does_not_matter(path: Path) -> None:
    with Cache(path, "captions", {"a": 1, "b": 2}) as kept:
        kept.keep({FIRST: "a"})
    with Cache(path, "captions", {"b": 2, "a": 1}) as kept:
        assert kept.find(FIRST) == "a"


@pytest.mark.parametrize(
    ("value", "error"), [(object(), TypeError), (math.nan, ValueError), ({1: {2}}, TypeError)]
)
def test_what_json_cannot_hold_leaves_nothing(path: Path, value: object, error: type[Exception]) -> None:
    with Cache(path, "captions", {}) as kept:
        kept.keep({FIRST: "old"})
        with pytest.raises(error):
            kept.keep({FIRST: "new", SECOND: value})
        assert (kept.find(FIRST), kept.find(SECOND)) == ("old", None)
        kept.keep({SECOND: "b"})
        assert kept.find(SECOND) == "b"


def test_a_keep_that_fails_midway_leaves_nothing(path: Path) -> None:
    with Cache(path, "captions", {}) as kept:
        kept.keep({FIRST: "old"})
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(
                "CREATE TRIGGER full BEFORE INSERT ON facts WHEN new.sha256 = 'full'"
                " BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
            )
        with pytest.raises(sqlite3.IntegrityError, match="disk is full"):
            kept.keep({FIRST: "new", "full": "b"})
        assert (kept.find(FIRST), kept.find("full")) == ("old", None)
        kept.keep({SECOND: "b"})
        assert kept.find(SECOND) == "b"


# ---- several processes -------------------------------------------------------------------------------------


def test_processes_write_at_once(path: Path) -> None:
    code = """
with Cache(Path(sys.argv[1]), "captions", {}) as kept, Hashes(Path(sys.argv[1])) as hashes:
    for number in range(100):
        kept.keep({f"{sys.argv[2]}{number}": number, "both": sys.argv[2]})
        hashes.keep(f"state {sys.argv[2]}{number}", sys.argv[2])
"""
    running = [child(code, path, name) for name in "xyz"]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    with Cache(path, "captions", {}) as kept, Hashes(path) as hashes:
        found = {f"{name}{number}": kept.find(f"{name}{number}") for name in "xyz" for number in range(100)}
        assert found == {f"{name}{number}": number for name in "xyz" for number in range(100)}
        assert {hashes.find(f"state {key}") for key in found} == set("xyz")
        assert kept.find("both") in set("xyz")


def test_a_process_killed_while_it_keeps_leaves_the_old_state(path: Path) -> None:
    code = """
import signal, sqlite3
with Cache(Path(sys.argv[1]), "captions", {}) as kept:
    kept.keep({"old": "a", "fate": "before"})
    # only here: the process ends within the transaction, after the first row was written
    kept._database.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
    kept._database.execute("CREATE TEMP TRIGGER last AFTER INSERT ON facts WHEN new.sha256 = 'last'"
                           " BEGIN SELECT die(); END")
    kept.keep({"fate": "after", "last": "b"})
"""
    assert child(code, path).wait(60) == -9
    with Cache(path, "captions", {}) as kept:
        assert [kept.find(key) for key in ("old", "fate", "last")] == ["a", "before", None]
        kept.keep({"last": "b"})
        assert kept.find("last") == "b"


def test_what_a_killed_process_had_kept_is_there(path: Path) -> None:
    code = """
kept = Cache(Path(sys.argv[1]), "captions", {})
kept.keep({sys.argv[2]: "a"})
os._exit(9)
"""
    assert child(code, path, FIRST).wait(60) == 9
    assert path.with_name("seen.sqlite-wal").stat().st_size > 0
    with Cache(path, "captions", {}) as kept:
        assert kept.find(FIRST) == "a"


# ---- which media a file is ---------------------------------------------------------------------------------


def test_a_hash_belongs_to_a_file_in_one_state(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"one")
    state = file_state(str(file))
    assert state is not None
    with Hashes(path) as hashes:
        assert hashes.find(state) is None
        hashes.keep(state, FIRST)
        assert hashes.find(state) == FIRST
        file.write_bytes(b"other")
        changed = file_state(str(file))
        assert changed not in (None, state)
        assert hashes.find(str(changed)) is None


def test_a_state_is_path_size_and_time_of_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, other = tmp_path / "a.jpg", tmp_path / "b.jpg"
    for place in (file, other):
        place.write_bytes(b"one")
        os.utime(place, ns=(10**18, 10**18))
    state = file_state(str(file))
    assert file_state(str(other)) != state
    os.utime(file, ns=(10**18 + 1, 10**18 + 1))
    assert file_state(str(file)) != state
    os.utime(file, ns=(10**18, 10**18))
    assert file_state(str(file)) == state
    other.write_bytes(b"other")
    os.utime(other, ns=(10**18, 10**18))
    assert file_state(str(other.replace(file))) != state
    file.write_bytes(b"two")
    os.utime(file, ns=(10**18, 10**18))
    assert file_state(str(file)) == state
    monkeypatch.chdir(tmp_path)
    assert file_state("a.jpg") == state


def test_where_no_file_can_be_there_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    for path in (tmp_path / "none", tmp_path / "a" / "b", tmp_path / ("x" * 300), "nul\0", "\ud800"):
        assert file_state(str(path)) is None


# ---- forgetting --------------------------------------------------------------------------------------------


def fill(path: Path) -> None:
    """Facts of two media of many kinds, and old ones that were replaced."""
    for kind in ("views", "captions", "tags"):
        with Cache(path, kind, {}) as kept:
            for number in range(5):
                kept.keep({FIRST: f"secret {number}" + "x" * 5000, SECOND: "y" * 5000})
    with Hashes(path) as hashes:
        hashes.keep("state one", FIRST)
        hashes.keep("state also one", FIRST)
        hashes.keep("state two", SECOND)


def test_forgetting_leaves_no_byte(path: Path) -> None:
    fill(path)
    assert is_anywhere(path, FIRST)
    assert is_anywhere(path, "secret", "state one")
    assert forget(path, [FIRST, "0" * 64]) == 3
    assert not is_anywhere(path, FIRST, "secret", "state one", "state also one")
    with Cache(path, "captions", {}) as kept, Hashes(path) as hashes:
        assert (kept.find(FIRST), kept.find(SECOND)) == (None, "y" * 5000)
        assert (hashes.find("state one"), hashes.find("state two")) == (None, SECOND)
    assert forget(path, [FIRST]) == 0


def test_forgetting_leaves_no_byte_in_the_log_of_a_process_at_work(path: Path) -> None:
    with Cache(path, "captions", {}) as kept:
        fill(path)
        kept.keep({FIRST: "secret"})
        log = path.with_name("seen.sqlite-wal")
        assert FIRST.encode() in log.read_bytes()
        assert forget(path, [FIRST]) == 3
        assert log in list(files_of(path))
        assert not is_anywhere(path, FIRST, "secret")
        assert (kept.find(FIRST), kept.find(SECOND)) == (None, "y" * 5000)
        kept.keep({FIRST: "again"})
        assert kept.find(FIRST) == "again"


def test_forgetting_takes_what_a_killed_process_left_in_the_log(path: Path) -> None:
    fill(path)
    code = """
kept = Cache(Path(sys.argv[1]), "captions", {})
kept.keep({sys.argv[2]: "secret"})
os._exit(9)
"""
    assert child(code, path, FIRST).wait(60) == 9
    assert FIRST.encode() in path.with_name("seen.sqlite-wal").read_bytes()
    assert forget(path, [FIRST]) == 3
    assert not is_anywhere(path, FIRST, "secret")


def test_forgetting_goes_on_where_it_was_cut_off(path: Path) -> None:
    fill(path)
    with closing(sqlite3.connect(path)) as database, database:
        # some builds of SQLite blank what they delete, most do not
        database.execute("PRAGMA secure_delete=OFF")
        database.execute("DELETE FROM facts WHERE sha256 = ?", (FIRST,))
        database.execute("DELETE FROM files WHERE sha256 = ?", (FIRST,))
    assert is_anywhere(path, FIRST)
    assert forget(path, [FIRST]) == 0
    assert not is_anywhere(path, FIRST, "secret")


def test_forgetting_where_nothing_is_makes_nothing(path: Path) -> None:
    assert forget(path, [FIRST]) == 0
    assert not path.parent.exists()
    with Cache(path, "captions", {}):
        pass
    assert forget(path, [FIRST]) == 0
    assert forget(path, iter(())) == 0


def test_forgetting_says_who_is_in_its_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path)
    monkeypatch.setattr(cache, "_WAIT_S", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM facts").fetchone() == (6,)
        with pytest.raises(UserError, match="another process") as refused:
            forget(path, [FIRST])
        assert refused.value.where == path
        assert "again" in str(refused.value)
    # the deletion itself is done; the bytes go with the second call
    assert forget(path, [FIRST]) == 0
    assert not is_anywhere(path, FIRST, "secret")


def test_forgetting_waits_for_a_reader_that_ends(path: Path) -> None:
    fill(path)
    code = """
import sqlite3, time
reader = sqlite3.connect(sys.argv[1], isolation_level=None)
reader.execute("BEGIN")
reader.execute("SELECT count(*) FROM facts").fetchone()
Path(sys.argv[2]).touch()
time.sleep(0.4)
"""
    ready = path.with_name("ready")
    running = child(code, path, ready)
    while not ready.exists():
        assert running.poll() is None
        time.sleep(0.01)
    assert forget(path, [FIRST]) == 3
    assert running.wait(60) == 0
    assert not is_anywhere(path, FIRST, "secret")
