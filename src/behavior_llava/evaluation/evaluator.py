"""Asks a model the questions of a benchmark, in every setting, and writes its answers down.

Settings: `zero_shot` asks the question on the media alone; `zero_shot_described` lets the model write a
description first and asks with it in the context; `zero_shot_verbalized` lets it write a description and its
viewers' likely reactions, within the same number of tokens; `finetuned` asks the plain question after
training on a share of the labels; `few_shot` shows some samples of the training split with their answers
first; `story` gives a text that somebody else wrote of each sample.

Choice tasks are answered by the log-probabilities of their labels, numeric ones by those of the numbers
00..99; deciding.py makes answers of them in several ways, all of which are kept. The others are answered in
the model's own words, which metrics or a judge (judge.py) compare with the truth. What a model answered
stands in a journal (answering.py), so a killed evaluation continues.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import Field, model_validator

from behavior_llava.core import together
from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore, write_whole
from behavior_llava.core.schema import Behavior, Example, Media, MediaKind, Sample, Scoring, Task, Value
from behavior_llava.data.viewing import View, Viewer
from behavior_llava.evaluation import answering, benchmarks, deciding, metrics
from behavior_llava.evaluation import judge as judging
from behavior_llava.evaluation.answering import Answer, Ask, Asks, Rules
from behavior_llava.evaluation.journal import Journal
from behavior_llava.evaluation.judge import Case, Judge, JudgeConfig
from behavior_llava.evaluation.scoring import Query, Scorer
from behavior_llava.evaluation.summary import PREDICTIONS
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.training.trainer import TrainConfig

log = logging.getLogger(__name__)

Setting = Literal["zero_shot", "zero_shot_described", "zero_shot_verbalized", "few_shot", "story"]

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
    fractions: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    train: TrainConfig = TrainConfig(epochs=10)


class EvaluateConfig(Config):
    """What is evaluated, and how.

    Attributes:
        tasks: names, of declared tasks or of those that `questions` adds.
        questions: task -> a word -> that task's question in other words: adds the task "<task>_<word>", so
            that a result need not hang on one choice of words.
        splits: task -> its splits for training and for the test, where a benchmark has several of each.
        benchmarks: folder with one sub-folder a benchmark; None for those the sandbox wrote.
        only: setting -> the tasks asked in it, where that is not all of them: what is secondary may be asked
            of a few. The primary is asked of all.
        primary: the setting the report opens with; fixed before arms are compared.
        context_tokens: what a model may write before it is asked, in the settings that let it write.
        answer_tokens: what it may write where its own words are the answer.
        shots: how many samples the setting few_shot shows first.
        judge: who tells whether an answer in words is right; None leaves it to comparing words, and tasks
            that only a judge can score cannot be asked.
        batch_size: questions at a time, fewer where memory does not hold them.
        calibration_samples: how many samples of another split than the test's tell how likely each label is
            anyway, for the scoring `split`; their labels are not looked at. 0 leaves it out.
        limit: samples a task; None for all. Held-out posts are asked all.
    """

    tasks: tuple[str, ...]
    questions: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)
    splits: Mapping[str, tuple[str, str]] = Field(default_factory=dict)
    benchmarks: Path | None = None
    settings: tuple[Setting, ...] = ("zero_shot", "zero_shot_described", "zero_shot_verbalized")
    only: Mapping[Setting, tuple[str, ...]] = Field(default_factory=dict)
    primary: Setting = "zero_shot_verbalized"
    context_tokens: int = Field(default=96, gt=0)
    answer_tokens: int = Field(default=192, gt=0)
    shots: tuple[int, ...] = (1,)
    judge: JudgeConfig | None = None
    batch_size: int = Field(default=48, gt=0)
    calibration_samples: int = Field(default=64, ge=0)
    limit: int | None = None
    finetune: FinetuneConfig = FinetuneConfig()

    @model_validator(mode="after")
    def _questions_ask(self) -> EvaluateConfig:
        declared = benchmarks.all_tasks()
        for name, splits in self.splits.items():
            task = benchmarks.task_named(name, where="evaluate.splits", known=declared)
            if unknown := [split for split in splits if split not in task.splits]:
                raise UserError(
                    f"{name} has no split {unknown[0]!r}",
                    where=f"evaluate.splits.{name}",
                    remedy=f"it has {', '.join(task.splits[:8])}{', ...' if len(task.splits) > 8 else ''}",
                )
        for name, wordings in self.questions.items():
            task = benchmarks.task_named(name, where="evaluate.questions", known=declared)
            for word, question in wordings.items():
                where = f"evaluate.questions.{name}.{word}"
                if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", word) or f"{name}_{word}" in declared:
                    raise UserError(
                        "cannot be a task's name", where=where, remedy="use another word of small letters"
                    )
                if (benchmarks.ASKED in task.question) != (benchmarks.ASKED in question):
                    raise UserError(
                        f"{task.question!r} and {question!r} do not both hold {benchmarks.ASKED}",
                        where=where,
                        remedy="say in the question what the task's own says there",
                    )
        return self

    @model_validator(mode="after")
    def _only_names_tasks(self) -> EvaluateConfig:
        """It may name what is not asked here, so that `--set evaluate.tasks=...` alone asks fewer."""
        known = self.known()
        for setting, tasks in self.only.items():
            where = f"evaluate.only.{setting}"
            if setting == self.primary:
                raise UserError(
                    "is the primary, which all tasks are asked in",
                    where=where,
                    remedy="leave it out there, or take out of evaluate.tasks what is not to be asked",
                )
            for name in tasks:
                benchmarks.task_named(name, where=where, known=known)
        return self

    def asked(self, task: Task) -> tuple[Setting, ...]:
        """The settings a task is asked in: those that mean anything for it, and are not kept for others."""
        return tuple(
            setting
            for setting in self.settings
            if can_be_asked(task, setting) and task.name in self.only.get(setting, (task.name,))
        )

    def known(self) -> dict[str, Task]:
        """All tasks that can be named: the declared ones, and those that `questions` adds."""
        found = benchmarks.all_tasks()
        for name, (train, test) in self.splits.items():
            found[name] = replace(found[name], train_split=train, test_split=test)
        for name, wordings in self.questions.items():
            for word, question in wordings.items():
                found[f"{name}_{word}"] = replace(found[name], name=f"{name}_{word}", question=question)
        return found

    def task_named(self, name: str) -> Task:
        """A task that can be named.

        Raises:
            UserError: there is none of that name.
        """
        return benchmarks.task_named(name, where="evaluate.tasks", known=self.known())


@dataclass(frozen=True, slots=True)
class Question:
    """One sample of a task, ready to be asked.

    Attributes:
        example: prompt and media; the completion is the right answer.
        group: a part of the test split that is also scored apart; None for none.
    """

    sample: Sample
    cluster: str
    example: Example
    group: str | None

    @property
    def sample_id(self) -> str:
        """The benchmark's own."""
        return self.sample.id

    @property
    def label(self) -> Any:
        """What the metric compares with; None where it is not looked at."""
        return self.sample.label


