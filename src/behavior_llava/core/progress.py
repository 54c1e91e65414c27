"""Progress with rate and time left: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(stderr=True, highlight=False)

LINE_EVERY_S = 20.0


class Advance(Protocol):
    """Tells that some more is done."""

    def __call__(self, done: int = 1) -> None: ...  # noqa: D102


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Things a second."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="dim")


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Advance]:
    """A bar for `total` things; the body calls the given function as they get done.

    On a terminal the bar disappears at the end; elsewhere a line is written every LINE_EVERY_S seconds.
    """
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done=1: bar.update(task, advance=done)
        return
    started = last = time.monotonic()
    count = 0

    def advance(done: int = 1) -> None:
        nonlocal count, last
        count += done
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            rate = count / (now - started)
            left = "" if not total or not rate else f", {(total - count) / rate:.0f} s left"
            console.print(f"  {label}: {count}{f'/{total}' if total else ''}, {rate:.1f}/s{left}")

    yield advance
