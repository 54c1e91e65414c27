"""Every chart of the report, with the words that stand around it.

In: a PageContent. Out: figures by section, which `page.py` shows and `report.py` writes as files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from behavior_llava.evaluation.metrics import named
from behavior_llava.evaluation.summary import BEHAVIOR, is_in_family, parted
from behavior_llava.reporting import breakdowns, charts, tables
from behavior_llava.reporting.charts import Chart, Look, Looks
from behavior_llava.reporting.content import PageContent
from behavior_llava.reporting.exports import file_name

_COLUMNS = 8
"""Tasks in one heat map; more would be too wide to read on a page."""

_OF_CELLS = (
    "Rows are arms, columns tasks; a cell is the paired difference to content_only with its 95 % interval, "
    "in points where the metric ends at 1. The color is the gain as a share of the largest on its task: "
    "green is better, red worse; bold has an interval that excludes 0. None of it is corrected for the "
    "number of cells."
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart and what is said beside it.

    Attributes:
        legend: arm -> how it is drawn; empty where no legend is needed.
        words: the caption.
        absent: what is said where there is nothing to draw.
        chart: None where there is nothing to draw.
    """

    heading: str
    legend: Mapping[str, Look]
    words: str
    absent: str
    chart: Chart | None

    @property
    def svg(self) -> Markup | None:
        """The chart for the page: our own drawing, in which `charts.py` escapes every name."""
        return None if self.chart is None else Markup(self.chart.inline())

    @property
    def file(self) -> str | None:
        """The name of its files without ending; None where there is nothing to draw."""
        return None if self.chart is None else file_name(self.chart.name)


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of a page, by section."""

    radars: list[Figure]
    forests: list[Figure]
    heat_maps: Sequence[Figure]
    learning: Sequence[Figure]
    loss: Figure
    tracked: Sequence[Figure]
    funnels: Mapping[str, Sequence[Figure]]

    def charts(self) -> Iterator[Chart]:
        """Every chart there is something to draw in."""
        funnels = [one for some in self.funnels.values() for one in some]
        for one in (
            *self.radars,
            *self.forests,
            *self.heat_maps,
            *self.learning,
            self.loss,
            *self.tracked,
            *funnels,
        ):
            if one.chart is not None:
                yield one.chart


def figures(content: PageContent) -> Figures:
    """Everything that is drawn."""
    summary = content.summary
    settings = list(dict.fromkeys(row["setting"] for row in summary["results"]))
    trained = sorted(arm for cells in (content.losses, content.tracked) for arm, _ in cells)
    # of the whole page, so that an arm looks the same in all of its charts
    looks = charts.looks_of([*summary["arms"], *trained])
    runs = dict.fromkeys(parted(arm)[0] for arm in summary["arms"] if parted(arm)[1] == BEHAVIOR)
    return Figures(
        radars=[_radar(setting, summary, looks) for setting in settings],
        forests=[
            _forest(number, run, setting, summary, looks)
            for setting in settings
            for number, run in enumerate(runs if content.is_comparison else [""])
        ],
        heat_maps=[
            one
            for number, found in enumerate(breakdowns.ablations(content.summary))
            for one in _heat_maps(number, found)
        ],
        learning=[
            _learning(number, found, looks)
            for number, found in enumerate(breakdowns.learning(content.summary))
        ],
        loss=_loss(content, looks),
        tracked=_tracked(content, looks),
        funnels={
            source: _funnels(number, source, rows)
            for number, (source, rows) in enumerate(content.survivors.items())
        },
    )


def _left_out(words: str, names: Sequence[str]) -> str:
    return f" {words} and left out: {', '.join(names)}." if names else ""


def _legend(arms: Iterable[str], looks: Looks) -> dict[str, Look]:
    """Each of the arms once, in their order."""
    return {arm: looks[arm] for arm in arms}


def _radar(setting: str, summary: Mapping[str, Any], looks: Looks) -> Figure:
    """One radar of a setting's primary pooled scores; tasks off the 0..1 scale are named, not squeezed in."""
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
    left_out = sorted({tables.contest_name(row) for row in rows} - set(chance))
    return Figure(
        heading=f"Arms over tasks, {setting}",
        legend=_legend(values, looks),
        words="Pooled primary scores, one spoke a task, on one common scale; the short tick across a spoke "
        "is chance. An undefined score breaks the line." + _left_out("Not on the 0 to 1 scale", left_out),
        absent="A radar chart needs three tasks with scores on the 0 to 1 scale.",
        chart=charts.radar(
            values,
            chance,
            name=f"radar-{setting}",
            alt=f"Radar chart of {len(values)} arms over {len(chance)} tasks, {setting}. "
            "The table of results holds the same numbers.",
            looks=looks,
        ),
    )


def _has_points(row: Mapping[str, Any]) -> bool:
    """Whether the row's metric lives on the common 0..1 scale."""
    return named(row["metric"]).point is not None


