"""Do intervals and p values keep what they promise? Simulated worlds whose truth is known.

Worlds come in batches that share their media and their resamples, because the functions under test take many
runs at once. Seeds are the numbers of the batches, 0, 1, 2, ...; nothing was chosen after looking.
"""

import numpy as np
import pytest

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

pytestmark = pytest.mark.slow

BATCHES, PER_BATCH = 20, 100
WORLDS = BATCHES * PER_BATCH
DRAWS, FLIPS = 1_000, 1_000

ACCURACY = named("accuracy")


def at_most_5_percent(flips=FLIPS):
    """What a rate of exactly 5 % stays below in 99 of 100 simulations; a batch shares its flips."""
    return 0.05 + 2.33 * (0.05 * 0.95 * (1 / WORLDS + 1 / (BATCHES * flips))) ** 0.5


def names(count):
    return [f"m{item}" for item in range(count)]


def unequal_media(rng, num_clusters):
    """1 to 8 questions a medium."""
    sizes = rng.integers(1, 9, size=num_clusters)
    return np.repeat(names(num_clusters), sizes).tolist(), np.repeat(np.arange(num_clusters), sizes)


def hits(rng, chance_N, worlds):
    """Right or wrong with each item's chance; chance_N is one row, or one a world."""
    chance_WN = np.broadcast_to(chance_N, (worlds, np.shape(chance_N)[-1]))
    return [row[:, None] for row in (rng.random(chance_WN.shape) < chance_WN).astype(float)]


def covered(draws_RD, truth, level=0.95):
    found = [interval(draws_D, level) for draws_D in draws_RD]
    assert all(low is not None for low, _ in found)
    return sum(low <= truth <= high for low, high in found)


# ---- intervals ---------------------------------------------------------------------------------------------


def coverage_of_a_mean(num_clusters, *, share_right=0.4, by_media=True):
    """Media differ in difficulty, so their questions stand or fall together."""
    count = 0
    for batch in range(BATCHES):
        rng = np.random.default_rng(batch)
        clusters, index_N = unequal_media(rng, num_clusters)
        chance_WC = rng.beta(2 * share_right, 2 * (1 - share_right), size=(PER_BATCH, num_clusters))
        runs = hits(rng, chance_WC[:, index_N], PER_BATCH)
        units = clusters if by_media else names(len(clusters))
        count += covered(bootstrap(ACCURACY, runs, units, draws=DRAWS, seed=batch), share_right)
    return count / WORLDS


def coverage_of_a_pooled_difference(num_clusters, seeds=3):
    """Arms meet the same media, three seeds each; the gain differs by seed and is 4 points on average."""
    gains = np.array([0.01, 0.03, 0.08])[:seeds]
    count = 0
    for batch in range(BATCHES):
        rng = np.random.default_rng(batch)
        clusters, index_N = unequal_media(rng, num_clusters)
        easy_WN = rng.uniform(0.1, 0.8, size=(PER_BATCH, num_clusters))[:, index_N]
        total = np.zeros((PER_BATCH, DRAWS))
        for gain in gains:
            arms = [hits(rng, easy_WN + gain, PER_BATCH), hits(rng, easy_WN, PER_BATCH)]
            ours, theirs = (bootstrap(ACCURACY, runs, clusters, draws=DRAWS, seed=batch) for runs in arms)
            total += ours - theirs
        count += covered(total / seeds, gains.mean())
    return count / WORLDS


def coverage_of_spearman(n):
    """Normal pairs correlated 0.5, whose rank correlation is 6 / pi * asin(1 / 4)."""
    count = 0
    for batch in range(BATCHES):
        rng = np.random.default_rng(batch)
        runs = list(rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], size=(PER_BATCH, n)))
        draws = bootstrap(named("spearman"), runs, names(n), draws=DRAWS, seed=batch)
        count += covered(draws, 6 / np.pi * np.arcsin(0.25))
    return count / WORLDS


def coverage_of_a_spearman_difference(n):
    """Two arms with rank correlations of 0.48 and 0.28 (0.5 and 0.3 of normals), on the same items."""
    count = 0
    truth = 6 / np.pi * (np.arcsin(0.25) - np.arcsin(0.15))
    for batch in range(BATCHES):
        rng = np.random.default_rng(batch)
        label, first, second = rng.normal(size=(3, PER_BATCH, n))
        ours, theirs = 0.5 * label + 0.75**0.5 * first, 0.3 * label + 0.91**0.5 * second
        rows = [
            bootstrap(named("spearman"), [*np.stack([arm, label], axis=2)], names(n), draws=DRAWS, seed=batch)
            for arm in (ours, theirs)
        ]
        count += covered(rows[0] - rows[1], truth)
    return count / WORLDS