@dataclass(frozen=True)
class Prepared:
    """A split of a task with its media measured.

    Attributes:
        listed: samples in the split; questions hold those whose media could be read.
        missing: reason -> ids of the samples without usable media.
        baselines: metric -> what a guesser (`chance`) and the best constant answer (`majority`) score on the
            split, whether its media are there or not; None where undefined.
    """

    task: Task
    questions: tuple[Question, ...]
    listed: int
    missing: Mapping[str, Sequence[str]]
    baselines: Mapping[str, Mapping[str, float | None]]


def prepare(
    task: Task, folder: Path, split: str, viewer: Viewer, *, limit: int | None, seed: int | None = None
) -> Prepared:
    """Reads a split and measures its media; samples without a released label are left out of `listed`.

    Args:
        limit: so many samples, a share of every label; None for all.
        seed: which samples of a label these are; None for some at equal distances in the official list.

    Raises:
        UserError: the folder is not in the benchmark's layout or has no labeled sample, or its groups.json
            (sample id -> the part of the split it is also scored in) leaves a sample out.
    """
    samples = [sample for sample in task.load(folder, split) if sample.label is not None]
    if not samples:
        raise UserError(
            f"no sample of {split} has a label to be compared with", where=folder, remedy=task.obtain
        )
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
    missing: dict[str, list[str]] = {}
    questions = []
    views = viewer.views(
        [(sample.media_path, sample.media_kind) for sample in samples], label=f"reading {task.name} {split}"
    )
    for sample, view in zip(samples, views, strict=True):
        if isinstance(view, str):
            missing.setdefault(view, []).append(sample.id)
            continue
        group = None if groups is None else groups[sample.id]
        example = _example(task, sample, view)
        questions.append(Question(sample, _cluster(sample, view), example, group))
    baselines = {
        name: {
            "chance": benchmarks.chance(task, samples, name),
            "majority": benchmarks.majority(task, samples, name),
        }
        for name in (task.metric, *task.also)
    }
    return Prepared(task, tuple(questions), len(samples), missing, baselines)


