"""One YouTube video or comment, as yt-dlp or the Data API v3 writes it, to ours; pure, no disk.

The two channels say the same in other words: an info.json has numbers and a category's name, a Data API item
counts as texts, a category's number and an ISO 8601 duration. What is hidden or disabled is null or absent,
and stays null; a field of a type it never had is a Fault. Called by the youtube source and youtube_trending.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from behavior_llava.core.schema import Chapter, Comment, Fault, Post, Said
from behavior_llava.data import people, raw_values, youtube_curves

_VIDEO_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_COMMENT_ID = re.compile(r"[\w.=-]{1,128}", re.ASCII)
_CHANNEL_ID = re.compile(r"UC[\w-]{22}", re.ASCII)
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8}){0,4}")
_DURATION = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_SECONDS = (604_800, 86_400, 3600, 60, 1)
_LINE_BREAK = re.compile(r"<br\s{0,9}/?>", re.IGNORECASE)
_MARKUP = re.compile(r"</?(?:a|b|i|s|u|span|strong|em)(?:\s[^<>]{0,4000})?>", re.IGNORECASE)

CATEGORIES: Mapping[int, str] = {
    1: "Film & Animation",
    2: "Autos & Vehicles",
    10: "Music",
    15: "Pets & Animals",
    17: "Sports",
    18: "Short Movies",
    19: "Travel & Events",
    20: "Gaming",
    21: "Videoblogging",
    22: "People & Blogs",
    23: "Comedy",
    24: "Entertainment",
    25: "News & Politics",
    26: "Howto & Style",
    27: "Education",
    28: "Science & Technology",
    29: "Nonprofits & Activism",
    30: "Movies",
    31: "Anime/Animation",
    32: "Action/Adventure",
    33: "Classics",
    34: "Comedy",
    35: "Documentary",
    36: "Drama",
    37: "Family",
    38: "Foreign",
    39: "Horror",
    40: "Sci-Fi/Fantasy",
    41: "Thriller",
    42: "Shorts",
    43: "Shows",
    44: "Trailers",
}
"""Source: videoCategories.list, https://developers.google.com/youtube/v3/docs/videoCategories.

The names are those an info.json has, so that a filter says "Gaming" for every channel.
"""

BROKEN = (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError)
"""What a field of a type it never had raises."""


def list_of(value: Any) -> Sequence[Any]:
    """A list as it is, empty for None; anything else raises ValueError."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError(f"not a list: {type(value).__name__}")
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"not an object: {type(value).__name__}")
    return value


def category(number: Any) -> str | None:
    """The name of a category's number; None for none, and for a number YouTube has no name for."""
    return CATEGORIES.get(raw_values.to_count(number) or 0)


def language(value: Any) -> str | None:
    """A language code as it is; None for None and blank, ValueError for what cannot be one."""
    code = raw_values.to_text(value)
    if code and not _LANGUAGE.fullmatch(code):
        raise ValueError("not a language code")
    return code or None


def channel(identifier: Any, name: Any, salt: str) -> str | None:
    """The channel's id, or the hash of its name where there is none: names and handles never pass."""
    identifier = raw_values.to_text(identifier)
    if identifier and _CHANNEL_ID.fullmatch(identifier):
        return identifier
    return people.hash_author(identifier or raw_values.to_text(name), salt)


def author(salt: str, *names: Any) -> str | None:
    """The hash of the first name there is: the channel's id before handles, as every channel has it."""
    texts = [raw_values.to_text(name) for name in names]
    return people.hash_author(next((text for text in texts if text), None), salt)


def watch_url(identifier: str) -> str:
    """Where the video is."""
    return f"https://www.youtube.com/watch?v={identifier}"


def is_video_id(identifier: str) -> bool:
    """Whether it can stand in a URL and a file name."""
    return _VIDEO_ID.fullmatch(identifier) is not None


def _seconds(value: Any) -> float | None:
    """A duration; None for None and for 0, which live streams have."""
    seconds = raw_values.to_float(value)
    if seconds is not None and seconds < 0:
        raise ValueError("negative duration")
    return seconds or None


# ---- yt-dlp's info.json ------------------------------------------------------------------------------------


def _comment_id(value: Any) -> str:
    if not _COMMENT_ID.fullmatch(value):
        raise ValueError("not a comment's id")
    return value


def _comment(raw: Mapping[str, Any], salt: str) -> Comment:
    parent, text = raw.get("parent"), raw_values.to_text(_clean(raw.get("text")))
    name = raw_values.to_text(raw.get("author"))
    return Comment(
        id=_comment_id(raw["id"]),
        text=people.scrub(text),
        score=raw_values.to_count(raw.get("like_count")),
        author_hash=author(salt, raw.get("author_id"), name),
        author_kind=people.author_kind((name or "").removeprefix("@"), text),
        parent_id=None if parent in (None, "root") else _comment_id(parent),
        created_utc=raw_values.to_utc(raw.get("timestamp")),
        is_pinned=raw_values.to_bool(raw.get("is_pinned")),
    )


