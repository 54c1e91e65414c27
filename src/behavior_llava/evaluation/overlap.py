"""Which benchmark texts stand in training texts: the n-gram half of the contamination check.

In: the texts of benchmark samples, by task, and training rows as they are streamed past. Out: the samples
    most of whose n-grams were met, each with the row that holds most of them. The benchmark's n-grams are
    held, as one 64-bit hash each; of the training rows only ids that matched. Pure; `contamination.py` calls
    it.

Case, punctuation and mark-up do not count. Words are runs of letters and digits: a language that is written
without spaces has few, and is compared by whole lines only.

Shapes: W words of a batch, G distinct n-grams of the benchmark.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

WORDS, SHARE = 8, 0.7
"""A text is a hit where at least this share of its n-grams of so many words occurs in training texts.

Source: PaLM, https://arxiv.org/abs/2204.02311, section 8 (70 % of the 8-grams). The other usual rule, one
13-gram in common (GPT-3, https://arxiv.org/abs/2005.14165, appendix C), flags a review for a quotation.
"""
MIN_EQUAL_WORDS = 5
"""A text too short for an n-gram is a hit where a whole line of a training text equals it and it has so many
words; with fewer it is what anybody says. Ours.
"""
TEMPLATE_SAMPLES, TEMPLATE_SHARE = 2, 0.01
"""An n-gram in more samples of a task than both of these is its template's, and nobody's own words. Ours."""
MIN_OWN_SHARE = 0.5
"""A text with a smaller share of n-grams of its own cannot be told from the template. Ours."""

_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_APOSTROPHE = re.compile("['\u2019]")
_WORD = re.compile(r"[^\W_]+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

_CHUNK = 512

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TextHit:
    """A benchmark text that training texts hold.

    Attributes:
        row: id of the training row that holds most of it.
        share: of its n-grams that were met, from SHARE to 1; 1 for equal lines.
    """

    task: str
    sample_id: str
    row: str
    share: float


def words(text: str) -> list[str]:
    """The words of a text without case, punctuation and mark-up; "don't" is one."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _WORD.findall(_APOSTROPHE.sub("", _TAG.sub(" ", plain)).casefold())


class Overlap:
    """The benchmark's texts, and what of them was met so far.

    Args:
        texts: task -> sample id -> the sample's own words, without the question.
    """

    def __init__(self, texts: Mapping[str, Mapping[str, str]]) -> None:
        self._samples: list[tuple[str, str]] = []
        self.num_short = 0
        """Texts with too few words of their own to be told from others."""
        self._lines: dict[tuple[str, ...], list[int]] = {}
        self._line_rows: dict[tuple[str, ...], str] = {}
        grams, owners = [], []
        for task, by_sample in sorted(texts.items()):
            found, numbers = self._of_task(task, by_sample)
            grams.append(found)
            owners.append(numbers)
        own = np.concatenate([np.empty(0, np.uint64), *grams])
        self._owners = np.concatenate([np.empty(0, np.int64), *owners])
        self._grams_G, self._places = np.unique(own, return_inverse=True)
        self._rows: dict[int, str] = {}

    @property
    def num_texts(self) -> int:
        """Texts that are compared or too short to be."""
        return len(self._samples)

    def _of_task(self, task: str, by_sample: Mapping[str, str]) -> tuple[Hashes, Numbers]:
        """The n-grams of a task's samples that are not its template's, and whose they are."""
        first = len(self._samples)
        self._samples += [(task, sample_id) for sample_id in sorted(by_sample)]
        num_samples = len(by_sample)
        too_many = max(TEMPLATE_SAMPLES, TEMPLATE_SHARE * num_samples)
        short: dict[tuple[str, ...], list[int]] = {}
        parts = []
        for start in range(0, num_samples, _CHUNK):
            ids = self._samples[first + start : first + start + _CHUNK]
            said = [words(by_sample[sample_id]) for _, sample_id in ids]
            for number, own in enumerate(said, first + start):
                if len(own) < WORDS:
                    short.setdefault(tuple(own), []).append(number)
            found, text_of = _grams(said)
            parts.append((found, text_of + start))
        for line, numbers in short.items():
            if len(line) < MIN_EQUAL_WORDS or len(numbers) > too_many:
                self.num_short += len(numbers)
            else:
                self._lines.setdefault(line, []).extend(numbers)
        grams, owners = _distinct(parts)
        _, place, samples = np.unique(grams, return_inverse=True, return_counts=True)
        is_own = samples[place] <= too_many
        num_all = np.bincount(owners, minlength=num_samples)
        num_own = np.bincount(owners[is_own], minlength=num_samples)
        is_told = num_own >= np.maximum(MIN_OWN_SHARE * num_all, 1)
        self.num_short += int((~is_told & (num_all > 0)).sum())
        chosen = is_own & is_told[owners]
        return grams[chosen], owners[chosen] + first

    def meet(self, rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Streams training rows past: (id, texts) each."""
        if not self._samples:
            return
        said, names = [], []
        for name, texts in rows:
            for text in texts:
                whole: list[str] = []
                for line in text.split("\n"):
                    own = words(line)
                    whole += own
                    self._meet_line(own, name)
                said.append(whole)
                names.append(name)
        grams, owners = _grams(said)
        if not len(grams) or not len(self._grams_G):
            return
        places = np.minimum(np.searchsorted(self._grams_G, grams), len(self._grams_G) - 1)
        is_met = self._grams_G[places] == grams
        for place, owner in zip(places[is_met].tolist(), owners[is_met].tolist(), strict=True):
            # the smallest id, so that the order of the rows changes nothing
            known = self._rows.setdefault(place, names[owner])
            self._rows[place] = min(known, names[owner])

    def _meet_line(self, own: list[str], name: str) -> None:
        if not self._lines:
            return
        # comments stand in numbered lines
        for line in (tuple(own), tuple(own[1:]) if own and own[0].isdecimal() else ()):
            if line in self._lines:
                self._line_rows[line] = min(self._line_rows.get(line, name), name)

    def hits(self) -> list[TextHit]:
        """The benchmark texts met so far, by task and sample."""
        met_by: dict[int, list[str]] = {}
        total = np.bincount(self._owners, minlength=len(self._samples))
        for place, owner in zip(self._places.tolist(), self._owners.tolist(), strict=True):
            if place in self._rows:
                met_by.setdefault(owner, []).append(self._rows[place])
        found = [
            TextHit(*self._samples[owner], _commonest(rows), len(rows) / int(total[owner]))
            for owner, rows in met_by.items()
            if len(rows) >= SHARE * total[owner]
        ]
        found += [
            TextHit(*self._samples[owner], row, 1.0)
            for line, row in self._line_rows.items()
            for owner in self._lines[line]
        ]
        return sorted(found, key=lambda hit: (hit.task, hit.sample_id))


def _distinct(parts: Sequence[tuple[Hashes, Numbers]]) -> tuple[Hashes, Numbers]:
    """Every pair of an n-gram and its owner once."""
    grams = np.concatenate([np.empty(0, np.uint64), *(part for part, _ in parts)])
    owners = np.concatenate([np.empty(0, np.int64), *(part for _, part in parts)])
    order = np.lexsort((owners, grams))
    grams, owners = grams[order], owners[order]
    is_new = np.ones(len(grams), np.bool_)
    is_new[1:] = (np.diff(grams) != 0) | (np.diff(owners) != 0)
    return grams[is_new], owners[is_new]


def _commonest(rows: Sequence[str]) -> str:
    counted = Counter(rows)
    return min(counted, key=lambda row: (-counted[row], row))


def _grams(said: Sequence[Sequence[str]]) -> tuple[Hashes, Numbers]:
    """The hashes of all n-grams that lie within one text, and which text that is.

    They hold for this process: Python's hash of a word differs between processes.
    """
    sizes = [len(one) for one in said]
    hashes_W = np.fromiter(map(hash, chain.from_iterable(said)), np.int64, sum(sizes)).view(np.uint64)
    owners_W = np.repeat(np.arange(len(said), dtype=np.int64), sizes)
    num_grams = len(hashes_W) - WORDS + 1
    if num_grams <= 0:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    grams = np.zeros(num_grams, np.uint64)
    for place in range(WORDS):
        grams = grams * _FACTOR + hashes_W[place : place + num_grams]
    is_within = owners_W[:num_grams] == owners_W[WORDS - 1 :]
    return grams[is_within], owners_W[:num_grams][is_within]
