"""YouTube's trending lists as CSV: one row a video and day, in the schemas people pass on.

- 11 columns (2017): `comment_total`, and `date` "13.09", day and month without a year;
- 16 columns (2017 to 2018): `trending_date` "17.14.11" (yy.dd.mm), `comments_disabled`, `ratings_disabled`,
  `description`; and the one after it (2020 on) with `view_count`, `publishedAt`, `channelId`, ISO dates.

Spreadsheets have eaten ids ("-Ifnaxi2LQg" is gone, "24.09xcaeyJTx4Co" is two cells), so an id must have the
11 characters YouTube's have. Text in a wrong character set stays as it is. A 0 where ratings or comments are
disabled means hidden, not none. The same video on many days is as many posts with one id; their
`retrieved_utc` is the day, so that the last one counts. Called by the youtube source.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from behavior_llava.core.schema import Fault, Post
from behavior_llava.data import people, raw_values, youtube_records
from behavior_llava.data.json_lines import Block

_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("video_id",),
    "day": ("date", "trending_date"),
    "title": ("title",),
    "channel_title": ("channel_title", "channelTitle"),
    "channel_id": ("channelId",),
    "category": ("category_id", "categoryId"),
    "created": ("publish_time", "publishedAt"),
    "views": ("views", "view_count"),
    "likes": ("likes",),
    "comments": ("comment_total", "comment_count"),
    "comments_disabled": ("comments_disabled",),
    "ratings_disabled": ("ratings_disabled",),
    "is_gone": ("video_error_or_removed",),
    "description": ("description",),
}
"""Our name of a column and what it is called in the schemas."""

_NEEDED = ("id", "day", "title", "channel_title", "category", "views", "likes", "comments")
_VIDEO_ID = re.compile(r"[\w-]{11}", re.ASCII)
_DAY_MONTH = re.compile(r"(\d\d)\.(\d\d)")
_YEAR_DAY_MONTH = re.compile(r"(\d\d)\.(\d\d)\.(\d\d)")
_YEAR = re.compile(r"(?<!\d)(20[0-4]\d)(?!\d)")

BLOCK_BYTES = 4 * 2**20
_MAX_CELL_CHARS = 2**17
"""A longer cell is a quote that was never closed; descriptions have at most 5,000 characters."""
_MAX_LINE_BYTES = 2**20
"""A longer line is several broken rows, never held whole."""


def schema(columns: Sequence[str]) -> dict[str, int] | None:
    """Where our columns stand; None where these are not the columns of a trending list."""
    found = {ours: columns.index(name) for ours, names in _NAMES.items() for name in names if name in columns}
    return found if all(name in found for name in _NEEDED) else None


def year_of(name: str) -> int | None:
    """The year in a file's name; None where there is none, or more than one."""
    years = set(_YEAR.findall(name))
    return int(years.pop()) if len(years) == 1 else None


def _retrieved_utc(day: str, year: int | None) -> int | None:
    """Midnight of the day of the list; None where its year is not known."""
    day = day.strip()
    if found := _YEAR_DAY_MONTH.fullmatch(day):
        date = datetime(2000 + int(found[1]), int(found[3]), int(found[2]), tzinfo=UTC)
    elif found := _DAY_MONTH.fullmatch(day):
        # a leap year, so that 29.02 without a year is a day
        date = datetime(2000 if year is None else year, int(found[2]), int(found[1]), tzinfo=UTC)
        if year is None:
            return None
    elif not day or re.match(r"\d{4}-\d\d-\d\d", day):
        return raw_values.to_utc(day)
    else:
        raise ValueError("not a day")
    return int(date.timestamp())


def _words(text: str | None) -> str | None:
    """A description, whose collector wrote line breaks as a backslash and n: they would hide what follows
    from `people.scrub`.
    """
    return text if text is None else people.scrub(text.replace("\\r", "\n").replace("\\n", "\n"))


