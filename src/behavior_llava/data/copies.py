"""Whether two pictures are one, though one was recompressed, halved, cut a little or mirrored.

In: media files. Out: of every frame that is compared its difference hash and a sketch of its details, and of
    two files how alike their details are. Details are what is left without the slow changes of brightness,
    which a sky and a ground share with any other. evaluation/contamination.py calls `look` and `compare` in
    processes that can be killed, which import no more than this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage

from behavior_llava.core import media
from behavior_llava.core.media import MediaFault
from behavior_llava.core.schema import Media, MediaKind

STEP_S, MAX_FRAMES = 1.0, 60
"""Frames of a video that are compared; of one longer than a minute they lie further apart."""
SIDE, MARGIN, STEPS = 96, 3, 3
"""Pictures are compared at SIDE x SIDE; one may be the other with 0 to STEPS times MARGIN cut off a side."""
DETAIL_SIDE, SKETCH_SIDE = 32, 8
"""Details are compared at the first; the sketch of them that tells what is worth comparing has the second."""
MIN_DETAIL = 2.0
"""Standard deviation of a picture's details, in gray levels, below which it is plain: coding noise has 1."""
_BORDER = 3 * SIDE // 8
ONE = 127
"""The norm of a sketch."""
_BOXES = [
    (MARGIN * left, MARGIN * top, SIDE - MARGIN * right, SIDE - MARGIN * bottom)
    for left in range(STEPS + 1)
    for top in range(STEPS + 1)
    for right in range(STEPS + 1)
    for bottom in range(STEPS + 1)
]

Look = tuple[str, str, str]
"""Of one frame: its hash, that of the mirrored picture, and the sketch, which is empty where it is plain."""

FRAMES = [STEP_S, MAX_FRAMES, SIDE, SKETCH_SIDE, MIN_DETAIL]
DETAILS = [MARGIN, STEPS, DETAIL_SIDE]
"""What the results of `look` and of `compare` depend on beside the file."""


def _pictures(item: Media) -> list[Image.Image]:
    """The frames of a file that are compared, in gray and of one size."""
    if media.sha256(Path(item.path)) != item.sha256:
        raise MediaFault("media_changed")
    if item.kind == "image":
        frames: Iterable[Image.Image] = [media.open_image(Path(item.path), side=SIDE)]
    else:
        spread = media.spread_frames(Path(item.path), step_s=STEP_S, most=MAX_FRAMES)
        frames = (frame for _, frame in spread)
    return [frame.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX) for frame in frames]


def look(path: str, kind: MediaKind, sha256: str) -> list[Look]:
    """What the frames of a file that are compared look like.

    Raises:
        MediaFault: with the reason; media_changed where the file is not the one of the hash any more.
    """
    return [
        (media.dhash(one), media.dhash(ImageOps.mirror(one)), sketch(one))
        for one in _pictures(Media(path, kind, sha256))
    ]


def compare(ours: Media, theirs: Media, pairs: Sequence[tuple[int, int, bool]]) -> list[float]:
    """How alike frames of two files are: (number of ours, of theirs, whether ours is to be mirrored).

    Raises:
        MediaFault: as `look`.
    """
    own, other = _pictures(ours), _pictures(theirs)
    return [
        similarity(ImageOps.mirror(own[first]) if is_mirrored else own[first], other[second])
        for first, second, is_mirrored in pairs
    ]


def similarity(first: Image.Image, second: Image.Image) -> float:
    """The correlation of two pictures' details, -1 to 1, wherever one lies in the other best.

    Both pictures are gray and SIDE x SIDE.
    """
    ours, theirs = _details(first), _details(second)
    return max(_best_inside(ours, theirs), _best_inside(theirs, ours))


def _details(picture: Image.Image) -> NDArray[np.float32]:
    gray = np.asarray(picture, np.float32)
    return gray - np.asarray(ndimage.gaussian_filter(gray, SIDE / 8), np.float32)


def _is_plain(picture: Image.Image) -> bool:
    # continued beyond its borders as it goes on there, so that an even gradient is plain too
    wide = np.pad(np.asarray(picture, np.float32), _BORDER, "reflect", reflect_type="odd")
    details = wide - np.asarray(ndimage.gaussian_filter(wide, SIDE / 8), np.float32)
    return bool(details[_BORDER:-_BORDER, _BORDER:-_BORDER].std() < MIN_DETAIL)


def _best_inside(part: NDArray[np.float32], whole: NDArray[np.float32]) -> float:
    target = _normed(Image.fromarray(part), (0, 0, SIDE, SIDE))
    around = Image.fromarray(whole)
    return float(max(target @ _normed(around, box) for box in _BOXES))


def sketch(picture: Image.Image) -> str:
    """The details as SKETCH_SIDE x SKETCH_SIDE signed bytes in hex; empty where there are next to none."""
    if _is_plain(picture):
        return ""
    small = Image.fromarray(_details(picture)).resize((SKETCH_SIDE, SKETCH_SIDE), Image.Resampling.BOX)
    values = np.asarray(small, np.float32)
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return np.rint(ONE * values / length).astype(np.int8).tobytes().hex() if length else ""


def unpacked(packed: str) -> NDArray[np.int8]:
    """A sketch as SKETCH_SIDE x SKETCH_SIDE values."""
    return np.frombuffer(bytes.fromhex(packed), np.int8).reshape(SKETCH_SIDE, SKETCH_SIDE)


def _normed(picture: Image.Image, box: tuple[float, float, float, float]) -> NDArray[np.float32]:
    small = picture.resize((DETAIL_SIDE, DETAIL_SIDE), Image.Resampling.BILINEAR, box)
    values = np.asarray(small, np.float32).ravel()
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length else values
