"""The `summary.json` contract: keys, bytes, failures that must not look like data."""

import json
import random

import pyarrow as pa
import pytest
from pydantic import ValidationError

from behavior_llava.core.errors import UserError
from behavior_llava.evaluation.statistics import required_clusters, required_for_equivalence
from behavior_llava.evaluation.summary import PREDICTIONS, Config, summarize, to_json

RESULT_KEYS = [
    *(
        "benchmark",
        "task",
        "setting",
        "metric",
        "label_fraction",
        "shots",
        "scoring",
        "primary",
        "arm",
        "seed",
    ),
    *("modality", "value", "low", "high", "n", "n_clusters", "coverage", "unparsed", "chance", "majority"),
]
DIFFERENCE_KEYS = [
    *(
        "benchmark",
        "task",
        "setting",
        "metric",
        "label_fraction",
        "shots",
        "scoring",
        "primary",
        "arm",
        "against",
    ),
    *("seed", "value", "low", "high", "p", "p_holm", "n", "n_boot"),
]
EXTRA_DIFFERENCE_KEYS = [
    *("low90", "high90", "equivalence", "higher_is_better", "n_clusters"),
    *("cluster_sd", "media_needed", "media_needed_equivalence"),
]

ARMS = ["base", "content_only", "shuffled", "behavior"]
QUICK = Config(draws=200, flips=200)


def task(**fields):
    known = {
        "benchmark": "b",
        "metric": "accuracy",
        "modality": "image",
        "chance": 0.5,
        "majority": 0.6,
        "low_level": False,
        "published": None,
        "higher_is_better": True,
        "listed": 25,
    }
    return {**known, **fields}


def rows(arm, predictions, *, seed=0, **fields):
    """One run's rows; the label is always "x" unless `labels` says otherwise."""
    labels = fields.pop("labels", ["x"] * len(predictions))
    known = {
        "benchmark": "b",
        "task": "t",
        "metric": "accuracy",
        "setting": "zero_shot",
        "label_fraction": None,
        "shots": 0,
        "scoring": "sum",
        "primary": True,
        "group": None,
        "answer": "",
        "context": None,
        "media_path": None,
    }
    return [
        {
            **known,
            "arm": arm,
            "seed": seed,
            "sample_id": f"s{item:03}",
            "cluster": f"m{item // 2}",
            "prediction": None if prediction is None else json.dumps(prediction),
            "label": json.dumps(label),
            **fields,
        }
        for item, (prediction, label) in enumerate(zip(predictions, labels, strict=True))
    ]


def world(n=20, seeds=(0, 1)):
    found = rows("base", ["y"] * n)
    for seed in seeds:
        for arm, right in (("content_only", 0.3), ("shuffled", 0.3), ("behavior", 0.9)):
            rng = random.Random(f"{arm}{seed}")
            found += rows(arm, ["x" if rng.random() < right else "y" for _ in range(n)], seed=seed)
    return found


def one(rows_, **fields):
    (found,) = [row for row in rows_ if all(row[name] == value for name, value in fields.items())]
    return found


def test_keys_are_exactly_the_contract():
    summary = summarize(world(), {"t": task()}, ARMS, QUICK)
    assert list(summary)[:5] == ["schema", "synthetic", "arms", "results", "differences"]
    assert summary["schema"] == 1
    assert summary["synthetic"] is False
    assert summary["arms"] == ARMS
    assert {tuple(sorted(row)) for row in summary["results"]} == {tuple(sorted(RESULT_KEYS))}
    expected = tuple(sorted([*DIFFERENCE_KEYS, *EXTRA_DIFFERENCE_KEYS]))
    assert {tuple(sorted(row)) for row in summary["differences"]} == {expected}


def test_rows_are_every_arm_and_seed_and_their_pool():
    summary = summarize(world(), {"t": task()}, ARMS, QUICK)
    assert [(row["arm"], row["seed"]) for row in summary["results"]] == [
        *(("base", None), ("base", 0)),
        *((arm, seed) for arm in ARMS[1:] for seed in (None, 0, 1)),
    ]
    pairs = [
        ("behavior", "base"),
        ("behavior", "content_only"),
        ("behavior", "shuffled"),
        ("shuffled", "content_only"),
    ]
    assert [(row["arm"], row["against"], row["seed"]) for row in summary["differences"]] == [
        (*pair, seed) for pair in pairs for seed in (None, 0, 1)
    ]


