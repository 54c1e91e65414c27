"""Asks a model the questions of a benchmark, in every setting, and writes its answers down.

Settings: `zero_shot` asks the question on the media alone; `zero_shot_described` lets the model write a
description first and asks with it in the context; `zero_shot_verbalized` lets it write a description and its
viewers' likely reactions, within the same number of tokens; `finetuned` asks the plain question after
training on a share of the labels. Choice tasks are answered by the log-probabilities of their labels, numeric
ones by those of the numbers 00..99; deciding.py makes answers of them in several ways, all of which are kept.
What a model answered stands in a journal (answering.py), so a killed evaluation continues.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import Field

from behavior_llava.core import together
from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore, write_whole
from behavior_llava.core.schema import Behavior, Example, Media, MediaKind, Sample, Scoring, Task, Value
from behavior_llava.data.viewing import View, Viewer
from behavior_llava.evaluation import answering, benchmarks, deciding, metrics
from behavior_llava.evaluation.answering import Answer, Ask, Asks, Rules
from behavior_llava.evaluation.journal import Journal
from behavior_llava.evaluation.scoring import Query, Scorer
from behavior_llava.evaluation.summary import PREDICTIONS
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.training.trainer import TrainConfig

Setting = Literal["zero_shot", "zero_shot_described", "zero_shot_verbalized"]

CONTENT_FREE = "content-free"
"""Names the sample without content."""
CONTENT_FREE_TEXT = "N/A"
"""Source: Zhao et al. 2021, https://arxiv.org/abs/2102.09690, section 5."""
_GREY_SIDE = 336


class FinetuneConfig(Config):
    """Fine-tuning on a benchmark's own labels.

    Attributes:
        tasks: names; fractions: shares of the train split.
        train: the training stage; epochs count the share's rows.
    """

    tasks: tuple[str, ...] = ()
    fractions: tuple[float, ...] = (0.1, 1.0)
    train: TrainConfig = TrainConfig(epochs=10)


class EvaluateConfig(Config):
    """What is evaluated, and how.

    Attributes:
        benchmarks: folder with one sub-folder a benchmark; None for those the sandbox wrote.
        primary: the setting the report opens with; fixed before arms are compared.
        context_tokens: what a model may write before it is asked, in both settings that let it write.
        batch_size: questions at a time, fewer where memory does not hold them.
        calibration_samples: how many samples of another split than the test's tell how likely each label is
            anyway, for the scoring `split`; their labels are not looked at. 0 leaves it out.
        limit: samples a task; None for all. Held-out posts are asked all.
    """

    tasks: tuple[str, ...]
    benchmarks: Path | None = None
    settings: tuple[Setting, ...] = ("zero_shot", "zero_shot_described", "zero_shot_verbalized")
    primary: Setting = "zero_shot_verbalized"
    context_tokens: int = Field(default=96, gt=0)
    batch_size: int = Field(default=48, gt=0)
    calibration_samples: int = Field(default=64, ge=0)
    limit: int | None = None
    finetune: FinetuneConfig = FinetuneConfig()


@dataclass(frozen=True, slots=True)
class Question:
    """One sample of a task, ready to be asked.

    Attributes:
        example: prompt and media; the completion is the right answer.
        group: a part of the test split that is also scored apart; None for none.
    """

    sample_id: str
    cluster: str
    example: Example
    label: Any
    group: str | None


@dataclass(frozen=True)
class Prepared:
    """A split of a task with its media measured.

    Attributes:
        listed: samples in the split; questions hold those whose media could be read.
        missing: reason -> samples without usable media.
    """

    task: Task
    questions: tuple[Question, ...]
    listed: int
    missing: dict[str, int]
    majority: float | None


