"""The headline: ten groups of tasks, and what every arm gains over the base in each.

In: `summary.json` and what is known about the tasks. Out: gains by group and by task, with the paper's beside
them where it measured the same. The gain of an arm on a task is (arm - base) / |base|, of errors
(base - arm) / |base|, both as pooled over seeds; a group's is the mean over its tasks. A base near zero makes
any ratio; such tasks are named and stay out of the mean, as do those that not every arm was asked: all arms'
means are over the same tasks. Pure, but for paper.yaml beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from behavior_llava.evaluation.metrics import named
from behavior_llava.evaluation.summary import BASE, parted
from behavior_llava.reporting.tables import variant_name

NEAR_ZERO = 0.05
"""On scales that end at 1, a base below this is near zero: one point more or less would be 20 %."""


@dataclass(frozen=True, slots=True)
class Group:
    """One of the paper's ten groups of tasks.

    Attributes:
        tasks: task -> the paper's gain in percent; gain: of the whole group.
        setting, shots: how the paper asked.
        errata: what does not follow from the paper's own cells; None where all does.
    """

    name: str
    gain: float
    setting: str
    tasks: Mapping[str, float]
    shots: int = 0
    errata: str | None = None


@dataclass(frozen=True, slots=True)
class TaskGain:
    """One arm on one task.

    Attributes:
        base, value: scores, pooled over seeds; None where undefined.
        gain: relative, 0.1 is 10 %; None where undefined.
        is_near_zero: whether the base's score is so near zero that the gain says nothing.
    """

    task: str
    arm: str
    metric: str
    base: float | None
    value: float | None
    gain: float | None
    is_near_zero: bool


@dataclass(frozen=True, slots=True)
class GroupGain:
    """A group in one way of asking.

    Attributes:
        tasks: those of the group that were asked; listed: how many it has.
        gains: arm -> the mean over all tasks that are not flagged; None where there is none. An arm that was
            asked none of the tasks is not there.
        flagged: tasks that stay out of every arm's mean: for some arm the base is near zero, a score is
            undefined, or it was not asked.
        paper: the paper's percentage; None where the tasks or the way of asking are not the same, which
            `why_not` then says.
    """

    name: str
    tasks: tuple[str, ...]
    listed: int
    gains: Mapping[str, float | None]
    details: tuple[TaskGain, ...]
    flagged: tuple[str, ...]
    paper: float | None
    why_not: str | None
    errata: str | None


@dataclass(frozen=True, slots=True)
class Headline:
    """All groups in one way of asking.

    Attributes:
        arms: those that have a base to be compared with.
        ungrouped: tasks that are in none of the ten groups.
        has_paper: False where data are synthetic, and the paper's numbers mean nothing.
    """

    variant: str
    setting: str
    arms: tuple[str, ...]
    groups: tuple[GroupGain, ...]
    ungrouped: tuple[str, ...]
    has_paper: bool


@cache
def groups() -> tuple[Group, ...]:
    """The paper's ten groups, in its order."""
    text = resources.files("behavior_llava.reporting").joinpath("paper.yaml").read_text(encoding="utf-8")
    return tuple(Group(**fields) for fields in yaml.safe_load(text)["groups"])


def group_of(task: str) -> str | None:
    """The name of a task's group; None where it is in none of the ten."""
    return next((group.name for group in groups() if task in group.tasks), None)