def coverage_of_r2(n):
    """Answers off by noise of variance 0.7 from labels of variance 1: R2 is 0.3."""
    count = 0
    for batch in range(BATCHES):
        rng = np.random.default_rng(batch)
        label, noise = rng.normal(size=(2, PER_BATCH, n))
        runs = [*np.stack([label + 0.7**0.5 * noise, label], axis=2)]
        count += covered(bootstrap(named("r2"), runs, names(n), draws=DRAWS, seed=batch), 0.3)
    return count / WORLDS


def test_intervals_of_a_mean_hold_the_truth():
    assert 0.93 <= coverage_of_a_mean(100) <= 0.97


def test_questions_of_one_medium_taken_apart_promise_too_much():
    """The same worlds, each question for itself: the simulation can see what clustering is for."""
    assert coverage_of_a_mean(100, by_media=False) < 0.85


@pytest.mark.parametrize(("num_media", "share_right"), [(10, 0.4), (100, 0.97)])
def test_few_media_and_shares_near_one_hold_less_than_promised(num_media, share_right):
    """What the docstring of `interval` and the report warn of."""
    assert 0.86 <= coverage_of_a_mean(num_media, share_right=share_right) < 0.93


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_of_a_paired_difference_hold_the_truth(seeds):
    """Of one seed, and pooled over three: the truth is that of these seeds."""
    assert 0.93 <= coverage_of_a_pooled_difference(100, seeds) <= 0.97


def test_intervals_of_spearman_hold_the_truth():
    assert 0.93 <= coverage_of_spearman(50) <= 0.97


def test_intervals_of_a_spearman_difference_hold_the_truth():
    assert 0.93 <= coverage_of_a_spearman_difference(50) <= 0.97


def test_intervals_of_r2_hold_the_truth():
    """From a few hundred items on; see the docstring of `interval`."""
    assert 0.93 <= coverage_of_r2(400) <= 0.97


# ---- p values ----------------------------------------------------------------------------------------------


def null_p_values(name, num_clusters, flips=FLIPS):
    """p of two arms that are equally good."""
    metric, found = named(name), []
    for batch in range(BATCHES):
        rng = np.random.default_rng(batch)
        if metric.per_item:
            clusters, index_N = unequal_media(rng, num_clusters)
            easy_WN = rng.uniform(0, 1, size=(PER_BATCH, num_clusters))[:, index_N]
            arms = [hits(rng, easy_WN, PER_BATCH) for _ in range(2)]
        else:
            clusters = names(num_clusters)
            label_WN, *noises = rng.normal(size=(3, PER_BATCH, num_clusters))
            arms = [
                [
                    metric.columns(said.tolist(), true.tolist())
                    for said, true in zip(label_WN + noise_WN, label_WN, strict=True)
                ]
                for noise_WN in noises
            ]
        pairs = [([ours], [theirs]) for ours, theirs in zip(*arms, strict=True)]
        found += swap_test(metric, pairs, clusters, flips=flips, seed=batch)
    return np.array(found)


def family_wise_errors(true_gains, num_clusters=100):
    """Shares of studies with a false claim, and with every true gain found.

    A study is a family as `summary.py` makes it: one task an entry of `true_gains`, each with `behavior`
    against two controls on the same items, all three arms the same but for the gain.
    """
    any_false, all_found = 0, 0
    for batch in range(BATCHES):
        rng = np.random.default_rng(batch)
        p_values_SF = [[] for _ in range(PER_BATCH)]
        for gain in true_gains:
            clusters, index_N = unequal_media(rng, num_clusters)
            easy_WN = rng.uniform(0, 0.7, size=(PER_BATCH, num_clusters))[:, index_N]
            behavior = hits(rng, easy_WN + gain, PER_BATCH)
            for _ in range(2):
                control = hits(rng, easy_WN, PER_BATCH)
                pairs = [([ours], [theirs]) for ours, theirs in zip(behavior, control, strict=True)]
                found = swap_test(ACCURACY, pairs, clusters, flips=FLIPS, seed=batch)
                for family, p in zip(p_values_SF, found, strict=True):
                    family.append(p)
        is_null_F = np.repeat(np.array(true_gains) == 0, 2)
        rejected_SF = np.array([holm(family) for family in p_values_SF]) < 0.05
        any_false += rejected_SF[:, is_null_F].any(axis=1).sum()
        all_found += rejected_SF[:, ~is_null_F].all(axis=1).sum()
    return any_false / WORLDS, all_found / WORLDS


