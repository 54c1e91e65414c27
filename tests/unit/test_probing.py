"""What a run measures while a model trains: the right words, the right numbers, and nothing that is
reported.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Comment, Example, Media, Post, Sample, Task
from behavior_llava.data import blift
from behavior_llava.data.behaviors import likes
from behavior_llava.data.scenes import Colors, Scene
from behavior_llava.data.verbalizer import About, SceneWords, load_template
from behavior_llava.data.viewing import View
from behavior_llava.evaluation import benchmarks, probing
from behavior_llava.evaluation.evaluator import Prepared, Question, answer, prepare
from behavior_llava.evaluation.probing import Asked
from behavior_llava.models.auto import FACTS, Facts, VisionLanguageModel

if TYPE_CHECKING:
    from behavior_llava.data.verbalizer import Template

KINDS = ("likes", "comments", "shares")
COLORS = Colors(("red",), ("blue",), "warm")


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template("short").for_run({kind: {} for kind in KINDS})


def row(number: int, media: Media, **fields: Any) -> blift.Row:
    given: dict[str, Any] = {
        "num_likes": 10 + number,
        "num_views": 100,
        "comments": (Comment("a", f"a good day {number}"), Comment("b", "happy sky")),
        "shares": {"mail": 3},
        **fields,
    }
    post = Post(f"post{number}", "table", "image", **given)
    view = View(media.path, "image", media.sha256, (Scene(0, 0, 0, COLORS),), 0, None, 48, 48)
    scenes = (SceneWords(0, 0, "a red sky", COLORS),)
    return blift.Row(blift.Selected(post, "validation", f"c{number}"), view, scenes, About())


@pytest.fixture(scope="module")
def rows(media: dict[str, Media]) -> list[blift.Row]:
    """Some without comments, some without likes, one without anything."""
    found = [row(number, media["abcd"[number % 4]]) for number in range(12)]
    found += [row(number, media["a"], comments=()) for number in range(12, 16)]
    found += [row(number, media["a"], num_likes=None) for number in range(16, 20)]
    return [*found, row(20, media["a"], comments=(), num_likes=None, shares=None)]


def asked(template: Template, rows: Sequence[blift.Row], kind: str, most: int = 100) -> list[Asked]:
    return probing.posts(template, KINDS, kind, rows, most=most, seed=0)


# ---- which posts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "having"), [("comments", 16), ("likes", 16), ("shares", 20)])
def test_posts_have_the_kind_and_the_seed_says_which(
    template: Template, rows: list[blift.Row], kind: str, having: int
) -> None:
    every = asked(template, rows, kind)
    assert len(every) == having
    assert all(kind in one.example.behaviors for one in every)
    few = [one.example.id for one in asked(template, rows, kind, 5)]
    assert few == [one.example.id for one in every][:5]
    other = probing.posts(template, KINDS, kind, rows, most=5, seed=1)
    assert few != [one.example.id for one in other]


def test_a_span_is_the_words_of_its_kind(template: Template, rows: list[blift.Row]) -> None:
    for number, kind in enumerate(KINDS):
        one = next(one for one in asked(template, rows, kind) if one.example.behaviors == KINDS)
        assert one.example.completion is not None
        assert one.example.completion.startswith(one.until)
        assert one.until.startswith(one.given)
        words = one.until[len(one.given) :]
        post = next(row.item.post for row in rows if row.item.post.id == one.example.id)
        assert (
            words
            == [
                f"{post.num_likes}% of viewers like it.",
                f"1. {post.comments[0].text}\n2. happy sky",
                one.example.completion.split("\n")[-1],
            ][number]
        )


# ---- comments ----------------------------------------------------------------------------------------------


def test_perplexity_is_that_of_the_comments_alone(
    tiny: VisionLanguageModel, template: Template, rows: list[blift.Row]
) -> None:
    """Against each row's own forward pass, the comments' tokens found by their places in the text."""
    posts = asked(template, rows, "comments")
    total, tokens = 0.0, 0
    for one in posts:
        assert one.example.completion is not None
        batch = tiny.inputs([one.example], supervise=True)
        batch.pop("labels")
        with torch.no_grad():
            logits = tiny.network(**batch).logits[0].log_softmax(-1)
        text = tiny._prefix_of(one.example) + tiny.answer_text(one.example.completion)
        told = tiny.tokenizer(
            text, add_special_tokens=tiny._adds_bos(text), return_offsets_mapping=True
        ).offset_mapping
        starts = text.rindex(one.example.completion)
        ids = batch["input_ids"][0]
        for place, (_, end) in enumerate(told, len(ids) - len(told)):
            if starts + len(one.given) < end <= starts + len(one.until):
                total -= float(logits[place - 1, ids[place]])
                tokens += 1
    found = probing.comments(posts).measure(tiny)
    assert tokens > 5 * len(posts)
    assert found == pytest.approx(math.exp(total / tokens), rel=1e-4)
    assert probing.comments(posts[:1]).measure(tiny) != pytest.approx(found)
    assert probing.comments([]).measure(tiny) is None


# ---- likes -------------------------------------------------------------------------------------------------


class Writer:
    """In the place of a model: it writes what it is told."""

    def __init__(self, texts: Sequence[str], facts: Facts = FACTS["qwen2_5_vl"]) -> None:
        self.texts, self.facts, self.asked = list(texts), facts, []

    def generate(self, examples: Sequence[Example], *, max_new_tokens: int) -> list[str]:
        assert all(example.completion is None for example in examples)
        assert max_new_tokens == 24
        self.asked.append(len(examples))
        return [self.texts.pop(0) for _ in examples]


def measured(texts: Sequence[str], values: Sequence[dict[str, float]], **facts: Any) -> Any:
    posts = [
        Asked(Example(f"p{n}", "what do viewers", "they", None), "", "", value)
        for n, value in enumerate(values)
    ]
    probe = probing.likes(posts, likes.BEHAVIOR, max_new_tokens=24)
    return probe.measure(Writer(texts, **facts))  # pyright: ignore[reportArgumentType]


def said(*percents: float | None) -> list[str]:
    return ["Nice." if value is None else f"x\n{value}% of viewers like it." for value in percents]


def rates(*values: float) -> list[dict[str, float]]:
    return [{"like_rate": value} for value in values]


def test_likes_are_read_back_and_compared() -> None:
    """Truth 0.1 to 0.4 has a variation of 0.05; errors of 0.1, 0, 0 and 0.1 make 0.02."""
    found = measured(said(20, 20, 30, 30), rates(0.1, 0.2, 0.3, 0.4))
    assert found == {"R² of like rate": pytest.approx(1 - 0.02 / 0.05), "like rate read, of 4": 4}


def test_an_answer_that_cannot_be_read_explains_nothing() -> None:
    found = measured(said(10, None, 30, 40), rates(0.1, 0.2, 0.3, 0.4))
    assert found == {
        "R² of like rate": pytest.approx(1 - 0.0025 / 0.05),
        "like rate read, of 4": 3,
    }


@pytest.mark.parametrize(
    ("texts", "values", "num_read"),
    [
        (said(10, None, None), (0.1, 0.2, 0.3), 1),
        (said(None, None, None), (0.1, 0.2, 0.3), 0),
        (said(10, 20, 30), (0.2, 0.2, 0.2), 3),
    ],
)
def test_r2_is_undefined_and_the_number_read_is_told(
    texts: list[str], values: Sequence[float], num_read: int
) -> None:
    assert measured(texts, rates(*values)) == {"R² of like rate": None, "like rate read, of 3": num_read}


def test_each_way_likes_are_counted_is_apart() -> None:
    """A score is no percentage: answers of the other kind are not read as one's own."""
    values = [{"like_rate": 0.1}, {"score": 5}, {"like_rate": 0.3}, {"score": 9}]
    texts = [
        "10% of viewers like it.",
        "It has a score of 5.",
        "It has a score of 30.",
        "It has a score of 9.",
    ]
    assert measured(texts, values) == {
        "R² of like rate": None,
        "like rate read, of 2": 1,
        "R² of score": 1.0,
        "score read, of 2": 2,
    }


