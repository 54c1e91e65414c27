"""Where the people of the sandbox look in a picture, in SALICON's layout, and how many know one again.

Observers look at faces most, then at rare objects and events, then at the rest; a tenth of their looks goes
anywhere. As far as `signal` says they look at what is there, else at where another picture has its things.
Called by the sandbox, which keeps what they did as files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from behavior_llava.data.world.content import EVENTS, OBJECTS, RARE_OBJECTS, Content, draw_content
from behavior_llava.data.world.drawing import SIZE, Place, places

NUM_OBSERVERS = 60
"""About as many as SALICON has."""

NUM_VIEWERS = 80
"""Who are asked whether they know a picture again."""

CATEGORIES = {
    name: number for number, name in enumerate(("face", "figure", *EVENTS, *OBJECTS, *RARE_OBJECTS), 1)
}
"""What is outlined, with its id."""

_PULL: Mapping[str, float] = {"face": 4.0} | dict.fromkeys(RARE_OBJECTS, 3.0) | dict.fromkeys(EVENTS, 2.0)
"""How much a thing is looked at; everything else 1."""

_STRAY_SHARE = 0.1
"""Of looks that go anywhere."""


def fixations(
    content: Content, own_seed: Sequence[int], rng: np.random.Generator, *, signal: float
) -> list[list[list[int]]]:
    """A path an observer: points as [row, column] from 1.

    Args:
        own_seed: of the picture's drawing.
        signal: share of observers who look at what the picture shows, 0..1.
    """
    there = places(content, np.random.default_rng(own_seed))
    elsewhere = places(draw_content(rng, held_out=None), rng)
    return [_path(there if rng.random() < signal else elsewhere, rng) for _ in range(NUM_OBSERVERS)]


def _path(seen: Sequence[Place], rng: np.random.Generator) -> list[list[int]]:
    number = int(rng.integers(8, 21))
    pull = np.array([_PULL.get(place.name, 1.0) for place in seen])
    boxes = np.array([(place.y, place.x, place.height, place.width) for place in seen])
    chosen = boxes[rng.choice(len(seen), number, p=pull / pull.sum())]
    points = chosen[:, :2] + chosen[:, 2:] * (0.5 + rng.normal(0, 0.2, (number, 2)))
    strays = rng.random(number) < _STRAY_SHARE
    points[strays] = rng.uniform(0, SIZE, (int(strays.sum()), 2))
    return (np.clip(points, 0, SIZE - 1).astype(int) + 1).tolist()


def outlines(content: Content, own_seed: Sequence[int]) -> list[dict[str, Any]]:
    """The things of a picture as COCO has them, without ids: category, polygon, box and area."""
    found = []
    for place in places(content, np.random.default_rng(own_seed)):
        left, top, right, bottom = place.x, place.y, place.x + place.width, place.y + place.height
        found.append(
            {
                "category_id": CATEGORIES[place.name],
                "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                "bbox": [left, top, place.width, place.height],
                "area": place.width * place.height,
                "iscrowd": 0,
            }
        )
    return found


def recall(content: Content, rng: np.random.Generator, *, signal: float) -> float:
    """Share of NUM_VIEWERS who know the picture again, 0..1; of another picture where the signal fails."""
    seen = content if rng.random() < signal else draw_content(rng, held_out=None)
    return int(rng.binomial(NUM_VIEWERS, seen.memorability)) / NUM_VIEWERS
