"""What every benchmark of this folder shares: the machine and the date, fair timing, how results are told.

A benchmark is a script: it times, it fills a `Report`, and `Report.tell` prints a table, or with `--json` one
JSON object and nothing else. Timings of one machine swing by a factor of two to four between runs, so what is
compared is timed in turns (`in_turns`) and told as a ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def arguments(description: str, **numbers: int) -> argparse.Namespace:
    """The command line: `--json`, and an option of whole numbers for every keyword, with its default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, no table")
    for name, default in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    return parser.parse_args()


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def in_turns(
    ways: dict[str, Callable[[], object]], rounds: int, *, at_least_s: float = 0.0
) -> dict[str, list[float]]:
    """Seconds of every way, once a round: A B C, C B A, A B C, ... so that a slow minute meets all.

    Args:
        at_least_s: a short way is called again until its turn took so long, and the mean call counts: a
            single one is as long as a hiccup of the machine.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 == 0 else reversed(ways):
            start, calls = time.perf_counter(), 0
            while not calls or time.perf_counter() - start < at_least_s:
                ways[name]()
                calls += 1
            seconds[name].append((time.perf_counter() - start) / calls)
    return seconds


def ratio(above: list[float], below: list[float]) -> float:
    """The median over the rounds of one way's seconds by another's of the same round."""
    return statistics.median(first / second for first, second in zip(above, below, strict=True))


@dataclass
class Report:
    """Results of one benchmark.

    Attributes:
        rows: of the table, each a mapping with the same keys; numbers that go together carry their unit in
            the key.
        results: single numbers for a machine to read, by name.
    """

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def tell(self, *, as_json: bool) -> None:
        """Writes all of it to standard output."""
        told = {"benchmark": self.name, "date": datetime.now(UTC).isoformat(timespec="seconds")}
        told |= {"machine": machine()}
        if as_json:
            told |= {"results": self.results, "rows": self.rows, "notes": self.notes}
            sys.stdout.write(json.dumps(told) + "\n")
            return
        console = Console(width=None if sys.stdout.isatty() else 120)
        table = Table(title=f"{self.name}, {told['date']}", title_justify="left")
        columns = list(self.rows[0]) if self.rows else []
        for column in columns:
            is_text = isinstance(self.rows[0][column], str)
            table.add_column(column.replace("_", " "), justify="left" if is_text else "right")
        for row in self.rows:
            table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
        console.print(table)
        for name, value in self.results.items():
            console.print(f"{name} = {value}", highlight=False)
        for note in [*self.notes, ", ".join(f"{key} {value}" for key, value in machine().items())]:
            console.print(note, style="dim", highlight=False)
