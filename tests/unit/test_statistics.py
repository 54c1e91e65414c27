"""Intervals and p values: hand cases, equality with naive loops, calibration in small simulations."""

from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from behavior_llava.evaluation.metrics import named
from behavior_llava.evaluation.statistics import (
    bootstrap,
    cluster_sd,
    equivalence,
    holm,
    interval,
    required_clusters,
    required_for_equivalence,
    swap_test,
)


def spearman_pair(seed, n=30):
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=n)
    # Rounded, so that there are ties.
    arms = [np.round(labels + rng.normal(size=n) * noise, 1).tolist() for noise in (0.8, 1.5)]
    return [named("spearman").columns(arm, labels.tolist()) for arm in arms]


def hits(*values):
    return np.array(values, dtype=float)[:, None]


def test_bootstrap_of_a_mean_has_the_right_center_and_spread():
    run = hits(*([1] * 30 + [0] * 70))
    values = bootstrap(named("accuracy"), [run], [f"m{i}" for i in range(100)])[0]
    assert values.shape == (10_000,)
    assert values.mean() == pytest.approx(0.3, abs=0.003)
    assert values.std() == pytest.approx((0.3 * 0.7 / 100) ** 0.5, rel=0.05)


def test_clusters_are_drawn_whole():
    # Two media: all right or all wrong. The mean of two draws can only be 0, 1/2 or 1.
    values = bootstrap(
        named("accuracy"), [hits(1, 1, 1, 0, 0, 0)], ["a", "a", "a", "b", "b", "b"], draws=500
    )[0]
    assert set(values) == {0.0, 0.5, 1.0}


def test_unequal_clusters_weigh_by_their_items():
    values = bootstrap(named("accuracy"), [hits(1, 1, 1, 0)], ["a", "a", "a", "b"], draws=500)[0]
    assert set(values) == {0.0, 0.75, 1.0}


def test_one_medium_has_no_spread_to_draw():
    """Drawn again it is the same medium, and an interval of no width would pass for certainty."""
    values = bootstrap(named("accuracy"), [hits(1, 0, 1)], ["a"] * 3, draws=200)
    assert np.isnan(values).all()
    assert interval(values[0]) == (None, None)


def test_interval_of_a_paired_difference_equals_that_of_scipy():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 80))
    clusters = [f"m{i}" for i in range(80)]
    rows = bootstrap(named("mse"), [ours[:, None], theirs[:, None]], clusters, draws=100_000)
    outside = scipy.stats.bootstrap(
        (ours - theirs,), np.mean, n_resamples=100_000, method="percentile", rng=np.random.default_rng(1)
    )
    assert interval(rows[0] - rows[1]) == pytest.approx(tuple(outside.confidence_interval), abs=0.01)