def _clean(text: Any) -> Any:
    """Half surrogate pairs, which JSON allows and Arrow does not, become "?"."""
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else text


def _comments(raw: Any, salt: str) -> tuple[Comment, ...]:
    comments = (_comment(comment, salt) for comment in list_of(raw))
    return tuple({comment.id: comment for comment in comments}.values())  # continued downloads repeat some


def _chapters(raw: Any) -> tuple[Chapter, ...] | None:
    chapters = []
    for chapter in list_of(raw):
        start_s, end_s = (raw_values.to_float(chapter[name]) for name in ("start_time", "end_time"))
        if start_s is None or end_s is None or not 0 <= start_s <= end_s:
            raise ValueError("a chapter without its times")
        chapters.append(Chapter(start_s, end_s, people.scrub(chapter.get("title"))))
    return tuple(chapters) or None


def _created_utc(info: Mapping[str, Any]) -> int | None:
    day = info.get("upload_date")
    if info.get("timestamp") is not None:
        return raw_values.to_utc(info["timestamp"])
    if day is None or day == "":
        return None
    return int(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).timestamp())


def _info_post(info: Mapping[str, Any], salt: str, licence: str | None) -> Post:
    age_limit, duration_s = raw_values.to_int(info.get("age_limit")), _seconds(info.get("duration"))
    names = list_of(info.get("categories"))
    owner = (info.get("channel_id"), info.get("uploader_id"), info.get("channel"), info.get("uploader"))
    return Post(
        id=f"youtube:{info['id']}",
        source="youtube",
        media_kind="video",
        channel=channel(owner[0], owner[2] or owner[3], salt),
        title=people.scrub(info.get("title")),
        description=people.scrub(info.get("description")),
        media_url=watch_url(info["id"]),
        duration_s=duration_s,
        created_utc=_created_utc(info),
        retrieved_utc=raw_values.to_utc(info.get("epoch")),
        num_likes=raw_values.to_count(info.get("like_count")),
        num_views=raw_values.to_count(info.get("view_count")),
        num_comments=raw_values.to_count(info.get("comment_count")),
        replay=youtube_curves.replay(info.get("heatmap"), duration_s),
        chapters=_chapters(info.get("chapters")),
        category=people.scrub(names[0]) if names else None,
        language=language(info.get("language")),
        is_nsfw=None if age_limit is None else age_limit >= 18,
        author_hash=author(salt, *owner),
        licence=licence,
        comments=_comments(info.get("comments"), salt),
    )


def _info(info: Mapping[str, Any], salt: str, licence: str | None, where: str) -> Post | Fault:
    if info.get("_type", "video") != "video":
        return Fault("not_a_video", where)
    site = info.get("extractor_key") or "Youtube"
    if not site.lower().startswith("youtube"):  # yt-dlp downloads from other places as well
        return Fault("not_youtube", where)
    if not is_video_id(info["id"]):
        return Fault("id_broken", where)
    return _info_post(info, salt, licence)


# ---- Data API v3 -------------------------------------------------------------------------------------------


def iso_duration(value: Any) -> float | None:
    """Seconds of "PT5M27S" or "P1DT2H"; None for None and for the "P0D" of live streams."""
    if value is None:
        return None
    found = _DURATION.fullmatch(value)
    if not found:
        raise ValueError("not an ISO 8601 duration")
    numbers = (raw_values.to_float(text) or 0.0 for text in found.groups())
    return sum(number * unit for number, unit in zip(numbers, _SECONDS, strict=True)) or None


def _comments_disabled(statistics: Mapping[str, Any]) -> bool | None:
    """Statistics were asked for and have no number of comments: nobody can write."""
    return None if statistics.get("viewCount") is None else statistics.get("commentCount") is None


def _is_restricted(details: Mapping[str, Any]) -> bool | None:
    if details.get("contentRating") is None:
        return None
    return _mapping(details["contentRating"]).get("ytRating") == "ytAgeRestricted"


def _item(item: Mapping[str, Any], salt: str, licence: str | None, where: str) -> Post | Fault:
    if not is_video_id(item["id"]):
        return Fault("id_broken", where)
    snippet, statistics, details = (
        _mapping(item.get(name)) for name in ("snippet", "statistics", "contentDetails")
    )
    spoken = language(snippet.get("defaultAudioLanguage"))
    return Post(
        id=f"youtube:{item['id']}",
        source="youtube",
        media_kind="video",
        channel=channel(snippet.get("channelId"), snippet.get("channelTitle"), salt),
        title=people.scrub(snippet.get("title")),
        description=people.scrub(snippet.get("description")),
        media_url=watch_url(item["id"]),
        duration_s=iso_duration(details.get("duration")),
        created_utc=raw_values.to_utc(snippet.get("publishedAt")),
        num_likes=raw_values.to_count(statistics.get("likeCount")),
        num_views=raw_values.to_count(statistics.get("viewCount")),
        num_comments=raw_values.to_count(statistics.get("commentCount")),
        category=category(snippet.get("categoryId")),
        language=spoken or language(snippet.get("defaultLanguage")),
        comments_disabled=_comments_disabled(statistics),
        is_nsfw=_is_restricted(details),
        author_hash=author(salt, snippet.get("channelId"), snippet.get("channelTitle")),
        licence=licence,
    )


