"""Reddit posts: monthly dumps (Pushshift, Arctic Shift), RS_*.zst and RC_*.zst or as lines, and API listings.

Files come from a person; nothing is fetched. Submissions and comments are read apart, in blocks of lines, and
collect joins them. A submission that shows no image or video is a Fault "not_media" (a text, a poll, a link
to a page): counted, never a post. Comments on submissions that are in none of the files are left out.

A score says little in its first day; where the file tells when it was read, `retrieved_utc` gives its age,
and of two records of one submission the later one counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint, folder_state
from behavior_llava.core.schema import Fault, Part, Post, Said, Source
from behavior_llava.data import json_lines, parts, people, raw_values
from behavior_llava.data.json_lines import Block
from behavior_llava.data.reddit_records import Row, listing, parse, parse_comment


class Config(BaseModel):
    """Settings of the reddit source.

    Attributes:
        path: folder with RS_* (or *_submissions) and RC_* (or *_comments) files, .zst, .ndjson or .jsonl, and
            with saved API listings, .json.
        media: folder with the media, as "<post id>.<suffix>" or under the URL's last name; None for none at
            hand.
        communities: subreddits to read, in any case; None for all.
        licence: of the texts, as it goes into the ledger.
        salt: of the authors' hashes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    media: Path | None = None
    communities: tuple[str, ...] | None = None
    licence: str | None = None
    salt: str = people.DEFAULT_SALT


MAX_LISTING_BYTES = 512 * 2**20
"""A listing is held whole; the API gives at most a hundred posts a page."""

_LINES = (".zst", ".ndjson", ".jsonl")


def _holds(name: str) -> str | None:
    """What a file holds, by its name: "posts", "comments", "listing"; None for another file."""
    path = Path(name)
    if path.suffix == ".json":
        return "listing"
    if path.suffix not in _LINES:
        return None
    stem = name.split(".")[0]
    if name.startswith("RS_") or stem.endswith("_submissions"):
        return "posts"
    return "comments" if name.startswith("RC_") or stem.endswith("_comments") else None


def list_parts(config: Config, folder: Path) -> Iterator[Part]:
    """The files of the folder, each with what it holds.

    Raises:
        UserError: where the path is no folder, or holds no submissions.
    """
    if not config.path.is_dir():
        raise UserError(
            "no such folder", where=config.path, remedy="set path to the folder with the RS_*.zst files"
        )
    if config.media is not None and not config.media.is_dir():
        raise UserError(
            "no such folder", where=config.media, remedy="set media to the folder with the media files"
        )
    files = sorted(path for path in config.path.iterdir() if path.is_file() and _holds(path.name))
    if not any(_holds(path.name) != "comments" for path in files):
        raise UserError("no RS_*.zst or RS_*.ndjson file in the folder", where=config.path)
    # posts are read again where the media beside them change, comments are not
    media = None if config.media is None else folder_state(config.media)
    for path in files:
        key = parts.file_key(path)
        yield Part(key if _holds(path.name) == "comments" else fingerprint([key, media]), path)


def pieces(config: Config, part: Part) -> Iterator[Block | Path]:
    """A dump in blocks of lines; a listing whole.

    Raises:
        UserError: where a file is corrupt or breaks off.
    """
    if _holds(part.content.name) == "listing":
        yield part.content
    else:
        yield from json_lines.blocks(part.content)


def read(config: Config, piece: Block | Path) -> Iterator[Post | Said | Fault]:
    """Posts with their media, without comments; comments apart; and the faults of both."""
    if isinstance(piece, Path):
        yield from _read_listing(config, piece)
        return
    take = _post if _holds(piece.name) == "posts" else _said
    wanted = _wanted(config.communities)
    for number, raw in piece.lines():
        # Most lines of a month belong to others: look before parsing. A line cut short is still parsed, and
        # counted.
        if raw is not None and (not raw.strip() or not wanted(raw)):
            continue
        where = f"{piece.name}:{number}"
        record = Row.decode(raw, where)
        if isinstance(record, Fault):
            yield record
        elif _is_of(record, config.communities):
            yield take(config, record, where)


