"""Questions asked and answers kept: nothing stale, nothing lost, nothing scored that was not answered."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Example, Media, Sample, Task
from behavior_llava.data.behaviors import likes, replay
from behavior_llava.data.viewing import Viewer
from behavior_llava.evaluation import evaluator
from behavior_llava.evaluation.evaluator import (
    Asked,
    EvaluateConfig,
    HeldOut,
    Prepared,
    Question,
    ask,
    prepare,
)
from behavior_llava.evaluation.scoring import answer_nll, score_labels
from behavior_llava.evaluation.summary import PREDICTIONS

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel

LABELS = ("joy", "joyful day", "sadness", "anger")
DESCRIBE, VERBALIZE, SEPARATOR = "Describe it.", "Describe it and what viewers do.", "What viewers did:"
CONFIG = EvaluateConfig(tasks=("mood",), batch_size=2, context_tokens=6)


def task(samples: Sequence[Sample] = (), **changes: Any) -> Task:
    return Task(
        **{
            "name": "mood",
            "benchmark": "Mood",
            "metric": "accuracy",
            "modality": "image",
            "splits": ("test",),
            "load": lambda folder, split: list(samples),
            "question": "what do viewers feel",
            "labels": LABELS,
            "answer": lambda sample: str(sample.label),
            "parse": lambda text: text,
            "best": 1.0,
            "chance": 0.25,
            "examples": (),
            **changes,
        }
    )


NUMERIC = {"metric": "spearman", "labels": (), "chance": None}


def questions(media: dict[str, Media], kind: Task) -> Prepared:
    items = [media[name] for name in ("a", "clip", "b", "c", "d")]
    found = [
        Question(
            f"s{n}", f"c{n}", Example(f"mood:s{n}", f"what do viewers feel {n}", "joy", item), "joy", None
        )
        for n, item in enumerate(items)
    ]
    return Prepared(kind, tuple(found), len(found), {}, None)


def asked(model: VisionLanguageModel, **changes: Any) -> Asked:
    describe, verbalize = ({"image": text, "video": text} for text in (DESCRIBE, VERBALIZE))
    return replace(Asked(model, "weights", "behavior", 0, describe, verbalize, SEPARATOR), **changes)


class Scorer:
    """Notes what is scored; may be killed at a call, or give other numbers."""

    def __init__(self, killed_at: int | None = None, scores: np.ndarray | None = None) -> None:
        self.examples: list[Example] = []
        self.calls, self.killed_at, self.scores = 0, killed_at, scores

    def __call__(
        self, model: VisionLanguageModel, examples: Sequence[Example], labels: Sequence[str]
    ) -> np.ndarray:
        if self.calls == self.killed_at:
            raise KeyboardInterrupt
        self.calls += 1
        self.examples += examples
        return score_labels(model, examples, labels) if self.scores is None else self.scores[: len(examples)]


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> Scorer:
    found = Scorer()
    monkeypatch.setattr(evaluator, "score_labels", found)
    return found


# ---- answers -----------------------------------------------------------------------------------------------


def test_the_answer_is_the_likeliest_label(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    prepared = questions(media, task())
    table = ask(asked(tiny), prepared, "zero_shot", CONFIG, tmp_path)
    assert table.schema == PREDICTIONS
    scores = score_labels(tiny, [question.example for question in prepared.questions], LABELS)
    rows = table.to_pylist()
    assert [json.loads(row["prediction"]) for row in rows] == [LABELS[best] for best in scores.argmax(1)]
    assert [row["sample_id"] for row in rows] == ["s0", "s1", "s2", "s3", "s4"]
    assert {row["context"] for row in rows} == {None}
    assert {(row["arm"], row["seed"], row["setting"], row["primary"]) for row in rows} == {
        ("behavior", 0, "zero_shot", True)
    }
    assert {row["scoring"] for row in rows} == {"sum"}
    assert rows[0]["media_path"] == media["a"].path


def test_a_number_is_the_expectation_over_all_numbers(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    prepared = questions(media, task(**NUMERIC))
    rows = ask(asked(tiny), prepared, "zero_shot", CONFIG, tmp_path).to_pylist()
    numbers = [f"{number:02d}" for number in range(100)]
    scores = score_labels(tiny, [question.example for question in prepared.questions], numbers)
    for row, one in zip(rows, scores, strict=True):
        value = json.loads(row["prediction"])
        shares = np.exp(one) / np.exp(one).sum()
        assert 0 < value < 1
        assert value == pytest.approx(sum(share * n for n, share in enumerate(shares)) / 99, abs=1e-4)
    assert {row["scoring"] for row in rows} == {"expectation"}


@pytest.mark.parametrize(("peaks", "value"), [([0], 0.0), ([99], 1.0), ([0, 99], 0.5), ([33], 1 / 3)])
def test_a_number_stays_within_its_ends(
    tiny: VisionLanguageModel,
    media: dict[str, Media],
    tmp_path: Path,
    scorer: Scorer,
    peaks: list[int],
    value: float,
) -> None:
    scorer.scores = np.full((2, 100), -2000.0)
    scorer.scores[:, peaks] = -900.0
    rows = ask(asked(tiny), questions(media, task(**NUMERIC)), "zero_shot", CONFIG, tmp_path).to_pylist()
    assert [json.loads(row["prediction"]) for row in rows] == pytest.approx([value] * 5)


# ---- what the model writes first ---------------------------------------------------------------------------


class Writer:
    """Stands for the model's generation."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.tokens: list[int] = []

    def __call__(self, examples: Sequence[Example], *, max_new_tokens: int) -> list[str]:
        self.prompts += [example.prompt for example in examples]
        self.tokens.append(max_new_tokens)
        assert all(example.completion is None for example in examples)
        return [f"A sky {n}.\n{SEPARATOR}\nNot {SEPARATOR}\n12 likes" for n, _ in enumerate(examples)]


