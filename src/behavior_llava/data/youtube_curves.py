"""YouTube's curves over a video's time line, in every dialect people hold them, to a Curve; pure, no disk.

Replays ("most replayed", 0..1) come as segments in seconds (yt-dlp), in milliseconds (the page's old and new
renderer) or as (ratio, value) pairs; retentions (the share of viewers still there, which may exceed 1) as
(ratio, value) points. A ratio is a share of the duration; without a duration nothing can be placed. Partial
curves stay partial. Raises ValueError, TypeError, AttributeError, KeyError or IndexError for anything else,
which the source turns into a Fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from behavior_llava.core.schema import Curve
from behavior_llava.data import raw_values

_MILLISECONDS = (
    ("startMillis", "durationMillis", "intensityScoreNormalized"),
    ("timeRangeStartMillis", "markerDurationMillis", "heatMarkerIntensityScoreNormalized"),
)
"""Start, length and value of a segment as YouTube's page names them: since 2023, and before."""


class DurationMissing(ValueError):
    """A curve over ratios of a duration that is not known."""


def _number(value: Any) -> float:
    number = raw_values.to_float(value)
    if number is None:
        raise ValueError("a number is missing")
    return number


def _segment(raw: Mapping[str, Any]) -> tuple[float, float, Any]:
    """Start and end in seconds, and the value, of one segment."""
    raw = raw.get("heatMarkerRenderer", raw)
    for start, length, value in _MILLISECONDS:
        if start in raw:
            start_ms = _number(raw[start])
            return start_ms / 1000, (start_ms + _number(raw[length])) / 1000, raw[value]
    return _number(raw["start_time"]), _number(raw["end_time"]), raw["value"]


def _ascending(ratios: Sequence[float]) -> None:
    if not all(0 <= ratio <= 1 for ratio in ratios):
        raise ValueError("a ratio is not within 0..1")
    if any(after <= before for before, after in pairwise(ratios)):
        raise ValueError("ratios repeat or are not in order")


def _first_start(ratios: Sequence[float]) -> float:
    """Where the stretch begins that the first ratio ends: one step before it, not before 0."""
    return max(0.0, 2 * ratios[0] - ratios[1]) if len(ratios) > 1 else 0.0


def _from_pairs(pairs: Sequence[Any], duration_s: float | None) -> list[tuple[float, float, Any]]:
    """Pairs name the start of their stretch (0, 0.01, ...), or its end where they run from above 0 to 1."""
    ratios, values = [_number(ratio) for ratio, _ in pairs], [value for _, value in pairs]
    _ascending(ratios)
    if len(ratios) < 2:
        raise ValueError("one pair alone has no length")
    if not duration_s:
        raise DurationMissing("ratios of an unknown duration")
    if ratios[0] > 0 and ratios[-1] == 1:
        edges = [_first_start(ratios), *ratios]
    else:
        edges = [*ratios, min(1.0, 2 * ratios[-1] - ratios[-2])]
    seconds = [edge * duration_s for edge in edges]
    return list(zip(seconds, seconds[1:], values, strict=False))


def replay(heatmap: Any, duration_s: float | None) -> Curve | None:
    """The most-replayed curve; None where YouTube shows none."""
    if heatmap is None or heatmap == []:
        return None
    if isinstance(heatmap[0], Mapping):
        segments = [_segment(raw) for raw in heatmap]
    else:
        segments = _from_pairs(heatmap, duration_s)
    starts, ends = [start for start, _, _ in segments], [end for _, end, _ in segments]
    values = [raw_values.to_share(value) for _, _, value in segments]
    shares = [value for value in values if value is not None]
    if len(shares) < len(segments) or starts[0] < 0 or starts != sorted(starts):
        raise ValueError("segments are not in order or not complete")
    if any(end < start for start, end, _ in segments):
        raise ValueError("a segment ends before it starts")
    return Curve(tuple(starts), tuple(ends), tuple(shares))


def retention(points: Iterable[tuple[float, float | None]], duration_s: float | None) -> Curve | None:
    """The share of viewers still there; None where no point has a value.

    The point at a ratio covers the stretch from the ratio before it up to its own (as in the Analytics API,
    whose 100 points run from 0.01 to 1); the first begins one step before. A point at 0 covers nothing and is
    left out, as is one without a value. The points may come in any order.
    """
    points = sorted(points, key=lambda point: point[0])
    if not points:
        return None
    ratios = [ratio for ratio, _ in points]
    _ascending(ratios)
    if any(value is not None and value < 0 for _, value in points):
        raise ValueError("negative retention")
    starts = [_first_start(ratios), *ratios]
    covered = [
        (start, end, value)
        for start, (end, value) in zip(starts, points, strict=False)
        if value is not None and end > start
    ]
    if not covered:
        return None
    if not duration_s:
        raise DurationMissing("ratios of an unknown duration")
    return Curve(
        tuple(start * duration_s for start, _, _ in covered),
        tuple(end * duration_s for _, end, _ in covered),
        tuple(value for _, _, value in covered),
    )