def test_videos_of_unequal_frames_are_asked_one_by_one() -> None:
    posts = [Asked(Example(f"p{n}", "?", "!", None), "", "", {"like_rate": 0.1 * n}) for n in range(10)]
    for facts, batches in ((FACTS["llava_onevision"], [1] * 10), (Facts(), [8, 2])):
        writer: Any = Writer(said(*[1] * 10), facts)
        probing.likes(posts, likes.BEHAVIOR, max_new_tokens=24).measure(writer)
        assert writer.asked == batches


def test_likes_of_a_model(tiny: VisionLanguageModel, template: Template, rows: list[blift.Row]) -> None:
    """A random model says nothing that can be read: no number, and zero are told."""
    found: Any = probing.likes(asked(template, rows, "likes"), likes.BEHAVIOR, max_new_tokens=4).measure(tiny)
    assert found == {"R² of like rate": None, "like rate read, of 16": 0}


# ---- questions ---------------------------------------------------------------------------------------------

LABELS = ("joy", "anger", "sadness")


def task(samples: Sequence[Sample] = (), **changes: Any) -> Task:
    told: dict[str, Any] = {
        "name": "mood",
        "benchmark": "Mood",
        "metric": "accuracy",
        "modality": "text",
        "splits": ("train", "test"),
        "load": lambda folder, split: [sample for sample in samples if sample.id.startswith(split)],
        "question": "what do viewers feel",
        "labels": LABELS,
        "answer": lambda sample: str(sample.label),
        "parse": lambda text: text,
        "best": 1.0,
        "chance": 0.25,
        "examples": (),
    }
    return Task(**{**told, **changes})


