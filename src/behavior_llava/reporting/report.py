"""Finished stages to the report: summary.json, the page, the sample browser, and files of charts and tables.

Called by stages.py's report stage with everything it shows, and in part by comparing.py; reads nothing but
predictions, model cards and media.

    index.html      the page, whole in itself          samples.html, samples/  every answer, to be browsed
    summary.json    its numbers                        charts/, tables/, cards/
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from behavior_llava.core.config import Config
from behavior_llava.core.media import FrameStore
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Media
from behavior_llava.evaluation import summary
from behavior_llava.reporting import exports, samples
from behavior_llava.reporting.content import BehaviorScore, PageContent, SampleAnswer, SampleRow
from behavior_llava.reporting.figures import figures
from behavior_llava.reporting.lineage import Step
from behavior_llava.reporting.page import write_page
from behavior_llava.reporting.sheets import sheets
from behavior_llava.training import model_card

SUMMARY, CARDS = "summary.json", "cards"
DATA_CARD = "data.md"
FORMAT = 3
"""Of the files of a report; a report of another is written again."""

_FRAMES = 4


class ReportConfig(Config):
    """What the report computes and shows.

    Attributes:
        samples: sample rows a task on the page itself.
        browse: samples in the sample browser at most; of more, evenly many are left out, and it says so. A
            million makes a gigabyte.
    """

    statistics: summary.Config = summary.Config()
    samples: int = Field(default=1, ge=0)
    browse: int = Field(default=100_000, ge=0)


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
        lineage: the run's finished stages, as the data went.
        cards: arm -> the model card of its first seed, for arms that have one.
        data_card: that of the data set the arms learned from; None where there is none.
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
    lineage: Sequence[Step] = ()
    cards: Mapping[str, Path] = field(default_factory=dict)
    data_card: Path | None = None


def write(material: Material, config: ReportConfig, folder: Path) -> dict[str, Any]:
    """Writes the whole report to `folder`; returns the numbers of rows for the manifest."""
    table = predictions(material.predictions)
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
    (folder / SUMMARY).write_text(summary.to_json(result), encoding="utf-8")
    browsed = samples.Browsed(
        title=material.title,
        table=table,
        arms=material.arms,
        question=lambda task, sample: _question(material, task, sample),
        look=lambda row: _look(material, row["task"], row["sample_id"]),
        most=config.browse,
        synthetic=material.synthetic,
    )
    with progress("samples", None) as advance:
        num_browsable = samples.write(browsed, folder)
        advance()
    shown = content(material, result, table, config)
    write_files(replace(shown, num_browsable=num_browsable, has_files=True), folder)
    _write_cards(material, result, folder / CARDS)
    return {
        "results": len(result["results"]),
        "differences": len(result["differences"]),
        "samples": num_browsable,
    }


def predictions(files: Sequence[Path]) -> pa.Table:
    """The rows of several files of predictions; a column that an earlier version lacks is null."""
    return pa.concat_tables([pq.read_table(path) for path in files], promote_options="default")


def write_files(shown: PageContent, folder: Path) -> Path:
    """The page, with its charts and tables as files beside it; returns the page's path."""
    exports.write_charts(figures(shown).charts(), folder)
    exports.write_tables(sheets(shown), folder)
    return write_page(folder, shown)


def content(
    material: Material, result: Mapping[str, Any], table: pa.Table, config: ReportConfig
) -> PageContent:
    """What the pages show: the summary with what the run's stages left."""
    return PageContent(
        title=material.title,
        summary=result,
        tasks=material.tasks,
        config_text=material.config_text,
        survivors=material.survivors,
        faults=material.faults,
        losses=material.losses,
        tracked=material.tracked,
        behavior_scores=behavior_scores(result),
        samples=_samples(material, table, config.samples),
        agreement=material.agreement,
        contamination={"": material.contamination},
        costs=material.costs,
        synthetic=material.synthetic,
        notes=material.notes,
        opens_with=material.primary,
        lineage=material.lineage,
    )


def _write_cards(material: Material, result: Mapping[str, Any], folder: Path) -> None:
    """Every arm's model card with its results, and the data's; the models' own folders stay as they are."""
    if material.cards or material.data_card:
        folder.mkdir(exist_ok=True)
    if material.data_card:
        shutil.copyfile(material.data_card, folder / DATA_CARD)
    for arm, path in material.cards.items():
        rows = [row for row in result["results"] if row["arm"] == arm and row["seed"] is None]
        told = model_card.with_results(
            path.read_text(encoding="utf-8"),
            f"{material.title}: {arm}",
            [row for row in rows if row["primary"]],
            is_synthetic=material.synthetic,
        )
        (folder / f"{arm}.md").write_text(told, encoding="utf-8")


def _question(material: Material, task: str, sample_id: str) -> str:
    return material.questions.get(f"{task}:{sample_id}", material.questions[task])


def _look(material: Material, task: str, sample_id: str) -> samples.Look | None:
    media = material.media.get((task, sample_id))
    if media is None:
        return None
    return samples.Look(
        key=json.dumps(media.seen), kind=media.kind, pictures=lambda: _pictures(material.store, media)
    )


def _pictures(store: FrameStore, media: Media) -> list[Path]:
    """The image, or up to four frames of the film, spread over it."""
    if media.kind == "image":
        return [Path(media.path)]
    return spread(store.frame_files(media))


def spread(frames: Sequence[Path]) -> list[Path]:
    """Up to four of a film's frames, over all of it."""
    return list(frames[:: max(1, -(-len(frames) // _FRAMES))])


_METRICS = {"r2": "R²", "spearman": "rank correlation"}


def _behavior_metric(row: Mapping[str, Any]) -> str:
    if row["metric"] == "perplexity":
        return "perplexity of the behavior's words"
    part = row["task"].removeprefix("heldout_").replace("_", " ")
    return f"{_METRICS.get(row['metric'], row['metric'].replace('_', ' '))} of {part}"


def behavior_scores(result: Mapping[str, Any]) -> list[BehaviorScore]:
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
    # of every task the first `most`, spread over its samples
    by_task: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        if row["primary"]:
            by_task.setdefault(row["task"], {}).setdefault(row["sample_id"], []).append(row)
    found = []
    for task, of_task in sorted(by_task.items()):
        for sample_id in sorted(of_task)[:: max(1, len(of_task) // max(most, 1))][:most]:
            found.append(_sample(material, task, sample_id, of_task[sample_id]))
    return found


def _sample(material: Material, task: str, sample_id: str, rows: Sequence[Mapping[str, Any]]) -> SampleRow:
    media = material.media.get((task, sample_id))
    answers = []
    for row in sorted(rows, key=lambda row: material.arms.index(row["arm"])):
        letter = samples.verdict(row)
        text = row["answer"] if row["context"] is None else f"{row['context']}\n→ {row['answer']}"
        is_right = {samples.RIGHT: True, samples.WRONG: False}.get(letter)
        answers.append(
            SampleAnswer(arm=row["arm"], text=text, is_right=is_right, is_parsed=letter != samples.UNPARSED)
        )
    pictures = [] if media is None else _pictures(material.store, media)
    return SampleRow(
        task=task,
        sample_id=sample_id,
        question=_question(material, task, sample_id),
        label=samples.label_words(rows[0]["label"]),
        answers=answers,
        pictures=pictures,
        media_kind=None if media is None else media.kind,
    )
