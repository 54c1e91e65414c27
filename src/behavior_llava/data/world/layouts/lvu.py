"""LVU as its authors ship it, all parts but the scenes, which films.py writes; the clips are its own.

Of what a clip shows, genre follows from its emotion, the way of speaking from the face, relationship from the
weather, director and writer from the two objects; likes and views grow with appeal and memorability. The
decade is drawn at random: nothing in this world is of a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import EXPRESSIONS, OBJECTS, WEATHERS, Content, draw_content

_GENRES = ("Comedy", "Action-Crime-Adventure", "Romance", "Thriller-Horror")
_GENRE_OF = {"amusement": 0, "anger": 1, "excitement": 1, "contentment": 2, "sadness": 2}
_RELATIONSHIPS = ("friend", "ex_boyfriend_ex_girlfriend", "husband_wife", "boyfriend_girlfriend")
_WAYS = ("explains", "discuss", "confronts", "threatens", "teaches")
_WAY_IDS = {"explains": 0, "confronts": 1, "discuss": 2, "teaches": 3, "threatens": 4}
_DIRECTORS = (
    *("0 nm0000229", "1 nm0000217", "4 nm0000165", "5 nm0001675"),
    *("6 nm0040630", "7 nm0001392", "8 nm0000631", "9 nm0000233"),
)
_WRITERS = (
    *("1 nm0001220", "2 nm0000175", "5 nm0000455", "6 nm0462895", "7 nm0000230", "9 nm0326040"),
    *(r"0 \N", r"0 \N"),
)


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """The lists of eight parts, each of all clips, and the clips."""
    folder = benchmarks / "lvu"
    lists: dict[tuple[str, str], list[str]] = {}
    for place, (split, size) in enumerate(sizes.items()):
        for number in range(size):
            rng = canvas.rng(100 + place, number)
            content = draw_content(rng, held_out=None if split == "test" else False, is_filmed=True)
            youtube_id = f"Lv{place}{number:05d}000"
            film = writers.draw_film(content, rng)
            canvas.video(folder / "videos" / f"{youtube_id}.mp4", film, 100 + place, number)
            for part, label in _labels(content, rng).items():
                lists.setdefault((part, split), []).append(f"{label} {youtube_id} tt{number:07d}\n")
    columns = {"like_ratio": "like_count dislike_count", "view_count": "view_count"}
    for (part, split), lines in lists.items():
        path = folder / "lvu_1.0" / part / f"{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        header = f"{columns.get(part, 'class_id class_name')} youtube_id imdb_id\n"
        path.write_text(header + "".join(sorted(lines)), encoding="utf-8")


def _labels(content: Content, rng: np.random.Generator) -> dict[str, str]:
    """The first columns of a clip's row, by part."""
    genre = _GENRE_OF.get(content.emotion, 3)
    weather = WEATHERS.index(content.weather)
    way = _WAYS[4 if content.expression is None else EXPRESSIONS.index(content.expression)]
    director, writer = (
        OBJECTS.index(name) if name in OBJECTS else 0 for name in (content.left, content.right)
    )
    decade = int(rng.integers(9))
    views = int(np.exp(8 + 6 * content.memorability + rng.normal(0, 0.5)))
    votes = 100 + views // 50
    likes = int(votes * np.clip(0.7 + 0.45 * content.appeal + rng.normal(0, 0.02), 0.5, 0.99))
    return {
        "relationship": f"{weather} {_RELATIONSHIPS[weather]}",
        "way_speaking": f"{_WAY_IDS[way]} {way}",
        "director": _DIRECTORS[director],
        "genre": f"{genre} {_GENRES[genre]}",
        "writer": _WRITERS[writer],
        "year": f"{decade} {1930 + 10 * decade}",
        "like_ratio": f"{likes} {votes - likes}",
        "view_count": f"{views}",
    }


LAYOUT = write
