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
    """First num_reactions (of all kinds), reactions_percentile (0..1) or reactions_ratio; then, where there
    are two kinds or more and somebody reacted, reaction_kinds: kind -> its share of all.
    """
    if post.reactions is None or any(count < 0 for count in post.reactions.values()):
        return None
    said: dict[str, object] = {"num_reactions": sum(post.reactions.values())}
    if params.measure != "raw":
        found = counts.adjusted(post, "reactions", params)
        if found is None:
            return None
        said = {f"reactions_{found[0]}": found[1]}
    kinds = counts.shares_by_name(post.reactions)
    return said if kinds is None else {**said, "reaction_kinds": kinds}


def say(said: Value, words: BehaviorWords) -> str:
    """One line: the amount, and after a colon the most frequent kinds."""
    part, amount = next(iter(said.items()))
    sentence = words.sentence if part == "num_reactions" else words.more[part]
    line = sentence.format(number=int(amount), percent=100 * amount, ratio=amount)
    if "reaction_kinds" not in said:
        return f"{line}."
    return f"{line}: {counts.say_shares(said['reaction_kinds'], words.max_items, words.more['item'])}."


def read_back(text: str) -> Value | None:
    """The first amount of reactions a line starts with, and the kinds behind it; None for no amount."""
    found = _read(text)
    if found is None:
        return None
    part, amount, rest = found
    kinds = counts.read_shares(rest.partition(":")[2])
    return {part: amount} if kinds is None else {part: amount, "reaction_kinds": kinds}


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
    say=say,
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
