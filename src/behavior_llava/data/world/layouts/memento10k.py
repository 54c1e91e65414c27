"""Memento10k as its authors ship it: no scores of its test split, so val has as many videos as other
benchmarks' test splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from behavior_llava.data.world import words, writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import draw_content


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Lists and videos of both splits."""
    folder = benchmarks / "memento10k"
    folder.mkdir(parents=True, exist_ok=True)
    for place, (split, size) in enumerate((("train", sizes["train"]), ("val", sizes["test"]))):
        rows = []
        for number in range(size):
            rng = canvas.rng(145 + place, number)
            content = draw_content(rng, held_out=None if split == "val" else False, is_filmed=True)
            name = f"{place}{number:05d}.mp4"
            canvas.video(folder / "videos" / name, writers.draw_film(content, rng), 145 + place, number)
            rows.append(
                {
                    "filename": name,
                    "mem_score": round(float(np.clip(content.memorability + rng.normal(0, 0.04), 0, 1)), 4),
                    "alpha": -round(float(rng.uniform(0, 0.002)), 6),
                    "captions": [words.caption(content)] * 5,
                    "actions": [content.action],
                }
            )
        writers.save_json(folder / f"memento_{split}_data.json", rows)


LAYOUT = write