def test_accuracy_is_that_of_the_questions(tiny: VisionLanguageModel, media: dict[str, Media]) -> None:
    items = [media[name] for name in ("a", "clip", "b", "c", "d")] * 2
    examples = [Example(f"q{n}", f"what do viewers feel {n}", "joy", item) for n, item in enumerate(items)]
    answers = [prediction for prediction, _ in answer(tiny, LABELS, examples)]
    # right, wrong, right, ... and the last is right
    labels = [said if number % 2 == 0 else "none" for number, said in enumerate(answers)]
    questions = tuple(
        Question(Sample(id=f"q{n}", label=label), "c", example, None)
        for n, (example, label) in enumerate(zip(examples, labels, strict=True))
    )
    probe = probing.questions(Prepared(task(), questions, 10, {}, {}))
    assert probe.name == "zero-shot accuracy of mood"
    assert probe.measure(tiny) == 0.5
    assert probing.questions(Prepared(task(), (), 0, {}, {})).measure(tiny) is None


def test_media_that_are_gone_are_told(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    gone = Example("q", "what do viewers feel", "joy", Media(str(tmp_path / "x.png"), "image", "0" * 64))
    probe = probing.questions(
        Prepared(task(), (Question(Sample(id="q", label="joy"), "c", gone, None),), 1, {}, {})
    )
    with pytest.raises(UserError, match="media_missing"):
        probe.measure(tiny)


def test_no_test_split_is_asked() -> None:
    known = benchmarks.all_tasks()
    assert len(known) >= 5
    for name, one in known.items():
        assert probing.split_of(one) not in (one.test_split, "test"), name
    assert probing.split_of(known["emoset"]) == "train"
    assert probing.split_of(known["lamem"]) == "train_1"
    assert probing.split_of(task(splits=("test",))) is None
    assert probing.split_of(task(splits=("all",), train_split="all", test_split="all")) is None


def test_the_seed_says_which_questions(tmp_path: Path) -> None:
    samples = [
        Sample(id=f"{split}{n}", label=LABELS[n % 3]) for split in ("train", "test") for n in range(300)
    ]
    view = SimpleNamespace(media=lambda: None, sha256="0" * 64)
    viewer: Any = SimpleNamespace(views=lambda items, label: [view] * len(items))

    def drawn(seed: int | None) -> list[str]:
        found = prepare(task(samples, modality="image"), tmp_path, "train", viewer, limit=30, seed=seed)
        assert Counter(question.label for question in found.questions) == dict.fromkeys(LABELS, 10)
        return [question.sample_id for question in found.questions]

    assert all(id.startswith("train") for id in drawn(0))
    assert drawn(0) == drawn(0)
    assert len(set(drawn(0)) & set(drawn(1))) < 15
    assert drawn(None) == drawn(None)
