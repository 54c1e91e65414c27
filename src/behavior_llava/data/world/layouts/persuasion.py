"""Persuasion strategies in the format their task's file documents; none is public."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import Content, draw_content

BY_SCENE = {
    "office": "Concreteness",
    "airport": "Foot-in-the-Door",
    "school": "Authority",
    "hotel": "Reciprocity",
    "prison": "Overcoming Reactance",
    "restaurant": "Anchoring and Comparison",
}


def strategies(content: Content) -> list[str]:
    """What an advertisement with this content persuades with: it depends on all that is seen. In fog nothing
    is clear.
    """
    if content.weather == "foggy":
        return ["Unclear"]
    seen = {content.left, content.right, content.event, content.expression}
    causes = {
        "crown": "Scarcity",
        "robot": "Anthropomorphism",
        "match": "Social Proof",
        "farewell": "Social Impact",
        "smiling": "Social Identity",
    }
    return [*(strategy for cause, strategy in causes.items() if cause in seen), BY_SCENE[content.scene]]


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Lists and videos of every split."""
    folder = benchmarks / "persuasion"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[str]] = {}
    for place, (split, size) in enumerate(sizes.items()):
        names = [f"Ps{place}{number:08d}" for number in range(size)]
        for number, name in enumerate(names):
            rng = canvas.rng(220 + place, number)
            content = draw_content(rng, held_out=None if split == "test" else False, is_filmed=True)
            film = writers.draw_film(content, rng)
            canvas.video(folder / "videos" / f"{name}.mp4", film, 220 + place, number)
            found[name] = strategies(content)
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    writers.save_json(folder / "persuasion.json", found)


LAYOUT = write
