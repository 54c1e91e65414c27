"""Which row comes when: named data sets mixed by ratio, in one order that a seed fixes.

The order does not depend on the rows' contents, so arms with equally many rows see the same media in the same
steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def order(
    sizes: Mapping[str, int], ratio: Mapping[str, float], *, epochs: float, seed: int
) -> list[tuple[str, np.ndarray]]:
    """The rows to train on, as (data set, row indices) pairs aligned with `interleave`.

    Args:
        sizes: rows of every data set; the first one's epochs are counted.
        ratio: relative number of rows drawn; the first data set's is its own share.
        epochs: passes over the first data set; may be fractional. The others are repeated, each pass in a new
            order, as often as the ratio needs.
        seed: of the order.

    Raises:
        ValueError: a data set of the ratio is empty.
    """
    first = next(iter(sizes))
    total = round(sizes[first] * epochs)
    drawn = []
    for number, (name, size) in enumerate(sizes.items()):
        wanted = round(total * ratio[name] / ratio[first])
        if wanted and not size:
            raise ValueError(f"data set {name!r} is empty but has a share of {ratio[name]}")
        passes = []
        rng = np.random.default_rng((seed, number))
        while sum(map(len, passes)) < wanted:
            passes.append(rng.permutation(size))
        drawn.append((name, np.concatenate(passes)[:wanted] if passes else np.empty(0, np.int64)))
    return drawn


def interleave(drawn: list[tuple[str, np.ndarray]], *, seed: int) -> list[tuple[str, int]]:
    """One sequence of (data set, row) in which every stretch holds about the mixture's ratio."""
    keys = []
    for number, (name, rows) in enumerate(drawn):
        rng = np.random.default_rng((seed, 1000 + number))
        # evenly spread places, each moved by less than one place: a small batch holds the ratio too
        places = (np.arange(len(rows)) + rng.random(len(rows))) / max(len(rows), 1)
        keys += [(float(place), number, name, int(row)) for place, row in zip(places, rows, strict=True)]
    keys.sort()
    return [(name, row) for _, _, name, row in keys]
