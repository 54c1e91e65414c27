"""Each metric against a hand case, an outside implementation, and its rule for unparsed answers."""

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
    assert len(METRICS) == 6
    assert all(metric.name == name for name, metric in METRICS.items())
    assert {name for name, metric in METRICS.items() if not metric.higher_is_better} == {"mse", "perplexity"}
    with pytest.raises(UserError, match="no metric 'acuracy'"):
        named("acuracy")


@pytest.mark.parametrize("name", sorted(METRICS))
def test_no_items_have_no_value(name):
    assert named(name).score([], []) is None


def test_accuracy_counts_unparsed_as_wrong():
    assert named("accuracy").score(["a", None, "b", "c"], ["a", "a", "b", "a"]) == 0.5
    assert named("accuracy").score([None, None], ["a", "b"]) == 0.0


def test_accuracy_with_several_right_labels():
    assert named("accuracy").score(["x", "z", None], [["x", "y"], ["x", "y"], ["x"]]) == pytest.approx(1 / 3)


def test_spearman_hand_case_with_ties():
    # Ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4: 4.5 / sqrt(4.5 * 5).
    assert named("spearman").score([1, 2, 2, 3], [10, 30, 20, 40]) == pytest.approx(4.5 / math.sqrt(22.5))


def test_spearman_of_a_constant_is_undefined_not_zero():
    assert named("spearman").score([5, 5, 5], [1, 2, 3]) is None
    assert named("spearman").score([None, None, None], [1, 2, 3]) is None
    assert named("spearman").score([1.0, None, None], [1, 2, 3]) is None


def test_spearman_unparsed_stays_in_the_count():
    labels = [1.0, 2.0, 3.0, 4.0]
    assert named("spearman").score([1, 2, 3, None], labels) == pytest.approx(0.75)
    assert named("spearman").score([1, 2, 3, math.nan], labels) == pytest.approx(0.75)


def test_r2_hand_case_and_unparsed():
    labels = [1.0, 2.0, 3.0]
    assert named("r2").score([1.0, 2.0, 3.0], labels) == pytest.approx(1.0)
    assert named("r2").score([2.0, 2.0, 2.0], labels) == pytest.approx(0.0)
    # The silent item explains none of its own variation (1 of 2).
    assert named("r2").score([1.0, 2.0, None], labels) == pytest.approx(0.5)
    assert named("r2").score([None, None, None], labels) is None
    assert named("r2").score([1.0, 2.0], [7.0, 7.0]) is None


def test_perplexity_is_weighted_by_tokens_and_undefined_without_a_likelihood():
    loss = math.log(2)
    assert named("perplexity").score([[10 * loss, 10], [0.0, 10]], ["a", "b"]) == pytest.approx(math.sqrt(2))
    assert named("perplexity").score([[10 * loss, 10], None], ["a", "b"]) is None


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


def test_curve_correlation_hand_cases():
    metric = named("curve_correlation")
    assert metric.score([[0.0, 0.5, 1.0]], [[0.2, 0.3, 0.4]]) == pytest.approx(1.0)
    assert metric.score([[1.0, 0.5, 0.0]], [[0.2, 0.3, 0.4]]) == pytest.approx(-1.0)
    # unparsed and flat curves tell nothing; they stay in the count
    assert metric.score([None, [0.3, 0.3, 0.3], [0.0, 0.5, 1.0]], [[0.2, 0.3, 0.4]] * 3) == pytest.approx(
        1 / 3
    )
    with pytest.raises(ValueError, match="without variation"):
        metric.score([[0.0, 0.5, 1.0]], [[0.4, 0.4, 0.4]])


def test_mse_charges_unparsed_the_worst_error_within_the_labels():
    assert named("mse").score([0.0, None, 4.0], [0.0, 1.0, 4.0]) == pytest.approx(9 / 3)
