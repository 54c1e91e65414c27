"""Which of the offered reactions people choose: love, haha, angry."""

from __future__ import annotations

from behavior_llava.core.schema import Adjusted, Behavior, BehaviorWords, Post, Spans, Value
from behavior_llava.data import counts
from behavior_llava.data.counts import CountParams, Pattern

_percentile, _ratio = counts.adjusted_patterns("reactions", "reacted to", "reactions")
_read = counts.reader(
    (Pattern("num_reactions", r"(?:It (?:would get|gets) )?(\d{1,15}) reactions\b"), _percentile, _ratio)
)


def value(post: Post, spans: Spans, params: CountParams) -> Value | None:
    """num_reactions, reactions_percentile or reactions_ratio, then reaction_kinds; see counts.value_of."""
    return counts.value_of(post, "reactions", post.reactions, "reaction_kinds", params)


def read_back(text: str) -> Value | None:
    """The first amount of reactions a line starts with, and the kinds behind it; None for no amount."""
    return counts.read_value(_read, text, "reaction_kinds")


_PAPER, _SHORT = (
    counts.adjusted_words("reactions", "reacted to", "reactions", wording) for wording in ("paper", "short")
)

BEHAVIOR = Behavior(
    columns=("reactions", "adjusted"),
    params=CountParams,
    value=value,
    unsaid="the platform tells no reactions; adjusted: too few comparable posts",
    ask={
        "paper": "how many and which reactions it would get",
        "paper.reactions_percentile": "the percentage of comparable posts that would be reacted to less",
        "paper.reactions_ratio": "how many times the reactions expected of its channel and age it would get",
        "short": "the reactions",
    },
    words={
        "paper": BehaviorWords(
            "It would get {number} reactions", max_items=6, more={**_PAPER, "item": "{percent:.1f}% {name}"}
        ),
        "short": BehaviorWords(
            "{number} reactions", max_items=3, more={**_SHORT, "item": "{percent:.0f}% {name}"}
        ),
    },
    say=counts.say_value,
    read_back=read_back,
    metrics={
        "num_reactions": "spearman",
        "reactions_percentile": "r2",
        "reactions_ratio": "spearman",
        "reaction_kinds": "share_overlap",
    },
    examples=(
        (
            {"reactions": {"love": 61, "haha": 20, "wow": 12, "sad": 7, "angry": 0}},
            {},
            (),
            "100 reactions: 61% love, 20% haha, 12% wow.",
        ),
        ({"reactions": {"like": 3}}, {}, (), "3 reactions."),
        ({"reactions": {"love": 0, "sad": 0}}, {}, (), "0 reactions."),
        (
            {"reactions": {"love": 3, "sad": 1}, "adjusted": {"reactions": Adjusted(residual=0.0)}},
            {"measure": "residual"},
            (),
            "1.00 times the reactions expected: 75% love, 25% sad.",
        ),
        ({"reactions": {"love": 3}}, {"measure": "percentile"}, (), None),
        ({"reactions": {"love": -3}}, {}, (), None),
        ({"reactions": None}, {}, (), None),
    ),
)
