"""From predictions to the numbers a claim may rest on: the `summary.json` contract.

In: the rows of all arms' and seeds' `predictions.parquet` and what is known about the tasks. Out: a dict of
    plain values (results, paired differences, the same for sub-groups) and its bytes. Pure: no files, no
    clock, no global state; identical predictions give identical bytes in whatever order the rows come.
    `report` calls it and writes the file; `page.py` shows it.

Undefined is null, never 0. An unparsed answer stays in n and scores as `metrics.py` says.

Shapes: R runs (one arm and seed each), D bootstrap draws.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from behavior_llava.core.errors import UserError
from behavior_llava.evaluation import metrics, statistics
from behavior_llava.evaluation.metrics import Array, Metric

SCHEMA = 1
DIGITS = 6

PREDICTIONS = pa.schema(
    [
        ("benchmark", pa.string()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("setting", pa.string()),
        ("arm", pa.string()),
        ("seed", pa.int64()),
        ("label_fraction", pa.float64()),
        ("shots", pa.int64()),
        ("scoring", pa.string()),
        ("primary", pa.bool_()),
        ("sample_id", pa.string()),
        ("cluster", pa.string()),
        ("prediction", pa.string()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("answer", pa.string()),
        ("context", pa.string()),
        ("judged", pa.string()),
        ("media_path", pa.string()),
        ("likely", pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float32())]))),
    ]
)
"""One row an answer, and one more for every other metric. `prediction` (null = unparsed) and `label` are
JSON; `cluster` is the media id; `judged` is what a judge was asked and replied, as JSON, null where nobody
judged; `likely` is what a primary answer was chosen from (`deciding.likely`), null where it was written in
words.
"""

CONTEST = ("benchmark", "task", "metric", "setting", "label_fraction", "shots", "scoring", "primary")
"""What two runs must share to be compared."""

BEHAVIOR, SHUFFLED, CONTENT_ONLY, BASE = "behavior", "shuffled", "content_only", "base"
CONTROLS = (CONTENT_ONLY, SHUFFLED)
REFERENCES = (BASE, CONTENT_ONLY, "content_matched", SHUFFLED, "ceiling")
"""Arms that say what a gain is measured against. All others learned from behavior, or from some of it."""

_READ = (*CONTEST, "arm", "seed", "sample_id", "cluster", "prediction", "label", "group")


class Config(BaseModel):
    """How often to resample; the defaults are the ones claims are made with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: int = Field(default=statistics.DRAWS, ge=100)
    # A million at most: the smallest p is 1 / (1 + flips), and DIGITS would round a smaller one to 0.
    flips: int = Field(default=statistics.FLIPS, ge=100, le=1_000_000)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Answers:
    """One arm's and seed's answers to one contest, sorted by sample id."""

    samples: tuple[str, ...]
    clusters: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str | None, ...]
    predictions: tuple[Any, ...]

    def of_group(self, group: str) -> _Answers:
        return self._chosen([item for item, name in enumerate(self.groups) if name == group])

    def without(self, samples: Collection[str]) -> _Answers:
        return self._chosen([item for item, name in enumerate(self.samples) if name not in samples])

    def _chosen(self, chosen: Sequence[int]) -> _Answers:
        return _Answers(
            samples=tuple(self.samples[item] for item in chosen),
            clusters=tuple(self.clusters[item] for item in chosen),
            labels=tuple(self.labels[item] for item in chosen),
            groups=tuple(self.groups[item] for item in chosen),
            predictions=tuple(self.predictions[item] for item in chosen),
        )


Runs = dict[str, dict[int, _Answers]]


@dataclass(frozen=True, slots=True)
class _Scored:
    """One contest resampled: what its result and difference rows are made of."""

    key: tuple[Any, ...]
    task: Mapping[str, Any]
    metric: Metric
    runs: Runs
    columns: Mapping[tuple[str, int], Array]
    values: Mapping[tuple[str, int], float]
    draws: Mapping[tuple[str, int], Array]
    clusters: tuple[str, ...]


