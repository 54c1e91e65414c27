"""How often each scene is replayed, with 1 for the most replayed stretch of the video."""

from __future__ import annotations

from behavior_llava.core.schema import Behavior, BehaviorWords, Curve, Post, Spans, Value
from behavior_llava.data import curves
from behavior_llava.data.curves import CurveParams


def value(post: Post, spans: Spans, params: CurveParams) -> Value | None:
    """The part replay: a mean of the curve, 0..1, for every scene.

    Without the start, 1 is the most replayed stretch of the rest. None where the curve leaves 0..1.
    """
    curve = post.replay
    if curve is None or not all(0 <= point <= 1 for point in curve.values):
        return None
    if params.start == "without":
        rest = curves.without_start(curve)
        curve = None if rest is None else curves.relative(rest)
    means = None if curve is None else curves.over_scenes(curve, spans)
    # a mean of ones may pass 1 by a rounding
    return None if means is None else {"replay": tuple(min(1.0, mean) for mean in means)}


def say(said: Value, words: BehaviorWords) -> str:
    """One line with a value of two decimals for every scene, `words.more["between"]` between them."""
    return words.sentence.format(values=curves.line_of(said["replay"], words.more["between"]))


def read_back(text: str) -> Value | None:
    """The values of the first line that starts with "Replay"; None where there is none or one leaves 0..1."""
    values = curves.read_line(text, "Replay")
    return None if values is None or not all(point <= 1 for point in values) else {"replay": values}


_THREE = ((0.0, 1.0), (1.0, 2.0), (2.0, 4.0))

BEHAVIOR = Behavior(
    columns=("replay",),
    params=CurveParams,
    value=value,
    unsaid="there is no curve, it leaves 0..1, a scene lies outside it, or only the start was replayed",
    ask={"paper": "a replay value between 0 and 1 for every scene", "short": "the reactions"},
    words={
        "paper": BehaviorWords("Replay values by scene: {values}", more={"between": ", "}),
        "short": BehaviorWords("Replay: {values}", more={"between": " "}),
    },
    say=say,
    read_back=read_back,
    metrics={"replay": "curve_correlation"},
    examples=(
        (
            {"replay": Curve((0.0, 1.0, 2.0), (1.0, 2.0, 4.0), (0.21, 1.0, 0.34))},
            {},
            _THREE,
            "Replay: 0.21 1.00 0.34",
        ),
        # the second scene is half in one segment, half in the other; the third lies three parts to one
        (
            {"replay": Curve((0.0, 1.5, 2.5), (1.5, 2.5, 4.0), (0.0, 1.0, 0.2))},
            {},
            _THREE,
            "Replay: 0.00 0.50 0.40",
        ),
        # without the first half second: 0.5 is the largest that is left
        (
            {"replay": Curve((0.0, 0.5, 1.0, 2.0), (0.5, 1.0, 2.0, 4.0), (1.0, 0.1, 0.5, 0.25))},
            {"start": "without"},
            _THREE,
            "Replay: 0.20 1.00 0.50",
        ),
        ({"replay": Curve((0.0, 1.0), (1.0, 4.0), (1.0, 0.5))}, {"start": "without"}, _THREE, None),
        ({"replay": Curve((0.0,), (2.0,), (0.5,))}, {}, _THREE, None),
        ({"replay": Curve((0.0,), (4.0,), (1.5,))}, {}, _THREE, None),
        ({"replay": Curve((0.0,), (4.0,), (0.5,))}, {}, ((0.0, 0.0),), None),
        ({"replay": None}, {}, _THREE, None),
    ),
)
