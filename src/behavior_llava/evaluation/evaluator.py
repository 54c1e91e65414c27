"""Asks a model the questions of a benchmark, in every setting, and writes its answers down.

Settings: `zero_shot` asks the question on the media alone; `zero_shot_described` lets the model write a
description first and asks with it in the context; `zero_shot_verbalized` lets it write a description and its
viewers' likely reactions, within the same number of tokens; `finetuned` asks the plain question after
training on a share of the labels. Choice tasks are answered by the log-probabilities of their labels, numeric
ones by the expectation over the number tokens 00..99.

Answers are kept chunk by chunk in folders named after the model's weights, the task and the prompts, so a
killed evaluation continues and a changed model or prompt never meets an old answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from behavior_llava.core import chunks
from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Behavior, Example, MediaKind, Sample, Task, Value
from behavior_llava.data.viewing import View, Viewer
from behavior_llava.evaluation import benchmarks, metrics
from behavior_llava.evaluation.scoring import answer_nll, score_labels
from behavior_llava.evaluation.summary import PREDICTIONS
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.training.trainer import TrainConfig

Setting = Literal["zero_shot", "zero_shot_described", "zero_shot_verbalized"]

NUMBERS = tuple(f"{number:02d}" for number in range(100))
"""The answers of a numeric task. Source: memorability protocol of the paper (paper.md, Evaluation;
benchmarks.md 22)."""


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
        limit: samples a task; None for all. Held-out posts are asked all.
    """

    tasks: tuple[str, ...]
    benchmarks: Path | None = None
    settings: tuple[Setting, ...] = ("zero_shot", "zero_shot_described", "zero_shot_verbalized")
    primary: Setting = "zero_shot_verbalized"
    context_tokens: int = Field(default=96, gt=0)
    batch_size: int = Field(default=48, gt=0)
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
        questions.append(_question(task, sample, view, None if groups is None else groups[sample.id]))
    return Prepared(task, tuple(questions), len(samples), missing, benchmarks.majority(task, samples))


def _question(task: Task, sample: Sample, view: View | None, group: str | None) -> Question:
    media = None if view is None else view.media()
    example = Example(
        f"{task.name}:{sample.id}", benchmarks.to_prompt(task, sample), task.answer(sample), media
    )
    cluster = sample.cluster or (view.sha256 if view is not None else sample.id)
    return Question(sample.id, cluster, example, sample.label, group)


