"""Small pictures for the report's pages. A picture that cannot be read gives its fault in place of one."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageOps

from behavior_llava.reporting.content import Picture

THUMBNAIL_PX = 160
_JPEG_QUALITY = 82
_GAP_PX = 4


def small(picture: Picture, side: int = THUMBNAIL_PX) -> Image.Image | str:
    """The picture with no side longer than `side`, turned as its camera says; the fault's name where it
    cannot be read.
    """
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as read:
            # Draft mode first: a 12-megapixel photo need not be decoded in full for a thumbnail.
            read.draft("RGB", (2 * side, 2 * side))
            turned = ImageOps.exif_transpose(read).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return type(error).__name__
    turned.thumbnail((side, side))
    return turned


def strip(pictures: Sequence[Picture], side: int = THUMBNAIL_PX) -> Image.Image | str:
    """All pictures side by side in one, as frames of a film; the first fault where one cannot be read."""
    read = []
    for picture in pictures:
        one = small(picture, side)
        if isinstance(one, str):
            return one
        read.append(one)
    if len(read) == 1:
        return read[0]
    width = sum(one.width for one in read) + _GAP_PX * (len(read) - 1)
    whole = Image.new("RGB", (width, max(one.height for one in read)), "white")
    left = 0
    for one in read:
        whole.paste(one, (left, 0))
        left += one.width + _GAP_PX
    return whole


def jpeg(picture: Image.Image) -> bytes:
    """The picture's bytes as JPEG; the same picture gives the same bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return buffer.getvalue()