def test_p_equals_that_of_scipys_exact_permutation_test():
    ours, theirs = np.random.default_rng(0).normal([[0.5], [0.0]], 1, size=(2, 10))
    outside = scipy.stats.permutation_test(
        (ours, theirs), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    clusters = [f"m{i}" for i in range(10)]
    p = swap_test(named("mse"), [([ours[:, None]], [theirs[:, None]])], clusters, flips=100_000)[0]
    assert p == pytest.approx(outside.pvalue, abs=0.006)


def test_draws_are_paired_and_deterministic():
    run = hits(1, 0, 1, 1, 0)
    clusters = list("abcde")
    first = bootstrap(named("accuracy"), [run, run], clusters, draws=300)
    assert (first[0] == first[1]).all()
    assert (first == bootstrap(named("accuracy"), [run, run], clusters, draws=300)).all()
    assert (first != bootstrap(named("accuracy"), [run, run], clusters, draws=300, seed=1)).any()


def test_no_global_random_state_is_touched():
    before = str(np.random.get_state())
    bootstrap(named("accuracy"), [hits(1, 0)], ["a", "b"], draws=200)
    assert str(np.random.get_state()) == before


def test_set_level_bootstrap_equals_a_naive_loop():
    run, other = spearman_pair(0)
    clusters = [f"m{i // 2}" for i in range(30)]
    names = sorted(set(clusters))
    values = bootstrap(named("spearman"), [run, other], clusters, draws=50, seed=4)
    drawn = np.random.default_rng(4).integers(0, len(names), size=(50, len(names)))
    for draw, picked in enumerate(drawn):
        items = [item for c in picked for item, name in enumerate(clusters) if name == names[c]]
        for row, columns in enumerate((run, other)):
            expected = named("spearman").score(columns[items, 0].tolist(), columns[items, 1].tolist())
            assert values[row, draw] == pytest.approx(expected, abs=1e-9)


def test_interval_is_null_when_too_many_draws_are_undefined():
    assert interval(np.full(100, np.nan)) == (None, None)
    assert interval(np.r_[np.arange(98.0), np.nan, np.nan]) == (None, None)
    low, high = interval(np.r_[np.arange(200.0), np.nan])
    assert (low, high) == (pytest.approx(4.975), pytest.approx(194.025))
    assert interval(np.arange(101.0), 0.90) == pytest.approx((5.0, 95.0))


@pytest.mark.parametrize("name", ["accuracy", "spearman"])
def test_interval_covers_the_truth(name):
    """95 % intervals of 120 small worlds: coverage within what 120 tries can tell (about 95 +- 6)."""
    rng, covered, worlds, n = np.random.default_rng(7), 0, 120, 60
    for world in range(worlds):
        if name == "accuracy":
            run, truth = hits(*(rng.random(n) < 0.4)), 0.4
        else:
            pair = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], size=n)
            run, truth = pair, 6 / np.pi * np.arcsin(0.25)
        low, high = interval(
            bootstrap(named(name), [run], [f"m{i}" for i in range(n)], draws=400, seed=world)[0]
        )
        assert low is not None
        assert high is not None
        covered += low <= truth <= high
    assert 0.87 <= covered / worlds <= 1.0


def test_sign_flip_hand_case():
    # Three media, all in favor: |sum| >= 3 in 2 of the 8 sign patterns, so p is near 1/4.
    p = swap_test(named("accuracy"), [([hits(1, 1, 1)], [hits(0, 0, 0)])], list("abc"))[0]
    assert p == pytest.approx(0.25, abs=0.01)


def test_p_is_never_zero_and_one_for_equal_arms():
    clusters = [f"m{i}" for i in range(60)]
    best, worst = hits(*[1] * 60), hits(*[0] * 60)
    assert swap_test(named("accuracy"), [([best], [worst])], clusters)[0] == 1 / 20_001
    assert swap_test(named("accuracy"), [([best], [best])], clusters)[0] == 1.0


def test_items_of_one_medium_swap_together():
    clusters = ["a"] * 50 + ["b"] * 50
    p = swap_test(named("accuracy"), [([hits(*[1] * 100)], [hits(*[0] * 100)])], clusters)[0]
    assert p == pytest.approx(0.5, abs=0.02)


def test_swap_of_a_mean_equals_the_recomputed_swap():
    rng = np.random.default_rng(2)
    labels = rng.normal(size=25)
    clusters = [f"m{i // 2}" for i in range(25)]
    mse = named("mse")
    arms = [mse.columns((labels + rng.normal(size=25) * s).tolist(), labels.tolist()) for s in (0.5, 0.8)]
    by_sign = swap_test(mse, [([arms[0]], [arms[1]])], clusters, seed=3)[0]
    signs = np.random.default_rng(3)
    names = sorted(set(clusters))
    index = [names.index(name) for name in clusters]
    flips = 1 - 2.0 * signs.integers(0, 2, size=(20_000, len(names)), dtype=bool)
    difference = (arms[0] - arms[1])[:, 0]
    extreme = (np.abs(flips[:, index] @ difference) >= abs(difference.sum()) - 1e-9).sum()
    assert by_sign == (1 + extreme) / 20_001


