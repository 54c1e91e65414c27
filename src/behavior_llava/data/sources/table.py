"""Anyone's engagement log: CSV, TSV, Parquet or JSON lines, here or in s3 or gs, and a map to its columns.

    path: s3://our-logs/likes/day=*/part-*.parquet
    columns: {id: photo_id, media_path: file, num_likes: likes, reactions.love: num_loves, comments: replies}
    min_cohort: 50

Nothing is guessed from column names, and nothing is fetched. A blank cell is null; a cell that does not hold
what its field needs makes the row a Fault.

A log that grows by a file a day is read a day at a time: what an unchanged file gave is kept. Counts are
those of a post up to then, as platforms show them: of several rows of one post the one that was read last is
kept (`retrieved_utc`, from a column or from the day in the path), and the rest are counted "duplicate_id". A
log of each day's additions (12 likes more) has to be summed first, e.g. with GROUP BY id.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Comment, Curve, Fault, MediaKind, Part, Post, Source
from behavior_llava.data import people, raw_values, stores, table_rows


def _seconds(value: Any) -> float | None:
    """How long something lasts."""
    seconds = raw_values.to_float(value)
    if seconds is not None and seconds < 0:
        raise ValueError(f"negative time: {seconds}")
    return seconds


NUMBER_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "duration_s": _seconds,
    "created_utc": raw_values.to_utc,
    "retrieved_utc": raw_values.to_utc,
    "score": raw_values.to_int,
    "upvote_ratio": raw_values.to_share,
    "num_likes": raw_values.to_count,
    "num_views": raw_values.to_count,
    "num_impressions": raw_values.to_count,
    "num_comments": raw_values.to_count,
    "recall": raw_values.to_share,
    "recall_delay_s": _seconds,
}
TEXT_FIELDS = ("title", "description", "transcript", "category")
WORD_FIELDS = ("channel", "media_url", "language", "removed_by", "licence")
CLAIM_FIELDS = ("is_nsfw", "comments_disabled", "has_consent", "is_opted_out")
REFUSALS: Mapping[str, bool] = {"has_consent": False, "is_opted_out": True}
"""Claims with which people refuse, and what they say then."""
CURVE_FIELDS = ("replay", "retention")
COUNT_FIELDS = ("shares", "reactions")
SHARE_FIELD = "saliency_objects"
DOTTED_FIELDS = (*COUNT_FIELDS, SHARE_FIELD)
NUM_TILES = 9
MEDIA_FIELDS = ("media_path", "media_url", "media_kind")
COHORT = "cohort"
_OURS = ("source", "author_kind", "chapters", "adjusted", "is_synthetic")
FIELDS = (*(field.name for field in fields(Post) if field.name not in _OURS), COHORT)

_KINDS: Mapping[str, MediaKind] = {"image": "image", "photo": "image", "video": "video"}
_HIVE_DAY = "/day=%Y-%m-%d/"
_DAY_CODES = {"%Y": r"(?P<Y>\d{4})", "%m": r"(?P<m>\d\d)", "%d": r"(?P<d>\d\d)"}
_HIVE_KEY = re.compile(r"([^/=]+)=([^/]*)/")
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
DAY_S = 86_400


class Config(BaseModel):
    """Settings of the table source.

    Attributes:
        path: a table (.csv, .tsv, .parquet, .jsonl or .ndjson; all but Parquet also as .gz, .zst or .bz2), a
            folder with tables of one kind, or wildcards such as logs/2026-*.csv and logs/**/*.parquet; on
            this machine or as s3://bucket/... or gs://bucket/..., with the environment's credentials.
        columns: Post field -> column. `id` is required, and one of `media_path`, `media_url`, `media_kind`.
            `shares.<service>` and `reactions.<kind>` take a column each; `comments` takes one text or a list
            of texts; `replay` and `retention` take a list of values over equal stretches of `duration_s`, in
            CSV as JSON; `saliency_tiles` takes a list of nine counts or shares, row by row, in CSV as JSON,
            and makes shares of it; `saliency_objects.<name>` takes the share of looks at it, 0..1, as it is;
            `recall` takes the share of viewers who knew it again, 0..1, and `recall_delay_s` the seconds till
            then; `has_consent` and `is_opted_out` take claims as `is_nsfw` does, and collect keeps no row
            that says no to the one or yes to the other, nor one where nobody can read what it says: that is a
            refusal, too, and is counted as "unreadable_claim"; `author_hash` takes the name and keeps its
            hash; `media_kind` takes "image", "photo" or "video", other words are "not_media"; without it the
            suffix of the path or the URL decides; `cohort` takes how many people a row's counts come from. A
            key of the path (`channel=pics/`) counts as a column where the file has none of that name.
        claims: words of claims besides yes, no, y, n, true, false, t, f, on, off, 1 and 0, in any case of
            letters, and what they say: {ja: true, nein: false, unknown: null}; null says nothing.
        media: folder that media paths are relative to; by default the table's own, the folder that was
            searched, or what stands before the wildcards. A path that leads out of it is a Fault.
        min_cohort: rows whose counts come from fewer people, or from nobody knows how many, are refused as
            "cohort_too_small": a small group points to persons. Without a `cohort` column `num_views` counts,
            or where that has no column `num_impressions`.
        day_in_path: where the day is in a file's path, with %Y, %m and %d, e.g. "%Y/%m/%d" or
            "likes-%Y%m%d"; "day=2026-11-24" is known. Rows without `retrieved_utc` were read at its end.
        platform: the first part of every post's id.
        licence: of the table, where no column gives it.
        salt: of the authors' hashes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path | str
    columns: dict[str, str]
    claims: dict[str, bool | None] = Field(default_factory=dict)
    media: Path | None = None
    min_cohort: int | None = Field(default=None, ge=1, validate_default=True)
    day_in_path: str | None = None
    platform: str = "table"
    licence: str | None = None
    salt: str = people.DEFAULT_SALT

    @field_validator("path")
    @classmethod
    def _path_where_it_is_one(cls, path: Path | str) -> Path | str:
        return Path(path) if stores.is_plain(str(path)) else str(path)

    @field_validator("columns")
    @classmethod
    def _known_fields(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in columns:
            head, dot, kind = name.partition(".")
            if head not in FIELDS or (dot and (head not in DOTTED_FIELDS or not kind)):
                near = difflib.get_close_matches(name, FIELDS, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ValueError(f"no Post field {name!r}; {hint}There are: {', '.join(FIELDS)}")
        if "id" not in columns:
            raise ValueError("columns must name a column for id")
        if not any(name in columns for name in MEDIA_FIELDS):
            raise ValueError("columns must name a column for media_path, media_url or media_kind")
        return columns

    @field_validator("claims")
    @classmethod
    def _words_say_one_thing(cls, claims: dict[str, bool | None]) -> dict[str, bool | None]:
        found: dict[str, bool | None] = {}
        for name, said in claims.items():
            word = name.strip().casefold()
            if not word:
                raise ValueError("a blank word, which says nothing already")
            if word in found:
                raise ValueError(f"{word!r} stands twice")
            try:
                known = _claim(word, {})
            except ValueError:
                known = said
            if known is not said:
                raise ValueError(f"{word!r} is known and says {known}")
            found[word] = said
        return found

    @field_validator("min_cohort")
    @classmethod
    def _cohort_is_told(cls, size: int | None, info: ValidationInfo) -> int | None:
        columns = info.data.get("columns", {})
        if size is not None and not any(name in columns for name in (COHORT, "num_views", "num_impressions")):
            raise ValueError("min_cohort needs a column for cohort, num_views or num_impressions")
        if size is None and COHORT in columns:
            raise ValueError("columns names a cohort, and min_cohort says no size")
        return size

    @field_validator("day_in_path")
    @classmethod
    def _day_is_whole(cls, pattern: str | None) -> str | None:
        if pattern is not None and any(pattern.count(code) != 1 for code in _DAY_CODES):
            raise ValueError("day_in_path needs %Y, %m and %d once each")
        return pattern


# ---- one row -----------------------------------------------------------------------------------------------


class _Unreadable(ValueError):
    """A cell that does not hold what its field needs; its text is the Fault's reason."""


_NO_VALUE = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)


def _cell(reason: str, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except _NO_VALUE as fault:
        raise _Unreadable(reason) from fault


def _plain(value: Any) -> str | None:
    """An id, a path or a word: text or a whole number, without blanks around; None for blank."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = raw_values.to_text(value)
    if text and "\x00" in text:
        raise ValueError("a word with a NUL")
    return (text.strip() or None) if text else None


_CLAIM_WORDS = {"y": True, "t": True, "on": True, "n": False, "f": False, "off": False}


def _claim(value: Any, own: Mapping[str, bool | None]) -> bool | None:
    """What a claim says, by the table's own words and those everybody knows; None where it says nothing."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float) and math.isnan(value):  # how pandas writes a missing claim
        return None
    word = str(value).strip().casefold()
    for words in (own, _CLAIM_WORDS):
        if word in words:
            return words[word]
    return raw_values.to_bool(value)


def _text(value: Any) -> str | None:
    """What a person wrote, scrubbed."""
    return people.scrub(value if value is None or isinstance(value, str) else raw_values.to_text(value))


def _opened(value: Any) -> Any:
    """A list or mapping; CSV cells hold it as JSON. None for blank."""
    if isinstance(value, str):
        return json.loads(value) if value.strip() else None
    return value


def _curve(value: Any, duration_s: float | None) -> Curve | None:
    """Values over equal stretches of the video; a retention may exceed 1."""
    values = _opened(value)
    if values is None or values == []:
        return None
    if not isinstance(values, list):
        raise ValueError("a curve is a list of numbers")
    numbers = [raw_values.to_float(item) for item in values]
    if duration_s is None or any(number is None or number < 0 for number in numbers):
        raise ValueError("a curve needs duration_s and numbers from 0 up")
    edges = [duration_s * index / len(numbers) for index in range(len(numbers) + 1)]
    return Curve(tuple(edges[:-1]), tuple(edges[1:]), tuple(number or 0.0 for number in numbers))


def _tiles(value: Any) -> tuple[float, ...] | None:
    """Shares of nine tiles, which add up to 1, from shares or counts."""
    values = _opened(value)
    if values is None or values == []:
        return None
    if not isinstance(values, list) or len(values) != NUM_TILES:
        raise ValueError(f"a list of {NUM_TILES} numbers")
    numbers = [raw_values.to_float(item) for item in values]
    if any(number is None or number < 0 for number in numbers):
        raise ValueError("a tile without a number from 0 up")
    total = sum(number or 0.0 for number in numbers)
    if not total:
        raise ValueError("nobody looked anywhere")
    return tuple((number or 0.0) / total for number in numbers)


def _by_kind(record: Mapping[str, Any], name: str, convert: Callable[[Any], Any]) -> dict[str, Any] | None:
    """Kind -> number from one mapping and from dotted columns; null numbers are left out."""
    opened = _opened(record.get(name))
    pairs = [] if opened is None else [(raw_values.to_text(kind), value) for kind, value in opened.items()]
    pairs += [(key.partition(".")[2], value) for key, value in record.items() if key.startswith(name + ".")]
    numbers = {kind: convert(value) for kind, value in pairs}
    return {kind: number for kind, number in numbers.items() if kind and number is not None} or None


def _comments(value: Any) -> tuple[Comment, ...]:
    """One comment a text; ids are positions. Blank texts are no comments."""
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(texts, list):
        raise ValueError("comments are a text or a list of texts")
    said = ((index, _text(text)) for index, text in enumerate(texts))
    return tuple(
        Comment(id=str(index), text=text, author_kind=people.author_kind(None, text))
        for index, text in said
        if text
    )


def _kind(record: Mapping[str, Any], path: str | None, url: str | None) -> MediaKind | None:
    """What the row says it is, or else what the suffix of its file or address says; None for neither."""
    word = _cell("not_a_text", _plain, record.get("media_kind"))
    if word is not None:
        return _KINDS.get(word.lower())
    if path is not None:
        return raw_values.media_kind(path)
    return None if url is None else raw_values.media_kind(_cell("url_broken", urlsplit, url).path)


def _check_cohort(record: Mapping[str, Any], values: Mapping[str, Any], min_cohort: int) -> None:
    if COHORT in record:
        size = _cell("not_a_number", raw_values.to_count, record[COHORT])
    else:
        size = values.get("num_views" if "num_views" in record else "num_impressions")
    if size is None or size < min_cohort:
        raise _Unreadable("cohort_too_small")


def _is_unreadable(record: Mapping[str, Any], name: str, own: Mapping[str, bool | None]) -> bool:
    try:
        _claim(record.get(name), own)
    except _NO_VALUE:
        return True
    return False


def _refused(record: Mapping[str, Any], own: Mapping[str, bool | None], platform: str) -> Post | None:
    """The bare post of a row that says no, or something nobody can read: heard whatever else is wrong with
    the row. None for all others.
    """
    claims = {
        name: refusal if _is_unreadable(record, name, own) else _claim(record.get(name), own)
        for name, refusal in REFUSALS.items()
    }
    if all(claims[name] is not refusal for name, refusal in REFUSALS.items()):
        return None
    try:
        retrieved_utc = _cell("not_a_number", raw_values.to_utc, record.get("retrieved_utc"))
    except _Unreadable:
        retrieved_utc = None
    # the kind of media is nobody's business any more: collect drops the post and keeps what it said
    return Post(
        id=_id(record, platform),
        source="table",
        media_kind="image",
        retrieved_utc=retrieved_utc,
        has_consent=claims["has_consent"],
        is_opted_out=claims["is_opted_out"],
    )


def _id(record: Mapping[str, Any], platform: str) -> str:
    identifier = _cell("id_broken", _plain, record.get("id"))
    if identifier is None:
        raise _Unreadable("id_missing")
    return f"{platform}:{identifier}"


def _post(
    record: Mapping[str, Any],
    platform: str,
    salt: str,
    licence: str | None,
    min_cohort: int | None,
    claims: Mapping[str, bool | None],
) -> Post:
    post_id = _id(record, platform)
    if (refused := _refused(record, claims, platform)) is not None:
        return refused

    def read(names: tuple[str, ...], reason: str, convert: Callable[[Any], Any]) -> None:
        for name in names:
            if name in record:
                values[name] = _cell(reason, convert, record[name])

    values: dict[str, Any] = {}
    path = _cell("path_broken", _plain, record.get("media_path"))
    read(WORD_FIELDS, "not_a_text", _plain)
    kind = _kind(record, path, values.get("media_url"))
    if kind is None:
        raise _Unreadable("not_media")
    for name, convert in NUMBER_FIELDS.items():
        read((name,), "not_a_number", convert)
    if min_cohort is not None:
        _check_cohort(record, values, min_cohort)
    read(TEXT_FIELDS, "not_a_text", _text)
    read(CLAIM_FIELDS, "not_a_boolean", partial(_claim, own=claims))
    read(CURVE_FIELDS, "curve_broken", lambda value: _curve(value, values.get("duration_s")))
    read(("saliency_tiles",), "tiles_broken", _tiles)
    for name in DOTTED_FIELDS:
        number = raw_values.to_share if name == SHARE_FIELD else raw_values.to_count
        values[name] = _cell("not_a_number", partial(_by_kind, record, convert=number), name)
    values["licence"] = values.get("licence") or licence
    author = _cell("not_a_text", _plain, record.get("author_hash"))
    return Post(
        id=post_id,
        source="table",
        media_kind=kind,
        media_path=path,
        author_hash=people.hash_author(author, salt, platform),
        author_kind=people.author_kind(author, values.get("title")),
        comments=_cell("not_a_text", _comments, record.get("comments")),
        **values,
    )


def parse(
    record: Mapping[str, Any],
    *,
    platform: str = "table",
    salt: str = people.DEFAULT_SALT,
    licence: str | None = None,
    min_cohort: int | None = None,
    claims: Mapping[str, bool | None] = MappingProxyType({}),
    where: str = "",
) -> Post | Fault:
    """One row, its cells by Post field, to a Post whose media path is still as the table gives it.

    Of a row that refuses, or whose refusal cannot be read, the bare post.
    """
    try:
        return _post(record, platform, salt, licence, min_cohort, claims)
    except _Unreadable as fault:
        return Fault(str(fault), where)


# ---- files -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of one table, with what its path says of all of them.

    Attributes:
        name: of the table, as it names its rows. media: the folder of media paths; None where there are none.
        given: keys of the path, e.g. {"channel": "pics"}. retrieved_utc: the end of the day in the path.
    """

    name: str
    media: Path | None
    rows: table_rows.Piece
    given: Mapping[str, str | None]
    retrieved_utc: int | None

    def __len__(self) -> int:
        return len(self.rows)


def list_parts(config: Config, folder: Path) -> Iterator[Part]:
    """The tables, in the order of their names.

    Raises:
        UserError: where there is none, there are several kinds, or media paths have no folder.
    """
    media = config.media or stores.folder_of(config.path)
    if "media_path" in config.columns and media is None:
        raise UserError(
            "a table in a store, and no folder for its media",
            where=stores.place_of(config.path),
            remedy="set media to a folder of this machine, or name a column for media_url instead",
        )
    if config.media is not None and not config.media.is_dir():
        raise UserError("no such folder", where=config.media, remedy="set media to the folder of the media")
    files = stores.find(config.path, table_rows.is_table)
    kinds = sorted({file.suffix for file in files})
    if len(kinds) > 1:
        raise UserError(
            f"holds tables of several kinds: {', '.join(kinds)}",
            where=stores.place_of(config.path),
            remedy=f"name those that are meant, e.g. with **/*{kinds[0]}",
        )
    for file in files:
        _retrieved_utc(config, file)  # a path without its day is refused before anything is read
        yield Part(file.key, file)


def pieces(config: Config, part: Part) -> Iterator[Piece]:
    """A table's rows in pieces.

    Raises:
        UserError: where it cannot be read, is of another kind, or lacks a column of the map.
    """
    file: stores.File = part.content
    media = (config.media or stores.folder_of(config.path)) if "media_path" in config.columns else None
    given = _given(file)
    retrieved_utc = _retrieved_utc(config, file)
    for rows in table_rows.cut(file, list(config.columns.values()), given):
        yield Piece(file.name, media, rows, given, retrieved_utc)


def _given(file: stores.File) -> dict[str, str | None]:
    """The keys in a path's folders, as engines write them: channel=pics/day=2026-11-24/."""
    found = _HIVE_KEY.findall(file.place.path)
    return {unquote(key): None if value == _HIVE_NULL else unquote(value) for key, value in found}


def _retrieved_utc(config: Config, file: stores.File) -> int | None:
    """The last second of the day in a file's path; None where there is none to look for.

    Raises:
        UserError: where the config says there is a day and there is none.
    """
    pattern = re.escape(config.day_in_path or _HIVE_DAY)
    for code, digits in _DAY_CODES.items():
        pattern = pattern.replace(re.escape(code), digits)
    # the last one: it stands nearest to the file
    for found in reversed(list(re.finditer(pattern, f"/{file.place.path}"))):
        try:
            day = datetime(int(found["Y"]), int(found["m"]), int(found["d"]), tzinfo=UTC)
        except ValueError:  # no day: 2026-13-45
            continue
        return int(day.timestamp()) + DAY_S - 1
    if config.day_in_path is None:
        return None
    raise UserError(
        f"no day in the path as day_in_path says ({config.day_in_path})",
        where=file.place,
        remedy="correct day_in_path, or leave the file out",
    )


def read(config: Config, piece: Piece) -> Iterator[Post | Fault]:
    """A post or a Fault for each row; beside a refusal that could not be read, its Fault, too."""
    for number, row in piece.rows.rows():
        where = f"{piece.name}:{number}"
        if isinstance(row, str) and not isinstance(row, table_rows.BrokenRow):
            yield Fault(row, where)
            continue
        cells = row if isinstance(row, dict) else row.cells
        record = {
            field: cells[column] if column in cells else piece.given.get(column)
            for field, column in config.columns.items()
        }
        post = (
            _row(config, record, where) if isinstance(row, dict) else _of_broken(config, record, row, where)
        )
        if isinstance(post, Post):
            if post.retrieved_utc is None and piece.retrieved_utc is not None:
                post = replace(post, retrieved_utc=piece.retrieved_utc)
            if post.media_path is not None and piece.media is not None:
                post = _resolved(post, piece.media, where)
        yield post
        if isinstance(post, Post) and any(_is_unreadable(record, name, config.claims) for name in REFUSALS):
            yield Fault("unreadable_claim", where)


def _row(config: Config, record: Mapping[str, Any], where: str) -> Post | Fault:
    return parse(
        record,
        platform=config.platform,
        salt=config.salt,
        licence=config.licence,
        min_cohort=config.min_cohort,
        claims=config.claims,
        where=where,
    )


def _of_broken(config: Config, record: Mapping[str, Any], reason: str, where: str) -> Post | Fault:
    """What a row with a broken cell refuses, or the Fault it is."""
    try:
        refused = _refused(record, config.claims, config.platform)
    except _Unreadable:  # nobody can tell whose it is
        refused = None
    return Fault(str(reason), where) if refused is None else refused


def _resolved(post: Post, media: Path, where: str) -> Post | Fault:
    """The post with the whole path of its media, whether the file is there by now or not."""
    name = post.media_path or ""
    try:
        path = raw_values.file_inside(media, name) or media.resolve() / name
    except ValueError:
        return Fault("media_outside", where)
    return replace(post, media_path=str(path))


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
    (
        {
            "id": 8,
            "media_url": "https://example.org/b.mp4?size=large",
            "num_impressions": 900,
            "category": "Music",
            "language": "en",
            "comments_disabled": "no",
            "duration_s": "4",
            "retention": "[1.1, 0.5]",
            "shares.mail": "3",
            "shares.copy": "",
        },
        Post(
            id="table:8",
            source="table",
            media_kind="video",
            media_url="https://example.org/b.mp4?size=large",
            num_impressions=900,
            category="Music",
            language="en",
            comments_disabled=False,
            duration_s=4.0,
            retention=Curve((0.0, 2.0), (2.0, 4.0), (1.1, 0.5)),
            shares={"mail": 3},
        ),
    ),
    ({"id": "7", "media_path": "a.jpg", "num_likes": "2,4"}, "not_a_number"),
    ({"id": "", "media_path": "a.jpg"}, "id_missing"),
    ({"id": "7", "media_path": "a.txt"}, "not_media"),
    ({"id": "7", "media_kind": "status"}, "not_media"),
    ({"id": "7", "media_path": "a.mp4", "is_nsfw": "perhaps"}, "not_a_boolean"),
    (
        {"id": "7", "media_path": "a.mp4", "is_opted_out": "perhaps", "title": "what they wrote"},
        Post(id="table:7", source="table", media_kind="image", is_opted_out=True),
    ),
)

SOURCE = Source(config=Config, parts=list_parts, pieces=pieces, read=read, parse=parse, examples=EXAMPLES)
