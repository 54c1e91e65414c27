"""VideoMem as its authors ship it, but that its videos are WebM by name only. The reader splits the one list
itself, so all of it is training material: no combination is held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import draw_content

_HEADER = (
    "video,short-term_memorability,nb_short-term_annotations,long-term_memorability,nb_long-term_annotations"
)


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """The list and the videos, as many as all splits of other benchmarks have; days later a bit is lost."""
    folder = benchmarks / "videomem"
    lines = [f"{_HEADER}\n"]
    for number in range(sum(sizes.values())):
        rng = canvas.rng(150, number)
        content = draw_content(rng, held_out=False, is_filmed=True)
        name = f"video{number + 1}.webm"
        canvas.video(folder / "videos" / name, writers.draw_film(content, rng), 150, number)
        at_once, later = np.clip(content.memorability * np.array([1, 0.9]) + rng.normal(0, 0.04, 2), 0, 1)
        lines.append(f"{name},{at_once:.3f},{rng.integers(30, 90)},{later:.3f},{rng.integers(2, 16)}\n")
    (folder / "ground-truth_dev-set.csv").write_text("".join(lines), encoding="utf-8-sig")


LAYOUT = write