def _example(task: Task, sample: Sample, view: View | None) -> Example:
    """The question; with its answer where the sample's label is known."""
    completion = None if sample.label is None else _known_answer(task, sample)
    media = None if view is None else view.media()
    return Example(f"{task.name}:{sample.id}", benchmarks.to_prompt(task, sample), completion, media)


def _known_answer(task: Task, sample: Sample) -> str | None:
    """The completion to learn; None where a sample that is judged has no answer of its own."""
    try:
        return task.answer(sample)
    except ValueError:
        if not task.judged:
            raise
        return None


def _cluster(sample: Sample, view: View | None) -> str:
    return sample.cluster or (view.sha256 if view is not None else sample.id)


# ---- what tells how likely a label is anyway ---------------------------------------------------------------


def has_priors(task: Task) -> bool:
    """Whether all samples are asked the same, of the same labels: only then can it be told how likely a label
    is anyway.
    """
    return bool(task.labels) and benchmarks.ASKED not in task.question


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
            Question(replace(sample, id=f"{split}:{sample.id}"), cluster, _example(task, sample, view), None)
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
    sample = Sample(id=CONTENT_FREE, label=None, fields=fields)
    prompt = benchmarks.to_prompt(task, sample)
    most = usual.most_common(1)[0][0] if usual else None
    media = None if most is None else _grey(store, *most)
    example = Example(f"{task.name}:{CONTENT_FREE}", prompt, None, media)
    return Question(sample, CONTENT_FREE, example, None)


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


def priors(
    tested: Prepared,
    config: EvaluateConfig,
    folder: Path,
    viewer: Viewer,
    store: FrameStore,
    *,
    without: Sequence[str] = (),
) -> dict[Scoring, tuple[Question, ...]]:
    """Questions whose answers tell how likely each label of a task is anyway, by scoring.

    Args:
        without: splits that must not be used, such as one that was trained on.
    """
    if not has_priors(tested.task):
        return {}
    others = unlabeled(tested, folder, viewer, count=config.calibration_samples, without=without)
    return {"content_free": (content_free(tested, store),), "split": others}


def facts(prepared: Prepared, *, is_real: bool) -> dict[str, Any]:
    """What `summarize` is told about a task.

    Args:
        is_real: whether the benchmark is the published one, and so its published number means anything.
    """
    task = prepared.task
    return {
        "benchmark": task.benchmark,
        "metric": task.metric,
        "modality": task.modality,
        **prepared.baselines[task.metric],
        "baselines": prepared.baselines,
        "low_level": task.low_level,
        "published": task.published if is_real else None,
        "synthetic": not is_real,
        "listed": prepared.listed,
        "missing": {reason: len(samples) for reason, samples in prepared.missing.items()},
    }


