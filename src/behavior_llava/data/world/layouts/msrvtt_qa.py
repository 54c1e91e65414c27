"""MSRVTT-QA as its authors ship it; the categories are seeded random."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.layouts import questions

NUM_CATEGORIES = 20


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Questions and videos of every split."""
    folder = benchmarks / "msrvttqa"
    folder.mkdir(parents=True, exist_ok=True)
    for split, asked in questions.ask(canvas, sizes, 240, lambda n: folder / f"video/video{n}.mp4").items():
        rows = [
            {
                "answer": one.answer,
                "category_id": int(canvas.rng(243, one.film).integers(NUM_CATEGORIES)),
                "id": one.id,
                "question": one.question.lower(),
                "video_id": one.film,
            }
            for one in asked
        ]
        writers.save_json(folder / f"{split}_qa.json", rows)


LAYOUT = write