@pytest.mark.parametrize(
    ("setting", "first"), [("zero_shot_described", DESCRIBE), ("zero_shot_verbalized", VERBALIZE)]
)
def test_what_it_writes_comes_before_the_question_without_the_separator(
    tiny: VisionLanguageModel,
    media: dict[str, Media],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scorer: Scorer,
    setting: str,
    first: str,
) -> None:
    writer = Writer()
    monkeypatch.setattr(tiny, "generate", writer)
    prepared = questions(media, task())
    rows = ask(asked(tiny), prepared, setting, CONFIG, tmp_path).to_pylist()
    assert writer.prompts == [first] * 5
    assert set(writer.tokens) == {CONFIG.context_tokens}
    assert rows[1]["context"] == f"A sky 1.\nNot {SEPARATOR}\n12 likes"
    assert scorer.examples[1].prompt == f"{rows[1]['context']}\nwhat do viewers feel 1"
    assert [example.media for example in scorer.examples] == [q.example.media for q in prepared.questions]


@pytest.mark.parametrize("setting", ["zero_shot", "finetuned"])
def test_nothing_is_written_where_the_question_is_asked_at_once(
    tiny: VisionLanguageModel,
    media: dict[str, Media],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scorer: Scorer,
    setting: str,
) -> None:
    writer = Writer()
    monkeypatch.setattr(tiny, "generate", writer)
    rows = ask(
        asked(tiny), questions(media, task()), setting, CONFIG, tmp_path, label_fraction=0.1
    ).to_pylist()
    assert writer.prompts == []
    assert scorer.examples[0].prompt == "what do viewers feel 0"
    assert {row["label_fraction"] for row in rows} == {0.1}


# ---- kept answers ------------------------------------------------------------------------------------------


