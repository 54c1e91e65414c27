"""Whether two pictures are one, though one was recompressed, halved, cut a little or mirrored.

In: media files. Out: of every frame that is compared its difference hash and a sketch of its details, and of
    two files how alike their details are. Details are what is left without the slow changes of brightness,
    which a sky and a ground share with any other. evaluation/contamination.py calls `look` and `compare` in
    processes that can be killed, which import no more than this.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
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
_AT_A_TIME = 64
"""Pictures that one is compared with together."""
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
"""A frame of the first file, one of the other, and whether one of them is to be mirrored."""


def compare(one: Media, others: Sequence[tuple[Media, Sequence[Pair]]]) -> list[list[float] | str]:
    """How alike frames of a file and of others are: a number a pair for every other file, or the reason why
    it could not be compared.

    What is known of the others' pictures is kept from call to call: the same ones come again.

    Raises:
        MediaFault: as `look`, of the first file.
    """
    wanted = {(first, is_mirrored) for _, pairs in others for first, _, is_mirrored in pairs}
    pictures = _pictures(one, {number for number, _ in wanted})
    if len(pictures) < len({number for number, _ in wanted}):
        raise MediaFault("media_changed")
    found: list[list[float] | str] = []
    # its frame -> where the values go, and what it is compared with
    meetings: dict[tuple[int, bool], list[tuple[list[float], int, Shown]]] = {key: [] for key in wanted}
    for item, pairs in others:
        try:
            shown = _shown(item, {second for _, second, _ in pairs})
        except MediaFault as fault:
            found.append(fault.reason)
            continue
        values = [0.0] * len(pairs)
        found.append(values)
        for place, (first, second, is_mirrored) in enumerate(pairs):
            meetings[first, is_mirrored].append((values, place, shown[second]))
    for (number, is_mirrored), met in meetings.items():
        picture = ImageOps.mirror(pictures[number]) if is_mirrored else pictures[number]
        for start in range(0, len(met), _AT_A_TIME):
            some = met[start : start + _AT_A_TIME]
            for (values, place, _), value in zip(
                some, likeness(picture, [other for *_, other in some]), strict=True
            ):
                values[place] = value
    return found


@dataclass(frozen=True, slots=True)
class Shown:
    """What others are compared with.

    Attributes:
        gray: SIDE x SIDE, 0..255.
        whole: the details at DETAIL_SIDE, without their mean and of length 1; zeros where there are none.
        lengths: those of the details with everything cut off that may be, without their mean.
    """

    gray: NDArray[np.uint8]
    whole: NDArray[np.float32]
    lengths: NDArray[np.float32]


_KNOWN: OrderedDict[tuple[str, int], Shown] = OrderedDict()
_MOST_KNOWN = 8192
"""Pictures of which a process keeps 14 kB each."""


def _shown(item: Media, numbers: Collection[int]) -> dict[int, Shown]:
    """The frames with these numbers, as far as the file has them."""
    if any((item.sha256, number) not in _KNOWN for number in numbers):
        pictures = _pictures(item, numbers)
        if len(pictures) < len(numbers):
            raise MediaFault("media_changed")
        _KNOWN.update({(item.sha256, number): shown(picture) for number, picture in pictures.items()})
    found = {}
    for number in numbers:
        _KNOWN.move_to_end((item.sha256, number))
        found[number] = _KNOWN[item.sha256, number]
    while len(_KNOWN) > _MOST_KNOWN:
        _KNOWN.popitem(last=False)
    return found


def shown(picture: Image.Image) -> Shown:
    """A gray picture of SIDE x SIDE, to be compared with."""
    each, lengths = _cuts(picture)
    return Shown(np.asarray(picture, np.uint8), each[0].copy(), lengths)


def likeness(picture: Image.Image, others: Sequence[Shown]) -> list[float]:
    """The correlation of a picture's details and those of each other one, -1 to 1, wherever one lies in the
    other best; 0 where one has none.

    Of the others no cut is made anew. With D the details, W the whole that is looked for and S_i the matrix
    that cuts and scales a side, the product of the cut (S_i' D S_j) and W is that of D S_j and S_i W.
    """
    each, _ = _cuts(picture)
    wholes = np.stack([one.whole for one in others])
    tall = _tall(each[0])
    products = np.stack([tall @ _wide(one.gray) for one in others]).reshape(len(others), -1)
    lengths = np.stack([one.lengths for one in others])
    theirs = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return np.maximum((wholes @ each.T).max(axis=1), theirs.max(axis=1)).tolist()


def _cuts(picture: Image.Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The details of a picture, whole in the first row and with everything cut off that may be in the others,
    without their mean and of length 1 (zeros where there are none); and their lengths.
    """
    each = _scaled(_details(np.asarray(picture, np.float32)))
    each -= each.mean(axis=1, keepdims=True)
    lengths = np.asarray(np.linalg.norm(each, axis=1), np.float32)
    scaled = np.divide(each, lengths[:, None], out=np.zeros_like(each), where=lengths[:, None] > 0)
    return np.asarray(scaled, np.float32), lengths


def _tall(whole: NDArray[np.float32]) -> NDArray[np.float32]:
    """A whole drawn out over the place of each cut of the height: [cuts, SIDE * DETAIL_SIDE]. It has no mean,
    so that the mean of what it is multiplied with plays no part.
    """
    return (_scales() @ whole.reshape(DETAIL_SIDE, DETAIL_SIDE)).reshape(len(_CUTS), -1)


def _wide(gray: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The details of a picture, each cut of its width scaled: [SIDE * DETAIL_SIDE, cuts]."""
    scales = _scales()
    wide = _details(gray.astype(np.float32)) @ scales.transpose(1, 0, 2).reshape(SIDE, -1)
    return wide.reshape(SIDE, len(scales), DETAIL_SIDE).transpose(0, 2, 1).reshape(-1, len(scales))


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
