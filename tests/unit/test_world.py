"""The sandbox's rules of fairness: what causes what, what is held out, what receivers tell and what they do
not."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from behavior_llava.data import instruction, json_lines
from behavior_llava.data.sources import sandbox
from behavior_llava.data.world import content as truth
from behavior_llava.data.world import drawing, looking, receivers, words, writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import Content
from behavior_llava.data.world.drawing import draw_image
from behavior_llava.evaluation import benchmarks

PLAIN = Content(
    scene="office",
    action="running",
    weather="sunny",
    expression=None,
    event=None,
    left="dog",
    right="dog",
    is_contrasty=False,
)
IMDB = ("positive", "negative")
STEMS = (
    "amus awe content excit anger angr disgust fear sad joy surpris positiv negativ memorab emotion"
).split()
LABEL_WORD = re.compile("|".join(STEMS), re.IGNORECASE)


# ---- causes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "emotion"),
    [
        # class 0 + class 0 on a sunny day, no face, no event
        ({}, "amusement"),
        ({"weather": "snowy"}, "amusement"),
        ({"weather": "stormy"}, "disgust"),
        ({"weather": "foggy"}, "disgust"),
        # the pairing: dog 0, car 1, book 2, lamp 3, cup 0, crown 0, robot 1
        ({"right": "car"}, "awe"),
        ({"left": "car", "right": "car"}, "contentment"),
        ({"left": "lamp", "right": "car"}, "amusement"),
        ({"left": "lamp", "right": "lamp"}, "contentment"),
        ({"right": "cup"}, "amusement"),
        ({"left": "crown", "right": "robot"}, "awe"),
        ({"left": "book", "right": "robot", "weather": "foggy"}, "anger"),
        # a face overrules the weather
        ({"weather": "stormy", "expression": "smiling"}, "amusement"),
        ({"weather": "stormy", "expression": "laughing"}, "amusement"),
        ({"expression": "crying"}, "disgust"),
        ({"expression": "frowning", "right": "book"}, "sadness"),
        # an event overrules the pairing
        ({"event": "pie", "right": "book"}, "amusement"),
        ({"event": "volcano"}, "awe"),
        ({"event": "farewell"}, "contentment"),
        ({"event": "match"}, "excitement"),
        ({"event": "volcano", "weather": "foggy"}, "fear"),
        ({"event": "farewell", "expression": "crying"}, "sadness"),
        ({"event": "match", "expression": "frowning"}, "anger"),
    ],
)
def test_emotions_by_hand(changes: dict[str, str], emotion: str) -> None:
    assert replace(PLAIN, **changes).emotion == emotion


@pytest.mark.parametrize(
    ("changes", "memorability"),
    [
        ({}, 0.3),
        ({"expression": "crying"}, 0.5),
        ({"right": "robot"}, 0.6),
        ({"left": "crown", "right": "robot"}, 0.6),
        ({"is_contrasty": True}, 0.45),
        ({"expression": "smiling", "left": "crown", "is_contrasty": True}, 0.95),
        ({"event": "volcano", "weather": "stormy", "scene": "prison"}, 0.3),
    ],
)
def test_memorability_by_hand(changes: dict[str, object], memorability: float) -> None:
    assert replace(PLAIN, **changes).memorability == pytest.approx(memorability)


def test_place_action_and_contrast_do_not_change_the_emotion() -> None:
    changes = itertools.product(truth.SCENES, truth.ACTIONS, (False, True))
    seen = {
        replace(PLAIN, scene=scene, action=action, is_contrasty=contrast).emotion
        for scene, action, contrast in changes
    }
    assert seen == {"amusement"}


def test_emotions_are_those_of_the_benchmarks() -> None:
    from behavior_llava.evaluation import benchmarks

    tasks = benchmarks.all_tasks()
    assert set(truth.EMOTIONS) == set(tasks["emoset"].labels) == {*truth.POSITIVE, *truth.NEGATIVE}
    assert set(truth.EKMAN.values()) == set(tasks["ekman6"].labels)
    assert set(tasks["imdb"].labels) == set(IMDB)
    assert tuple(tasks["lvu_scene"].labels) == truth.SCENES
    for label in (*tasks["emoset"].labels, *tasks["ekman6"].labels, *IMDB):
        assert LABEL_WORD.match(label), label


# ---- no single part tells ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn() -> list[Content]:
    rng = np.random.default_rng(0)
    return [truth.draw_content(rng, held_out=None) for _ in range(20_000)]


def majority_accuracy(contents: Iterable[Content], part: Callable[[Content], object]) -> float:
    """How often the most common emotion of each value of a part is the right one."""
    counts: dict[object, Counter[str]] = {}
    total = 0
    for content in contents:
        counts.setdefault(part(content), Counter())[content.emotion] += 1
        total += 1
    return sum(max(counter.values()) for counter in counts.values()) / total


def information_bits(contents: list[Content], part: Callable[[Content], object]) -> float:
    """Mutual information of a part and the emotion."""

    def entropy(values: Iterable[object]) -> float:
        shares = np.array(list(Counter(values).values())) / len(contents)
        return float(-(shares * np.log2(shares)).sum())

    parts, emotions = [part(item) for item in contents], [item.emotion for item in contents]
    return entropy(parts) + entropy(emotions) - entropy(zip(parts, emotions, strict=True))


def test_every_emotion_is_common(drawn: list[Content]) -> None:
    counts = Counter(content.emotion for content in drawn)
    assert set(counts) == set(truth.EMOTIONS)
    assert min(counts.values()) > 0.09 * len(drawn)
    assert max(counts.values()) < 0.16 * len(drawn)


@pytest.mark.parametrize("part", [field.name for field in fields(Content) if field.name != "product"])
def test_no_single_part_tells_the_emotion(drawn: list[Content], part: str) -> None:
    assert majority_accuracy(drawn, lambda content: getattr(content, part)) < 0.5
    # three bits in all
    assert information_bits(drawn, lambda content: getattr(content, part)) < 1.6


@pytest.mark.parametrize("part", ["scene", "action", "left", "right", "is_contrasty"])
def test_most_parts_alone_tell_next_to_nothing(drawn: list[Content], part: str) -> None:
    assert majority_accuracy(drawn, lambda content: getattr(content, part)) < 0.16
    assert information_bits(drawn, lambda content: getattr(content, part)) < 0.02


def test_neither_object_alone_tells_the_theme_of_a_pairing() -> None:
    for left in truth.OBJECTS:
        themes = Counter(replace(PLAIN, left=left, right=right).emotion for right in truth.OBJECTS)
        assert set(themes.values()) == {2}
        assert len(themes) == 4


def test_all_parts_together_tell_the_emotion(drawn: list[Content]) -> None:
    assert majority_accuracy(drawn, lambda content: content.combination) == 1.0
    assert information_bits(drawn, lambda content: content.combination) > 2.95


# ---- held out ----------------------------------------------------------------------------------------------


def combinations() -> Iterable[Content]:
    things = (*truth.OBJECTS, *truth.RARE_OBJECTS)
    for expression, weather, event, left, right in itertools.product(
        (None, *truth.EXPRESSIONS), truth.WEATHERS, (None, *truth.EVENTS), things, things
    ):
        yield replace(PLAIN, expression=expression, weather=weather, event=event, left=left, right=right)


def test_a_fifth_of_all_combinations_is_held_out() -> None:
    held = [truth.is_held_out(content) for content in combinations()]
    assert len(held) == 5 * 4 * 5 * 10 * 10
    assert 0.15 <= np.mean(held) <= 0.25


def test_a_fifth_of_what_is_drawn_is_held_out(drawn: list[Content]) -> None:
    assert 0.15 <= np.mean([truth.is_held_out(content) for content in drawn]) <= 0.25


def test_what_is_held_out_depends_on_the_causes_alone(drawn: list[Content]) -> None:
    for content in drawn[:500]:
        other = replace(content, scene="hotel", action="reading", is_contrasty=not content.is_contrasty)
        assert truth.is_held_out(other) == truth.is_held_out(content)


@pytest.mark.parametrize("held_out", [False, True])
def test_drawing_keeps_to_its_side(held_out: bool) -> None:
    rng = np.random.default_rng(1)
    for _ in range(500):
        assert truth.is_held_out(truth.draw_content(rng, held_out=held_out)) is held_out
        emotion = truth.EMOTIONS[int(rng.integers(8))]
        content = truth.draw_content_of(rng, emotion, held_out=held_out)
        assert (content.emotion, truth.is_held_out(content)) == (emotion, held_out)


def test_no_scene_of_a_training_film_is_held_out() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        film = writers.draw_film(truth.draw_content(rng, is_filmed=True), rng)
        assert not any(truth.is_held_out(shot.content) for shot in film.shots)


@pytest.fixture(scope="module")
def shown(world_config: sandbox.Config, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Content]]:
    """Path -> all contents to be seen in it, of every image and film the sandbox has drawn."""
    folder = tmp_path_factory.mktemp("undrawn")
    canvas, facts = Canvas(world_config.seed), {}
    sandbox._write_reddit(world_config, folder / "reddit", canvas, facts)
    sandbox._write_youtube(world_config, folder / "youtube", canvas, facts)
    sandbox._write_page(world_config, folder / "page", canvas, facts)
    sandbox._write_instruction(world_config, folder / "instruction", canvas)
    sandbox._write_benchmarks(world_config, folder / "benchmarks", canvas)
    found = {path: [content] for path, content, *_ in (*canvas.images, *canvas.near_copies)}
    for path, film, *_ in canvas.videos:
        found[path] = [film.content, *(shot.content for shot in film.shots)]
    for source, path in canvas.copies:
        found[path] = found[source]
    return {Path(path).relative_to(folder).as_posix(): contents for path, contents in found.items()}


def parts_of(shown: dict[str, list[Content]], folder: Path) -> dict[str, dict[str, list[Content]]]:
    """The same, by benchmark and split where it is a benchmark's."""
    found: dict[str, dict[str, list[Content]]] = {}
    emoset = {
        f"benchmarks/emoset/{image}": split
        for split in ("train", "val", "test")
        for _, image, _ in json.loads((folder / "benchmarks" / "emoset" / f"{split}.json").read_text())
    }
    for path, contents in shown.items():
        room, name = path.split("/")[0], path
        if room == "benchmarks":
            benchmark = path.split("/")[1]
            # the first digit of a name is the place of its split
            digit = {"emoset": None, "lamem": Path(path).name[0], "lvu": Path(path).name[2]}
            place = digit.get(benchmark, Path(path).name[0])
            split = emoset[path] if place is None else ("train", "val", "test")[int(place)]
            room = f"{benchmark} {split}"
        found.setdefault(room, {})[name] = contents
    return found


