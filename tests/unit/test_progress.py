"""Progress on a terminal, in a log, and told to another process."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from behavior_llava.core import progress


def console(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> io.StringIO:
    written = io.StringIO()
    monkeypatch.setattr(
        progress, "console", Console(file=written, force_terminal=is_terminal, width=100, highlight=False)
    )
    return written


def test_bars_of_several_things_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    written = console(monkeypatch, is_terminal=True)
    with progress.Board() as board:
        board.begin("a", "drawing", 3)
        board.begin("b", "reading", None)
        board.advance("a", 2)
        board.advance("b")
        board.end("b")
        board.advance("a")
    assert "drawing" in written.getvalue()
    assert "3/3" in written.getvalue()


def test_lines_with_rate_and_time_left_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    written = console(monkeypatch, is_terminal=False)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with progress.progress("drawing", 100) as advance:
        advance(10)
        advance(30)
    first, second = written.getvalue().splitlines()
    assert re.fullmatch(r"  drawing: 10/100, [\d.]+/s, \d+ s left", first)
    assert re.fullmatch(r"  drawing: 40/100, [\d.]+/s, \d+ s left", second)


def test_a_log_is_not_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    written = console(monkeypatch, is_terminal=False)
    with progress.progress("drawing", 1000) as advance:
        for _ in range(1000):
            advance()
    assert written.getvalue() == ""


def test_a_process_that_shows_nothing_tells_all_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    written = console(monkeypatch, is_terminal=True)
    told: list[tuple[str, tuple[Any, ...]]] = []
    monkeypatch.setattr(progress, "_tell", lambda name, arguments: told.append((name, arguments)))
    monkeypatch.setattr(progress, "TELL_EVERY_S", 0.0)
    with progress.progress("drawing", 3) as advance:
        advance()
        advance(2)
    (key, *begun), *moved, (ended,) = [arguments for _, arguments in told]
    assert [name for name, _ in told] == ["begin", "advance", "advance", "end"]
    assert begun == ["drawing", 3]
    assert moved == [(key, 1), (key, 2)]
    assert ended == key
    assert written.getvalue() == ""
