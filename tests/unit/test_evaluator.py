"""Questions asked and answers kept: nothing stale, nothing lost, nothing scored that was not answered."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Sequence
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
from behavior_llava.evaluation import benchmarks, evaluator
from behavior_llava.evaluation.evaluator import (
    Asked,
    Contest,
    EvaluateConfig,
    HeldOut,
    Prepared,
    Question,
    ask,
    content_free,
    prepare,
    unlabeled,
)
from behavior_llava.evaluation.judge import Case, Judge, JudgeConfig, Verdict
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


NUMERIC = {"metric": "spearman", "labels": (), "answers": "number", "chance": None, "scoring": "expectation"}


def questions(media: dict[str, Media], kind: Task) -> Prepared:
    items = [media[name] for name in ("a", "clip", "b", "c", "d")]
    found = [
        Question(
            Sample(id=f"s{n}", label="joy"),
            f"c{n}",
            Example(f"mood:s{n}", f"what do viewers feel {n}", "joy", item),
            None,
        )
        for n, item in enumerate(items)
    ]
    return Prepared(kind, tuple(found), len(found), {}, {})


def asked(model: VisionLanguageModel, **changes: Any) -> Asked:
    describe, verbalize = ({"image": text, "video": text} for text in (DESCRIBE, VERBALIZE))
    return replace(Asked(lambda: model, "weights", "behavior", 0, describe, verbalize, SEPARATOR), **changes)


def answers(model: VisionLanguageModel, contests: Sequence[Contest], folder: Path) -> list[dict[str, Any]]:
    tables = list(ask(asked(model), contests, CONFIG, folder))
    assert all(table.schema == PREDICTIONS for table in tables)
    return pa.concat_tables(tables).to_pylist()


def of(rows: Sequence[dict[str, Any]], scoring: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["scoring"] == scoring]


# ---- answers -----------------------------------------------------------------------------------------------


def test_the_answer_is_the_likeliest_label(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    prepared = questions(media, task())
    rows = answers(tiny, [Contest(prepared, "zero_shot")], tmp_path)
    scores = score_labels(tiny, [question.example for question in prepared.questions], LABELS)
    assert [row["scoring"] for row in rows] == ["sum"] * 5 + ["mean"] * 5
    assert [json.loads(row["prediction"]) for row in of(rows, "sum")] == [
        LABELS[best] for best in scores.argmax(1)
    ]
    lengths = [len(tiny.completion_ids(label, end=False)) for label in LABELS]
    assert len(set(lengths)) > 1
    assert [json.loads(row["prediction"]) for row in of(rows, "mean")] == [
        LABELS[best] for best in (scores / lengths).argmax(1)
    ]
    for some in (of(rows, "sum"), of(rows, "mean")):
        assert [row["sample_id"] for row in some] == ["s0", "s1", "s2", "s3", "s4"]
    assert {row["context"] for row in rows} == {None}
    assert {(row["arm"], row["seed"], row["setting"]) for row in rows} == {("behavior", 0, "zero_shot")}
    assert {row["scoring"]: row["primary"] for row in rows} == {"sum": True, "mean": False}
    assert rows[0]["media_path"] == media["a"].path


def test_the_task_says_which_way_is_primary(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    rows = answers(tiny, [Contest(questions(media, task(scoring="mean")), "zero_shot")], tmp_path)
    assert {row["scoring"]: row["primary"] for row in rows} == {"sum": False, "mean": True}


def test_what_is_likely_anyway_is_taken_out(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    prepared = questions(media, task())
    grey = content_free(prepared, tiny.store)
    first = prepared.questions[0]
    others = tuple(
        replace(one, sample=replace(one.sample, id=f"train:{number}"))
        for number, one in enumerate((first, grey), 1)
    )
    contest = Contest(prepared, "zero_shot", {"content_free": (grey,), "split": others})
    rows = answers(tiny, [contest], tmp_path)

    def shares(items: Sequence[Question]) -> np.ndarray:
        scores = score_labels(tiny, [item.example for item in items], LABELS)
        return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

    tested = shares(prepared.questions)
    for scoring, prior in (("content_free", shares([grey])[0]), ("split", shares(others).mean(axis=0))):
        found = [json.loads(row["prediction"]) for row in of(rows, scoring)]
        assert found == [LABELS[best] for best in (tested / prior).argmax(1)]
    assert {row["sample_id"] for row in rows} == {"s0", "s1", "s2", "s3", "s4"}
    assert {row["scoring"] for row in rows if row["primary"]} == {"sum"}


def test_a_number_is_the_expectation_over_all_numbers(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    prepared = questions(media, task(**NUMERIC))
    rows = answers(tiny, [Contest(prepared, "zero_shot")], tmp_path)
    numbers = [f"{number:02d}" for number in range(100)]
    scores = score_labels(tiny, [question.example for question in prepared.questions], numbers)
    for expected, likeliest, one in zip(of(rows, "expectation"), of(rows, "argmax"), scores, strict=True):
        value = json.loads(expected["prediction"])
        shares = np.exp(one) / np.exp(one).sum()
        assert 0 < value < 1
        assert value == pytest.approx(sum(share * n for n, share in enumerate(shares)) / 99, abs=1e-4)
        assert json.loads(likeliest["prediction"]) == pytest.approx(one.argmax() / 99)
    assert {row["scoring"]: row["primary"] for row in rows} == {"expectation": True, "argmax": False}
    found = evaluator.answer(tiny, None, [question.example for question in prepared.questions])
    assert [value for value, _ in found] == pytest.approx(
        [json.loads(row["prediction"]) for row in of(rows, "expectation")], abs=1e-4
    )


@pytest.mark.parametrize(
    ("setting", "first"),
    [
        ("zero_shot", None),
        ("finetuned", None),
        ("zero_shot_described", DESCRIBE),
        ("zero_shot_verbalized", VERBALIZE),
    ],
)
def test_what_it_writes_comes_before_the_question(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path, setting: str, first: str | None
) -> None:
    prepared = questions(media, task())
    rows = answers(tiny, [Contest(prepared, setting, label_fraction=0.1)], tmp_path)
    written = [None] * 5
    if first is not None:
        asked_first = [replace(one.example, prompt=first, completion=None) for one in prepared.questions]
        written = tiny.generate(asked_first, max_new_tokens=CONFIG.context_tokens)
    assert [row["context"] for row in of(rows, "sum")] == written
    prompts = [
        replace(one.example, prompt=one.example.prompt if text is None else f"{text}\n{one.example.prompt}")
        for one, text in zip(prepared.questions, written, strict=True)
    ]
    assert [json.loads(row["prediction"]) for row in of(rows, "sum")] == [
        LABELS[best] for best in score_labels(tiny, prompts, LABELS).argmax(1)
    ]
    assert {row["label_fraction"] for row in rows} == {0.1}


def test_a_text_is_asked_about_at_once(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    prepared = prepare(texts(["joy", "anger"]), tmp_path, "test", viewer(tmp_path), limit=None)
    rows = answers(tiny, [Contest(prepared, "zero_shot_described")], tmp_path)
    assert {row["context"] for row in rows} == {None}
    assert {row["media_path"] for row in rows} == {None}


def test_all_tasks_of_a_benchmark_are_asked_in_one_go(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[list[str]] = []
    monkeypatch.setattr(
        evaluator.answering,
        "fill",
        lambda load, weights, asks, rules, folder: gone.append([one.label for one in asks]),
    )
    kinds = [task(), task(name="mood_b"), task(name="other", benchmark="Other")]
    contests = [
        Contest(questions(media, kind), setting)
        for kind in kinds
        for setting in ("zero_shot", "zero_shot_described")
    ]
    with pytest.raises(ValueError, match="was not asked"):
        list(ask(asked(tiny), contests, CONFIG, tmp_path))
    assert gone == [
        [
            "behavior: Mood, zero_shot",
            "behavior: Mood, zero_shot_described",
            "behavior: Other, zero_shot",
            "behavior: Other, zero_shot_described",
        ]
    ]


def test_no_question_no_answer(tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path) -> None:
    prepared = replace(
        questions(media, task()), questions=(), missing={"media_missing": ["1", "2", "3", "4", "5"]}
    )
    assert answers(tiny, [Contest(prepared, "zero_shot")], tmp_path) == []


# ---- what tells how likely a label is anyway ---------------------------------------------------------------


def test_nothing_is_grey_and_alike_in_every_frame(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    picture = content_free(replace(questions(media, task()), questions=()), tiny.store)
    assert picture.example.media is None
    items = questions(media, task()).questions
    for chosen, frames in ((items[:1], 0), (items[1:2] * 3 + items[:2], 2)):
        prepared = replace(questions(media, task()), questions=chosen)
        nothing = content_free(prepared, tiny.store).example
        assert nothing.prompt == "what do viewers feel"
        assert nothing.media is not None
        assert len(nothing.media.times_s) == frames
        shown = tiny.store.frames(nothing.media)
        assert len(shown) == max(1, frames)
        for one in shown:
            assert set(np.asarray(one).ravel().tolist()) <= {127, 128, 129}
        assert nothing.media == content_free(prepared, tiny.store).example.media


def test_no_text_is_not_available(tmp_path: Path, tiny: VisionLanguageModel) -> None:
    prepared = prepare(texts(["joy", "anger"]), tmp_path, "test", viewer(tmp_path), limit=None)
    assert content_free(prepared, tiny.store).example.prompt == "N/A\n\nwhat mood has this text?"


def split_task(
    media: dict[str, Media], splits: dict[str, list[str]], labels: Sequence[str] = ("joy",)
) -> Task:
    def load(folder: Path, split: str) -> list[Sample]:
        if split not in splits:
            raise benchmarks.AbsentFileError("not there", remedy="get it")
        return [
            Sample(
                id=name, label=label, media_path=media[name].path, media_kind=media[name].kind, cluster=None
            )
            for name, label in zip(splits[split], itertools.cycle(labels), strict=False)
        ]

    return task(load=load, splits=("train", "val", "test"))


@pytest.mark.parametrize(
    ("splits", "without", "expected"),
    [
        ({"test": ["a"], "train": ["a", "b"], "val": ["c", "clip"]}, (), {"val:c", "val:clip"}),
        ({"test": ["a"], "train": ["a", "b"]}, (), {"train:b"}),
        ({"test": ["a"], "train": ["a", "b"]}, ("train",), set()),
        ({"test": ["a"], "train": ["b"], "val": ["a"]}, (), {"train:b"}),
        ({"test": ["a"]}, (), set()),
    ],
)
def test_other_samples_are_of_another_split_and_other_media(
    media: dict[str, Media],
    tmp_path: Path,
    splits: dict[str, list[str]],
    without: tuple[str, ...],
    expected: set[str],
) -> None:
    kind = split_task(media, splits)
    tested = prepare(kind, tmp_path, "test", viewer(tmp_path), limit=None)
    found = unlabeled(tested, tmp_path, viewer(tmp_path), count=8, without=without)
    assert {question.sample_id for question in found} == expected
    assert all(question.label is None and question.example.completion is None for question in found)


def test_which_other_samples_does_not_depend_on_their_labels(media: dict[str, Media], tmp_path: Path) -> None:
    names = {"test": ["a"], "val": ["b", "c", "d", "clip"]}
    found = []
    for labels in (("joy",), ("joy", "anger"), (None,)):
        kind = split_task(media, names, labels)  # pyright: ignore[reportArgumentType]
        tested = prepare(
            replace(kind, load=split_task(media, names).load), tmp_path, "test", viewer(tmp_path), limit=None
        )
        chosen = unlabeled(replace(tested, task=kind), tmp_path, viewer(tmp_path), count=2)
        found.append([question.sample_id for question in chosen])
    assert len(found[0]) == 2
    assert found[0] == found[1] == found[2]


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
    assert found.missing == {"media_missing": ["2", "6"], "image_broken": ["3"]}
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
    kind = dataclasses.replace(texts(numbers), metric="spearman", labels=(), answers="number")
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
    tables = list(ask(asked(tiny), [], CONFIG, tmp_path, posts, behaviors))
    rows = pa.concat_tables(tables).to_pylist()
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
    assert [table.to_pylist() for table in ask(asked(tiny), [], CONFIG, tmp_path, posts, behaviors)] == [
        table.to_pylist() for table in tables
    ]


# ---- what stands before a question -------------------------------------------------------------------------


def test_few_shot_tells_what_is_shown_in_the_models_own_words(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    prepared = questions(media, task())
    shown = tuple(
        Question(
            Sample(id=f"t{n}", label=label),
            f"t{n}",
            Example(f"mood:t{n}", "what do viewers feel", label, media[name]),
            None,
        )
        for n, (name, label) in enumerate((("c", "anger"), ("d", "sadness")))
    )
    tested = replace(prepared, questions=prepared.questions[:1])
    rows = answers(tiny, [Contest(tested, "few_shot", shown=shown)], tmp_path)
    described = [
        text.replace(f"{SEPARATOR}\n", "")
        for text in tiny.generate(
            [Example("x", DESCRIBE, None, media[name]) for name in ("c", "d", "a")], max_new_tokens=6
        )
    ]
    prompt = (
        f"{described[0]}\nwhat do viewers feel\nanger\n\n{described[1]}\nwhat do viewers feel\nsadness\n\n"
        f"{described[2]}\n{prepared.questions[0].example.prompt}"
    )
    expected = score_labels(tiny, [Example("x", prompt, None, media["a"])], LABELS)[0]
    assert json.loads(of(rows, "sum")[0]["prediction"]) == LABELS[expected.argmax()]
    assert [row["shots"] for row in rows] == [2, 2]
    assert rows[0]["context"] == described[2]


def test_few_shot_of_texts_shows_the_texts(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    kind = task(modality="text", labels=("no", "yes"))

    def text(name: str, words: str, label: str) -> Question:
        example = Example(name, f"{words}\n\ngood?", label, None)
        return Question(Sample(id=name, label=label, fields={"text": words}), name, example, None)

    prepared = Prepared(kind, (text("s", "I left.", "no"),), 1, {}, {})
    contest = Contest(prepared, "few_shot", shown=(text("t", "I stayed.", "yes"),))
    rows = answers(tiny, [contest], tmp_path)
    example = Example("x", "I stayed.\n\ngood?\nyes\n\nI left.\n\ngood?", None, None)
    expected = score_labels(tiny, [example], kind.labels)[0]
    assert json.loads(of(rows, "sum")[0]["prediction"]) == kind.labels[expected.argmax()]
    assert {row["context"] for row in rows} == {None}


def test_what_is_shown_is_of_the_training_split_and_not_of_the_tests_media(
    media: dict[str, Media], tmp_path: Path
) -> None:
    kind = split_task(media, {"test": ["a", "b"], "train": ["a", "c", "d", "b", "clip"]})
    tested = prepare(kind, tmp_path, "test", viewer(tmp_path), limit=None)
    found = evaluator.shown_first(tested, tmp_path, viewer(tmp_path), count=2)
    again = evaluator.shown_first(tested, tmp_path, viewer(tmp_path), count=3)
    assert len(found) == 2
    assert again[:2] == found, "more of them are the same and more"
    assert {Path(str(one.sample.media_path)).stem for one in again} == {"c", "d", "clip"}
    assert all(one.example.completion is not None for one in again)
    with pytest.raises(UserError, match="3 of 5 samples drawn from train can be shown"):
        evaluator.shown_first(tested, tmp_path, viewer(tmp_path), count=4)


def test_a_story_stands_before_the_question_and_who_has_none_is_not_asked(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    prepared = questions(media, task())
    contest = Contest(prepared, "story", stories={"s0": "Once upon a time.", "s3": "The end."})
    rows = of(answers(tiny, [contest], tmp_path), "sum")
    assert [row["sample_id"] for row in rows] == ["s0", "s3"]
    told = replace(
        prepared.questions[0].example,
        prompt=f"Once upon a time.\n{prepared.questions[0].example.prompt}",
        completion=None,
    )
    expected = score_labels(tiny, [told], LABELS)[0]
    assert json.loads(rows[0]["prediction"]) == LABELS[expected.argmax()]


def test_stories_of_other_samples_are_refused(media: dict[str, Media], tmp_path: Path) -> None:
    (tmp_path / "stories.json").write_text('{"other": "Once."}', encoding="utf-8")
    config = CONFIG.model_copy(update={"settings": ("story",)})
    with pytest.raises(UserError, match="none of the 5 samples of mood has a story"):
        evaluator.contests(questions(media, task()), config, tmp_path, viewer(tmp_path), {})


def test_stories_are_asked_for_where_they_are_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stories\.json.*mood"):
        evaluator.stories(task(), tmp_path)
    for text in ('{"s": 3}', "{}", "[]", '{"s": ""}'):
        (tmp_path / "stories.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="object of sample id and text"):
            evaluator.stories(task(), tmp_path)
    assert not evaluator.can_be_asked(task(modality="text"), "story")
    assert not evaluator.can_be_asked(task(modality="text"), "zero_shot_described")
    assert evaluator.can_be_asked(task(modality="text"), "few_shot")


# ---- answers in words, choices of one's own, numbers on a scale --------------------------------------------


def test_words_are_compared_and_judged(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = task(
        labels=(),
        answers="text",
        metric="judge_accuracy",
        also=("judge_score", "exact_match"),
        scoring="judge",
        parse=lambda text: text.strip() or None,
        judged="qa",
    )
    prepared = questions(media, kind)
    written = tiny.generate(
        [replace(one.example, completion=None) for one in prepared.questions], max_new_tokens=9
    )

    def verdicts(judge: Judge, cases: Sequence[Case], folder: Path) -> list[Verdict]:
        assert [(one.answer, one.reference, one.criterion) for one in cases] == [
            (text, "joy", "qa") for text in written
        ]
        said = [{"correct": True, "score": 4}, None, {"correct": False, "score": 1}] * 2
        return [Verdict("asked", "replied", one) for one in said[: len(cases)]]

    monkeypatch.setattr("behavior_llava.evaluation.judge.judge", verdicts)
    who = Judge("somebody", "judge", JudgeConfig(model="tiny", tokens=4), load=lambda: tiny)
    config = CONFIG.model_copy(update={"answer_tokens": 9})
    (table,) = ask(asked(tiny), [Contest(prepared, "zero_shot")], config, tmp_path, judge=who)
    rows = table.to_pylist()
    assert Counter((row["scoring"], row["metric"], row["primary"]) for row in rows) == {
        ("judge", "judge_accuracy", True): 5,
        ("judge", "judge_score", False): 5,
        ("generate", "exact_match", False): 5,
    }
    right, unread, wrong = of(rows, "judge")[:3]
    assert json.loads(right["prediction"]) == {"correct": True, "score": 4}
    assert unread["prediction"] is None
    assert json.loads(wrong["prediction"]) == {"correct": False, "score": 1}
    assert json.loads(unread["judged"]) == {
        "judge": "somebody",
        "prompt": "asked",
        "reply": "replied",
        "reason": None,
    }
    compared = of(rows, "generate")
    assert [row["answer"] for row in compared] == written
    assert [json.loads(row["prediction"] or "null") for row in compared] == [
        text.strip() or None for text in written
    ]
    assert {row["judged"] for row in compared} == {None}


def test_a_sample_may_have_choices_of_its_own(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    own = {"s0": ("buy it now", "call home"), "s1": ("sleep", "eat more fruit", "run")}

    def choose(sample: Sample, values: Sequence[float]) -> list[float]:
        assert len(values) == len(own[sample.id])
        return list(values)

    for chosen in (None, choose):
        kind = task(labels=(), choose=chosen)
        prepared = questions(media, kind)
        prepared = replace(
            prepared,
            questions=tuple(
                replace(one, sample=Sample(id=one.sample_id, label="x", choices=own[one.sample_id]))
                for one in prepared.questions[:2]
            ),
        )
        rows = of(answers(tiny, [Contest(prepared, "zero_shot")], tmp_path), "sum")
        for row, question in zip(rows, prepared.questions, strict=True):
            labels = own[question.sample_id]
            expected = score_labels(tiny, [question.example], labels)[0]
            said = json.loads(row["prediction"])
            if chosen is None:
                assert said == labels[expected.argmax()]
            else:
                assert said == pytest.approx(expected.tolist(), abs=1e-4)
    with pytest.raises(ValueError, match="nothing to choose from"):
        answers(tiny, [Contest(questions(media, task(labels=())), "zero_shot")], tmp_path)


def test_numbers_are_on_the_tasks_scale(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    plain = answers(tiny, [Contest(questions(media, task(**NUMERIC)), "zero_shot")], tmp_path / "a")
    scaled = answers(
        tiny, [Contest(questions(media, task(**NUMERIC, scale=(-4.0, 6.0))), "zero_shot")], tmp_path / "b"
    )
    assert [json.loads(row["prediction"]) for row in scaled] == pytest.approx(
        [10 * json.loads(row["prediction"]) - 4 for row in plain], abs=1e-6
    )


def test_every_metric_has_its_rows(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    kind = task(**NUMERIC | {"metric": "spearman"}, also=("mse",))
    rows = answers(tiny, [Contest(questions(media, kind), "zero_shot")], tmp_path)
    assert Counter((row["metric"], row["scoring"], row["primary"]) for row in rows) == {
        ("spearman", "expectation", True): 5,
        ("mse", "expectation", False): 5,
        ("spearman", "argmax", False): 5,
        ("mse", "argmax", False): 5,
    }


def test_a_task_that_only_a_judge_scores_wants_one(tmp_path: Path) -> None:
    kind = task([Sample(id="s", label="x")], metric="judge_grade", scoring="judge", judged="caption_detail")
    config = CONFIG.model_copy(update={"settings": ("zero_shot",)})
    with pytest.raises(UserError, match="scored by a judge alone"):
        evaluator.check(kind, config, tmp_path, is_tuned=False)
    evaluator.check(replace(kind, also=("accuracy",)), config, tmp_path, is_tuned=False)


# ---- questions in other words ------------------------------------------------------------------------------


def test_a_question_in_other_words_is_a_task_of_its_own() -> None:
    config = EvaluateConfig(
        tasks=("emoset", "emoset_feel"), questions={"emoset": {"feel": "Viewers feel", "b2": "They feel"}}
    )
    declared, known = benchmarks.all_tasks(), config.known()
    assert known.keys() - declared.keys() == {"emoset_feel", "emoset_b2"}
    own, other = config.task_named("emoset"), config.task_named("emoset_feel")
    assert other == replace(own, name="emoset_feel", question="Viewers feel")
    assert benchmarks.to_prompt(other, Sample(id="1", label="awe")) == "Viewers feel"
    assert benchmarks.folder_name(other) == benchmarks.folder_name(own)
    with pytest.raises(UserError, match=r"no task called 'emoset_fell'.*did you mean 'emoset_feel'"):
        config.task_named("emoset_fell")


@pytest.mark.parametrize(
    ("questions", "told"),
    [
        ({"emosett": {"feel": "x"}}, "no task called 'emosett'"),
        ({"emoset": {"Feel it": "x"}}, "cannot be a task's name"),
        ({"emoset": {"../feel": "x"}}, "cannot be a task's name"),
        ({"lvu": {}}, "no task called 'lvu'"),
        ({"emoset": {"feel": "x {asked}"}}, "do not both hold"),
        ({"msvd_qa": {"feel": "x"}}, "do not both hold"),
    ],
)
def test_questions_that_cannot_be_are_refused(questions: dict[str, dict[str, str]], told: str) -> None:
    with pytest.raises(UserError, match=told):
        EvaluateConfig(tasks=("emoset",), questions=questions)


# ---- settings of few tasks ---------------------------------------------------------------------------------


def test_a_setting_may_be_of_some_tasks_only() -> None:
    config = EvaluateConfig(
        tasks=("emoset", "lamem", "imdb"),
        only={"zero_shot_described": ("emoset",), "zero_shot": ("imdb", "lamem"), "few_shot": ("ekman6",)},
    )
    asked = {name: config.asked(config.task_named(name)) for name in config.tasks}
    assert asked == {
        "emoset": ("zero_shot_described", "zero_shot_verbalized"),
        "lamem": ("zero_shot", "zero_shot_verbalized"),
        "imdb": ("zero_shot",),  # a text is not looked at
    }
    for name, settings in asked.items():
        nothing = evaluator.Prepared(config.task_named(name), (), 0, {}, {})
        found = evaluator.contests(nothing, config, Path(), None, {})
        assert tuple(contest.setting for contest in found) == settings


@pytest.mark.parametrize(
    ("only", "told"),
    [
        ({"zero_shot_verbalized": ["emoset"]}, "only.zero_shot_verbalized: is the primary, which all"),
        ({"zero_shot": ["lamen"]}, "only.zero_shot: no task called 'lamen'.*did you mean 'lamem'"),
    ],
)
def test_settings_of_no_task_and_a_part_of_the_primary_are_refused(
    only: dict[str, list[str]], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        EvaluateConfig(tasks=("emoset",), only=only)
