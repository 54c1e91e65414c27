"""IAPSa-8 in the form its task asks for. The reader splits the one list itself, so all of it is training
material: no combination is held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import EMOTIONS, draw_content_of


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """The list and the images, as many as all splits of other benchmarks have."""
    folder = benchmarks / "iapsa8"
    lines = ["picture,category\n"]
    for number in range(sum(sizes.values())):
        content = draw_content_of(canvas.rng(120, number), EMOTIONS[number % len(EMOTIONS)], held_out=False)
        canvas.image(folder / "images" / f"{1000 + number}.jpg", content, 120, number)
        lines.append(f"{1000 + number},{content.emotion}\n")
    (folder / "labels.csv").write_text("".join(lines), encoding="utf-8")


LAYOUT = write
