"""The journal of answers: whoever writes and is killed, no line is lost or given to another question."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior_llava.core.errors import UserError
from behavior_llava.evaluation.journal import Journal, Key

KEY = Key("w0", "mood", 1, "s0", "p0")


def written(folder: Path, answers: dict[Key, Any]) -> Path:
    with Journal(folder) as journal:
        journal.keep(answers.items())
    (file,) = folder.glob("*.jsonl")
    return file


def test_what_is_kept_is_found_at_once_and_later(tmp_path: Path) -> None:
    other = replace(KEY, sample="s1\n\u2028ä\ud83d")
    with Journal(tmp_path) as journal:
        assert journal.find(KEY) is None
        journal.keep([(KEY, {"log_probs": [-0.5, -1e-9]}), (other, "a\nb")])
        assert journal.find(KEY) == {"log_probs": [-0.5, -1e-9]}
        journal.keep([(replace(KEY, sample="s2"), 0)])
    with Journal(tmp_path) as journal:
        assert [journal.find(key) for key in (other, KEY, replace(KEY, sample="s2"))] == [
            "a\nb",
            {"log_probs": [-0.5, -1e-9]},
            0,
        ]
        assert (len(journal), journal.torn) == (3, 0)


def test_nothing_is_written_before_there_is_an_answer(tmp_path: Path) -> None:
    with Journal(tmp_path / "none") as journal:
        assert journal.find(KEY) is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("answer", [None, float("nan"), float("inf")])
def test_what_is_no_answer_is_not_kept(tmp_path: Path, answer: Any) -> None:
    with Journal(tmp_path) as journal, pytest.raises(ValueError, match=r"no answer|JSON compliant"):
        journal.keep([(KEY, answer)])
    with Journal(tmp_path) as journal:
        assert len(journal) == 0


@pytest.mark.parametrize("field", ["weights", "task", "version", "sample", "prompt"])
def test_another_question_meets_no_line(tmp_path: Path, field: str) -> None:
    written(tmp_path, {KEY: "joy"})
    with Journal(tmp_path) as journal:
        assert journal.find(replace(KEY, **{field: 2 if field == "version" else "other"})) is None
        assert journal.find(KEY) == "joy"


def test_a_torn_last_line_is_dropped_and_counted_wherever_it_was_cut(tmp_path: Path) -> None:
    file = written(tmp_path, {replace(KEY, sample=name): [name] for name in "abc"})
    whole = file.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    count = 0
    for end in range(last, len(whole) + 1):
        file.write_bytes(whole[:end])
        with Journal(tmp_path) as journal:
            kept = [journal.find(replace(KEY, sample=name)) for name in "abc"]
            assert journal.torn == (0 if end in (last, len(whole)) else 1)
            assert kept == [["a"], ["b"], ["c"] if end == len(whole) else None]
            if end == last + 5:  # the next writer does not write behind the torn line
                journal.keep([(replace(KEY, sample="c"), ["again"])])
                assert journal.find(replace(KEY, sample="c")) == ["again"]
                (added,) = set(tmp_path.glob("*.jsonl")) - {file}
                added.unlink()
        count += 1
    assert count > 50


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON\n",
        b"[]\n",
        b"\n",
        b'{"weights": "w"}\n',
        b'{"weights": 1, "task": "a", "version": 1, "sample": "s", "prompt": "p", "answer": 1}\n',
        b'{"weights": "w", "task": "a", "version": 1, "sample": "s", "prompt": "p", "answer": null}\n',
        b"\xff\xfe\n",
        b"\0\0\0\n",
    ],
)
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, line: bytes) -> None:
    file = written(tmp_path, {KEY: "joy"})
    whole = file.read_bytes()
    file.write_bytes(whole + line + whole)
    with pytest.raises(UserError, match=rf"{file.name}:2: is no line of a journal; delete this file"):
        Journal(tmp_path)
    file.write_bytes(whole + line)
    with Journal(tmp_path) as journal:
        assert (journal.find(KEY), journal.torn) == ("joy", 1)


JSON = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
WORDS = st.text()


@settings(max_examples=30, deadline=None)
@given(answers=st.dictionaries(st.builds(Key, WORDS, WORDS, st.integers(), WORDS, WORDS), JSON, max_size=5))
def test_any_answer_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, answers: dict[Key, Any]
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    with Journal(folder) as journal:
        journal.keep(answers.items())
    with Journal(folder) as journal:
        assert {key: journal.find(key) for key in answers} == answers


PROGRAM = """
import sys, time
from pathlib import Path
from behavior_llava.evaluation.journal import Journal, Key

folder, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with Journal(folder) as journal:
    for number in range(count):
        key = Key("w", "mood", 1, f"{number}", "p")
        if journal.find(key) is None:
            journal.keep([(key, {"by": name, "text": "x" * 5000})])
        time.sleep(0.001)
"""


def test_nothing_is_written_behind_what_a_full_disk_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(tmp_path) as journal:
        journal.keep([(KEY, "joy")])
        (file,) = tmp_path.glob("*.jsonl")
        with monkeypatch.context() as full:
            full.setattr("behavior_llava.evaluation.journal.os.fsync", no_space)
            with pytest.raises(OSError, match="No space left"):
                journal.keep([(replace(KEY, sample="s1"), "anger")])
        file.write_bytes(file.read_bytes()[:-5])
        assert journal.find(replace(KEY, sample="s1")) is None
        journal.keep([(replace(KEY, sample="s2"), "fear")])
        assert journal.find(replace(KEY, sample="s2")) == "fear"
    with Journal(tmp_path) as journal:
        found = [journal.find(key) for key in (KEY, replace(KEY, sample="s1"), replace(KEY, sample="s2"))]
        assert (found, journal.torn) == (["joy", None, "fear"], 1)


def no_space(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_writers_that_are_killed_lose_nothing_they_kept(tmp_path: Path) -> None:
    """Three at once on the same questions, killed at any time, again and again; then one to the end."""
    count, num_kills = 1500, 0
    for turn in range(4):
        running = [
            subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), f"{turn}.{number}", str(count)])
            for number in range(3)
        ]
        began = time.monotonic()
        while len(list(tmp_path.glob("*.jsonl"))) < 3 * (turn + 1) and time.monotonic() - began < 20:
            time.sleep(0.01)
        time.sleep(0.1 * turn)
        before = {file: file.read_bytes() for file in tmp_path.glob("*.jsonl")}
        for process in running:
            num_kills += process.poll() is None
            process.kill()
            process.wait()
        for file, content in before.items():
            assert file.read_bytes().startswith(content)
    assert num_kills > 0
    kept = {
        line["sample"]
        for file in tmp_path.glob("*.jsonl")
        for line in map(json.loads, file.read_bytes().rpartition(b"\n")[0].splitlines())
    }
    assert kept
    with Journal(tmp_path) as journal:
        assert len(journal) == len(kept)
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), "last", str(count)], check=True)
    with Journal(tmp_path) as journal:
        assert len(journal) == count
        answers = [journal.find(Key("w", "mood", 1, str(number), "p")) for number in range(count)]
    assert all(answer["text"] == "x" * 5000 for answer in answers)
    assert {str(number) for number, answer in enumerate(answers) if answer["by"] == "last"}.isdisjoint(kept)
