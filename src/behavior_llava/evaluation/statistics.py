"""Intervals and p values of scores that share items: what "better" is allowed to mean here.

In: a metric's columns, one array an arm and seed, over the same items in the same order, and the cluster
    (media id) of every item. Out: bootstrap draws, percentile intervals, p values. `summary.py` calls it.

Media are the unit: questions about one video stand or fall together, so clusters are drawn and swapped whole.
All arms of one call see the same draws, which makes every difference of two rows a paired one. Nothing here
keeps or touches a global random state; the same input gives the same numbers.

Shapes: N items, C clusters, F columns, D draws or flips, R runs (one arm and seed each).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from behavior_llava.evaluation.metrics import Array, Metric

DRAWS = 10_000
FLIPS = 20_000

MARGIN_POINTS = 5.0
MIN_EQUIVALENCE_N = 400

ALPHA = 0.05
POWER = 0.80
SEEN_POINTS = 2.0
"""The difference whose required number of media is told beside every comparison."""

_CHUNK_ENTRIES = 1 << 20
"""Weights held at once: 8 MB of float64, so that memory is bounded for any n and numpy's loops stay long."""

_MAX_UNDEFINED = 0.01
"""An interval is given only when at most this share of its draws is undefined."""

Run = Array
Equivalence = Literal["equivalent", "different", "inconclusive"]


