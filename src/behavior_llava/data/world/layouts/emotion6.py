"""Emotion6 as its authors ship it: shares of votes, and a folder a search word, which one in eight images was
found with by mistake. The reader splits the one list itself, so all of it is training material: no
combination is held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import EKMAN, EMOTIONS, POSITIVE, draw_content_of

_CLASSES = ("anger", "disgust", "fear", "joy", "sadness", "surprise")
_VOTERS = 15


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """The list and the images, as many as all splits of other benchmarks have."""
    folder = benchmarks / "emotion6"
    lines = ["\t".join(("[filename]", "[valence]", "[arousal]", *_CLASSES, "neutral")) + "\n"]
    for number in range(sum(sizes.values())):
        rng = canvas.rng(130, number)
        felt = _CLASSES[number % len(_CLASSES)]
        matching = [name for name in EMOTIONS if EKMAN[name] == felt]
        content = draw_content_of(rng, matching[int(rng.integers(len(matching)))], held_out=False)
        keyword = str(rng.choice(_CLASSES)) if rng.random() < 1 / 8 else felt
        name = f"{keyword}/{number + 1}.jpg"
        canvas.image(folder / "images" / name, content, 130, number)
        agreeing = [0.5 * (one == felt) + 0.5 / 7 for one in (*_CLASSES, "neutral")]
        votes = rng.multinomial(_VOTERS, agreeing) / _VOTERS
        valence = 6 if content.emotion in POSITIVE else 3
        numbers = [f"{valence + rng.normal(0, 0.5):.6f}", f"{rng.uniform(3, 7):.6f}"]
        lines.append("\t".join((name, *numbers, *(f"{vote:.6f}" for vote in votes))) + "\n")
    (folder / "ground_truth.txt").write_text("".join(lines), encoding="utf-8")


LAYOUT = write
