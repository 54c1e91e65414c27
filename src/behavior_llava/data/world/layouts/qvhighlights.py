"""QVHighlights as its authors ship it; asked for is the peak of a film, the shot with its event and face."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from behavior_llava.data.world import words, writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import draw_content
from behavior_llava.data.world.writers import Film

CLIP_S = 2
FILES = {
    "train": "highlight_train_release.jsonl",
    "val": "highlight_val_release.jsonl",
    "test": "highlight_test_with_gt.jsonl",
}


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Lists and clips of every split; of test also the list without truth."""
    folder = benchmarks / "qvhighlights"
    folder.mkdir(parents=True, exist_ok=True)
    for place, (split, size) in enumerate(sizes.items()):
        rows = []
        for number in range(size):
            rng = canvas.rng(320 + place, number)
            film = _film(rng, is_test=split == "test")
            row = _row(film, rng, number=place * 10_000 + number)
            canvas.video(folder / "videos" / f"{row['vid']}.mp4", film, 320 + place, number)
            rows.append(row)
        _save(folder / FILES[split], rows)
        if split == "test":
            bare = ("qid", "query", "duration", "vid")
            _save(folder / "highlight_test_release.jsonl", [{key: row[key] for key in bare} for row in rows])


def _film(rng: np.random.Generator, *, is_test: bool) -> Film:
    """Three shots of one to three clips each, one of which has something to ask for."""
    while True:
        content = draw_content(rng, held_out=None if is_test else False, is_filmed=True)
        if content.event is not None or content.expression is not None:
            break
    film = writers.draw_film(content, rng)
    shots = tuple(replace(shot, seconds=float(CLIP_S * rng.integers(1, 4))) for shot in film.shots)
    return replace(film, shots=shots)


def _row(film: Film, rng: np.random.Generator, *, number: int) -> dict[str, Any]:
    """Annotators like what many viewers like, each a little differently."""
    start = int(sum(shot.seconds for shot in film.shots[: film.peak]))
    end = start + int(film.shots[film.peak].seconds)
    clips = list(range(start // CLIP_S, end // CLIP_S))
    liked = 2 + 3 * film.content.appeal + rng.normal(0, 0.8, (len(clips), 3))
    return {
        "qid": number,
        "query": words.caption(film.shots[film.peak].content),
        "duration": int(film.duration_s),
        "vid": f"Qv{number:09d}_0.0_{film.duration_s:.1f}",
        "relevant_clip_ids": clips,
        "saliency_scores": np.clip(np.rint(liked), 0, 4).astype(int).tolist(),
        "relevant_windows": [[start, end]],
    }


def _save(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


LAYOUT = write