def bootstrap(
    metric: Metric, runs: Sequence[Run], clusters: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> Array:
    """The metric of every run in every draw of the media, with replacement: values_RD.

    Row r minus row s is the paired difference of the two runs. A mean of rows over seeds is the pooled score:
    for a mean of item scores it equals averaging the items over seeds first. NaN where a draw leaves the
    metric undefined, and everywhere with a single cluster: drawing it again shows no spread at all.
    """
    index_N, num_clusters = _cluster_index(clusters)
    _check_lengths(runs, len(index_N))
    rng = np.random.default_rng(seed)
    values_RD = np.full((len(runs), draws), np.nan)
    if num_clusters == 1:
        return values_RD
    if metric.per_item:
        # A mean needs each cluster's sum and size only, however many questions share a medium.
        sums_RC, sizes_C = _cluster_sums(runs, index_N), np.bincount(index_N)
        for chunk in _chunks(draws, num_clusters):
            weights_CD = _draw_weights(rng, num_clusters, chunk.stop - chunk.start)
            values_RD[:, chunk] = (sums_RC @ weights_CD) / (sizes_C @ weights_CD)
        return values_RD
    for chunk in _chunks(draws, len(index_N)):
        weights_ND = _draw_weights(rng, num_clusters, chunk.stop - chunk.start)[index_N]
        for row, run in enumerate(runs):
            values_RD[row, chunk] = metric.weighted(run, weights_ND)
    return values_RD


def interval(values_D: Array, level: float = 0.95) -> tuple[float | None, float | None]:
    """The percentile interval of one row of draws; (None, None) where over 1 % of the draws are undefined.

    How often 95 % intervals held the truth in 2,000 simulated data sets (the worlds of
    tests/unit/test_calibration.py, 1,000 draws each; give or take 1 %):

    ================================  ====  ====  ====  ====  ====  ====
    media                               10    20    50   100   200   400
    ================================  ====  ====  ====  ====  ====  ====
    mean, media of 1 to 8 questions   89.4  92.5  94.6  95.5  95.0
    paired difference of means              93.7  94.6  95.5  94.8
    the same, pooled over three seeds       92.4  93.5  94.3  94.4
    Spearman's rho                          95.7  95.3  95.1  94.5
    R2                                      90.1  93.4  92.7  93.9  94.7
    mean where 97 % are right                           88.9        93.8
    ================================  ====  ====  ====  ====  ====  ====

    So it is narrower than it says over fewer than 50 media, over fewer than 400 for R2, and where nearly
    everything is right or wrong.
    """
    is_defined = np.isfinite(values_D)
    if not is_defined.any() or 1 - is_defined.mean() > _MAX_UNDEFINED:
        return None, None
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(values_D[is_defined], [tail, 100 - tail])
    return float(low), float(high)


def swap_test(
    metric: Metric,
    pairs: Sequence[tuple[Sequence[Run], Sequence[Run]]],
    clusters: Sequence[str],
    *,
    flips: int = FLIPS,
    seed: int = 0,
) -> list[float | None]:
    """Two-sided p of each pair (runs of two arms, seed by seed), if the arm made no difference.

    In every flip each medium's answers change arms with probability one half, in all seeds together. For a
    mean of item scores that is the paired sign-flip test; for a set-level metric both metrics are recomputed.
    p is (1 + as extreme) / (1 + flips), so it is never 0; an undefined flip counts as extreme; None where the
    observed difference is undefined.
    """
    index_N, num_clusters = _cluster_index(clusters)
    for arm, against in pairs:
        if len(arm) != len(against) or not arm:
            raise ValueError(f"{len(arm)} seeds of one arm against {len(against)} of the other")
        _check_lengths([*arm, *against], len(index_N))
    rng = np.random.default_rng(seed)
    if metric.per_item:
        return _sign_flip(pairs, index_N, num_clusters, flips, rng)
    return _recomputed_swaps(metric, pairs, (index_N, num_clusters), flips, rng)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over one family, in the given order.

    An undefined p stays None but counts in the size of the family: a test that failed must not make the
    others easier.
    """
    order = sorted(range(len(p_values)), key=lambda item: (p_values[item] is None, p_values[item] or 0.0))
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for position, item in enumerate(order):
        p = p_values[item]
        if p is None:
            break
        highest = max(highest, min(1.0, p * (len(p_values) - position)))
        adjusted[item] = highest
    return adjusted


def equivalence(low90: float | None, high90: float | None, n: int, point: float | None) -> Equivalence | None:
    """Whether "no change" is shown: the 90 % interval of the difference inside +-5 points, with n >= 400.

    "different" is an interval wholly beyond the margin; all else, and any n below 400, is "inconclusive".
    None where the interval is undefined or the metric has no points.
    """
    if low90 is None or high90 is None or point is None:
        return None
    if n < MIN_EQUIVALENCE_N:
        return "inconclusive"
    margin = MARGIN_POINTS * point
    if -margin < low90 and high90 < margin:
        return "equivalent"
    return "different" if low90 > margin or high90 < -margin else "inconclusive"


# ---- how many media it takes -------------------------------------------------------------------------------


def cluster_sd(draws_D: Array, num_clusters: int) -> float | None:
    """The paired standard deviation of one cluster, from the draws of a difference over that many clusters.

    The variance of the draws times the number of clusters, whatever the metric; for a mean over clusters of
    equal size this is the usual n - 1 estimate. None where the draws are undefined or do not vary: arms that
    never differed say nothing about how much they would.
    """
    is_defined = np.isfinite(draws_D)
    if num_clusters == 1 or 1 - is_defined.mean() > _MAX_UNDEFINED:
        return None
    spread = float(np.std(draws_D[is_defined]))
    # A constant row has a deviation of a few last bits.
    if spread <= 1e-12 * (1 + float(np.abs(draws_D[is_defined]).max())):
        return None
    return spread * num_clusters / math.sqrt(num_clusters - 1)


def required_clusters(sd: float | None, point: float | None, *, points: float, family: int = 1) -> int | None:
    """How many media it takes to see a true difference in four of five studies, at two-sided alpha 0.05.

    None where the deviation is undefined or the metric has no points.

    Args:
        sd: of one cluster's paired difference, see `cluster_sd`.
        point: what one point is in the metric's unit.
        points: the true difference to be seen.
        family: the number of p values Holm adjusts; alpha is divided by it, which is what the first of them
            has to meet. Later ones need fewer media, so this is the safe side.
    """
    if sd is None or point is None:
        return None
    deviates = ndtri(1 - ALPHA / (2 * family)) + ndtri(POWER)
    # With C clusters no sign-flip p is below 2 / 2**C.
    fewest = 1 + math.ceil(math.log2(family / ALPHA))
    return max(fewest, math.ceil((deviates * sd / (points * point)) ** 2))


def required_for_equivalence(
    sd: float | None, point: float | None, *, items_per_cluster: float
) -> int | None:
    """How many media it takes until `equivalence` is shown in four of five studies where nothing changed.

    None where the deviation is undefined or the metric has no points.
    """
    if sd is None or point is None:
        return None
    deviates = ndtri(1 - ALPHA) + ndtri((1 + POWER) / 2)
    by_spread = math.ceil((deviates * sd / (MARGIN_POINTS * point)) ** 2)
    return max(by_spread, math.ceil(MIN_EQUIVALENCE_N / items_per_cluster))


# ---- resampling --------------------------------------------------------------------------------------------


def _cluster_index(clusters: Sequence[str]) -> tuple[NDArray[np.intp], int]:
    """Every item's cluster number, by sorted name, so that the order of rows changes nothing."""
    if not len(clusters):
        raise ValueError("no items to resample")
    numbers = {name: number for number, name in enumerate(sorted(set(clusters)))}
    return np.array([numbers[name] for name in clusters], dtype=np.intp), len(numbers)


def _check_lengths(runs: Sequence[Run], num_items: int) -> None:
    for run in runs:
        if len(run) != num_items:
            raise ValueError(f"a run of {len(run)} items among {num_items}")


def _chunks(total: int, width: int) -> Iterator[slice]:
    size = max(1, _CHUNK_ENTRIES // max(1, width))
    for start in range(0, total, size):
        yield slice(start, min(total, start + size))


def _draw_weights(rng: np.random.Generator, num_clusters: int, draws: int) -> Array:
    """How often each cluster is drawn when as many as there are are drawn with replacement: weights_CD."""
    drawn_DC = rng.integers(0, num_clusters, size=(draws, num_clusters))
    flat = drawn_DC * draws + np.arange(draws)[:, None]
    counts = np.bincount(flat.ravel(), minlength=num_clusters * draws)
    return counts.reshape(num_clusters, draws).astype(np.float64)


def _draw_flips(rng: np.random.Generator, num_clusters: int, flips: int) -> NDArray[np.bool_]:
    return rng.integers(0, 2, size=(flips, num_clusters), dtype=np.bool_).T


def _cluster_sums(runs: Sequence[Run], index_N: NDArray[np.intp]) -> Array:
    """Item scores summed in each cluster: sums_RC."""
    return np.array([np.bincount(index_N, weights=run[:, 0]) for run in runs], dtype=np.float64)


def _sign_flip(
    pairs: Sequence[tuple[Sequence[Run], Sequence[Run]]],
    index_N: NDArray[np.intp],
    num_clusters: int,
    flips: int,
    rng: np.random.Generator,
) -> list[float | None]:
    differences = [np.mean(arm, axis=0) - np.mean(against, axis=0) for arm, against in pairs]
    sums_PC = _cluster_sums(differences, index_N)
    observed_P = np.abs(sums_PC.sum(axis=1))
    # Sums of the same terms in another order differ in the last bits; ties must count as ties.
    slack_P = 1e-9 * np.abs(sums_PC).sum(axis=1)
    extreme_P = np.zeros(len(pairs), dtype=np.int64)
    for chunk in _chunks(flips, num_clusters):
        signs_CD = 1.0 - 2.0 * _draw_flips(rng, num_clusters, chunk.stop - chunk.start)
        extreme_P += (np.abs(sums_PC @ signs_CD) >= (observed_P - slack_P)[:, None]).sum(axis=1)
    return [float((1 + extreme) / (1 + flips)) for extreme in extreme_P]


def _recomputed_swaps(
    metric: Metric,
    pairs: Sequence[tuple[Sequence[Run], Sequence[Run]]],
    index: tuple[NDArray[np.intp], int],
    flips: int,
    rng: np.random.Generator,
) -> list[float | None]:
    """The p of every pair, both arms' metrics recomputed in every flip; all pairs see the same flips.

    Two runs' rows are stacked; a flip gives weight 1 to the rows an arm holds in it and 0 to the others. So
    the same `weighted` serves here and no flip needs a sort of its own.
    """
    index_N, num_clusters = index
    duels = [list(zip(arm, against, strict=True)) for arm, against in pairs]
    # A pooled pair is made of the same two runs as each seed's pair: their flips are worked out once.
    stacked = {(id(a), id(b)): np.concatenate([a, b]) for duel in duels for a, b in duel}

    def differences(is_kept_ND: NDArray[np.bool_]) -> Array:
        weights = np.concatenate([is_kept_ND, ~is_kept_ND]).astype(np.float64)
        values = {
            key: metric.weighted(rows, weights) - metric.weighted(rows, 1 - weights)
            for key, rows in stacked.items()
        }
        return np.array([np.mean([values[id(a), id(b)] for a, b in duel], axis=0) for duel in duels])

    observed_P = np.abs(differences(np.ones((len(index_N), 1), dtype=np.bool_))[:, 0])
    extreme_P = np.zeros(len(pairs), dtype=np.int64)
    if not np.isfinite(observed_P).any():
        return [None] * len(pairs)
    for chunk in _chunks(flips, 2 * len(index_N)):
        is_kept_CD = _draw_flips(rng, num_clusters, chunk.stop - chunk.start)
        flipped_PD = np.abs(differences(is_kept_CD[index_N]))
        # Written so that NaN counts as extreme.
        extreme_P += (~(flipped_PD < (observed_P - 1e-12)[:, None])).sum(axis=1)
    return [
        float((1 + extreme) / (1 + flips)) if np.isfinite(observed) else None
        for extreme, observed in zip(extreme_P, observed_P, strict=True)
    ]
