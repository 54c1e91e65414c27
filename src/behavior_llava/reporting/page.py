"""The report: one static HTML page that opens offline and asks no one for anything.

In: a PageContent, which `report` fills from finished stage folders. Out: `index.html` with charts, tables and
thumbnails inside it. All text that came from outside (comments, labels, model answers) is escaped; the page
forbids scripts and requests to itself by a content security policy.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, ImageOps

from behavior_llava.evaluation.metrics import named
from behavior_llava.reporting import charts, tables

FILE_NAME = "index.html"

THUMBNAIL_PX = 160
_JPEG_QUALITY = 82
_LONGEST_ANSWER = 700

_MINUTE_S, _HOUR_S = 60, 3600

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
        faults: reason -> how many records or files could not be read.
        losses: (arm, seed) -> (step, loss).
        tracked: (arm, seed) -> (step, what was measured then by name; None where undefined).
        agreement: shuffled: what is compared -> share or correlation left; None where undefined.
        contamination: the facts of evaluation/contamination.py; empty where nobody looked.
        costs: stage -> seconds of wall time.
        synthetic: True when any medium or receiver was simulated.
        opens_with: the setting shown before the others; None keeps the summary's order.
        is_comparison: of several runs, whose arms are called "<run>/<arm>": no claim is made.
    """

    title: str
    summary: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, Any]]
    config_text: str
    survivors: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)
    losses: Mapping[tuple[str, int], Sequence[tuple[int, float]]] = field(default_factory=dict)
    tracked: Mapping[tuple[str, int], Sequence[tuple[int, Mapping[str, float | None]]]] = field(
        default_factory=dict
    )
    behavior_scores: Sequence[BehaviorScore] = ()
    samples: Sequence[SampleRow] = ()
    agreement: Mapping[str, float | None] = field(default_factory=dict)
    contamination: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    synthetic: bool = False
    notes: Sequence[str] = ()
    opens_with: str | None = None
    is_comparison: bool = False


def write_page(folder: Path, content: PageContent) -> Path:
    """Writes `index.html` into the folder (made where missing) and returns its path.

    The same content gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    path.write_text(render(content), encoding="utf-8")
    return path


def render(content: PageContent) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("behavior_llava.reporting"),
        autoescape=True,
        # A name the template misspells must fail, not print nothing.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(arm_slot=charts.arm_slot, arm_mark=charts.arm_mark)
    content = replace(content, summary=_opened(content.summary, content.opens_with))
    summary, tasks = content.summary, content.tasks
    return environment.get_template("page.html.j2").render(
        content=content,
        is_synthetic=content.synthetic or bool(summary.get("synthetic")),
        claims=[] if content.is_comparison else tables.claims(summary),
        arms=[(arm, arm_words(arm)) for arm in summary["arms"]],
        results=tables.result_tables(summary, tasks),
        secondary=tables.result_tables(summary, tasks, primary=False),
        groups=tables.group_tables(summary, tasks),
        differences=tables.difference_tables(summary),
        group_differences=tables.difference_tables(summary, groups=True),
        contamination=tables.contamination_words(content.contamination),
        contaminated=tables.contamination_tables(summary),
        equivalence=tables.equivalence_lines(summary),
        radars=[_radar(setting, content) for setting in _settings(summary)],
        forests=[_forest(setting, content) for setting in _settings(summary)],
        loss=_loss(content),
        tracked=_tracked(content),
        funnels=[
            _funnel(number, name, rows) for number, (name, rows) in enumerate(content.survivors.items())
        ],
        behavior_scores=[_behavior_line(one) for one in content.behavior_scores],
        samples=[_sample(one) for one in content.samples],
        agreement=[
            (tables.AGREEMENT_WORDS.get(name, name), tables.number(value))
            for name, value in content.agreement.items()
        ],
        costs=[(stage, duration(seconds)) for stage, seconds in content.costs.items()],
        total_cost=duration(sum(content.costs.values())),
    )


def _opened(summary: Mapping[str, Any], setting: str | None) -> dict[str, Any]:
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
    return tables.ARM_WORDS.get(arm, "no description given")


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{int(seconds // _MINUTE_S)} min {int(seconds % _MINUTE_S)} s"
    return f"{int(seconds // _HOUR_S)} h {int(seconds % _HOUR_S // _MINUTE_S)} min"


# ---- charts ------------------------------------------------------------------------------------------------


def _settings(summary: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["setting"] for row in summary["results"]))


def _markup(svg: str | None) -> Markup | None:
    """Our own charts only: `charts.py` escapes every name it draws."""
    return None if svg is None else Markup(svg)


def _radar(setting: str, content: PageContent) -> dict[str, Any]:
    """One radar of a setting's primary pooled scores; tasks off the 0..1 scale are named, not squeezed in."""
    summary = content.summary
    rows = [
        row
        for row in summary["results"]
        if row["setting"] == setting and row["primary"] and row["seed"] is None
    ]
    fits = [row for row in rows if _has_points(row)]
    values = {
        arm: {tables.contest_name(row): row["value"] for row in fits if row["arm"] == arm}
        for arm in summary["arms"]
        if any(row["arm"] == arm for row in fits)
    }
    chance = {tables.contest_name(row): row["chance"] for row in fits}
    return {
        "setting": setting,
        "arms": list(values),
        "left_out": sorted({tables.contest_name(row) for row in rows} - set(chance)),
        "svg": _markup(
            charts.radar(
                values,
                chance,
                name=f"radar-{setting}",
                alt=f"Radar chart of {len(values)} arms over {len(chance)} tasks, {setting}. "
                "The table of results holds the same numbers.",
            )
        ),
    }


