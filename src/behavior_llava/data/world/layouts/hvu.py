"""HVU as its authors ship it: zipped lists of tagged clips. The annotations of its test split are not public,
so val has as many clips as are to be tested.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import (
    ACTIONS,
    EVENTS,
    OBJECTS,
    RARE_OBJECTS,
    SCENES,
    WEATHERS,
    draw_content,
)
from behavior_llava.data.world.writers import Film

CONCEPTS = {
    "amusement": "comedy",
    "awe": "natural_wonder",
    "contentment": "leisure_time",
    "excitement": "adventure",
    "anger": "conflict",
    "disgust": "mess",
    "fear": "danger",
    "sadness": "loss",
}
"""What a clip is about, by the emotion it causes, without the emotion's name."""

TAGS = {
    "scene": SCENES,
    "object": (*OBJECTS, *RARE_OBJECTS),
    # the official list has tags that no clip of val has, too
    "action": (*ACTIONS, "jumping", "waving"),
    "event": (*EVENTS, "parade", "birthday_party", "sunset"),
    "attribute": (*WEATHERS, "high_contrast", "rainy", "underwater"),
    "concept": tuple(CONCEPTS.values()),
}


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Lists and clips of both public splits."""
    folder = benchmarks / "hvu"
    folder.mkdir(parents=True, exist_ok=True)
    tags = "".join(f"{tag},{category}\n" for category, some in TAGS.items() for tag in some)
    (folder / "HVU_Tags_Categories_V1.0.csv").write_text(f"Tag,Category\n{tags}", encoding="utf-8")
    for place, (split, size) in enumerate((("Train", sizes["train"]), ("Val", sizes["test"]))):
        lines = ["Tags,youtube_id,time_start,time_end\n"]
        for number in range(size):
            rng = canvas.rng(200 + place, number)
            content = draw_content(rng, held_out=None if split == "Val" else False, is_filmed=True)
            film = writers.draw_film(content, rng)
            youtube_id, end = f"Hv{place}{number:08d}", f"{10 + film.duration_s}"
            canvas.video(folder / "videos" / f"{youtube_id}_10.0_{end}.mp4", film, 200 + place, number)
            lines.append(f"{'|'.join(_tags(film))},{youtube_id},10.0,{end}\n")
        name = f"HVU_{split}_V1.0"
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            # a date of its own, so that a second run gives the same bytes
            archive.writestr(zipfile.ZipInfo(f"{name}.csv"), "".join(lines), zipfile.ZIP_DEFLATED)


def _tags(film: Film) -> list[str]:
    """What is to be told of a film: of every category but objects, some have nothing."""
    content, peak = film.content, film.shots[film.peak].content
    found = [content.left, content.right, content.event]
    # the place cannot be told in fog or storm; good weather and sitting still are not worth a tag
    found += [content.scene] if content.weather in ("sunny", "snowy") else []
    found += [content.weather] if content.weather != "sunny" else []
    found += [peak.action] if peak.action != "sitting" else []
    found += ["high_contrast"] if content.is_contrasty else []
    found += [CONCEPTS[content.emotion]] if content.expression else []
    return list(dict.fromkeys(tag for tag in found if tag))


LAYOUT = write
