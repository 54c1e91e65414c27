"""The report's numbers and charts as files of their own: CSV and Markdown, SVG and PNG.

In: tables of values and charts. Out: `tables/<name>.csv|.md` and `charts/<name>.svg|.png` beside the page.
Numbers in CSV are as `summary.json` has them; in Markdown they are shortened for people. What is undefined is
the word "undefined", what was not run "not run": no empty cell may be taken for a number. Text that a
spreadsheet would run as a formula gets an apostrophe before it.
"""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from behavior_llava.reporting.charts import Chart
from behavior_llava.reporting.tables import UNDEFINED, number

CHARTS, TABLES = "charts", "tables"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Table:
    """A table of values.

    Attributes:
        name: of its files.
        title: what it holds, and in which unit.
        rows: values in the order of `columns`; None is undefined.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


def table(name: str, title: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Table:
    """A table from rows by name of column; a row may have more than the columns."""
    return Table(name, title, tuple(columns), [[row[column] for column in columns] for row in rows])


def file_name(name: str) -> str:
    """A name that is safe as a file's on every system; different names may become one."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:80] or "unnamed"


def write_tables(tables: Iterable[Table], folder: Path) -> list[str]:
    """Writes every table with rows as CSV and Markdown; returns the names of those."""
    written = []
    (folder / TABLES).mkdir(parents=True, exist_ok=True)
    for one in tables:
        if one.rows:
            with (folder / TABLES / f"{one.name}.csv").open("w", encoding="utf-8", newline="") as file:
                lines = csv.writer(file)
                lines.writerow(one.columns)
                lines.writerows([_raw(value) for value in row] for row in one.rows)
            (folder / TABLES / f"{one.name}.md").write_text(markdown(one), encoding="utf-8")
            written.append(one.name)
    return written


def write_charts(charts: Iterable[Chart], folder: Path) -> list[str]:
    """Writes every chart as SVG and PNG; returns their names."""
    written = []
    (folder / CHARTS).mkdir(parents=True, exist_ok=True)
    for one in charts:
        name = file_name(one.name)
        (folder / CHARTS / f"{name}.svg").write_bytes(one.svg())
        (folder / CHARTS / f"{name}.png").write_bytes(one.png())
        written.append(name)
    return written


def markdown(one: Table) -> str:
    """The table with its title, for people; nothing in a cell is Markdown or HTML."""
    lines = [one.columns, ["---"] * len(one.columns), *([_shown(value) for value in row] for row in one.rows)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{_inert(one.title)}**\n\n{body}\n"


def _raw(value: Any) -> Any:
    if value is None:
        return UNDEFINED
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return number(value)
    return _inert(str(value))


def _inert(text: str) -> str:
    """On one line, with nothing that Markdown or HTML gives a meaning to."""
    plain = "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
    return re.sub(
        r"[\\`*\[\]|~#]|(?<!\w)_|_(?!\w)", lambda sign: f"&#{ord(sign[0])};", html.escape(plain, quote=False)
    )
