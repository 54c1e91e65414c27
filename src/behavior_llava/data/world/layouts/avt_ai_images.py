"""AVT-AI-Images' list of rated pictures, with as many generators as the published one has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import draw_content

_GENERATORS = ("craiyon", "dall-e", "glide", "midjourney", "stable_diffusion", "own")
_COLUMNS = "image_key,db,appeal_mean,appeal_std,realism_mean,prompt_matching_mean\n"


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """As many pictures as all splits of other benchmarks have; the reader splits the one list itself."""
    folder = benchmarks / "avtaiimages"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [_COLUMNS]
    for number in range(sum(sizes.values())):
        rng = canvas.rng(141, number)
        content = draw_content(rng, held_out=False)
        generator = _GENERATORS[number % len(_GENERATORS)]
        key = f"{generator}/p{1 + number // len(_GENERATORS):02d}"
        canvas.image(folder / "images" / f"{key}.jpg", content, 141, number)
        vote = float(np.clip(1 + 6 * content.appeal + rng.normal(0, 0.3), 1, 5))
        realism, match = rng.uniform(1, 5, size=2)
        lines.append(f"{key},{generator},{vote:.4f},1.1000,{realism:.4f},{match:.4f}\n")
    (folder / "all_ratings.csv").write_text("".join(lines), encoding="utf-8")


LAYOUT = write