def test_a_killed_evaluation_continues_to_the_same_answers(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = questions(media, task())
    whole = ask(asked(tiny), prepared, "zero_shot_described", CONFIG, tmp_path / "whole")
    monkeypatch.setattr(evaluator, "score_labels", Scorer(killed_at=2))
    with pytest.raises(KeyboardInterrupt):
        ask(asked(tiny), prepared, "zero_shot_described", CONFIG, tmp_path / "parts")
    rest = Scorer()
    monkeypatch.setattr(evaluator, "score_labels", rest)
    assert ask(asked(tiny), prepared, "zero_shot_described", CONFIG, tmp_path / "parts").equals(whole)
    assert [example.id for example in rest.examples] == ["mood:s4"]
    assert ask(asked(tiny), prepared, "zero_shot_described", CONFIG, tmp_path / "parts").equals(whole)
    assert rest.calls == 1


def changed(prepared: Prepared, **fields: Any) -> Prepared:
    """The last question with other fields."""
    *others, last = prepared.questions
    return replace(prepared, questions=(*others, replace(last, **fields)))


def variants(model: VisionLanguageModel, base: Prepared) -> Iterator[tuple[str, dict[str, Any]]]:
    last = base.questions[-1].example
    assert last.media is not None
    yield "weights", {"asked": asked(model, weights="other")}
    yield "describe", {"asked": asked(model, describe="Tell.")}
    yield "verbalize", {"asked": asked(model, verbalize="Tell.")}
    yield "context_tokens", {"config": CONFIG.model_copy(update={"context_tokens": 7})}
    yield "batch_size", {"config": CONFIG.model_copy(update={"batch_size": 3})}
    yield "setting", {"setting": "zero_shot_verbalized"}
    yield "fraction", {"label_fraction": 0.1}
    yield "task version", {"prepared": replace(base, task=replace(base.task, version=2))}
    yield "prompt", {"prepared": changed(base, example=replace(last, prompt="how do they feel"))}
    yield "label", {"prepared": changed(base, label="anger")}
    media = replace(last.media, sha256="ab" * 32)
    yield "media", {"prepared": changed(base, example=replace(last, media=media))}
    yield "one question less", {"prepared": replace(base, questions=base.questions[:-1])}


def test_no_answer_is_given_to_another_question(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path, scorer: Scorer
) -> None:
    base = questions(media, task())
    usual = {
        "asked": asked(tiny),
        "prepared": base,
        "setting": "zero_shot",
        "config": CONFIG,
        "folder": tmp_path,
    }
    ask(**usual)  # pyright: ignore[reportArgumentType]
    seen = set()
    for name, change in variants(tiny, base):
        before = scorer.calls
        prepared = change.get("prepared", base)
        table = ask(**{**usual, **change})  # pyright: ignore[reportArgumentType]
        assert scorer.calls - before == -(
            -len(prepared.questions) // change.get("config", CONFIG).batch_size
        ), name
        assert table["sample_id"].to_pylist() == [question.sample_id for question in prepared.questions]
        seen.add(name)
    assert len(seen) == 12
    before = scorer.calls
    ask(**usual)  # pyright: ignore[reportArgumentType]
    assert scorer.calls == before


def test_no_question_no_answer(tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path) -> None:
    prepared = replace(questions(media, task()), questions=(), missing={"media_missing": 5})
    assert ask(asked(tiny), prepared, "zero_shot", CONFIG, tmp_path) == PREDICTIONS.empty_table()


# ---- what is asked -----------------------------------------------------------------------------------------


def viewer(folder: Path) -> Viewer:
    return Viewer(folder / "views", folder / "frames", max_scenes=2, processes=1)


def test_missing_and_broken_media_are_coverage(media: dict[str, Media], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    samples = [
        Sample(id="1", label="joy", media_path=media["a"].path, media_kind="image"),
        Sample(id="2", label="joy", media_path=None, media_kind="image"),
        Sample(id="3", label="anger", media_path=str(broken), media_kind="image"),
        Sample(id="4", label="anger", media_path=media["clip"].path, media_kind="video", cluster="x"),
        Sample(id="5", label=None, media_path=media["b"].path, media_kind="image"),
        Sample(id="6", label="joy", media_path=str(tmp_path / "gone.png"), media_kind="image"),
    ]
    (tmp_path / "groups.json").write_text(
        '{"1": "seen", "2": "seen", "3": "seen", "4": "unseen", "6": "seen"}'
    )
    found = prepare(task(samples), tmp_path, "test", viewer(tmp_path), limit=None)
    assert found.listed == 5
    assert found.missing == {"media_missing": 2, "image_broken": 1}
    assert [(question.sample_id, question.group) for question in found.questions] == [
        ("1", "seen"),
        ("4", "unseen"),
    ]
    first, second = found.questions
    assert (first.cluster, second.cluster) == (media["a"].sha256, "x")
    assert first.example.media == media["a"]
    assert second.example.media is not None
    assert second.example.media.times_s == pytest.approx((0.5, 1.5))
    assert first.example.completion == "joy"


def test_groups_that_leave_a_sample_out_are_refused(media: dict[str, Media], tmp_path: Path) -> None:
    """Keyed by anything but the samples' ids they would vanish from the report without a word."""
    samples = [Sample(id="1", label="joy", media_path=media["a"].path, media_kind="image")]
    (tmp_path / "groups.json").write_text('{"image/1.png": "unseen"}')
    with pytest.raises(UserError, match=r"groups\.json: 1 of 1 samples are in no group, '1' among them"):
        prepare(task(samples), tmp_path, "test", viewer(tmp_path), limit=None)


def texts(labels: Sequence[Any]) -> Task:
    samples = [Sample(id=str(n), label=label, fields={"text": f"{n}"}) for n, label in enumerate(labels)]
    return task(samples, modality="text", question="what mood has this text?")


@pytest.mark.parametrize(
    "labels",
    [
        sorted(["joy", "anger", "sadness"] * 40),
        ["joy", "anger", "sadness"] * 40,
        ["joy", "anger"] * 50 + ["sadness"] * 50,
    ],
)
@pytest.mark.parametrize("limit", [12, 30, 41, 75])
def test_a_limit_takes_a_share_of_every_label(labels: list[str], limit: int, tmp_path: Path) -> None:
    found = prepare(texts(labels), tmp_path, "test", viewer(tmp_path), limit=limit)
    assert found.listed == len(found.questions) == limit
    ids = [int(question.sample_id) for question in found.questions]
    assert ids == sorted(set(ids))
    shares = Counter(question.label for question in found.questions)
    for label, count in Counter(labels).items():
        assert abs(shares[label] - count * limit / len(labels)) <= 1


def test_a_limit_beyond_the_list_takes_all(tmp_path: Path) -> None:
    labels = ["joy", "anger", "sadness"]
    assert prepare(texts(labels), tmp_path, "test", viewer(tmp_path), limit=50).listed == 3
    numbers = [n / 100 for n in range(100)]
    kind = dataclasses.replace(texts(numbers), metric="spearman", labels=())
    few = [q.label for q in prepare(kind, tmp_path, "test", viewer(tmp_path), limit=5).questions]
    assert np.diff(sorted(few)).max() < 0.3


# ---- what receivers did ------------------------------------------------------------------------------------


def test_behavior_that_cannot_be_read_is_null_and_stays(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    behaviors: dict[str, Any] = {"likes": likes.BEHAVIOR, "replay": replay.BEHAVIOR}
    posts = [
        HeldOut(
            "p1",
            "c1",
            Example("p1", VERBALIZE, "a sky\njoy", media["clip"]),
            "a sky\n",
            {"likes": {"like_rate": 0.25}, "replay": {"replay": (0.1, 0.9, 0.5)}},
        ),
        HeldOut("p2", "c2", Example("p2", VERBALIZE, "a sky\nanger", media["a"]), "a sky\n", {}),
        # a flat curve has no shape to compare
        HeldOut(
            "p3",
            "c3",
            Example("p3", VERBALIZE, "a sky\nanger", media["b"]),
            "a sky\n",
            {"replay": {"replay": (0.5,) * 3}},
        ),
    ]
    rows = evaluator.ask_behavior(asked(tiny), posts, CONFIG, tmp_path, behaviors).to_pylist()
    kinds = [(row["task"], row["sample_id"]) for row in rows]
    text, num_likes, shape = evaluator.heldout_tasks(posts, behaviors)
    assert kinds == [(text, "p1"), (num_likes, "p1"), (shape, "p1"), (text, "p2"), (text, "p3")]
    expected = answer_nll(tiny, [post.example for post in posts], [post.given for post in posts])
    found = [json.loads(row["prediction"]) for row in rows if row["task"] == text]
    assert [count for _, count in found] == [count for _, count in expected]
    assert [loss for loss, _ in found] == pytest.approx([loss for loss, _ in expected], abs=1e-3)
    # each seed's base describes in its own words; seeds are compared by what receivers did
    assert [json.loads(row["label"]) for row in rows if row["task"] == text] == ["joy", "anger", "anger"]
    assert (rows[1]["prediction"], json.loads(rows[1]["label"])) == (None, 0.25)
    assert (rows[2]["prediction"], json.loads(rows[2]["label"])) == (None, [0.1, 0.9, 0.5])
    again = evaluator.ask_behavior(asked(tiny), posts, CONFIG, tmp_path, behaviors)
    assert again.equals(pa.Table.from_pylist(rows, schema=PREDICTIONS))
