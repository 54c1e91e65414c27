"""What the demo shows of media and predictions, as HTML in which everything from outside is escaped.

An Audience goes in, or the JPEG files of an upload; out comes HTML with pictures inside it (data addresses),
each beside the same in words, so that nothing is asked of any server. Called by demo.py.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from matplotlib.figure import Figure
from PIL import Image

from behavior_llava.serving.audience import Audience, Counts

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_THUMBNAIL_SIDE = 320
NOT_PREDICTED = "not predicted"
_COLOR = "#1d4ed8"
_SPREAD_BINS = 20
"""Values of a distribution that are drawn: a thousand bars cannot be told apart."""

_LIKES = {
    "like_rate": ("like it, of those who see it", True),
    "upvote_ratio": ("of the votes are up", True),
    "likes_percentile": ("of comparable posts are liked less", True),
    "likes_ratio": ("times the likes expected of such a post", False),
    "num_likes": ("likes", False),
    "score": ("points (up minus down votes)", False),
}
_TOTALS = {
    "percentile": ("of comparable posts get fewer", True),
    "ratio": ("times what is expected of such a post", False),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture and the same in words.

    Attributes:
        source: a data address.
    """

    source: str
    words: str


def error(sentence: str) -> str:
    """A sentence about something that did not work."""
    return _TEMPLATES.get_template("notice.html.j2").render(sentence=sentence, is_error=True)


def note(sentence: str) -> str:
    """A sentence about something that is well."""
    return _TEMPLATES.get_template("notice.html.j2").render(sentence=sentence, is_error=False)


def upload(files: Sequence[Path], scenes: Sequence[tuple[float, float]], *, is_video: bool) -> str:
    """What was understood of an upload: the picture, or a frame a scene."""
    shown = thumbnails(files, scenes, is_video=is_video)
    return _TEMPLATES.get_template("upload.html.j2").render(shown=shown, is_video=is_video)


def audience(found: Audience, files: Sequence[Path], *, is_video: bool) -> str:
    """All that a model expects of viewers; what it does not say is called that."""
    return _TEMPLATES.get_template("audience.html.j2").render(
        likes=None if found.likes is None else _told(*found.likes, _LIKES),
        spread=None if found.likes_spread is None else _spread(found.likes_spread),
        comments=found.comments,
        scenes=thumbnails(files, found.scenes, is_video=is_video),
        is_video=is_video,
        curves=[
            ("Replay", "0 is the least replayed scene, 1 the most", _curve(found.replay, found.scenes)),
            ("Retention", "share of viewers who are there", _curve(found.retention, found.scenes)),
        ],
        counts=[("Reactions", _counts(found.reactions)), ("Shares", _counts(found.shares))],
        description=found.description,
        raw=found.raw,
        not_predicted=NOT_PREDICTED,
    )


def thumbnails(
    files: Sequence[Path], scenes: Sequence[tuple[float, float]], *, is_video: bool
) -> list[Shown]:
    """Small pictures of files that we wrote ourselves."""
    found = []
    for number, (file, (start_s, end_s)) in enumerate(zip(files, scenes, strict=True), 1):
        with Image.open(file, formats=["JPEG"]) as picture:
            picture.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
            content = io.BytesIO()
            picture.save(content, "JPEG", quality=85)
        words = f"Scene {number}, {_clock(start_s)} to {_clock(end_s)}" if is_video else "Your picture"
        found.append(Shown(_address("image/jpeg", content.getvalue()), words))
    return found


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(time_s, 60)
    return f"{int(minutes)}:{seconds:04.1f}"


def _told(part: str, value: float, words: dict[str, tuple[str, bool]]) -> str:
    said, is_share = words.get(part, (part.replace("_", " "), False))
    return f"{100 * value:.1f} % {said}" if is_share else f"{value:,.4g} {said}"


def _counts(found: Counts | None) -> tuple[str, list[tuple[str, str]]] | None:
    """The whole, and each kind's share of it."""
    if found is None:
        return None
    name = found.part.rpartition("_")[2]
    words = _TOTALS | {found.part: _TOTALS[name]} if name in _TOTALS else {found.part: (name, False)}
    kinds = [(kind, f"{100 * share:.0f} %") for kind, share in found.kinds]
    return _told(found.part, found.total, words), kinds


def _spread(spread: Sequence[tuple[float, float]]) -> Shown:
    """How likely each value is, summed over equal stretches of 0..1, and in words where most of it lies."""
    sums = [0.0] * _SPREAD_BINS
    for value, probability in spread:
        sums[min(int(value * _SPREAD_BINS), _SPREAD_BINS - 1)] += probability
    low, median, high = (_quantile(spread, share) for share in (0.1, 0.5, 0.9))
    figure = Figure(figsize=(4.6, 1.7), layout="constrained")
    axes = figure.add_subplot()
    width = 100 / _SPREAD_BINS
    places = [width * (number + 0.5) for number in range(_SPREAD_BINS)]
    axes.bar(places, [100 * one for one in sums], width=0.9 * width, color=_COLOR)
    axes.set(xlim=(0, 100), xlabel="value, %", ylabel="probability, %")
    words = (
        f"the middle of what the model holds likely is {100 * median:.1f} %; with 80 % probability it lies "
        f"between {100 * low:.1f} % and {100 * high:.1f} %"
    )
    return Shown(_drawn(figure), words)


def _quantile(spread: Sequence[tuple[float, float]], share: float) -> float:
    """The smallest value up to which at least `share` of the probability lies."""
    below = 0.0
    for value, probability in spread:
        below += probability
        if below >= share - 1e-9:
            return value
    return spread[-1][0]


def _curve(values: Sequence[float] | None, scenes: Sequence[tuple[float, float]]) -> Shown | None:
    """A step a scene over the time line."""
    if values is None:
        return None
    figure = Figure(figsize=(4.6, 1.7), layout="constrained")
    axes = figure.add_subplot()
    edges = [start_s for start_s, _ in scenes] + [scenes[-1][1]]
    axes.stairs(values, edges, fill=True, alpha=0.25, color=_COLOR)
    axes.stairs(values, edges, linewidth=2, color=_COLOR)
    axes.set(xlim=(edges[0], max(edges[-1], edges[0] + 1e-3)), ylim=(0, max(1.05, *values)), xlabel="seconds")
    words = ", ".join(f"scene {number}: {value:.2f}" for number, value in enumerate(values, 1))
    return Shown(_drawn(figure), words)


def _drawn(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return _address("image/svg+xml", content.getvalue())
