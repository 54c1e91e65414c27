"""Numbers, times and file names as platforms write them, turned into ours or refused.

Sources call these while they parse. Missing (None or blank) stays None; anything that is there and cannot be
read raises ValueError, which the source turns into a counted Fault: a broken number is never a missing one.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from behavior_llava.core.schema import MediaKind

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v")

_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_INT64 = 2**63
_TRUE, _FALSE = frozenset({"true", "yes", "1", "1.0"}), frozenset({"false", "no", "0", "0.0"})


def to_float(value: Any) -> float | None:
    """A finite number from a number or a text such as "3.5" or "2,426"; None for None, blank and NaN.

    Raises:
        ValueError: for booleans, infinities and everything else.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        text = value.strip()
        if _THOUSANDS.fullmatch(text):
            text = text.replace(",", "")
        if not _PLAIN.fullmatch(text):
            raise ValueError(f"not a number: {text[:40]!r}")
        value = float(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"not a number: {type(value).__name__}")
    if isinstance(value, float) and math.isnan(value):  # how pandas writes a missing integer
        return None
    if not -_INT64 <= value < _INT64:
        raise ValueError("number out of range")
    return float(value)


def to_int(value: Any) -> int | None:
    """A whole number within 64 bits, as `to_float` reads it; "3.0" is whole, 3.5 raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not -_INT64 <= value < _INT64:
            raise ValueError("number out of range")
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,20}\s*", value):
        return to_int(int(value))  # not through a float, which is exact to 2**53 only
    number = to_float(value)
    if number is not None and not number.is_integer():
        raise ValueError(f"not a whole number: {number}")
    return None if number is None else int(number)


def to_count(value: Any) -> int | None:
    """A whole number that cannot be negative."""
    count = to_int(value)
    if count is not None and count < 0:
        raise ValueError(f"negative count: {count}")
    return count


def to_share(value: Any) -> float | None:
    """A number within 0..1."""
    share = to_float(value)
    if share is not None and not 0 <= share <= 1:
        raise ValueError(f"not within 0..1: {share}")
    return share


def to_utc(value: Any) -> int | None:
    """Seconds since 1970, from seconds (fractions are cut), a datetime or ISO 8601; no zone is UTC."""
    if isinstance(value, str) and re.match(r"\s*\d{4}-\d\d-\d\d", value):
        value = datetime.fromisoformat(value.strip())
    if isinstance(value, datetime):
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
    seconds = to_float(value)
    return None if seconds is None else int(seconds)


def to_text(value: Any) -> str | None:
    """A text as it is, None for None; half surrogate pairs, which Arrow cannot hold, raise ValueError."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"not a text: {type(value).__name__}")
    value.encode()
    return value


def to_bool(value: Any) -> bool | None:
    """A claim from a boolean, 0 or 1, or one of the words true, false, yes, no; None for None and blank."""
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    if word:
        raise ValueError(f"neither true nor false: {word[:40]!r}")
    return None


def media_kind(name: str) -> MediaKind | None:
    """Image or video by the suffix of a file name or URL path; None for anything else."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None


def url_base_name(url: str) -> str:
    """The last part of a URL's path, unquoted; "" where there is none."""
    return PurePosixPath(unquote(urlsplit(url).path)).name


def file_inside(folder: Path, name: str) -> Path | None:
    """The absolute path of file `name` in `folder`; None where there is no such file.

    Raises:
        ValueError: where the name, or a link on the way, leads out of the folder, or names no file at all.
    """
    if "\x00" in name or len(name.encode("utf-8", "replace")) > 4096:
        raise ValueError("not a file name")
    root = folder.resolve()
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise ValueError("leads out of the media folder")
        return path if path.is_file() else None
    except (
        OSError,
        RuntimeError,
        UnicodeEncodeError,
    ) as fault:  # name too long, a loop of links, half a character
        raise ValueError("not a file name") from fault
