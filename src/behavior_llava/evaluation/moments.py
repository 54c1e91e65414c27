"""How far windows and scores of a video's time line meet the true ones, as QVHighlights counts it.

In: windows [start_s, end_s, score] or a score per clip, as a task parsed them (None = unparsed, which scores
0), and the truth. Out: one score per item, from which metrics.py builds its metrics.

Definitions: https://github.com/jayleicn/moment_detr, standalone_eval/eval.py, written anew here; the test
against its sample predictions gives all of its numbers to the last digit. Its splits by the length of the
true windows (short, middle, long) are left out.

Shapes: N items, P predicted windows, T true windows, C clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Source: standalone_eval/eval.py of moment_detr.
IOUS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10))
"""The thresholds over which moment_map is the mean."""
MOST_WINDOWS = 10
"""How many windows are looked at, in the order given."""
CLIP_S = 2
"""Length of the clips whose saliency is told, in seconds."""
FAIR, GOOD, VERY_GOOD = 2, 3, 4
"""The least grade, of 0 to 4, with which a clip is a highlight."""


def average_precisions(
    predictions: Sequence[Any], labels: Sequence[Any], ious: Sequence[float] = IOUS
) -> Array:
    """[N] average precision of an item's windows, the mean over the thresholds.

    Args:
        predictions: [[start_s, end_s, score], ...] each.
        labels: [[start_s, end_s], ...] each.
        ious: a window is right where it overlaps a true one by at least so much.
    """

    def of_item(said: Any, true: Any) -> float:
        if not said:
            return 0.0
        ranked = sorted(said[:MOST_WINDOWS], key=lambda window: -window[2])
        overlaps_PT = _overlaps(ranked, true)
        return float(np.mean([_average_precision(overlaps_PT, iou) for iou in ious]))

    return np.array([of_item(*pair) for pair in zip(predictions, labels, strict=True)], dtype=np.float64)


def first_hits(predictions: Sequence[Any], labels: Sequence[Any], iou: float) -> Array:
    """[N] 1 where the window given first overlaps a true one by at least `iou`."""
    return np.array(
        [
            float(bool(said) and _overlaps(said[:1], true).max() >= iou)
            for said, true in zip(predictions, labels, strict=True)
        ],
        dtype=np.float64,
    )


def _overlaps(said: Sequence[Any], true: Sequence[Any]) -> Array:
    """[P, T] intersection over union."""
    start_P1, end_P1 = (
        np.array([window[edge] for window in said], dtype=np.float64)[:, None] for edge in (0, 1)
    )
    start_T, end_T = (np.array([window[edge] for window in true], dtype=np.float64) for edge in (0, 1))
    shared_PT = np.clip(np.minimum(end_P1, end_T) - np.maximum(start_P1, start_T), 0, None)
    return shared_PT / ((end_P1 - start_P1) + (end_T - start_T) - shared_PT)


def _average_precision(overlaps_PT: Array, iou: float) -> float:
    """VOC 2011: the mean over true windows of the best precision at their recall or beyond, 0 if missed.

    In order of score, each window takes the true one it overlaps most of those that are left.
    """
    is_left_T = np.ones(overlaps_PT.shape[1], dtype=bool)
    is_hit_P = np.zeros(len(overlaps_PT), dtype=bool)
    for place, overlaps_T in enumerate(overlaps_PT):
        offered_T = np.where(is_left_T, overlaps_T, -1.0)
        best = int(offered_T.argmax())
        if offered_T[best] >= iou:
            is_hit_P[place], is_left_T[best] = True, False
    precision_P = np.cumsum(is_hit_P) / np.arange(1, len(is_hit_P) + 1)
    return float(_best_from_here(precision_P)[is_hit_P].sum() / len(is_left_T))


def highlight_precisions(predictions: Sequence[Any], labels: Sequence[Any], least: int) -> Array:
    """[N] average precision of an item's clips, the mean over its annotators.

    Args:
        predictions: a score per clip each; cut or filled with 0 to the number of clips.
        labels: `duration` in seconds; `clips`, the numbers of those that were graded, and `scores`, their
            grades by every annotator; ungraded clips are 0.
        least: the grade from which a clip is a highlight.
    """

    def of_item(said: Any, true: Mapping[str, Any]) -> float:
        if said is None:
            return 0.0
        grades_CA = _grades(true)
        scores_C = _fitted(said, len(grades_CA))
        return float(np.mean([_step_precision(scores_C, grades_C >= least) for grades_C in grades_CA.T]))

    return np.array([of_item(*pair) for pair in zip(predictions, labels, strict=True)], dtype=np.float64)


def highlight_hits(predictions: Sequence[Any], labels: Sequence[Any], least: int) -> Array:
    """[N] 1 where any annotator finds the highest scored clip, of several the first, a highlight.

    Arguments as of `highlight_precisions`.
    """

    def of_item(said: Any, true: Mapping[str, Any]) -> float:
        if said is None:
            return 0.0
        grades_CA = _grades(true)
        return float(grades_CA[_fitted(said, len(grades_CA)).argmax()].max() >= least)

    return np.array([of_item(*pair) for pair in zip(predictions, labels, strict=True)], dtype=np.float64)


def num_clips(duration_s: float) -> int:
    """How many whole clips a video has."""
    return int(duration_s / CLIP_S)


def _grades(label: Mapping[str, Any]) -> Array:
    """[C, annotators], 0 for a clip that was not graded."""
    graded = np.array(label["scores"], dtype=np.float64)
    grades_CA = np.zeros((num_clips(label["duration"]), graded.shape[1]))
    grades_CA[label["clips"]] = graded
    return grades_CA


def _fitted(scores: Sequence[float], count: int) -> Array:
    fitted = np.zeros(count)
    given = np.asarray(scores[:count], dtype=np.float64)
    fitted[: len(given)] = given
    return fitted


def _step_precision(scores_C: Array, is_true_C: NDArray[np.bool_]) -> float:
    """The mean over thresholds that find further true clips of the best precision there or below.

    Clips of equal score are found at once, and count as one step however many are true.
    """
    if is_true_C.all() or not is_true_C.any():
        return float(is_true_C.all())
    order_C = np.argsort(-scores_C, kind="stable")
    is_last_C = np.append(np.diff(scores_C[order_C]) != 0, True)
    found = np.cumsum(is_true_C[order_C])[is_last_C]
    precision = found / (np.flatnonzero(is_last_C) + 1)
    return float(_best_from_here(precision)[np.diff(found, prepend=0) > 0].mean())


def _best_from_here(precision: Array) -> Array:
    return np.maximum.accumulate(precision[::-1])[::-1]
