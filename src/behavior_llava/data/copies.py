"""Whether two pictures are one, though one was recompressed, halved, cut a little or mirrored.

In: media files. Out: of every frame that is compared its difference hash and a sketch of its details, and of
    two files how alike their details are. Details are what is left without the slow changes of brightness,
    which a sky and a ground share with any other. evaluation/contamination.py calls `look` and `compare` in
    processes that can be killed, which import no more than this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
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
_CUTS = [(first, last) for first in range(STEPS + 1) for last in range(STEPS + 1)]
"""Of a width or a height: how many times MARGIN is cut off its ends."""

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


Pair = tuple[int, int, bool]
"""A frame of ours, one of theirs, and whether ours is to be mirrored."""


def compare(ours: Media, others: Sequence[tuple[Media, Sequence[Pair]]]) -> list[list[float] | str]:
    """How alike frames of a file and of others are: a number a pair for every other file, or the reason why
    it could not be compared.

    Raises:
        MediaFault: as `look`, of our file.
    """
    own = _pictures(ours)
    found: list[list[float] | str] = []
    for item, pairs in others:
        try:
            other = _pictures(item)
        except MediaFault as fault:
            found.append(fault.reason)
            continue
        found.append(
            [
                similarity(ImageOps.mirror(own[first]) if is_mirrored else own[first], other[second])
                for first, second, is_mirrored in pairs
            ]
        )
    return found


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
    """The best correlation of the part with what is left of the whole when something is cut off its sides."""
    all_of_it = _CUTS.index((0, 0))
    target = _scaled(part)[all_of_it, :, all_of_it]
    target = target - target.mean()
    length = float(np.linalg.norm(target))
    if not length:
        return 0.0
    left = _scaled(whole)
    left -= left.mean(axis=(1, 3), keepdims=True)
    lengths = np.sqrt(np.einsum("ahbw,ahbw->ab", left, left))
    alike = np.einsum("ahbw,hw->ab", left, target / length)
    return float(np.divide(alike, lengths, out=np.zeros_like(alike), where=lengths > 0).max())


def _scaled(details: NDArray[np.float32]) -> NDArray[np.float32]:
    """The details at DETAIL_SIDE with everything cut off that may be: [cuts of the height, height, cuts of
    the width, width].
    """
    scales = _scales()
    wide = details @ scales.transpose(1, 0, 2).reshape(SIDE, -1)
    tall = scales.transpose(0, 2, 1).reshape(-1, SIDE) @ wide
    return tall.astype(np.float32, copy=False).reshape(len(_CUTS), DETAIL_SIDE, len(_CUTS), DETAIL_SIDE)


@cache
def _scales() -> NDArray[np.float32]:
    """What Pillow multiplies a row with when it cuts and scales it: [cuts, SIDE, DETAIL_SIDE]."""
    each = Image.fromarray(np.eye(SIDE, dtype=np.float32))
    return np.stack(
        [
            np.asarray(
                each.resize(
                    (DETAIL_SIDE, SIDE),
                    Image.Resampling.BILINEAR,
                    (MARGIN * first, 0, SIDE - MARGIN * last, SIDE),
                ),
                np.float32,
            )
            for first, last in _CUTS
        ]
    )


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
