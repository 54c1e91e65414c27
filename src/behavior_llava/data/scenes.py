"""What the verbalizer is told of a media item's picture: its size, its scenes and their colors.

In: the path of an image or video; out: a `SceneLook`. `look` is called by data/viewing.py inside
`core.workers.Workers`, in a process that can be killed; everything it returns can be pickled.

Scenes follow each other where the view has changed by 30 degrees: see `ThirtyDegrees`. Cuts are found in the
same decoding pass (ContentDetector of PySceneDetect): they are counted, and can take the rule's place. The
frame shown of a scene is its middle one, which is past a cross-fade that the scene begins with.

Colors are named by a rule instead of the paper's U2-Net mask:
- A pixel has the name of the nearest prototype in Lab.
- Background is all that is connected with the border over colors common on the border; the rest is
  foreground. Where that leaves almost nothing on one side, the middle half is foreground and what surrounds
  it is background.
- Tone: see `_tone`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import av.error
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray
from PIL import Image
from scenedetect import ContentDetector, FrameTimecode
from scipy import ndimage

from behavior_llava.core import media
from behavior_llava.core.manifest import code_version
from behavior_llava.core.media import MediaFault
from behavior_llava.core.schema import MediaKind

Tone = Literal["neutral", "cool", "warm"]
SceneRule = Literal["thirty_degrees", "cuts"]
Orientation = Literal["landscape", "portrait", "square"]
Pace = Literal["low", "medium", "high"]

SIDE = 64
"""Longest side at which pictures are looked at; averaging also removes coding noise."""
CUT_THRESHOLD = 27.0
"""Mean change of hue, saturation and brightness (0..255) that is a cut.

Source: default of ContentDetector, https://www.scenedetect.com/docs/ (detect-content).
"""
MIN_SCENE_S = 0.6
"""Source: default of PySceneDetect's command line, https://www.scenedetect.com/docs/ (min-scene-len)."""
MIN_ANGLE_DEGREES = 30.0
"""How much a view must differ from the one before to be a new one.

Source: the 30-degree rule of film editing, which the Behavior-LLaVA paper names for choosing frames; it gives
no algorithm. Ours is `ThirtyDegrees`.
"""
GRID = 3
"""Places of a view, each way."""
LEVELS = 5
"""Levels of red, of green and of blue that a view tells apart: the coarsest at which films of the sandbox
keep all their shots.
"""
MAX_FRAMES = 60_000
"""Frames decoded before a video counts as endless: 16 minutes at 60 fps; the paper's longest have 500 s."""
MAX_KEPT = 1024
"""Frames held in memory for their colors; of a longer video every second, fourth, ... is kept."""

SQUARE_RATIO = 1.05
"""A picture whose longer side is at most so many times the shorter is square to the eye; ours."""
LOW_PACE_CUTS_PER_MINUTE, MEDIUM_PACE_CUTS_PER_MINUTE = 6.0, 20.0
"""Below the first the pace is low, below the second medium. The words are those of LAMBDA, whose thresholds
are not known to us; these are ours.
"""

COLORS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "black": ((0, 0, 0), (35, 35, 35)),
    "gray": ((80, 80, 80), (128, 128, 128), (185, 185, 185)),
    "white": ((255, 255, 255), (232, 232, 232)),
    "red": ((220, 20, 30), (130, 15, 20)),
    "orange": ((255, 140, 0), (235, 105, 30)),
    "yellow": ((255, 230, 0), (245, 230, 130)),
    "green": ((20, 150, 50), (130, 210, 110), (20, 75, 30)),
    "cyan": ((0, 200, 210), (160, 230, 235)),
    "blue": ((25, 70, 220), (120, 180, 235), (20, 30, 100)),
    "purple": ((125, 45, 165), (180, 150, 220)),
    "pink": ((255, 130, 180), (255, 190, 205), (225, 40, 140)),
    "brown": ((120, 70, 30), (165, 115, 70)),
}
"""Twelve basic color names with sRGB prototypes of ours; several where one would be too coarse."""

_SAME_S = 1e-6
"""Times this close are one: they were fractions once."""
_NAMES = tuple(COLORS)
_MIN_BORDER_SHARE = 0.1
_MIN_SIDE_SHARE = 0.03
_MIN_NAME_SHARE = 0.12
_MAX_NAMES = 3


