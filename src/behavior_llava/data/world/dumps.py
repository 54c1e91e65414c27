"""A month of the sandbox's Reddit side without pictures, as large as asked: for measuring what a dump costs.

Two files, as the platform's archives have them: submissions and comments in order of time, a post's comments
spread over the file, with the fields, the dirt and the long tail of threads that real months have. Texts are
the world's (words.py), put together at random. Called by benchmarks/filters.py and tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from behavior_llava.data.world import words
from behavior_llava.data.world.content import draw_content

START_UTC = 1_590_969_600
"""1 June 2020."""
MONTH_S = 30 * 86_400
POOL = 6000
"""Different sentences; a comment has two or three, so few are equal."""

SHARES = {
    "not_media": 0.10,
    "nsfw": 0.04,
    "worded": 0.01,
    "bot_post": 0.01,
    "deleted_post": 0.06,
    "old": 0.03,
    "fresh": 0.05,
    "bot": 0.04,
    "deleted": 0.07,
    "short": 0.10,
    "repeated": 0.06,
    "link": 0.05,
    "foreign": 0.02,
    "reply": 0.35,
}
"""How often each kind occurs, of submissions and of comments."""


def write(folder: Path, *, posts: int, comments: int, seed: int = 0) -> tuple[Path, Path]:
    """Writes RS_2020-06.zst and RC_2020-06.zst with so many lines, 2 GiB window; in bounded memory but for a
    few bytes a line. The same arguments give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    created = np.sort(rng.integers(0, MONTH_S, posts)) + START_UTC
    submissions, said = folder / "RS_2020-06.zst", folder / "RC_2020-06.zst"
    _save(submissions, _submissions(created, rng))
    _save(said, _comments(created, comments, rng))
    return submissions, said


def name(number: int) -> str:
    """The id of the n-th post."""
    return np.base_repr(500_000_000 + 7 * number, 36).lower()


def _pool(rng: np.random.Generator) -> list[str]:
    return [words.comment(draw_content(rng), rng, signal=1.0, noise=0.15) for _ in range(POOL)]


def _submissions(created: np.ndarray, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    titles = _pool(rng)
    number = len(created)
    draw = {
        key: rng.random(number) < SHARES[key]
        for key in ("not_media", "nsfw", "worded", "bot_post", "deleted_post", "old", "fresh")
    }
    score, title, user = (
        rng.geometric(0.02, number),
        rng.integers(0, POOL, number),
        rng.integers(0, 200_000, number),
    )
    for place in range(number):
        identifier, is_gone = name(place), bool(draw["deleted_post"][place])
        is_media = not draw["not_media"][place]
        at = int(created[place]) - (6 * 365 * 86_400 if draw["old"][place] else 0)
        yield {
            "id": identifier,
            "name": f"t3_{identifier}",
            "author": "[deleted]"
            if is_gone
            else "AutoModerator"
            if draw["bot_post"][place]
            else f"user{user[place]}",
            "author_flair_text": None,
            "archived": False,
            "created_utc": at,
            "retrieved_on": at + (600 if draw["fresh"][place] else 20 * 86_400),
            "distinguished": None,
            "domain": "i.redd.it" if is_media else "self.pics",
            "edited": False,
            "gilded": 0,
            "is_self": not is_media,
            "is_video": False,
            "link_flair_text": None,
            "locked": False,
            "num_comments": 5,
            "num_crossposts": 0,
            "over_18": bool(draw["nsfw"][place]),
            "permalink": f"/r/pics/comments/{identifier}/_/",
            "post_hint": "image" if is_media else None,
            "removed_by_category": "deleted" if is_gone else None,
            "score": int(score[place]) - 5,
            "selftext": "[deleted]" if is_gone else "",
            "spoiler": False,
            "stickied": False,
            "subreddit": "pics",
            "subreddit_id": "t5_2qh0u",
            "thumbnail": "https://b.thumbs.redditmedia.com/x.jpg",
            "title": titles[title[place]] + (" porn" if draw["worded"][place] else ""),
            "total_awards_received": 0,
            "upvote_ratio": 0.9,
            "url": f"https://i.redd.it/{identifier}.jpg"
            if is_media
            else f"https://www.reddit.com/r/pics/comments/{identifier}/_/",
        }


BLOCK = 100_000


def _comments(created: np.ndarray, number: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    pool = _pool(rng)
    # a few threads hold a good part of all comments
    weight = rng.lognormal(0, 1.3, len(created))
    posts = np.sort(rng.choice(len(created), number, p=weight / weight.sum()).astype(np.int32))
    written = created[posts] + rng.exponential(6 * 3600, number).astype(np.int64)
    order = np.argsort(written, kind="stable")
    for start in range(0, number, BLOCK):
        chosen = order[start : start + BLOCK]
        size = len(chosen)
        draw = {key: rng.random(size) < SHARES[key] for key in _OF_COMMENTS}
        first, second, count = (
            rng.integers(0, POOL, size),
            rng.integers(0, 2 * POOL, size),
            rng.geometric(0.1, size),
        )
        users = rng.integers(0, 200_000, size)
        for place, index in enumerate(chosen):
            post = int(posts[index])
            identifier = np.base_repr(10_000_000_000 + start + place, 36).lower()
            is_bot, is_gone = bool(draw["bot"][place]), bool(draw["deleted"][place])
            text = f"{pool[first[place]]} {pool[second[place] % POOL]}"
            if second[place] < POOL:
                text += " " + pool[(first[place] + second[place]) % POOL]
            yield {
                "id": identifier,
                "name": f"t1_{identifier}",
                "author": "AutoModerator" if is_bot else "[deleted]" if is_gone else f"user{users[place]}",
                "author_flair_text": None,
                "archived": False,
                "body": _body(text, {key: bool(draw[key][place]) for key in draw}, pool[post % POOL]),
                "controversiality": 0,
                "created_utc": int(written[index]),
                "retrieved_on": int(written[index]) + 20 * 86_400,
                "distinguished": "moderator" if is_bot else None,
                "edited": False,
                "gilded": 0,
                "link_id": f"t3_{name(post)}",
                "parent_id": f"t1_{identifier[:-1]}0" if draw["reply"][place] else f"t3_{name(post)}",
                "permalink": f"/r/pics/comments/{name(post)}/_/{identifier}/",
                "score": int(count[place]),
                "score_hidden": False,
                "stickied": is_bot,
                "subreddit": "pics",
                "subreddit_id": "t5_2qh0u",
            }


_OF_COMMENTS = ("bot", "deleted", "short", "repeated", "link", "foreign", "reply")


def _body(text: str, drawn: dict[str, bool], of_post: str) -> str:
    if drawn["bot"]:
        return words.BOT
    if drawn["deleted"]:
        return "[deleted]"
    if drawn["short"]:
        return "so nice"
    if drawn["repeated"]:
        return of_post
    if drawn["foreign"]:
        return words.FOREIGN[len(text) % len(words.FOREIGN)]
    if drawn["link"]:
        return f"{text} see https://example.org/p/{len(text)} or ask u/somebody_else"
    return text


def _save(path: Path, records: Iterator[dict[str, Any]]) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, write_content_size=False)
    part = path.with_suffix(".part")
    with (
        part.open("wb") as file,
        zstandard.ZstdCompressor(compression_params=parameters).stream_writer(file) as writer,
    ):
        for record in records:
            writer.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
    part.replace(path)
