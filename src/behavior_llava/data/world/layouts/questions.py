"""Films and plain questions about what is seen in them, for the layouts of question benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from behavior_llava.data.world import words, writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import draw_content

PER_FILM = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """One question.

    Attributes:
        id: runs on over the splits, from 0; so does `film`, which has PER_FILM of them.
        kind: its place among words.questions.
        answer: one word.
    """

    id: int
    film: int
    kind: int
    question: str
    answer: str


def ask(
    canvas: Canvas, sizes: Mapping[str, int], key: int, path_of: Callable[[int], Path]
) -> dict[str, list[Asked]]:
    """As many questions as each split is to have, and the films they are about ordered.

    Args:
        key: of the random numbers; `key` to `key + 2` are used.
        path_of: the path of a film by its number.
    """
    found: dict[str, list[Asked]] = {}
    films = asked = 0
    for place, (split, size) in enumerate(sizes.items()):
        found[split] = []
        while len(found[split]) < size:
            rng = canvas.rng(key + place, films)
            content = draw_content(rng, held_out=None if split == "test" else False, is_filmed=True)
            canvas.video(path_of(films), writers.draw_film(content, rng), key + place, films)
            every = words.questions(content)
            for kind in rng.permutation(len(every))[: min(PER_FILM, size - len(found[split]))]:
                found[split].append(Asked(asked, films, int(kind), *every[kind]))
                asked += 1
            films += 1
    return found