def _has_points(row: Mapping[str, Any]) -> bool:
    """Whether the row's metric lives on the common 0..1 scale."""
    return named(row["metric"]).point is not None


def _forest(setting: str, content: PageContent) -> dict[str, Any]:
    rows = [
        row
        for row in content.summary["differences"]
        if row["setting"] == setting
        and row["primary"]
        and row["seed"] is None
        and row["arm"] == "behavior"
        and row["against"] in tables.CONTROLS
    ]
    fits = [row for row in rows if _has_points(row)]
    points = [
        charts.Difference(
            tables.contest_name(row),
            row["against"],
            *(None if row[name] is None else 100 * row[name] for name in ("value", "low", "high")),
        )
        for row in fits
    ]
    return {
        "setting": setting,
        "arms": list(dict.fromkeys(row["against"] for row in fits)),
        "left_out": sorted({tables.contest_name(row) for row in rows if not _has_points(row)}),
        "svg": _markup(
            charts.forest(
                points,
                name=f"forest-{setting}",
                alt=f"Forest plot of {len(points)} paired differences of behavior to controls, {setting}. "
                "The table of differences holds the same numbers.",
            )
        ),
    }


def _loss(content: PageContent) -> dict[str, Any]:
    alt = f"Training loss over steps of {len(content.losses)} runs."
    return {
        "arms": list(dict.fromkeys(arm for arm, _ in sorted(content.losses))),
        "svg": _markup(charts.loss_curves(content.losses, name="loss", alt=alt)),
        "last": [
            (arm, seed, len(points), tables.number(points[-1][1]) if points else tables.UNDEFINED)
            for (arm, seed), points in sorted(content.losses.items())
        ],
    }


def _tracked(content: PageContent) -> list[dict[str, Any]]:
    """Everything that was measured while the arms trained: its name and its curves."""
    names = dict.fromkeys(
        name for steps in content.tracked.values() for _, values in steps for name in values
    )
    found = []
    for number, name in enumerate(names):
        curves = {
            cell: [(step, values[name]) for step, values in steps if name in values]
            for cell, steps in content.tracked.items()
            if any(name in values for _, values in steps)
        }
        svg = charts.loss_curves(
            curves, name=f"tracked-{number}", alt=f"{name} over the steps of training.", measured=name
        )
        arms = list(dict.fromkeys(arm for arm, _ in sorted(curves)))
        found.append({"name": name, "arms": arms, "svg": _markup(svg)})
    return found


def _funnel(position: int, source: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A source's survivors: a bar chart for each table, and the rows themselves."""
    drawn = []
    for table in dict.fromkeys(row["table"] for row in rows):
        own = [row for row in rows if row["table"] == table]
        stages = [
            charts.Stage("collected", own[0]["rows_in"]),
            *(charts.Stage(r["filter"], r["kept"]) for r in own),
        ]
        alt = f"Bars of the {table} of {source} left after each of {len(own)} filters: "
        svg = charts.funnel(
            stages,
            name=f"funnel-{position}-{table}",
            alt=alt + f"{stages[0].kept} collected, {stages[-1].kept} left. The table holds every number.",
        )
        drawn.append({"table": table, "svg": _markup(svg)})
    return {"source": source, "charts": drawn, "rows": list(rows)}


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


def _sample(row: SampleRow) -> dict[str, Any]:
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
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as opened:
            # Draft mode first: a 12-megapixel photo need not be decoded in full for a thumbnail.
            opened.draft("RGB", (2 * THUMBNAIL_PX, 2 * THUMBNAIL_PX))
            small = ImageOps.exif_transpose(opened).convert("RGB")
        small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return {"uri": None, "fault": type(error).__name__, "width": 0, "height": 0}
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"uri": uri, "fault": None, "width": small.width, "height": small.height}
