"""What only a channel's owner sees: audience retention and shares by service, as exported to files.

Three forms, told apart by their columns, whose order and whose rows' order nobody promises:

- the Analytics API's reports.query answer, `{columnHeaders: [{name}, ...], rows: [...]}`;
- the same columns as CSV or TSV;
- YouTube Studio's CSV or TSV ("Video position (%)", "Absolute audience retention (%)"), with decimal points
  or commas, percent signs, blank cells. Its XLSX has to be saved as CSV.

A `video` column tells several videos apart. A file that is in none of the forms raises ValueError (or another
of youtube_records.BROKEN), which the youtube source turns into a Fault; missing cells stay missing.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from behavior_llava.data import people, raw_values

Kind = Literal["retention", "shares"]
Rows = list[tuple[Any, Any]]

KINDS: tuple[Kind, ...] = ("retention", "shares")
SUFFIXES = (".json", ".csv", ".tsv")
MAX_BYTES = 64 * 2**20
"""An export is held whole; those of ten thousand videos stay below this."""

_COLUMNS: Mapping[Kind, tuple[tuple[str, str], ...]] = {
    "retention": (
        ("elapsedVideoTimeRatio", "audienceWatchRatio"),
        ("Video position (%)", "Absolute audience retention (%)"),
    ),
    "shares": (("sharingService", "shares"), ("Sharing service", "Shares")),
}
_VIDEO = "video"
_TOTAL = "Total"
"""What Studio writes before its tables' rows; no service."""

_GROUP_SPACE = re.compile(r"[ \u00a0\u202f](?=\d{3}(?!\d))")
_COMMA_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")
_DOT_GROUPS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?")
_DECIMAL = re.compile(r"([.,])(?:\d{1,2}|\d{4,})$|^[+-]?0([.,])\d+$|\.\d{3}(,)\d+$|,\d{3}(\.)\d+$")


def _plain_numbers(cells: Sequence[str]) -> list[float | None]:
    """The numbers of cells that were written in one language: 12.5, 12,5, 1,234.5, 1.234,5 or 98 %.

    Raises:
        ValueError: also where "1,234" may be either and no other cell says which.
    """
    texts = [_GROUP_SPACE.sub("", cell.strip().removesuffix("%").rstrip()) for cell in cells]
    marks = {"".join(filter(None, found.groups())) for text in texts if (found := _DECIMAL.search(text))}
    if len(marks) > 1 or (not marks and any(_COMMA_GROUPS.fullmatch(text) for text in texts)):
        raise ValueError("a decimal comma or one of thousands?")
    if marks == {","}:
        if any("." in text and not _DOT_GROUPS.fullmatch(text) for text in texts):
            raise ValueError("points and commas do not agree")
        texts = [text.replace(".", "").replace(",", ".") for text in texts]
    return [raw_values.to_float(text) for text in texts]


def _named(columns: Sequence[Any], kind: Kind) -> tuple[int, int, int | None] | None:
    """Where place, value and video stand among the columns; None where they do not."""
    video = columns.index(_VIDEO) if _VIDEO in columns else None
    for place, value in _COLUMNS[kind]:
        if place in columns and value in columns:
            return columns.index(place), columns.index(value), video
    return None


def _json_table(raw: bytes) -> tuple[list[Any], list[Any]]:
    try:
        document = json.loads(raw.decode("utf-8-sig"))
    except RecursionError as fault:
        raise ValueError("too deep") from fault
    rows = document.get("rows")  # a report without data has none
    return [header["name"] for header in document["columnHeaders"]], [] if rows is None else rows


def _csv_table(raw: bytes, kind: Kind) -> tuple[list[Any], list[Any]]:
    text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    for delimiter in (",", "\t", ";"):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        columns = [name.strip() for name in next(reader, [])]
        if _named(columns, kind):
            return columns, [row for row in reader if any(cell.strip() for cell in row)]
    raise ValueError("not the columns of an export")


def load(path: Path, kind: Kind) -> dict[str | None, Rows]:
    """The (ratio, value) or (service, count) rows of a file by video; under None where it names no video.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is too large, or not an export; or another of youtube_records.BROKEN.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("too large")
    raw = path.read_bytes()
    try:
        columns, rows = _json_table(raw) if path.suffix == ".json" else _csv_table(raw, kind)
    except csv.Error as fault:
        raise ValueError("not a CSV") from fault
    named = _named(columns, kind)
    if named is None or any(not isinstance(row, list) or len(row) != len(columns) for row in rows):
        raise ValueError("not the columns of an export")
    place, value, video = named
    is_percent = columns[place] == _COLUMNS["retention"][1][0]
    found: dict[str | None, Rows] = defaultdict(list)
    pairs: Rows = [(row[place], row[value]) for row in rows]
    if kind == "retention":
        pairs = _points(pairs, from_text=path.suffix != ".json", unit=100 if is_percent else 1)
    for row, pair in zip(rows, pairs, strict=True):
        found[None if video is None else row[video]].append(pair)
    return dict(found)


def _points(pairs: Rows, *, from_text: bool, unit: int) -> Rows:
    """(ratio, value or None) from the cells of a retention."""
    if from_text:
        numbers = _plain_numbers([cell for pair in pairs for cell in pair])
    else:
        numbers = [raw_values.to_float(cell) for pair in pairs for cell in pair]
    points: Rows = []
    for ratio, value in zip(numbers[::2], numbers[1::2], strict=True):
        if ratio is None:
            raise ValueError("a point without its place")
        points.append((ratio / unit, None if value is None else value / unit))
    return points


def counts(rows: Rows) -> dict[str, int] | None:
    """Service -> count; None where there is none. A service that stands twice is refused: which is it?"""
    found: dict[str, int] = {}
    for service, value in rows:
        name, count = people.scrub(raw_values.to_text(service)), raw_values.to_count(value)
        if name is None or name in found:
            raise ValueError("no service, or one twice")
        if name != _TOTAL and count is not None:
            found[name] = count
    return found or None
