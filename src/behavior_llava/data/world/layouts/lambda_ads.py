"""LAMBDA as its authors ship it: ads told in words, without media."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from behavior_llava.data.world import words, writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import PRODUCTS, draw_content

_FIRST = "Students are shown ads and their memorability is tested after 1 to 3 days. For the given ad: "
_LAST = "Return the long term memorability score of the video on a scale of 00 to 99 without any explanation."


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Questions and answers of both splits; that of training is in the same form, the release has none."""
    folder = benchmarks / "lambda"
    folder.mkdir(parents=True, exist_ok=True)
    for place, split in enumerate(("train", "test")):
        questions, answers = [], []
        for number in range(sizes[split]):
            rng = canvas.rng(160 + place, number)
            content = draw_content(rng, held_out=None if split == "test" else False, is_filmed=True)
            film = writers.draw_film(content, rng)
            told = " ".join(
                f"Scene {scene}: The scene shows {words.caption(shot.content)}."
                for scene, shot in enumerate(film.shots, 1)
            )
            brand = str(rng.choice(PRODUCTS))
            opening = f"They watch a {film.duration_s:.0f} second advertisement for {brand}."
            # in twelfths: the official scores are few, and many are tied
            recalled = float(np.clip(content.memorability + rng.normal(0, 0.04), 0, 1))
            score = round(99 * round(12 * recalled) / 12)
            key = 10000 * place + number
            questions.append(
                {
                    "video_name": f"video_scenes/{key}.npy",
                    "question": f"{_FIRST}{opening} {told} {_LAST} \n<image>\n",
                    "question_id": key,
                }
            )
            answers.append({"answer": f"{score:02d}", "question_id": key})
        writers.save_json(folder / f"bs_{split}_q.json", questions)
        writers.save_json(folder / f"bs_{split}_a.json", answers)


LAYOUT = write
