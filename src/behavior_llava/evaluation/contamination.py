"""Which test samples a run's arms may have seen in training: media by perceptual hashes, texts by n-grams.

In: the prepared test splits, and all rows anything was trained on, streamed past twice. Out: the samples with
    a hit, each with the training row and how near it is, and what could not be compared. stages.py calls
    `check` once a run; the report scores every task with and without the hits.

A medium is a hit where the bytes are equal, or where its difference hash (the one that near duplicates are
found by) is near that of a training medium and the two pictures, opened again, then coincide in their
details. The hash alone cannot tell a cropped copy from another picture of a like composition; the details
can. Mirrored copies are hits too: mirroring changes no emotion, topic or scene. Frames without detail (black,
plain colors) are no evidence. One shared frame, such as a title, makes no video a hit: see `needed_views`.

The benchmark is the small side and is held in memory, as hashes; of the training data one chunk is, and for
every benchmark frame the MAX_CANDIDATES nearest media.

Shapes: T frames of training media, F hashes of benchmark frames (two a frame), P pairs of both, V values of a
sketch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behavior_llava.core.cache import Cache
from behavior_llava.core.media import MediaFault
from behavior_llava.core.progress import Advance, progress
from behavior_llava.core.schema import Example, Media
from behavior_llava.core.workers import Workers
from behavior_llava.data import copies
from behavior_llava.data.copies import Look
from behavior_llava.data.viewing import Viewer
from behavior_llava.evaluation import overlap
from behavior_llava.evaluation.evaluator import Prepared
from behavior_llava.evaluation.overlap import Overlap

HITS = pa.schema(
    [
        ("task", pa.string()),
        ("sample_id", pa.string()),
        ("kind", pa.string()),
        ("row", pa.string()),
        ("trained_in", pa.list_(pa.string())),
        ("similarity", pa.float64()),
        ("distance", pa.int64()),
        ("is_mirrored", pa.bool_()),
    ]
)
"""One row a sample and kind: "bytes" (the same file), "picture", "frame" (a picture out of a training
video), "video" or "text". `row` is the id of a training row, `trained_in` the data sets that hold its medium
or text. `similarity` is that of the details, or the share of n-grams; `distance` is in bits of the hash, null
for bytes and texts.
"""

MAX_DISTANCE, MIN_SKETCH = 16, 0.7
"""Bits of the hash, and correlation of the sketches, within which pictures are compared."""
MIN_SIMILARITY = 0.9
"""Correlation of details from which two pictures are one.

These and the two above are ours, measured on 150 photos and drawings and on 150 pictures of the sandbox,
whose scenes repeat. Copies that were recompressed, halved or cut by 2.5 % on every side all come to be
compared and reach 0.95; of those cut by 5 % on every side about nine in ten photos are compared and reach
0.9. Of 11,175 pairs of other pictures none reaches 0.9; of the sandbox's, one in two hundred of those worth
comparing reaches 0.8.
"""
MAX_CANDIDATES = 8
"""Training media that one benchmark frame is compared with: those whose sketches are most alike."""
MAX_FILMS = 4
"""Of a benchmark medium so many training films are opened: those that show most of its views."""
MAX_GROUP = 16
"""Media that one is compared with in one call, which has a time limit."""
CHUNK = 512
_BLOCK = 1 << 22
_PAIRS = 1 << 18

Rows = Callable[[], Iterable[tuple[str, Example]]]
"""Everything that was trained on, as (name of the data set, row); may be read again."""


def settings() -> dict[str, Any]:
    """What a result depends on beside the data."""
    return {
        "frames": copies.FRAMES,
        "media": [*copies.DETAILS, MAX_DISTANCE, MIN_SKETCH, MIN_SIMILARITY, MAX_CANDIDATES, MAX_FILMS],
        "texts": [
            *(overlap.WORDS, overlap.SHARE, overlap.MIN_EQUAL_WORDS, overlap.MIN_OWN_SHARE),
            *(overlap.TEMPLATE_SAMPLES, overlap.TEMPLATE_SHARE),
        ],
    }


# ---- the benchmark's side ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class _Candidate:
    """A training medium that may show what a benchmark frame shows; the most alike come first."""

    unlikeness: int
    distance: int
    sha256: str
    is_mirrored: bool
    frame: int
    media: Media = field(compare=False)


_Near = tuple[int, _Candidate]
"""The number of a benchmark medium's frame, and what is near it."""


