"""Faults, weights, baselines and more hand cases of the metrics; test_metric_cases.py has most of them."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import r2_score

from behavior_llava.core.errors import UserError
from behavior_llava.evaluation.metrics import METRICS, majority, named


def test_every_metric_declares_itself():
    assert len(METRICS) == 25
    assert all(metric.name == name for name, metric in METRICS.items())
    lower = {name for name, metric in METRICS.items() if not metric.higher_is_better}
    assert lower == {"mse", "perplexity", "curve_error"}
    with pytest.raises(UserError, match="no metric 'acuracy'"):
        named("acuracy")


def test_majority_is_the_best_constant_answer():
    assert majority("accuracy", ["a", "b", "b"]) == pytest.approx(2 / 3)
    assert majority("r2", [1.0, 2.0, 4.0]) == pytest.approx(0.0)
    assert majority("mse", [1.0, 3.0]) == pytest.approx(1.0)
    assert majority("spearman", [1.0, 2.0, 4.0]) is None


def test_text_for_a_numeric_metric_is_a_fault_and_not_a_zero():
    with pytest.raises(ValueError, match="'high' is not a number"):
        named("spearman").score(["high", 1], [1, 2])
    with pytest.raises(ValueError, match="a label is missing"):
        named("r2").score([1, 1], [1, None])


numbers = st.integers(min_value=-4, max_value=4).map(float)
sampled = st.lists(st.tuples(numbers, numbers, st.integers(0, 3)), min_size=2, max_size=12)


@given(sampled)
@settings(deadline=None)
def test_weights_equal_repeated_items(rows):
    """A weight of w must give exactly what the item standing there w times gives."""
    predictions, labels, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    repeated_x, repeated_y = (np.repeat(values, weights.astype(int)) for values in (predictions, labels))
    for name in ("spearman", "r2"):
        metric = named(name)
        numbers_NF = metric.columns(predictions.tolist(), labels.tolist())
        value = metric.weighted(numbers_NF, weights[:, None])[0]
        expected = metric.score(repeated_x.tolist(), repeated_y.tolist())
        assert value == pytest.approx(expected, abs=1e-9) if expected is not None else math.isnan(value)
        if expected is not None:
            outside = (
                spearmanr(repeated_x, repeated_y)[0]
                if name == "spearman"
                else r2_score(repeated_y, repeated_x)
            )
            assert expected == pytest.approx(outside, abs=1e-9)


def test_a_true_curve_without_variation_is_a_fault():
    metric = named("curve_correlation")
    with pytest.raises(ValueError, match="without variation"):
        metric.score([[0.0, 0.5, 1.0]], [[0.4, 0.4, 0.4]])


# ---- curves, orders and shares -----------------------------------------------------------------------------


def test_curve_error_is_the_mean_difference_over_scenes_and_then_over_items():
    metric = named("curve_error")
    # (0.1 + 0.3) / 2 = 0.2 and 0
    assert metric.score([[1.1, 0.5], [0.4]], [(1.0, 0.8), (0.4,)]) == pytest.approx(0.1)
    # a curve of many scenes weighs no more than one of few
    assert metric.score([[0.0] * 10, [0.5]], [[0.2] * 10, [0.5]]) == pytest.approx(0.1)


@pytest.mark.parametrize("said", [None, [0.5], [0.5, 0.5, 0.5], [], [math.nan, 0.5], [math.inf, 0.5]])
def test_curve_error_charges_what_is_no_such_curve_the_worst_within_the_labels(said):
    # Labels go from 0.2 to 1.2. At 0.8 the worst is 0.6 off, at 0.3 it is 0.9: 0.75.
    labels = [[0.8, 0.3], [0.2, 1.2]]
    assert named("curve_error").score([said, [0.2, 1.2]], labels) == pytest.approx(0.75 / 2)


def test_curve_error_of_the_middle_level():
    # The mean of 0, 1, 1 and 0 is 0.5, whatever the lengths.
    assert majority("curve_error", [[0.0, 1.0, 1.0], [0.0]]) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="missing or not finite"):
        named("curve_error").score([[0.1]], [[math.nan]])
    with pytest.raises(ValueError, match="missing or not finite"):
        named("curve_error").score([[0.1], [0.1]], [[], [0.1]])


@pytest.mark.parametrize(
    ("said", "rho"),
    [
        (["a", "b", "c", "d"], 1.0),
        (["d", "c", "b", "a"], -1.0),
        # two places are off by one: 1 - 6 * 2 / (4 * 15)
        (["b", "a", "c", "d"], 0.8),
        # a at 0, the others share place 2: 1.5 * 2 / sqrt(3 * 5)
        (["a"], 3 / math.sqrt(15)),
        # d at 0, c at 1, a and b share 2.5: -4.5 / sqrt(4.5 * 5)
        (["d", "c"], -4.5 / math.sqrt(22.5)),
        # what is not there, or said again, has no place
        (["x", "a", "y", "b", "a", "c", "d"], 1.0),
        (["x", "y"], 0.0),
        ([], 0.0),
        (None, 0.0),
    ],
)
def test_order_correlation_hand_cases(said, rho):
    assert named("order_correlation").score([said], [("a", "b", "c", "d")]) == pytest.approx(rho)
    assert named("order_correlation").score([said, None], [list("abcd"), list("dcba")]) == pytest.approx(
        rho / 2
    )


@given(st.permutations(range(1, 10)), st.integers(0, 9))
@settings(deadline=None)
def test_order_correlation_equals_scipy_with_ties_for_what_was_not_said(order, num_said):
    true = list(range(1, 10))
    said = list(order)[:num_said]
    ranks = [said.index(tile) if tile in said else 9 for tile in true]
    expected = 0.0 if not said else spearmanr(ranks, true)[0]
    assert named("order_correlation").score([said], [true]) == pytest.approx(expected)


@pytest.mark.parametrize("true", [["a"], [], ["a", "a"]])
def test_an_order_of_one_item_has_no_correlation(true):
    with pytest.raises(ValueError, match="fewer than two items"):
        named("order_correlation").score([["a"]], [true])


def test_the_best_order_without_looking_is_that_of_mean_places():
    # Mean places: a 2/3, b 1/3, c 2: b, a, c, which correlates 0.5, 1 and 1.
    labels = [["a", "b", "c"], ["b", "a", "c"], ["b", "a", "c"]]
    assert named("order_correlation").constant(labels) == ["b", "a", "c"]
    assert majority("order_correlation", labels) == pytest.approx(2.5 / 3)
    # Orders of other things: a is always first, z always last, m in the middle of one.
    assert named("order_correlation").constant([["a", "z"], ["a", "m", "z"]]) == ["a", "m", "z"]


@given(st.lists(st.permutations("abcd"), min_size=1, max_size=6), st.permutations("abcd"))
@settings(deadline=None)
def test_no_other_constant_order_is_better(labels, other):
    metric = named("order_correlation")
    assert majority("order_correlation", labels) >= metric.score([other] * len(labels), labels) - 1e-12


def test_share_overlap_hand_cases():
    metric = named("share_overlap")
    true = {"love": 0.6, "haha": 0.3, "sad": 0.1}
    assert metric.score([true], [true]) == pytest.approx(1.0)
    # 0.5 of love and 0.3 of haha
    assert metric.score([{"love": 0.5, "haha": 0.5}], [true]) == pytest.approx(0.8)
    assert metric.score([{"love": 0.7}], [true]) == pytest.approx(0.6)
    assert metric.score([{"wow": 1.0}], [true]) == 0.0
    assert metric.score([None, {}, true], [true] * 3) == pytest.approx(1 / 3)


def test_all_of_everything_is_no_overlap_with_all():
    # A third of each: 1/3 + 0.3 + 0.1
    said = {"love": 1.0, "haha": 1.0, "sad": 1.0}
    true = {"love": 0.6, "haha": 0.3, "sad": 0.1}
    assert named("share_overlap").score([said], [true]) == pytest.approx(1 / 3 + 0.4)


def test_the_constant_shares_are_the_mean_ones():
    labels = [{"love": 0.8, "sad": 0.2}, {"love": 0.4, "wow": 0.6}]
    assert named("share_overlap").constant(labels) == pytest.approx({"love": 0.6, "sad": 0.1, "wow": 0.3})
    # 0.6 + 0.1 and 0.4 + 0.3
    assert majority("share_overlap", labels) == pytest.approx(0.7)


@pytest.mark.parametrize("name", ["curve_error", "order_correlation", "share_overlap"])
def test_what_has_been_through_json_scores_the_same(name):
    predictions = {"curve_error": (0.1, 0.7), "order_correlation": ("b", "a"), "share_overlap": {"a": 0.5}}
    labels = {
        "curve_error": (0.2, 0.4),
        "order_correlation": ("a", "b"),
        "share_overlap": {"a": 0.7, "b": 0.3},
    }
    there, back = (
        ([predictions[name]], [labels[name]]),
        json.loads(json.dumps([[predictions[name]], [labels[name]]])),
    )
    value = named(name).score(*there)
    assert value is not None
    assert value == named(name).score(*back)
