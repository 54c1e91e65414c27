"""Data lineage: from the manifests of a run's stages, what was made of what, and how many rows it had.

In: a run's folder. Out: steps in the order the data go. Called by stages.py and comparing.py; nothing but
manifests is read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from behavior_llava.core.manifest import finished_stages

_ORDER = ("fetched", "collect", "build/posts", "build/captions", "build/arms", "blift", "base", "train")
"""Stages that make or take rows, as the data go; evaluation and report are shown elsewhere."""
_COUNTED = {
    "records": "records read",
    "posts": "posts",
    "comments": "comments",
    "rows_in": "posts in",
    "kept": "posts kept",
    "rows": "rows",
    "steps": "steps",
    "excluded": "excluded",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One finished stage.

    Attributes:
        made_from: names of the stages it read; of what no stage made, what it is called and its fingerprint.
        counts: what was counted -> how many.
        splits: split -> posts, where posts were divided; empty elsewhere.
        is_taken_over: whether another run did it.
        run: where several are compared, whose step it is; empty elsewhere.
    """

    stage: str
    made_from: tuple[str, ...]
    counts: Mapping[str, int]
    splits: Mapping[str, int]
    fingerprint: str
    is_taken_over: bool = False
    run: str = ""


def steps(folder: Path, run: str = "") -> list[Step]:
    """Every finished stage that made rows or learned from them, in the order the data go.

    Args:
        run: what the run is called where it is compared with others.
    """
    finished = list(finished_stages(folder))
    # answers that are kept without their run have none
    known = {one["fingerprint"]: one["stage"] for _, one in finished if "fingerprint" in one}
    chosen = [(place, one) for place, one in finished if _place(one["stage"]) is not None]
    chosen.sort(key=lambda found: (_place(found[1]["stage"]), found[1]["stage"]))
    return [
        Step(
            stage=one["stage"],
            made_from=tuple(
                known.get(mark, f"{name} ({mark})")
                for name, mark in sorted(one["inputs"].items())
                if not name.startswith("unreadable")
            ),
            counts={words: one[key] for key, words in _COUNTED.items() if isinstance(one.get(key), int)},
            splits=one.get("splits", {}) if one["stage"] == "build/posts" else {},
            fingerprint=one["fingerprint"],
            is_taken_over=not place.is_relative_to(folder.resolve()),
            run=run,
        )
        for place, one in chosen
    ]


def _place(stage: str) -> int | None:
    for place, name in enumerate(_ORDER):
        if stage == name or stage.startswith(f"{name}/"):
            return place
    return None


def flows(found: Sequence[Step]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Every run with the way of its data in a few boxes, as of `flow`."""
    runs = dict.fromkeys(one.run for one in found)
    each = [(run, flow([one for one in found if one.run == run])) for run in runs]
    return [(run, boxes) for run, boxes in each if boxes]


def flow(found: Sequence[Step]) -> list[tuple[str, list[str]]]:
    """The way of one run's data in a few boxes: (heading, lines)."""
    boxes: list[tuple[str, list[str]]] = []
    for heading, lines in (
        ("sources", _sources(found)),
        ("collected", _counts(found, "collect", ("posts", "comments"))),
        ("after filters", _counts(found, "build/posts", ("posts kept",))),
        ("splits", [f"{name}: {count:,}" for one in found for name, count in one.splits.items()]),
        ("rows of each arm", _arms(found)),
    ):
        if lines:
            boxes.append((heading, lines))
    return boxes


def _sources(found: Iterable[Step]) -> list[str]:
    for one in found:
        if one.stage == "collect":
            sources = sum("source " in name or name.startswith("fetched/") for name in one.made_from)
            read = one.counts.get("records read")
            told = "1 source" if sources == 1 else f"{sources} sources"
            return [told, *([] if read is None else [f"{read:,} records read"])]
    return []


def _counts(found: Iterable[Step], stage: str, names: Sequence[str]) -> list[str]:
    return [
        f"{one.counts[name]:,} {name}"
        for one in found
        if one.stage == stage
        for name in names
        if name in one.counts
    ]


def _arms(found: Iterable[Step]) -> list[str]:
    """A line an arm; of several seeds the lowest and the highest count."""
    rows: dict[str, list[int]] = {}
    for one in found:
        match = re.fullmatch(r"build/arms/seed\d+/(.+)", one.stage)
        if match and "rows" in one.counts:
            rows.setdefault(match[1], []).append(one.counts["rows"])
    return [
        f"{arm}: {min(some):,}" + (f" to {max(some):,}" if min(some) != max(some) else "")
        for arm, some in rows.items()
    ]


def as_rows(found: Collection[Step]) -> list[dict[str, Any]]:
    """The steps as rows of a table; one taken over from a run that is shown as well stands there alone."""
    done = {one.fingerprint for one in found if not one.is_taken_over}
    return [
        {
            "stage": (f"{one.run}: " if one.run else "")
            + one.stage
            + (" (taken over)" if one.is_taken_over else ""),
            "made_from": ", ".join(one.made_from) or "nothing",
            "counts": ", ".join(f"{count:,} {name}" for name, count in one.counts.items()) or "not counted",
            "fingerprint": one.fingerprint,
        }
        for one in found
        if not (one.is_taken_over and one.fingerprint in done)
    ]