def headlines(summary: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> list[Headline]:
    """One for every way of asking, in the summary's order; none where no arm has a base beside it."""
    rows = [row for row in summary["results"] if row["primary"] and row["seed"] is None]
    is_synthetic = bool(summary.get("synthetic"))
    found = []
    for variant in dict.fromkeys((row["setting"], row["label_fraction"], row["shots"]) for row in rows):
        own = [row for row in rows if (row["setting"], row["label_fraction"], row["shots"]) == variant]
        scores = {(row["task"], row["arm"]): row for row in own}
        arms = [
            arm
            for arm in summary["arms"]
            if not _is_base(arm) and any(_base_of(arm) == other for _, other in scores)
        ]
        asked = list(dict.fromkeys(row["task"] for row in own))
        if not arms:
            continue
        found.append(
            Headline(
                variant=variant_name(*variant),
                setting=variant[0],
                arms=tuple(arms),
                groups=tuple(
                    _group_gain(group, asked, arms, scores, _paper(group, asked, variant, tasks))
                    for group in groups()
                    if any(task in group.tasks for task in asked)
                ),
                ungrouped=tuple(task for task in asked if group_of(task) is None),
                has_paper=not is_synthetic,
            )
        )
    return found


def _is_base(arm: str) -> bool:
    return parted(arm)[1] == BASE


def _base_of(arm: str) -> str:
    """The base of an arm's own run."""
    run, _ = parted(arm)
    return f"{run}/{BASE}" if run else BASE


def _group_gain(
    group: Group,
    asked: Sequence[str],
    arms: Sequence[str],
    scores: Mapping[tuple[str, str], Mapping[str, Any]],
    paper: tuple[float | None, str | None],
) -> GroupGain:
    tasks = tuple(task for task in asked if task in group.tasks)
    details = tuple(
        task_gain(scores[task, arm], scores[task, _base_of(arm)])
        for task in tasks
        for arm in arms
        if (task, arm) in scores and (task, _base_of(arm)) in scores
    )
    usable = {
        (one.task, one.arm): one.gain for one in details if one.gain is not None and not one.is_near_zero
    }
    asked_of = [arm for arm in arms if any(one.arm == arm for one in details)]
    flagged = tuple(task for task in tasks if any((task, arm) not in usable for arm in asked_of))
    gains: dict[str, float | None] = {}
    for arm in asked_of:
        kept = [usable[task, arm] for task in tasks if task not in flagged]
        gains[arm] = sum(kept) / len(kept) if kept else None
    return GroupGain(
        name=group.name,
        tasks=tasks,
        listed=len(group.tasks),
        gains=gains,
        details=details,
        flagged=flagged,
        paper=paper[0],
        why_not=paper[1],
        errata=group.errata,
    )


def task_gain(row: Mapping[str, Any], base: Mapping[str, Any]) -> TaskGain:
    """One arm's gain over the base, from their pooled result rows."""
    metric = named(row["metric"])
    value, at_base = row["value"], base["value"]
    gain = None
    if value is not None and at_base:
        gain = (value - at_base) / abs(at_base) * (1 if metric.higher_is_better else -1)
    return TaskGain(
        task=row["task"],
        arm=row["arm"],
        metric=row["metric"],
        base=at_base,
        value=value,
        gain=gain,
        is_near_zero=_is_near_zero(base, is_on_points=metric.point is not None),
    )


def _is_near_zero(base: Mapping[str, Any], *, is_on_points: bool) -> bool:
    """Whether the base's interval holds zero, or its score is small on a scale that ends at 1."""
    if base["value"] is None:
        return False
    holds_zero = base["low"] is None or base["low"] <= 0 <= base["high"]
    return holds_zero or (is_on_points and abs(base["value"]) < NEAR_ZERO)


def _paper(
    group: Group,
    asked: Sequence[str],
    variant: tuple[str, float | None, int],
    tasks: Mapping[str, Mapping[str, Any]],
) -> tuple[float | None, str | None]:
    """The paper's percentage, or why it does not belong here."""
    setting, label_fraction, shots = variant
    if (setting, label_fraction, shots or 0) != (group.setting, None, group.shots):
        return None, f"the paper asked {variant_name(group.setting, None, group.shots)}"
    if missing := [task for task in group.tasks if task not in asked]:
        return None, f"not asked here: {', '.join(missing)}"
    if other := [task for task in group.tasks if not is_same_task(task, tasks)]:
        return None, f"not the same task: {', '.join(other)}"
    return group.gain, None


def is_same_task(task: str, tasks: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the paper measured the same: real data, its protocol, a number it printed."""
    return tasks.get(task, {}).get("published") is not None


def paper_task_gain(task: str, headline: Headline, tasks: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The paper's percentage for one task; None where it did not measure the same in the same way."""
    for group in groups():
        asked = variant_name(group.setting, None, group.shots)
        if task in group.tasks and asked == headline.variant and is_same_task(task, tasks):
            return group.tasks[task]
    return None