@cache
def _wanted(communities: tuple[str, ...] | None) -> Callable[[bytes], bool]:
    """Whether a line may be of the communities: True for all that could be."""
    if not communities:
        return lambda raw: True
    names = "|".join(re.escape(name) for name in communities)
    mark = re.compile(rf'"subreddit":\s*"(?:{names})"'.encode(), re.IGNORECASE)
    return lambda raw: not raw.endswith(b"}") or mark.search(raw) is not None


def _is_of(record: Any, communities: tuple[str, ...] | None) -> bool:
    if not communities:
        return True
    data = record.get("data")  # an API's wrapping
    name = (data if isinstance(data, dict) else record).get("subreddit")
    return str(name).lower() in _lower(communities)


@cache
def _lower(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def _read_listing(config: Config, path: Path) -> Iterator[Post | Said | Fault]:
    """What a saved API answer lists, replies with it."""
    try:
        if path.stat().st_size > MAX_LISTING_BYTES:
            yield Fault("file_too_large", path.name)
            return
        things = listing(path.read_bytes(), path.name)
    except OSError:
        yield Fault("file_unreadable", path.name)
        return
    for place, (kind, record) in enumerate(things, 1):
        where = f"{path.name}:{place}"
        if isinstance(record, Fault):
            yield record
        elif _is_of(record, config.communities):
            yield (_post if kind == "t3" else _said)(config, record, where)


def _said(config: Config, record: Any, where: str) -> Said | Fault:
    parsed = parse_comment(record, salt=config.salt, where=where)
    return parsed if isinstance(parsed, Fault) else Said(*parsed)


def _post(config: Config, record: Any, where: str) -> Post | Fault:
    post = parse(record, salt=config.salt, licence=config.licence, where=where)
    if isinstance(post, Fault) or config.media is None:
        return post
    return replace(post, media_path=media_path(config.media, post))


def media_path(folder: Path, post: Post) -> str | None:
    """The file at hand for a post: "<id>.<suffix>", or the URL's last name; None where there is none."""
    suffixes = (
        raw_values.IMAGE_SUFFIXES if post.media_kind == "image" else (*raw_values.VIDEO_SUFFIXES, ".gif")
    )
    names = [post.id.removeprefix("reddit:") + suffix for suffix in suffixes]
    last = raw_values.url_base_name(post.media_url or "")
    # every film of v.redd.it is called DASH_720.mp4 or so: such a name is no one's
    if last and not last.startswith("DASH_"):
        names.append(last)
    for name in names:
        try:
            path = raw_values.file_inside(folder, name)
        except ValueError:  # a URL's last name may be anything; it names no file of ours
            continue
        if path is not None:
            return str(path)
    return None


EXAMPLES = (
    (
        {
            "id": "8abc12",
            "author": "[deleted]",
            "subreddit": "pics",
            "title": "Fog &amp; frost, by @someone",
            "selftext": "",
            "url": "https://i.redd.it/xyz.jpg",
            "post_hint": "image",
            "created_utc": "1388534400",
            "score": -3,
            "num_comments": 2,
            "over_18": False,
            "removed_by_category": None,
        },
        Post(
            id="reddit:8abc12",
            source="reddit",
            media_kind="image",
            channel="pics",
            title="Fog & frost, by <user>",
            media_url="https://i.redd.it/xyz.jpg",
            created_utc=1388534400,
            score=-3,
            num_comments=2,
            is_nsfw=False,
            author_kind="deleted",
        ),
    ),
    ({"id": "8abc13", "is_self": True, "selftext": "[removed]", "title": "What is this?"}, "not_media"),
    ({"id": "../../etc", "url": "https://i.redd.it/x.jpg"}, "id_broken"),
    ({"id": "8abc14", "url": "https://i.redd.it/x.jpg", "score": "many"}, "field_broken"),
)

SOURCE = Source(config=Config, parts=list_parts, pieces=pieces, read=read, parse=parse, examples=EXAMPLES)