def test_pooled_is_the_mean_of_the_seeds_and_differences_are_exact():
    summary = summarize(world(), {"t": task()}, ARMS, QUICK)
    value = {(row["arm"], row["seed"]): row["value"] for row in summary["results"]}
    assert value["behavior", None] == pytest.approx((value["behavior", 0] + value["behavior", 1]) / 2)
    for row in summary["differences"]:
        against = value.get((row["against"], row["seed"]), value[row["against"], None])
        assert row["value"] == pytest.approx(value[row["arm"], row["seed"]] - against, abs=2e-6)
        assert row["low"] <= row["value"] <= row["high"]
        assert row["low"] <= row["low90"] <= row["high90"] <= row["high"]
        assert row["n_boot"] == 200


def test_bytes_do_not_depend_on_the_order_of_rows():
    found = world()
    first = to_json(summarize(found, {"t": task()}, ARMS, QUICK))
    random.Random(1).shuffle(found)
    assert to_json(summarize(found, {"t": task()}, ARMS, QUICK)) == first
    table = pa.Table.from_pylist(found, schema=PREDICTIONS)
    assert to_json(summarize(table, {"t": task()}, ARMS, QUICK)) == first
    assert json.loads(first)["results"][0]["n"] == 20


def test_unparsed_is_wrong_counted_and_in_n():
    summary = summarize(rows("base", ["x", "x", None, "y"]), {"t": task(listed=8)}, ARMS, QUICK)
    row = one(summary["results"], seed=0)
    assert (row["value"], row["unparsed"], row["n"], row["n_clusters"], row["coverage"]) == (
        0.5,
        0.25,
        4,
        2,
        0.5,
    )
    assert (row["chance"], row["majority"]) == (0.5, 0.6)


def test_a_prediction_that_is_not_finite_is_unparsed():
    found = rows("base", [1.0, 2.0, float("nan")], labels=[1.0, 2.0, 3.0], metric="r2")
    assert one(summarize(found, {"t": task(metric="r2")}, ARMS, QUICK)["results"], seed=0)[
        "unparsed"
    ] == round(1 / 3, 6)


def test_undefined_is_null_everywhere():
    labels = [float(item) for item in range(10)]
    found = rows("content_only", [1.0] * 10, labels=labels) + rows("behavior", labels, labels=labels)
    found = [row | {"metric": "spearman"} for row in found]
    summary = summarize(found, {"t": task(metric="spearman", listed=None, majority=None)}, ARMS, QUICK)
    silent = one(summary["results"], arm="content_only", seed=0)
    assert [silent[name] for name in ("value", "low", "high", "coverage", "majority")] == [None] * 5
    assert one(summary["results"], arm="behavior", seed=0)["value"] == 1.0
    row = one(summary["differences"], against="content_only", seed=None)
    assert [row[name] for name in ("value", "low", "high", "p", "p_holm", "low90", "equivalence")] == [
        None
    ] * 7
    assert "NaN" not in to_json(summary)


def test_missing_arms_are_listed_and_have_no_rows():
    summary = summarize(rows("behavior", ["x"] * 6), {"t": task()}, ARMS, QUICK)
    assert summary["arms"] == ARMS
    assert {row["arm"] for row in summary["results"]} == {"behavior"}
    assert summary["differences"] == []
    assert summarize([], {}, ARMS, QUICK)["results"] == []


def test_a_missing_seed_is_missing_except_for_base():
    found = [row for row in world() if not (row["arm"] == "content_only" and row["seed"] == 1)]
    differences = summarize(found, {"t": task()}, ARMS, QUICK)["differences"]
    assert [
        row["seed"] for row in differences if row["against"] == "content_only" and row["arm"] == "behavior"
    ] == [None, 0]
    assert [row["seed"] for row in differences if row["against"] == "base"] == [None, 0, 1]


def test_holm_family_is_the_primary_rows_of_a_setting_against_both_controls():
    found = world()
    found += [{**row, "scoring": "mean", "primary": False} for row in found]
    found += [{**row, "task": "u"} for row in world()]
    summary = summarize(found, {"t": task(), "u": task()}, ARMS, QUICK)
    family = [row for row in summary["differences"] if row["p_holm"] is not None and row["seed"] is None]
    assert [(row["task"], row["against"]) for row in family] == [
        (name, against) for name in ("t", "u") for against in ("content_only", "shuffled")
    ]
    assert all(row["primary"] and row["arm"] == "behavior" for row in family)
    smallest = min(family, key=lambda row: row["p"])
    assert smallest["p_holm"] == pytest.approx(min(1.0, 4 * smallest["p"]), abs=1e-5)


