"""One archive of films, annotated by both Ekman-6 (emotion) and LVU (scene); each benchmark holds its own
copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import EKMAN, EMOTIONS, SCENES, draw_content_of, group


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Both benchmarks' lists and videos."""
    classes = ("anger", "disgust", "fear", "joy", "sadness", "surprise")
    ekman, lvu = benchmarks / "ekman6", benchmarks / "lvu"
    for place in (ekman, lvu / "lvu_1.0" / "scene"):
        place.mkdir(parents=True, exist_ok=True)
    (ekman / "classInd.txt").write_text(
        "".join(f"{number} {name}\n" for number, name in enumerate(classes, 1)), encoding="utf-8"
    )
    lists: dict[str, list[str]] = {"train": [], "test": []}
    scenes: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    groups = {}
    for place, (split, size) in enumerate(sizes.items()):
        for number in range(size):
            rng = canvas.rng(20 + place, number)
            label = classes[number % len(classes)]
            matching = [name for name in EMOTIONS if EKMAN[name] == label]
            emotion = matching[int(rng.integers(len(matching)))]
            content = draw_content_of(
                rng, emotion, held_out=None if split == "test" else False, is_filmed=True
            )
            film = writers.draw_film(content, rng)
            key = f"{place}{number:05d}"
            youtube_id = f"Fm{key}00000"[:11]
            canvas.video(lvu / "videos" / f"{youtube_id}.mp4", film, 20 + place, number)
            scenes[split].append(
                f"{SCENES.index(content.scene)} {content.scene} {youtube_id} tt{number:07d}\n"
            )
            if split != "val":
                twin = ekman / "video" / label / f"{key}.mp4"
                canvas.copy(lvu / "videos" / f"{youtube_id}.mp4", twin)
                lists[split].append(
                    f"{label}/{key}" + (f" {classes.index(label) + 1}" if split == "train" else "") + "\n"
                )
                groups[f"{label}/{key}"] = group(content)
    for split, lines in lists.items():
        (ekman / f"{split}list01.txt").write_text("".join(lines), encoding="utf-8")
    for split, lines in scenes.items():
        text = "class_id class_name youtube_id imdb_id\n" + "".join(sorted(lines))
        (lvu / "lvu_1.0" / "scene" / f"{split}.csv").write_text(text, encoding="utf-8")
    writers.save_json(ekman / "groups.json", groups)


LAYOUT = write
