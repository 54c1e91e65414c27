"""Charts: the same numbers give the same bytes.

In: plain numbers and names. Out: a `Chart`, or None where there is too little to draw. A chart can be an
`<svg>` element for an HTML page, whose colors are CSS variables, so that the page can switch between light
and dark; or a file of its own, SVG or PNG, on white. Text in SVG stays text (searchable, readable aloud).
Undefined numbers are gaps, never zeros.

Every chart takes `name`, unique on its page and the name of its files, and `alt`, what a reader who cannot
see the chart is told.
"""

from __future__ import annotations

import html
import io
import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.projections.polar import PolarAxes

from behavior_llava.evaluation.summary import BEHAVIOR, parted


@dataclass(frozen=True, slots=True)
class Palette:
    """Colors of a page and of its charts; `arms` are the slots of `arm_slot`."""

    page: str
    panel: str
    ink: str
    muted: str
    grid: str
    line: str
    accent: str
    own: str
    good: str
    bad: str
    notice: str
    notice_line: str
    arms: tuple[str, ...]

    def css(self) -> str:
        """The colors as CSS variables: --page, --notice-line, --arm-0, ..."""
        plain = [one.name for one in fields(self) if one.name != "arms"]
        named = [f"--{name.replace('_', '-')}: {getattr(self, name)};" for name in plain]
        return " ".join([*named, *(f"--arm-{slot}: {color};" for slot, color in enumerate(self.arms))])


# Every pair of text and ground below has a contrast of 4.5 or more (WCAG 2.1, 1.4.3); axe checks it.
LIGHT = Palette(
    page="#ffffff",
    panel="#f5f6f8",
    ink="#1b2027",
    muted="#566070",
    grid="#d8dce2",
    line="#e3e6eb",
    accent="#005a96",
    own="#eaf3fa",
    good="#0a6b45",
    bad="#a8341f",
    notice="#fff4d6",
    notice_line="#b07a00",
    arms=tuple(
        "#6a7280 #c45500 #8a6d00 #a3437f #0068a8 #007a5a "
        "#5b4fb3 #7a4b2a #3f6f8f #98324a #4d7a1f #7d5c94".split()
    ),
)
DARK = Palette(
    page="#13161b",
    panel="#1c2027",
    ink="#e7eaef",
    muted="#a3acba",
    grid="#3a414c",
    line="#2c323b",
    accent="#7cc4f2",
    own="#16293a",
    good="#5fd0a0",
    bad="#f08c78",
    notice="#382c0d",
    notice_line="#d8a63a",
    arms=tuple(
        "#a0a8b5 #f0914a #d8bc50 #e091c0 #5cb6ee #3fc79c "
        "#a99ff0 #cfa07c #86b9d8 #ec8ba2 #9ccb66 #c7a3de".split()
    ),
)

# Stand-ins: matplotlib wants colors, the page wants CSS. No other color in a chart equals one of them.
_STAND_INS = Palette(
    page="#fefefe",
    panel="#050501",
    ink="#010101",
    muted="#020202",
    grid="#030303",
    line="#050502",
    accent="#050503",
    own="#050504",
    good="#050506",
    bad="#050507",
    notice="#050508",
    notice_line="#050509",
    arms=tuple(f"#0{slot}0{slot}0{slot}" for slot in "456789abcdef"),
)
_CSS_COLORS = {
    _STAND_INS.ink: "currentColor",
    _STAND_INS.muted: "var(--muted)",
    _STAND_INS.grid: "var(--grid)",
    _STAND_INS.page: "var(--page)",
    _STAND_INS.good: "var(--good)",
    _STAND_INS.bad: "var(--bad)",
    **{stand_in: f"var(--arm-{slot})" for slot, stand_in in enumerate(_STAND_INS.arms)},
}