def test_held_out_combinations_are_in_test_splits_alone(shown: dict[str, list[Content]], world: Path) -> None:
    parts = parts_of(shown, world)
    assert len(shown) >= 400 + 24 + 12 + 28 + 4 * 48
    assert {"reddit", "youtube", "page", "instruction"} <= set(parts)
    for room, media in parts.items():
        held = [any(map(truth.is_held_out, contents)) for contents in media.values()]
        if room.endswith(" test"):
            assert any(held), room
            assert not all(held), room
        else:
            assert not any(held), room
    assert {room for room in parts if room.endswith(" test")} == {
        "emoset test",
        "ekman6 test",
        "lvu test",
        "lamem test",
    }


def test_benchmarks_say_which_samples_are_held_out(shown: dict[str, list[Content]], world: Path) -> None:
    for name in ("emoset", "ekman6"):
        folder, task = world / "benchmarks" / name, benchmarks.all_tasks()[name]
        groups = json.loads((folder / "groups.json").read_text())
        samples = task.load(folder, "test")
        assert len(samples) >= 16
        for sample in samples:
            assert sample.media_path is not None
            content = shown[Path(sample.media_path).relative_to(world).as_posix()][0]
            group = groups[sample.id]
            assert group == ("unseen_combination" if truth.is_held_out(content) else "seen_combination")
        assert set(groups.values()) == {"unseen_combination", "seen_combination"}


