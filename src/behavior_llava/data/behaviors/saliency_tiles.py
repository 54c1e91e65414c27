"""Where people look: the nine tiles of a 3x3 grid, from most to least looked at.

For ablations: looking is perception, not the action that likes and comments are.
"""

from __future__ import annotations

import math
import re

from behavior_llava.core.schema import Behavior, BehaviorWords, NoParams, Post, Spans, Value

NUM_TILES = 9
_LINE = re.compile(r"^Tiles\b[^:\n]*:[ \t]*(\d(?:[ ,]+\d){8})[ \t.]*$", re.MULTILINE)


def value(post: Post, spans: Spans, params: NoParams) -> Value | None:
    """The part tile_order: tile numbers 1..9, row by row from the top left, the most looked at first; equal
    ones by number.
    """
    shares = post.saliency_tiles
    if shares is None or len(shares) != NUM_TILES or not all(math.isfinite(x) and x >= 0 for x in shares):
        return None
    if len(set(shares)) == 1:
        return None
    return {"tile_order": tuple(sorted(range(1, NUM_TILES + 1), key=lambda tile: (-shares[tile - 1], tile)))}


def say(said: Value, words: BehaviorWords) -> str:
    """One line with the nine numbers, `words.more["between"]` between them."""
    return words.sentence.format(tiles=words.more["between"].join(map(str, said["tile_order"])))


def read_back(text: str) -> Value | None:
    """The numbers of the first line that starts with "Tiles"; None where they are not 1..9, each once."""
    line = _LINE.search(text)
    order = () if line is None else tuple(int(number) for number in re.findall(r"\d", line[1]))
    return {"tile_order": order} if sorted(order) == list(range(1, NUM_TILES + 1)) else None


BEHAVIOR = Behavior(
    columns=("saliency_tiles",),
    params=NoParams,
    value=value,
    unsaid="no fixations were measured, or all tiles got the same",
    ask={
        "paper": "the nine tiles of a 3x3 grid, numbered row by row, from most to least looked at",
        "short": "the tiles looked at",
    },
    words={
        "paper": BehaviorWords("Tiles from most to least looked at: {tiles}", more={"between": ", "}),
        "short": BehaviorWords("Tiles: {tiles}", more={"between": " "}),
    },
    say=say,
    read_back=read_back,
    metrics={"tile_order": "order_correlation"},
    examples=(
        (
            {"saliency_tiles": (0.1, 0.2, 0.0, 0.05, 0.4, 0.05, 0.0, 0.2, 0.0)},
            {},
            (),
            "Tiles: 5 2 8 1 4 6 3 7 9",
        ),
        ({"saliency_tiles": (1 / 9,) * 9}, {}, (), None),
        ({"saliency_tiles": (0.5, 0.5)}, {}, (), None),
        ({}, {}, (), None),
    ),
    age_s=None,
)
