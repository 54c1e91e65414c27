"""Abstract as its authors ship it: votes, those of one image in eight tied. The reader splits the one list
itself, so all of it is training material: no combination is held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import EMOTIONS, draw_content_of

_COLUMNS = ("Amusement", "Anger", "Awe", "Content", "Disgust", "Excitement", "Fear", "Sad")


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """The list and the images, as many as all splits of other benchmarks have."""
    folder = benchmarks / "abstract"
    order: list[str] = sorted(EMOTIONS)  # which is that of the columns
    lines = [",".join(("''", *_COLUMNS)) + "\n"]
    for number in range(sum(sizes.values())):
        rng = canvas.rng(125, number)
        content = draw_content_of(rng, EMOTIONS[number % len(EMOTIONS)], held_out=False)
        name = f"abstract_{number:04d}.jpg"
        canvas.image(folder / name, content, 125, number)
        votes = [int(vote) for vote in rng.integers(0, 4, len(order))]
        felt = order.index(content.emotion)
        votes[felt] = 9
        if rng.random() < 1 / 8:
            votes[felt - 1] = 9
        lines.append(",".join((f"'{name}'", *map(str, votes))) + "\n")
    (folder / "ABSTRACT_groundTruth.csv").write_text("".join(lines), encoding="utf-8")


LAYOUT = write
