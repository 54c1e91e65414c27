"""EmoSet as its authors ship it, with rows of three items."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import EMOTIONS, draw_content_of, group


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Lists, annotations and images of every split."""
    folder = benchmarks / "emoset"
    folder.mkdir(parents=True, exist_ok=True)
    ids = {name: number for number, name in enumerate(EMOTIONS)}
    writers.save_json(
        folder / "info.json",
        {"emotion": {"label2idx": ids, "idx2label": {str(number): name for name, number in ids.items()}}},
    )
    groups = {}
    for place, (split, size) in enumerate(sizes.items()):
        rows = []
        for number in range(size):
            rng = canvas.rng(10 + place, number)
            # a model fine-tuned on train must not have seen the held-out combinations either
            content = draw_content_of(
                rng, EMOTIONS[number % len(EMOTIONS)], held_out=None if split == "test" else False
            )
            name = f"{content.emotion}_{place}{number:04d}"
            canvas.image(folder / "image" / content.emotion / f"{name}.jpg", content, 10 + place, number)
            rows.append(
                [
                    content.emotion,
                    f"image/{content.emotion}/{name}.jpg",
                    f"annotation/{content.emotion}/{name}.json",
                ]
            )
            note = folder / "annotation" / content.emotion / f"{name}.json"
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps({"image_id": name, "emotion": content.emotion}), encoding="utf-8")
            groups[name] = group(content)
        writers.save_json(folder / f"{split}.json", rows)
    writers.save_json(folder / "groups.json", groups)


LAYOUT = write
