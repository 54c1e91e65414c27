"""Metrics by name, built so that thousands of resamples cost one call.

In: predictions as the tasks parsed them (None = unparsed) and the labels. Out: a value, or None where it is
undefined. `summary.py` scores arms with them, `statistics.py` resamples them.

A metric has two halves. `columns` turns the pairs into numbers once, one row an item; `weighted` gives the
metric of many resamples of those rows at once, where a resample is a column of weights (how often each item
stands in it). A bootstrap draw and a swap of two arms are both such columns, so a set-level metric is
recomputed inside every draw, ranks included, without a loop over draws.

An unparsed answer never leaves the count and never earns anything; each metric says below what that means.

Shapes: N items, F columns, D resamples, K classes, G groups of tied values.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from behavior_llava.core.errors import UserError
from behavior_llava.evaluation import moments, text_metrics

Array = NDArray[np.float64]

AROUND_AN_ANSWER = string.whitespace + string.punctuation + "\u2018\u2019\u201c\u201d\u2026\u2013\u2014"
"""What around an answer is no part of it."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One way to score predictions against labels.

    Attributes:
        higher_is_better: False for errors and perplexity.
        per_item: True where the metric is the mean of item scores; False where it exists for a set only.
        columns: (predictions, labels) -> numbers_NF; for a per-item metric the one column is the item scores.
        weighted: (numbers_NF, weights_ND) -> the metric of every resample, NaN where it is undefined.
        constant: labels -> the one answer that scores best without looking; None where there is none.
        chance: (labels, how many choices each sample has) -> what a guesser is expected to score; None where
            the labels do not tell.
        point: what "one point" is in the metric's unit (0.01 on a 0..1 scale); None where points say nothing.
    """

    name: str
    higher_is_better: bool
    per_item: bool
    columns: Callable[[Sequence[Any], Sequence[Any]], Array]
    weighted: Callable[[Array, Array], Array]
    constant: Callable[[Sequence[Any]], Any] | None = None
    chance: Callable[[Sequence[Any], Sequence[int]], float | None] | None = None
    point: float | None = None

    def score(self, predictions: Sequence[Any], labels: Sequence[Any]) -> float | None:
        """The metric over all items; None where it is undefined (no items, no spread to rank, ...)."""
        if not labels:
            return None
        numbers_NF = self.columns(predictions, labels)
        return defined(self.weighted(numbers_NF, np.ones((len(numbers_NF), 1)))[0])


def named(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UserError: there is none.
    """
    if name not in METRICS:
        raise UserError(f"no metric {name!r}", remedy=f"choose one of {', '.join(sorted(METRICS))}")
    return METRICS[name]


def majority(name: str, labels: Sequence[Any]) -> float | None:
    """What the best constant answer scores on these labels; None where undefined (ranks of a constant)."""
    metric = named(name)
    if metric.constant is None or not labels:
        return None
    return metric.score([metric.constant(labels)] * len(labels), labels)


def defined(value: float) -> float | None:
    """NaN and infinity to None; everything else to a plain float."""
    return float(value) if np.isfinite(value) else None


# ---- mean of item scores -----------------------------------------------------------------------------------


def _mean(scores_N1: Array, weights_ND: Array) -> Array:
    return _ratio(scores_N1[:, 0] @ weights_ND, weights_ND.sum(axis=0))