def test_every_compared_run_is_a_family_of_its_own():
    alone = summarize(world(), {"t": task()}, ARMS, QUICK)["differences"]
    both = [{**row, "arm": f"{run}/{row['arm']}"} for run in ("a", "b") for row in world()]
    arms = [f"{run}/{arm}" for run in ("a", "b") for arm in ARMS]
    duels = [(f"{run}/behavior", f"{run}/{control}") for run in ("a", "b") for control in ARMS[:3]]
    duels.append(("b/behavior", "a/content_only"))
    found = summarize(both, {"t": task()}, arms, QUICK, duels=duels)["differences"]
    for run in ("a", "b"):
        for row in alone:
            if row["arm"] == "behavior":
                names = {"arm": f"{run}/behavior", "against": f"{run}/{row['against']}", "seed": row["seed"]}
                same = one(found, **names)
                assert (same["p_holm"] is None) == (row["against"] == "base")
                assert [same[name] for name in ("p", "p_holm", "media_needed")] == [
                    row[name] for name in ("p", "p_holm", "media_needed")
                ]
    assert one(found, arm="b/behavior", against="a/content_only", seed=None)["p_holm"] is None


def test_media_needed_pays_for_the_family_it_stands_in():
    found = world() + [{**row, "task": "u"} for row in world()]
    families = []
    for row in summarize(found, {"t": task(), "u": task()}, ARMS, QUICK)["differences"]:
        assert row["n_clusters"] == 10
        # Two tasks against two controls; the placebo itself and the base stand in no family.
        families.append(4 if row["p_holm"] is not None else 1)
        expected = required_clusters(row["cluster_sd"], 0.01, points=2, family=families[-1])
        assert row["media_needed"] == pytest.approx(expected, rel=1e-3)
    assert sorted(families) == [1] * 12 + [4] * 12


def test_what_has_no_points_or_no_spread_needs_no_number_of_media():
    labels = [float(item % 3) for item in range(12)]
    found = rows("behavior", labels, labels=labels) + rows("content_only", [1.0] * 12, labels=labels)
    found = [row | {"metric": "mse"} for row in found]
    row = summarize(found, {"t": task(metric="mse")}, ARMS, QUICK)["differences"][0]
    assert row["cluster_sd"] > 0
    assert row["media_needed"] is None
    alike = rows("behavior", ["x"] * 12) + rows("content_only", ["x"] * 12)
    row = summarize(alike, {"t": task(low_level=True)}, ARMS, QUICK)["differences"][0]
    assert [row[name] for name in ("cluster_sd", "media_needed", "media_needed_equivalence")] == [None] * 3


def test_one_medium_has_scores_and_no_interval():
    found = [{**row, "cluster": "m"} for row in rows("behavior", ["x"] * 6) + rows("content_only", ["y"] * 6)]
    summary = summarize(found, {"t": task()}, ARMS, QUICK)
    assert [(row["value"], row["low"], row["high"]) for row in summary["results"] if row["seed"] == 0] == [
        (0.0, None, None),
        (1.0, None, None),
    ]
    row = summary["differences"][0]
    assert (row["value"], row["low"], row["high"], row["p"], row["cluster_sd"]) == (
        1.0,
        None,
        None,
        1.0,
        None,
    )


def test_no_p_is_rounded_to_zero():
    """1 / (1 + flips) of the most flips that are allowed still stands in six digits."""
    with pytest.raises(ValidationError):
        Config(flips=1_000_001)
    assert round(1 / (1 + Config(flips=1_000_000).flips), 6) > 0


def test_equivalence_is_for_low_level_tasks_only():
    found = rows("behavior", ["x"] * 400) + rows("content_only", ["x"] * 400)
    assert summarize(found, {"t": task()}, ARMS, QUICK)["differences"][0]["equivalence"] is None
    low = summarize(found, {"t": task(low_level=True)}, ARMS, QUICK)["differences"][0]
    assert (low["equivalence"], low["low90"], low["high90"]) == ("equivalent", 0.0, 0.0)
    few = summarize(world(), {"t": task(low_level=True)}, ARMS, QUICK)["differences"][0]
    assert few["equivalence"] == "inconclusive"
    assert few["media_needed_equivalence"] == required_for_equivalence(
        few["cluster_sd"], 0.01, items_per_cluster=2
    )