def prepare(
    task: Task, folder: Path, split: str, viewer: Viewer, *, limit: int | None, seed: int | None = None
) -> Prepared:
    """Reads a split and measures its media; samples without a released label are left out of `listed`.

    Args:
        limit: so many samples, a share of every label; None for all.
        seed: which samples of a label these are; None for some at equal distances in the official list.

    Raises:
        UserError: the folder is not in the benchmark's layout, or its groups.json (sample id -> the part of
            the split it is also scored in) leaves a sample out.
    """
    samples = [sample for sample in task.load(folder, split) if sample.label is not None]
    if limit is not None:
        # a share of every label, however the official list is ordered: sorted, by turns, or not at all
        order = np.arange(len(samples))
        if seed is not None:
            np.random.default_rng(seed).shuffle(order)
        by_label = sorted(order, key=lambda index: str(samples[index].label))
        places = np.linspace(0, len(samples) - 1, min(limit, len(samples))).round().astype(int)
        samples = [samples[index] for index in sorted(by_label[place] for place in places)]
    groups_file = folder / "groups.json"
    groups = json.loads(groups_file.read_text(encoding="utf-8")) if groups_file.exists() else None
    if groups is not None and (outside := [sample.id for sample in samples if sample.id not in groups]):
        raise UserError(
            f"{len(outside)} of {len(samples)} samples are in no group, {outside[0]!r} among them",
            where=groups_file,
            remedy="give every sample's id a group, or remove the file",
        )
    missing: dict[str, int] = {}
    questions = []
    views = viewer.views(
        [(sample.media_path, sample.media_kind) for sample in samples], label=f"reading {task.name} {split}"
    )
    for sample, view in zip(samples, views, strict=True):
        if isinstance(view, str):
            missing[view] = missing.get(view, 0) + 1
            continue
        group = None if groups is None else groups[sample.id]
        example = _example(task, sample, view)
        questions.append(Question(sample.id, _cluster(sample, view), example, sample.label, group))
    return Prepared(task, tuple(questions), len(samples), missing, benchmarks.majority(task, samples))


def _example(task: Task, sample: Sample, view: View | None) -> Example:
    """The question; with its answer where the sample's label is known."""
    completion = None if sample.label is None else task.answer(sample)
    media = None if view is None else view.media()
    return Example(f"{task.name}:{sample.id}", benchmarks.to_prompt(task, sample), completion, media)


def _cluster(sample: Sample, view: View | None) -> str:
    return sample.cluster or (view.sha256 if view is not None else sample.id)


# ---- what tells how likely a label is anyway ---------------------------------------------------------------


def unlabeled(
    tested: Prepared, folder: Path, viewer: Viewer, *, count: int, without: Sequence[str] = ()
) -> tuple[Question, ...]:
    """Some questions on samples of another split than the one tested, on other media; no label is looked at.

    Args:
        count: the most; there are fewer where the benchmark has no more such samples.
        without: splits that must not be used, such as one that was trained on.
    """
    task = tested.task
    taken = {question.cluster for question in tested.questions}
    left = [split for split in task.splits if split not in (task.test_split, *without)]
    # training samples only where there is no validation split
    for split in sorted(left, key=task.train_split.__eq__):
        try:
            samples = task.load(folder, split)
        except benchmarks.AbsentFileError:
            continue
        order = np.random.default_rng(0).permutation(len(samples))[: 2 * count]
        chosen = [replace(samples[number], label=None) for number in order]
        items = [(sample.media_path, sample.media_kind) for sample in chosen]
        views = viewer.views(items, label=f"reading {task.name} {split}")
        found = [
            Question(f"{split}:{sample.id}", cluster, _example(task, sample, view), None, None)
            for sample, view in zip(chosen, views, strict=True)
            if not isinstance(view, str) and (cluster := _cluster(sample, view)) not in taken
        ]
        if found:
            return tuple(found[:count])
    return ()


def content_free(tested: Prepared, store: FrameStore) -> Question:
    """The question on nothing: on a grey picture, on a video of as many grey frames as most have, or behind
    "N/A" in place of a text.
    """
    task = tested.task
    usual: Counter[tuple[MediaKind, int] | None] = Counter(
        None if media is None else (media.kind, len(media.times_s))
        for media in (question.example.media for question in tested.questions)
    )
    fields = {"text": CONTENT_FREE_TEXT} if task.modality == "text" else {}
    prompt = benchmarks.to_prompt(task, Sample(id=CONTENT_FREE, label=None, fields=fields))
    most = usual.most_common(1)[0][0] if usual else None
    media = None if most is None else _grey(store, *most)
    example = Example(f"{task.name}:{CONTENT_FREE}", prompt, None, media)
    return Question(CONTENT_FREE, CONTENT_FREE, example, None, None)


def _grey(store: FrameStore, kind: MediaKind, frames: int) -> Media:
    picture = Image.new("RGB", (_GREY_SIDE, _GREY_SIDE), (128, 128, 128))
    content = io.BytesIO()
    picture.save(content, "PNG")
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    path = store.file(digest, 0.0).with_name(f"{CONTENT_FREE}.png")
    write_whole(path, content.getvalue())
    media = Media(str(path), kind, digest, tuple(float(second) for second in range(frames)))
    if kind == "video":
        store.put(media, [picture] * frames)
    return media


