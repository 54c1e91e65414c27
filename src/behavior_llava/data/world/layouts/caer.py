"""CAER as its authors ship it, a folder a class, but that its videos are AVI by name only. A film without a
face is neutral; a face has the emotion that the film causes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import EKMAN, Content, draw_content, group

_CLASSES = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
_NAMES = {"joy": "Happy", "sadness": "Sad"}


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """The videos of every split, of each class at least one."""
    folder = benchmarks / "caer"
    groups = {}
    for place, (split, size) in enumerate(sizes.items()):
        base = folder / "CAER" / {"val": "validation"}.get(split, split)
        for number in range(max(size, len(_CLASSES))):
            rng = canvas.rng(110 + place, number)
            wanted = _CLASSES[number % len(_CLASSES)]
            held_out = None if split == "test" else False
            while _class_of(content := draw_content(rng, held_out=held_out, is_filmed=True)) != wanted:
                continue
            name = f"{place}{number:04d}"
            film = writers.draw_film(content, rng)
            canvas.video(base / wanted / f"{name}.avi", film, 110 + place, number)
            groups[f"{wanted}/{name}"] = group(content)
    writers.save_json(folder / "groups.json", groups)


def _class_of(content: Content) -> str:
    if content.expression is None:
        return "Neutral"
    emotion = EKMAN[content.emotion]
    return _NAMES.get(emotion, emotion.title())


LAYOUT = write
