"""SophoAppeal's list of liked photos with votes, in the form that the source of that name reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import draw_content


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """One list of as many photos as the splits have together; a photo in twelve without votes."""
    folder = benchmarks / "sophoappeal"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["image,source,likes,views,crowd_mos\n"]
    for number in range(sizes["train"] + sizes["test"]):
        rng = canvas.rng(142, number)
        content = draw_content(rng, held_out=False)
        name = f"images/photo_{number:05d}.jpg"
        canvas.image(folder / name, content, 142, number)
        views = int(rng.integers(100, 5000))
        likes = int(rng.binomial(views, content.appeal))
        vote = float(np.clip(1 + 6 * content.appeal + rng.normal(0, 0.3), 1, 5))
        told = f"{vote:.4f}" if rng.random() > 1 / 12 else ""
        lines.append(f"{name},{('first', 'second')[number % 2]},{likes},{views},{told}\n")
    (folder / "behaviour.csv").write_text("".join(lines), encoding="utf-8")


LAYOUT = write