def test_swap_of_ranks_equals_a_naive_loop():
    run, other = spearman_pair(3)
    clusters = [f"m{i // 3}" for i in range(30)]
    p = swap_test(named("spearman"), [([run], [other])], clusters, flips=200, seed=5)[0]

    def score(predictions, labels):
        return named("spearman").score(predictions, labels) or 0.0

    observed = abs(score(*run.T.tolist()) - score(*other.T.tolist()))
    names = sorted(set(clusters))
    index = [names.index(name) for name in clusters]
    kept = np.random.default_rng(5).integers(0, 2, size=(200, len(names)), dtype=bool)[:, index]
    extreme = 0
    for is_kept in kept:
        first, second = np.where(is_kept[:, None], run, other), np.where(is_kept[:, None], other, run)
        extreme += abs(score(*first.T.tolist()) - score(*second.T.tolist())) >= observed - 1e-12
    assert p == (1 + extreme) / 201


def test_pooled_pair_and_added_arms_change_nothing_else():
    first, second, third = spearman_pair(1)[0], spearman_pair(1)[1], spearman_pair(1)[0][::-1].copy()
    clusters = [f"m{i}" for i in range(30)]
    spearman = named("spearman")
    alone = swap_test(spearman, [([first], [second])], clusters, flips=300)
    among = swap_test(
        spearman, [([first], [second]), ([first, first], [second, second])], clusters, flips=300
    )
    assert among == [alone[0], alone[0]]
    assert swap_test(spearman, [([first], [second]), ([third], [second])], clusters, flips=300)[0] == alone[0]


def test_p_of_ranks_does_not_depend_on_the_unit_an_arm_answers_in():
    """Rho is the same in any unit; raw answers of two units swapped would not be."""
    rng = np.random.default_rng(6)
    labels = rng.normal(size=40)
    ours, theirs = (labels + noise for noise in rng.normal(size=(2, 40)))
    clusters = [f"m{i}" for i in range(40)]
    spearman = named("spearman")
    said = [spearman.columns(one.tolist(), labels.tolist()) for one in (ours, theirs, np.exp(theirs) - 100)]
    pairs = [([said[0]], [said[1]]), ([said[0]], [said[2]])]
    first, second = swap_test(spearman, pairs, clusters, flips=300)
    assert first == second


def test_undefined_difference_has_no_p():
    run = spearman_pair(1)[0]
    constant = run.copy()
    constant[:, 0] = 1.0
    clusters = [f"m{i}" for i in range(30)]
    pairs = [([run], [constant]), ([run], [run])]
    assert swap_test(named("spearman"), pairs, clusters, flips=100) == [None, 1.0]
    assert swap_test(named("spearman"), pairs[:1], clusters, flips=100) == [None]


def test_runs_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="a run of 2 items among 3"):
        bootstrap(named("accuracy"), [hits(1, 0)], list("abc"))
    with pytest.raises(ValueError, match="2 seeds of one arm against 1"):
        swap_test(named("accuracy"), [([hits(1), hits(1)], [hits(0)])], ["a"])
    with pytest.raises(ValueError, match="no items"):
        bootstrap(named("accuracy"), [], [])


def test_holm_hand_case():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closure_of_bonferroni(p_values):
    """A hypothesis falls where every family that holds it falls by Bonferroni, family by family."""
    everyone = range(len(p_values))
    families = [one for size in range(1, len(p_values) + 1) for one in combinations(everyone, size)]
    expected = [
        min(1.0, max(len(one) * min(p_values[item] for item in one) for one in families if hypothesis in one))
        for hypothesis in everyone
    ]
    assert holm(p_values) == pytest.approx(expected)


def test_holm_keeps_undefined_in_the_family():
    assert holm([0.02, None]) == [0.04, None]


