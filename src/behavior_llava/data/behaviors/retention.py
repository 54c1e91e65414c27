"""What share of the audience is still there in each scene; above 1 where people rewind, and never clipped."""

from __future__ import annotations

import math

from behavior_llava.core.schema import Behavior, BehaviorWords, Curve, Post, Spans, Value
from behavior_llava.data import curves
from behavior_llava.data.curves import CurveParams


def value(post: Post, spans: Spans, params: CurveParams) -> Value | None:
    """The part retention: a mean of the curve, from 0 up, for every scene."""
    curve = post.retention
    if curve is None or not all(math.isfinite(point) and point >= 0 for point in curve.values):
        return None
    if params.start == "without":
        curve = curves.without_start(curve)
    means = None if curve is None else curves.over_scenes(curve, spans)
    return None if means is None else {"retention": means}


def say(said: Value, words: BehaviorWords) -> str:
    """One line with a value of two decimals for every scene, `words.more["between"]` between them."""
    return words.sentence.format(values=curves.line_of(said["retention"], words.more["between"]))


def read_back(text: str) -> Value | None:
    """The values of the first line that starts with "Retention" or "Audience retention"; None for none."""
    values = curves.read_line(text, "(?:Audience retention|Retention)")
    return None if values is None else {"retention": values}


_THREE = ((0.0, 1.0), (1.0, 2.0), (2.0, 4.0))

BEHAVIOR = Behavior(
    columns=("retention",),
    params=CurveParams,
    value=value,
    unsaid="there is no curve, a point of it is negative or no number, or a scene lies outside it",
    ask={"paper": "the share of the audience that is still there in every scene", "short": "the reactions"},
    words={
        "paper": BehaviorWords("Audience retention by scene: {values}", more={"between": ", "}),
        "short": BehaviorWords("Retention: {values}", more={"between": " "}),
    },
    say=say,
    read_back=read_back,
    metrics={"retention": "curve_error"},
    examples=(
        (
            {"retention": Curve((0.0, 1.0, 2.0), (1.0, 2.0, 4.0), (1.21, 0.8, 0.345))},
            {},
            _THREE,
            "Retention: 1.21 0.80 0.34",
        ),
        (
            {"retention": Curve((0.0, 0.5, 2.0), (0.5, 2.0, 4.0), (1.4, 1.1, 0.3))},
            {"start": "without"},
            _THREE,
            "Retention: 1.10 1.10 0.30",
        ),
        ({"retention": Curve((0.0,), (4.0,), (-0.1,))}, {}, _THREE, None),
        ({"retention": Curve((0.0,), (2.0,), (0.5,))}, {}, _THREE, None),
        ({"retention": None}, {}, _THREE, None),
    ),
)
