"""MSVD-QA as its authors ship it; the clips are MP4 under the official names, which end in .avi."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.layouts import questions


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Questions and clips of every split."""
    folder = benchmarks / "msvdqa"
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for split, asked in questions.ask(canvas, sizes, 230, lambda n: folder / f"video/vid{n + 1}.avi").items():
        rows = [
            {"answer": one.answer, "id": one.id, "question": one.question.lower(), "video_id": one.film + 1}
            for one in asked
        ]
        writers.save_json(folder / f"{split}_qa.json", rows)
        clips += sorted({one.film for one in asked})
    mapping = "".join(f"Cl{clip:09d}_0_3 vid{clip + 1}\n" for clip in clips)
    (folder / "youtube_mapping.txt").write_text(mapping, encoding="utf-8")


LAYOUT = write
