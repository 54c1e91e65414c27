"""One Reddit submission or comment, as a dump line or an API listing entry, to ours; pure, no disk.

Fields come and go over the years (times as text, numbers or fractions; marks that did not exist yet), so
absence is null and only a field of a type it never had is a fault. Called by the reddit source.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from behavior_llava.core.schema import Comment, Fault, MediaKind, Post
from behavior_llava.data import people, raw_values

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


def _duration_s(record: Mapping[str, Any]) -> float | None:
    for media in (record.get("media"), record.get("secure_media")):
        if media and media.get("reddit_video"):
            return raw_values.to_float(media["reddit_video"].get("duration"))
    return None


def _channel(name: str | None, salt: str) -> str | None:
    """The subreddit; a profile page ("u_name") carries a person's name and is hashed."""
    if name and name.lower().startswith("u_"):
        return people.hash_author(name[2:], salt)
    return name


def _post(record: Mapping[str, Any], salt: str, licence: str | None, where: str) -> Post | Fault:
    if not _ID.fullmatch(record["id"]):
        return Fault("id_broken", where)
    shown = (record.get("crosspost_parent_list") or [record])[0]
    media = _media(shown)
    if media is None:
        return Fault("not_media", where)
    author, title, text = record.get("author"), record.get("title"), record.get("selftext")
    return Post(
        id=f"reddit:{record['id']}",
        source="reddit",
        media_kind=media[0],
        channel=_channel(raw_values.to_text(record.get("subreddit")), salt),
        title=_said(title),
        description=_said(text),
        media_url=raw_values.to_text(media[1]),
        duration_s=_duration_s(shown),
        created_utc=raw_values.to_utc(record.get("created_utc")),
        retrieved_utc=_retrieved_utc(record),
        score=None if record.get("hide_score") else raw_values.to_int(record.get("score")),
        upvote_ratio=raw_values.to_share(record.get("upvote_ratio")),
        num_comments=raw_values.to_count(record.get("num_comments")),
        is_nsfw=raw_values.to_bool(record.get("over_18")),
        author_hash=people.hash_author(author, salt),
        author_kind=people.author_kind(author, f"{title}\n{text}", record.get("distinguished")),
        removed_by=_removed_by(record, text, title),
        licence=licence,
    )


def parse(
    record: Mapping[str, Any], *, salt: str = people.DEFAULT_SALT, licence: str | None = None, where: str = ""
) -> Post | Fault:
    """One submission, as a dump line or an API listing entry, to a Post without comments and media path."""
    try:
        return _post(record["data"] if record.get("kind") == "t3" else record, salt, licence, where)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):  # a field of a type it never had
        return Fault("field_broken", where)


def parse_comment(
    record: Mapping[str, Any], *, salt: str = people.DEFAULT_SALT, where: str = ""
) -> tuple[str, Comment] | Fault:
    """One comment line to (post id, Comment), or a Fault; "comment_without_post" where it names none."""
    try:
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
            author_hash=people.hash_author(author, salt),
            author_kind=people.author_kind(author, body, record.get("distinguished")),
            removed_by=_removed_by(record, body),
            parent_id=parent.removeprefix("t1_") if parent.startswith("t1_") else None,
            created_utc=raw_values.to_utc(record.get("created_utc")),
            is_pinned=raw_values.to_bool(record.get("stickied")),
        )
    except (ValueError, TypeError, AttributeError, KeyError):
        return Fault("field_broken", where)