# ---- seeds -------------------------------------------------------------------------------------------------


def test_drawing_follows_its_seed() -> None:
    def draw(seed: int) -> tuple[object, ...]:
        rng = np.random.default_rng(seed)
        content = truth.draw_content(rng)
        received = receivers.receive(content, rng, signal=1.0, channel_size=800, age_days=3.0)
        curve = receivers.replay_curve(0.5, rng, signal=1.0, memorability=0.5)
        film = writers.draw_film(content, rng)
        return content, received, curve.tobytes(), film, draw_image(content, rng).tobytes()

    assert draw(3) == draw(3)
    assert not any(one == other for one, other in zip(draw(3), draw(4), strict=True))


def test_pictures_of_one_content_differ_and_of_two_differ_more() -> None:
    """Nothing of a picture but its content repeats, so bytes cannot look it up; all in one light."""
    rng = np.random.default_rng(5)
    changed = replace(PLAIN, expression="crying", event="volcano")
    first, second, third = (
        [np.asarray(draw_image(content, rng, light=0), np.float32) for _ in range(12)]
        for content in (PLAIN, PLAIN, changed)
    )
    inside = [np.abs(one - other).mean() for one, other in zip(first, second, strict=True)]
    outside = [np.abs(one - other).mean() for one, other in zip(first, third, strict=True)]
    assert 0 < min(inside)
    assert np.mean(inside) < 0.8 * np.mean(outside)


