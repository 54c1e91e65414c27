"""Charts as inline SVG text: the same numbers give the same bytes.

In: plain numbers and names. Out: an `<svg>` element for an HTML page, or None where there is too little to
draw. The colors are CSS variables and `currentColor`, so a page can switch between light and dark; the page's
template defines them. Text stays text (searchable, readable aloud). Undefined numbers are gaps, never zeros.

Every chart takes `name`, unique on its page, and `alt`, what a reader who cannot see the chart is told.
"""

from __future__ import annotations

import html
import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

# Stand-ins: matplotlib wants colors, the page wants CSS. No other color in a chart equals one of them.
_INK, _MUTED, _GRID, _PAGE = "#010101", "#020202", "#030303", "#fefefe"
_ARM_SLOTS = tuple(f"#0{slot}0{slot}0{slot}" for slot in "456789abcdef")
_CSS_COLORS = {
    _INK: "currentColor",
    _MUTED: "var(--muted)",
    _GRID: "var(--grid)",
    _PAGE: "var(--page)",
    **{stand_in: f"var(--arm-{slot})" for slot, stand_in in enumerate(_ARM_SLOTS)},
}

NAMED_ARMS = ("base", "content_only", "content_matched", "shuffled", "behavior", "ceiling")
"""Arms with a color of their own; any others share the spare slots in order."""

_MARKERS = {
    "base": "o",
    "content_only": "s",
    "content_matched": "D",
    "shuffled": "^",
    "behavior": "o",
    "ceiling": "v",
}
_DASHES = {
    "base": (0, (1, 1.5)),
    "content_only": (0, (5, 2)),
    "shuffled": (0, (3, 1.5, 1, 1.5)),
    "ceiling": (0, (1, 3)),
}

_MIN_SPOKES = 3

_RC: Any = {
    "svg.hashsalt": "behavior-llava",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    # A task or source named "$x" is a name, not a formula.
    "text.parse_math": False,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of the forest plot.

    Attributes:
        task: the row's name; lines of one task stand together.
        against: the arm compared with.
        value, low, high: in points; None where undefined.
    """

    task: str
    against: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Stage:
    """One bar of a funnel: what a filter left."""

    name: str
    kept: int


def arm_slot(arm: str) -> int:
    """Which CSS color slot an arm has: its place among the named arms, else a spare one fixed by its name."""
    if arm in NAMED_ARMS:
        return NAMED_ARMS.index(arm)
    return len(NAMED_ARMS) + sum(arm.encode()) % (len(_ARM_SLOTS) - len(NAMED_ARMS))


def arm_mark(arm: str) -> str:
    """The sign of an arm's marker in the charts, so that color is never the only difference."""
    return {"s": "■", "D": "◆", "^": "▲", "v": "▼", "o": "●"}.get(_MARKERS.get(arm, ""), "✚")


def radar(
    values: Mapping[str, Mapping[str, float | None]],
    chance: Mapping[str, float | None],
    *,
    name: str,
    alt: str,
) -> str | None:
    """Arms over tasks, one spoke a task, on one common scale.

    Args:
        values: arm -> task -> value on a 0..1 scale (or -1..1); None breaks the arm's line.
        chance: task -> the guesser's value, drawn as a tick across the spoke; None draws none.
        name: unique on the page.
        alt: what a reader who cannot see the chart is told.

    Returns:
        The SVG; None with fewer than three tasks.
    """
    tasks = sorted({task for by in values.values() for task in by})
    known = [one for by in values.values() for one in by.values() if one is not None]
    if len(tasks) < _MIN_SPOKES or not known:
        return None
    angles = [2 * math.pi * spoke / len(tasks) for spoke in range(len(tasks))]
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(7.4, 5.6))
        axes = figure.add_subplot(projection="polar")
        assert isinstance(axes, PolarAxes)
        axes.set_theta_zero_location("N")
        axes.set_theta_direction(-1)
        floor = min(0.0, math.floor(min(known) * 5) / 5)
        axes.set_ylim(floor, max(0.2, math.ceil(max(known) * 5) / 5))
        axes.set_xticks(angles)
        axes.set_xticklabels([])
        axes.spines["polar"].set_visible(False)
        axes.set_rlabel_position(180 / len(tasks))
        axes.tick_params(axis="y", labelsize=8)
        _spoke_names(axes, angles, tasks)
        for angle, task in zip(angles, tasks, strict=True):
            at = chance.get(task)
            if at is not None:
                width = 0.22 / max(0.15, at - floor) * 0.18
                axes.plot([angle - width, angle + width], [at, at], color=_INK, linewidth=1.6, zorder=2)
        # The arm the page is about goes on top.
        for arm in sorted(values, key=lambda name: name == "behavior"):
            _polygon(axes, arm, [*zip(angles, (values[arm].get(task) for task in tasks), strict=True)])
        return _svg(figure, name, alt)