def _hits(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """1 for the label itself, or for one of the labels where there are several; unparsed is wrong: 0."""

    def is_hit(prediction: Any, label: Any) -> bool:
        if prediction is None:
            return False
        several = isinstance(label, (list, tuple)) and not isinstance(prediction, (list, tuple))
        return prediction in label if several else prediction == label

    return _column([float(is_hit(*pair)) for pair in zip(predictions, labels, strict=True)])


def _most_common(labels: Sequence[Any]) -> Any:
    counts = Counter(
        one for label in labels for one in (label if isinstance(label, (list, tuple)) else [label])
    )
    # Ties by text, so that the baseline does not depend on the order of the rows.
    return min(counts, key=lambda one: (-counts[one], str(one)))


def _guessed(labels: Sequence[Any], num_choices: Sequence[int]) -> float | None:
    """The mean share of right choices; None where a sample has none to guess among."""
    if not all(num_choices):
        return None
    right = [len(set(label)) if isinstance(label, (list, tuple)) else 1 for label in labels]
    return float(np.mean([min(one, many) / many for one, many in zip(right, num_choices, strict=True)]))


def _curve_correlations(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """Pearson's r of every predicted curve with the true one.

    Unparsed, or flat and so without information, is 0; a curve of another length or with a gap is unparsed.
    """

    def correlation(said: Any, true: Any) -> float:
        if np.ptp(true) == 0:
            raise ValueError("a true curve without variation has no correlation")
        if said is None or np.shape(said) != np.shape(true) or not np.isfinite(said).all():
            return 0.0
        return float(np.corrcoef(said, true)[0, 1]) if np.ptp(said) > 0 else 0.0

    return _column([correlation(said, true) for said, true in zip(predictions, labels, strict=True)])


def _curve_errors(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """Mean absolute difference over the scenes of every curve; a number stands for that level in all scenes.

    Unparsed, or a curve of another length, is as wrong as an answer within the range of the labels can be.
    Where they have no range that would be no error at all, and the metric is undefined.
    """
    truths = [np.asarray(label, dtype=np.float64) for label in labels]
    points = np.concatenate(truths)
    if not all(true.size for true in truths) or not np.isfinite(points).all():
        raise ValueError("a label is missing or not finite")
    lowest, highest = points.min(), points.max()

    def error(said: Any, true: Array) -> float:
        if said is None or np.shape(said) not in ((), true.shape) or not np.isfinite(said).all():
            return float(np.maximum(true - lowest, highest - true).mean()) if highest > lowest else np.nan
        return float(np.abs(np.asarray(said, dtype=np.float64) - true).mean())

    return _column([error(said, true) for said, true in zip(predictions, truths, strict=True)])


def _middle_level(labels: Sequence[Any]) -> float:
    """The level with the smallest error: the median of all values, each curve counting once."""
    values = np.concatenate([np.asarray(label, dtype=np.float64) for label in labels])
    weights = np.concatenate([np.full(len(label), 1 / len(label)) for label in labels])
    order = np.argsort(values)
    place = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
    return float(values[order[place]])


def _order_correlations(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """Spearman's rho of every predicted order with the true one, over the true items.

    True items that were not said share the mean of the places left; said items that are not true, and
    repetitions, are passed over. Unparsed, or without any true item, is 0.
    """

    def correlation(said: Any, true: Any) -> float:
        if len(set(true)) < 2:
            raise ValueError("a true order of fewer than two items has no correlation")
        known = set(true)
        places = {
            item: place for place, item in enumerate(one for one in dict.fromkeys(said or ()) if one in known)
        }
        if not places:
            return 0.0
        shared = (len(places) + len(true) - 1) / 2
        given = [places.get(item, shared) for item in true]
        return float(np.corrcoef(given, np.arange(len(true)))[0, 1])

    return _column([correlation(said, true) for said, true in zip(predictions, labels, strict=True)])


def _average_order(labels: Sequence[Any]) -> list[Any]:
    """All items by their mean place, 0 first and 1 last, in the labels that have them."""
    places: dict[Any, list[float]] = {}
    for label in labels:
        for place, item in enumerate(label):
            places.setdefault(item, []).append(place / max(1, len(label) - 1))
    # Ties by text, as for the most common label.
    return sorted(places, key=lambda item: (float(np.mean(places[item])), str(item)))


def _share_overlaps(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """What said and true shares have in common: the sum over names of the smaller one; unparsed is 0.

    Said shares of more than 1 together are scaled down to 1: else 100 % of everything would overlap wholly.
    """

    def overlap(said: Any, true: Any) -> float:
        if said is None:
            return 0.0
        whole = max(1.0, sum(said.values()))
        shared = sum(min(said.get(name, 0.0) / whole, share) for name, share in true.items())
        return float(shared / sum(true.values()))

    return _column([overlap(said, true) for said, true in zip(predictions, labels, strict=True)])


def _average_shares(labels: Sequence[Any]) -> dict[str, float]:
    names = dict.fromkeys(name for label in labels for name in label)
    return {name: float(np.mean([label.get(name, 0.0) for label in labels])) for name in names}


def _grades(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """The judge's grade of every answer, 1 to 10, whatever the label; a reply that could not be read is 0.

    Raises:
        ValueError: a grade is another number.
    """
    grades = [0 if prediction is None else prediction["grade"] for prediction in predictions]
    if len(predictions) != len(labels) or not all(
        prediction is None or 1 <= grade <= 10 for prediction, grade in zip(predictions, grades, strict=True)
    ):
        raise ValueError("a grade is not within 1 to 10, or there is not one for each label")
    return _column(grades)


def _of_items(
    score: Callable[..., Array], **settings: Any
) -> Callable[[Sequence[Any], Sequence[Any]], Array]:
    """The one column of a metric whose item scores another module gives."""
    return lambda predictions, labels: _column(score(predictions, labels, **settings))


def _exact_matches(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """1 for the label's words, however they are spaced, dressed in punctuation or capitalized; unparsed is 0.

    Raises:
        ValueError: a label, or what was said, is not a text.
    """
    pairs = zip(predictions, labels, strict=True)
    return _column([float(said is not None and _plain(said) == _plain(true)) for said, true in pairs])


def _plain(text: Any) -> str:
    """A text as it is compared; one that is all punctuation keeps it."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a text")
    return " ".join((text.strip(AROUND_AN_ANSWER) or text).casefold().split())


def _most_common_text(labels: Sequence[Any]) -> str:
    return _most_common([_plain(label) for label in labels])


def _judged_right(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """1 where a judge found the answer right; a reply that could not be read is 0 and stays in the count."""
    return _verdicts(predictions, labels, "correct", bool)


def _judged_scores(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """The judge's score, 0 to 5; a reply that could not be read is 0 and stays in the count.

    Source of the scale: Video-ChatGPT (https://arxiv.org/abs/2306.05424), section 4.1.
    """
    scores = _verdicts(predictions, labels, "score", int)
    if ((scores < 0) | (scores > 5)).any():
        raise ValueError("a judge's score is not within 0 and 5")
    return scores


def _verdicts(predictions: Sequence[Any], labels: Sequence[Any], name: str, kind: type) -> Array:
    """One entry of every verdict {"correct": ..., "score": ...}; 0 for None.

    Raises:
        ValueError: what is no verdict, such as the answer itself.
    """
    if len(predictions) != len(labels):
        raise ValueError(f"{len(predictions)} predictions for {len(labels)} labels")
    for verdict in predictions:
        if verdict is not None and not (isinstance(verdict, dict) and isinstance(verdict.get(name), kind)):
            raise ValueError(f"{verdict!r} is no judge's verdict with {name!r}")
    return _column([0.0 if verdict is None else float(verdict[name]) for verdict in predictions])


# ---- metrics of a set --------------------------------------------------------------------------------------


def _squared_errors(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """Squared errors; unparsed is as wrong as an answer within the range of the labels can be.

    Where the labels have no range that would be no error at all, and the metric is undefined.
    """
    numbers, truth = _numeric_pairs(predictions, labels).T
    worst = np.maximum(truth - truth.min(), truth.max() - truth) ** 2 if np.ptp(truth) > 0 else np.nan
    return _column(np.where(np.isnan(numbers), worst, (np.nan_to_num(numbers) - truth) ** 2))


def _numeric_pairs(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """Columns (prediction, label); NaN for unparsed."""
    truth = _numbers(labels)
    if np.isnan(truth).any():
        raise ValueError("a label is missing or not finite")
    return np.stack([_numbers(predictions), truth], axis=1)


def _placed_pairs(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """Columns (place of the prediction among the parsed, 0 to 1; label); NaN for unparsed.

    A rank correlation does not know in what unit an arm answers, and its p must not either: swapping raw
    answers of two arms would rank one arm's scale against the other's.
    """
    pairs_N2 = _numeric_pairs(predictions, labels)
    parsed = ~np.isnan(pairs_N2[:, 0])
    if parsed.any():
        ranks_P1 = _ranks(pairs_N2[parsed, 0], np.ones((int(parsed.sum()), 1)))
        pairs_N2[parsed, 0] = (ranks_P1[:, 0] - 0.5) / parsed.sum()
    return pairs_N2


def _spearman(pairs_N2: Array, weights_ND: Array) -> Array:
    """Spearman's rho with average ranks, times the parsed share.

    Rho is the mean over items of the product of standardized ranks. Ranks are taken among the parsed; an
    unparsed item adds 0 to the sum and stays in the count, just as in accuracy. It is given no rank of its
    own: at the middle it would pass for an answer, at an end it would earn or lose by where its label happens
    to lie.
    """
    parsed = ~np.isnan(pairs_N2[:, 0])
    total_D = weights_ND.sum(axis=0)
    if not parsed.any():
        return np.full(len(total_D), np.nan)
    weights_PD = weights_ND[parsed] if not parsed.all() else weights_ND
    count_D = weights_PD.sum(axis=0)
    middle_D = (count_D + 1) / 2
    x_PD = _ranks(pairs_N2[parsed, 0], weights_PD)
    y_PD = _ranks(pairs_N2[parsed, 1], weights_PD)
    x_PD -= middle_D
    y_PD -= middle_D
    weighted_PD = weights_PD * x_PD
    # Ranks are halves and the sums stay far below 2**53: a constant has a variance of exactly 0.
    square_x_D = np.einsum("pd,pd->d", weighted_PD, x_PD)
    product_D = np.einsum("pd,pd->d", weighted_PD, y_PD)
    y_PD *= y_PD
    square_y_D = np.einsum("pd,pd->d", weights_PD, y_PD)
    return _ratio(product_D, np.sqrt(square_x_D * square_y_D)) * _ratio(count_D, total_D)


def _ranks(values_N: Array, weights_ND: Array) -> Array:
    """Average ranks in every resample, an item of weight w standing there w times; one sort serves all."""
    order_N, ends_G, group_N = _tied_groups(values_N)
    ranks_GD = _sums_to(weights_ND[order_N], ends_G)
    sizes_GD = _steps(ranks_GD)
    sizes_GD -= 1
    sizes_GD /= 2
    ranks_GD -= sizes_GD
    return ranks_GD[group_N]


def _tied_groups(values_N: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Ascending order, where each group of equal values ends in it, and every item's group."""
    order_N = np.argsort(values_N, kind="stable")
    is_last_N = np.ones(len(values_N), dtype=bool)
    is_last_N[:-1] = values_N[order_N][1:] != values_N[order_N][:-1]
    group_N = np.empty(len(values_N), dtype=np.intp)
    group_N[order_N] = np.cumsum(is_last_N) - is_last_N
    return order_N, np.flatnonzero(is_last_N), group_N


def _sums_to(ordered_ND: Array, ends_G: NDArray[np.intp]) -> Array:
    """Sums of all rows down to each group's end: sums_GD. Overwrites its input.

    A loop over rows, because numpy's `cumsum` and `add.reduceat` over axis 0 are 5 to 10 times slower.
    """
    for above, row in pairwise(ordered_ND):
        row += above
    return ordered_ND if len(ends_G) == len(ordered_ND) else ordered_ND[ends_G]


def _steps(sums_GD: Array) -> Array:
    """What each row adds to the one before it."""
    steps_GD = sums_GD.copy()
    steps_GD[1:] -= sums_GD[:-1]
    return steps_GD


def _r2(pairs_N2: Array, weights_ND: Array) -> Array:
    """1 - squared error / variation of the labels; an unparsed item explains none of its own variation.

    R2 is the sum over items of (deviation squared - error squared) over the sum of deviations squared. An
    unparsed item adds 0 above and its deviation below: it explains nothing and stays in the count.
    """
    parsed_N = (~np.isnan(pairs_N2[:, 0])).astype(np.float64)
    # Only differences matter; a label near 0 keeps the sums of squares from canceling.
    truth_N = pairs_N2[:, 1] - pairs_N2[:, 1].mean()
    error_N = parsed_N * (np.nan_to_num(pairs_N2[:, 0]) - pairs_N2[:, 1]) ** 2
    count_D = weights_ND.sum(axis=0)
    mean_D = _ratio(truth_N @ weights_ND, count_D)
    variation_D = (truth_N**2) @ weights_ND - count_D * mean_D**2
    variation_D[variation_D <= 1e-12 * ((truth_N**2) @ weights_ND)] = 0.0
    of_parsed_D = (
        (parsed_N * truth_N**2) @ weights_ND
        - 2 * mean_D * ((parsed_N * truth_N) @ weights_ND)
        + mean_D**2 * (parsed_N @ weights_ND)
    )
    value_D = _ratio(of_parsed_D - error_N @ weights_ND, variation_D)
    return np.where(parsed_N @ weights_ND > 0, value_D, np.nan)


def _token_losses(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """Columns (summed negative log-likelihood in nats, number of tokens); the prediction is that pair."""
    if len(predictions) != len(labels):
        raise ValueError(f"{len(predictions)} predictions for {len(labels)} labels")
    return np.array([(np.nan, np.nan) if pair is None else pair for pair in predictions], dtype=np.float64)


def _perplexity(losses_N2: Array, weights_ND: Array) -> Array:
    """The exponential of the mean loss a token.

    Undefined when a text has no likelihood, because no finite value is the worst.
    """
    return np.exp(_ratio(losses_N2[:, 0] @ weights_ND, losses_N2[:, 1] @ weights_ND))


# ---- average precision -------------------------------------------------------------------------------------


def _signed_place(predictions: Sequence[Any], labels: Sequence[Any]) -> Array:
    """One column as `_signed_places` has it; a label is whether the item is true (bool, 0 or 1)."""
    if any(label not in (0, 1) for label in labels):
        raise ValueError("a label is neither true nor false")
    return _column(_placed(_numbers(predictions), np.array(labels, dtype=np.bool_)))


def _signed_places(predictions: Sequence[Any], labels: Sequence[Any]) -> NDArray[Any]:
    """A column a tag that is anyone's: twice the item's place among all by its score for the tag, the lowest
    first, below 0 where the tag is not the item's.

    Twice, because tied items share the mean of their places; unparsed items are 1, below every other. Places
    and not scores, for the reason `_placed_pairs` gives.

    Cost: 4 bytes an entry, column after column: 209 MB and a minute for 31,171 clips and 1,678 tags.

    Args:
        predictions: a score for every tag; None for unparsed.
        labels: the indices of the item's tags.

    Raises:
        ValueError: a prediction has fewer scores than the labels have tags.
    """
    if len(predictions) != len(labels):
        raise ValueError(f"{len(predictions)} predictions for {len(labels)} labels")
    items: dict[int, list[int]] = {}
    for item, tags in enumerate(labels):
        for tag in tags:
            items.setdefault(tag, []).append(item)
    needed = max(items, default=-1) + 1
    if min(items, default=0) < 0 or any(said is not None and len(said) < needed for said in predictions):
        raise ValueError(f"not every prediction has a score for each of {needed} tags")
    places_NK = np.empty((len(labels), len(items)), dtype=np.float32, order="F")
    for column, tag in enumerate(sorted(items)):
        scores_N = np.array([np.nan if said is None else said[tag] for said in predictions], dtype=np.float64)
        is_true_N = np.zeros(len(labels), dtype=np.bool_)
        is_true_N[items[tag]] = True
        places_NK[:, column] = _placed(scores_N, is_true_N)
    return places_NK


def _placed(scores_N: Array, is_true_N: NDArray[np.bool_]) -> Array:
    """Signed doubled places; whole numbers, so that ties stay ties, in float32 up to 8 million items too."""
    is_said_N = np.isfinite(scores_N)
    _, group_S, size_G = np.unique(scores_N[is_said_N], return_inverse=True, return_counts=True)
    place_N = np.ones(len(scores_N))
    place_N[is_said_N] = 2 * (~is_said_N).sum() + (2 * size_G.cumsum() - size_G + 1)[group_S]
    return np.where(is_true_N, place_N, -place_N)


def _mean_average_precision(places_NK: Array, weights_ND: Array) -> Array:
    """The mean, over the tags that are somebody's in the resample, of the average precision.

    Undefined in a resample without any true item.

    Cost: N x K x D additions, in the memory of one tag. For 31,171 clips and 1,678 tags it is 5 s (one core)
    for the 33 draws that `statistics.bootstrap` asks for at a time: 25 minutes an arm for 10,000 draws, and
    hours for the flips of two arms. Give fewer `draws` and `flips`.
    """
    sum_D, count_D = np.zeros(weights_ND.shape[1]), np.zeros(weights_ND.shape[1])
    for places_N in places_NK.T:
        value_D = _average_precision(places_N, weights_ND)
        is_defined_D = ~np.isnan(value_D)
        sum_D += np.where(is_defined_D, value_D, 0.0)
        count_D += is_defined_D
    return _ratio(sum_D, count_D)


def _average_precision(places_N: Array, weights_ND: Array) -> Array:
    """The sum over places, highest first, of the precision down to it times the recall it adds.

    Tied items enter together, as in scikit-learn's `average_precision_score`. Only places of true items add
    recall, so the others are summed up between those (T of them) and no resample is sorted.
    """
    place_N, is_true_N = np.abs(places_N).astype(np.int32), places_N > 0
    is_step = np.zeros(place_N.max(initial=0) + 1, dtype=np.int32)
    is_step[place_N[is_true_N]] = 1
    # 0 is below every true item, 1 the lowest of them
    step_N = is_step.cumsum(dtype=np.int32)[place_N]
    num_steps = int(is_step.sum())
    seen_TD = _sums_from_the_top(step_N, weights_ND, num_steps)
    found_TD = _sums_from_the_top(step_N[is_true_N], weights_ND[is_true_N], num_steps)
    if not num_steps:
        return np.full(weights_ND.shape[1], np.nan)
    precision_TD = np.divide(found_TD, seen_TD, out=np.zeros_like(seen_TD), where=seen_TD > 0)
    return _ratio(np.einsum("td,td->d", _steps(found_TD), precision_TD), found_TD[-1])


def _sums_from_the_top(step_N: NDArray[np.int32], weights_ND: Array, num_steps: int) -> Array:
    """The weights of all items at a step or above it, the highest step first."""
    rows = np.arange(len(step_N) + 1, dtype=np.int32)
    of_step = sparse.csr_array((np.ones(len(step_N)), step_N, rows), shape=(len(step_N), num_steps + 1)).T
    # a sparse product, because np.add.at is 20 times slower
    sums_TD = np.ascontiguousarray((of_step @ weights_ND)[:0:-1])
    return _sums_to(sums_TD, np.arange(num_steps))


def _prevalence(labels: Sequence[Any], num_choices: Sequence[int]) -> float:
    """What any order without information is expected to have, up to a part that shrinks with the items."""
    return float(np.mean([float(label) for label in labels]))


def _mean_prevalence(labels: Sequence[Any], num_choices: Sequence[int]) -> float | None:
    """The mean prevalence of the tags that are anyone's; None where there are none."""
    counts = Counter(tag for label in labels for tag in set(label))
    return sum(counts.values()) / len(counts) / len(labels) if counts else None


# ---- numbers and words -------------------------------------------------------------------------------------


def _numbers(values: Sequence[Any]) -> Array:
    """Floats; None, NaN and infinity become NaN.

    Raises:
        ValueError: a value is not a number (a task's `parse` gave text to a numeric metric).
    """
    for value in values:
        if value is not None and (isinstance(value, (bool, str)) or not np.isscalar(value)):
            raise ValueError(f"{value!r} is not a number")
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _column(values: Sequence[float] | Array) -> Array:
    return np.asarray(values, dtype=np.float64).reshape(-1, 1)


def _ratio(above_D: Array, below_D: Array) -> Array:
    """Above over below, NaN where below is 0 or NaN."""
    return np.divide(above_D, below_D, out=np.full(np.shape(below_D), np.nan), where=np.abs(below_D) > 0)


def _average(labels: Sequence[Any]) -> Any:
    """The mean label, or the mean of every class."""
    mean = np.mean(np.array(labels, dtype=np.float64), axis=0)
    return mean.tolist()


_ALL = (
    Metric(
        name="accuracy",
        higher_is_better=True,
        per_item=True,
        columns=_hits,
        weighted=_mean,
        constant=_most_common,
        chance=_guessed,
        point=0.01,
    ),
    Metric(
        name="mse",
        higher_is_better=False,
        per_item=True,
        columns=_squared_errors,
        weighted=_mean,
        constant=_average,
    ),
    Metric(
        name="spearman",
        higher_is_better=True,
        per_item=False,
        columns=_placed_pairs,
        weighted=_spearman,
        constant=_average,
        point=0.01,
    ),
    Metric(
        name="r2",
        higher_is_better=True,
        per_item=False,
        columns=_numeric_pairs,
        weighted=_r2,
        constant=_average,
        point=0.01,
    ),
    Metric(
        name="curve_correlation",
        higher_is_better=True,
        per_item=True,
        columns=_curve_correlations,
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="curve_error",
        higher_is_better=False,
        per_item=True,
        columns=_curve_errors,
        weighted=_mean,
        constant=_middle_level,
    ),
    Metric(
        name="order_correlation",
        higher_is_better=True,
        per_item=True,
        columns=_order_correlations,
        weighted=_mean,
        constant=_average_order,
        point=0.01,
    ),
    Metric(
        name="share_overlap",
        higher_is_better=True,
        per_item=True,
        columns=_share_overlaps,
        weighted=_mean,
        constant=_average_shares,
        point=0.01,
    ),
    Metric(
        name="average_precision",
        higher_is_better=True,
        per_item=False,
        columns=_signed_place,
        weighted=_mean_average_precision,
        chance=_prevalence,
        point=0.01,
    ),
    Metric(
        name="mean_average_precision",
        higher_is_better=True,
        per_item=False,
        columns=_signed_places,
        weighted=_mean_average_precision,
        chance=_mean_prevalence,
        point=0.01,
    ),
    Metric(
        name="exact_match",
        higher_is_better=True,
        per_item=True,
        columns=_exact_matches,
        weighted=_mean,
        constant=_most_common_text,
        point=0.01,
    ),
    Metric(
        name="judge_accuracy",
        higher_is_better=True,
        per_item=True,
        columns=_judged_right,
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="judge_score",
        higher_is_better=True,
        per_item=True,
        columns=_judged_scores,
        weighted=_mean,
        point=0.05,
    ),
    Metric(
        name="perplexity",
        higher_is_better=False,
        per_item=False,
        columns=_token_losses,
        weighted=_perplexity,
    ),
    Metric(
        name="judge_grade",
        higher_is_better=True,
        per_item=True,
        columns=_grades,
        weighted=_mean,
    ),
    Metric(
        name="moment_map",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(moments.average_precisions),
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="moment_map_50",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(moments.average_precisions, ious=(0.5,)),
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="moment_map_75",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(moments.average_precisions, ious=(0.75,)),
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="moment_recall_50",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(moments.first_hits, iou=0.5),
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="moment_recall_70",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(moments.first_hits, iou=0.7),
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="highlight_map",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(moments.highlight_precisions, least=moments.VERY_GOOD),
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="highlight_map_good",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(moments.highlight_precisions, least=moments.GOOD),
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="highlight_map_fair",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(moments.highlight_precisions, least=moments.FAIR),
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="highlight_hit1",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(moments.highlight_hits, least=moments.VERY_GOOD),
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="highlight_hit1_good",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(moments.highlight_hits, least=moments.GOOD),
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="highlight_hit1_fair",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(moments.highlight_hits, least=moments.FAIR),
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="bleu_4",
        higher_is_better=True,
        per_item=False,
        columns=text_metrics.bleu_columns,
        weighted=text_metrics.bleu,
        point=0.01,
    ),
    Metric(
        name="meteor",
        higher_is_better=True,
        per_item=False,
        columns=text_metrics.meteor_columns,
        weighted=text_metrics.meteor,
        point=0.01,
    ),
    Metric(
        name="rouge_l",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(text_metrics.rouge_l),
        weighted=_mean,
        point=0.01,
    ),
    Metric(
        name="cider",
        higher_is_better=True,
        per_item=True,
        columns=_of_items(text_metrics.cider),
        weighted=_mean,
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