# ---- asking ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """Who is asked and how the prompts are made.

    Attributes:
        load: gives the model; sent to every process that takes part.
        weights: hash of the model's weights.
        describe, verbalize: the two questions that let the model write before it is asked, by kind of media.
        separator: the template's line between description and behavior; it is taken out of what the model
            wrote.
    """

    load: Callable[[], VisionLanguageModel]
    weights: str
    arm: str
    seed: int
    describe: Mapping[MediaKind, str]
    verbalize: Mapping[MediaKind, str]
    separator: str


@dataclass(frozen=True)
class Contest:
    """One task in one setting.

    Attributes:
        priors: scoring -> questions whose answers tell how likely each label is anyway.
    """

    prepared: Prepared
    setting: str
    priors: Mapping[Scoring, Sequence[Question]] = field(default_factory=dict)
    label_fraction: float | None = None


def ask(
    asked: Asked,
    contests: Sequence[Contest],
    config: EvaluateConfig,
    folder: Path,
    posts: Sequence[HeldOut] = (),
    behaviors: Mapping[str, Behavior[Any]] | None = None,
) -> Iterator[pa.Table]:
    """The answers of one model to everything, as rows of PREDICTIONS; a table a contest, and one of posts.

    Args:
        folder: of the model's journal.
        posts: held-out posts whose receivers' behavior is to be predicted.
        behaviors: those of the posts' values, by kind.
    """
    rules = Rules(config.context_tokens, config.batch_size, asked.separator)
    together_asked: dict[str, list[Ask]] = {}
    of_contest = [_asks(asked, contest) for contest in contests]
    for contest, asks in zip(contests, of_contest, strict=True):
        label = f"{asked.arm}: {contest.prepared.task.benchmark}, {contest.setting}"
        together_asked.setdefault(label, []).extend(ask for some in asks.values() for ask in some)
    of_posts = [Ask(HELDOUT, 1, post.post_id, post.example, given=post.given) for post in posts]
    if posts:
        together_asked[f"{asked.arm}: behavior of held-out posts"] = of_posts
    every = [Asks(label, tuple(asks)) for label, asks in together_asked.items()]
    together.call(answering.fill, asked.load, asked.weights, every, rules, folder)
    shared = {"arm": asked.arm, "seed": asked.seed}
    with Journal(folder) as journal:
        read = partial(answering.read, asked.weights, rules=rules, journal=journal)
        for contest, asks in zip(contests, of_contest, strict=True):
            rows = _rows(contest, {name: list(read(some)) for name, some in asks.items()})
            yield pa.Table.from_pylist([row | shared for row in rows], PREDICTIONS)
        for post, answer in zip(posts, read(of_posts), strict=True):
            rows = _behavior_rows(post, answer, behaviors or {})
            yield pa.Table.from_pylist([row | shared for row in rows], PREDICTIONS)


_TESTED = "tested"


def _asks(asked: Asked, contest: Contest) -> dict[str, list[Ask]]:
    """The questions of the test split, and by scoring those that tell how likely each label is anyway."""
    task = contest.prepared.task
    labels = task.labels or deciding.NUMBERS
    first = {"zero_shot_described": asked.describe, "zero_shot_verbalized": asked.verbalize}.get(
        contest.setting
    )

    def ask(question: Question) -> Ask:
        media = question.example.media
        written = None if first is None or media is None else first[media.kind]
        return Ask(task.name, task.version, question.sample_id, question.example, labels, written)

    every = {_TESTED: contest.prepared.questions, **contest.priors}
    return {name: [ask(question) for question in questions] for name, questions in every.items()}


def _rows(contest: Contest, answers: Mapping[str, Sequence[Answer]]) -> Iterator[dict[str, Any]]:
    task = contest.prepared.task
    scores = {name: [one.scores for one in some if one.scores is not None] for name, some in answers.items()}
    tested = scores.pop(_TESTED)
    decided = deciding.choices(task.labels, tested, scores) if task.labels else deciding.numbers(tested)
    for scoring, predictions in decided.items():
        for question, answer, (prediction, text) in zip(
            contest.prepared.questions, answers[_TESTED], predictions, strict=True
        ):
            media = question.example.media
            yield {
                "benchmark": task.benchmark,
                "task": task.name,
                "setting": contest.setting,
                "label_fraction": contest.label_fraction,
                "shots": 0,
                "scoring": scoring,
                "primary": scoring == task.scoring,
                "sample_id": question.sample_id,
                "cluster": question.cluster,
                "prediction": json.dumps(prediction),
                "label": json.dumps(question.label),
                "group": question.group,
                "answer": text,
                "context": answer.context,
                "media_path": None if media is None else media.path,
            }


def answer(
    model: VisionLanguageModel, labels: Sequence[str] | None, examples: Sequence[Example]
) -> list[tuple[Any, str]]:
    """(prediction, text shown to people) of every question, asked at once and kept nowhere.

    Args:
        labels: of the task; None where its answers are numbers.
    """
    queries = [Query(example, tuple(labels or deciding.NUMBERS)) for example in examples]
    scores = Scorer(model).scores(queries)
    return deciding.choices(labels, scores, {})["sum"] if labels else deciding.numbers(scores)["expectation"]


# ---- behaviour on held-out posts ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A held-out post and what its receivers did.

    Attributes:
        example: the behaviour question with the true completion.
        given: the completion's beginning that is not behaviour.
        values: kind of behaviour -> what receivers did, by part and not rounded.
    """

    post_id: str
    cluster: str
    example: Example
    given: str
    values: Mapping[str, Value]


