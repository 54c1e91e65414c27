"""Anyone's engagement log: a CSV, TSV, Parquet or JSONL table and a map from Post fields to its columns.

    columns: {id: photo_id, media_path: file, num_likes: likes, reactions.love: num_loves, comments: replies}

Nothing is guessed from column names, and nothing is fetched. A blank cell is null; a cell that does not hold
what its field needs makes the row a Fault.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, field_validator

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Comment, Curve, Fault, Post, Source
from behavior_llava.data import people, raw_values, table_rows
from behavior_llava.data.scratch import scratch

NUMBER_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "duration_s": raw_values.to_float,
    "created_utc": raw_values.to_utc,
    "retrieved_utc": raw_values.to_utc,
    "score": raw_values.to_int,
    "upvote_ratio": raw_values.to_share,
    "num_likes": raw_values.to_count,
    "num_views": raw_values.to_count,
    "num_comments": raw_values.to_count,
}
TEXT_FIELDS = ("title", "description", "transcript")
WORD_FIELDS = ("channel", "media_url", "removed_by", "licence")
CURVE_FIELDS = ("replay", "retention")
COUNT_FIELDS = ("shares", "reactions")
_OURS = ("source", "media_kind", "author_kind", "is_synthetic")
FIELDS = tuple(field.name for field in fields(Post) if field.name not in _OURS)


class Config(BaseModel):
    """Settings of the table source.

    Attributes:
        path: the table: .csv, .tsv, .parquet, .jsonl or .ndjson.
        media: folder that media paths are relative to; the table's own by default. A path that leads out of
            it is a Fault.
        columns: Post field -> column. `id` and `media_path` are required; `shares.<service>` and
            `reactions.<kind>` take a column each; `comments` takes one text or a list of texts; `replay` and
            `retention` take a list of values over equal stretches of `duration_s`; `author_hash` takes the
            name and keeps its hash.
        platform: the first part of every post's id.
        licence: of the table, where no column gives it.
        salt: of the authors' hashes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    media: Path | None = None
    columns: dict[str, str]
    platform: str = "table"
    licence: str | None = None
    salt: str = people.DEFAULT_SALT

    @field_validator("columns")
    @classmethod
    def _known_fields(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in columns:
            head, dot, kind = name.partition(".")
            if head not in FIELDS or (dot and (head not in COUNT_FIELDS or not kind)):
                near = difflib.get_close_matches(name, FIELDS, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ValueError(f"no Post field {name!r}; {hint}There are: {', '.join(FIELDS)}")
        missing = [name for name in ("id", "media_path") if name not in columns]
        if missing:
            raise ValueError(f"columns must name a column for {' and '.join(missing)}")
        return columns


class _Unreadable(ValueError):
    """A cell that does not hold what its field needs; its text is the Fault's reason."""


def _cell(reason: str, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except (ValueError, TypeError, AttributeError) as fault:
        raise _Unreadable(reason) from fault


def _plain(value: Any) -> str | None:
    """An id, a path or a word: text or a whole number, without blanks around; None for blank."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = raw_values.to_text(value)
    return (text.strip() or None) if text else None


def _opened(value: Any) -> Any:
    """A list or mapping; CSV cells hold it as JSON. None for blank."""
    if isinstance(value, str):
        return json.loads(value) if value.strip() else None
    return value


def _curve(value: Any, duration_s: float | None) -> Curve | None:
    """Values over equal stretches of the video; a retention may exceed 1."""
    values = _opened(value)
    if not values:
        return None
    numbers = [raw_values.to_float(item) for item in values]
    if duration_s is None or any(number is None or number < 0 for number in numbers):
        raise ValueError("a curve needs duration_s and numbers from 0 up")
    edges = [duration_s * index / len(numbers) for index in range(len(numbers) + 1)]
    return Curve(tuple(edges[:-1]), tuple(edges[1:]), tuple(number or 0.0 for number in numbers))


def _counts(record: Mapping[str, Any], name: str) -> dict[str, int] | None:
    """Kind -> count from one mapping and from dotted columns; null counts are left out."""
    pairs = list((_opened(record.get(name)) or {}).items())
    pairs += [(key.partition(".")[2], value) for key, value in record.items() if key.startswith(name + ".")]
    counts = {kind: raw_values.to_count(value) for kind, value in pairs}
    return {kind: count for kind, count in counts.items() if count is not None} or None


def _comments(value: Any) -> tuple[Comment, ...]:
    """One comment a text; ids are positions. Blank texts are no comments."""
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list):
        raise ValueError("comments are a text or a list of texts")
    said = ((index, people.scrub(raw_values.to_text(text))) for index, text in enumerate(texts))
    return tuple(
        Comment(id=str(index), text=text, author_kind=people.author_kind(None, text))
        for index, text in said
        if text
    )


def _post(record: Mapping[str, Any], platform: str, salt: str, licence: str | None) -> Post:
    identifier, path = (_cell("id_broken", _plain, record.get(name)) for name in ("id", "media_path"))
    if identifier is None:
        raise _Unreadable("id_missing")
    kind = raw_values.media_kind(path or "")
    if kind is None:
        raise _Unreadable("not_media")
    values = {name: _cell("not_a_number", to, record.get(name)) for name, to in NUMBER_FIELDS.items()}
    values |= {name: _cell("not_a_text", people.scrub, record.get(name)) for name in TEXT_FIELDS}
    values |= {name: _cell("not_a_text", _plain, record.get(name)) for name in WORD_FIELDS}
    values |= {
        name: _cell("curve_broken", lambda value: _curve(value, values["duration_s"]), record.get(name))
        for name in CURVE_FIELDS
    }
    values |= {
        name: _cell("not_a_number", lambda field: _counts(record, field), name) for name in COUNT_FIELDS
    }
    values["licence"] = values["licence"] or licence
    author = _cell("not_a_text", _plain, record.get("author_hash"))
    return Post(
        id=f"{platform}:{identifier}",
        source="table",
        media_kind=kind,
        media_path=path,
        is_nsfw=_cell("not_a_boolean", raw_values.to_bool, record.get("is_nsfw")),
        author_hash=people.hash_author(author, salt),
        author_kind=people.author_kind(author, values["title"]),
        comments=_cell("not_a_text", _comments, record.get("comments")),
        **values,
    )


def parse(
    record: Mapping[str, Any],
    *,
    platform: str = "table",
    salt: str = people.DEFAULT_SALT,
    licence: str | None = None,
    where: str = "",
) -> Post | Fault:
    """One row, its cells by Post field, to a Post whose media path is still as the table gives it."""
    try:
        return _post(record, platform, salt, licence)
    except _Unreadable as fault:
        return Fault(str(fault), where)


def _check_columns(config: Config, columns: list[str]) -> None:
    for name in config.columns.values():
        if columns.count(name) == 1:
            continue
        near = difflib.get_close_matches(name, columns, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        found = (
            f"no column {name!r}" if name not in columns else f"{columns.count(name)} columns called {name!r}"
        )
        raise UserError(found, where=config.path, remedy=f"{hint}There are: {', '.join(columns)}")


def _resolved(post: Post, media: Path, where: str) -> Post | Fault:
    try:
        path = raw_values.file_inside(media, post.media_path or "")
    except ValueError:
        return Fault("media_outside", where)
    return replace(post, media_path=None if path is None else str(path))


def read(config: Config, folder: Path) -> Iterator[Post | Fault]:
    """Every row of the table; an id found twice is a Fault "duplicate_id" the second time.

    Raises:
        UserError: where the table cannot be read, is of another kind, or lacks a column of the map.
    """
    media = config.media or config.path.parent
    if not config.path.is_file() or not media.is_dir():
        missing = media if config.path.is_file() else config.path
        raise UserError("no such file or folder", where=missing, remedy="check path and media")
    try:
        columns, rows = table_rows.open_table(config.path, list(config.columns.values()))
        _check_columns(config, columns)
        with scratch(folder) as store:
            for number, row in rows:
                where = f"{config.path.name}:{number}"
                if isinstance(row, str):
                    yield Fault(row, where)
                    continue
                record = {field: row.get(column) for field, column in config.columns.items()}
                post = parse(
                    record, platform=config.platform, salt=config.salt, licence=config.licence, where=where
                )
                if isinstance(post, Post):
                    post = (
                        _resolved(post, media, where)
                        if store.is_new(post.id)
                        else Fault("duplicate_id", where)
                    )
                yield post
    except (pa.ArrowException, OSError, UnicodeDecodeError, csv.Error) as fault:
        raise UserError(
            f"cannot be read ({fault})", where=config.path, remedy="write the table again"
        ) from fault


EXAMPLES = (
    (
        {"id": "7", "media_path": "a.jpg", "num_likes": "2,426", "comments": ["mail me: a@b.org", ""]},
        Post(
            id="table:7",
            source="table",
            media_kind="image",
            media_path="a.jpg",
            num_likes=2426,
            comments=(Comment(id="0", text="mail me: <email>"),),
        ),
    ),
    ({"id": "7", "media_path": "a.jpg", "num_likes": "2,4"}, "not_a_number"),
    ({"id": "", "media_path": "a.jpg"}, "id_missing"),
    ({"id": "7", "media_path": "a.txt"}, "not_media"),
    ({"id": "7", "media_path": "a.mp4", "is_nsfw": "perhaps"}, "not_a_boolean"),
)

SOURCE = Source(config=Config, read=read, parse=parse, examples=EXAMPLES)
