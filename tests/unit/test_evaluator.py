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
    prepared = replace(questions(media, task()), questions=(), missing={"media_missing": 5})
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
