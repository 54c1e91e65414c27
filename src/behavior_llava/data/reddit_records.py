"""One Reddit submission or comment, as a dump line or an API listing entry, to ours; pure, no disk.

Fields come and go over the years (times as text, numbers or fractions; marks that did not exist yet), so
absence is null and only a field of a type it never had is a fault. Called by the reddit source.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from behavior_llava.core.schema import Comment, Fault, MediaKind, Post
from behavior_llava.data import json_lines, people, raw_values

_ID = re.compile(r"[a-z0-9]{1,16}")
_COMMENTS_IN_URL = re.compile(r"/comments/([a-z0-9]{1,16})/")
_IMGUR_SINGLE = re.compile(r"/\w{5,8}")
_VIDEO_HOSTS = frozenset(
    "youtube.com m.youtube.com youtu.be v.redd.it vimeo.com streamable.com gfycat.com dailymotion.com".split()
)
_IMAGE_HOSTS = frozenset({"i.redd.it", "i.reddituploads.com"})
_REMOVED = {
    "[deleted]": "author",
    "[removed]": "moderator",
    "[deleted by user]": "author",
    "[ removed by reddit ]": "reddit",
}


class Row(msgspec.Struct):
    """The fields of a submission or a comment that are read, of the hundred a dump line has.

    Read like a mapping; a field that is not there is None, as one that is null. Types are not checked here:
    they changed over the years.
    """

    id: Any = None
    kind: Any = None
    data: Any = None
    author: Any = None
    subreddit: Any = None
    title: Any = None
    selftext: Any = None
    body: Any = None
    url: Any = None
    url_overridden_by_dest: Any = None
    permalink: Any = None
    context: Any = None
    link_id: Any = None
    parent_id: Any = None
    created_utc: Any = None
    retrieved_on: Any = None
    retrieved_utc: Any = None
    _meta: Any = None
    score: Any = None
    hide_score: Any = None
    score_hidden: Any = None
    upvote_ratio: Any = None
    num_comments: Any = None
    over_18: Any = None
    is_self: Any = None
    is_video: Any = None
    is_gallery: Any = None
    poll_data: Any = None
    post_hint: Any = None
    media: Any = None
    secure_media: Any = None
    gallery_data: Any = None
    media_metadata: Any = None
    crosspost_parent_list: Any = None
    removed_by_category: Any = None
    distinguished: Any = None
    stickied: Any = None

    def get(self, name: str, default: Any = None) -> Any:
        """As a mapping's."""
        return getattr(self, name, default)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    @staticmethod
    def decode(raw: bytes | None, where: str) -> Any:
        """A line's record, or the Fault it is; what the quick decoder refuses, the patient one decides."""
        try:
            return _DECODER.decode(raw or b"")
        except (ValueError, RecursionError):
            return json_lines.parse_json(raw, where)


_DECODER = msgspec.json.Decoder(Row)


def listing(raw: bytes, where: str) -> Iterator[tuple[str, Any]]:
    """The things of a saved API answer in its order: ("t3", submission) and ("t1", comment), replies below
    their comment; a Fault where it is no such answer.

    Takes what /r/<name>/new, /comments/<id> and /api/info give: a listing, a list of listings, one thing, or
    a list of things. Marks of what was not loaded ("more") are left out.
    """
    try:
        answer = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        answer = json_lines.parse_json(raw, where)
    if isinstance(answer, Fault):
        yield "t3", answer
        return
    waiting, found = [answer], False
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, list):
            waiting += reversed(thing)
            continue
        kind, data = (thing.get("kind"), thing.get("data")) if isinstance(thing, dict) else (None, None)
        if not isinstance(data, dict):
            found = True
            yield "t3", Fault("json_broken" if not isinstance(thing, dict) else "not_a_listing", where)
        elif kind == "Listing":
            found = True
            children = data.get("children")
            waiting += reversed(children) if isinstance(children, list) else [None]
        elif kind in ("t1", "t3"):
            found = True
            yield kind, data
            if isinstance(data.get("replies"), dict):  # "" where there are none
                waiting.append(data["replies"])
    if not found:
        yield "t3", Fault("not_a_listing", where)


def _removed_by(record: Mapping[str, Any], *texts: str | None) -> str | None:
    """Who took it away; None where it stands. The mark wins over what stands in place of the text."""
    meta = record.get("_meta") or {}
    category = record.get("removed_by_category") or (
        meta.get("removal_type") if meta.get("was_deleted_later") else None
    )
    if category:
        return "author" if category in ("deleted", "author") else raw_values.to_text(category)
    for text in texts:
        if text is not None and text.strip().lower() in _REMOVED:
            return _REMOVED[text.strip().lower()]
    return None


def _said(text: str | None) -> str | None:
    """A text as a person wrote it: unescaped, scrubbed, None where only a mark of removal stands."""
    if text is None or text.strip().lower() in _REMOVED:
        return None
    return people.scrub(html.unescape(text))


def _retrieved_utc(record: Mapping[str, Any]) -> int | None:
    meta = record.get("_meta") or {}
    for value in (meta.get("retrieved_2nd_on"), record.get("retrieved_utc"), record.get("retrieved_on")):
        if value is not None:
            return raw_values.to_utc(value)
    return None


