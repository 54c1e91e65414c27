"""What the report shows: values from finished stages, not yet laid out.

`report.py` fills a PageContent; `page.py`, `figures.py`, `sheets.py` and `site.py` show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from behavior_llava.reporting.lineage import Step

Picture = Path | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleAnswer:
    """What one arm said about a sample.

    Attributes:
        text: as generated, before parsing.
        is_right: None where right and wrong do not apply (numbers, open text) or the answer is unparsed.
        is_parsed: False where the task could not read the answer.
    """

    arm: str
    text: str
    is_right: bool | None = None
    is_parsed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """One question with its medium and everybody's answers.

    Attributes:
        pictures: the image, or three to four frames of the video; files or encoded bytes. Empty for text.
        context: the text the question was asked with; None where there was none.
    """

    task: str
    sample_id: str
    question: str
    label: str
    answers: Sequence[SampleAnswer]
    pictures: Sequence[Picture] = ()
    media_kind: Literal["image", "video"] | None = None
    context: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviorScore:
    """How well an arm predicts behavior itself on held-out posts.

    Attributes:
        metric: in words, e.g. "R2 of likes/views".
        baseline: what a constant (or the base model) reaches; None where there is none.
    """

    arm: str
    metric: str
    value: float | None
    baseline: float | None
    n: int
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """Everything the page shows.

    Attributes:
        summary: the `summary.json` dict.
        tasks: what `summarize` was given about the tasks.
        config_text: the resolved run config, YAML.
        survivors: source -> rows {filter, table, rows_in, kept, dropped, pooled}, in filter order.
        faults: reason -> how many records or files could not be read; None where that is not known.
        losses: (arm, seed) -> (step, loss).
        tracked: (arm, seed) -> (step, what was measured then by name; None where undefined).
        agreement: shuffled: what is compared -> share or correlation left; None where undefined.
        contamination: run (empty for the only one) -> the facts of evaluation/contamination.py, empty where
            nobody looked; of answers that were kept without their run, the hits of each of `tasks`.
        costs: stage -> seconds of wall time.
        synthetic: True when any medium or receiver was simulated.
        opens_with: the setting shown before the others; None keeps the summary's order.
        is_comparison: of several runs, whose arms are called "<run>/<arm>": claims are made run by run.
        lineage: the finished stages of the run, or of each, as the data went.
        num_browsable: samples in samples.html beside the page; 0 where there is no such file.
        has_files: whether charts/ and tables/ stand beside the page, to be linked to.
    """

    title: str
    summary: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, Any]]
    config_text: str
    survivors: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    faults: Mapping[str, int] | None = field(default_factory=dict)
    losses: Mapping[tuple[str, int], Sequence[tuple[int, float]]] = field(default_factory=dict)
    tracked: Mapping[tuple[str, int], Sequence[tuple[int, Mapping[str, float | None]]]] = field(
        default_factory=dict
    )
    behavior_scores: Sequence[BehaviorScore] = ()
    samples: Sequence[SampleRow] = ()
    agreement: Mapping[str, float | None] = field(default_factory=dict)
    contamination: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    synthetic: bool = False
    notes: Sequence[str] = ()
    opens_with: str | None = None
    is_comparison: bool = False
    lineage: Sequence[Step] = ()
    num_browsable: int = 0
    has_files: bool = False
