"""How often it is passed on, and by which ways."""

from __future__ import annotations

from behavior_llava.core.schema import Adjusted, Behavior, BehaviorWords, Post, Spans, Value
from behavior_llava.data import counts
from behavior_llava.data.counts import CountParams, Pattern

_read = counts.reader(
    (
        Pattern("num_shares", r"(?:It (?:would be|is) )?shared (\d{1,15}) times\b"),
        *counts.adjusted_patterns("shares", "shared", "shares"),
    )
)


def value(post: Post, spans: Spans, params: CountParams) -> Value | None:
    """num_shares, shares_percentile or shares_ratio, then services; see counts.value_of."""
    return counts.value_of(post, "shares", post.shares, "services", params)


def read_back(text: str) -> Value | None:
    """The first amount of shares a line starts with, and the services behind it; None for no amount."""
    return counts.read_value(_read, text, "services")


_PAPER, _SHORT = (
    counts.adjusted_words("shares", "shared", "shares", wording) for wording in ("paper", "short")
)

BEHAVIOR = Behavior(
    columns=("shares", "adjusted"),
    params=CountParams,
    value=value,
    unsaid="the platform tells no shares; adjusted: too few comparable posts",
    ask={
        "paper": "how often and where it would be shared",
        "paper.shares_percentile": "the percentage of comparable posts that would be shared less",
        "paper.shares_ratio": "how many times the shares expected of its channel and age it would get",
        "short": "the reactions",
    },
    words={
        "paper": BehaviorWords(
            "It would be shared {number} times", max_items=5, more={**_PAPER, "item": "{percent:.1f}% {name}"}
        ),
        "short": BehaviorWords(
            "Shared {number} times", max_items=2, more={**_SHORT, "item": "{percent:.0f}% {name}"}
        ),
    },
    say=counts.say_value,
    read_back=read_back,
    metrics={
        "num_shares": "spearman",
        "shares_percentile": "r2",
        "shares_ratio": "spearman",
        "services": "share_overlap",
    },
    examples=(
        (
            {"shares": {"WHATS_APP": 60, "COPY_PASTE": 30, "FACEBOOK": 10}},
            {},
            (),
            "Shared 100 times: 60% whats app, 30% copy paste.",
        ),
        ({"shares": {"all": 7}}, {}, (), "Shared 7 times."),
        ({"shares": {"FACEBOOK": 0, "TWITTER": 0}}, {}, (), "Shared 0 times."),
        (
            {"shares": {"all": 7}, "adjusted": {"shares": Adjusted(percentile=0.25)}},
            {"measure": "percentile"},
            (),
            "Shared more than 25% of posts.",
        ),
        ({"shares": {"all": 7}}, {"measure": "residual"}, (), None),
        ({"shares": {"all": -7}}, {}, (), None),
        ({"shares": None}, {}, (), None),
    ),
)