# ---- what stands before a question -------------------------------------------------------------------------


STORIES = "stories.json"
"""Beside a benchmark's own files, for the setting story: sample id -> a text on it, such as the one that the
paper had GPT-3.5 write of every video of LVU.
"""


def shown_first(tested: Prepared, folder: Path, viewer: Viewer, *, count: int) -> tuple[Question, ...]:
    """Samples of the training split with their answers, drawn once for all that is asked, on other media than
    the test's.

    How the paper draws its own is not said; these are drawn evenly, by a fixed seed.

    Raises:
        UserError: the split is not there, or has too few samples whose media can be read.
    """
    task = tested.task
    taken = {question.cluster for question in tested.questions}
    samples = [sample for sample in task.load(folder, task.train_split) if sample.label is not None]
    order = np.random.default_rng(0).permutation(len(samples))[: 8 * count]
    chosen = [samples[number] for number in order]
    items = [(sample.media_path, sample.media_kind) for sample in chosen]
    views = viewer.views(items, label=f"reading {task.name} {task.train_split}")
    found = [
        Question(sample, cluster, _example(task, sample, view), None)
        for sample, view in zip(chosen, views, strict=True)
        if not isinstance(view, str) and (cluster := _cluster(sample, view)) not in taken
    ]
    if len(found) < count:
        raise UserError(
            f"{len(found)} of {len(chosen)} samples drawn from {task.train_split} can be shown",
            where=f"{task.name} in {folder}",
            remedy=f"put the media of {task.train_split} there, or take few_shot out of evaluate.settings",
        )
    return tuple(found[:count])


def stories(task: Task, folder: Path) -> dict[str, str]:
    """Sample id -> text, of the benchmark's stories.json.

    Raises:
        UserError: it is not there, or has no texts.
    """
    path = folder / STORIES
    found = benchmarks.read_json(
        path,
        f"write {{sample id: text}} there for {task.name}, or take story out of evaluate.settings",
    )
    is_told = isinstance(found, dict) and bool(found)
    if not is_told or not all(isinstance(text, str) and text for text in found.values()):
        raise UserError("expected an object of sample id and text", where=path, remedy="check its values")
    return found


def can_be_asked(task: Task, setting: str) -> bool:
    """Whether a setting means anything for a task: a text is neither looked at nor told in a story."""
    return task.modality != "text" or setting in ("zero_shot", "few_shot")


def contests(
    prepared: Prepared,
    config: EvaluateConfig,
    folder: Path,
    viewer: Viewer,
    priors: Mapping[Scoring, Sequence[Question]],
) -> list[Contest]:
    """A task in every setting it is asked in.

    Raises:
        UserError: what a setting needs is not in the benchmark's folder.
    """
    task, found = prepared.task, []
    for setting in config.asked(task):
        contest = Contest(prepared, setting, priors)
        if setting == "few_shot":
            found += [
                replace(contest, shown=shown_first(prepared, folder, viewer, count=count))
                for count in config.shots
            ]
        elif setting == "story":
            told = replace(contest, stories=stories(task, folder))
            if prepared.questions and not told.questions:
                raise UserError(
                    f"none of the {len(prepared.questions)} samples of {task.name} has a story",
                    where=folder / STORIES,
                    remedy=f"use the samples' ids, such as {prepared.questions[0].sample_id!r}",
                )
            found.append(told)
        else:
            found.append(contest)
    return found


def check(task: Task, config: EvaluateConfig, folder: Path, *, is_tuned: bool) -> None:
    """Whether a benchmark's folder has what the config asks of it.

    Raises:
        UserError: what is missing.
    """
    task.load(folder, task.test_split)
    asked = config.asked(task)
    if is_tuned or "few_shot" in asked:
        task.load(folder, task.train_split)
    if "story" in asked:
        stories(task, folder)
    check_judge(task, config)


