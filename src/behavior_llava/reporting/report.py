"""Finished stages to the report: summary.json and one page.

Called by stages.py's report stage with everything it shows; reads nothing but predictions and the media of
sample rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from behavior_llava.core.config import Config
from behavior_llava.core.media import FrameStore
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Media
from behavior_llava.evaluation import metrics, summary
from behavior_llava.reporting.page import BehaviorScore, PageContent, SampleAnswer, SampleRow, write_page


class ReportConfig(Config):
    """What the report computes and shows.

    Attributes:
        samples: sample rows a task.
    """

    statistics: summary.Config = summary.Config()
    samples: int = 6


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a run's stages left.

    Attributes:
        predictions: files, one an arm and seed.
        tasks: task name -> what `summarize` needs to know; questions: task name -> the words asked, and
            "<task>:<sample id>" -> those of a sample that is asked its own.
        media: (task, sample id) -> the media shown.
        primary: the setting the page opens with, and that of the sample rows.
        contaminated: task name -> samples that stand in training data; contamination: what was compared.
    """

    title: str
    primary: str
    arms: Sequence[str]
    predictions: Sequence[Path]
    tasks: Mapping[str, Mapping[str, Any]]
    questions: Mapping[str, str]
    media: Mapping[tuple[str, str], Media]
    store: FrameStore
    config_text: str
    survivors: Mapping[str, Sequence[Mapping[str, Any]]]
    faults: Mapping[str, int]
    losses: Mapping[tuple[str, int], Sequence[tuple[int, float]]]
    tracked: Mapping[tuple[str, int], Sequence[tuple[int, Mapping[str, float | None]]]]
    agreement: Mapping[str, float | None]
    contaminated: Mapping[str, Collection[str]]
    contamination: Mapping[str, Any]
    costs: Mapping[str, float]
    synthetic: bool
    notes: Sequence[str]


def write(material: Material, config: ReportConfig, folder: Path) -> dict[str, Any]:
    """Writes summary.json and index.html to `folder`; returns the numbers of rows for the manifest."""
    table = pa.concat_tables([pq.read_table(path) for path in material.predictions])
    with progress("statistics", None) as advance:
        result = summary.summarize(
            table,
            material.tasks,
            material.arms,
            config.statistics,
            synthetic=material.synthetic,
            contaminated=material.contaminated,
        )
        advance()
    (folder / "summary.json").write_text(summary.to_json(result), encoding="utf-8")
    content = PageContent(
        title=material.title,
        summary=result,
        tasks=material.tasks,
        config_text=material.config_text,
        survivors=material.survivors,
        faults=material.faults,
        losses=material.losses,
        tracked=material.tracked,
        behavior_scores=_behavior_scores(result),
        samples=_samples(material, table, config.samples),
        agreement=material.agreement,
        contamination=material.contamination,
        costs=material.costs,
        synthetic=material.synthetic,
        notes=material.notes,
        opens_with=material.primary,
    )
    write_page(folder, content)
    return {"results": len(result["results"]), "differences": len(result["differences"])}


_METRICS = {"r2": "R²", "spearman": "rank correlation"}


def _behavior_metric(row: Mapping[str, Any]) -> str:
    if row["metric"] == "perplexity":
        return "perplexity of the behavior's words"
    part = row["task"].removeprefix("heldout_").replace("_", " ")
    return f"{_METRICS.get(row['metric'], row['metric'].replace('_', ' '))} of {part}"


def _behavior_scores(result: Mapping[str, Any]) -> list[BehaviorScore]:
    """How well every arm predicts what the receivers of held-out posts did, pooled over seeds."""
    return [
        BehaviorScore(
            arm=row["arm"],
            metric=_behavior_metric(row),
            value=row["value"],
            baseline=row["chance"],
            n=row["n"],
        )
        for row in result["results"]
        if row["benchmark"] == "heldout_posts" and row["seed"] is None
    ]


def _samples(material: Material, table: pa.Table, most: int) -> list[SampleRow]:
    """The first samples of every task in its primary setting, with every arm's answer, of the first seed."""
    seed = min(table["seed"].to_pylist())
    rows = table.filter((pc.field("seed") == seed) & (pc.field("setting") == material.primary)).to_pylist()
    by_task: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        if row["primary"]:
            by_task.setdefault(row["task"], {}).setdefault(row["sample_id"], []).append(row)
    found = []
    for task, samples in sorted(by_task.items()):
        for sample_id in sorted(samples)[:: max(1, len(samples) // max(most, 1))][:most]:
            found.append(_sample(material, task, sample_id, samples[sample_id]))
    return found


def _sample(material: Material, task: str, sample_id: str, rows: Sequence[Mapping[str, Any]]) -> SampleRow:
    media = material.media.get((task, sample_id))
    has_hits = metrics.named(material.tasks[task]["metric"]).name == "accuracy"
    answers = []
    for row in sorted(rows, key=lambda row: material.arms.index(row["arm"])):
        parsed = row["prediction"] is not None
        is_right = None
        if has_hits and parsed:
            right = metrics.named("accuracy").score(
                [json.loads(row["prediction"])], [json.loads(row["label"])]
            )
            is_right = right == 1
        text = row["answer"] if row["context"] is None else f"{row['context']}\n→ {row['answer']}"
        answers.append(SampleAnswer(arm=row["arm"], text=text, is_right=is_right, is_parsed=parsed))
    pictures: list[Path] = []
    if media is not None:
        pictures = [Path(media.path)] if media.kind == "image" else material.store.frame_files(media)[:4]
    return SampleRow(
        task=task,
        sample_id=sample_id,
        question=material.questions.get(f"{task}:{sample_id}", material.questions[task]),
        label=str(json.loads(rows[0]["label"])),
        answers=answers,
        pictures=pictures,
        media_kind=None if media is None else media.kind,
    )