@dataclass(frozen=True, slots=True)
class _Group:
    """A medium, the benchmark's or one of the training data, and what it is compared with.

    Attributes:
        met: hash of a benchmark medium, and its frames with those of the training medium near them.
    """

    media: Media
    is_ours: bool
    met: Sequence[tuple[str, list[_Near]]]


def _split(media: Media, is_ours: bool, met: Sequence[tuple[str, list[_Near]]]) -> list[_Group]:
    """Groups small enough for one call."""
    starts = range(0, len(met), MAX_GROUP)
    return [_Group(media, is_ours, met[start : start + MAX_GROUP]) for start in starts]


class _Index:
    """The frames of the benchmark's media that are not plain, and the training media near them."""

    def __init__(self) -> None:
        self._hashes: list[int] = []
        self._sketches: list[NDArray[np.int8]] = []
        self._frames: list[tuple[str, int, bool]] = []
        self.views: dict[tuple[str, int], int] = {}
        """Frame -> which of its medium's views it shows: frames that look alike show one."""
        self.num_views: Counter[str] = Counter()
        self.near: dict[tuple[str, int], dict[str, _Candidate]] = {}
        """Frame -> hash of a training medium -> its frame that is most alike."""

    def add(self, sha256: str, looks: Sequence[Look]) -> bool:
        """Takes in a medium; False where all of it is plain."""
        views: list[int] = []
        for number, (own, mirrored, sketch) in enumerate(looks):
            if not sketch:
                continue
            hashed = int(own, 16)
            same = (at for at, one in enumerate(views) if (one ^ hashed).bit_count() <= MAX_DISTANCE)
            view = next(same, len(views))
            if view == len(views):
                views.append(hashed)
            self.views[sha256, number] = view
            details = copies.unpacked(sketch)
            self._hashes += [hashed, int(mirrored, 16)]
            self._sketches += [details.ravel(), details[:, ::-1].ravel()]
            self._frames += [(sha256, number, False), (sha256, number, True)]
        self.num_views[sha256] = len(views)
        return bool(views)

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.uint64], NDArray[np.int8]]:
        return np.array(self._hashes, np.uint64), np.stack(self._sketches)

    def meet(self, met: Sequence[tuple[Media, int, Look]]) -> None:
        """Streams frames of training media past: (medium, number of the frame, look), all frames of a medium
        in one call.
        """
        told = [one for one in met if one[2][2]]
        if not told or not self._hashes:
            return
        hashes_F, sketches_FV = self._arrays
        hashes_T = np.array([int(own, 16) for _, _, (own, _, _) in told], np.uint64)
        sketches_TV = np.stack([copies.unpacked(sketch).ravel() for _, _, (_, _, sketch) in told])
        size = max(1, _BLOCK // len(hashes_F))
        for start in range(0, len(told), size):
            distances_TF = np.bitwise_count(hashes_T[start : start + size, None] ^ hashes_F)
            rows_P, columns_P = np.nonzero(distances_TF <= MAX_DISTANCE)
            for begin in range(0, len(rows_P), _PAIRS):
                rows, columns = rows_P[begin : begin + _PAIRS], columns_P[begin : begin + _PAIRS]
                ours_PV, theirs_PV = sketches_FV[columns], sketches_TV[start + rows]
                alike_P = np.einsum("pv,pv->p", ours_PV, theirs_PV, dtype=np.int32)
                for pair in np.flatnonzero(alike_P >= MIN_SKETCH * copies.ONE**2).tolist():
                    theirs, frame, _ = told[start + rows[pair]]
                    ours, number, is_mirrored = self._frames[columns[pair]]
                    distance = int(distances_TF[rows[pair], columns[pair]])
                    one = _Candidate(-int(alike_P[pair]), distance, theirs.sha256, is_mirrored, frame, theirs)
                    near = self.near.setdefault((ours, number), {})
                    near[one.sha256] = min(near.get(one.sha256, one), one)
        for place, near in self.near.items():
            if len(near) > MAX_CANDIDATES:
                self.near[place] = {one.sha256: one for one in sorted(near.values())[:MAX_CANDIDATES]}


def needed_views(num_views: int) -> int:
    """How many views of a benchmark medium a training medium must show to be a hit.

    One of a picture. Of a video a quarter of those that differ and at least two, so that a shared title or
    test card is none, unless the video has only one.
    """
    return min(num_views, max(2, math.ceil(num_views / 4)))


# ---- the check ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found.

    Attributes:
        hits: rows of HITS, by task, sample and kind.
        facts: for the manifest and the report: `tasks` (task -> samples, hits), `media` and `texts` of the
            benchmarks that were compared, `training_media`, `training_rows`; `plain` and `unreadable`
            (reason -> media) for both sides, and `short_texts`: what could not be compared.
    """

    hits: pa.Table
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Hit:
    """A benchmark medium that a training medium shows."""

    kind: str
    sha256: str
    views: int
    similarity: float
    distance: int | None
    is_mirrored: bool | None


def check(prepared: Sequence[Prepared], rows: Rows, viewer: Viewer) -> Found:
    """Finds the samples whose media or texts occur in the training rows.

    The order of samples and rows changes nothing.

    Args:
        prepared: the test split of every task.
        rows: what the arms and the base were trained on.
        viewer: says in which processes files are opened; what is found out about them is kept in its folder.
    """
    texts = Overlap({one.task.name: _texts(one) for one in prepared})
    samples_of: dict[str, list[tuple[str, str]]] = {}
    shown: dict[str, Media] = {}
    for one in prepared:
        for question in one.questions:
            if (item := question.example.media) is not None:
                shown[item.sha256] = item
                samples_of.setdefault(item.sha256, []).append((one.task.name, question.sample_id))
    with ExitStack() as stack:
        advance = stack.enter_context(progress("contamination: training data against benchmarks", None))
        checking = _Checking(viewer, shown, texts, advance, stack)
        checking.read_benchmark()
        checking.read_training(rows())
        hits = checking.hits()
        text_hits = texts.hits()
        media_rows, text_rows = _places(
            rows(), {hit.sha256 for hit in hits.values()}, {hit.row for hit in text_hits}
        )
    found = [
        {
            "task": task,
            "sample_id": sample_id,
            "kind": hit.kind,
            "row": media_rows[hit.sha256][0],
            "trained_in": sorted(media_rows[hit.sha256][1]),
            "similarity": round(hit.similarity, 4),
            "distance": hit.distance,
            "is_mirrored": hit.is_mirrored,
        }
        for sha256, hit in hits.items()
        for task, sample_id in samples_of[sha256]
    ]
    found += [
        {
            "task": hit.task,
            "sample_id": hit.sample_id,
            "kind": "text",
            "row": hit.row,
            "trained_in": sorted(text_rows[hit.row]),
            "similarity": round(hit.share, 4),
            "distance": None,
            "is_mirrored": None,
        }
        for hit in text_hits
    ]
    found.sort(key=lambda row: (row["task"], row["sample_id"], row["kind"]))
    by_task = Counter(task for task, _ in {(row["task"], row["sample_id"]) for row in found})
    facts = {
        "tasks": {
            one.task.name: {"samples": len(one.questions), "hits": by_task[one.task.name]} for one in prepared
        },
        "media": len(shown),
        "texts": texts.num_texts,
        "short_texts": texts.num_short,
        **checking.facts(),
    }
    return Found(pa.Table.from_pylist(found, schema=HITS), facts)


def _texts(prepared: Prepared) -> dict[str, str]:
    """The own words of a task's samples: without the question, with the answer where that is a text."""
    found = {}
    for question in prepared.questions:
        own = question.example.prompt.removesuffix(prepared.task.question).strip()
        answer = question.example.completion or ""
        # a label is no text, however often it occurs
        if not prepared.task.labels and len(overlap.words(answer)) >= overlap.MIN_EQUAL_WORDS:
            own = f"{own}\n{answer}"
        if own:
            found[question.sample_id] = own
    return found


def _places(
    rows: Iterable[tuple[str, Example]], hashes: set[str], ids: set[str]
) -> tuple[dict[str, tuple[str, set[str]]], dict[str, set[str]]]:
    """Of media: the smallest id of a row with it, and the data sets of all; of rows: their data sets."""
    of_media: dict[str, tuple[str, set[str]]] = {}
    of_rows: dict[str, set[str]] = {}
    if not hashes and not ids:
        return of_media, of_rows
    for name, row in rows:
        if row.media is not None and row.media.sha256 in hashes:
            first, names = of_media.setdefault(row.media.sha256, (row.id, set()))
            names.add(name)
            of_media[row.media.sha256] = min(first, row.id), names
        if row.id in ids:
            of_rows.setdefault(row.id, set()).add(name)
    return of_media, of_rows


class _Checking:
    """One check, with all it holds open."""

    def __init__(
        self, viewer: Viewer, shown: dict[str, Media], texts: Overlap, advance: Advance, stack: ExitStack
    ) -> None:
        self._shown, self._texts, self._advance = shown, texts, advance
        self._index = _Index()
        self._same: set[str] = set()
        self._num_rows = 0
        self._seen: set[int] = set()
        self._plain: Counter[str] = Counter()
        self._unreadable: dict[str, Counter[str]] = {"benchmark": Counter(), "training": Counter()}
        self._cache = stack.enter_context(Cache(viewer.folder / "seen.sqlite", "frame hashes", copies.FRAMES))

        def workers(function: Callable[..., Any], quarantine: Path | None) -> Workers:
            return stack.enter_context(
                Workers(
                    function,
                    processes=viewer.processes,
                    timeout_s=viewer.timeout_s,
                    quarantine=quarantine,
                )
            )

        self._look = workers(copies.look, viewer.folder / "quarantine.jsonl")
        self._compare = workers(copies.compare, None)

    def facts(self) -> dict[str, Any]:
        """What was compared, and what could not be."""
        return {
            "training_media": len(self._seen),
            "training_rows": self._num_rows,
            "plain": {side: self._plain[side] for side in self._unreadable},
            "unreadable": {side: dict(sorted(counts.items())) for side, counts in self._unreadable.items()},
        }

    def read_benchmark(self) -> None:
        """Takes in the benchmark's media."""
        remaining = iter(sorted(self._shown.values(), key=lambda item: item.sha256))
        while chunk := list(islice(remaining, CHUNK)):
            for item, looks in zip(chunk, self._looks(chunk, "benchmark"), strict=True):
                if looks is not None and not self._index.add(item.sha256, looks):
                    self._plain["benchmark"] += 1
            self._advance(len(chunk))

    def read_training(self, rows: Iterable[tuple[str, Example]]) -> None:
        """Streams the training rows past."""
        remaining = iter(rows)
        while chunk := list(islice(remaining, CHUNK)):
            self._num_rows += len(chunk)
            self._texts.meet([(row.id, _said(row)) for _, row in chunk])
            new: dict[str, Media] = {}
            for _, row in chunk:
                if row.media is not None and int(row.media.sha256[:16], 16) not in self._seen:
                    self._seen.add(int(row.media.sha256[:16], 16))
                    new[row.media.sha256] = row.media
            self._same |= new.keys() & self._shown.keys()
            if self._shown:
                self._meet(list(new.values()))
            self._advance(len(chunk))

    def _meet(self, items: Sequence[Media]) -> None:
        met = []
        for item, looks in zip(items, self._looks(items, "training"), strict=True):
            if looks is None:
                continue
            self._plain["training"] += not any(sketch for _, _, sketch in looks)
            met += [(item, number, one) for number, one in enumerate(looks)]
        self._index.meet(met)

    def _looks(self, items: Sequence[Media], side: str) -> Iterator[list[Look] | None]:
        """What is known of the frames of media; None where a file cannot be read, which is counted."""
        known = {item.sha256: self._cache.find(item.sha256) for item in items}
        new = [item for item in items if known[item.sha256] is None]
        results = self._look.map((item.path, item.kind, item.sha256) for item in new)
        fresh = {}
        for item, result in zip(new, results, strict=True):
            if isinstance(result, MediaFault):
                self._unreadable[side][result.reason] += 1
            else:
                fresh[item.sha256] = result
        self._cache.keep(fresh)
        known |= fresh
        for item in items:
            yield known[item.sha256]

    def hits(self) -> dict[str, _Hit]:
        """Hash of a benchmark medium -> the training medium that shows it best."""
        hits = {sha256: _Hit("bytes", sha256, 0, 1.0, None, None) for sha256 in self._same}
        groups = self._groups()
        jobs = ((group.media, [self._pairs(group, *one) for one in group.met]) for group in groups)
        with progress("contamination: looking at what may be copies", len(groups)) as advance:
            for group, results in zip(groups, self._compare.map(jobs), strict=True):
                advance(1)
                sides = ("benchmark", "training") if group.is_ours else ("training", "benchmark")
                if isinstance(results, MediaFault):
                    self._unreadable[sides[0]][f"{results.reason} when compared"] += 1
                    continue
                for (ours, found), result in zip(group.met, results, strict=True):
                    if isinstance(result, str):
                        self._unreadable[sides[1]][f"{result} when compared"] += 1
                        continue
                    hit = self._hit(ours, found[0][1].sha256, found, result)
                    if hit is not None and (ours not in hits or _worth(hit) < _worth(hits[ours])):
                        hits[ours] = hit
        return hits

    def _pairs(self, group: _Group, ours: str, found: Sequence[_Near]) -> tuple[Media, list[copies.Pair]]:
        """What the medium of a group is compared with, and which frames of both."""
        if group.is_ours:
            return found[0][1].media, [(number, one.frame, one.is_mirrored) for number, one in found]
        return self._shown[ours], [(one.frame, number, one.is_mirrored) for number, one in found]

    def _groups(self) -> list[_Group]:
        """What is compared, so that what takes long to open is opened once: a training film beside all that
        it may show, or else a benchmark medium beside training pictures.
        """
        found: dict[str, dict[str, list[_Near]]] = {}
        for (ours, number), near in sorted(self._index.near.items()):
            if ours not in self._same:
                for candidate in near.values():
                    found.setdefault(ours, {}).setdefault(candidate.sha256, []).append((number, candidate))
        by_film: dict[str, tuple[Media, list[tuple[str, list[_Near]]]]] = {}
        groups: list[_Group] = []
        for ours, others in found.items():
            needed = needed_views(self._index.num_views[ours])
            pictures, films = [], []
            for pairs in others.values():
                views = len({self._index.views[ours, number] for number, _ in pairs})
                if views < needed:
                    continue  # no hit, however alike they are
                best = min(one for _, one in pairs)
                if best.media.kind == "image":
                    pictures.append((ours, pairs))
                else:
                    films.append((-views, best, pairs))
            for _, best, pairs in sorted(films)[:MAX_FILMS]:
                by_film.setdefault(best.sha256, (best.media, []))[1].append((ours, pairs))
            groups += _split(self._shown[ours], True, pictures)
        for media, met in by_film.values():
            groups += _split(media, False, met)
        return groups

    def _hit(
        self, ours: str, theirs: str, found: Sequence[tuple[int, _Candidate]], alike: Sequence[float]
    ) -> _Hit | None:
        matched = [
            (value, -candidate.distance, candidate.is_mirrored, self._index.views[ours, number])
            for (number, candidate), value in zip(found, alike, strict=True)
            if value >= MIN_SIMILARITY
        ]
        views = len({view for *_, view in matched})
        if not matched or views < needed_views(self._index.num_views[ours]):
            return None
        value, distance, is_mirrored, _ = max(matched)
        is_film = self._shown[ours].kind == "video"
        is_out_of_film = found[0][1].media.kind == "video"
        kind = "video" if is_film else "frame" if is_out_of_film else "picture"
        return _Hit(kind, theirs, views, min(value, 1.0), -distance, is_mirrored)


def _worth(hit: _Hit) -> tuple[Any, ...]:
    """Sorts the most telling first."""
    return -hit.views, -round(hit.similarity, 6), hit.sha256


def _said(row: Example) -> list[str]:
    return [
        text for text in (*(one for pair in row.earlier for one in pair), row.prompt, row.completion) if text
    ]