def check_judge(task: Task, config: EvaluateConfig) -> None:
    """Whether a task that wants a judge has one.

    Raises:
        UserError: it has none, and nothing else scores the task.
    """
    if task.scoring != "judge" or config.judge is not None:
        return
    if all(name.startswith("judge_") for name in (task.metric, *task.also)):
        raise UserError(
            f"{task.name} is scored by a judge alone, and there is none",
            where="evaluate.judge",
            remedy="name a model or an endpoint there, or leave the task out",
        )
    log.warning("%s: without evaluate.judge only words are compared, which is secondary", task.name)


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
        shown: samples that are shown with their answers first.
        stories: sample id -> a text that somebody else wrote of it; a sample without one is not asked.
    """

    prepared: Prepared
    setting: str
    priors: Mapping[Scoring, Sequence[Question]] = field(default_factory=dict)
    label_fraction: float | None = None
    shown: Sequence[Question] = ()
    stories: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The task that is asked."""
        return self.prepared.task

    @property
    def questions(self) -> list[Question]:
        """Those of the test split that are asked."""
        asked = self.prepared.questions
        return [one for one in asked if one.sample_id in self.stories] if self.stories else list(asked)


def ask(
    asked: Asked,
    contests: Sequence[Contest],
    config: EvaluateConfig,
    folder: Path,
    posts: Sequence[HeldOut] = (),
    behaviors: Mapping[str, Behavior[Any]] | None = None,
    judge: Judge | None = None,
) -> Iterator[pa.Table]:
    """The answers of one model to everything, as rows of PREDICTIONS; a table a contest, and one of posts.

    Args:
        folder: of the model's journal.
        posts: held-out posts whose receivers' behavior is to be predicted.
        behaviors: those of the posts' values, by kind.
        judge: of answers in words; None where nobody judges.
    """
    rules = Rules(config.context_tokens, config.batch_size, asked.separator)

    def fill(together_asked: Mapping[str, Sequence[Ask]]) -> None:
        every = [Asks(label, tuple(asks)) for label, asks in together_asked.items() if asks]
        together.call(answering.fill, asked.load, asked.weights, every, rules, folder)

    shown = {id(contest): _shown(asked, contest) for contest in contests if contest.shown}
    if any(ask.first is not None for asks in shown.values() for ask in asks):
        label = f"{asked.arm}: what is shown first"
        fill({label: [ask for asks in shown.values() for ask in asks if ask.first is not None]})
    with Journal(folder) as journal:
        read = partial(answering.read, asked.weights, rules=rules, journal=journal)
        before = {key: _demonstrations(asks, read) for key, asks in shown.items()}
    together_asked: dict[str, list[Ask]] = {}
    of_contest = [_asks(asked, contest, config, before.get(id(contest), "")) for contest in contests]
    for contest, asks in zip(contests, of_contest, strict=True):
        label = f"{asked.arm}: {contest.task.benchmark}, {contest.setting}"
        together_asked.setdefault(label, []).extend(ask for some in asks.values() for ask in some)
    of_posts = [Ask(HELDOUT, 1, post.post_id, post.example, given=post.given) for post in posts]
    if posts:
        together_asked[f"{asked.arm}: behavior of held-out posts"] = of_posts
    fill(together_asked)
    shared = {"arm": asked.arm, "seed": asked.seed}
    with Journal(folder) as journal:
        read = partial(answering.read, asked.weights, rules=rules, journal=journal)
        for contest, asks in zip(contests, of_contest, strict=True):
            answers = {name: list(read(some)) for name, some in asks.items()}
            rows = _rows(contest, answers, judge, folder)
            yield pa.Table.from_pylist([row | shared for row in rows], PREDICTIONS)
        for post, answer in zip(posts, read(of_posts), strict=True):
            rows = _behavior_rows(post, answer, behaviors or {})
            yield pa.Table.from_pylist([row | shared for row in rows], PREDICTIONS)


_TESTED = "tested"


