"""Curves over a video's time line, as means over its scenes.

Imported by the behaviors replay and retention, and by what writes both forms of a curve into the data set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from behavior_llava.core.schema import Curve, Spans
from behavior_llava.data.counts import NUMBER


class CurveParams(BaseModel):
    """Which form of a curve is said.

    Attributes:
        start: "with" the first segment, or "without": it counts that the player started, not that people
            wanted to see it. Source: behaviour of yt-dlp's heatmaps, whose maximum is segment 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Literal["with", "without"] = "with"


def over_scenes(curve: Curve, spans: Spans) -> tuple[float, ...] | None:
    """The curve's mean over every scene, weighted by how long each segment overlaps it.

    None where a scene meets no segment (the curve is shorter than the video, or a picture has no time line):
    no value is made up.
    """
    if not spans:
        return None
    means = []
    for start_s, end_s in spans:
        overlaps = [
            max(0.0, min(end_s, segment_end) - max(start_s, segment_start))
            for segment_start, segment_end in zip(curve.start_s, curve.end_s, strict=True)
        ]
        total = sum(overlaps)
        if total <= 0:
            return None
        means.append(sum(part * value for part, value in zip(overlaps, curve.values, strict=True)) / total)
    return tuple(means)


def without_start(curve: Curve) -> Curve | None:
    """The curve without its first segment; None where nothing else is left."""
    if len(curve.values) < 2:
        return None
    return Curve(curve.start_s[1:], curve.end_s[1:], curve.values[1:])


def relative(curve: Curve) -> Curve | None:
    """The curve in shares of its largest value; None where that is 0."""
    largest = max(curve.values)
    if largest <= 0:
        return None
    return Curve(curve.start_s, curve.end_s, tuple(value / largest for value in curve.values))


# ---- words -------------------------------------------------------------------------------------------------

_NUMBERS = rf"{NUMBER}(?:[ ,\t]+{NUMBER})*"


def line_of(values: Sequence[float], between: str) -> str:
    """The values with two decimals."""
    return between.join(f"{value:.2f}" for value in values)


def read_line(text: str, name: str) -> tuple[float, ...] | None:
    """The values of the first line that starts with `name` and a colon after it; None where there is none."""
    line = re.search(rf"^{name}\b[^:\n]*:[ \t]*({_NUMBERS})[ \t]*$", text, re.MULTILINE)
    return None if line is None else tuple(float(value) for value in re.findall(NUMBER, line[1]))