@dataclass(frozen=True, slots=True)
class Colors:
    """Names of COLORS, most frequent first, at most three a side, never empty."""

    foreground: tuple[str, ...]
    background: tuple[str, ...]
    tone: Tone


@dataclass(frozen=True, slots=True)
class Scene:
    """One stretch of a media item; of an image all times are 0.

    Attributes:
        time_s: its middle, the time of the frame to show and to caption.
    """

    start_s: float
    end_s: float
    time_s: float
    colors: Colors


@dataclass(frozen=True, slots=True)
class SceneLook:
    """The scenes of one media item, in order, without gaps, and what is true of it as a whole.

    Attributes:
        num_found: scenes there were before the shortest were merged; 1 for an image.
        num_cuts: whatever the rule of the scenes; 0 for an image.
        duration_s: as shown, from the first frame to the end of the last; None for an image.
        width, height: in pixels, turned upright.
    """

    scenes: tuple[Scene, ...]
    num_found: int
    num_cuts: int
    duration_s: float | None
    width: int
    height: int


def look(path: str, kind: MediaKind, max_scenes: int, rule: SceneRule = "thirty_degrees") -> SceneLook:
    """The scenes of an image (one) or a video (at most `max_scenes`, at least 1) with their colors.

    Raises:
        MediaFault: media_missing, media_unreadable, image_broken, image_too_large, video_broken, video_empty,
            video_without_picture, video_endless, decoder_out_of_memory.
    """
    if kind == "image":
        with media._opened(Path(path)) as file:
            image, (width, height) = media._decode_image(file, 2 * SIDE)
        image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
        scene = Scene(0.0, 0.0, 0.0, colors_of(np.asarray(image)))
        return SceneLook((scene,), 1, 0, None, width, height)
    watched = _watch(Path(path))
    spans = watched.spans(rule)
    scenes = tuple(_scene(span, watched.kept) for span in merge(spans, max_scenes))
    num_cuts = len(watched.spans("cuts")) - 1
    duration_s = watched.end_s - watched.start_s
    return SceneLook(scenes, len(spans), num_cuts, duration_s, watched.width, watched.height)


def settings(kind: MediaKind, max_scenes: int, rule: SceneRule) -> dict[str, Any]:
    """Everything that what is seen of a file depends on, besides the file."""
    seen: dict[str, Any] = {"code": code_version(), "kind": kind, "side": SIDE, "colors": COLORS}
    if kind == "image":
        return seen
    cutting = {"threshold": CUT_THRESHOLD, "min_scene_s": MIN_SCENE_S}
    limits = {"max_frames": MAX_FRAMES, "max_kept": MAX_KEPT}
    view = {"angle": MIN_ANGLE_DEGREES, "grid": GRID, "levels": LEVELS}
    return seen | cutting | limits | view | {"max_scenes": max_scenes, "rule": rule}


def orientation(width: int, height: int) -> Orientation:
    """How a picture of this size, both at least 1, lies."""
    if max(width, height) <= SQUARE_RATIO * min(width, height):
        return "square"
    return "landscape" if width > height else "portrait"


def pace(num_cuts: int, duration_s: float) -> Pace:
    """How fast a video is cut; its duration is above 0."""
    per_minute = 60 * num_cuts / duration_s
    if per_minute < LOW_PACE_CUTS_PER_MINUTE:
        return "low"
    return "medium" if per_minute < MEDIUM_PACE_CUTS_PER_MINUTE else "high"


# ---- the 30-degree rule ------------------------------------------------------------------------------------


def _shared(steps_0to1: NDArray[np.float64], levels: int) -> NDArray[np.float32]:
    """Each value's shares in `levels` levels from 0 to 1; they sum to 1.

    A value between two levels belongs to them by cos² and sin²: as it moves, the angle between its shares
    before and after grows evenly, to 90 degrees from level to level. Nothing jumps at a boundary.
    """
    distance = np.abs(steps_0to1[:, None] * (levels - 1) - np.arange(levels))
    return (np.cos(np.pi / 2 * np.clip(distance, 0, 1)) ** 2).astype(np.float32)


