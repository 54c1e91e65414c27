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
    """First num_shares (of all services), shares_percentile (0..1) or shares_ratio; then, where there are
    two services or more and somebody shared, services: service -> its share of all.
    """
    if post.shares is None or any(count < 0 for count in post.shares.values()):
        return None
    said: dict[str, object] = {"num_shares": sum(post.shares.values())}
    if params.measure != "raw":
        found = counts.adjusted(post, "shares", params)
        if found is None:
            return None
        said = {f"shares_{found[0]}": found[1]}
    services = counts.shares_by_name(post.shares)
    return said if services is None else {**said, "services": services}


def say(said: Value, words: BehaviorWords) -> str:
    """One line: the amount, and after a colon the largest services."""
    part, amount = next(iter(said.items()))
    sentence = words.sentence if part == "num_shares" else words.more[part]
    line = sentence.format(number=int(amount), percent=100 * amount, ratio=amount)
    if "services" not in said:
        return f"{line}."
    return f"{line}: {counts.say_shares(said['services'], words.max_items, words.more['item'])}."


def read_back(text: str) -> Value | None:
    """The first amount of shares a line starts with, and the services behind it; None for no amount."""
    found = _read(text)
    if found is None:
        return None
    part, amount, rest = found
    services = counts.read_shares(rest.partition(":")[2])
    return {part: amount} if services is None else {part: amount, "services": services}


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
    say=say,
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