@pytest.mark.parametrize(("name", "flips"), [("accuracy", FLIPS), ("spearman", 200), ("r2", 200)])
def test_arms_that_are_alike_differ_in_one_of_twenty_worlds(name, flips):
    p_values = null_p_values(name, 60, flips)
    assert 0.02 <= (p_values < 0.05).mean() <= at_most_5_percent(flips)
    assert (p_values < 0.01).mean() <= 0.02
    assert p_values.min() >= 1 / (1 + flips)


def test_family_wise_error_where_nothing_is_true():
    """Six tasks, two controls, the same `behavior` against both: twelve p values that hang together."""
    false_claims, _ = family_wise_errors((0, 0, 0, 0, 0, 0))
    assert 0.01 <= false_claims <= at_most_5_percent()


def test_family_wise_error_where_half_is_true():
    false_claims, all_found = family_wise_errors((0.15, 0.15, 0.15, 0, 0, 0))
    assert 0.01 <= false_claims <= at_most_5_percent()
    assert all_found > 0.8


# ---- equivalence and required media ------------------------------------------------------------------------


def differing(rng, num_media, gain, worlds, *, alike=0.0):
    """Two arms on media of one question each; a share of the questions both answer alike."""
    easy_WN = rng.uniform(0.1, 0.7, size=(worlds, num_media))
    is_alike_WN = rng.random((worlds, num_media)) < alike
    easy_WN = np.where(is_alike_WN, easy_WN > 0.4, easy_WN)
    return hits(rng, np.where(is_alike_WN, easy_WN, easy_WN + gain / (1 - alike)), worlds), hits(
        rng, easy_WN, worlds
    )


def difference_draws(arms, seed, draws=DRAWS):
    clusters = names(len(arms[0][0]))
    ours, theirs = (bootstrap(ACCURACY, runs, clusters, draws=draws, seed=seed) for runs in arms)
    return ours - theirs


def share_equivalent(num_media, gain, *, alike=0.0):
    count = 0
    for batch in range(BATCHES):
        arms = differing(np.random.default_rng(batch), num_media, gain, PER_BATCH, alike=alike)
        for draws_D in difference_draws(arms, batch):
            low90, high90 = interval(draws_D, 0.90)
            count += equivalence(low90, high90, num_media, ACCURACY.point) == "equivalent"
    return count / WORLDS


def pilot_sd(gain, num_media=10_000):
    """What one large study says about the spread, with the draws a report takes: 1,000 would be 2 % off.

    Its seed is none of the batches'.
    """
    arms = differing(np.random.default_rng(BATCHES), num_media, gain, 1)
    return cluster_sd(difference_draws(arms, BATCHES, 10_000)[0], num_media)


def power(num_media, gain, family):
    """The share of studies whose p is below 0.05 over the size of the family."""
    count = 0
    for batch in range(BATCHES):
        arms = differing(np.random.default_rng(batch), num_media, gain, PER_BATCH)
        pairs = [([ours], [theirs]) for ours, theirs in zip(*arms, strict=True)]
        p_values = swap_test(ACCURACY, pairs, names(num_media), flips=4 * FLIPS, seed=batch)
        count += (np.array(p_values) < 0.05 / family).sum()
    return count / WORLDS


def test_no_change_is_seldom_claimed_where_the_margin_is_reached():
    """A true difference of 5 points, where n = 400 is enough to call a true 0 equivalent."""
    assert share_equivalent(400, 0.05, alike=0.75) <= at_most_5_percent()
    assert share_equivalent(400, 0.0, alike=0.75) > 0.8
    assert share_equivalent(399, 0.0, alike=0.75) == 0.0


@pytest.mark.parametrize("family", [1, 24])
def test_required_media_see_the_difference_in_four_of_five_studies(family):
    num_media = required_clusters(pilot_sd(0.05), ACCURACY.point, points=5, family=family)
    assert 0.76 <= power(num_media, 0.05, family) <= 0.84


def test_required_media_show_no_change_in_four_of_five_studies():
    num_media = required_for_equivalence(pilot_sd(0.0), ACCURACY.point, items_per_cluster=1)
    assert 0.76 <= share_equivalent(num_media, 0.0) <= 0.84