def _first(asked: Asked, setting: str, example: Example) -> str | None:
    """The question that lets the model write about the media before; None where it is asked at once."""
    of_setting = {
        "zero_shot_described": asked.describe,
        "zero_shot_verbalized": asked.verbalize,
        # what is shown is told in words, as a prompt holds one media item; so is what is asked about
        "few_shot": asked.describe,
    }
    if example.media is None or setting not in of_setting:
        return None
    return of_setting[setting][example.media.kind]


def _asks(asked: Asked, contest: Contest, config: EvaluateConfig, before: str) -> dict[str, list[Ask]]:
    """The questions of the test split, and by scoring those that tell how likely each label is anyway."""
    task = contest.task

    def ask(question: Question) -> Ask:
        told = before
        if contest.stories:
            told = f"{contest.stories.get(question.sample_id, CONTENT_FREE_TEXT)}\n"
        return Ask(
            task=task.name,
            version=task.version,
            sample=question.sample_id,
            example=question.example,
            labels=_labels(task, question.sample),
            first=_first(asked, contest.setting, question.example),
            before=told,
            tokens=config.answer_tokens if task.answers == "text" else None,
        )

    every = {_TESTED: contest.questions, **contest.priors}
    return {name: [ask(question) for question in questions] for name, questions in every.items()}


def _labels(task: Task, sample: Sample) -> tuple[str, ...]:
    """What is to be chosen from; nothing where the model is to write."""
    if task.answers == "number":
        return deciding.NUMBERS
    if task.answers == "text":
        return ()
    choices = benchmarks.choices(task, sample)
    if not choices:
        raise ValueError(f"sample {sample.id} of {task.name} has nothing to choose from")
    return choices


def _shown(asked: Asked, contest: Contest) -> list[Ask]:
    """The samples that are shown first, asked what they show."""
    task = contest.task
    return [
        Ask(
            task=task.name,
            version=task.version,
            sample=f"{task.train_split}:{question.sample_id}",
            example=question.example,
            labels=_labels(task, question.sample),
            first=_first(asked, contest.setting, question.example),
        )
        for question in contest.shown
    ]


def _demonstrations(asks: Sequence[Ask], read: Callable[[Sequence[Ask]], Iterator[Answer]]) -> str:
    """Every shown sample: what the model says of its media where it has any, the question, the answer."""
    described = [ask for ask in asks if ask.first is not None]
    context_of = dict(
        zip([ask.sample for ask in described], [one.context for one in read(described)], strict=True)
    )
    told = []
    for ask in asks:
        context = context_of.get(ask.sample)
        written = "" if context is None else f"{context}\n"
        told.append(f"{written}{ask.example.prompt}\n{ask.example.completion}\n\n")
    return "".join(told)


def _rows(
    contest: Contest, answers: Mapping[str, Sequence[Answer]], judge: Judge | None, folder: Path
) -> Iterator[dict[str, Any]]:
    """A row for every way of telling the answer, and for every metric of it."""
    task, questions = contest.task, contest.questions
    likely = _likely(contest, answers)
    for scoring, predictions in _decided(contest, answers, judge, folder).items():
        for metric in (task.metric, *task.also):
            if metric.startswith("judge_") != (scoring == "judge"):
                continue
            is_primary = scoring == task.scoring and metric == task.metric
            for question, answer, (prediction, text, judged), chosen_from in zip(
                questions, answers[_TESTED], predictions, likely, strict=True
            ):
                media = question.example.media
                yield {
                    "benchmark": task.benchmark,
                    "task": task.name,
                    "metric": metric,
                    "setting": contest.setting,
                    "label_fraction": contest.label_fraction,
                    "shots": len(contest.shown),
                    "scoring": scoring,
                    "primary": is_primary,
                    "sample_id": question.sample_id,
                    "cluster": question.cluster,
                    "prediction": None if prediction is None else json.dumps(prediction),
                    "label": json.dumps(question.label),
                    "group": question.group,
                    "answer": text,
                    "context": answer.context,
                    "judged": judged,
                    "media_path": None if media is None else media.path,
                    "likely": chosen_from if is_primary else None,
                }