HELDOUT = "heldout_posts"
BEHAVIOR_TEXT = "heldout_behavior_text"


def _behavior_rows(
    post: HeldOut, answer: Answer, behaviors: Mapping[str, Behavior[Any]]
) -> Iterator[dict[str, Any]]:
    """Rows for each part of each behaviour the post has."""
    assert answer.text is not None
    # the description before the behavior is the seed's own; what receivers did is the same for all
    behaved = (post.example.completion or "").removeprefix(post.given)
    found: list[tuple[str, str, Any, Any]] = [(BEHAVIOR_TEXT, "sum", answer.loss, behaved)]
    for kind, value in post.values.items():
        read = behaviors[kind].read_back(answer.text) or {}
        for part, label in value.items():
            metric = behaviors[kind].metrics[part]
            if _can_be_scored(metric, label):
                said = _comparable(metric, read.get(part), label)
                found.append((f"heldout_{part}", "generate", said, label))
    media = post.example.media
    for task, scoring, prediction, label in found:
        yield {
            "benchmark": HELDOUT,
            "task": task,
            "setting": "zero_shot",
            "label_fraction": None,
            "shots": 0,
            "scoring": scoring,
            "primary": False,
            "sample_id": post.post_id,
            "cluster": post.cluster,
            "prediction": None if prediction is None else json.dumps(prediction),
            "label": json.dumps(label),
            "group": None,
            "answer": answer.text,
            "context": None,
            "media_path": None if media is None else media.path,
        }


def _can_be_scored(metric: str, label: Any) -> bool:
    """Texts are expected, not compared; a curve needs a shape, which two points have by chance."""
    if metric == "curve_correlation":
        return len(label) >= 3 and np.ptp(label) > 0
    return metric != "perplexity"


def _comparable(metric: str, said: Any, label: Any) -> Any:
    """What was said; None for a curve over another number of scenes."""
    is_curve = metric in ("curve_correlation", "curve_error")
    return None if is_curve and said is not None and len(said) != len(label) else said


_CHANCE = {"r2": 0.0, "spearman": 0.0, "curve_correlation": 0.0, "order_correlation": 0.0}


def heldout_tasks(
    posts: Sequence[HeldOut], behaviors: Mapping[str, Behavior[Any]]
) -> dict[str, dict[str, Any]]:
    """What `summarize` is told about the behaviour of held-out posts, by task."""
    names = {BEHAVIOR_TEXT: "perplexity"}
    labels: dict[str, list[Any]] = {}
    media: dict[str, set[str]] = {}
    for post in posts:
        kind_of_media = "image" if post.example.media is None else post.example.media.kind
        media.setdefault(BEHAVIOR_TEXT, set()).add(kind_of_media)
        for kind, value in post.values.items():
            for part, label in value.items():
                if _can_be_scored(behaviors[kind].metrics[part], label):
                    names[f"heldout_{part}"] = behaviors[kind].metrics[part]
                    labels.setdefault(f"heldout_{part}", []).append(label)
                    media.setdefault(f"heldout_{part}", set()).add(kind_of_media)
    return {
        task: {
            "benchmark": HELDOUT,
            "metric": metric,
            "modality": "video" if media.get(task) == {"video"} else "image",
            "chance": _CHANCE.get(metric),
            "majority": metrics.majority(metric, labels.get(task, [])),
        }
        for task, metric in names.items()
    }
