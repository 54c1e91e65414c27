"""Every table of the report as values, to be written to files by `exports.py`.

In: a PageContent. Out: tables with numbers as they are, one row a number where arms are compared, so that a
program can read them without knowing the arms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from behavior_llava.reporting import breakdowns, headline, lineage
from behavior_llava.reporting.content import PageContent
from behavior_llava.reporting.exports import Table, table

RESULTS, DIFFERENCES, HEADLINE, GAINS = "results", "differences", "headline", "gains-by-task"
MODALITY, ABLATIONS, LINEAGE, SURVIVORS = "by-modality", "ablations", "lineage", "survivors"
CONTAMINATION, BEHAVIOR, COST, FAULTS = "contamination", "behavior", "cost", "faults"

_NAMED = ("benchmark", "task", "setting", "metric", "label_fraction", "shots", "scoring", "primary")
_OPTIONAL = ("label_fraction", "shots", "seed")


def sheets(content: PageContent) -> list[Table]:
    """All tables; one without rows is to be left out."""
    summary = content.summary
    return [
        *_headline(content),
        table(
            RESULTS,
            "Scores with 95 % intervals; seed pooled is over all seeds",
            (
                "group",
                *_NAMED,
                "arm",
                "seed",
                "modality",
                "value",
                "low",
                "high",
                "n",
                "n_clusters",
                "coverage",
                "unparsed",
                "chance",
                "majority",
                "published",
            ),
            [
                {
                    **_told(row),
                    "group": headline.group_of(row["task"]) or "none of the ten",
                    "published": content.tasks.get(row["task"], {}).get("published"),
                }
                for row in summary["results"]
            ],
        ),
        table(
            DIFFERENCES,
            "Paired differences, arm minus against, with 95 % intervals",
            (*_NAMED, "arm", "against", "seed", "value", "low", "high", "p", "p_holm", "n", "n_clusters"),
            [_told(row) for row in summary["differences"]],
        ),
        _modality(summary),
        _ablations(summary),
        table(
            LINEAGE,
            "What was made of what",
            ("stage", "made_from", "counts", "fingerprint"),
            lineage.as_rows(content.lineage),
        ),
        table(
            SURVIVORS,
            "What every filter left, in order",
            ("source", "filter", "table", "rows_in", "dropped", "kept", "pooled"),
            [
                {**row, "source": source, "pooled": "none" if row["pooled"] is None else row["pooled"]}
                for source, rows in content.survivors.items()
                for row in rows
            ],
        ),
        table(
            FAULTS,
            "Records and files that could not be read",
            ("reason", "count"),
            [{"reason": reason, "count": count} for reason, count in (content.faults or {}).items()],
        ),
        table(
            CONTAMINATION,
            "Scores without the samples that stand in training data",
            (*_NAMED, "arm", "seed", "hits", "n", "value", "low", "high"),
            [_told(row) for row in summary.get("without_contamination", ())],
        ),
        Table(
            BEHAVIOR,
            "Behavior on held-out posts, beside its baseline",
            ("metric", "arm", "seed", "value", "baseline", "n"),
            [
                (
                    one.metric,
                    one.arm,
                    "pooled" if one.seed is None else one.seed,
                    one.value,
                    one.baseline,
                    one.n,
                )
                for one in content.behavior_scores
            ],
        ),
        Table(COST, "Wall time of every stage, seconds", ("stage", "seconds"), list(content.costs.items())),
    ]


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row in which what does not apply is told from what is undefined."""
    words = {"label_fraction": "none", "shots": "none", "seed": "pooled"}
    return {**row, **{name: words[name] for name in _OPTIONAL if name in row and row[name] is None}}


def _headline(content: PageContent) -> list[Table]:
    found = headline.headlines(content.summary, content.tasks)
    return [
        Table(
            HEADLINE,
            "Relative gain over the base: (arm - base) / |base|, of errors (base - arm) / |base|, mean over "
            "the group's tasks that all arms were asked and with no base near zero; the paper's in percent",
            ("variant", "group", "tasks", "arm", "gain", "left_out", "paper_percent", "errata"),
            [
                (
                    one.variant,
                    group.name,
                    len(group.tasks),
                    arm,
                    gain,
                    ", ".join(group.flagged) or "none",
                    "not comparable" if group.paper is None or not one.has_paper else group.paper,
                    (group.errata if one.has_paper else None) or "none",
                )
                for one in found
                for group in one.groups
                for arm, gain in group.gains.items()
            ],
        ),
        Table(
            GAINS,
            "Relative gain over the base, task by task",
            ("variant", "group", "task", "metric", "arm", "base", "value", "gain", "is_base_near_zero"),
            [
                (
                    one.variant,
                    group.name,
                    detail.task,
                    detail.metric,
                    detail.arm,
                    detail.base,
                    detail.value,
                    detail.gain,
                    detail.is_near_zero,
                )
                for one in found
                for group in one.groups
                for detail in group.details
            ],
        ),
    ]


def _modality(summary: Mapping[str, Any]) -> Table:
    return Table(
        MODALITY,
        "Mean of the scores that end at 1, by modality and way of asking",
        ("variant", "modality", "arm", "mean", "tasks", "left_out"),
        [
            (
                one.variant,
                one.modality,
                arm,
                mean,
                ", ".join(one.tasks) or "none",
                ", ".join(one.left_out) or "none",
            )
            for one in breakdowns.by_modality(summary)
            for arm, mean in one.means.items()
        ],
    )


def _ablations(summary: Mapping[str, Any]) -> Table:
    return Table(
        ABLATIONS,
        "Gain over content_only with 95 % intervals, in points where the metric ends at 1",
        ("variant", "arm", "task", "metric", "value", "low", "high"),
        [
            (found.variant, gain.arm, gain.task, gain.metric, gain.value, gain.low, gain.high)
            for found in breakdowns.ablations(summary)
            for gain in found.gains.values()
        ],
    )
