"""How often each scene is replayed, with 1 for the most replayed stretch of the video."""

from __future__ import annotations

import re
from collections.abc import Sequence

from behavior_llava.core.schema import Behavior, BehaviorWords, Curve, Post

_LINE = re.compile(r"^Replay\b[^:\n]*:[ \t]*(\d+(?:\.\d+)?(?:[ ,\t]+\d+(?:\.\d+)?)*)[ \t]*$", re.MULTILINE)


def over_scenes(curve: Curve, scenes: Sequence[tuple[float, float]]) -> tuple[float, ...] | None:
    """The curve's mean over every scene, weighted by how long each segment overlaps it.

    None where a scene meets no segment (the curve is shorter than the video, or a picture has no time line)
    or where the curve leaves 0..1: no value is made up.
    """
    if not scenes or not all(0 <= value <= 1 for value in curve.values):
        return None
    means = []
    for start_s, end_s in scenes:
        overlaps = [
            max(0.0, min(end_s, segment_end) - max(start_s, segment_start))
            for segment_start, segment_end in zip(curve.start_s, curve.end_s, strict=True)
        ]
        total = sum(overlaps)
        if total <= 0:
            return None
        means.append(sum(part * value for part, value in zip(overlaps, curve.values, strict=True)) / total)
    return tuple(means)


def say(post: Post, scenes: Sequence[tuple[float, float]], words: BehaviorWords) -> str | None:
    """One line with a value of two decimals for every scene, `words.more["between"]` between them."""
    if post.replay is None:
        return None
    means = over_scenes(post.replay, scenes)
    if means is None:
        return None
    return words.sentence.format(values=words.more["between"].join(f"{mean:.2f}" for mean in means))


def read_back(text: str) -> tuple[float, ...] | None:
    """The values of the first line that starts with "Replay"; None where there is none or one leaves 0..1."""
    line = _LINE.search(text)
    if line is None:
        return None
    values = tuple(float(value) for value in re.findall(r"\d+(?:\.\d+)?", line[1]))
    return values if all(value <= 1 for value in values) else None


_THREE = ((0.0, 1.0), (1.0, 2.0), (2.0, 4.0))

BEHAVIOR = Behavior(
    columns=("replay",),
    ask={"paper": "a replay value between 0 and 1 for every scene", "short": "the reactions"},
    words={
        "paper": BehaviorWords("Replay values by scene: {values}", more={"between": ", "}),
        "short": BehaviorWords("Replay: {values}", more={"between": " "}),
    },
    say=say,
    read_back=read_back,
    examples=(
        (
            {"replay": Curve((0.0, 1.0, 2.0), (1.0, 2.0, 4.0), (0.21, 1.0, 0.34))},
            _THREE,
            "Replay: 0.21 1.00 0.34",
        ),
        # the second scene is half in one segment, half in the other; the third lies three parts to one
        (
            {"replay": Curve((0.0, 1.5, 2.5), (1.5, 2.5, 4.0), (0.0, 1.0, 0.2))},
            _THREE,
            "Replay: 0.00 0.50 0.40",
        ),
        ({"replay": Curve((0.0,), (2.0,), (0.5,))}, _THREE, None),
        ({"replay": Curve((0.0,), (4.0,), (1.5,))}, _THREE, None),
        ({"replay": Curve((0.0,), (4.0,), (0.5,))}, ((0.0, 0.0),), None),
        ({"replay": None}, _THREE, None),
    ),
)
