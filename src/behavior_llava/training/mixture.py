"""Which row comes when: named data sets mixed by ratio, in one order that a seed fixes.

The order does not depend on the rows' texts, so arms with equally many rows on the same media see them in the
same steps. Rows of one group (questions on one media item) stay next to each other. Called by base.py,
tower.py and trainer.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import overload

import numpy as np

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Example

MAX_PASSES = 16.0
"""How often a data set may be repeated where nobody says more. Up to four passes teach about as much as new
rows, about sixteen are worth little more than the first ones.
Source: https://arxiv.org/abs/2305.16264, sections 1 and 5.
"""


def passes(sizes: Mapping[str, int], ratio: Mapping[str, float], *, epochs: float) -> dict[str, float]:
    """How often each data set is gone through; the first one `epochs` times, but for rounding to rows.

    An empty data set of which nothing is wanted has 0.

    Raises:
        UserError: a data set of the ratio is empty.
    """
    wanted = _wanted(sizes, ratio, epochs)
    return {name: wanted[name] / size if size else 0.0 for name, size in sizes.items()}


def _wanted(sizes: Mapping[str, int], ratio: Mapping[str, float], epochs: float) -> dict[str, int]:
    first = next(iter(sizes))
    total = round(sizes[first] * epochs)
    wanted = {name: round(total * ratio[name] / ratio[first]) for name in sizes}
    for name, size in sizes.items():
        if wanted[name] and not size:
            raise UserError(
                f"data set {name!r} is empty but has a share of {ratio[name]}",
                remedy="leave it out of the mixture or give it rows",
            )
    return wanted


def order(
    sizes: Mapping[str, int],
    ratio: Mapping[str, float],
    *,
    epochs: float,
    seed: int,
    groups: Mapping[str, np.ndarray] | None = None,
    max_passes: float | None = None,
) -> list[tuple[str, np.ndarray]]:
    """The rows to train on, as (data set, row indices) pairs aligned with `interleave`.

    Args:
        sizes: rows of every data set; the first one's epochs are counted.
        ratio: relative number of rows drawn; the first data set's is its own share.
        epochs: passes over the first data set; may be fractional. The others are repeated, each pass in a new
            order, as often as the ratio needs.
        seed: of the order.
        groups: for a data set the number of each row's group, counted from 0 in the order of their first
            rows; its groups are shuffled, not its rows. A data set that is not named has groups of one row.
        max_passes: the others are repeated no oftener; None for MAX_PASSES or `epochs`, whichever is more.

    Raises:
        UserError: a data set of the ratio is empty, or would be repeated too often.
    """
    wanted = _wanted(sizes, ratio, epochs)
    first = next(iter(sizes))
    most = max(MAX_PASSES, epochs) if max_passes is None else max_passes
    for name, times in passes(sizes, ratio, epochs=epochs).items():
        if name != first and times > most:
            raise UserError(
                f"the mixture would repeat the {sizes[name]} rows of data set {name!r} {times:.1f} times, "
                f"{most:g} are allowed",
                remedy="give it more rows, lower its ratio, or set max_passes",
            )
    drawn = []
    for number, (name, size) in enumerate(sizes.items()):
        rng = np.random.default_rng((seed, number))
        found, have = [], 0
        shuffled = _Groups(np.arange(size) if groups is None or name not in groups else groups[name])
        while have < wanted[name]:
            found.append(shuffled.rows(rng.permutation(shuffled.number)))
            have += size
        drawn.append((name, np.concatenate(found)[: wanted[name]] if found else np.empty(0, np.int64)))
    return drawn


class _Groups:
    """The rows of each group, by the groups' numbers."""

    def __init__(self, group_of: np.ndarray) -> None:
        self._rows = np.argsort(group_of, kind="stable")
        self._sizes = np.bincount(group_of)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self.number = len(self._sizes)

    def rows(self, groups: np.ndarray) -> np.ndarray:
        """All rows of the groups, in their order."""
        return self._rows[spread(self._starts[groups], self._sizes[groups])]


def spread(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """start, start + 1, ... for each start, so many as its size."""
    before = np.cumsum(sizes) - sizes
    return np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)


def interleave(
    drawn: Sequence[tuple[str, np.ndarray]], *, seed: int, groups: Mapping[str, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One sequence of rows in which every stretch holds about the mixture's ratio.

    Args:
        drawn: of `order`, with the same groups.

    Returns:
        For each row the number of its data set, its index there, and the number of its unit: the rows of a
        group that were drawn together, one behind the other.
    """
    places, numbers, firsts, starts, sizes = [], [], [], [], []
    begin = 0
    for number, (name, rows) in enumerate(drawn):
        rng = np.random.default_rng((seed, 1000 + number))
        group_of = rows if groups is None or name not in groups else groups[name][rows]
        # a group's rows ascend; one that is drawn twice in turn begins again
        edges = np.flatnonzero((group_of[1:] != group_of[:-1]) | (rows[1:] <= rows[:-1])) + 1
        start = np.concatenate([np.zeros(min(1, len(rows)), np.int64), edges])
        size = np.diff(np.append(start, len(rows)))
        # evenly spread places, each moved by less than one place: a small batch holds the ratio too
        places.append((start + size * rng.random(len(start))) / max(len(rows), 1))
        numbers.append(np.full(len(start), number))
        firsts.append(rows[start])
        starts.append(start + begin)
        sizes.append(size)
        begin += len(rows)
    by_place = np.lexsort((np.concatenate(firsts), np.concatenate(numbers), np.concatenate(places)))
    size = np.concatenate(sizes)[by_place]
    taken = spread(np.concatenate(starts)[by_place], size)
    return (
        np.repeat(np.concatenate(numbers)[by_place], size),
        np.concatenate([rows for _, rows in drawn])[taken],
        np.repeat(np.arange(len(size)), size),
    )


class RowsInOrder(Sequence[Example]):
    """Rows of named data sets in training order, looked up when they are asked for; numbers are all it holds.

    Attributes:
        passes: how often each data set is gone through.
    """

    def __init__(
        self,
        data: Mapping[str, Sequence[Example]],
        numbers: np.ndarray,
        rows: np.ndarray,
        passes: Mapping[str, float],
    ) -> None:
        """Args: numbers, rows: for each place the number of its data set and the index there."""
        self._data, self._numbers, self._rows = tuple(data.values()), numbers, rows
        self.passes = dict(passes)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """The row at a place; a list of rows for a slice."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._data[self._numbers[index]][int(self._rows[index])]

    def distinct(self) -> Iterator[Example]:
        """Each row that is trained on once, in the order of the data sets; repeated passes are left out."""
        for number, rows in enumerate(self._data):
            for row in np.unique(self._rows[self._numbers == number]):
                yield rows[int(row)]

    @property
    def num_distinct(self) -> int:
        """How many rows `distinct` gives."""
        return sum(len(np.unique(self._rows[self._numbers == number])) for number in range(len(self._data)))
