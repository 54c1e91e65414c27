"""Pictures to be described, in this project's own layout: the paper names no data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world import words, writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import draw_content


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Lists and images of both splits; the captions say what is seen."""
    folder = benchmarks / "densecaptioning"
    folder.mkdir(parents=True, exist_ok=True)
    for place, split in enumerate(("train", "test")):
        rows = []
        for number in range(sizes[split]):
            content = draw_content(
                canvas.rng(300 + place, number), held_out=None if split == "test" else False
            )
            name = f"{place}{number:05d}.jpg"
            canvas.image(folder / "images" / name, content, 300 + place, number)
            rows.append({"image": name, "caption": words.caption(content)})
        writers.save_json(folder / f"{split}.json", rows)


LAYOUT = write