def _said(snippet: Mapping[str, Any]) -> str | None:
    """What was written: the original, or the display text, which is HTML, without its markup."""
    text = raw_values.to_text(_clean(snippet.get("textOriginal")))
    if text is not None:
        return text
    shown = raw_values.to_text(_clean(snippet.get("textDisplay")))
    if shown is None:
        return None
    return html.unescape(_MARKUP.sub("", _LINE_BREAK.sub("\n", shown)))


def _removed_by(snippet: Mapping[str, Any], is_public: bool | None) -> str | None:
    """Who keeps it from the public: only the owner's own requests return such comments."""
    status = snippet.get("moderationStatus")
    return "moderator" if is_public is False or status not in (None, "published") else None


def _said_of(raw: Mapping[str, Any], video: Any, is_public: bool | None, salt: str) -> Said | str:
    """The comment with its post's id, or the reason it has none."""
    snippet = _mapping(raw["snippet"])
    video = snippet.get("videoId") or video
    if video is None or video == "":
        return "comment_without_post"
    if not (is_video_id(video) and _COMMENT_ID.fullmatch(raw["id"])):
        return "id_broken"
    name, text = raw_values.to_text(snippet.get("authorDisplayName")), _said(snippet)
    parent = snippet.get("parentId")
    comment = Comment(
        id=raw["id"],
        text=people.scrub(text),
        score=raw_values.to_count(snippet.get("likeCount")),
        author_hash=author(salt, _mapping(snippet.get("authorChannelId")).get("value"), name),
        author_kind=people.author_kind((name or "").removeprefix("@"), text),
        removed_by=_removed_by(snippet, is_public),
        parent_id=None if parent is None else _comment_id(parent),
        created_utc=raw_values.to_utc(snippet.get("publishedAt")),
    )
    return Said(f"youtube:{video}", comment)


def _comment_item(
    raw: Any, salt: str, where: str, video: Any = None, is_public: bool | None = None
) -> Said | Fault:
    try:
        said = _said_of(raw, video, is_public, salt)
    except BROKEN:
        return Fault("field_broken", where)
    return Fault(said, where) if isinstance(said, str) else said


def _thread(raw: Any, salt: str, where: str) -> Iterator[Said | Fault]:
    try:
        snippet = _mapping(raw["snippet"])
        is_public = raw_values.to_bool(snippet.get("isPublic"))
        comments = [snippet["topLevelComment"], *list_of(_mapping(raw.get("replies")).get("comments"))]
    except BROKEN:
        yield Fault("field_broken", where)
        return
    for comment in comments:
        yield _comment_item(comment, salt, where, snippet.get("videoId"), is_public)


_ITEM_OF = {
    "youtube#videoListResponse": "youtube#video",
    "youtube#commentThreadListResponse": "youtube#commentThread",
    "youtube#commentListResponse": "youtube#comment",
}
API_KINDS = frozenset({*_ITEM_OF, *_ITEM_OF.values()})
"""The Data API's answers that hold something for us, and what they are lists of."""


def _items(page: Any) -> Iterator[tuple[str, Any]]:
    """(kind, item) of everything on a page; other answers of the API hold nothing for us."""
    kind = page["kind"]
    if not isinstance(kind, str):
        raise ValueError("no kind")
    if kind in _ITEM_OF:
        for item in list_of(page.get("items")):
            yield _ITEM_OF[kind], item
    elif kind in API_KINDS:
        yield kind, page


def parse_pages(
    document: Any, *, salt: str = people.DEFAULT_SALT, licence: str | None = None, where: str = ""
) -> Iterator[Post | Said | Fault]:
    """A Data API response, an item of one, or a list of either, to posts and comments."""
    number = 0
    for page in document if isinstance(document, list) else [document]:
        try:
            for kind, item in _items(page):
                number += 1
                place = f"{where}#{number}"
                if kind == "youtube#video":
                    yield parse(item, salt=salt, licence=licence, where=place, is_item=True)
                elif kind == "youtube#commentThread":
                    yield from _thread(item, salt, place)
                else:
                    yield _comment_item(item, salt, place)
        except BROKEN:
            yield Fault("field_broken", where)


def parse(
    record: Any,
    *,
    salt: str = people.DEFAULT_SALT,
    licence: str | None = None,
    where: str = "",
    is_item: bool | None = None,
) -> Post | Fault:
    """One info.json, or one video of the Data API, to a Post without media path, transcript and exports.

    Args:
        is_item: whether it is the Data API's; None to go by its kind.
    """
    try:
        if is_item or (is_item is None and record.get("kind") == "youtube#video"):
            return _item(record, salt, licence, where)
        return _info(record, salt, licence, where)
    except youtube_curves.DurationMissing:
        return Fault("duration_missing", where)
    except BROKEN:  # a field of a type it never had
        return Fault("field_broken", where)