_COLOR_SHARES = _shared(np.arange(256) / 255, LEVELS)


@cache
def _place_shares(height: int, width: int) -> NDArray[np.float32]:
    """Each pixel's shares in the places of the grid, (pixels, places); a row sums to 1."""

    def along(size: int) -> NDArray[np.float32]:
        middle = (np.arange(size) + 0.5) / size
        # the middle of the first place is 0, that of the last 1
        return _shared(np.clip((middle - 0.5 / GRID) / (1 - 1 / GRID), 0, 1), GRID)

    places = along(height)[:, None, :, None] * along(width)[None, :, None, :]
    return places.reshape(height * width, GRID * GRID)


def view_of(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A small picture as a distribution over place (a grid of 3 x 3) and color (5 x 5 x 5); it sums to 1."""
    # every second pixel each way shows the same in a quarter of the time
    pixels = pixels_HWC[::2, ::2]
    places = _place_shares(*pixels.shape[:2])
    red, green, blue = (_COLOR_SHARES[pixels[..., channel].ravel()] for channel in range(3))
    first = (places[:, :, None] * red[:, None, :]).reshape(len(places), -1)
    second = (green[:, :, None] * blue[:, None, :]).reshape(len(places), -1)
    shares = (first.T @ second).ravel().astype(np.float64)
    return shares / shares.sum()


def angle_degrees(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The Bhattacharyya angle of two distributions: 0 where they are equal, 90 with nothing in common."""
    return math.degrees(math.acos(min(1.0, float(np.sqrt(first * second).sum()))))


@dataclass
class ThirtyDegrees:
    """Where scenes begin: told every view of a video in order, then where it ends.

    A scene's chosen view is the one shown MIN_SCENE_S / 2 after its beginning: what a cut or a quick fade has
    come to by then. The next scene begins with the first view that is, with all that follow it for
    MIN_SCENE_S, at least MIN_ANGLE_DEGREES from the chosen one. So
    - each chosen view is at least MIN_ANGLE_DEGREES from the one before;
    - every view of a scene is nearer than that to the chosen one, except in its first MIN_SCENE_S and in
      changes that are over, or at the end, before they have lasted MIN_SCENE_S: flashes are no scenes;
    - no scene is shorter than MIN_SCENE_S, unless the video is.

    Attributes:
        starts_s: when scenes begin, ascending; whole once `end` was called.
    """

    starts_s: list[float] = field(default_factory=list)
    _chosen: NDArray[np.float64] | None = None
    _change_s: float | None = None
    """When the change under way began; the first view is a change too."""
    _changed_to: NDArray[np.float64] | None = None

    def see(self, time_s: float, view: NDArray[np.float64]) -> None:
        """The view from this time on."""
        self._settle(time_s)
        if self._chosen is not None and angle_degrees(self._chosen, view) < MIN_ANGLE_DEGREES:
            self._change_s = None
        elif self._change_s is None:
            self._change_s, self._changed_to = time_s, view
        elif time_s <= self._change_s + MIN_SCENE_S / 2 + _SAME_S:
            self._changed_to = view

    def end(self, time_s: float) -> None:
        """The last view is shown until then."""
        self._settle(time_s)
        if not self.starts_s and self._change_s is not None:
            self.starts_s.append(self._change_s)

    def _settle(self, time_s: float) -> None:
        """A change that has lasted until now may be a scene."""
        if self._change_s is not None and time_s >= self._change_s + MIN_SCENE_S - _SAME_S:
            self.starts_s.append(self._change_s)
            self._chosen, self._change_s = self._changed_to, None


# ---- one pass over a video ---------------------------------------------------------------------------------


@dataclass
class _Watched:
    """What one pass over a video leaves.

    Attributes:
        width, height: of the first picture, turned upright.
        kept: (time, small RGB picture) of frames at regular distance, ascending.
    """

    start_s: float = 0.0
    end_s: float = 0.0
    width: int = 0
    height: int = 0
    cuts_s: list[float] = field(default_factory=list)
    changes: ThirtyDegrees = field(default_factory=ThirtyDegrees)
    kept: list[tuple[float, NDArray[np.uint8]]] = field(default_factory=list)

    def begin(self, frame: VideoFrame, time_s: float) -> None:
        """The first frame."""
        self.start_s = time_s
        is_sideways = frame.rotation % 180 == 90
        self.width, self.height = (frame.height, frame.width) if is_sideways else (frame.width, frame.height)

    def spans(self, rule: SceneRule) -> list[tuple[float, float]]:
        """(start, end) of every scene."""
        edges_s = self.cuts_s if rule == "cuts" else self.changes.starts_s
        inner = [edge for edge in sorted(set(edges_s)) if self.start_s < edge < self.end_s]
        edges = [self.start_s, *inner, self.end_s]
        return list(itertools.pairwise(edges))


def _watch(path: Path) -> _Watched:
    try:
        return _decode(path)
    except MemoryError:  # FFmpeg's is one of Python's too
        raise MediaFault(media.OUT_OF_MEMORY) from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaFault("video_broken") from error


def _decode(path: Path) -> _Watched:
    detector = ContentDetector(threshold=CUT_THRESHOLD, min_scene_len=MIN_SCENE_S)
    watched, interval_s = _Watched(), MIN_SCENE_S / 3
    with media._open_video(path) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        scale = SIDE / max(stream.width, stream.height, 1)
        size = (max(1, round(stream.width * scale)), max(1, round(stream.height * scale)))
        reformatter = VideoReformatter()
        time_s = before_s = None
        for number, frame in enumerate(container.decode(stream)):
            if number >= MAX_FRAMES:
                raise MediaFault("video_endless")
            before_s, time_s = time_s, _time_s(frame, time_s, 1 / rate)
            if before_s is None:
                watched.begin(frame, time_s)
            pixels = _small(reformatter, frame, size)
            watched.cuts_s += [
                cut.seconds for cut in detector.process_frame(FrameTimecode(time_s, rate), pixels)
            ]
            watched.changes.see(time_s, view_of(pixels[..., ::-1]))
            if not watched.kept or time_s - watched.kept[-1][0] >= interval_s:
                watched.kept.append((time_s, pixels[..., ::-1]))
            if len(watched.kept) > MAX_KEPT:
                watched.kept, interval_s = watched.kept[::2], 2 * interval_s
    if time_s is None:
        raise MediaFault("video_empty")
    watched.cuts_s += [cut.seconds for cut in detector.post_process(FrameTimecode(time_s, rate))]
    watched.end_s = time_s + (1 / rate if before_s is None else time_s - before_s)
    if watched.end_s <= watched.start_s:  # so late a time that a frame's length vanishes beside it
        raise MediaFault("video_broken")
    watched.changes.end(watched.end_s)
    return watched


def _time_s(frame: VideoFrame, before_s: float | None, step_s: float) -> float:
    """When a frame is shown; after the one before, whatever the file says."""
    time_s = frame.time
    if time_s is None or time_s < 0:
        time_s = 0.0 if before_s is None else before_s + step_s
    return time_s if before_s is None or time_s > before_s else before_s + step_s


def _small(reformatter: VideoReformatter, frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
    # One reformatter, one thread: a scaler of its own for every frame costs 10 times as much on small clips
    small = reformatter.reformat(
        frame, width=size[0], height=size[1], format="bgr24", interpolation=Interpolation.AREA, threads=1
    )
    return np.asarray(small.to_ndarray(), np.uint8)


def merge(spans: Sequence[tuple[float, float]], max_scenes: int) -> list[tuple[float, float]]:
    """At most `max_scenes` spans: the shortest is joined with its shorter neighbor, again and again."""
    if max_scenes < 1:
        raise ValueError(f"max_scenes is {max_scenes}, not at least 1")
    merged = list(spans)

    def length(place: int) -> float:
        return merged[place][1] - merged[place][0]

    while len(merged) > max_scenes:
        shortest = min(range(len(merged)), key=length)
        neighbors = [place for place in (shortest - 1, shortest + 1) if 0 <= place < len(merged)]
        first, second = sorted((shortest, min(neighbors, key=length)))
        merged[first : second + 1] = [(merged[first][0], merged[second][1])]
    return merged


def _scene(span: tuple[float, float], kept: Sequence[tuple[float, NDArray[np.uint8]]]) -> Scene:
    middle_s = (span[0] + span[1]) / 2
    inside = [item for item in kept if span[0] <= item[0] < span[1]]
    _, pixels = min(inside or kept, key=lambda item: abs(item[0] - middle_s))
    return Scene(span[0], span[1], middle_s, colors_of(pixels))


# ---- colors ------------------------------------------------------------------------------------------------


def _lab(pixels_RGB: NDArray[np.float64]) -> NDArray[np.float64]:
    """From sRGB 0..255 (..., 3) to CIE L*a*b* under D65.

    Source: IEC 61966-2-1 (sRGB) and CIE 15.
    """
    scaled = pixels_RGB / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )


_PROTOTYPES = _lab(np.array([shade for shades in COLORS.values() for shade in shades], np.float64))
_PROTOTYPE_NAMES = np.array([index for index, shades in enumerate(COLORS.values()) for _ in shades])


def _name_of(lab: NDArray[np.float64]) -> NDArray[np.intp]:
    """The number of the nearest prototype's name."""
    # |x - p|^2 without |x|^2, which is the same for every prototype
    distances = (_PROTOTYPES**2).sum(axis=-1) - 2 * (lab @ _PROTOTYPES.T)
    return _PROTOTYPE_NAMES[distances.argmin(axis=-1)]


@cache
def _tables() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Lab and name of all colors at 5 bits a channel: looking them up is ten times faster than computing
    them.
    """
    steps = np.arange(32) * 8 + 4
    colors = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _lab(colors.astype(np.float64))
    return lab, _name_of(lab)


def colors_of(pixels_HWC: NDArray[np.uint8]) -> Colors:
    """The colors of one small RGB picture; any size works, time and memory grow with it."""
    all_lab, all_names = _tables()
    coarse = (pixels_HWC >> 3).astype(np.intp)
    index = (coarse[..., 0] << 10) | (coarse[..., 1] << 5) | coarse[..., 2]
    lab, names = all_lab[index], all_names[index]
    is_background = _background(names)
    return Colors(_most(names[~is_background]), _most(names[is_background]), _tone(lab))


def _background(names: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which pixels lie behind; never all and never none, unless the picture is a single line."""
    is_border = np.zeros(names.shape, np.bool_)
    is_border[0], is_border[-1], is_border[:, 0], is_border[:, -1] = True, True, True, True
    counts = np.bincount(names[is_border], minlength=len(_NAMES))
    common = np.flatnonzero(counts >= _MIN_BORDER_SHARE * is_border.sum())
    may_be = np.isin(names, common)
    is_background = np.asarray(ndimage.binary_propagation(is_border & may_be, mask=may_be), np.bool_)
    if _MIN_SIDE_SHARE <= is_background.mean() <= 1 - _MIN_SIDE_SHARE:
        return is_background
    height, width = names.shape
    is_background = np.ones(names.shape, np.bool_)
    is_background[height // 4 : height - height // 4, width // 4 : width - width // 4] = False
    return is_background


def _most(names: NDArray[np.intp]) -> tuple[str, ...]:
    counts = np.bincount(names, minlength=len(_NAMES))
    order = np.argsort(-counts, kind="stable")[:_MAX_NAMES]
    kept = [index for index in order if counts[index] >= _MIN_NAME_SHARE * names.size]
    return tuple(_NAMES[index] for index in kept or order[:1])


def _tone(lab: NDArray[np.float64]) -> Tone:
    """Warm or cool where a fifth of the pixels is colorful, most of them on one side; else neutral.

    Most is 1.5 times the other side's. Colorful is a chroma of 12 or more; warm are the hues from
    pink (-30 degrees in Lab) over red and orange to yellow (110).
    """
    is_colorful = np.hypot(lab[..., 1], lab[..., 2]) >= 12
    if is_colorful.mean() < 0.2:
        return "neutral"
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
    warm = int((is_colorful & (hue >= -30) & (hue < 110)).sum())
    cool = int(is_colorful.sum()) - warm
    if warm >= 1.5 * cool:
        return "warm"
    return "cool" if cool >= 1.5 * warm else "neutral"