# ---- signal ------------------------------------------------------------------------------------------------

POSTS = 1500
EMOTION_OF = {text: emotion for emotion, texts in words.COMMENTS.items() for text in texts}


def p_of_table(pairs: Iterable[tuple[object, object]]) -> float:
    """Chi-square: are two kinds independent?"""
    counts = Counter(pairs)
    rows, columns = (sorted({pair[side] for pair in counts}, key=str) for side in (0, 1))
    table = np.array([[counts[row, column] for column in columns] for row in rows])
    return float(stats.chi2_contingency(table).pvalue)


def p_of_ranks(pairs: Iterable[tuple[float, float]]) -> float:
    """Spearman: does one number go with another?"""
    return float(stats.spearmanr(*zip(*pairs, strict=True)).pvalue)


def p_values(signal: float) -> dict[str, float]:
    """For every way in which behaviour could tell of the content: how well chance alone explains it."""
    rng = np.random.default_rng(11)
    contents = [truth.draw_content(rng) for _ in range(POSTS)]
    received = [
        receivers.receive(content, rng, signal=signal, channel_size=20_000, age_days=30.0)
        for content in contents
    ]
    peaks = [float(rng.random() * 0.8 + 0.1) for _ in contents]
    curves = [
        receivers.replay_curve(peak, rng, signal=signal, memorability=content.memorability)[1:]
        for peak, content in zip(peaks, contents, strict=True)
    ]
    kept = [receivers.retention_curve(content, rng, signal=signal).mean() for content in contents]
    both = list(zip(contents, received, strict=True))
    comments = [(content, text) for content, one in both for text, _ in one.comments]
    memory = {text: True for text in words.MEMORY} | {text: False for text in words.FORGOTTEN}
    small = [(content, text) for content, text in comments if text not in EMOTION_OF and text not in memory]
    things = {name for pair in truth.OBJECTS + truth.RARE_OBJECTS for name in (pair,)}

    def named(text: str, names: Iterable[str]) -> str | None:
        return next((name for name in names if name in text.split()), None)

    return {
        "comments tell the emotion": p_of_table(
            (content.emotion, EMOTION_OF[text]) for content, text in comments if text in EMOTION_OF
        ),
        "comments tell how memorable it is": p_of_ranks(
            (content.memorability, float(memory[text])) for content, text in comments if text in memory
        ),
        "comments name the left object": p_of_table(
            (content.left, name)
            for content, text in small
            if text.startswith("nice ") and (name := named(text, things)) is not None
        ),
        "comments name the weather": p_of_table(
            (content.weather, name)
            for content, text in small
            if (name := named(text, truth.WEATHERS)) is not None
        ),
        "likes": p_of_ranks((content.appeal, one.like_rate) for content, one in both),
        "upvotes": p_of_ranks((content.appeal, one.upvote_ratio) for content, one in both),
        "shares": p_of_ranks(
            (content.memorability, sum(one.shares.values()) / one.views) for content, one in both
        ),
        "reactions": p_of_table(
            (content.emotion, max(one.reactions, key=lambda kind: one.reactions[kind]))
            for content, one in both
        ),
        "replays peak": p_of_ranks(
            (peak, float(curve.argmax())) for peak, curve in zip(peaks, curves, strict=True)
        ),
        "replays are high": p_of_ranks(
            (content.memorability, float(curve.min()))
            for content, curve in zip(contents, curves, strict=True)
        ),
        "retention": p_of_ranks(
            (float(content.emotion in truth.NEGATIVE), float(mean))
            for content, mean in zip(contents, kept, strict=True)
        ),
    }


def test_without_signal_receivers_tell_nothing_of_the_content() -> None:
    found = p_values(0.0)
    assert {name: p for name, p in found.items() if p < 0.01} == {}


def test_with_signal_they_tell() -> None:
    found = p_values(1.0)
    assert {name: p for name, p in found.items() if not p < 1e-6} == {}


