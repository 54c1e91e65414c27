"""Progress with rate and time left: a bar on a terminal, a line now and then in a log.

In a process that processes.py started nothing is shown; what happens is told to the process that shows it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(stderr=True, highlight=False)

LINE_EVERY_S = 20.0
TELL_EVERY_S = 0.5
"""How often a process tells another how far it is."""


class Advance(Protocol):
    """Tells that some more is done."""

    def __call__(self, done: int = 1) -> None: ...  # noqa: D102


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Things a second."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="dim")


@dataclass
class _Line:
    label: str
    total: int | None
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)
    count: int = 0


class Board:
    """Several bars at once, or lines where there is no terminal; a context manager.

    Bars vanish when they end; a line is written every LINE_EVERY_S seconds.
    """

    def __init__(self) -> None:
        self._lines: dict[Hashable, _Line] = {}
        self._tasks: dict[Hashable, TaskID] = {}
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Board:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def begin(self, key: Hashable, label: str, total: int | None) -> None:
        """Shows another bar."""
        if self._bars is not None:
            self._tasks[key] = self._bars.add_task(label, total=total)
        else:
            self._lines[key] = _Line(label, total)

    def advance(self, key: Hashable, done: int = 1) -> None:
        """Moves a bar on."""
        if self._bars is not None:
            self._bars.update(self._tasks[key], advance=done)
            return
        line = self._lines[key]
        line.count += done
        now = time.monotonic()
        if now - line.told >= LINE_EVERY_S:
            line.told = now
            rate = line.count / (now - line.started)
            left = "" if not line.total or not rate else f", {(line.total - line.count) / rate:.0f} s left"
            total = f"/{line.total}" if line.total else ""
            console.print(f"  {line.label}: {line.count}{total}, {rate:.1f}/s{left}")

    def end(self, key: Hashable) -> None:
        """Takes a bar away."""
        if self._bars is not None:
            self._bars.remove_task(self._tasks.pop(key))
        else:
            del self._lines[key]


_tell: Callable[[str, tuple[Any, ...]], None] | None = None
_keys = itertools.count()


def tell_instead(tell: Callable[[str, tuple[Any, ...]], None]) -> None:
    """From now on this process shows no progress; it calls `tell` with the name of a method of Board and its
    arguments.
    """
    global _tell
    _tell = tell


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Advance]:
    """A bar for `total` things; the body calls the given function as they get done."""
    key = next(_keys)
    if _tell is None:
        with Board() as board:
            board.begin(key, label, total)
            yield partial(board.advance, key)
        return
    tell, told, waiting = _tell, time.monotonic(), 0

    def advance(done: int = 1) -> None:
        nonlocal told, waiting
        waiting += done
        if (now := time.monotonic()) - told >= TELL_EVERY_S:
            tell("advance", (key, waiting))
            told, waiting = now, 0

    tell("begin", (key, label, total))
    yield advance
    tell("end", (key,))
