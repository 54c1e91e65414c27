"""YouTube videos as yt-dlp left them: `*.info.json` beside the media and subtitle files.

    yt-dlp --write-info-json --write-comments --write-subs --write-auto-subs ...

Files come from a person; nothing is fetched. A post has what yt-dlp found: most small channels have no
heatmap, a hidden like count is null, and the comments are a part of `num_comments`. The order is the file
system's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Comment, Curve, Fault, Post, Source
from behavior_llava.data import json_lines, people, raw_values, subtitles
from behavior_llava.data.scratch import scratch


class Config(BaseModel):
    """Settings of the youtube source.

    Attributes:
        path: folder, searched with its subfolders, of `<name>.info.json` files; media and subtitles stand
            beside them as `<name>` or `<id>` with .mp4, .webm, .mkv and `.<language>.vtt`, `.<language>.srt`.
        licence: of the videos' behaviour and texts, as it goes into the ledger.
        salt: of the authors' hashes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    licence: str | None = None
    salt: str = people.DEFAULT_SALT


MAX_INFO_BYTES = 512 * 2**20
"""An info.json is held whole; half a million comments stay below this."""

_SUFFIX = ".info.json"
_VIDEO_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_CHANNEL_ID = re.compile(r"UC[\w-]{22}", re.ASCII)
_LANGUAGE = re.compile(r"[A-Za-z][\w-]{1,30}", re.ASCII)


def _replay(heatmap: Sequence[Mapping[str, Any]] | None) -> Curve | None:
    """The most-replayed curve; None where YouTube shows none."""
    if not heatmap:
        return None
    starts, ends, values = [], [], []
    for segment in heatmap:
        start, end = raw_values.to_float(segment["start_time"]), raw_values.to_float(segment["end_time"])
        value = raw_values.to_share(segment["value"])
        if start is None or end is None or value is None or end < start or (starts and start < starts[-1]):
            raise ValueError("heatmap segments are not in order or not complete")
        starts.append(start)
        ends.append(end)
        values.append(value)
    return Curve(tuple(starts), tuple(ends), tuple(values))


def _comment(raw: Mapping[str, Any], salt: str) -> Comment:
    parent = raw_values.to_text(raw.get("parent"))
    author, text = raw.get("author"), raw.get("text")
    identifier = raw_values.to_text(raw["id"])
    if not identifier:
        raise ValueError("comment without an id")
    return Comment(
        id=identifier,
        text=people.scrub(text),
        score=raw_values.to_count(raw.get("like_count")),
        author_hash=people.hash_author(raw.get("author_id") or author, salt),
        author_kind=people.author_kind((author or "").removeprefix("@"), text),
        parent_id=None if parent in (None, "root") else parent,
        created_utc=raw_values.to_utc(raw.get("timestamp")),
        is_pinned=raw_values.to_bool(raw.get("is_pinned")),
    )


def _comments(raw: Sequence[Mapping[str, Any]] | None, salt: str) -> tuple[Comment, ...]:
    comments = (_comment(comment, salt) for comment in raw or ())
    return tuple({comment.id: comment for comment in comments}.values())  # continued downloads repeat some


def _created_utc(info: Mapping[str, Any]) -> int | None:
    if info.get("timestamp") is not None:
        return raw_values.to_utc(info["timestamp"])
    if not info.get("upload_date"):
        return None
    return int(datetime.strptime(info["upload_date"], "%Y%m%d").replace(tzinfo=UTC).timestamp())


def _channel(info: Mapping[str, Any], salt: str) -> str | None:
    """The channel's id, or the hash of its name where there is none: names and handles never pass."""
    identifier = info.get("channel_id")
    if identifier and _CHANNEL_ID.fullmatch(identifier):
        return identifier
    return people.hash_author(identifier or info.get("channel") or info.get("uploader"), salt)


def _post(info: Mapping[str, Any], salt: str, licence: str | None) -> Post:
    age_limit = raw_values.to_int(info.get("age_limit"))
    return Post(
        id=f"youtube:{info['id']}",
        source="youtube",
        media_kind="video",
        channel=_channel(info, salt),
        title=people.scrub(info.get("title")),
        description=people.scrub(info.get("description")),
        media_url=f"https://www.youtube.com/watch?v={info['id']}",
        duration_s=raw_values.to_float(info.get("duration")),
        created_utc=_created_utc(info),
        retrieved_utc=raw_values.to_utc(info.get("epoch")),
        num_likes=raw_values.to_count(info.get("like_count")),
        num_views=raw_values.to_count(info.get("view_count")),
        num_comments=raw_values.to_count(info.get("comment_count")),
        replay=_replay(info.get("heatmap")),
        is_nsfw=None if age_limit is None else age_limit >= 18,
        author_hash=people.hash_author(
            info.get("uploader_id") or info.get("channel_id") or info.get("channel"), salt
        ),
        licence=licence,
        comments=_comments(info.get("comments"), salt),
    )


def parse(
    info: Mapping[str, Any], *, salt: str = people.DEFAULT_SALT, licence: str | None = None, where: str = ""
) -> Post | Fault:
    """One info.json to a Post without media path and transcript; a playlist's is a Fault "not_a_video"."""
    try:
        if info.get("_type", "video") != "video":
            return Fault("not_a_video", where)
        if not _VIDEO_ID.fullmatch(info["id"]):
            return Fault("id_broken", where)
        return _post(info, salt, licence)
    except (ValueError, TypeError, AttributeError, KeyError):  # a field of a type yt-dlp never writes
        return Fault("field_broken", where)