def forest(differences: Sequence[Difference], *, name: str, alt: str) -> str | None:
    """Paired differences with their 95 % intervals around a line at 0; None where nothing is defined.

    An interval that does not touch 0 has a filled mark. An undefined difference keeps its row and says so.
    """
    if not any(one.value is not None for one in differences):
        return None
    tasks = list(dict.fromkeys(one.task for one in differences))
    arms = list(dict.fromkeys(one.against for one in differences))
    step = 0.62 / max(1, len(arms))
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(7.4, 0.9 + 0.2 * len(tasks) * (1 + len(arms))))
        axes = figure.add_subplot()
        axes.axvline(0, color=_INK, linewidth=1.1, zorder=1)
        for one in differences:
            y = tasks.index(one.task) + (arms.index(one.against) - (len(arms) - 1) / 2) * step
            color = _ARM_SLOTS[arm_slot(one.against)]
            if one.value is None:
                axes.annotate(
                    "undefined", (0, y), (4, 0), textcoords="offset points", va="center", color=_MUTED
                )
                continue
            is_clear = one.low is not None and one.high is not None and (one.low > 0 or one.high < 0)
            if one.low is not None and one.high is not None:
                axes.plot(
                    [one.low, one.high], [y, y], color=color, linewidth=2.2, solid_capstyle="round", zorder=2
                )
            axes.plot(
                [one.value],
                [y],
                marker=_MARKERS.get(one.against, "P"),
                markersize=6.5,
                color=color,
                markerfacecolor=color if is_clear else _PAGE,
                markeredgewidth=1.5,
                zorder=3,
            )
        axes.set_yticks(range(len(tasks)), [_shown(task, 34) for task in tasks])
        axes.tick_params(axis="y", length=0, labelcolor=_INK)
        axes.set_ylim(len(tasks) - 0.45, -0.55)
        axes.set_xlabel("difference in points")
        axes.grid(axis="x")
        _bare(axes)
        return _svg(figure, name, alt)


def loss_curves(
    losses: Mapping[tuple[str, int], Sequence[tuple[int, float | None]]],
    *,
    name: str,
    alt: str,
    measured: str = "loss (nats a token)",
) -> str | None:
    """Training loss, or what else was `measured`, over steps, one line an arm and seed; None where there are
    no steps.

    A value that is undefined or not finite is a gap in its line.
    """
    if not any(losses.values()):
        return None
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(7.4, 3.3))
        axes = figure.add_subplot()
        for arm, seed in sorted(losses):
            steps = [step for step, _ in losses[arm, seed]]
            values = [
                math.nan if loss is None or not math.isfinite(loss) else loss for _, loss in losses[arm, seed]
            ]
            axes.plot(
                steps,
                values,
                color=_ARM_SLOTS[arm_slot(arm)],
                linestyle=_DASHES.get(arm, "-"),
                linewidth=2.2 if arm == "behavior" else 1.5,
                marker="o" if len(steps) == 1 else "",
                markersize=4,
            )
        axes.set_xlabel("step")
        axes.set_ylabel(_shown(measured, 40))
        axes.grid(axis="y")
        _bare(axes)
        return _svg(figure, name, alt)


