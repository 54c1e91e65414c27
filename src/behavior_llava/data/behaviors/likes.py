"""How many of those who saw it liked it.

A percentage needs the number of viewers. Where a platform tells none (Reddit), its score is said, or the
share of upvotes,
and called so: a score is never turned into a percentage of viewers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from behavior_llava.core.schema import Behavior, BehaviorWords, Post


class Amount(NamedTuple):
    """One count and what it counts.

    Attributes:
        form: "like_rate" (likes/views, 0..1), "num_likes", "score" (may be negative) or "upvote_ratio"
            (0..1).
    """

    form: str
    value: float


_SHARES = ("like_rate", "upvote_ratio")
_PATTERNS = {
    "like_rate": r"^(\d{1,3}(?:\.\d{1,6})?) ?% of (?:the |its )?viewers\b",
    "upvote_ratio": r"^(\d{1,3}(?:\.\d{1,6})?) ?% of (?:the |its )?votes\b",
    "num_likes": r"^(\d{1,12}) (?:of the |of its )?viewers\b",
    "score": r"^(?:It has a |Its |The |A )?score (?:of|is) (-?\d{1,12})\b",
}
# Only the start of a line counts: a comment's line starts with its number and a scene's with "Scene", so no
# words of theirs can be read as an amount.
_ANY = re.compile(
    "|".join(f"(?P<{form}>{pattern})" for form, pattern in _PATTERNS.items()), re.IGNORECASE | re.MULTILINE
)
_ONE = {form: re.compile(pattern, re.IGNORECASE) for form, pattern in _PATTERNS.items()}


def amount(post: Post) -> Amount | None:
    """What the platform counted; None where it counted nothing or its counts contradict each other.

    With views, likes/views or nothing: no views, or more likes than views, give no share. Without views the
    number of likes, else the score, else the upvote ratio.
    """
    if post.num_views is not None and post.num_likes is not None:
        if post.num_views <= 0 or not 0 <= post.num_likes <= post.num_views:
            return None
        return Amount("like_rate", post.num_likes / post.num_views)
    if post.num_likes is not None:
        return Amount("num_likes", post.num_likes) if post.num_likes >= 0 else None
    if post.score is not None:
        return Amount("score", post.score)
    if post.upvote_ratio is not None and 0 <= post.upvote_ratio <= 1:
        return Amount("upvote_ratio", post.upvote_ratio)
    return None


def form(post: Post) -> str | None:
    """The form of `amount`; None where there is none."""
    found = amount(post)
    return None if found is None else found.form


def say(post: Post, scenes: Sequence[tuple[float, float]], words: BehaviorWords) -> str | None:
    """One sentence; `words.more` holds those of the forms other than like_rate."""
    found = amount(post)
    if found is None:
        return None
    sentence = words.sentence if found.form == "like_rate" else words.more[found.form]
    if found.form in _SHARES:
        return sentence.format(percent=100 * found.value)
    return sentence.format(number=int(found.value))


def read_back(text: str) -> Amount | None:
    """The first amount a line starts with; None where there is none, or more than 100 %."""
    line = _ANY.search(text)
    if line is None or line.lastgroup is None:
        return None
    said = _ONE[line.lastgroup].match(line.group())
    if said is None:
        return None
    value = float(said[1])
    if line.lastgroup not in _SHARES:
        return Amount(line.lastgroup, value)
    return Amount(line.lastgroup, value / 100) if value <= 100 else None


BEHAVIOR = Behavior(
    columns=("num_likes", "num_views", "score", "upvote_ratio"),
    ask={
        "paper": "the percentage of viewers that would like it",
        "paper.num_likes": "the number of viewers that would like it",
        "paper.score": "the score it would get from its viewers",
        "paper.upvote_ratio": "the percentage of upvotes among its votes",
        "short": "the reactions",
    },
    words={
        "paper": BehaviorWords(
            "{percent:.1f}% of the viewers would like it.",
            more={
                "num_likes": "{number} viewers would like it.",
                "score": "It has a score of {number}.",
                "upvote_ratio": "{percent:.1f}% of the votes are upvotes.",
            },
        ),
        "short": BehaviorWords(
            "{percent:.0f}% of viewers like it.",
            more={
                "num_likes": "{number} viewers like it.",
                "score": "It has a score of {number}.",
                "upvote_ratio": "{percent:.0f}% of votes are up.",
            },
        ),
    },
    say=say,
    read_back=read_back,
    examples=(
        ({"num_likes": 230, "num_views": 1000}, (), "23% of viewers like it."),
        ({"num_likes": 0, "num_views": 1000, "score": 9}, (), "0% of viewers like it."),
        ({"num_likes": 12}, (), "12 viewers like it."),
        ({"score": -3, "upvote_ratio": 0.4}, (), "It has a score of -3."),
        ({"upvote_ratio": 0.97}, (), "97% of votes are up."),
        ({"num_likes": 0, "num_views": 0}, (), None),
        ({"num_likes": 11, "num_views": 10}, (), None),
        ({"num_views": 10}, (), None),
        ({}, (), None),
    ),
    form=form,
)
