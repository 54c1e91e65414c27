"""IMDb as its authors ship it: a file a review."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world import words
from behavior_llava.data.world.canvas import Canvas


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """The reviews of both splits, every other one praise."""
    for place, split in enumerate(("train", "test")):
        for number in range(sizes[split]):
            rng = canvas.rng(40 + place, number)
            is_praise = number % 2 == 0
            target = benchmarks / "imdb" / "aclImdb" / split / ("pos" if is_praise else "neg")
            target.mkdir(parents=True, exist_ok=True)
            rating = int(rng.integers(7, 11)) if is_praise else int(rng.integers(1, 5))
            text = words.review(rng, is_praise=is_praise).replace(". ", ".<br /><br />", 1)
            (target / f"{number}_{rating}.txt").write_text(text, encoding="utf-8")


LAYOUT = write
