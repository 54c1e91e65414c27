"""ActivityNet-QA as its authors ship it: questions and answers in files of their own, without a "?"."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.layouts import questions

TYPES = (6, 8, 5, 5, 8, 0)
"""Of words.questions, in its order: location, other, object, object, other, motion."""


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Questions, answers and videos of every split."""
    folder = benchmarks / "activitynetqa"
    folder.mkdir(parents=True, exist_ok=True)

    def name(film: int) -> str:
        return f"An{film:09d}"

    def path_of(film: int) -> Path:
        return folder / "videos" / f"v_{name(film)}.mp4"

    for split, asked in questions.ask(canvas, sizes, 250, path_of).items():
        ids = [f"v_{name(one.film)}_{one.id}" for one in asked]
        rows = [
            {
                "video_name": name(one.film),
                "question": one.question.lower().rstrip("?"),
                "question_id": question_id,
            }
            for question_id, one in zip(ids, asked, strict=True)
        ]
        writers.save_json(folder / f"{split}_q.json", rows)
        rows = [
            {"answer": one.answer, "type": TYPES[one.kind], "question_id": question_id}
            for question_id, one in zip(ids, asked, strict=True)
        ]
        writers.save_json(folder / f"{split}_a.json", rows)


LAYOUT = write
