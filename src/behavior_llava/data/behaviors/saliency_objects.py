"""What people look at: the objects of a picture, from most to least looked at.

For ablations: looking is perception, not the action that likes and comments are.
"""

from __future__ import annotations

import math
import re

from behavior_llava.core.schema import Behavior, BehaviorWords, NoParams, Post, Spans, Value
from behavior_llava.data.counts import spoken

_LINE = re.compile(r"^Objects\b[^:\n]*:([^:\n]*)$", re.MULTILINE)


def value(post: Post, spans: Spans, params: NoParams) -> Value | None:
    """The part object_order: the names of at least two objects, the most looked at first; equal ones by
    name. Of objects spoken alike the one looked at more counts.
    """
    shares: dict[str, float] = {}
    for name, share in (post.saliency_objects or {}).items():
        if not math.isfinite(share) or share < 0:
            return None
        if word := spoken(name):
            shares[word] = max(share, shares.get(word, 0.0))
    if len(set(shares.values())) < 2:
        return None
    return {"object_order": tuple(sorted(shares, key=lambda name: (-shares[name], name)))}


def say(said: Value, words: BehaviorWords) -> str:
    """One line with the names, at most `words.max_items`."""
    return words.sentence.format(objects=", ".join(said["object_order"][: words.max_items]))


def read_back(text: str) -> Value | None:
    """The names of the first line that starts with "Objects"; None where there are fewer than two or one
    stands twice.
    """
    line = _LINE.search(text)
    names: dict[str, None] = {}
    for part in () if line is None else line[1].split(","):
        name = spoken(part)
        if not name or name in names:
            return None
        names[name] = None
    return {"object_order": tuple(names)} if len(names) > 1 else None


BEHAVIOR = Behavior(
    columns=("saliency_objects",),
    params=NoParams,
    value=value,
    unsaid="no fixations were measured, fewer than two objects are outlined, or all got the same",
    ask={
        "paper": "the {items} most looked at objects, the most looked at first",
        "short": "the objects looked at",
    },
    words={
        "paper": BehaviorWords("Objects from most to least looked at: {objects}.", max_items=5),
        "short": BehaviorWords("Objects: {objects}.", max_items=3),
    },
    say=say,
    read_back=read_back,
    metrics={"object_order": "order_correlation"},
    examples=(
        (
            {"saliency_objects": {"dog": 0.2, "Traffic_light": 0.4, "person": 0.2, "car": 0.0}},
            {},
            (),
            "Objects: traffic light, dog, person.",
        ),
        ({"saliency_objects": {"dog": 1.0}}, {}, (), None),
        ({"saliency_objects": {"dog": 0.1, "cat": 0.1}}, {}, (), None),
        ({}, {}, (), None),
    ),
    age_s=None,
)
