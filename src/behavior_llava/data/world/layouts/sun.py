"""SUN memorability in AMNet's form; its 25 splits are one and the same here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import draw_content


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Lists and images of every split."""
    folder = benchmarks / "sun"
    (folder / "splits").mkdir(parents=True, exist_ok=True)
    for place, split in enumerate(("train", "test")):
        lines = []
        for number in range(sizes[split]):
            rng = canvas.rng(135 + place, number)
            content = draw_content(rng, held_out=None if split == "test" else False)
            name = f"sun_{place}{number:07d}.jpg"
            canvas.image(folder / "images" / name, content, 135 + place, number)
            lines.append(f"{name} {float(np.clip(content.memorability + rng.normal(0, 0.04), 0, 1)):.6f}\n")
        for fold in range(1, 26):
            (folder / "splits" / f"{split}_{fold}.txt").write_text("".join(lines), encoding="utf-8")


LAYOUT = write