def _gallery_item(record: Mapping[str, Any]) -> tuple[MediaKind, str] | None:
    """The gallery's first picture that still stands: the one receivers see."""
    metadata = record.get("media_metadata") or {}
    for item in (record.get("gallery_data") or {}).get("items") or ():
        found = metadata.get(item.get("media_id")) or {}
        url = (found.get("s") or {}).get("u")
        if found.get("status", "valid") == "valid" and url:
            return "image", html.unescape(url)
    return None


def _media(record: Mapping[str, Any]) -> tuple[MediaKind, str] | None:
    """Kind and address of what the submission shows; None where it is no image or video."""
    if record.get("is_self") or record.get("poll_data"):
        return None
    if record.get("gallery_data") or record.get("is_gallery"):
        return _gallery_item(record)
    url = html.unescape(record.get("url_overridden_by_dest") or record.get("url") or "")
    parts = urlsplit(url)
    host, kind = (parts.hostname or "").removeprefix("www."), raw_values.media_kind(parts.path)
    hint = record.get("post_hint") or ""
    if (
        record.get("is_video")
        or hint.endswith(":video")
        or host in _VIDEO_HOSTS
        or parts.path.endswith(".gifv")
    ):
        return "video", url
    if (
        hint == "image"
        or host in _IMAGE_HOSTS
        or (host == "imgur.com" and _IMGUR_SINGLE.fullmatch(parts.path))
    ):
        return kind or "image", url
    return (kind, url) if kind else None


def _film(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What Reddit says of a film it hosts itself; None for any other."""
    for media in (record.get("media"), record.get("secure_media")):
        if media and media.get("reddit_video"):
            return media["reddit_video"]
    return None


def _address(record: Mapping[str, Any], url: str) -> str | None:
    """Where the media itself is: of a film that Reddit hosts the file, not the page around it."""
    film = _film(record)
    if film is not None and film.get("fallback_url"):
        url = html.unescape(film["fallback_url"])
    return raw_values.to_text(url)


def _channel(name: str | None, salt: str) -> str | None:
    """The subreddit; a profile page ("u_name") carries a person's name and is hashed."""
    if name and name.lower().startswith("u_"):
        return people.hash_author(name[2:], salt, "reddit")
    return name


def _post(record: Mapping[str, Any], salt: str, licence: str | None, where: str) -> Post | Fault:
    if not _ID.fullmatch(record["id"]):
        return Fault("id_broken", where)
    shown = (record.get("crosspost_parent_list") or [record])[0]
    media = _media(shown)
    if media is None:
        return Fault("not_media", where)
    film = _film(shown)
    author, title, text = record.get("author"), record.get("title"), record.get("selftext")
    return Post(
        id=f"reddit:{record['id']}",
        source="reddit",
        media_kind=media[0],
        channel=_channel(raw_values.to_text(record.get("subreddit")), salt),
        title=_said(title),
        description=_said(text),
        media_url=_address(shown, media[1]),
        duration_s=None if film is None else raw_values.to_float(film.get("duration")),
        created_utc=raw_values.to_utc(record.get("created_utc")),
        retrieved_utc=_retrieved_utc(record),
        score=None if record.get("hide_score") else raw_values.to_int(record.get("score")),
        upvote_ratio=raw_values.to_share(record.get("upvote_ratio")),
        num_comments=raw_values.to_count(record.get("num_comments")),
        is_nsfw=raw_values.to_bool(record.get("over_18")),
        author_hash=people.hash_author(author, salt, "reddit"),
        author_kind=people.author_kind(author, f"{title}\n{text}", record.get("distinguished")),
        removed_by=_removed_by(record, text, title),
        licence=licence,
    )


def _bare(record: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The thing in an API's wrapping."""
    return record["data"] if record.get("kind") == kind else record


def parse(
    record: Mapping[str, Any], *, salt: str = people.DEFAULT_SALT, licence: str | None = None, where: str = ""
) -> Post | Fault:
    """One submission, as a dump line or an API listing entry, to a Post without comments and media path."""
    try:
        return _post(_bare(record, "t3"), salt, licence, where)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):  # a field of a type it never had
        return Fault("field_broken", where)


def parse_comment(
    record: Mapping[str, Any], *, salt: str = people.DEFAULT_SALT, where: str = ""
) -> tuple[str, Comment] | Fault:
    """One comment line to (post id, Comment), or a Fault; "comment_without_post" where it names none."""
    try:
        record = _bare(record, "t1")
        link = (record.get("link_id") or "").removeprefix("t3_")
        if not link:  # inbox copies, and months before the field
            found = _COMMENTS_IN_URL.search(record.get("permalink") or record.get("context") or "")
            link = found[1] if found else ""
        if not link:
            return Fault("comment_without_post", where)
        if not (_ID.fullmatch(link) and _ID.fullmatch(record["id"])):
            return Fault("id_broken", where)
        author, body, parent = (
            record.get("author"),
            record["body"],
            raw_values.to_text(record.get("parent_id")) or "",
        )
        return f"reddit:{link}", Comment(
            id=record["id"],
            text=_said(body),
            score=None if record.get("score_hidden") else raw_values.to_int(record.get("score")),
            author_hash=people.hash_author(author, salt, "reddit"),
            author_kind=people.author_kind(author, body, record.get("distinguished")),
            removed_by=_removed_by(record, body),
            parent_id=parent.removeprefix("t1_") if parent.startswith("t1_") else None,
            created_utc=raw_values.to_utc(record.get("created_utc")),
            is_pinned=raw_values.to_bool(record.get("stickied")),
        )
    except (ValueError, TypeError, AttributeError, KeyError):
        return Fault("field_broken", where)