def _post(
    row: Mapping[str, str], year: int | None, salt: str, licence: str | None, where: str
) -> Post | Fault:
    identifier = row["id"].strip()
    if not _VIDEO_ID.fullmatch(identifier):
        return Fault("id_broken", where)
    no_comments, no_ratings, is_gone = (
        raw_values.to_bool(row.get(name)) for name in ("comments_disabled", "ratings_disabled", "is_gone")
    )
    likes, comments = raw_values.to_count(row["likes"]), raw_values.to_count(row["comments"])
    owner = (row.get("channel_id"), row["channel_title"])
    return Post(
        id=f"youtube:{identifier}",
        source="youtube",
        media_kind="video",
        channel=youtube_records.channel(*owner, salt),
        title=people.scrub(row["title"]),
        description=_words(row.get("description")),
        media_url=youtube_records.watch_url(identifier),
        created_utc=raw_values.to_utc(row.get("created")),
        retrieved_utc=_retrieved_utc(row["day"], year),
        num_likes=None if no_ratings else likes,
        num_views=raw_values.to_count(row["views"]),
        num_comments=None if no_comments else comments,
        category=youtube_records.category(row["category"]),
        comments_disabled=no_comments,
        author_hash=youtube_records.author(salt, *owner),
        removed_by="unknown" if is_gone else None,
        licence=licence,
    )


def parse(
    row: Mapping[str, str],
    *,
    year: int | None = None,
    salt: str = people.DEFAULT_SALT,
    licence: str | None = None,
    where: str = "",
) -> Post | Fault:
    """One row, its cells by our names, to a Post."""
    try:
        return _post(row, year, salt, licence, where)
    except youtube_records.BROKEN:
        return Fault("field_broken", where)


# ---- rows of a file ----------------------------------------------------------------------------------------


def _rows(file: BinaryIO, held: bytearray) -> Iterator[tuple[int, list[str] | None]]:
    """Line of its start (from 1) and cells of every row; None for one with a cell over the limit.

    A row is whole where the csv module says so, which reads line by line; what it took is in `held`. A byte
    that is no UTF-8 becomes half a surrogate pair and is found in its row.
    """

    def taken() -> Iterator[str]:
        while line := file.readline(_MAX_LINE_BYTES):
            held.extend(line)
            yield line.decode("utf-8", "surrogateescape")

    csv.field_size_limit(_MAX_CELL_CHARS)  # of the whole process: another reader may have set its own
    reader, line = csv.reader(taken()), 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error:  # the next row is read again
            yield line, None
        else:
            if cells is None:
                return
            yield line, cells
        line = reader.line_num + 1


def columns_of(head: bytes) -> tuple[str, ...]:
    """The cells of the first line of a file's beginning."""
    _, cells = next(_rows(io.BytesIO(head.removeprefix(b"\xef\xbb\xbf")), bytearray()), (1, None))
    return tuple(cell.strip() for cell in cells or ())


def blocks(path: Path, size: int = BLOCK_BYTES) -> Iterator[Block]:
    """The rows of a file in blocks of about `size` bytes that end where a row ends."""
    held, start = bytearray(), 1
    with path.open("rb") as file:
        for _ in _rows(file, held):
            if len(held) >= size:
                yield Block(path.name, start, bytes(held))
                start += held.count(b"\n")
                held.clear()
        if held:
            yield Block(path.name, start, bytes(held))


def _cells_fault(cells: list[str] | None, columns: Sequence[str]) -> str | None:
    if cells is None or len(cells) != len(columns):
        return "row_broken"
    if any("\ud800" <= letter <= "\udfff" for cell in cells if not cell.isascii() for letter in cell):
        return "not_utf8"
    return None


def parse_block(
    block: Block,
    columns: Sequence[str],
    *,
    year: int | None,
    salt: str,
    licence: str | None,
    where: str,
) -> Iterator[Post | Fault]:
    """Every row of a block; the file's first is its header."""
    places = schema(columns) or {}
    for offset, cells in _rows(io.BytesIO(block.data or b""), bytearray()):
        line = block.number + offset - 1
        if line == 1 or cells == []:
            continue
        place = f"{where}:{line}"
        fault = _cells_fault(cells, columns)
        if fault or cells is None:
            yield Fault(fault or "row_broken", place)
            continue
        row = {name: cells[index] for name, index in places.items()}
        yield parse(row, year=year, salt=salt, licence=licence, where=place)