def test_groups_are_scored_apart_and_leave_the_contract_alone():
    found = world()
    plain = summarize(found, {"t": task()}, ARMS, QUICK)
    for row in found:
        row["group"] = "unseen_combination" if row["sample_id"] < "s008" else None
    summary = summarize(found, {"t": task()}, ARMS, QUICK)
    assert summary["results"] == plain["results"]
    assert summary["differences"] == plain["differences"]
    row = one(summary["groups"], arm="behavior", seed=0)
    assert (row["group"], row["n"], row["coverage"], row["majority"]) == ("unseen_combination", 8, None, 1.0)
    assert {row["p_holm"] for row in summary["group_differences"]} == {None}


def test_settings_shots_and_fractions_are_never_mixed():
    found = world() + [{**row, "setting": "finetuned", "label_fraction": 0.5} for row in world()]
    found += [{**row, "shots": 1} for row in world()]
    results = summarize(found, {"t": task()}, ARMS, QUICK)["results"]
    assert {(row["setting"], row["label_fraction"], row["shots"]) for row in results} == {
        *(("zero_shot", None, 0), ("zero_shot", None, 1), ("finetuned", 0.5, 0))
    }
    assert all(row["n"] == 20 for row in results)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda found: found.pop(), "did not answer the same samples"),
        (lambda found: found.append(dict(found[-1])), "1 samples are answered twice"),
        (lambda found: found[-1].update(label='"y"'), "have other labels"),
        (lambda found: found[-1].update(label=None), "without a label"),
        (lambda found: found[-1].update(arm="behaviour"), "an arm that is not among"),
        (lambda found: found[-1].update(task="v"), "task nothing is known about"),
        (lambda found: found[-1].update(prediction="x"), "is not JSON"),
    ],
)
def test_inconsistent_predictions_are_refused(spoil, message):
    found = world()
    spoil(found)
    with pytest.raises(UserError, match=message):
        summarize(found, {"t": task()}, ARMS, QUICK)


def test_a_table_without_a_column_is_refused():
    table = pa.Table.from_pylist(world(), schema=PREDICTIONS).drop_columns(["cluster"])
    with pytest.raises(UserError, match="lack the columns cluster"):
        summarize(table, {"t": task()}, ARMS, QUICK)


def test_scores_without_the_samples_in_training_data():
    """12 of 20 right; without 4 samples, 3 of them right, 9 of 16 are."""
    right = [item < 12 for item in range(20)]
    found = rows("content_only", ["y"] * 20) + rows("behavior", ["x" if one else "y" for one in right])
    hits = {"s000", "s001", "s002", "s019"}
    plain = summarize(found, {"t": task()}, ARMS, QUICK)
    assert plain["without_contamination"] == plain["without_contamination_differences"] == []
    summary = summarize(
        found, {"t": task()}, ARMS, QUICK, contaminated={"t": hits | {"never asked"}, "unknown": {"s1"}}
    )
    assert summary["results"] == plain["results"]
    assert summary["differences"] == plain["differences"]
    row = one(summary["without_contamination"], arm="behavior", seed=None)
    assert (row["value"], row["n"], row["n_clusters"], row["hits"]) == (9 / 16, 16, 9, 4)
    assert row["low"] < row["value"] < row["high"]
    # the same as if they had never been asked
    left = [one_row for one_row in found if one_row["sample_id"] not in hits]
    apart = summarize(left, {"t": task(majority=1.0, listed=None)}, ARMS, QUICK)
    assert [{**other, "hits": 4} for other in apart["results"]] == summary["without_contamination"]
    differences = [{**other, "hits": 4, "p_holm": None} for other in apart["differences"]]
    assert summary["without_contamination_differences"] == differences
    assert one(differences, against="content_only", seed=0)["value"] == 9 / 16


def test_where_every_sample_is_in_training_data_nothing_is_left_to_score():
    found = rows("behavior", ["x", "y"])
    summary = summarize(found, {"t": task()}, ARMS, QUICK, contaminated={"t": ["s000", "s001"]})
    row = one(summary["without_contamination"], seed=None)
    assert (row["value"], row["low"], row["unparsed"], row["n"], row["hits"]) == (None, None, None, 0, 2)
    assert summary["without_contamination_differences"] == []
    to_json(summary)
