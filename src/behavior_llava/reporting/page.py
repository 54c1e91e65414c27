"""The report: one static HTML page that opens offline and asks no one for anything.

In: a PageContent, which `report` fills from finished stage folders. Out: `index.html` with charts, tables and
thumbnails inside it. All text that came from outside (comments, labels, model answers) is escaped; the page
forbids scripts and requests to itself by a content security policy.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from behavior_llava.reporting import breakdowns, charts, headline, lineage, tables, thumbnails
from behavior_llava.reporting.content import (
    BehaviorScore,
    PageContent,
    Picture,
    SampleAnswer,
    SampleRow,
)
from behavior_llava.reporting.figures import figures
from behavior_llava.reporting.sheets import sheets

FILE_NAME = "index.html"
OURS = Markup("Made by behavior-llava from <code>summary.json</code>")
"""At the end of every page from here, and of no other."""

_LONGEST_ANSWER = 700

_MINUTE_S, _HOUR_S = 60, 3600

NO_GROUP = "Tasks in none of the paper's ten groups"


def write_page(folder: Path, content: PageContent) -> Path:
    """Writes `index.html` into the folder (made where missing) and returns its path.

    The same content gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    path.write_text(render(content), encoding="utf-8")
    return path


def environment() -> Environment:
    """What every page of ours is made with: all values escaped, the palettes' colors as CSS."""
    made = Environment(
        loader=PackageLoader("behavior_llava.reporting"),
        autoescape=True,
        # A name the template misspells must fail, not print nothing.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(arm_slot=charts.arm_slot, gain=tables.gain)
    made.globals.update(
        light=Markup(charts.LIGHT.css()),
        dark=Markup(charts.DARK.css()),
        number=tables.number,
        change=tables.change,
        change_interval=tables.change_interval,
    )
    return made


def render(content: PageContent) -> str:
    """The page as text."""
    content = replace(content, summary=opened(content.summary, content.opens_with))
    summary, tasks = content.summary, content.tasks
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            content=content,
            is_synthetic=content.synthetic or bool(summary.get("synthetic")),
            ours=OURS,
            claims=tables.claims(summary),
            arms=[(arm, arm_words(arm)) for arm in summary["arms"]],
            headlines=headline_tables(content),
            results=_results(content),
            secondary=tables.secondary_tables(summary, tasks),
            groups=tables.group_tables(summary, tasks),
            modalities=breakdowns.by_modality(summary),
            ablations=breakdowns.ablations(summary),
            differences=tables.difference_tables(summary),
            group_differences=tables.difference_tables(summary, groups=True),
            contamination=[
                (run, tables.contamination_words(facts))
                for run, facts in (content.contamination or {"": {}}).items()
            ],
            contaminated=tables.contamination_tables(summary),
            equivalence=tables.equivalence_lines(summary),
            figures=figures(content),
            flows=lineage.flows(content.lineage),
            steps=lineage.as_rows(content.lineage),
            last_losses=[
                (arm, seed, len(points), tables.number(points[-1][1]) if points else tables.UNDEFINED)
                for (arm, seed), points in sorted(content.losses.items())
            ],
            behavior_scores=[_behavior_line(one) for one in content.behavior_scores],
            samples=[sample_card(one) for one in content.samples],
            agreement=[
                (tables.AGREEMENT_WORDS.get(name, name), tables.number(value))
                for name, value in content.agreement.items()
            ],
            costs=[(stage, duration(seconds)) for stage, seconds in content.costs.items()],
            total_cost=duration(sum(content.costs.values())),
            files={} if not content.has_files else {name: name for name in _names(content)},
        )
    )


def _results(content: PageContent) -> list[dict[str, Any]]:
    """A table for each of the paper's groups, in its order, and one for all other tasks."""
    order = [group.name for group in headline.groups()]
    found = tables.result_tables(
        content.summary, content.tasks, lambda task: headline.group_of(task) or NO_GROUP
    )
    return sorted(found, key=lambda one: order.index(one["name"]) if one["name"] in order else len(order))


def _names(content: PageContent) -> list[str]:
    """The tables that have files."""
    return [one.name for one in sheets(content) if one.rows]


def headline_tables(content: PageContent) -> list[dict[str, Any]]:
    """The headline as a page shows it: one table for every way of asking, the paper's gain by task beside."""
    found = []
    for one in headline.headlines(content.summary, content.tasks):
        # a run may say it is synthetic where its summary does not
        has_paper = one.has_paper and not content.synthetic
        papers = {
            detail.task: headline.paper_task_gain(detail.task, one, content.tasks) if has_paper else None
            for group in one.groups
            for detail in group.details
        }
        found.append({"headline": one, "has_paper": has_paper, "papers": papers})
    return found


def opened(summary: Mapping[str, Any], setting: str | None) -> dict[str, Any]:
    """The summary with one setting's rows before the others'."""
    return {
        name: sorted(rows, key=lambda row: row["setting"] != setting)
        if name in ("results", "differences", "groups", "group_differences", "without_contamination")
        else rows
        for name, rows in summary.items()
    }


def arm_words(arm: str) -> str:
    """One line that says what an arm was trained on."""
    run, slash, own = arm.rpartition("/")
    if slash:
        return f"of {run}: {arm_words(own)}"
    for prefix, words in (
        ("only_", "behavior, of one kind only: "),
        ("without_", "behavior without one kind: "),
    ):
        if arm.startswith(prefix):
            return words + arm.removeprefix(prefix).replace("_", " ")
    if share := re.fullmatch(r"behavior_([\d.]+)pct", arm):
        return f"behavior, from {share[1]} % of the posts"
    return tables.ARM_WORDS.get(arm, "no description given")


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{int(seconds // _MINUTE_S)} min {int(seconds % _MINUTE_S)} s"
    return f"{int(seconds // _HOUR_S)} h {int(seconds % _HOUR_S // _MINUTE_S)} min"


# ---- samples and small tables ------------------------------------------------------------------------------


def _behavior_line(score: BehaviorScore) -> dict[str, Any]:
    return {
        "arm": score.arm,
        "metric": score.metric,
        "value": tables.number(score.value),
        "baseline": tables.number(score.baseline),
        "n": score.n,
        "seed": "all" if score.seed is None else score.seed,
    }


def sample_card(row: SampleRow) -> dict[str, Any]:
    """A sample as a page shows it: thumbnails inside it, texts cut to a length."""
    return {
        "row": row,
        "pictures": [_thumbnail(picture) for picture in row.pictures],
        "context": None if row.context is None else _cut(row.context),
        "answers": [
            {"arm": one.arm, "text": _cut(one.text), "verdict": _verdict(one)} for one in row.answers
        ],
    }


def _verdict(answer: SampleAnswer) -> str:
    if not answer.is_parsed:
        return "unparsed"
    return {True: "right", False: "wrong", None: "not judged"}[answer.is_right]


def _cut(text: str) -> str:
    """Text at a length a page can carry; what was cut is said."""
    if len(text) <= _LONGEST_ANSWER:
        return text
    return f"{text[:_LONGEST_ANSWER]} … (cut; {len(text):,} characters in all)"


def _thumbnail(picture: Picture) -> dict[str, Any]:
    """A small JPEG as a data: address; a picture that cannot be read says why instead."""
    small = thumbnails.small(picture)
    if isinstance(small, str):
        return {"uri": None, "fault": small, "width": 0, "height": 0}
    uri = "data:image/jpeg;base64," + base64.b64encode(thumbnails.jpeg(small)).decode("ascii")
    return {"uri": uri, "fault": None, "width": small.width, "height": small.height}
