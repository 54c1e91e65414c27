"""Every metric against the hand-worked cases of tests/data/metrics and against outside implementations."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.distance import braycurtis
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, mean_squared_error, r2_score

from behavior_llava.evaluation.metrics import METRICS, named

FILES = sorted((Path(__file__).parents[1] / "data" / "metrics").glob("*.yaml"))
# Windows, highlights, texts and a judge's grades have their cases in test_metrics_shots.py.
ELSEWHERE = {
    name
    for name in METRICS
    if name.startswith(("moment_", "highlight_"))
    or name in ("bleu_4", "rouge_l", "cider", "meteor", "judge_grade")
}
KINDS = {"normal", "edge", "undefined", "unreadable"}
CASES = [(path.stem, case) for path in FILES for case in yaml.safe_load(path.read_text(encoding="utf-8"))]

each_case = pytest.mark.parametrize(
    ("name", "case"), CASES, ids=[f"{name}: {case['case']}" for name, case in CASES]
)


def test_all_cases_were_read():
    assert {path.stem for path in FILES} == set(METRICS) - ELSEWHERE
    assert len(CASES) == 90
    for name in set(METRICS) - ELSEWHERE:
        own = [case for metric, case in CASES if metric == name]
        assert {case["kind"] for case in own} == KINDS, name
        assert len({case["case"] for case in own}) == len(own), name
        assert any(None in case["predictions"] for case in own), name
    for _, case in CASES:
        assert set(case) == {"case", "kind", "predictions", "labels", "expected", "why"}
        assert len(case["why"]) > 5
        assert case["kind"] != "undefined" or case["expected"] is None


@each_case
def test_case(name, case):
    value = named(name).score(case["predictions"], case["labels"])
    assert value is None if case["expected"] is None else value == pytest.approx(case["expected"], abs=1e-8)


@each_case
def test_order_repetition_and_json_change_nothing(name, case):
    """Items have no order; every item twice is the same set; predictions.parquet holds JSON."""
    metric, predictions, labels = named(name), case["predictions"], case["labels"]
    value = metric.score(predictions, labels)
    back = json.loads(json.dumps([predictions, labels]))
    for again in (
        metric.score(predictions[::-1], labels[::-1]),
        metric.score(predictions * 2, labels * 2),
        metric.score(*back),
    ):
        assert again is None if value is None else again == pytest.approx(value, abs=1e-8)


# ---- outside implementations -------------------------------------------------------------------------------


def tied_numbers(rng):
    count = int(rng.integers(3, 40))
    labels = rng.integers(-5, 6, size=count) / 2
    return (labels + rng.integers(-3, 4, size=count) / 2).tolist(), [*labels.tolist()[:-1], 9.5]


def curves(rng):
    lengths = rng.integers(3, 9, size=6)
    return [rng.random(n).tolist() for n in lengths], [rng.random(n).tolist() for n in lengths]


def shares(rng):
    names = list("abcde")
    made = [
        [dict(zip(names, row.tolist(), strict=True)) for row in rng.dirichlet([1] * 5, 7)] for _ in range(2)
    ]
    return made[0], made[1]


def words(rng):
    labels = rng.choice(["awe", "fear", "joy"], size=25)
    return rng.choice(["awe", "fear", "joy"], size=25).tolist(), labels.tolist()


def orders(rng):
    return [rng.permutation(6).tolist() for _ in range(8)], [rng.permutation(6).tolist() for _ in range(8)]


def order_rho(said, true):
    return spearmanr([said.index(one) for one in true], range(len(true)))[0]


OUTSIDE = {
    "accuracy": (words, lambda said, true: accuracy_score(true, said)),
    "mse": (tied_numbers, lambda said, true: mean_squared_error(true, said)),
    "spearman": (tied_numbers, lambda said, true: pearsonr(rankdata(said), rankdata(true))[0]),
    "r2": (tied_numbers, lambda said, true: r2_score(true, said)),
    "curve_correlation": (
        curves,
        lambda said, true: np.mean([pearsonr(*pair)[0] for pair in zip(said, true, strict=True)]),
    ),
    "curve_error": (
        curves,
        lambda said, true: np.mean([mean_absolute_error(*pair) for pair in zip(true, said, strict=True)]),
    ),
    "order_correlation": (
        orders,
        lambda said, true: np.mean([order_rho(*pair) for pair in zip(said, true, strict=True)]),
    ),
    "share_overlap": (
        shares,
        lambda said, true: (
            1
            - np.mean(
                [braycurtis([*a.values()], [*b.values()]) for a, b in zip(said, true, strict=True)],
            )
        ),
    ),
}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", sorted(OUTSIDE))
def test_equals_scipy_and_scikit_learn(name, seed):
    make, outside = OUTSIDE[name]
    said, true = make(np.random.default_rng(seed))
    assert named(name).score(said, true) == pytest.approx(outside(said, true), abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_perplexity_equals_that_of_scikit_learns_log_loss(seed):
    """Texts of any length from a model over five words: the exponential of the loss of all their tokens."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(0, 5, size=n) for n in rng.integers(1, 30, size=12)]
    models = [rng.dirichlet([2] * 5, len(text)) for text in texts]
    losses = [
        (float(-np.log(model[np.arange(len(text)), text]).sum()), len(text))
        for text, model in zip(texts, models, strict=True)
    ]
    expected = np.exp(log_loss(np.concatenate(texts), np.concatenate(models), labels=range(5)))
    assert named("perplexity").score(losses, ["text"] * 12) == pytest.approx(expected, abs=1e-9)


def test_every_metric_has_an_outside_implementation():
    # the others: scikit-learn's average precision, and hand cases of what people and judges said
    apart = {"average_precision", "mean_average_precision", "exact_match", "judge_accuracy", "judge_score"}
    assert {*OUTSIDE, "perplexity", *apart} == set(METRICS) - ELSEWHERE
