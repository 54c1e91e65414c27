"""Draws that follow from a name alone: the same on every machine and with every version of every library.

Benchmarks whose authors drew something at random and published neither the draw nor its seed need one of
ours: the distractors of a question, a split. A draw of a sample depends on that sample's key and on what is
drawn from, never on the other samples or their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from itertools import count


def number(key: str) -> int:
    """A whole number of 64 bits that looks random."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def drawn(
    population: Sequence[str], size: int, key: str, without: Collection[str] = frozenset()
) -> list[str]:
    """So many different items of the population, none of them in `without`.

    Raises:
        ValueError: the population may be too small for it.
    """
    if len(population) - len(without) < size:
        raise ValueError(f"{size} of {len(population)} items without {len(without)} cannot be drawn")
    found: dict[str, None] = {}
    for attempt in count():
        if len(found) == size:
            break
        item = population[number(f"{key}|{attempt}") % len(population)]
        if item not in without:
            found[item] = None
    return list(found)


def shuffled(items: Collection[str], key: str) -> tuple[str, ...]:
    """The items in an order that tells nothing of what they are."""
    return tuple(sorted(items, key=lambda item: (number(f"{key}|{item}"), item)))
