"""How many of its viewers know it again later; its label's age is the time between seeing and being asked."""

from __future__ import annotations

from behavior_llava.core.schema import Behavior, BehaviorWords, NoParams, Post, Spans, Value
from behavior_llava.data import counts
from behavior_llava.data.counts import PERCENT, Pattern

_read = counts.reader(
    (
        Pattern(
            "recall",
            rf"(?:It (?:would be|is) )?remembered by ({PERCENT}) ?%",
            scale=100,
            most=1,
        ),
        # LAMBDA's scale of 00 to 99: bs_test_q.json of behavior-in-the-wild/ad-memorability
        Pattern(
            "recall", r"(?:The |Its )?(?:long[- ]term )?memorability(?: score)?(?: is|:) (\d\d)\b", scale=100
        ),
    )
)


def value(post: Post, spans: Spans, params: NoParams) -> Value | None:
    """The part recall, 0..1."""
    if post.recall is None or not 0 <= post.recall <= 1:
        return None
    return {"recall": abs(post.recall)}  # -0.0 would be said as -0%


def say(said: Value, words: BehaviorWords) -> str:
    """One sentence with the blanks percent (0..100) or score (0..99, as LAMBDA and LaMem's protocol write
    it).
    """
    share = said["recall"]
    return words.sentence.format(percent=100 * share, score=min(99, round(100 * share)))


def read_back(text: str) -> Value | None:
    """The first share of viewers, or score, that a line starts with; None where there is none."""
    found = _read(text)
    return None if found is None else {found[0]: found[1]}


BEHAVIOR = Behavior(
    columns=("recall",),
    params=NoParams,
    value=value,
    unsaid="it was not measured who knew it again",
    ask={"paper": "the percentage of viewers that would remember it", "short": "how well it is remembered"},
    words={
        "paper": BehaviorWords("It would be remembered by {percent:.1f}% of the viewers."),
        "short": BehaviorWords("Remembered by {percent:.0f}%."),
    },
    say=say,
    read_back=read_back,
    metrics={"recall": "spearman"},
    examples=(
        ({"recall": 0.734}, {}, (), "Remembered by 73%."),
        ({"recall": 0.0}, {}, (), "Remembered by 0%."),
        ({"recall": 1.5}, {}, (), None),
        ({}, {}, (), None),
    ),
    age_s=lambda post: post.recall_delay_s,
)
