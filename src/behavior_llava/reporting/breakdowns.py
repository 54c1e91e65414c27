"""Scores seen from other sides: by modality, by what was left out of training, by how many labels there were.

In: `summary.json`. Out: values, not yet words: `page.py` shows them and `exports.py` writes them to files.
Pure. Undefined is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from behavior_llava.evaluation.metrics import named
from behavior_llava.evaluation.summary import CONTENT_ONLY, REFERENCES, parted
from behavior_llava.reporting.charts import Measured
from behavior_llava.reporting.tables import interval_sign, variant_name

_POINTS = 100
_FEWEST = 2


@dataclass(frozen=True, slots=True)
class Modality:
    """All tasks of a modality in one way of asking.

    Attributes:
        tasks: those averaged; left_out: those on no common scale, or that some arm lacks or has undefined.
        means: arm -> mean of its scores on the scale that ends at 1; None where no task is averaged.
    """

    variant: str
    modality: str
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    means: Mapping[str, float | None]


def by_modality(summary: Mapping[str, Any]) -> list[Modality]:
    """One for every way of asking and modality, in the summary's order."""
    rows = [row for row in summary["results"] if row["primary"] and row["seed"] is None]
    found = []
    for key in dict.fromkeys((_variant(row), row["modality"]) for row in rows):
        own = [row for row in rows if (_variant(row), row["modality"]) == key]
        arms = [arm for arm in summary["arms"] if any(row["arm"] == arm for row in own)]
        values = {(row["task"], row["arm"]): row["value"] for row in own if _is_on_points(row)}
        tasks = dict.fromkeys(row["task"] for row in own)
        whole = tuple(task for task in tasks if all(values.get((task, arm)) is not None for arm in arms))
        means = {
            arm: sum(values[task, arm] for task in whole) / len(whole) if whole else None for arm in arms
        }
        left_out = tuple(task for task in tasks if task not in whole)
        found.append(Modality(key[0], key[1], whole, left_out, means))
    return found


@dataclass(frozen=True, slots=True)
class Gain:
    """What an arm gains over content_only on a task, pooled over seeds.

    Attributes:
        value, low, high: in points where the metric has them, else in its own unit; None where undefined.
        sign: 1 where the interval lies on the better side of 0, -1 on the worse, 0 for neither.
        strength: the gain as a share of the largest on the task, better above 0; None where undefined.
    """

    arm: str
    task: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    sign: int
    strength: float | None


@dataclass(frozen=True, slots=True)
class Ablation:
    """Arms that learned from some of the behavior, beside each other.

    Attributes:
        gains: (arm, task) -> its gain over the content_only of the same run.
    """

    variant: str
    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    gains: Mapping[tuple[str, str], Gain]


def ablations(summary: Mapping[str, Any]) -> list[Ablation]:
    """One for every way of asking in which two such arms or more met content_only."""
    rows = [
        row
        for row in summary["differences"]
        if row["primary"]
        and row["seed"] is None
        and parted(row["arm"])[1] not in REFERENCES
        and parted(row["against"]) == (parted(row["arm"])[0], CONTENT_ONLY)
    ]
    found = []
    for variant in dict.fromkeys(map(_variant, rows)):
        own = [row for row in rows if _variant(row) == variant]
        arms = tuple(arm for arm in summary["arms"] if any(row["arm"] == arm for row in own))
        if len(arms) < _FEWEST:
            continue
        tasks = tuple(dict.fromkeys(row["task"] for row in own))
        largest = {
            task: max((abs(row["value"]) for row in own if row["task"] == task and row["value"]), default=0.0)
            for task in tasks
        }
        gains = {(row["arm"], row["task"]): _gain(row, largest[row["task"]]) for row in own}
        found.append(Ablation(variant, arms, tasks, gains))
    return found


def _gain(row: Mapping[str, Any], largest: float) -> Gain:
    scale = _POINTS if _is_on_points(row) else 1
    value, low, high = (None if row[key] is None else scale * row[key] for key in ("value", "low", "high"))
    strength = None
    if row["value"] is not None:
        better = row["value"] if row["higher_is_better"] else -row["value"]
        strength = better / largest if largest else 0.0
    return Gain(row["arm"], row["task"], row["metric"], value, low, high, interval_sign(row), strength)


@dataclass(frozen=True, slots=True)
class Learning:
    """A task's score over the share of its labels that was learned from, by arm."""

    task: str
    metric: str
    setting: str
    chance: float | None
    curves: Mapping[str, Sequence[Measured]]


def learning(summary: Mapping[str, Any]) -> list[Learning]:
    """One for every task and setting with two shares or more."""
    rows = [
        row
        for row in summary["results"]
        if row["primary"] and row["seed"] is None and row["label_fraction"] is not None
    ]
    found = []
    for key in dict.fromkeys((row["task"], row["metric"], row["setting"]) for row in rows):
        own = [row for row in rows if (row["task"], row["metric"], row["setting"]) == key]
        if len({row["label_fraction"] for row in own}) < _FEWEST:
            continue
        curves = {
            arm: [
                Measured(row["label_fraction"], row["value"], row["low"], row["high"])
                for row in sorted(own, key=lambda row: row["label_fraction"])
                if row["arm"] == arm
            ]
            for arm in summary["arms"]
            if any(row["arm"] == arm for row in own)
        }
        found.append(Learning(*key, own[0]["chance"], curves))
    return found


def _variant(row: Mapping[str, Any]) -> str:
    return variant_name(row["setting"], row["label_fraction"], row["shots"])


def _is_on_points(row: Mapping[str, Any]) -> bool:
    return named(row["metric"]).point is not None
