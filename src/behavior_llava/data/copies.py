"""Whether two pictures are one, though one was recompressed, halved, cut a little or mirrored.

In: media files. Out: of every frame that is compared its difference hash and a sketch of its details, and of
    two files how alike their details are. Details are what is left without the slow changes of brightness,
    which a sky and a ground share with any other. evaluation/contamination.py calls `look` and `compare` in
    processes that can be killed, which import no more than this.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
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


def _pictures(item: Media, numbers: Collection[int] | None = None) -> dict[int, Image.Image]:
    """The frames of a file that are compared, or those of them with these numbers, in gray and of one size.

    Raises:
        MediaFault: as `look`.
    """
    if media.sha256(Path(item.path)) != item.sha256:
        raise MediaFault("media_changed")
    if item.kind == "image":
        frames: Iterable[Image.Image] = [media.open_image(Path(item.path), side=SIDE)]
    else:
        spread = media.spread_frames(Path(item.path), step_s=STEP_S, most=MAX_FRAMES, numbers=numbers)
        frames = (frame for _, frame in spread)
    names = itertools.count() if numbers is None else sorted(numbers)
    small = (frame.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX) for frame in frames)
    return dict(zip(names, small, strict=False))


def look(path: str, kind: MediaKind, sha256: str) -> list[Look]:
    """What the frames of a file that are compared look like.

    Raises:
        MediaFault: with the reason; media_changed where the file is not the one of the hash any more.
    """
    return [
        (media.dhash(one), media.dhash(ImageOps.mirror(one)), sketch(one))
        for one in _pictures(Media(path, kind, sha256)).values()
    ]


Pair = tuple[int, int, bool]
"""A frame of ours, one of theirs, and whether ours is to be mirrored."""


def compare(ours: Media, others: Sequence[tuple[Media, Sequence[Pair]]]) -> list[list[float] | str]:
    """How alike frames of a file and of others are: a number a pair for every other file, or the reason why
    it could not be compared.

    Raises:
        MediaFault: as `look`, of our file.
    """
    wanted = {(first, is_mirrored) for _, pairs in others for first, _, is_mirrored in pairs}
    pictures = _pictures(ours, {number for number, _ in wanted})
    if len(pictures) < len({number for number, _ in wanted}):
        raise MediaFault("media_changed")
    own = {
        (number, is_mirrored): Cuts(ImageOps.mirror(pictures[number]) if is_mirrored else pictures[number])
        for number, is_mirrored in wanted
    }
    found: list[list[float] | str] = []
    for item, pairs in others:
        try:
            pictures = _pictures(item, {second for _, second, _ in pairs})
            other = {number: Cuts(picture) for number, picture in pictures.items()}
            found.append(
                [own[first, is_mirrored].likeness(other[second]) for first, second, is_mirrored in pairs]
            )
        except MediaFault as fault:
            found.append(fault.reason)
    return found


class Cuts:
    """The details of a picture, whole and with everything cut off that may be.

    Args:
        picture: gray and SIDE x SIDE.
    """

    def __init__(self, picture: Image.Image) -> None:
        each = _scaled(_details(np.asarray(picture, np.float32)))
        each -= each.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(each, axis=1, keepdims=True)
        self._each = np.divide(each, lengths, out=np.zeros_like(each), where=lengths > 0)

    def likeness(self, other: Cuts) -> float:
        """The correlation of two pictures' details, -1 to 1, wherever one lies in the other best; 0 where
        one has none.
        """
        return float(max((self._each @ other._each[0]).max(), (other._each @ self._each[0]).max()))


def _details(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(gray - _blur() @ gray @ _blur().T, np.float32)


@cache
def _blur() -> NDArray[np.float32]:
    """What a column is multiplied with for its slow changes: [SIDE, SIDE]."""
    return np.asarray(ndimage.gaussian_filter1d(np.eye(SIDE), SIDE / 8, axis=0), np.float32)


def _is_plain(picture: Image.Image) -> bool:
    # continued beyond its borders as it goes on there, so that an even gradient is plain too
    wide = np.pad(np.asarray(picture, np.float32), _BORDER, "reflect", reflect_type="odd")
    details = wide - np.asarray(ndimage.gaussian_filter(wide, SIDE / 8), np.float32)
    return bool(details[_BORDER:-_BORDER, _BORDER:-_BORDER].std() < MIN_DETAIL)


def _scaled(details: NDArray[np.float32]) -> NDArray[np.float32]:
    """The details at DETAIL_SIDE, whole in the first row and cut in the others: [cuts of both, pixels]."""
    scales, cuts = _scales(), len(_CUTS)
    wide = details @ scales.transpose(1, 0, 2).reshape(SIDE, -1)
    tall = (scales.transpose(0, 2, 1).reshape(-1, SIDE) @ wide).reshape(cuts, DETAIL_SIDE, cuts, DETAIL_SIDE)
    return np.asarray(tall.transpose(0, 2, 1, 3), np.float32).reshape(cuts * cuts, -1)


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
    details = _details(np.asarray(picture, np.float32))
    small = Image.fromarray(details).resize((SKETCH_SIDE, SKETCH_SIDE), Image.Resampling.BOX)
    values = np.asarray(small, np.float32)
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return np.rint(ONE * values / length).astype(np.int8).tobytes().hex() if length else ""


def unpacked(packed: str) -> NDArray[np.int8]:
    """A sketch as SKETCH_SIDE x SKETCH_SIDE values."""
    return np.frombuffer(bytes.fromhex(packed), np.int8).reshape(SKETCH_SIDE, SKETCH_SIDE)