@pytest.mark.parametrize(
    ("low", "high", "n", "point", "verdict"),
    [
        (-0.03, 0.04, 400, 0.01, "equivalent"),
        (-0.03, 0.04, 399, 0.01, "inconclusive"),
        (-0.03, 0.06, 900, 0.01, "inconclusive"),
        (0.02, 0.04, 900, 0.01, "equivalent"),
        (0.06, 0.09, 900, 0.01, "different"),
        (-0.09, -0.06, 900, 0.01, "different"),
        (None, None, 900, 0.01, None),
        (-0.1, 0.1, 900, None, None),
    ],
)
def test_equivalence(low, high, n, point, verdict):
    assert equivalence(low, high, n, point) == verdict


def test_spread_of_one_medium():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 300, 1))
    clusters = [f"m{i}" for i in range(300)]
    rows = bootstrap(named("mse"), [ours, theirs], clusters)
    assert cluster_sd(rows[0] - rows[1], 300) == pytest.approx(np.std(ours - theirs, ddof=1), rel=0.03)
    # Twice the questions with the same answers are no more media.
    doubled = bootstrap(named("mse"), [np.repeat(ours, 2, axis=0)], np.repeat(clusters, 2).tolist())
    assert cluster_sd(doubled[0], 300) == pytest.approx(np.std(ours, ddof=1), rel=0.03)


@pytest.mark.parametrize(
    "draws", [np.full(100, 0.1), np.full(100, np.nan), np.r_[np.arange(98.0), np.nan, np.nan]]
)
def test_draws_without_spread_say_nothing_about_it(draws):
    assert cluster_sd(draws, 30) is None
    assert required_clusters(None, 0.01, points=2) is None
    assert required_for_equivalence(None, 0.01, items_per_cluster=1) is None


def test_required_clusters_hand_cases():
    # (1.959964 + 0.841621) * 0.5 / 0.02 = 70.04; squared 4905.5
    assert required_clusters(0.5, 0.01, points=2) == 4906
    # 0.05 / 10 in both tails: (2.807034 + 0.841621) * 25 = 91.216; squared 8320.4
    assert required_clusters(0.5, 0.01, points=2, family=10) == 8321
    assert required_clusters(0.5, 0.01, points=4) == 1227
    # Five media can't give a sign-flip p below 2 / 32; six can: 2 / 64. In a family of 10, 9 can: 2 / 512.
    assert required_clusters(1e-6, 0.01, points=2) == 6
    assert required_clusters(1e-6, 0.01, points=2, family=10) == 9
    assert required_clusters(0.5, None, points=2) is None


def test_required_for_equivalence_hand_cases():
    # (1.644854 + 1.281552) * 0.5 / 0.05 = 29.26; squared 856.4
    assert required_for_equivalence(0.5, 0.01, items_per_cluster=1) == 857
    # 400 items are asked for, whatever the spread.
    assert required_for_equivalence(0.01, 0.01, items_per_cluster=1) == 400
    assert required_for_equivalence(0.01, 0.01, items_per_cluster=3) == 134
    assert required_for_equivalence(0.5, None, items_per_cluster=1) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accuracy", "spearman"])
def test_p_is_uniform_when_the_arms_are_alike(name):
    rng, p_values, n = np.random.default_rng(11), [], 60
    clusters = [f"m{i}" for i in range(n)]
    for world in range(300):
        labels = rng.normal(size=n)
        arms = [labels + rng.normal(size=n) for _ in range(2)]
        if name == "accuracy":
            runs = [((arm > 0) == (labels > 0)).astype(float)[:, None] for arm in arms]
        else:
            runs = [np.stack([arm, labels], axis=1) for arm in arms]
        p_values += swap_test(named(name), [([runs[0]], [runs[1]])], clusters, flips=400, seed=world)
    share = np.mean(np.array(p_values) < 0.05)
    assert 0.02 <= share <= 0.09
    assert 0.4 <= np.mean(p_values) <= 0.65