# ---- asking ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """Who is asked and how the prompts are made.

    Attributes:
        weights: hash of the model's weights.
        describe, verbalize: the two questions that let the model write before it is asked, by kind of media.
        separator: the template's line between description and behavior; it is taken out of what the model
            wrote.
    """

    model: VisionLanguageModel
    weights: str
    arm: str
    seed: int
    describe: Mapping[MediaKind, str]
    verbalize: Mapping[MediaKind, str]
    separator: str


def ask(
    asked: Asked,
    prepared: Prepared,
    setting: str,
    config: EvaluateConfig,
    folder: Path,
    *,
    label_fraction: float | None = None,
) -> pa.Table:
    """The answers of one model to one task in one setting, as rows of PREDICTIONS.

    Args:
        folder: where finished chunks are kept.
    """
    task = prepared.task
    # the fraction too: two fine-tunings may come out with equal weights, and the answers carry their fraction
    key = fingerprint(
        [
            asked.weights,
            task.name,
            task.version,
            setting,
            config.context_tokens,
            config.batch_size,
            asked.describe,
            asked.verbalize,
            label_fraction,
        ]
        + [
            [question.sample_id, question.example.prompt, question.label, _seen(question.example)]
            for question in prepared.questions
        ]
    )
    place = folder / f"{task.name}-{setting}-{key}"
    shared = {
        "benchmark": task.benchmark,
        "task": task.name,
        "setting": setting,
        "arm": asked.arm,
        "seed": asked.seed,
        "label_fraction": label_fraction,
        "shots": 0,
        "scoring": "sum" if task.labels else "expectation",
        "primary": True,
    }

    def rows(chunk: list[Question]) -> pa.Table:
        contexts = _contexts(asked, chunk, setting, config.context_tokens)
        examples = [
            question.example
            if context is None
            else replace(question.example, prompt=f"{context}\n{question.example.prompt}")
            for question, context in zip(chunk, contexts, strict=True)
        ]
        answers = answer(asked.model, task.labels, examples)
        found = []
        for question, context, (prediction, text) in zip(chunk, contexts, answers, strict=True):
            media = question.example.media
            found.append(
                {
                    **shared,
                    "sample_id": question.sample_id,
                    "cluster": question.cluster,
                    "prediction": json.dumps(prediction),
                    "label": json.dumps(question.label),
                    "group": question.group,
                    "answer": text,
                    "context": context,
                    "media_path": None if media is None else media.path,
                }
            )
        return pa.Table.from_pylist(found, schema=PREDICTIONS)

    with progress(f"{asked.arm}: {task.name}, {setting}", len(prepared.questions)) as advance:
        chunks.write(place, prepared.questions, rows, size=config.batch_size, done=advance)
    return chunks.read(place, PREDICTIONS)


def _seen(example: Example) -> list[Any] | None:
    return None if example.media is None else [example.media.sha256, *example.media.times_s]


def _contexts(asked: Asked, questions: Sequence[Question], setting: str, tokens: int) -> list[str | None]:
    """What the model writes about each question's media before it is asked; None where it is asked at
    once.
    """
    if setting in ("zero_shot", "finetuned") or questions[0].example.media is None:
        return [None] * len(questions)
    first = asked.describe if setting == "zero_shot_described" else asked.verbalize
    media = [question.example.media for question in questions]
    prompts = [
        Example(question.sample_id, first["image" if item is None else item.kind], None, item)
        for question, item in zip(questions, media, strict=True)
    ]
    texts = asked.model.generate(prompts, max_new_tokens=tokens)
    return ["\n".join(line for line in text.split("\n") if line != asked.separator) for text in texts]


def answer(
    model: VisionLanguageModel, labels: Sequence[str] | None, examples: Sequence[Example]
) -> list[tuple[Any, str]]:
    """(prediction, text shown to people) of every question.

    Args:
        labels: of the task; None where its answers are numbers.
    """
    is_choice, labels = bool(labels), labels or NUMBERS
    scores = score_labels(model, examples, labels)
    scores -= scores.max(axis=1, keepdims=True)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    if is_choice:
        return [
            (labels[best], f"{labels[best]} ({row[best]:.2f})")
            for row, best in zip(shares, shares.argmax(1), strict=True)
        ]
    expected = (shares * np.arange(len(NUMBERS))).sum(1) / (len(NUMBERS) - 1)
    return [(round(float(value), 9), f"{100 * value:.1f}") for value in expected]


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


def ask_behavior(
    asked: Asked,
    posts: Sequence[HeldOut],
    config: EvaluateConfig,
    folder: Path,
    behaviors: Mapping[str, Behavior[Any]],
) -> pa.Table:
    """How well the model predicts what the receivers of held-out posts did, as rows of PREDICTIONS.

    Args:
        behaviors: those of the posts' values, by kind.
    """
    key = fingerprint(
        [asked.weights, asked.verbalize, config.context_tokens, config.batch_size]
        + [
            [post.post_id, post.example.prompt, post.example.completion, post.given, _seen(post.example)]
            for post in posts
        ]
    )
    place = folder / f"heldout-{key}"
    shared = {
        "benchmark": "heldout_posts",
        "setting": "zero_shot",
        "arm": asked.arm,
        "seed": asked.seed,
        "label_fraction": None,
        "shots": 0,
        "primary": False,
    }

    def rows(chunk: list[HeldOut]) -> pa.Table:
        written = asked.model.generate(
            [replace(post.example, completion=None) for post in chunk], max_new_tokens=config.context_tokens
        )
        losses = answer_nll(asked.model, [post.example for post in chunk], [post.given for post in chunk])
        found: list[dict[str, Any]] = []
        for post, text, loss in zip(chunk, written, losses, strict=True):
            for task, scoring, prediction, label in _behavior_rows(post, text, loss, behaviors):
                media = post.example.media
                found.append(
                    {
                        **shared,
                        "task": task,
                        "scoring": scoring,
                        "sample_id": post.post_id,
                        "cluster": post.cluster,
                        "prediction": None if prediction is None else json.dumps(prediction),
                        "label": json.dumps(label),
                        "group": None,
                        "answer": text,
                        "context": None,
                        "media_path": None if media is None else media.path,
                    }
                )
        return pa.Table.from_pylist(found, schema=PREDICTIONS)

    with progress(f"{asked.arm}: behavior of held-out posts", len(posts)) as advance:
        chunks.write(place, posts, rows, size=config.batch_size, done=advance)
    return chunks.read(place, PREDICTIONS)


BEHAVIOR_TEXT = "heldout_behavior_text"


def _behavior_rows(
    post: HeldOut, text: str, loss: tuple[float, int], behaviors: Mapping[str, Behavior[Any]]
) -> list[tuple[str, str, Any, Any]]:
    """(task, scoring, prediction, label) for each part of each behaviour the post has."""
    # the description before the behavior is the seed's own; what receivers did is the same for all
    behaved = (post.example.completion or "").removeprefix(post.given)
    rows: list[tuple[str, str, Any, Any]] = [(BEHAVIOR_TEXT, "sum", list(loss), behaved)]
    for kind, value in post.values.items():
        read = behaviors[kind].read_back(text) or {}
        for part, label in value.items():
            metric = behaviors[kind].metrics[part]
            if _can_be_scored(metric, label):
                rows.append(
                    (f"heldout_{part}", "generate", _comparable(metric, read.get(part), label), label)
                )
    return rows


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
            "benchmark": "heldout_posts",
            "metric": metric,
            "modality": "video" if media.get(task) == {"video"} else "image",
            "chance": _CHANCE.get(metric),
            "majority": metrics.majority(metric, labels.get(task, [])),
        }
        for task, metric in names.items()
    }