_MARKERS = {
    "o": "●",
    "s": "■",
    "D": "◆",
    "^": "▲",
    "v": "▼",
    "P": "✚",
    "X": "✕",
    "*": "★",
    "<": "◄",
    ">": "►",
}
_SPARE_MARKERS = ("P", "X", "*", "<", ">")
_DASHES: dict[str, Any] = {
    "──": "-",
    "╌╌": (0, (5, 2)),
    "┈┈": (0, (1, 1.5)),
    "─·": (0, (3, 1.5, 1, 1.5)),
    "··": (0, (1, 3)),
    "─··": (0, (8, 2, 1, 2, 1, 2)),
}
"""Lines, by what stands for them in a legend, as `_MARKERS` has it of markers."""
_USUAL = {
    "base": ("o", "┈┈"),
    "content_only": ("s", "╌╌"),
    "content_matched": ("D", "──"),
    "shuffled": ("^", "─·"),
    "behavior": ("o", "──"),
    "ceiling": ("v", "··"),
}
"""Marker and line of arms that also have a color of their own, in the order of the colors' slots; any others
share the spare ones.
"""
_MARKS_A_LINE = 8
"""Markers on a curve of many points."""

_MIN_SPOKES = 3
_NUM_ARMS = 12
_PNG_DPI = 200
_STRONGEST = 0.5
"""How much of a color a heat map's strongest cell has, so that its text can be read."""


def _rc(palette: Palette) -> Any:
    return {
        "svg.hashsalt": "behavior-llava",
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        # A task or source named "$x" is a name, not a formula.
        "text.parse_math": False,
        "text.color": palette.ink,
        "axes.edgecolor": palette.grid,
        "axes.labelcolor": palette.muted,
        "axes.linewidth": 0.8,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "grid.color": palette.grid,
        "grid.linewidth": 0.8,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
    }


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn, and with which colors it is drawn when it is wanted.

    Attributes:
        name: unique on its page; letters, digits and hyphens are kept in ids and in names of files.
        alt: what a reader who cannot see the chart is told.
        draw: makes the figure anew.
    """

    name: str
    alt: str
    draw: Callable[[Palette], Figure]

    def inline(self) -> str:
        """An element to put inside a page that defines the palette's CSS variables."""
        return _inline(self._saved(_STAND_INS, "svg").decode(), self.name, self.alt)

    def svg(self) -> bytes:
        """A file of its own, on white."""
        text = self._saved(LIGHT, "svg").decode()
        label = html.escape(_shown(self.alt, 1000))
        # no DTD: a viewer need not know of an address outside
        text = re.sub(r"<!DOCTYPE[^>]*>\s*", "", text)
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
        text = re.sub(
            r"(<svg [^>]*)>", lambda tag: f'{tag[1]} role="img">\n<title>{label}</title>', text, count=1
        )
        return text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif").encode()

    def png(self) -> bytes:
        """A picture, on white."""
        return self._saved(LIGHT, "png")

    def _saved(self, palette: Palette, form: str) -> bytes:
        buffer = io.BytesIO()
        with mpl.rc_context(_rc(palette)), warnings.catch_warnings():
            # Names may be in any script; the browser's fonts have the glyphs that matplotlib's lacks.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure = self.draw(palette)
            FigureCanvasSVG(figure) if form == "svg" else FigureCanvasAgg(figure)
            figure.savefig(
                buffer,
                format=form,
                dpi=_PNG_DPI if form == "png" else "figure",
                facecolor="none" if palette is _STAND_INS else palette.page,
                bbox_inches="tight",
                pad_inches=0.06,
                metadata={"Date": None} if form == "svg" else {"Software": None},
            )
        return buffer.getvalue()


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


@dataclass(frozen=True, slots=True)
class Look:
    """How an arm is drawn.

    Attributes:
        slot: of its color.
        marker: one of `_MARKERS`; line: one of `_DASHES`.
    """

    slot: int
    marker: str
    line: str

    @property
    def sign(self) -> str:
        """Marker and line in letters, for a legend."""
        return f"{self.line}{_MARKERS[self.marker]}{self.line[::-1]}"

    @property
    def dash(self) -> Any:
        """The line as matplotlib takes it."""
        return _DASHES[self.line]


Looks = Mapping[str, Look]


def arm_slot(arm: str) -> int:
    """Which CSS color slot an arm has by its name in its own run: one of its own, or a spare one."""
    own = parted(arm)[1]
    if own in _USUAL:
        return list(_USUAL).index(own)
    return len(_USUAL) + sum(own.encode()) % (_NUM_ARMS - len(_USUAL))


