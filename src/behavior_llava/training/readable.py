"""Which rows can be shown to a model: every media item is looked at once before anything is trained.

Rows in, the rows whose media can be read out, and why the others were left out. What is found out is written
down, so that every arm, epoch and restart leaves out the same rows; nothing takes their place. Stored frames
and files that have not changed since cost a look into the folder; others are decoded in processes that can be
killed. Called by stages.py before a stage trains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np

from behavior_llava.core import media as files
from behavior_llava.core.cache import Cache, Hashes, file_state
from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore, MediaFault
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Example, Media
from behavior_llava.core.workers import Workers
from behavior_llava.data.collect import NOT_FAULTS

_CHUNK = 256
"""Items in memory at a time, beside those that are known."""


def read_once(path: str, item: Media, frames: str) -> None:
    """Reads an item as training will; a video's frames go to the store.

    Raises:
        MediaFault: it cannot be read; media_changed where the file is not the one of the item's hash.
    """
    if item.kind == "video":
        FrameStore(Path(frames)).frame_files(item)
    elif files.measure(Path(path), "image").sha256 != item.sha256:
        raise MediaFault("media_changed")


@dataclass(frozen=True)
class Reader:
    """Finds out which media can be read, and remembers those that can.

    Attributes:
        store: where a video's frames are, or go.
        folder: of what is remembered (seen.sqlite, quarantine.jsonl); that of the run.
    """

    store: FrameStore
    folder: Path
    processes: int = 2
    timeout_s: float = 60.0
    memory_gib: float | None = 2.0

    def unreadable(self, media: Iterable[Media], *, label: str) -> dict[str, str]:
        """`key` of every item that cannot be read -> the reason; each distinct item is looked at once."""
        items = list(dict.fromkeys(media))
        found: dict[str, str] = {}
        seen = self.folder / "seen.sqlite"
        with ExitStack() as open_while:
            advance = open_while.enter_context(progress(label, len(items)))
            hashes = open_while.enter_context(Hashes(seen))
            cache = open_while.enter_context(Cache(seen, "readable", files.MAX_PIXELS))
            workers = open_while.enter_context(
                Workers(
                    read_once,
                    processes=self.processes,
                    timeout_s=self.timeout_s,
                    memory_gib=self.memory_gib,
                    quarantine=self.folder / "quarantine.jsonl",
                )
            )
            for start in range(0, len(items), _CHUNK):
                chunk = items[start : start + _CHUNK]
                new = {item: state for item in chunk if (state := self._unknown(item, hashes, cache))}
                advance(len(chunk) - len(new))
                jobs = ((item.path, item, str(self.store.folder)) for item in new)
                read: dict[str, dict[str, bool]] = {}
                for (item, state), result in zip(new.items(), workers.map(jobs), strict=True):
                    advance(1)
                    if isinstance(result, MediaFault):
                        found[key(item)] = result.reason
                    elif item.kind == "image" and file_state(item.path) == state:
                        hashes.keep(state, item.sha256)
                        read[item.sha256] = {"readable": True}
                cache.keep(read)
        return found

    def _unknown(self, item: Media, hashes: Hashes, cache: Cache) -> str | None:
        """The state of a file that has to be read; None where that is known to go well."""
        if item.kind == "video":
            return None if self.store.has(item) else item.path
        state = file_state(item.path)
        if state is None:
            return item.path  # reading it will say why
        known = hashes.find(state) == item.sha256 and cache.find(item.sha256) is not None
        return None if known else state


def key(item: Media) -> str:
    """Names an item in what is written down: the same file at other times is another item."""
    return f"{item.kind} {item.sha256} {item.path} {' '.join(map(repr, item.times_s))}".rstrip()


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
        if isinstance(index, slice):
            return Kept(self._rows, self._numbers[index])
        return self._rows[int(self._numbers[index])]

    def __iter__(self) -> Iterator[Example]:
        return (self._rows[int(number)] for number in self._numbers)


@dataclass
class LeftOut:
    """What `readable` leaves out, for the manifest.

    Attributes:
        media: distinct items by reason; rows: rows by reason.
    """

    media: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)


def media_of(rows: Iterable[Example]) -> dict[Media, None]:
    """The distinct media of rows, in their order."""
    return {row.media: None for row in rows if row.media is not None}


def readable(
    data: Mapping[str, Sequence[Example]], unreadable: Mapping[str, str], *, max_fault_rate: float = 0.02
) -> tuple[dict[str, Sequence[Example]], LeftOut]:
    """The rows of each data set whose media can be read, in their order, and what was left out.

    The same for the same input, whenever it is called: what the files are by now does not matter.

    Args:
        data: data sets by name; each is read once here, and may be lazy.
        unreadable: what `Reader.unreadable` found, and the run has written down.
        max_fault_rate: share of the distinct media of all of them that may be broken. Media that are gone are
            counted, but are no faults, as where posts are collected.

    Raises:
        UserError: more are broken, or no row of a data set is left.
    """
    kept: dict[str, Sequence[Example]] = {}
    left_out = LeftOut()
    reasons: dict[Media, str | None] = {}
    for name, rows in data.items():
        numbers, without = [], Counter[str]()
        for number, row in enumerate(rows):
            reason = None if row.media is None else _reason(row.media, unreadable, reasons)
            if reason is None:
                numbers.append(number)
            else:
                without[reason] += 1
        if without and not numbers:
            raise UserError(
                f"no row of data set {name!r} is left whose media can be read ({_told(without)})",
                where="training",
                remedy="put the files back, or run collect again",
            )
        kept[name] = Kept(rows, np.array(numbers, np.int64)) if without else rows
        left_out.rows += without
    left_out.media.update(reason for reason in reasons.values() if reason is not None)
    broken = sum(count for reason, count in left_out.media.items() if reason not in NOT_FAULTS)
    if broken > max_fault_rate * len(reasons):
        raise UserError(
            f"{broken} of {len(reasons)} media cannot be read ({_told(left_out.media)}), more than "
            f"max_fault_rate {max_fault_rate:.0%}",
            where="training",
            remedy="mend the files, or run collect again",
        )
    return kept, left_out


def _reason(item: Media, unreadable: Mapping[str, str], known: dict[Media, str | None]) -> str | None:
    if item not in known:
        known[item] = unreadable.get(key(item))
    return known[item]


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
