"""Which rows cannot be shown to a model: the media of all rows are looked at once, before anything trains.

Rows' media in, a list of those that cannot be read out, written down in a stage's folder; then rows in, those
rows out that are not on it. So every arm, process and restart leaves out the same rows, and nothing takes
their place. Files that were looked at before and have not changed since cost a look into a folder. Called by
stages.py.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint, write_json
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media
from behavior_llava.data.collect import NOT_FAULTS
from behavior_llava.data.viewing import Viewer

log = logging.getLogger(__name__)

LIST = "unreadable.json"
"""Rows of (id, kind, path, reason), in a stage's folder."""
_MOST_NAMED = 10
"""Rows in a message."""

Unreadable = Mapping[tuple[str, str], str]
"""(kind, path) of media -> the reason they cannot be read."""


def find(
    shown: Iterable[tuple[str, Media]],
    viewer: Viewer,
    folder: Path,
    *,
    name: str,
    max_fault_rate: float,
) -> dict[str, Any]:
    """Looks at the media of rows and writes `folder`/LIST.

    Args:
        shown: id and media of each row; a media item may come again. Where its hash is not known yet (""),
            any content will do.
        name: of the rows, for messages.
        max_fault_rate: share of the rows whose media may be broken. Media that are gone are counted, but are
            no faults, as where posts are collected.

    Returns:
        Rows with media, how many are on the list by reason, and a hash of what their media are, wherever they
        lie: for the manifest.

    Raises:
        UserError: more are broken.
    """
    store = FrameStore(viewer.frames)
    first, again = itertools.tee(shown)
    # a video whose frames are stored is not needed any more
    items = ((None, None) if _is_stored(store, media) else (media.path, media.kind) for _, media in first)
    rows: list[tuple[str, str, str, str]] = []
    num_rows, content = 0, hashlib.sha256()
    views = viewer.views(items, label=f"looking at media of {name}")
    for (row, media), view in zip(again, views, strict=True):
        num_rows += 1
        seen = view if isinstance(view, str) else media.sha256 if view is None else view.sha256
        content.update(json.dumps([row, media.kind, seen]).encode())
        if isinstance(view, str):
            rows.append((row, media.kind, media.path, view))
        elif view is not None and media.sha256 and view.sha256 != media.sha256:
            rows.append((row, media.kind, media.path, "media_changed"))
    reasons = Counter(reason for *_, reason in rows)
    broken = [row for row, _, _, reason in rows if reason not in NOT_FAULTS]
    if len(broken) > max_fault_rate * num_rows:
        raise UserError(
            f"the media of {len(broken)} of {num_rows} rows of {name} cannot be read ({told(reasons)}), more "
            f"than max_fault_rate {max_fault_rate:.0%}: {_named(broken)}",
            where="training",
            remedy="mend the files, or raise collect.max_fault_rate knowingly",
        )
    write_json(folder / LIST, rows)
    if rows:
        log.warning(
            "the media of %d of %d rows of %s cannot be read (%s); they are left out wherever these rows are "
            "trained on: %s (all in %s; delete its folder to look again)",
            len(rows),
            num_rows,
            name,
            told(reasons),
            _named([row for row, *_ in rows]),
            folder / LIST,
        )
    return {"rows": num_rows, "unreadable": dict(sorted(reasons.items())), "content": content.hexdigest()}


def _is_stored(store: FrameStore, media: Media) -> bool:
    return bool(media.sha256 and media.times_s) and store.has(media)


def listed(folder: Path) -> Unreadable:
    """What `find` wrote there."""
    rows = json.loads((folder / LIST).read_text(encoding="utf-8"))
    return {(kind, path): reason for _, kind, path, reason in rows}


def mark(folder: Path) -> str:
    """What identifies that list: equal lists leave out the same rows."""
    return fingerprint(sorted(listed(folder).items()))


class Kept(Sequence[Example]):
    """Rows of a sequence by their numbers; no row is held."""

    def __init__(self, rows: Sequence[Example], numbers: np.ndarray) -> None:
        self._rows, self._numbers = rows, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Kept: ...
    def __getitem__(self, index: int | slice) -> Example | Kept:
        """The row at a place; a sequence of rows for a slice."""
        if isinstance(index, slice):
            return Kept(self._rows, self._numbers[index])
        return self._rows[int(self._numbers[index])]

    def __iter__(self) -> Iterator[Example]:
        return (self._rows[int(number)] for number in self._numbers)


def readable(
    rows: Sequence[Example], unreadable: Unreadable, *, name: str
) -> tuple[Sequence[Example], dict[str, int]]:
    """The rows whose media are not on the list, in their order, and how many are left out by reason.

    What the files are by now does not matter.

    Args:
        name: of the rows, for the message.

    Raises:
        UserError: none is left.
    """
    if not unreadable:
        return rows, {}
    numbers, reasons = [], Counter[str]()
    for number, row in enumerate(rows):
        reason = None if row.media is None else unreadable.get((row.media.kind, row.media.path))
        if reason is None:
            numbers.append(number)
        else:
            reasons[reason] += 1
    if reasons and not numbers:
        raise UserError(
            f"no row of {name} is left whose media can be read ({told(reasons)})",
            where="training",
            remedy=f"put the files back, and delete the list ({LIST}, with its folder) to look again",
        )
    kept = Kept(rows, np.array(numbers, np.int64)) if reasons else rows
    return kept, dict(sorted(reasons.items()))


def told(reasons: Mapping[str, int]) -> str:
    """Reasons and their counts, for a message."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))


def _named(rows: Sequence[str]) -> str:
    more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
    return ", ".join(rows[:_MOST_NAMED]) + more