def looks_of(arms: Iterable[str]) -> dict[str, Look]:
    """How every arm of a page is drawn: of up to 60, no two have both marker and line in common, so that
    color is never the only difference.

    The first arm of a known name looks as it always does; those of other runs have its color and, while lines
    last, its marker.
    """
    found: dict[str, Look] = {}
    # reserved, whether there is such an arm or not: a known arm looks the same on every page
    taken = set(_USUAL.values())
    known: set[str] = set()
    spare: dict[str, str] = {}
    for arm in dict.fromkeys(arms):
        own = parted(arm)[1]
        if own in _USUAL and own not in known:
            known.add(own)
            pair = _USUAL[own]
        else:
            if own in _USUAL:
                marker = _USUAL[own][0]
            else:
                marker = spare.setdefault(own, _SPARE_MARKERS[len(spare) % len(_SPARE_MARKERS)])
            choices = [(marker, line) for line in _DASHES]
            choices += itertools.product(_MARKERS, _DASHES)
            pair = next((one for one in choices if one not in taken), choices[0])
        taken.add(pair)
        found[arm] = Look(arm_slot(arm), *pair)
    return found


def radar(
    values: Mapping[str, Mapping[str, float | None]],
    chance: Mapping[str, float | None],
    *,
    name: str,
    alt: str,
    looks: Looks | None = None,
) -> Chart | None:
    """Arms over tasks, one spoke a task, on one common scale.

    Args:
        values: arm -> task -> value on a 0..1 scale (or -1..1); None breaks the arm's line.
        chance: task -> the guesser's value, drawn as a tick across the spoke; None draws none.
        name: unique on the page.
        alt: what a reader who cannot see the chart is told.
        looks: of the page's arms; None where the chart stands alone.

    Returns:
        The chart; None with fewer than three tasks.
    """
    tasks = sorted({task for by in values.values() for task in by})
    known = [one for by in values.values() for one in by.values() if one is not None]
    if len(tasks) < _MIN_SPOKES or not known:
        return None
    angles = [2 * math.pi * spoke / len(tasks) for spoke in range(len(tasks))]
    shown = looks or looks_of(values)

    def draw(palette: Palette) -> Figure:
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
                axes.plot(
                    [angle - width, angle + width], [at, at], color=palette.ink, linewidth=1.6, zorder=2
                )
        # The arm the page is about goes on top.
        for arm in sorted(values, key=_is_behavior):
            points = [*zip(angles, (values[arm].get(task) for task in tasks), strict=True)]
            _polygon(axes, palette, arm, shown[arm], points)
        return figure

    return Chart(name, alt, draw)


def forest(
    differences: Sequence[Difference], *, name: str, alt: str, looks: Looks | None = None
) -> Chart | None:
    """Paired differences with their 95 % intervals around a line at 0; None where nothing is defined.

    An interval that does not touch 0 has a filled mark. An undefined difference keeps its row and says so.
    """
    if not any(one.value is not None for one in differences):
        return None
    tasks = list(dict.fromkeys(one.task for one in differences))
    arms = list(dict.fromkeys(one.against for one in differences))
    step = 0.62 / max(1, len(arms))
    shown = looks or looks_of(arms)

    def draw(palette: Palette) -> Figure:
        figure = Figure(figsize=(7.4, 0.9 + 0.2 * len(tasks) * (1 + len(arms))))
        axes = figure.add_subplot()
        axes.axvline(0, color=palette.ink, linewidth=1.1, zorder=1)
        for one in differences:
            y = tasks.index(one.task) + (arms.index(one.against) - (len(arms) - 1) / 2) * step
            color = palette.arms[shown[one.against].slot]
            if one.value is None:
                axes.annotate(
                    "undefined", (0, y), (4, 0), textcoords="offset points", va="center", color=palette.muted
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
                marker=shown[one.against].marker,
                markersize=6.5,
                color=color,
                markerfacecolor=color if is_clear else palette.page,
                markeredgewidth=1.5,
                zorder=3,
            )
        axes.set_yticks(range(len(tasks)), [_shown(task, 34) for task in tasks])
        axes.tick_params(axis="y", length=0, labelcolor=palette.ink)
        axes.set_ylim(len(tasks) - 0.45, -0.55)
        axes.set_xlabel("difference in points")
        axes.grid(axis="x")
        _bare(axes)
        return figure

    return Chart(name, alt, draw)


