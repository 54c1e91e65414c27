"""MemCat as its authors ship it. The category is drawn at random: this world's pictures have none. The reader
splits the one list itself, so all of it is training material: no combination is held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import draw_content
from behavior_llava.data.world.drawing import SIZE

_CATEGORIES = ("animal", "food", "landscape", "sports", "vehicle")
_COLUMNS = (
    *("", "image_file", "category", "subcategory", "current_height", "current_width", "source"),
    *("searched_label", "resize_factor", "H", "FA", "n_resp"),
    *("memorability_wo_fa_correction", "memorability_w_fa_correction"),
)
_VIEWERS = 99


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """The list and the images, as many as all splits of other benchmarks have."""
    folder = benchmarks / "memcat"
    lines = [",".join(f'"{column}"' for column in _COLUMNS) + "\n"]
    for number in range(sum(sizes.values())):
        rng = canvas.rng(140, number)
        content = draw_content(rng, held_out=False)
        category = str(rng.choice(_CATEGORIES))
        name = f"{number:012d}.jpg"
        canvas.image(folder / "images" / category / "any" / name, content, 140, number)
        hits = int(rng.binomial(_VIEWERS, content.memorability))
        false_alarms = min(hits, int(rng.binomial(_VIEWERS, 0.06)))
        scores = f"{hits / _VIEWERS:.15f},{(hits - false_alarms) / _VIEWERS:.15f}"
        where = f'"{name}","{category}","any",{SIZE},{SIZE},"drawn","any",1'
        lines.append(f'"{number + 1}",{where},{hits},{false_alarms},{_VIEWERS},{scores}\n')
    (folder / "memcat_image_data.csv").write_text("".join(lines), encoding="utf-8")


LAYOUT = write
