"""How many people opened it; as it is, this tells the channel's reach more than the content's."""

from __future__ import annotations

from behavior_llava.core.schema import Adjusted, Behavior, BehaviorWords, Post, Spans, Value
from behavior_llava.data import counts
from behavior_llava.data.counts import CountParams, Pattern

_read = counts.reader(
    (
        Pattern("num_views", r"It (?:would be|is) watched (\d{1,15}) times\b"),
        Pattern("num_views", r"(\d{1,15}) views\b"),
        *counts.adjusted_patterns("views", "watched", "views"),
    )
)


def value(post: Post, spans: Spans, params: CountParams) -> Value | None:
    """One part: num_views, views_percentile (0..1) or views_ratio."""
    if params.measure != "raw":
        found = counts.adjusted(post, "num_views", params)
        return None if found is None else {f"views_{found[0]}": found[1]}
    return None if post.num_views is None or post.num_views < 0 else {"num_views": post.num_views}


def say(said: Value, words: BehaviorWords) -> str:
    """One sentence; `words.more` holds those of the adjusted parts."""
    ((part, amount),) = said.items()
    if part == "num_views":
        return words.sentence.format(number=int(amount))
    return words.more[part].format(percent=100 * amount, ratio=amount)


def read_back(text: str) -> Value | None:
    """The first number of views a line starts with; None where there is none, or more than 100 %."""
    found = _read(text)
    return None if found is None else {found[0]: found[1]}


BEHAVIOR = Behavior(
    columns=("num_views", "adjusted"),
    params=CountParams,
    value=value,
    unsaid="the platform tells no views; adjusted: too few comparable posts",
    ask={
        "paper": "how often it would be watched",
        "paper.views_percentile": "the percentage of comparable posts that would be watched less",
        "paper.views_ratio": "how many times the views expected of its channel and age it would get",
        "short": "the reactions",
    },
    words={
        "paper": BehaviorWords(
            "It would be watched {number} times.",
            more={
                "views_percentile": "It would be watched more than {percent:.1f}% of comparable posts.",
                "views_ratio": "It would get {ratio:.2f} times the views expected of its channel and age.",
            },
        ),
        "short": BehaviorWords(
            "{number} views.",
            more={
                "views_percentile": "Watched more than {percent:.0f}% of posts.",
                "views_ratio": "{ratio:.2f} times the views expected.",
            },
        ),
    },
    say=say,
    read_back=read_back,
    metrics={"num_views": "spearman", "views_percentile": "r2", "views_ratio": "spearman"},
    examples=(
        ({"num_views": 1200}, {}, (), "1200 views."),
        ({"num_views": 0}, {}, (), "0 views."),
        (
            {"num_views": 1200, "adjusted": {"num_views": Adjusted(percentile=0.5, residual=-0.6931)}},
            {"measure": "percentile"},
            (),
            "Watched more than 50% of posts.",
        ),
        (
            {"num_views": 1200, "adjusted": {"num_views": Adjusted(percentile=0.5, residual=-0.6931)}},
            {"measure": "residual"},
            (),
            "0.50 times the views expected.",
        ),
        ({"num_views": 1200, "adjusted": {"num_views": Adjusted()}}, {"measure": "residual"}, (), None),
        ({}, {}, (), None),
    ),
)