def _forest(position: int, run: str, setting: str, summary: Mapping[str, Any], looks: Looks) -> Figure:
    """A setting's differences between behavior and its controls in one run, which is empty for the only."""
    rows = [
        row
        for row in summary["differences"]
        if row["setting"] == setting
        and row["seed"] is None
        and is_in_family(row)
        and parted(row["arm"])[0] == run
    ]
    where = f"{setting}, {run}" if run else setting
    fits = [row for row in rows if _has_points(row)]
    points = [
        charts.Difference(
            tables.contest_name(row),
            row["against"],
            *(None if row[name] is None else 100 * row[name] for name in ("value", "low", "high")),
        )
        for row in fits
    ]
    left_out = sorted({tables.contest_name(row) for row in rows if not _has_points(row)})
    return Figure(
        heading=f"Behavior minus each control, {where}",
        legend=_legend((row["against"] for row in fits), looks),
        words="Pooled paired differences with 95 % intervals. The mark and color name the control; a filled "
        "mark has an interval that excludes 0." + _left_out("Not in points", left_out),
        absent="No difference to draw.",
        chart=charts.forest(
            points,
            # two runs' names may be one in a file's
            name=f"forest-{setting}-{position}-{run}" if run else f"forest-{setting}",
            alt=f"Forest plot of {len(points)} paired differences of behavior to controls, {where}. "
            "The table of differences holds the same numbers.",
            looks=looks,
        ),
    )


def _heat_maps(position: int, found: breakdowns.Ablation) -> list[Figure]:
    """The gains over content_only, so many tasks to a map that it can be read."""
    drawn = []
    for start in range(0, len(found.tasks), _COLUMNS):
        tasks = found.tasks[start : start + _COLUMNS]
        cells = {
            key: charts.Cell(
                lines=(tables.change(gain.value), tables.change_interval(gain.low, gain.high)),
                strength=gain.strength,
                is_clear=gain.sign != 0,
            )
            for key, gain in found.gains.items()
            if key[1] in tasks
        }
        drawn.append(
            Figure(
                heading=f"Gain over content_only, {found.variant}"
                + (f", tasks {start + 1} to {start + len(tasks)}" if len(found.tasks) > _COLUMNS else ""),
                legend={},
                words=_OF_CELLS,
                absent="No gain to draw.",
                chart=charts.heat_map(
                    found.arms,
                    tasks,
                    cells,
                    name=f"heat-map-{position}-{start // _COLUMNS}-{found.variant}",
                    alt=f"Heat map of the gain of {len(found.arms)} arms over content_only on {len(tasks)} "
                    f"tasks, {found.variant}. The table below holds the same numbers.",
                ),
            )
        )
    return drawn


def _learning(position: int, found: breakdowns.Learning, looks: Looks) -> Figure:
    return Figure(
        heading=f"{found.task}, {found.setting}",
        legend=_legend(found.curves, looks),
        words="Pooled score after learning from shares of the task's labels, with 95 % intervals; the dotted "
        "line is chance. An undefined score is a gap.",
        absent="A learning curve needs two shares.",
        chart=charts.learning_curves(
            found.curves,
            found.chance,
            name=f"learning-{position}-{found.task}-{found.setting}",
            alt=f"{found.metric} of {found.task} over the share of labels learned from, for "
            f"{len(found.curves)} arms. The table of results holds the same numbers.",
            measured=found.metric,
            looks=looks,
        ),
    )


def _loss(content: PageContent, looks: Looks) -> Figure:
    return Figure(
        heading="Training loss",
        legend=_legend((arm for arm, _ in sorted(content.losses)), looks),
        words="Training loss, one line an arm and seed. Arms learn different targets, so the height of the "
        "lines does not rank them.",
        absent="No training loss is known here.",
        chart=charts.loss_curves(
            content.losses,
            name="loss",
            alt=f"Training loss over steps of {len(content.losses)} runs.",
            looks=looks,
        ),
    )


def _tracked(content: PageContent, looks: Looks) -> list[Figure]:
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
        found.append(
            Figure(
                heading=name,
                legend=_legend((arm for arm, _ in sorted(curves)), looks),
                words="One line an arm and seed; an undefined value is a gap.",
                absent="Nothing was measured.",
                chart=charts.loss_curves(
                    curves,
                    name=f"tracked-{number}",
                    alt=f"{name} over the steps of training.",
                    measured=name,
                    looks=looks,
                ),
            )
        )
    return found


def _funnels(position: int, source: str, rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """A source's survivors: a bar chart for each table."""
    drawn = []
    for table in dict.fromkeys(row["table"] for row in rows):
        own = [row for row in rows if row["table"] == table]
        stages = [
            charts.Stage("collected", own[0]["rows_in"]),
            *(charts.Stage(r["filter"], r["kept"]) for r in own),
        ]
        alt = f"Bars of the {table} of {source} left after each of {len(own)} filters: "
        drawn.append(
            Figure(
                heading=table,
                legend={},
                words=f"{table} left after each filter, in order",
                absent="Nothing was counted.",
                chart=charts.funnel(
                    stages,
                    name=f"funnel-{position}-{table}",
                    alt=alt
                    + f"{stages[0].kept} collected, {stages[-1].kept} left. The table holds every number.",
                ),
            )
        )
    return drawn
