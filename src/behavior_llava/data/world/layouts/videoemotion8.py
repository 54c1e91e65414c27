"""VideoEmotion-8 as it is in use: VAANet's lists and JSON. Its eight classes are this world's eight emotions,
three of them under another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import draw_content_of, group

_EMOTION_OF = {
    "Anger": "anger",
    "Anticipation": "excitement",
    "Disgust": "disgust",
    "Fear": "fear",
    "Joy": "amusement",
    "Sadness": "sadness",
    "Surprise": "awe",
    "Trust": "contentment",
}


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Lists, JSON and videos of both splits."""
    folder = benchmarks / "videoemotion8"
    folder.mkdir(parents=True, exist_ok=True)
    classes = tuple(_EMOTION_OF)
    index = "".join(f"{number} {name}\n" for number, name in enumerate(classes, 1))
    (folder / "classInd.txt").write_text(index, encoding="utf-8")
    database, groups = {}, {}
    for place, (split, subset) in enumerate((("train", "training"), ("test", "validation"))):
        lines = []
        for number in range(sizes[split]):
            rng = canvas.rng(105 + place, number)
            label = classes[number % len(classes)]
            held_out = None if split == "test" else False
            content = draw_content_of(rng, _EMOTION_OF[label], held_out=held_out, is_filmed=True)
            film, name = writers.draw_film(content, rng), f"{place}{number:05d}_700"
            canvas.video(folder / "video" / label / f"{name}.mp4", film, 105 + place, number)
            lines.append(f"{label}/{name}" + (f" {classes.index(label) + 1}\n" if split == "train" else "\n"))
            database[name] = {"subset": subset, "annotations": {"label": label}}
            groups[f"{label}/{name}"] = group(content)
        (folder / f"{split}list01.txt").write_text("".join(lines), encoding="utf-8")
    writers.save_json(folder / "ve8_01.json", {"labels": list(classes), "database": database})
    writers.save_json(folder / "groups.json", groups)


LAYOUT = write
