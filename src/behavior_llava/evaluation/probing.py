"""What a run measures of a model while it trains: comments, likes, and a few questions of its tasks.

In: a few posts of the validation split and a few questions of the tasks' training split, the same for every
arm of a seed. Out: probes for training/tracking.py. No held-out post and no question of a test split is among
them: who ends a training or picks a setting by such a curve would have tuned it on what is reported. Called
by stages.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import MediaFault
from behavior_llava.core.schema import Behavior, Example, Task
from behavior_llava.data import blift
from behavior_llava.data.verbalizer import Received, Template
from behavior_llava.evaluation import metrics
from behavior_llava.evaluation.evaluator import Prepared, answer
from behavior_llava.evaluation.scoring import answer_nll
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.training.tracking import Probe

T = TypeVar("T")

BATCH = 8
"""Items at a time, small beside a training step."""
_METRICS = {"r2": "R²"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A post and one kind of what its receivers did.

    Attributes:
        example: the question for all kinds, and the true answer.
        given, until: the answer's beginnings before and with the words of this kind.
        value: what the receivers did, by part and not rounded.
    """

    example: Example
    given: str
    until: str
    value: Mapping[str, object]


def posts(
    template: Template, kinds: Sequence[str], kind: str, rows: Sequence[blift.Row], *, most: int, seed: int
) -> list[Asked]:
    """Some posts that have a kind of behavior; the seed says which.

    Args:
        rows: of the validation split.
    """
    found: list[Asked] = []
    order = iter(np.random.default_rng(seed).permutation(len(rows)))
    while len(found) < most and (place := next(order, None)) is not None:
        for row, example, given in blift.heldout(template, kinds, [rows[int(place)]]):
            value = blift.sayable(template, kind, Received(row.item.post, row.scenes))
            if value is not None:
                start, end = blift.span(template, kinds, kind, row)
                found.append(Asked(example, given + start, given + end, value))
    return found


# what is measured goes to other processes where several train: functions of this file and their data


def comments(asked: Sequence[Asked]) -> Probe:
    """Perplexity of the comments behind the true description and the behavior said before; None without
    posts.
    """
    return Probe("perplexity of comments", partial(_told, partial(_perplexity, asked)))


def _perplexity(asked: Sequence[Asked], model: VisionLanguageModel) -> float | None:
    losses = [
        loss
        for batch in _batches(model, asked)
        for loss in answer_nll(
            model,
            [one.example for one in batch],
            [one.given for one in batch],
            [one.until for one in batch],
        )
    ]
    return metrics.named("perplexity").score(losses, [""] * len(losses))


def likes(asked: Sequence[Asked], behavior: Behavior, *, max_new_tokens: int) -> Probe:
    """R² of what the model writes of likes, and how many of its answers could be read, for each way likes are
    counted.

    An answer that cannot be read explains nothing; with fewer than two that can, or where all posts have as
    many likes, R² is None.
    """
    measure = partial(_likes, asked, behavior, max_new_tokens)
    return Probe("likes", partial(_told, measure))


def _likes(
    asked: Sequence[Asked], behavior: Behavior, max_new_tokens: int, model: VisionLanguageModel
) -> dict[str, float | None]:
    said: dict[str, list[object]] = {}
    true: dict[str, list[object]] = {}
    for batch in _batches(model, asked):
        prompts = [replace(one.example, completion=None) for one in batch]
        texts = model.generate(prompts, max_new_tokens=max_new_tokens)
        for one, text in zip(batch, texts, strict=True):
            read = behavior.read_back(text) or {}
            for part, value in one.value.items():
                said.setdefault(part, []).append(read.get(part))
                true.setdefault(part, []).append(value)
    found: dict[str, float | None] = {}
    for part, values in sorted(said.items()):
        name, num_read = part.replace("_", " "), sum(value is not None for value in values)
        score = metrics.named("r2").score(values, true[part]) if num_read > 1 else None
        found |= {f"R² of {name}": score, f"{name} read, of {len(values)}": float(num_read)}
    return found


def questions(prepared: Prepared) -> Probe:
    """A task's own metric on some questions of `split_of`, asked without context; None without questions."""
    metric = metrics.named(prepared.task.metric)
    name = _METRICS.get(metric.name, metric.name.replace("_", " "))
    # not the task itself, whose parsers cannot be sent
    examples = [question.example for question in prepared.questions]
    truth = [question.label for question in prepared.questions]
    task = prepared.task
    measure = partial(_score, task.labels, task.scale, metric.name, examples, truth)
    return Probe(f"zero-shot {name} of {prepared.task.name}", partial(_told, measure))


def _score(
    labels: Sequence[str] | None,
    scale: tuple[float, float],
    metric: str,
    examples: Sequence[Example],
    truth: Sequence[object],
    model: VisionLanguageModel,
) -> float | None:
    answers = [
        prediction
        for batch in _batches(model, examples)
        for prediction, _ in answer(model, labels, batch, scale)
    ]
    return metrics.named(metric).score(answers, truth)


def split_of(task: Task) -> str | None:
    """The split whose questions may be asked while a model trains; None where the task has only its test, or
    is answered by more than the likeliest label or number.
    """
    is_plain = task.answers == "number" or (bool(task.labels) and task.choose is None)
    has_split = task.train_split in task.splits and task.train_split != task.test_split
    return task.train_split if is_plain and has_split else None


def _batches(model: VisionLanguageModel, items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Items a few at a time; one by one where a batch's videos must be of equally many frames."""
    size = 1 if model.facts.equal_frames else BATCH
    return (items[start : start + size] for start in range(0, len(items), size))


def _told(measure: Callable[[VisionLanguageModel], T], model: VisionLanguageModel) -> T:
    """The measure, with a reason that a person can act on where a file is gone."""
    try:
        return measure(model)
    except MediaFault as fault:
        raise UserError(
            f"media that are looked at while training cannot be read any more ({fault.reason})",
            where="track_every",
            remedy="run collect again, put the benchmark's files back, or leave track_every out",
        ) from fault