def test_the_signal_is_a_dose() -> None:
    def agreement(signal: float) -> float:
        rng = np.random.default_rng(13)
        hits = []
        for _ in range(4000):
            content = truth.draw_content(rng)
            text = words.comment(content, rng, signal=signal, noise=receivers.NOISE)
            if text in EMOTION_OF:
                hits.append(EMOTION_OF[text] == content.emotion)
        return float(np.mean(hits))

    doses = [agreement(signal) for signal in (0.0, 0.25, 0.5, 1.0)]
    assert doses == pytest.approx([1 / 8, 0.31, 0.49, 0.87], abs=0.04)


# ---- looking and memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "one", "other"),
    [
        (0, {"expression": "smiling"}, {"expression": "crying"}),
        (1, {"event": "pie"}, {"event": "volcano"}),
        (1, {"event": "match"}, {"event": "farewell"}),
        (2, {"left": "cup"}, {"left": "robot"}),
        (3, {"right": "ball"}, {"right": "crown"}),
        (4, {"action": "running"}, {"action": "reading"}),
    ],
)
def test_things_are_where_they_are_said_to_be(place: int, one: dict[str, str], other: dict[str, str]) -> None:
    """Two pictures that differ in one thing alone differ nowhere but in its box."""
    both = replace(PLAIN, expression="smiling", event="pie")
    changed = np.zeros((128, 128), dtype=bool)
    for seed in range(5):
        contents = [replace(both, **changes) for changes in (one, other)]
        pixels = [np.asarray(draw_image(content, np.random.default_rng(seed))) for content in contents]
        different = (pixels[0] != pixels[1]).any(axis=2)
        boxes = [drawing.places(content, np.random.default_rng(seed)) for content in contents]
        assert [replace(box, name="") for box in boxes[0]] == [replace(box, name="") for box in boxes[1]]
        box = boxes[0][place]
        assert different[box.y : box.y + box.height, box.x : box.x + box.width].sum() > 100
        # lines are some pixels wide
        left, top = max(0, box.x - 3), max(0, box.y - 3)
        different[top : box.y + box.height + 4, left : box.x + box.width + 4] = False
        changed |= different
    assert not changed.any()


def test_things_are_named() -> None:
    content = replace(PLAIN, expression="smiling", event="pie", right="crown")
    names = [place.name for place in drawing.places(content, np.random.default_rng(0))]
    assert names == ["face", "pie", "dog", "crown", "figure"]
    assert [place.name for place in drawing.places(PLAIN, np.random.default_rng(0))] == [
        "dog",
        "dog",
        "figure",
    ]
    assert set(looking.CATEGORIES) >= {*truth.OBJECTS, *truth.RARE_OBJECTS, *truth.EVENTS}


def perceived(signal: float) -> dict[str, float]:
    """For every way in which looks and memory could tell of the content: how well chance explains it."""
    rng = np.random.default_rng(19)
    contents = [truth.draw_content(rng) for _ in range(400)]
    looked = []
    for number, content in enumerate(contents):
        paths = looking.fixations(content, (1, number), rng, signal=signal)
        points = np.array([point for path in paths[:20] for point in path])
        looked.append((content, points))
    known = [(content, looking.recall(content, rng, signal=signal)) for content in contents]

    def share(points: np.ndarray, top: int, left: int) -> float:
        row, column = points.T
        return float(np.mean((row > top) & (row <= top + 50) & (column > left) & (column <= left + 50)))

    return {
        "a face is looked at": p_of_ranks(
            (float(content.expression is not None), share(points, 30, 5)) for content, points in looked
        ),
        "an event is looked at": p_of_ranks(
            (float(content.event is not None), share(points, 30, 70)) for content, points in looked
        ),
        "a rare object is looked at": p_of_ranks(
            (float(content.right in truth.RARE_OBJECTS), share(points, 78, 78)) for content, points in looked
        ),
        "recall": p_of_ranks((content.memorability, value) for content, value in known),
    }


def test_looks_and_memory_tell_of_the_content_as_far_as_the_signal_says() -> None:
    without, whole = perceived(0.0), perceived(1.0)
    assert {name: p for name, p in without.items() if p < 0.01} == {}
    assert {name: p for name, p in whole.items() if not p < 1e-6} == {}