def _likely(contest: Contest, answers: Mapping[str, Sequence[Answer]]) -> Sequence[Any]:
    """What the primary answers were chosen from; None for each that was written in words."""
    task, questions = contest.task, contest.questions
    if task.answers == "text":
        return [None] * len(questions)
    scores = {name: [one.scores for one in some if one.scores is not None] for name, some in answers.items()}
    labels = [_labels(task, question.sample) for question in questions]
    return deciding.likely(labels, scores.pop(_TESTED), scores, task.scoring)


def _decided(
    contest: Contest, answers: Mapping[str, Sequence[Answer]], judge: Judge | None, folder: Path
) -> dict[str, list[tuple[Any, str, str | None]]]:
    """(prediction, text shown to people, what a judge was asked and replied) by scoring."""
    task, questions = contest.task, contest.questions
    if task.answers == "text":
        texts = [answer.text or "" for answer in answers[_TESTED]]
        found: dict[str, list[tuple[Any, str, str | None]]] = {
            "generate": [(task.parse(text), text, None) for text in texts]
        }
        if task.judged and judge is not None:
            found["judge"] = _judged(contest, texts, judge, folder)
        return found
    scores = {name: [one.scores for one in some if one.scores is not None] for name, some in answers.items()}
    tested = scores.pop(_TESTED)
    if task.answers == "number":
        decided = deciding.numbers(tested, task.scale)
    else:
        choose = task.choose
        decided = deciding.choices(
            [benchmarks.choices(task, question.sample) for question in questions],
            tested,
            scores,
            None if choose is None else lambda number, values: choose(questions[number].sample, values),
        )
    return {name: [(*one, None) for one in predictions] for name, predictions in decided.items()}


def _judged(
    contest: Contest, texts: Sequence[str], judge: Judge, folder: Path
) -> list[tuple[Any, str, str | None]]:
    task = contest.task
    cases = [
        Case(
            task=task.name,
            version=task.version,
            sample=question.sample_id,
            criterion=task.judged,
            question=question.example.prompt,
            reference=str(question.label),
            answer=text,
            media=question.example.media,
        )
        for question, text in zip(contest.questions, texts, strict=True)
    ]
    verdicts = judging.judge(judge, cases, folder)
    return [
        (
            verdict.read,
            text,
            json.dumps(
                {
                    "judge": judge.name,
                    "prompt": verdict.prompt,
                    "reply": verdict.reply,
                    "reason": verdict.reason,
                },
                ensure_ascii=False,
            ),
        )
        for text, verdict in zip(texts, verdicts, strict=True)
    ]


def answer(
    model: VisionLanguageModel,
    labels: Sequence[str] | None,
    examples: Sequence[Example],
    scale: tuple[float, float] = (0.0, 1.0),
) -> list[tuple[Any, str]]:
    """(prediction, text shown to people) of every question, asked at once and kept nowhere.

    Args:
        labels: of the task; None where its answers are numbers.
        scale: what the numbers 00 and 99 stand for.
    """
    queries = [Query(example, tuple(labels or deciding.NUMBERS)) for example in examples]
    scores = Scorer(model).scores(queries)
    if labels:
        return deciding.choices([labels] * len(scores), scores, {})["sum"]
    return deciding.numbers(scores, scale)["expectation"]


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
    found: list[tuple[str, str, str, Any, Any]] = [(BEHAVIOR_TEXT, "perplexity", "sum", answer.loss, behaved)]
    for kind, value in post.values.items():
        read = behaviors[kind].read_back(answer.text) or {}
        for part, label in value.items():
            metric = behaviors[kind].metrics[part]
            if _can_be_scored(metric, label):
                said = _comparable(metric, read.get(part), label)
                found.append((f"heldout_{part}", metric, "generate", said, label))
    media = post.example.media
    for task, metric, scoring, prediction, label in found:
        yield {
            "benchmark": HELDOUT,
            "task": task,
            "metric": metric,
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
            "judged": None,
            "media_path": None if media is None else media.path,
            "likely": None,
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
