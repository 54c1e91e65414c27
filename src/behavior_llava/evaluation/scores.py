"""The scores of an evaluation without statistics: one row a score, and a table for people.

In: the files of predictions that every arm and seed left, and what is known about the tasks. Out:
`scores.parquet`, `scores.md`, `missing.json` (which samples could not be asked, and why) and `tasks.json`,
with which runs can be compared later. Intervals, differences and p-values are the report's. Called by
stages.py and evaluating.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from behavior_llava.core import parquet
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import write_json
from behavior_llava.evaluation import metrics, text_metrics
from behavior_llava.evaluation.summary import CONTEST, of_metric

TASKS, MISSING = "tasks.json", "missing.json"

SCORES = pa.schema(
    [
        ("benchmark", pa.string()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("setting", pa.string()),
        ("label_fraction", pa.float64()),
        ("shots", pa.int64()),
        ("scoring", pa.string()),
        ("primary", pa.bool_()),
        ("arm", pa.string()),
        ("seed", pa.int64()),
        ("value", pa.float64()),
        ("n", pa.int64()),
        ("coverage", pa.float64()),
        ("unparsed", pa.float64()),
        ("chance", pa.float64()),
        ("majority", pa.float64()),
        ("published", pa.float64()),
        ("judge", pa.string()),
    ]
)
"""One row a score; null where undefined. `coverage` is answered over listed samples, `unparsed` the share of
answers that could not be read (they are wrong), `judge` who judged.
"""


def write(
    predictions: Sequence[Path],
    tasks: Mapping[str, Mapping[str, Any]],
    missing: Mapping[str, Mapping[str, Sequence[str]]],
    folder: Path,
) -> int:
    """Writes all four files to `folder`; returns how many scores there are.

    Args:
        predictions: files of PREDICTIONS, one an arm and seed.
        tasks: as `summarize` takes them.
        missing: task -> reason -> ids of the samples that could not be asked.
    """
    rows = [row for path in predictions for row in _scores(path, tasks)]
    parquet.write_table(folder / "scores.parquet", pa.Table.from_pylist(rows, SCORES))
    (folder / "scores.md").write_text(markdown(rows, tasks), encoding="utf-8")
    write_json(folder / TASKS, tasks)
    write_json(folder / MISSING, {task: of_task for task, of_task in missing.items() if of_task})
    return len(rows)


def _scores(path: Path, tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    columns = ["prediction", "label", "judged"]
    table = pq.read_table(path, columns=[*CONTEST, "arm", "seed", *columns])
    gathered = table.group_by([*CONTEST, "arm", "seed"], use_threads=False).aggregate(
        [(name, "list") for name in columns]
    )
    for batch in gathered.to_batches(max_chunksize=1):
        (row,) = batch.to_pylist()
        if row["task"] not in tasks:
            raise UserError(
                f"nothing is known about task {row['task']!r}", where=path, remedy="evaluate again"
            )
        yield _score(row, of_metric(tasks[row["task"]], row["metric"]))


def _score(row: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    said = [None if one is None else json.loads(one) for one in row["prediction_list"]]
    labels = [json.loads(one) for one in row["label_list"]]
    listed = task.get("listed")
    judged = next((one for one in row["judged_list"] if one is not None), None)
    return {
        **{name: row[name] for name in (*CONTEST, "arm", "seed")},
        "value": metrics.named(row["metric"]).score(said, labels),
        "n": len(labels),
        "coverage": len(labels) / listed if listed else None,
        "unparsed": sum(one is None for one in said) / len(said),
        "chance": task["chance"],
        "majority": task["majority"],
        "published": task["published"] if row["primary"] else None,
        "judge": None if judged is None else json.loads(judged)["judge"],
    }


def notes(rows: Sequence[Mapping[str, Any]], tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What belongs beside the scores: who judged, which implementation a metric is, what was not asked."""
    judges = sorted({row["judge"] for row in rows if row["judge"]})
    used = {row["metric"] for row in rows}
    named = [told for metric, told in text_metrics.IMPLEMENTATIONS.items() if metric in used]
    absent = []
    for task, facts in tasks.items():
        if found := facts.get("missing"):
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(found.items()))
            asked = f"{sum(found.values()):,} of {facts['listed']:,} samples were not asked ({reasons})"
            absent.append(f"{task}: {asked}; evaluate/scores/{MISSING} names them.")
    return [*(f"Answers in words were judged by {name}." for name in judges), *named, *absent]


def markdown(rows: Sequence[Mapping[str, Any]], tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """The primary scores as a Markdown table a setting: a line a task, a column an arm and seed."""
    parts = [
        "# Scores",
        "",
        "Primary metrics; all others are in scores.parquet. Intervals are in the report.",
    ]
    shown = [row for row in rows if row["primary"]]
    for setting in dict.fromkeys(_setting(row) for row in shown):
        own = [row for row in shown if _setting(row) == setting]
        runs = list(dict.fromkeys((row["arm"], row["seed"]) for row in own))
        heads = ["task", "metric", "n", "coverage", "unparsed", "chance", "majority", "published"]
        heads += [f"{arm}, seed {seed}" for arm, seed in runs]
        parts += ["", f"## {setting}", "", _line(heads), _line(["---"] * len(heads))]
        for task in dict.fromkeys(row["task"] for row in own):
            of_run = {(row["arm"], row["seed"]): row for row in own if row["task"] == task}
            first = next(iter(of_run.values()))
            most = max(row["unparsed"] for row in of_run.values())
            cells = [task, first["metric"], str(first["n"]), _number(first["coverage"]), _number(most)]
            cells += [_number(first[name]) for name in ("chance", "majority", "published")]
            cells += [_number(of_run[run]["value"]) if run in of_run else "" for run in runs]
            parts.append(_line(cells))
    told_beside = notes(rows, tasks)
    parts += ["", *(f"- {one}" for one in told_beside)] if told_beside else []
    return "\n".join(parts) + "\n"


def _setting(row: Mapping[str, Any]) -> str:
    more = "" if row["label_fraction"] is None else f", {row['label_fraction']:.0%} of the labels"
    return row["setting"] + more + (f", {row['shots']} shown first" if row["shots"] else "")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.4g}"