def loss_curves(
    losses: Mapping[tuple[str, int], Sequence[tuple[int, float | None]]],
    *,
    name: str,
    alt: str,
    measured: str = "loss (nats a token)",
    looks: Looks | None = None,
) -> Chart | None:
    """Training loss, or what else was `measured`, over steps, one line an arm and seed; None where there are
    no steps.

    A value that is undefined or not finite is a gap in its line.
    """
    if not any(losses.values()):
        return None
    shown = looks or looks_of(arm for arm, _ in sorted(losses))

    def draw(palette: Palette) -> Figure:
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
                color=palette.arms[shown[arm].slot],
                linestyle=shown[arm].dash,
                linewidth=2.2 if _is_behavior(arm) else 1.5,
                marker=shown[arm].marker,
                markevery=max(1, len(steps) // _MARKS_A_LINE),
                markersize=4,
            )
        axes.set_xlabel("step")
        axes.set_ylabel(_shown(measured, 40))
        axes.grid(axis="y")
        _bare(axes)
        return figure

    return Chart(name, alt, draw)


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of a heat map.

    Attributes:
        lines: what it says.
        strength: -1 (as bad as the worst) to 1; None where undefined.
        is_clear: whether its interval excludes 0.
    """

    lines: Sequence[str]
    strength: float | None
    is_clear: bool


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[str, str], Cell],
    *,
    name: str,
    alt: str,
) -> Chart | None:
    """Fields of text, green where better and red where worse; None where nothing is defined.

    Args:
        rows, columns: their names, in order.
        cells: (row, column) -> the field; an absent one says "not run".
        name: unique on the page.
        alt: what a reader who cannot see the chart is told.
    """
    if not any(cell.strength is not None for cell in cells.values()):
        return None

    def draw(palette: Palette) -> Figure:
        figure = Figure(figsize=(2.1 + 1.22 * len(columns), 0.75 + 0.46 * len(rows)))
        axes = figure.add_subplot()
        for y, row in enumerate(rows):
            for x, column in enumerate(columns):
                cell = cells.get((row, column), Cell(("not run",), None, is_clear=False))
                strength = max(-1.0, min(1.0, cell.strength or 0.0))
                color = palette.good if strength > 0 else palette.bad
                box = {"alpha": _STRONGEST * abs(strength), "facecolor": color, "edgecolor": "none"}
                axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, **box))
                axes.text(
                    x,
                    y,
                    "\n".join(_shown(line, 22) for line in cell.lines),
                    ha="center",
                    va="center",
                    fontsize=8,
                    fontweight="bold" if cell.is_clear else "normal",
                )
        axes.set_xticks(range(len(columns)), [_folded(column) for column in columns])
        axes.set_yticks(range(len(rows)), [_shown(row, 34) for row in rows])
        axes.tick_params(axis="both", length=0, labelcolor=palette.ink)
        axes.tick_params(axis="x", labeltop=True, labelbottom=False, labelsize=8.5)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        _bare(axes)
        axes.spines["bottom"].set_visible(False)
        return figure

    return Chart(name, alt, draw)


@dataclass(frozen=True, slots=True)
class Measured:
    """A point of a learning curve; None where undefined."""

    share: float
    value: float | None
    low: float | None
    high: float | None


def learning_curves(
    curves: Mapping[str, Sequence[Measured]],
    chance: float | None,
    *,
    name: str,
    alt: str,
    measured: str,
    looks: Looks | None = None,
) -> Chart | None:
    """A score over the share of labels learned from, one line an arm, with its intervals; None where no arm
    has two shares.

    Args:
        curves: arm -> its points, by ascending share (0..1).
        chance: the guesser's value, a dotted line; None draws none.
        name: unique on the page.
        alt: what a reader who cannot see the chart is told.
        measured: what the score is.
        looks: of the page's arms; None where the chart stands alone.
    """
    shares = sorted({point.share for points in curves.values() for point in points})
    if not any(len(points) > 1 for points in curves.values()):
        return None
    nudge = 0.006 * (shares[-1] - shares[0])
    shown = looks or looks_of(curves)

    def draw(palette: Palette) -> Figure:
        figure = Figure(figsize=(7.4, 3.3))
        axes = figure.add_subplot()
        if chance is not None:
            axes.axhline(chance, color=palette.muted, linewidth=1, linestyle=(0, (1, 2)))
        for place, (arm, points) in enumerate(curves.items()):
            # side by side, so that one interval does not hide another
            at = [point.share + (place - (len(curves) - 1) / 2) * nudge for point in points]
            color = palette.arms[shown[arm].slot]
            values = [math.nan if point.value is None else point.value for point in points]
            for x, point in zip(at, points, strict=True):
                if point.low is not None and point.high is not None:
                    axes.plot([x, x], [point.low, point.high], color=color, linewidth=1.2, alpha=0.7)
            axes.plot(
                at,
                values,
                color=color,
                linestyle=shown[arm].dash,
                linewidth=2.2 if _is_behavior(arm) else 1.5,
                marker=shown[arm].marker,
                markersize=5,
            )
        axes.set_xticks(shares, [f"{100 * share:g} %" for share in shares])
        axes.set_xlabel("share of the task's labels learned from")
        axes.set_ylabel(_shown(measured, 40))
        axes.grid(axis="y")
        _bare(axes)
        return figure

    return Chart(name, alt, draw)


def funnel(stages: Sequence[Stage], *, name: str, alt: str) -> Chart | None:
    """What every filter left, as bars from the same zero; None where there is nothing to show."""
    if not stages:
        return None

    def draw(palette: Palette) -> Figure:
        figure = Figure(figsize=(7.4, 0.35 + 0.27 * len(stages)))
        axes = figure.add_subplot()
        kept = [stage.kept for stage in stages]
        axes.barh(range(len(stages)), kept, height=0.66, color=palette.arms[arm_slot("behavior")], alpha=0.85)
        for row, stage in enumerate(stages):
            share = f" · {100 * stage.kept / kept[0]:.0f} %" if row and kept[0] else ""
            axes.annotate(
                f"{stage.kept:,}{share}", (stage.kept, row), (5, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(range(len(stages)), [_shown(stage.name, 34) for stage in stages])
        axes.tick_params(axis="y", length=0, labelcolor=palette.ink)
        axes.set_xlim(0, max(1, *kept) * 1.22)
        axes.set_ylim(len(stages) - 0.4, -0.6)
        axes.set_xticks([])
        _bare(axes)
        return figure

    return Chart(name, alt, draw)


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


def _is_behavior(arm: str) -> bool:
    """Whether it is the arm that its run is about."""
    return parted(arm)[1] == BEHAVIOR


def _polygon(
    axes: Axes, palette: Palette, arm: str, look: Look, points: Sequence[tuple[float, float | None]]
) -> None:
    color = palette.arms[look.slot]
    is_whole = all(value is not None for _, value in points)
    closed = [*points, points[0]]
    angles = [angle for angle, _ in closed]
    values = [math.nan if value is None else value for _, value in closed]
    axes.plot(
        angles,
        values,
        color=color,
        linestyle=look.dash,
        linewidth=2.4 if _is_behavior(arm) else 1.5,
        marker=look.marker,
        markersize=5 if _is_behavior(arm) else 3.5,
        zorder=4 if _is_behavior(arm) else 3,
    )
    # of several runs' the fills would hide each other
    if arm == BEHAVIOR and is_whole:
        axes.fill(angles, values, color=color, alpha=0.10, zorder=1)


def _bare(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.set_axisbelow(True)


def _folded(text: str) -> str:
    """A name on two lines where it is long and has a place to break."""
    clean = _shown(text, 34)
    places = [place for place, letter in enumerate(clean) if letter in " _-"]
    if len(clean) <= 15 or not places:
        return _shown(clean, 18)
    middle = min(places, key=lambda place: abs(place - len(clean) / 2))
    return f"{_shown(clean[: middle + 1], 18)}\n{_shown(clean[middle + 1 :], 18)}"


def _shown(text: str, longest: int) -> str:
    """A name as a chart can carry it: no control characters (they break XML), cut visibly when long."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def _inline(text: str, name: str, alt: str) -> str:
    """The figure as an element to put inside a page: no prolog, no outside address, ids of its own."""
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