def summarize(
    predictions: pa.Table | Iterable[Mapping[str, Any]],
    tasks: Mapping[str, Mapping[str, Any]],
    arms: Sequence[str],
    config: Config | None = None,
    *,
    synthetic: bool = False,
    contaminated: Mapping[str, Collection[str]] | None = None,
    duels: Sequence[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """The `summary.json` contract as a dict.

    Args:
        predictions: rows of PREDICTIONS over all arms and seeds; columns beyond those are ignored.
        tasks: task name -> benchmark, metric, modality, chance, majority (null where undefined), low_level,
            published, listed (samples in the split; null where unknown); `baselines`: metric -> chance and
            majority, for metrics beside the task's own.
        arms: in the order to show them; an arm without rows is listed and has no rows.
        config: None for the defaults.
        synthetic: True when any medium or receiver was simulated.
        contaminated: task name -> ids of samples that stand in training data: the task is scored once more
            without them, and `hits` says how many it were. None where nobody looked.
        duels: (arm, against) of the differences; None for those of `default_duels`.

    Raises:
        UserError: a column is missing, an arm or a task is unknown, a sample is answered twice or has no
            label, or two arms did not answer the same samples.
    """
    config = config or Config()
    duels = default_duels(arms) if duels is None else duels
    contests = _contests(_table(predictions), tasks, arms)
    results, differences = [], []
    group_results, group_differences = [], []
    clean_results, clean_differences = [], []
    for key in sorted(contests, key=_sort_key):
        runs = contests[key]
        task = of_metric(tasks[key[1]], key[2])
        scored = _score(key, task, runs, config)
        results += _results(scored, arms, coverage=True)
        differences += _differences(scored, duels, config)
        for group in sorted(
            {name for by in runs.values() for run in by.values() for name in run.groups if name}
        ):
            subset = {
                arm: {seed: run.of_group(group) for seed, run in by.items()} for arm, by in runs.items()
            }
            part = _score(key, _group_task(task, subset), subset, config)
            group_results += [{"group": group, **row} for row in _results(part, arms, coverage=False)]
            group_differences += [{"group": group, **row} for row in _differences(part, duels, config)]
        clean = _without(scored, (contaminated or {}).get(key[1], ()), arms, duels, config)
        clean_results += clean[0]
        clean_differences += clean[1]
    _adjust(differences)
    return _rounded(
        {
            "schema": SCHEMA,
            "synthetic": synthetic,
            "arms": list(arms),
            "results": results,
            "differences": differences,
            "groups": group_results,
            "group_differences": group_differences,
            "without_contamination": clean_results,
            "without_contamination_differences": clean_differences,
        }
    )


def to_json(summary: Mapping[str, Any]) -> str:
    """The text of `summary.json`.

    Raises:
        ValueError: a value is NaN or infinite, which would be a fault of `summarize`.
    """
    return json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


# ---- reading -----------------------------------------------------------------------------------------------


def _table(predictions: pa.Table | Iterable[Mapping[str, Any]]) -> pa.Table:
    table: Any = predictions
    if not isinstance(predictions, pa.Table):
        table = pa.Table.from_pylist([dict(row) for row in predictions], schema=PREDICTIONS)
    missing = [name for name in _READ if name not in table.schema.names]
    if missing:
        raise UserError(
            f"predictions lack the columns {', '.join(missing)}", remedy="evaluate again with this version"
        )
    return table.select(list(_READ))


def _contests(
    table: pa.Table, tasks: Mapping[str, Mapping[str, Any]], arms: Sequence[str]
) -> dict[tuple[Any, ...], Runs]:
    """Contest -> arm -> seed -> answers; all runs of one contest hold the same samples, labels, clusters."""
    contests: dict[tuple[Any, ...], Runs] = defaultdict(lambda: defaultdict(dict))
    lists = ("sample_id", "cluster", "label", "group", "prediction")
    # Without threads, so that the lists of one run stay row by row in step.
    gathered = table.group_by([*CONTEST, "arm", "seed"], use_threads=False).aggregate(
        [(n, "list") for n in lists]
    )
    for row in gathered.to_pylist():
        key, arm, seed = tuple(row[name] for name in CONTEST), row["arm"], row["seed"]
        where = f"task {row['task']}, arm {arm}, seed {seed}"
        if arm not in arms:
            raise UserError(f"predictions of an arm that is not among {', '.join(arms)}", where=where)
        if row["task"] not in tasks:
            raise UserError("predictions of a task nothing is known about", where=where)
        contests[key][arm][seed] = _answers([row[f"{name}_list"] for name in lists], where)
    for key, runs in contests.items():
        _check_same_items(key, runs)
    return contests


def _answers(columns: Sequence[Sequence[Any]], where: str) -> _Answers:
    samples, clusters, labels, groups, predictions = columns
    if len(set(samples)) != len(samples):
        raise UserError(f"{len(samples) - len(set(samples))} samples are answered twice", where=where)
    if any(label is None or label == "null" for label in labels):
        raise UserError(
            "samples without a label cannot be scored", where=where, remedy="choose a labeled split"
        )
    order = sorted(range(len(samples)), key=samples.__getitem__)
    return _Answers(
        samples=tuple(samples[item] for item in order),
        clusters=tuple(clusters[item] for item in order),
        labels=tuple(labels[item] for item in order),
        groups=tuple(groups[item] for item in order),
        predictions=tuple(_decoded(predictions[item], where) for item in order),
    )


def _decoded(text: str | None, where: str) -> Any:
    """The prediction; None for unparsed, which a number that is not finite is too."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"the prediction {text[:60]!r} is not JSON", where=where) from error
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check_same_items(key: tuple[Any, ...], runs: Runs) -> None:
    (first_name, first), *others = [
        (f"{arm} seed {seed}", run) for arm, by in runs.items() for seed, run in by.items()
    ]
    for name, run in others:
        if run.samples != first.samples:
            differing = len(set(run.samples) ^ set(first.samples))
            raise UserError(
                f"{first_name} and {name} did not answer the same samples ({differing} differ)",
                where=f"task {key[1]}",
                remedy="finish every arm's evaluation; an unparsed answer is a row with a null prediction",
            )
        if (run.labels, run.clusters, run.groups) != (first.labels, first.clusters, first.groups):
            raise UserError(
                f"{first_name} and {name} have other labels, clusters or groups for the same samples",
                where=f"task {key[1]}",
                remedy="evaluate every arm on the same version of the benchmark",
            )


def of_metric(task: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    """The task as another metric than its own sees it."""
    if metric == task["metric"]:
        return task
    baselines = task.get("baselines", {}).get(metric, {"chance": None, "majority": None})
    return {**task, "metric": metric, **baselines}


# ---- scoring -----------------------------------------------------------------------------------------------


def _score(key: tuple[Any, ...], task: Mapping[str, Any], runs: Runs, config: Config) -> _Scored:
    metric = metrics.named(task["metric"])
    names = [(arm, seed) for arm in sorted(runs) for seed in sorted(runs[arm])]
    answers = [runs[arm][seed] for arm, seed in names]
    labels = [json.loads(label) for label in answers[0].labels]
    columns = [metric.columns(run.predictions, labels) for run in answers]
    ones = np.ones((len(labels), 1))
    drawn = statistics.bootstrap(metric, columns, answers[0].clusters, draws=config.draws, seed=config.seed)
    return _Scored(
        key=key,
        task=task,
        metric=metric,
        runs=runs,
        columns=dict(zip(names, columns, strict=True)),
        values={
            name: float(metric.weighted(column, ones)[0]) for name, column in zip(names, columns, strict=True)
        },
        draws=dict(zip(names, drawn, strict=True)),
        clusters=answers[0].clusters,
    )


def _without(
    scored: _Scored,
    hits: Collection[str],
    arms: Sequence[str],
    duels: Sequence[tuple[str, str]],
    config: Config,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The results and differences without samples that stand in training data; none where there is no such
    sample. Where no other is left, results are null and there are no differences.
    """
    answered = next(run.samples for by in scored.runs.values() for run in by.values())
    found = set(answered) & set(hits)
    if not found:
        return [], []
    if len(found) == len(answered):
        unknown = dict.fromkeys(("value", "low", "high", "coverage", "unparsed", "majority"))
        nothing = {**unknown, "n": 0, "n_clusters": 0, "hits": len(found)}
        return [{**row, **nothing} for row in _results(scored, arms, coverage=False)], []
    subset = {arm: {seed: run.without(found) for seed, run in by.items()} for arm, by in scored.runs.items()}
    part = _score(scored.key, _group_task(scored.task, subset), subset, config)
    return (
        [{**row, "hits": len(found)} for row in _results(part, arms, coverage=False)],
        [{**row, "hits": len(found)} for row in _differences(part, duels, config)],
    )


def _group_task(task: Mapping[str, Any], runs: Runs) -> dict[str, Any]:
    """The task as its sub-group sees it: the best constant answer is the sub-group's own."""
    labels = next(run.labels for by in runs.values() for run in by.values())
    return {**task, "majority": metrics.majority(task["metric"], [json.loads(label) for label in labels])}


def _shared(scored: _Scored) -> dict[str, Any]:
    benchmark, task, _, setting, label_fraction, shots, scoring, primary = scored.key
    return {
        "benchmark": benchmark,
        "task": task,
        "setting": setting,
        "metric": scored.metric.name,
        "label_fraction": label_fraction,
        "shots": shots,
        "scoring": scoring,
        "primary": primary,
    }


def _results(scored: _Scored, arms: Sequence[str], *, coverage: bool) -> list[dict[str, Any]]:
    """Every arm's rows: pooled over its seeds (seed null), then seed by seed."""
    rows = []
    task, n = scored.task, len(scored.clusters)
    listed = task.get("listed") if coverage else None
    for arm in (name for name in arms if name in scored.runs):
        seeds = sorted(scored.runs[arm])
        for seed, pool in [(None, seeds), *((one, [one]) for one in seeds)]:
            value, draws = _pooled(scored, arm, pool)
            low, high = statistics.interval(draws) if np.isfinite(value) else (None, None)
            silent = [answer is None for one in pool for answer in scored.runs[arm][one].predictions]
            rows.append(
                {
                    **_shared(scored),
                    "arm": arm,
                    "seed": seed,
                    "modality": task["modality"],
                    "value": metrics.defined(value),
                    "low": low,
                    "high": high,
                    "n": n,
                    "n_clusters": len(set(scored.clusters)),
                    "coverage": n / listed if listed else None,
                    "unparsed": sum(silent) / len(silent),
                    "chance": task["chance"],
                    "majority": task["majority"],
                }
            )
    return rows


def _pooled(scored: _Scored, arm: str, seeds: Sequence[int]) -> tuple[float, Array]:
    """The mean over seeds of the value and of every draw; for item scores that is the mean of the items."""
    value = float(np.mean([scored.values[arm, seed] for seed in seeds]))
    return value, np.mean([scored.draws[arm, seed] for seed in seeds], axis=0)


def parted(arm: str) -> tuple[str, str]:
    """An arm's run and its name there: where runs are compared it is "<run>/<arm>", else the run is empty."""
    run, _, own = arm.rpartition("/")
    return run, own


def default_duels(arms: Sequence[str]) -> list[tuple[str, str]]:
    """`behavior` against every other arm; `shuffled`, and each arm that learned from some of the behavior,
    against `content_only`; of those that are there.
    """
    found = [(BEHAVIOR, other) for other in arms if other != BEHAVIOR and BEHAVIOR in arms]
    if CONTENT_ONLY in arms:
        found += [
            (arm, CONTENT_ONLY) for arm in arms if arm == SHUFFLED or arm not in (BEHAVIOR, *REFERENCES)
        ]
    return found


def _differences(scored: _Scored, duels: Sequence[tuple[str, str]], config: Config) -> list[dict[str, Any]]:
    """Each duel's rows: arm minus against, as is."""
    duels = [pair for pair in duels if all(name in scored.runs for name in pair)]
    plans = [
        (arm, other, seed, pool)
        for arm, other in duels
        for seed, pool in _seed_pairs(scored.runs, arm, other)
    ]
    pairs = [
        ([scored.columns[arm, a] for a, _ in pool], [scored.columns[other, b] for _, b in pool])
        for arm, other, _, pool in plans
    ]
    p_values = (
        statistics.swap_test(scored.metric, pairs, scored.clusters, flips=config.flips, seed=config.seed)
        if pairs
        else []
    )
    return [_difference(scored, plan, p) for plan, p in zip(plans, p_values, strict=True)]


def _seed_pairs(runs: Runs, arm: str, other: str) -> list[tuple[int | None, list[tuple[int, int]]]]:
    """Which seeds meet: the pooled row's pairs, then each seed's.

    Seeds meet their equals. Only `base`, which this project trained nothing into, may stand as one run
    against every seed; for any other arm a missing seed is missing.
    """
    if parted(other)[1] == BASE and len(runs[other]) == 1:
        (only,) = runs[other]
        pairs = [(seed, only) for seed in sorted(runs[arm])]
    else:
        pairs = [(seed, seed) for seed in sorted(runs[arm]) if seed in runs[other]]
    return [(None, pairs), *((pair[0], [pair]) for pair in pairs)] if pairs else []


def _difference(
    scored: _Scored, plan: tuple[str, str, int | None, list[tuple[int, int]]], p: float | None
) -> dict[str, Any]:
    arm, other, seed, pool = plan
    value = float(np.mean([scored.values[arm, a] - scored.values[other, b] for a, b in pool]))
    draws = np.mean([scored.draws[arm, a] - scored.draws[other, b] for a, b in pool], axis=0)
    is_defined = bool(np.isfinite(value))
    low, high = statistics.interval(draws) if is_defined else (None, None)
    low90, high90 = statistics.interval(draws, 0.90) if is_defined else (None, None)
    n, n_clusters, point = len(scored.clusters), len(set(scored.clusters)), scored.metric.point
    sd = statistics.cluster_sd(draws, n_clusters) if is_defined else None
    same, needed_for_same = None, None
    if scored.task["low_level"]:
        same = statistics.equivalence(low90, high90, n, point)
        needed_for_same = statistics.required_for_equivalence(sd, point, items_per_cluster=n / n_clusters)
    return {
        **_shared(scored),
        "arm": arm,
        "against": other,
        "seed": seed,
        "value": metrics.defined(value),
        "low": low,
        "high": high,
        "p": p,
        "p_holm": None,
        "n": n,
        "n_boot": len(draws),
        "low90": low90,
        "high90": high90,
        "equivalence": same,
        "higher_is_better": scored.metric.higher_is_better,
        "n_clusters": n_clusters,
        "cluster_sd": sd,
        "media_needed": statistics.required_clusters(sd, point, points=statistics.SEEN_POINTS),
        "media_needed_equivalence": needed_for_same,
    }


def is_in_family(row: Mapping[str, Any]) -> bool:
    """Whether a claim rests on a difference: a primary one of `behavior` to a control of its own run."""
    (run, arm), (other, against) = parted(row["arm"]), parted(row["against"])
    return row["primary"] and run == other and arm == BEHAVIOR and against in CONTROLS


def _adjust(differences: list[dict[str, Any]]) -> None:
    """Fills in p_holm: a family is a run, setting and seed (pooled apart), its primary rows, both controls.

    What its size costs is in `media_needed` too.
    """
    families: dict[tuple[str, str, int | None], list[dict[str, Any]]] = defaultdict(list)
    for row in differences:
        if is_in_family(row):
            families[parted(row["arm"])[0], row["setting"], row["seed"]].append(row)
    for family in families.values():
        for row, p in zip(family, statistics.holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = p
            row["media_needed"] = statistics.required_clusters(
                row["cluster_sd"],
                metrics.named(row["metric"]).point,
                points=statistics.SEEN_POINTS,
                family=len(family),
            )


# ---- order and bytes ---------------------------------------------------------------------------------------


def _sort_key(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Null before any value, primary before secondary."""
    benchmark, task, metric, setting, label_fraction, shots, scoring, primary = key
    fraction = -1.0 if label_fraction is None else label_fraction
    shown_first = (setting, benchmark, task, not primary)
    return *shown_first, fraction, -1 if shots is None else shots, metric, scoring


def _rounded(value: Any) -> Any:
    """Floats to 6 digits, so that the last bits of another machine's arithmetic change no byte."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    # Adding 0 turns -0.0 into 0.0.
    return round(value, DIGITS) + 0.0 if isinstance(value, float) else value