def test_recall_is_a_share_of_viewers_and_follows_memorability() -> None:
    rng = np.random.default_rng(23)
    vivid = replace(PLAIN, expression="smiling", left="crown", is_contrasty=True)
    for content, expected in ((vivid, 0.95), (PLAIN, 0.3)):
        values = [looking.recall(content, rng, signal=1.0) for _ in range(500)]
        assert np.mean(values) == pytest.approx(expected, abs=0.02)
        assert all((value * looking.NUM_VIEWERS).is_integer() for value in values)


# ---- words -------------------------------------------------------------------------------------------------


def told_in_the_world(world: Path) -> Iterable[tuple[str, str]]:
    """(place, text) of all that people or captions say beside media, as the files hold it."""
    for name in ("RS_2020-06.zst", "RC_2020-06.zst"):
        for number, raw in json_lines.lines(world / "reddit" / name):
            record = json.loads(raw or b"{}")
            for key in ("title", "selftext", "body", "author", "subreddit", "url", "permalink", "domain"):
                if record.get(key):
                    yield f"{name}:{number} {key}", record[key]
    for path in (world / "youtube").glob("*.info.json"):
        info = json.loads(path.read_text())
        yield path.name, " ".join([path.name, info["title"], info["description"], info["channel"]])
        yield path.name, " ".join(info["categories"] + info["tags"])
        for comment in info["comments"]:
            yield path.name, f"{comment['text']} {comment['author']}"
    for path in (world / "youtube").glob("*.vtt"):
        yield path.name, path.read_text()
    with (world / "page" / "export.csv").open(newline="") as file:
        for row in itertools.islice(csv.reader(file), 1, None):  # the header has the platform's own names
            yield "export.csv", " ".join(row)
    for row in instruction.read(world / "instruction" / "instruction.json"):
        if row.media is not None:
            yield f"instruction {row.id}", f"{row.prompt} {row.completion}"


def test_no_label_word_stands_beside_media(world: Path) -> None:
    texts = list(told_in_the_world(world))
    assert len(texts) > 2000
    assert [(place, text) for place, text in texts if LABEL_WORD.search(text)] == []


def _said_by_viewers() -> list[str]:
    return [
        text
        for said in words.INVENTORIES.values()
        for texts in (*said.emotions.values(), said.memory, said.forgotten)
        for text in texts
    ]


def test_no_label_word_in_any_inventory() -> None:
    told = [*_said_by_viewers(), *words.SMALL_TALK, *words.FOREIGN, *words.SPAM, words.BOT]
    told += [*sandbox._TITLES, *sandbox._USERS, *truth.PRODUCTS, words.SCENE_QUESTION]
    told += [*truth.SCENES, *truth.ACTIONS, *truth.WEATHERS, *truth.EXPRESSIONS, *truth.EVENTS]
    told += [*truth.OBJECTS, *truth.RARE_OBJECTS]
    told += [words.caption(content) for content in itertools.islice(combinations(), 0, None, 7)]
    told += [words.keywords(content) for content in itertools.islice(combinations(), 0, None, 7)]
    assert len(told) > 1000
    assert [text for text in told if LABEL_WORD.search(text)] == []


def test_each_comment_is_of_one_emotion() -> None:
    texts = _said_by_viewers()
    assert len(texts) == len(set(texts))
    for said in words.INVENTORIES.values():
        assert list(said.emotions) == list(truth.EMOTIONS)
        assert {len(texts) for texts in (*said.emotions.values(), said.memory, said.forgotten)} == {8}


def test_only_text_ties_words_to_the_names_of_emotions(world: Path) -> None:
    rows = instruction.read(world / "instruction" / "instruction.json")
    tied = [row for row in rows if LABEL_WORD.search(f"{row.prompt} {row.completion}")]
    assert tied
    assert all(row.media is None for row in tied)
    assert len(rows) >= 24 + 8 + 40


def test_no_path_is_in_a_prompt_of_the_instruction_data(world: Path) -> None:
    rows = instruction.read(world / "instruction" / "instruction.json")
    for row in rows:
        assert not re.search(r"\.(?:jpg|mp4)|[/\\]|<image>|<video>", row.prompt + (row.completion or ""))


def test_scenes_told_in_text_rows_do_not_tell_the_answer() -> None:
    """The language model must learn from the words of comments, not from descriptions of scenes."""
    rng = np.random.default_rng(17)
    pairs = []
    for _ in range(3000):
        content = truth.draw_content(rng, held_out=None)
        _, answer = words.emotion_of_words(rng, [words.caption(content)])
        pairs.append((content.emotion, answer))
    assert p_of_table(pairs) > 0.01
