"""The model card: what a trained model's folder says of itself, as README.md.

Its writer knows nothing but the facts that the caller gives; what is unknown is said to be unknown. Called by
stages.py when a model is finished.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CARD = "README.md"
UNKNOWN = "unknown"

_ASKED = ("setting", "label_fraction", "shots")
_ON_A_HUB = re.compile(r"[\w.-]+/[\w.-]+")
"""A hub's header may name only what can be found there: owner/name."""

_SYNTHETIC = (
    "**It has learned from synthetic data.** The sandbox makes its pictures, its viewers and what they do, "
    "and builds in the link between content and behavior. What the model scores shows that the software "
    "works, not that behavior helps in the world."
)
_USE = (
    "Research on what viewers' behavior teaches a vision-language model, next to the arms that were trained "
    "without it. Its answers about behavior are guesses about a crowd, learned from who happened to respond. "
    "They are not facts about a person, and not fit for decisions about one."
)
_LIMITS = (
    "It has the limits of the base model and of the people whose behavior was collected: their language, "
    "place, age and taste. It may repeat what they wrote. Numbers it says, such as likes, come from the "
    "range it was trained on."
)


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set that was learned from.

    Attributes:
        num_rows: distinct rows; None where it was not counted.
        fingerprint: of the rows, as the manifests have it.
        license: None is unknown.
    """

    name: str
    num_rows: int | None
    fingerprint: str | None
    license: str | None = None
    is_synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card tells.

    Attributes:
        base_model: a name on the hub, or what the base is made of; never a path.
        license: of the weights, by its SPDX name; None is unknown.
        behaviors: the kinds that were said in training rows; empty where none was.
        seeds: what is random -> its seed.
        settings: as the config has them.
        weights_hash: of the files that the card lies beside.
        versions: library -> version.
    """

    name: str
    arm: str
    base_model: str
    license: str | None
    data: tuple[DataSet, ...]
    behaviors: tuple[str, ...]
    num_steps: int
    weights_hash: str
    seeds: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def write(folder: Path, facts: Facts) -> Path:
    """Writes the card beside the weights; a reader sees the old card or the whole new one."""
    path = folder / CARD
    part = folder / f"{CARD}.part"
    with part.open("w", encoding="utf-8") as file:
        file.write(text(facts))
        file.flush()
        os.fsync(file.fileno())
    return part.replace(path)


def text(facts: Facts) -> str:
    """The card: a header in YAML, as model hubs read it, then Markdown."""
    header: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "license": facts.license or UNKNOWN,
        "tags": ["behavior-llava", facts.arm],
    }
    if _ON_A_HUB.fullmatch(facts.base_model):
        header["base_model"] = facts.base_model
    if found := [data.name for data in facts.data if _ON_A_HUB.fullmatch(data.name)]:
        header["datasets"] = found
    synthetic = [data.name for data in facts.data if data.is_synthetic]
    said = ", ".join(facts.behaviors) if facts.behaviors else "none"
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---",
        f"# {facts.name}",
        f"Trained from {facts.base_model} in the arm `{facts.arm}` for {facts.num_steps:,} steps.",
        *([f"{_SYNTHETIC} Synthetic here: {', '.join(synthetic)}."] if synthetic else []),
        "## Data",
        _table(
            ("data set", "rows", "fingerprint", "license", "synthetic"),
            [
                (
                    data.name,
                    UNKNOWN if data.num_rows is None else f"{data.num_rows:,}",
                    data.fingerprint or UNKNOWN,
                    data.license or UNKNOWN,
                    "yes" if data.is_synthetic else "no",
                )
                for data in facts.data
            ],
        ),
        f"Behavior said in its rows: {said}.",
        "## Intended use",
        _USE,
        "## Limits",
        _LIMITS,
        "## Training",
        _table(("seed of", "value"), [(name, str(seed)) for name, seed in facts.seeds.items()]),
        f"```yaml\n{yaml.safe_dump(dict(facts.settings), sort_keys=True, allow_unicode=True)}```",
        _table(("library", "version"), sorted(facts.versions.items())),
        f"Weights: `{facts.weights_hash}`",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def with_results(card: str, name: str, rows: Sequence[Mapping[str, Any]], *, is_synthetic: bool) -> str:
    """A card with what its model scores: in its header, as model hubs read it, and as a table at its end.

    Args:
        card: the text as `text` makes it.
        name: of the model.
        rows: result rows of summary.json, pooled over seeds. One without a value is in the table alone.
        is_synthetic: whether the benchmarks were stand-ins, which is then said wherever one is named.
    """
    from huggingface_hub import EvalResult, ModelCard

    beside = " (synthetic stand-in)" if is_synthetic else ""
    read = ModelCard(card, ignore_metadata_errors=False)
    results = [
        EvalResult(
            task_type="image-text-to-text",
            task_name=f"{row['task']}, {row['setting']}",
            dataset_type=row["task"],
            dataset_name=f"{row['benchmark']}{beside}",
            dataset_args={name: row[name] for name in _ASKED if row[name] is not None},
            metric_type=row["metric"],
            metric_name=f"{row['metric']}, mean of the seeds",
            metric_value=row["value"],
            metric_args={"low95": row["low"], "high95": row["high"], "n": row["n"], "chance": row["chance"]},
            source_name="the report of its run",
            source_url="../index.html",
        )
        for row in rows
        if row["value"] is not None
    ]
    if results:
        read.data["model_name"] = name
        read.data["eval_results"] = results
    table = _table(
        ("task", "setting", "metric", "value", "95 % interval", "chance", "n"),
        [
            (
                f"{row['task']}{beside}",
                ", ".join(str(row[key]) for key in _ASKED if row[key]),
                row["metric"],
                _number(row["value"]),
                f"{_number(row['low'])} to {_number(row['high'])}",
                _number(row["chance"]),
                f"{row['n']:,}",
            )
            for row in rows
        ],
    )
    told = f"## Results\n\n{table or 'It was not evaluated.'}\n"
    return f"{read.content.rstrip()}\n\n{told}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Nothing where there are no rows; a bar or a line break in a cell stays in its cell."""
    if not rows:
        return ""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in line)} |"
        for line in lines
    )
