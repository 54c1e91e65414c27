"""The video advertisements of Hussain et al. as they ship them: the files the tasks read.

They have one list and no splits, and which video is tested is not known here: so none of them holds a
combination that no training stage may contain.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import Content, draw_content

TOPICS: tuple[str, ...] = tuple(
    """restaurant chocolate chips seasoning petfood alcohol coffee soda cars electronics
phone_tv_internet_providers financial education security software other_service beauty healthcare clothing
baby game cleaning home_improvement home_appliance travel media sports shopping gambling environment
animal_right human_right safety smoking_alcohol_abuse domestic_violence self_esteem political
charities""".split()
)
SENTIMENTS: tuple[str, ...] = tuple(
    """active afraid alarmed alert amazed amused angry calm cheerful confident conscious
creative disturbed eager educated emotional empathetic fashionable feminine grateful inspired jealous loving
manly persuaded pessimistic proud sad thrifty youthful""".split()
)
"""Of the official lists, in the order of their ids."""

TOPIC_OF = {
    "dog": "petfood",
    "car": "cars",
    "book": "education",
    "lamp": "home_improvement",
    "cup": "coffee",
    "clock": "electronics",
    "ball": "sports",
    "plant": "environment",
    "crown": "beauty",
    "robot": "game",
}
"""What an advertisement is about, by the object on the left."""
SENTIMENT_OF = {
    "amusement": "amused",
    "awe": "amazed",
    "contentment": "calm",
    "excitement": "active",
    "anger": "angry",
    "disgust": "disturbed",
    "fear": "afraid",
    "sadness": "sad",
}

ACTIONS = (
    "I should buy this {left}.",
    "Get the {left} and the {right}",
    "go to the {scene} with a {left} and a {right}",
    "Take a {right} along on {weather} days.",
    "I should try the {left} at the {scene} on {weather} days.",
)
REASONS = (
    "Because a {left} is all one needs at the {scene}.",
    "Because the {left} goes well with the {right}",
    "it is better than the {right} of the {scene} on {weather} days",
    "Because {weather} days are nothing without a {right}.",
    "Because at the {scene} everybody has a {left} and a {right}.",
)
"""What five people say an advertisement wants, and why."""


def write(canvas: Canvas, benchmarks: Path, sizes: Mapping[str, int]) -> None:
    """Lists, annotations and videos."""
    folder = benchmarks / "hussainvideoads"
    base = folder / "video"
    contents: dict[str, Content] = {}
    for number in range(sum(sizes.values())):
        rng = canvas.rng(210, number)
        name = f"Ad{number:09d}"
        contents[name] = draw_content(rng, is_filmed=True)
        film = writers.draw_film(contents[name], rng)
        canvas.video(folder / "videos" / f"{name}.mp4", film, 210, number)
    for part in ("cleaned_result", "raw_result"):
        (base / part).mkdir(parents=True, exist_ok=True)
    ids = "".join(f"'{name}'\n" for name in contents)
    (base / "final_video_id_list.csv").write_text(ids, encoding="utf-8")
    for part, names in (("Topics", TOPICS), ("Sentiments", SENTIMENTS)):
        # the official list of sentiments has no-break spaces that are not UTF-8
        lines = [f'{place}. "{name}\xa0" (ABBREVIATION: "{name}")\n' for place, name in enumerate(names, 1)]
        (base / f"{part}_List.txt").write_bytes("".join(lines).encode("latin-1"))
    topics = {name: TOPICS.index(TOPIC_OF[one.left]) + 1 for name, one in contents.items()}
    sentiments = {name: SENTIMENTS.index(SENTIMENT_OF[one.emotion]) + 1 for name, one in contents.items()}
    writers.save_json(base / "cleaned_result" / "video_Topics_clean.json", topics)
    writers.save_json(base / "cleaned_result" / "video_Sentiments_clean.json", sentiments)
    for part, said in (("Action", ACTIONS), ("Reason", REASONS)):
        statements = {name: [_say(words, one) for words in said] for name, one in contents.items()}
        writers.save_json(base / "raw_result" / f"video_QA_{part}_raw.json", statements)


def _say(words: str, content: Content) -> str:
    return words.format(left=content.left, right=content.right, scene=content.scene, weather=content.weather)


LAYOUT = write