def funnel(stages: Sequence[Stage], *, name: str, alt: str) -> str | None:
    """What every filter left, as bars from the same zero; None where there is nothing to show."""
    if not stages:
        return None
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(7.4, 0.35 + 0.27 * len(stages)))
        axes = figure.add_subplot()
        kept = [stage.kept for stage in stages]
        axes.barh(range(len(stages)), kept, height=0.66, color=_ARM_SLOTS[arm_slot("behavior")], alpha=0.85)
        for row, stage in enumerate(stages):
            share = f" · {100 * stage.kept / kept[0]:.0f} %" if row and kept[0] else ""
            axes.annotate(
                f"{stage.kept:,}{share}", (stage.kept, row), (5, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(range(len(stages)), [_shown(stage.name, 34) for stage in stages])
        axes.tick_params(axis="y", length=0, labelcolor=_INK)
        axes.set_xlim(0, max(1, *kept) * 1.22)
        axes.set_ylim(len(stages) - 0.4, -0.6)
        axes.set_xticks([])
        _bare(axes)
        return _svg(figure, name, alt)


# ---- pieces ------------------------------------------------------------------------------------------------


def _spoke_names(axes: Axes, angles: Sequence[float], tasks: Sequence[str]) -> None:
    top = axes.get_ylim()[1]
    for angle, task in zip(angles, tasks, strict=True):
        side = math.sin(angle)
        align = "center" if abs(side) < 0.15 else ("left" if side > 0 else "right")
        axes.annotate(
            _shown(task, 26),
            (angle, top),
            (9 * side, 9 * math.cos(angle)),
            textcoords="offset points",
            ha=align,
            va="center",
            annotation_clip=False,
        )


def _polygon(axes: Axes, arm: str, points: Sequence[tuple[float, float | None]]) -> None:
    color = _ARM_SLOTS[arm_slot(arm)]
    is_whole = all(value is not None for _, value in points)
    closed = [*points, points[0]]
    angles = [angle for angle, _ in closed]
    values = [math.nan if value is None else value for _, value in closed]
    axes.plot(
        angles,
        values,
        color=color,
        linestyle=_DASHES.get(arm, "-"),
        linewidth=2.4 if arm == "behavior" else 1.5,
        marker=_MARKERS.get(arm, "P"),
        markersize=5 if arm == "behavior" else 3.5,
        zorder=4 if arm == "behavior" else 3,
    )
    if arm == "behavior" and is_whole:
        axes.fill(angles, values, color=color, alpha=0.10, zorder=1)


def _bare(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.set_axisbelow(True)


def _shown(text: str, longest: int) -> str:
    """A name as a chart can carry it: no control characters (they break XML), cut visibly when long."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def _svg(figure: Figure, name: str, alt: str) -> str:
    """The figure as an element to put inside a page: no prolog, no outside address, ids of its own."""
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Names may be in any script; the browser's fonts have the glyphs that matplotlib's lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.06, metadata={"Date": None})
    text = buffer.getvalue()
    inside = text[text.index(">", text.index("<svg ")) + 1 :]
    # The style element would apply to the whole page; the metadata is addresses only.
    body = re.sub(r"<(metadata|style)\b.*?</\1>", "", inside, flags=re.S)
    prefix = re.sub(r"[^A-Za-z0-9-]", "_", name)
    # Inside tags only: between them stand the names of tasks and sources, whatever they look like.
    body = re.sub(r"<[^<>]*>", lambda tag: _page_tag(tag.group(), prefix), body)
    width, height = re.findall(r"[\d.]+", text[text.index("viewBox=") :])[2:4]
    label = html.escape(alt, quote=True)
    return (
        f'<svg class="chart" role="img" aria-label="{label}" viewBox="0 0 {width} {height}" '
        f'width="{float(width):.0f}pt" height="{float(height):.0f}pt">{body.strip()}'
    )


def _page_tag(tag: str, prefix: str) -> str:
    tag = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', tag)
    tag = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", tag)
    tag = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{prefix}-\1"', tag)
    tag = re.sub(r"font-family: [^;\"]+", "font-family: var(--font)", tag)
    for stand_in, css in _CSS_COLORS.items():
        tag = tag.replace(stand_in, css)
    return tag
