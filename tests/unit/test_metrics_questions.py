"""Average precision, exact match and judges' verdicts: hand cases, scikit-learn's values, weights, faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from behavior_llava.evaluation.metrics import majority, named

AP, MAP = named("average_precision"), named("mean_average_precision")


def at(score: int, *, correct: bool) -> dict[str, Any]:
    return {"correct": correct, "score": score}


# ---- average precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predictions", "labels", "expected"),
    [
        # precision 1 at recall 1/2, then 2/3 at recall 1
        ([0.9, 0.8, 0.7, 0.6], [True, False, True, False], 1 / 2 + 2 / 3 / 2),
        # the two of 0.8 enter together: 1/2 at recall 1/2, then 2/3
        ([0.8, 0.8, 0.7], [True, False, True], 1 / 4 + 1 / 3),
        # no order at all: the prevalence
        ([3, 3, 3, 3], [1, 0, 0, 0], 1 / 4),
        # unparsed is last: 1 at recall 1/2, then 2/3 at recall 1
        ([-50.0, None, -60.0], [1, 1, 0], 1 / 2 + 2 / 3 / 2),
        # all unparsed are tied
        ([None, None, None, None], [1, 1, 1, 0], 3 / 4),
        ([float("nan"), 0.0], [1, 0], 1 / 2),
    ],
)
def test_average_precision_by_hand(predictions: list[Any], labels: list[Any], expected: float) -> None:
    assert AP.score(predictions, labels) == pytest.approx(expected)


def test_average_precision_without_a_true_item_is_undefined() -> None:
    assert AP.score([0.1, 0.2], [False, False]) is None
    assert AP.score([], []) is None


def test_chance_of_average_precision_is_the_prevalence() -> None:
    assert AP.chance is not None
    assert AP.chance([True, False, 0, 1, 1], [30] * 5) == pytest.approx(0.6)
    rng = np.random.default_rng(0)
    labels = (rng.random(20_000) < 0.3).tolist()
    assert AP.score(rng.random(20_000).tolist(), labels) == pytest.approx(AP.chance(labels, []), abs=0.02)
    assert majority("average_precision", labels) is None


@pytest.mark.parametrize("label", [2, "true", None, 0.5])
def test_a_label_that_is_neither_true_nor_false_is_a_fault(label: Any) -> None:
    with pytest.raises(ValueError, match="neither true nor false"):
        AP.score([0.1], [label])
    with pytest.raises(ValueError, match="'high' is not a number"):
        AP.score(["high"], [1])


said = st.one_of(st.none(), st.integers(-3, 3).map(float))
rows = st.lists(st.tuples(said, st.booleans(), st.integers(0, 3)), min_size=1, max_size=14)


def repeated(values: Sequence[Any], weights: Sequence[int]) -> list[Any]:
    return [value for value, weight in zip(values, weights, strict=True) for _ in range(weight)]


def same(value: float, expected: float | None) -> bool:
    return math.isnan(value) if expected is None else value == pytest.approx(expected, abs=1e-9)


@given(rows)
@settings(deadline=None)
def test_weighted_average_precision_equals_repeated_rows_and_scikit_learn(
    drawn: list[tuple[float | None, bool, int]],
) -> None:
    predictions, labels, weights = (list(column) for column in zip(*drawn, strict=True))
    again = repeated(predictions, weights), repeated(labels, weights)
    value = AP.weighted(AP.columns(predictions, labels), np.array(weights, dtype=float)[:, None])[0]
    expected = AP.score(*again)
    assert same(value, expected)
    if any(again[1]):
        scores = [-99.0 if one is None else one for one in again[0]]
        assert expected == pytest.approx(average_precision_score(again[1], scores), abs=1e-9)
    else:
        assert expected is None


# ---- mean average precision --------------------------------------------------------------------------------


def test_mean_average_precision_by_hand() -> None:
    predictions = [[0.9, 0.1, 0.5], [0.8, 0.2, 0.5], [0.1, 0.3, 0.5]]
    # tag 0: items 0 and 2, precision 1 and 2/3: 5/6. Tag 1: item 1, second: 1/2. Tag 2 is nobody's.
    assert MAP.score(predictions, [[0], [1], [0]]) == pytest.approx((5 / 6 + 1 / 2) / 2)
    # item 1 unparsed, so last of both tags: 1 and 1/3
    silent = [predictions[0], None, predictions[2]]
    assert MAP.score(silent, [[0], [1], [0]]) == pytest.approx((1 + 1 / 3) / 2)
    assert MAP.score([None, None], [[0], [0, 1]]) == pytest.approx((1 + 1 / 2) / 2)
    assert MAP.score([[0.5], [0.4]], [[], []]) is None
    assert MAP.score([], []) is None


def test_a_tag_counts_only_in_resamples_that_have_it() -> None:
    columns = MAP.columns([[0.9, 0.1], [0.8, 0.2], [0.1, 0.3]], [[0], [1], [0]])
    assert columns.shape == (3, 2)
    # draws: all once; without item 1, so without tag 1; item 1 alone; nothing
    weights = np.array([[1, 1, 0, 0], [1, 0, 2, 0], [1, 2, 0, 0]], dtype=float)
    values = MAP.weighted(columns, weights)
    assert values[:3] == pytest.approx([(5 / 6 + 1 / 2) / 2, 1.0, 1.0])
    assert math.isnan(values[3])


def test_columns_are_small_and_stay_apart_when_stacked() -> None:
    columns = MAP.columns([[0.9] * 40, [0.8] * 40], [[0], [39]])
    # two tags are somebody's; 4 bytes each
    assert (columns.shape, columns.nbytes) == ((2, 2), 16)
    # two arms that order alike in other units are one to a test that swaps their rows
    other = MAP.columns([[-9.0] * 40, [-9.5] * 40], [[0], [39]])
    assert np.array_equal(columns, other)
    assert np.concatenate([columns, other]).flags.f_contiguous


def test_chance_is_the_mean_prevalence_of_tags_that_are_anyones() -> None:
    assert MAP.chance is not None
    assert MAP.chance([[0, 5], [0], [], [0]], [9] * 4) == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert MAP.chance([[], []], [9, 9]) is None


def test_too_few_scores_are_a_fault() -> None:
    with pytest.raises(ValueError, match="a score for each of 3 tags"):
        MAP.score([[0.1, 0.2]], [[2]])
    with pytest.raises(ValueError, match="a score for each"):
        MAP.score([[0.1, 0.2]], [[-1]])
    with pytest.raises(ValueError, match="1 predictions for 2 labels"):
        MAP.score([[0.1]], [[0], [0]])


TAGS = 4
scores = st.one_of(st.none(), st.lists(st.integers(-2, 2).map(float), min_size=TAGS, max_size=TAGS))
tagged = st.lists(
    st.tuples(scores, st.sets(st.integers(0, TAGS - 1)), st.integers(0, 3)), min_size=1, max_size=10
)


@given(tagged)
@settings(deadline=None)
def test_weighted_mean_average_precision_equals_repeated_rows_and_scikit_learn(
    drawn: list[tuple[list[float] | None, set[int], int]],
) -> None:
    predictions, sets, weights = (list(column) for column in zip(*drawn, strict=True))
    labels = [sorted(tags) for tags in sets]
    again = repeated(predictions, weights), repeated(labels, weights)
    value = MAP.weighted(MAP.columns(predictions, labels), np.array(weights, dtype=float)[:, None])[0]
    expected = MAP.score(*again)
    assert same(value, expected)
    known = [tag for tag in range(TAGS) if any(tag in tags for tags in again[1])]
    outside = [
        average_precision_score(
            [tag in tags for tags in again[1]], [-99.0 if one is None else one[tag] for one in again[0]]
        )
        for tag in known
    ]
    assert expected == (pytest.approx(np.mean(outside), abs=1e-9) if known else None)


# ---- exact match -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "true", "expected"),
    [
        ("Yes.", "yes", 1),
        (' "orange  clothes"\n', "orange clothes", 1),
        ("orangeclothes", "orange clothes", 0),
        ("yes it is", "yes", 0),
        ("ye", "yes", 0),
        ("3", "3 ", 1),
        ("3.5", "35", 0),
        ("?", "!", 0),
        ("?", "?", 1),
        ("STRASSE", "stra\u00dfe", 1),
        (None, "yes", 0),
    ],
)
def test_exact_match(said: str | None, true: str, expected: float) -> None:
    assert named("exact_match").score([said], [true]) == expected


def test_the_constant_of_exact_match_is_the_most_common_answer_however_written() -> None:
    assert majority("exact_match", ["Yes", "yes.", "no", "no", "yes"]) == pytest.approx(3 / 5)
    assert named("exact_match").chance is None
    with pytest.raises(ValueError, match="3 is not a text"):
        named("exact_match").score(["3"], [3])


# ---- a judge -----------------------------------------------------------------------------------------------


def test_a_reply_that_could_not_be_read_stays_in_the_denominator() -> None:
    predictions = [at(5, correct=True), at(2, correct=False), None, at(4, correct=True)]
    labels = ["a dog", "a cat", "a car", "a cup"]
    assert named("judge_accuracy").score(predictions, labels) == pytest.approx(2 / 4)
    assert named("judge_score").score(predictions, labels) == pytest.approx(11 / 4)
    for name in ("judge_accuracy", "judge_score"):
        assert named(name).score([None, None], ["x", "y"]) == 0.0
        assert majority(name, labels) is None
        assert named(name).chance is None


@pytest.mark.parametrize("name", ["judge_accuracy", "judge_score"])
@pytest.mark.parametrize("given", ["yes", {"pred": "yes"}, {"correct": "yes", "score": "5"}, True])
def test_what_is_no_verdict_is_a_fault_and_not_a_zero(name: str, given: Any) -> None:
    with pytest.raises(ValueError, match="is no judge's verdict"):
        named(name).score([given], ["yes"])


@pytest.mark.parametrize("score", [-1, 6])
def test_a_score_beyond_the_scale_is_a_fault(score: int) -> None:
    with pytest.raises(ValueError, match="not within 0 and 5"):
        named("judge_score").score([at(score, correct=True)], ["yes"])


verdicts = st.one_of(st.none(), st.fixed_dictionaries({"correct": st.booleans(), "score": st.integers(0, 5)}))
texts = st.sampled_from(["yes", "Yes.", "no", " no"])


@given(st.lists(st.tuples(verdicts, st.none() | texts, texts, st.integers(0, 3)), min_size=1, max_size=10))
@settings(deadline=None)
def test_weights_equal_repeated_rows(drawn: list[tuple[Any, str | None, str, int]]) -> None:
    judged, written, labels, weights = (list(column) for column in zip(*drawn, strict=True))
    weights_N1 = np.array(weights, dtype=float)[:, None]
    for name, said in (("judge_accuracy", judged), ("judge_score", judged), ("exact_match", written)):
        metric = named(name)
        value = metric.weighted(metric.columns(said, labels), weights_N1)[0]
        assert same(value, metric.score(repeated(said, weights), repeated(labels, weights)))
