"""How many of those who saw it liked it.

A percentage needs the number of viewers. Where a platform tells none (Reddit), its score is said, or the
share of upvotes, and called so: a score is never turned into a percentage of viewers.
"""

from __future__ import annotations

from behavior_llava.core.schema import Adjusted, Behavior, BehaviorWords, Post, Spans, Value
from behavior_llava.data import counts
from behavior_llava.data.counts import PERCENT, CountParams, Pattern

_SHARES = ("like_rate", "upvote_ratio", "likes_percentile")
_read = counts.reader(
    (
        Pattern("like_rate", rf"({PERCENT}) ?% of (?:the |its )?viewers\b", scale=100, most=1),
        Pattern("upvote_ratio", rf"({PERCENT}) ?% of (?:the |its )?votes\b", scale=100, most=1),
        Pattern("num_likes", r"(\d{1,15}) (?:of the |of its )?viewers\b"),
        Pattern("score", r"(?:It has a |Its |The |A )?score (?:of|is) (-?\d{1,15})\b"),
        *counts.adjusted_patterns("likes", "liked", "likes"),
    )
)


def value(post: Post, spans: Spans, params: CountParams) -> Value | None:
    """One part: like_rate (likes/views, 0..1), num_likes, score (may be negative), upvote_ratio (0..1),
    likes_percentile (0..1) or likes_ratio.

    Raw with views: likes/views or nothing, for no views, or more likes than views, give no share. Without
    views the number of likes, else the score, else the upvote ratio. Adjusted: of the likes, else of the
    score, of which nothing below 0 is a multiple of what was expected.
    """
    if params.measure != "raw":
        if post.num_likes is None and params.measure == "residual" and (post.score or 0) < 0:
            return None
        found = counts.adjusted(post, "num_likes" if post.num_likes is not None else "score", params)
        return None if found is None else {f"likes_{found[0]}": found[1]}
    if post.num_views is not None and post.num_likes is not None:
        if post.num_views <= 0 or not 0 <= post.num_likes <= post.num_views:
            return None
        return {"like_rate": post.num_likes / post.num_views}
    if post.num_likes is not None:
        return {"num_likes": post.num_likes} if post.num_likes >= 0 else None
    if post.score is not None:
        return {"score": post.score}
    if post.upvote_ratio is not None and 0 <= post.upvote_ratio <= 1:
        return {"upvote_ratio": abs(post.upvote_ratio)}  # -0.0 would be said as -0%
    return None


def say(said: Value, words: BehaviorWords) -> str:
    """One sentence; `words.more` holds those of the parts other than like_rate."""
    ((part, amount),) = said.items()
    sentence = words.sentence if part == "like_rate" else words.more[part]
    if part in _SHARES:
        return sentence.format(percent=100 * amount)
    return sentence.format(ratio=amount) if part == "likes_ratio" else sentence.format(number=int(amount))


def read_back(text: str) -> Value | None:
    """The first amount a line starts with; None where there is none, or more than 100 %."""
    found = _read(text)
    return None if found is None else {found[0]: found[1]}


BEHAVIOR = Behavior(
    columns=("num_likes", "num_views", "score", "upvote_ratio", "adjusted"),
    params=CountParams,
    value=value,
    unsaid="nothing was counted; no views, or more likes than views; adjusted: too few comparable posts",
    ask={
        "paper": "the percentage of viewers that would like it",
        "paper.num_likes": "the number of viewers that would like it",
        "paper.score": "the score it would get from its viewers",
        "paper.upvote_ratio": "the percentage of upvotes among its votes",
        "paper.likes_percentile": "the percentage of comparable posts that would be liked less",
        "paper.likes_ratio": "how many times the likes expected of its channel and age it would get",
        "short": "the reactions",
    },
    words={
        "paper": BehaviorWords(
            "{percent:.1f}% of the viewers would like it.",
            more={
                "num_likes": "{number} viewers would like it.",
                "score": "It has a score of {number}.",
                "upvote_ratio": "{percent:.1f}% of the votes are upvotes.",
                "likes_percentile": "It would be liked more than {percent:.1f}% of comparable posts.",
                "likes_ratio": "It would get {ratio:.2f} times the likes expected of its channel and age.",
            },
        ),
        "short": BehaviorWords(
            "{percent:.0f}% of viewers like it.",
            more={
                "num_likes": "{number} viewers like it.",
                "score": "It has a score of {number}.",
                "upvote_ratio": "{percent:.0f}% of votes are up.",
                "likes_percentile": "Liked more than {percent:.0f}% of posts.",
                "likes_ratio": "{ratio:.2f} times the likes expected.",
            },
        ),
    },
    say=say,
    read_back=read_back,
    metrics={
        "like_rate": "r2",
        "num_likes": "spearman",
        "score": "spearman",
        "upvote_ratio": "r2",
        "likes_percentile": "r2",
        "likes_ratio": "spearman",
    },
    examples=(
        ({"num_likes": 230, "num_views": 1000}, {}, (), "23% of viewers like it."),
        ({"num_likes": 0, "num_views": 1000, "score": 9}, {}, (), "0% of viewers like it."),
        ({"num_likes": 12}, {}, (), "12 viewers like it."),
        ({"score": -3, "upvote_ratio": 0.4}, {}, (), "It has a score of -3."),
        ({"upvote_ratio": 0.97}, {}, (), "97% of votes are up."),
        (
            {"num_likes": 12, "num_views": 90, "adjusted": {"num_likes": Adjusted(percentile=0.734)}},
            {"measure": "percentile"},
            (),
            "Liked more than 73% of posts.",
        ),
        (
            {"score": 40, "adjusted": {"score": Adjusted(residual=0.6931)}},
            {"measure": "residual"},
            (),
            "2.00 times the likes expected.",
        ),
        ({"num_likes": 12, "num_views": 90}, {"measure": "percentile"}, (), None),
        ({"score": -4, "adjusted": {"score": Adjusted(residual=-3.0)}}, {"measure": "residual"}, (), None),
        ({"num_likes": 0, "num_views": 0}, {}, (), None),
        ({"num_likes": 11, "num_views": 10}, {}, (), None),
        ({"num_views": 10}, {}, (), None),
        ({}, {}, (), None),
    ),
)
