"""Shot2Story20K as its authors list it, once with its films and once with their shots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from behavior_llava.data.world import words, writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import draw_content
from behavior_llava.data.world.writers import Film


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Both benchmarks' lists and videos; that of shots has a third of the films, and so as many rows."""
    whole, heard = benchmarks / "shot2story20kmultishot", benchmarks / "shot2story20kaudio"
    for folder in (whole, heard):
        folder.mkdir(parents=True, exist_ok=True)
    for place, (split, size) in enumerate(sizes.items()):
        rows = []
        num_heard = -(-size // 3)
        for number in range(size):
            rng = canvas.rng(310 + place, number)
            content = draw_content(rng, held_out=None if split == "test" else False, is_filmed=True)
            film = writers.draw_film(content, rng)
            name = f"Sh{place}{number:08d}"
            rows.append(_row(film, name))
            canvas.video(whole / "videos" / f"{name}.mp4", film, 310 + place, number)
            if number < num_heard:
                for shot, video in zip(film.shots, rows[-1]["video_names"], strict=True):
                    alone = Film(shot.content, (shot,), 0)
                    canvas.video(heard / "videos" / video, alone, 310 + place, number)
        writers.save_json(whole / f"20k_{split}.json", rows)
        writers.save_json(heard / f"20k_{split}.json", rows[:num_heard])


def _row(film: Film, name: str) -> dict[str, Any]:
    """What is said in a shot is what is seen in it, and its narration tells of that."""
    said = [words.caption(shot.content) for shot in film.shots]
    first, second, third = said
    return {
        "video": f"{name}.mp4",
        "image_id": name,
        "id": name,
        "whole_caption": f"It opens with {first}. Then comes {second}. It ends with {third}.",
        "whole_ASR": ". ".join(said),
        "nvid": len(said),
        "video_names": [f"{name}_{number}.mp4" for number in range(len(said))],
        "audio_captions": [f"A voice tells of {line}." for line in said],
        "captions": [f"One sees {line}." for line in said],
        "ASR": said,
    }


LAYOUT = write