def _beside(folder: Path, names: Sequence[str], endings: Sequence[str]) -> Path | None:
    """The first `<name><ending>` in the folder; None where there is none."""
    for name in names:
        for ending in endings:
            try:
                path = raw_values.file_inside(folder, name + ending)
            except ValueError:  # a link that leads out of the folder: not ours to read
                continue
            if path is not None:
                return path
    return None


def _languages(info: Mapping[str, Any]) -> list[str]:
    """Subtitle languages to look for, the spoken one first; written subtitles before automatic ones."""
    spoken = info.get("language") or "en"
    found = [spoken, f"{spoken}-orig", "en", "en-US", "en-GB", "en-orig"]
    for key in ("requested_subtitles", "subtitles", "automatic_captions"):
        if isinstance(info.get(key), Mapping):
            found += info[key]
    return [name for name in dict.fromkeys(found) if isinstance(name, str) and _LANGUAGE.fullmatch(name)]


def _read_one(path: Path, config: Config) -> Iterator[Post | Fault]:
    where = str(path.relative_to(config.path))
    if path.stat().st_size > MAX_INFO_BYTES:
        yield Fault("file_too_large", where)
        return
    info = json_lines.parse_json(path.read_bytes(), where)
    post = (
        info
        if isinstance(info, Fault)
        else parse(info, salt=config.salt, licence=config.licence, where=where)
    )
    if isinstance(info, Fault) or isinstance(post, Fault):
        yield post
        return
    names = (path.name.removesuffix(_SUFFIX), info["id"])
    media = _beside(path.parent, names, raw_values.VIDEO_SUFFIXES)
    endings = [f".{language}{suffix}" for language in _languages(info) for suffix in (".vtt", ".srt")]
    words = _beside(path.parent, names, endings)
    transcript = None
    if words is not None:
        try:
            transcript = people.scrub(subtitles.plain_text(words.read_text(encoding="utf-8-sig")))
        except (OSError, UnicodeDecodeError):
            yield Fault("subtitle_broken", str(Path(where).with_name(words.name)))
    yield replace(post, media_path=None if media is None else str(media), transcript=transcript)


def read(config: Config, folder: Path) -> Iterator[Post | Fault]:
    """Every video of the folder; a video found twice is a Fault "duplicate_id" the second time.

    Raises:
        UserError: where the path is no folder or holds no info.json.
    """
    if not config.path.is_dir():
        raise UserError(
            "no such folder", where=config.path, remedy="set path to the folder with the info.json files"
        )
    found = False
    with scratch(folder) as store:
        for path in config.path.rglob("*" + _SUFFIX):
            found = True
            try:
                for item in _read_one(path, config):
                    if isinstance(item, Post) and not store.is_new(item.id):
                        item = Fault("duplicate_id", str(path.relative_to(config.path)))
                    yield item
            except OSError:
                yield Fault("file_unreadable", str(path.relative_to(config.path)))
    if not found:
        raise UserError(
            "no *.info.json in the folder or below it",
            where=config.path,
            remedy="run yt-dlp with --write-info-json",
        )


EXAMPLES = (
    (
        {
            "id": "dQw4w9WgXcQ",
            "_type": "video",
            "title": "A day at sea",
            "description": "Write to a@b.org",
            "channel": "Someone",
            "channel_id": "UC1234567890123456789012",
            "duration": 12,
            "age_limit": 0,
            "view_count": 1000,
            "like_count": None,
            "comment_count": 44,
            "upload_date": "20200102",
            "epoch": 1600000000,
            "heatmap": [
                {"start_time": 0.0, "end_time": 6.0, "value": 1.0},
                {"start_time": 6.0, "end_time": 12.0, "value": 0.25},
            ],
            "comments": [
                {
                    "id": "Ugx1",
                    "parent": "root",
                    "text": "@someone so calm",
                    "like_count": 3,
                    "timestamp": 1590000000,
                    "author": "@other",
                    "is_pinned": True,
                }
            ],
        },
        Post(
            id="youtube:dQw4w9WgXcQ",
            source="youtube",
            media_kind="video",
            channel="UC1234567890123456789012",
            title="A day at sea",
            description="Write to <email>",
            media_url="https://www.youtube.com/watch?v=dQw4w9WgXcQ",
            duration_s=12.0,
            created_utc=1577923200,
            retrieved_utc=1600000000,
            num_views=1000,
            num_comments=44,
            replay=Curve((0.0, 6.0), (6.0, 12.0), (1.0, 0.25)),
            is_nsfw=False,
            author_hash=people.hash_author("UC1234567890123456789012", people.DEFAULT_SALT),
            comments=(
                Comment(
                    id="Ugx1",
                    text="<user> so calm",
                    score=3,
                    author_hash=people.hash_author("@other", people.DEFAULT_SALT),
                    created_utc=1590000000,
                    is_pinned=True,
                ),
            ),
        ),
    ),
    ({"id": "PL123", "_type": "playlist", "entries": []}, "not_a_video"),
    ({"id": "../x"}, "id_broken"),
    ({"id": "abc", "heatmap": [{"start_time": 0, "end_time": 1, "value": 7}]}, "field_broken"),
    ({"id": "abc", "view_count": "hidden"}, "field_broken"),
)

SOURCE = Source(config=Config, read=read, parse=parse, examples=EXAMPLES)
