"""MediaEval's lists of 2020 and 2021, of the same videos here; dev is tested, so it has as many videos as
other benchmarks' test splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import draw_content

_HEADER_2020 = "video_id,video_url,ann_1,ann_2,part_1_scores,part_2_scores"
_HEADER_2021 = (
    "video_id,video_url,annotations_short_term,annotations_long_term,scores_raw_short_term,"
    "scores_raw_long_term,scores_normalized_short_term,decay_alpha"
)


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Lists and videos of both splits; days later a bit is lost."""
    folder = benchmarks / "mediaeval"
    for year in ("2020", "2021/trecvid"):
        (folder / year).mkdir(parents=True, exist_ok=True)
    for place, (split, size) in enumerate((("train", sizes["train"]), ("dev", sizes["test"]))):
        old, new = [f"{_HEADER_2020}\n"], [f"{_HEADER_2021}\n"]
        for number in range(size):
            rng = canvas.rng(155 + place, number)
            content = draw_content(rng, held_out=None if split == "dev" else False, is_filmed=True)
            key = 10000 * place + number + 1
            canvas.video(
                folder / "videos" / f"{key}.mp4", writers.draw_film(content, rng), 155 + place, number
            )
            scores = np.clip(content.memorability * np.array([1, 0.9]) + rng.normal(0, 0.04, 2), 0, 1)
            row = f"{key},https://videos.example/{key}.mp4,{rng.integers(12, 30)},{rng.integers(4, 12)}"
            row += ",".join(("", *(f"{score:.2f}" for score in scores)))
            old.append(f"{row}\n")
            new.append(f"{row},{scores[0]:.12f},0.0\n")
        old_name = {"train": "scores_v2"}.get(split, f"{split}_scores")
        (folder / "2020" / f"{old_name}.csv").write_text("".join(old), encoding="utf-8-sig")
        (folder / "2021" / "trecvid" / f"{split}_scores.csv").write_text("".join(new), encoding="utf-8")


LAYOUT = write
