"""Reddit posts from dump files (Pushshift, Arctic Shift): RS_*.zst and RC_*.zst, or the lines as .ndjson.

Files come from a person; nothing is fetched. Comments are read first, into a scratch file, then every
submission is joined with its own. A submission that shows no image or video is a Fault "not_media" (a text, a
poll, a link to a page): counted, never a post. Comments on submissions that are in none of the files are left
out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Fault, Post, Source
from behavior_llava.data import json_lines, people, raw_values
from behavior_llava.data.reddit_records import parse, parse_comment
from behavior_llava.data.scratch import Scratch, scratch


class Config(BaseModel):
    """Settings of the reddit source.

    Attributes:
        path: folder with RS_* (or *_submissions) and RC_* (or *_comments) files, .zst, .ndjson or .jsonl.
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


def _files(folder: Path, prefix: str, ending: str) -> list[Path]:
    suffixes = (".zst", ".ndjson", ".jsonl")
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in suffixes
        and (path.name.startswith(prefix) or path.name.split(".")[0].endswith(ending))
    )


def _records(path: Path, communities: tuple[str, ...] | None) -> Iterator[tuple[str, dict[str, Any] | Fault]]:
    """Every record of a file with its place; of the asked communities only."""
    wanted = {name.lower() for name in communities} if communities else None
    names = "|".join(re.escape(name) for name in wanted or ())
    mark = re.compile(rf'"subreddit":\s*"(?:{names})"'.encode(), re.IGNORECASE)
    for number, raw in json_lines.lines(path):
        # Most lines of a month belong to others: look before parsing. A line cut short is still parsed, and
        # counted.
        if raw is not None and (not raw.strip() or (wanted and raw.endswith(b"}") and not mark.search(raw))):
            continue
        where = f"{path.name}:{number}"
        record = json_lines.parse_json(raw, where)
        if wanted and isinstance(record, dict) and str(record.get("subreddit")).lower() not in wanted:
            continue
        yield where, record


def _media_path(folder: Path | None, post: Post) -> str | None:
    """The file at hand for a post: "<id>.<suffix>", or the URL's last name; None where there is none."""
    if folder is None:
        return None
    suffixes = (
        raw_values.IMAGE_SUFFIXES if post.media_kind == "image" else (*raw_values.VIDEO_SUFFIXES, ".gif")
    )
    names = [post.id.removeprefix("reddit:") + suffix for suffix in suffixes]
    for name in (*names, raw_values.url_base_name(post.media_url or "")):
        try:
            path = raw_values.file_inside(folder, name) if name else None
        except ValueError:  # a URL's last name may be anything; it names no file of ours
            continue
        if path is not None:
            return str(path)
    return None


def _store_comments(config: Config, store: Scratch) -> Iterator[Fault]:
    """Puts all comments into the store; yields the faults."""
    for path in _files(config.path, "RC_", "_comments"):
        for where, record in _records(path, config.communities):
            parsed = (
                record if isinstance(record, Fault) else parse_comment(record, salt=config.salt, where=where)
            )
            if isinstance(parsed, Fault):
                yield parsed
            else:
                store.add_comment(*parsed)
    store.index()


def _posts(path: Path, config: Config, store: Scratch) -> Iterator[Post | Fault]:
    """Every submission of a file, joined with its comments and its media."""
    for where, record in _records(path, config.communities):
        post = (
            record
            if isinstance(record, Fault)
            else parse(record, salt=config.salt, licence=config.licence, where=where)
        )
        if isinstance(post, Fault):
            yield post
        elif not store.is_new(post.id):
            yield Fault("duplicate_id", where)
        else:
            media_path = _media_path(config.media, post)
            yield replace(post, media_path=media_path, comments=store.comments_of(post.id))


def read(config: Config, folder: Path) -> Iterator[Post | Fault]:
    """Every post with its comments, and the faults of both kinds of file; `folder` takes the scratch file.

    Raises:
        UserError: where the path is no folder, holds no submissions, or a file is corrupt or breaks off.
    """
    if not config.path.is_dir():
        raise UserError(
            "no such folder", where=config.path, remedy="set path to the folder with the RS_*.zst files"
        )
    submissions = _files(config.path, "RS_", "_submissions")
    if not submissions:
        raise UserError("no RS_*.zst or RS_*.ndjson file in the folder", where=config.path)
    if config.media is not None and not config.media.is_dir():
        raise UserError(
            "no such folder", where=config.media, remedy="set media to the folder with the media files"
        )
    with scratch(folder) as store:
        yield from _store_comments(config, store)
        for path in submissions:
            yield from _posts(path, config, store)


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

SOURCE = Source(config=Config, read=read, parse=parse, examples=EXAMPLES)
