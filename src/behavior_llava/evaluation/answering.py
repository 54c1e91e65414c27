"""Asks a model and keeps what it answers in its journal, so that a killed evaluation continues.

In: what is to be asked, of all tasks of a benchmark together: questions on one media item then share it, and
what a model writes about it before it is asked. `fill` asks what the journal does not tell, in every process
that takes part; `read` gives the answers in order. Called by evaluator.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from behavior_llava.core.manifest import fingerprint
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Example
from behavior_llava.evaluation.journal import Journal, Key
from behavior_llava.evaluation.scoring import Query, Scorer, Scores, answer_nll, refuse_unless_memory
from behavior_llava.models.auto import VisionLanguageModel

log = logging.getLogger(__name__)

T = TypeVar("T")

DIGITS = 6
"""Of a log-probability in the journal; batches of other sizes differ in the sixth."""
CONTEXT = "context"
"""Stands for the task in the key of what is written before any task is asked."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing that a model is asked about one sample: either which of some labels, or to complete.

    Attributes:
        example: prompt and media. Without labels its completion is the true answer: the model writes its own,
            and tells how likely the true one is.
        labels: of which one is to be chosen; empty where it is to complete.
        first: the question that lets it write about the media before; None where it is asked at once.
        given: the beginning of the true answer that is not scored.
        before: what stands before all else: demonstrations, or a story.
        tokens: the most of its completion; None for as many as the rules say.
    """

    task: str
    version: int
    sample: str
    example: Example
    labels: tuple[str, ...] = ()
    first: str | None = None
    given: str = ""
    before: str = ""
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Asks:
    """What is asked in one go.

    Attributes:
        label: of the progress.
    """

    label: str
    items: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered.

    Attributes:
        context: what it wrote before it was asked; None where it was asked at once.
        scores: of the labels; None where there were none.
        text: its completion; None where there were labels.
        loss: negative log-likelihood in nats and tokens of the true completion; None where there were labels,
            and where no true completion is known.
    """

    context: str | None
    scores: Scores | None = None
    text: str | None = None
    loss: tuple[float, int] | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How all questions are asked.

    Attributes:
        tokens: the most that are written, before a question or as its answer.
        batch_size: the most questions at a time.
        separator: a line of the template that is taken out of what is written before a question.
    """

    tokens: int
    batch_size: int
    separator: str


def fill(
    load: Callable[[], VisionLanguageModel], weights: str, asks: Sequence[Asks], rules: Rules, folder: Path
) -> None:
    """Asks what the journal in `folder` does not tell; of several processes each takes its share.

    Raises:
        MediaFault: an example's media is gone or broken.
        UserError: the model gives NaN or infinities, or memory does not hold a single question.
    """
    rank, size = _place()
    answerer: _Answerer | None = None
    with Journal(folder) as journal:
        for some in asks:
            blocks = list(_blocks(some.items, rules.batch_size))[rank::size]
            with progress(some.label, sum(map(len, blocks))) as advance:
                for block in blocks:
                    known = _Known(weights, rules, journal)
                    if any(known.answer(ask) is None for ask in block):
                        answerer = answerer or _Answerer(load(), known)
                        answerer.ask(block)
                    advance(len(block))


def read(weights: str, asks: Sequence[Ask], rules: Rules, journal: Journal) -> Iterator[Answer]:
    """The answers of what `fill` has asked, in order.

    Raises:
        ValueError: one was never asked.
    """
    known = _Known(weights, rules, journal)
    for ask in asks:
        answer = known.answer(ask)
        if answer is None:
            raise ValueError(f"{ask.example.id} was not asked")
        yield answer


def _place() -> tuple[int, int]:
    """Which of how many processes this is; a GPU each."""
    if not torch.distributed.is_initialized():
        return 0, 1
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _blocks(asks: Sequence[Ask], size: int) -> Iterator[list[Ask]]:
    """About so many at a time, all questions on one media item together."""
    by_media: dict[object, list[Ask]] = {}
    for number, ask in enumerate(asks):
        key = number if ask.example.media is None else ask.example.media.seen
        by_media.setdefault(key, []).append(ask)
    block: list[Ask] = []
    for some in by_media.values():
        if block and len(block) + len(some) > size:
            yield block
            block = []
        block += some
    if block:
        yield block


@dataclass(frozen=True, slots=True)
class _Known:
    """What one model's journal tells."""

    weights: str
    rules: Rules
    journal: Journal

    def context(self, ask: Ask) -> str | None:
        found = self.journal.find(self.context_key(ask))
        if found is None:
            return None
        return "\n".join(line for line in found.split("\n") if line != self.rules.separator)

    def answer(self, ask: Ask) -> Answer | None:
        """The answer; None where it, or what is written before, is not there."""
        context = None if ask.first is None else self.context(ask)
        if ask.first is not None and context is None:
            return None
        found = self.journal.find(self.answer_key(ask, context))
        if found is None:
            return None
        if ask.labels:
            return Answer(context, Scores(np.array(found["log_probs"]), np.array(found["num_tokens"])))
        loss = None if found["nll"] is None else (found["nll"], found["num_tokens"])
        return Answer(context, text=found["text"], loss=loss)

    def tokens(self, ask: Ask) -> int:
        return self.rules.tokens if ask.tokens is None else ask.tokens

    def context_key(self, ask: Ask) -> Key:
        """The same for all tasks that are asked on this media item."""
        assert ask.first is not None
        seen = _seen(ask.example)
        prompt = fingerprint([ask.first, seen, self.rules.tokens])
        return Key(self.weights, CONTEXT, 1, str(seen[0]) if seen else ask.sample, prompt)

    def answer_key(self, ask: Ask, context: str | None) -> Key:
        asked: list[Any] = [with_context(ask, context).prompt, _seen(ask.example)]
        if ask.labels:
            asked.append(ask.labels)
        else:
            asked += [ask.example.completion, ask.given, self.tokens(ask)]
        return Key(self.weights, ask.task, ask.version, ask.sample, fingerprint(asked))


def with_context(ask: Ask, context: str | None) -> Example:
    """The question behind what stands before it."""
    written = "" if context is None else f"{context}\n"
    return replace(ask.example, prompt=f"{ask.before}{written}{ask.example.prompt}")


def _seen(example: Example) -> list[Any] | None:
    return None if example.media is None else [*example.media.seen]


class _Answerer:
    """One model, and what it learned of this machine's memory."""

    def __init__(self, model: VisionLanguageModel, known: _Known) -> None:
        self._model, self._known = model, known
        self._scorer = Scorer(model)
        self._most = known.rules.batch_size

    def ask(self, block: Sequence[Ask]) -> None:
        """Asks the block, and keeps what is not known.

        Also what is known is asked, where it is not all of it: a kill may leave a part of a block, and only
        the same batch gives the same bits again.
        """
        known = self._known
        contexts = {
            known.context_key(ask): replace(ask.example, prompt=ask.first, completion=None)
            for ask in block
            if ask.first is not None
        }
        self._keep(contexts, partial(self._written, tokens=known.rules.tokens))
        choose: dict[Key, Query] = {}
        # by how much may be written, as a batch has one limit
        complete: dict[int, dict[Key, tuple[Example, str]]] = {}
        for ask in block:
            context = None if ask.first is None else known.context(ask)
            key, example = known.answer_key(ask, context), with_context(ask, context)
            if ask.labels:
                choose[key] = Query(example, ask.labels)
            else:
                complete.setdefault(known.tokens(ask), {})[key] = example, ask.given
        self._keep(choose, self._chosen)
        for tokens, of_limit in complete.items():
            self._keep(of_limit, partial(self._completed, tokens=tokens))

    def _keep(self, asked: Mapping[Key, T], answered: Callable[[list[T]], Sequence[Any]]) -> None:
        journal = self._known.journal
        new = {key for key in asked if journal.find(key) is None}
        if new:
            answers = zip(asked, answered(list(asked.values())), strict=True)
            journal.keep((key, answer) for key, answer in answers if key in new)

    def _chosen(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        found: dict[int, Scores] = {}
        for numbers in self._alike([query.example for query in queries]):
            scores = self._scorer.scores([queries[number] for number in numbers])
            found |= dict(zip(numbers, scores, strict=True))
        return [
            {
                "log_probs": [round(float(value), DIGITS) for value in found[number].log_probs],
                "num_tokens": found[number].num_tokens.tolist(),
            }
            for number in range(len(queries))
        ]

    def _completed(self, asked: Sequence[tuple[Example, str]], *, tokens: int) -> list[dict[str, Any]]:
        texts = self._written([replace(example, completion=None) for example, _ in asked], tokens=tokens)
        known = [number for number, (example, _) in enumerate(asked) if example.completion is not None]
        losses: dict[int, tuple[float, int]] = {}

        def look(places: list[int]) -> None:
            numbers = [known[place] for place in places]
            examples, given = zip(*(asked[number] for number in numbers), strict=True)
            losses.update(zip(numbers, answer_nll(self._model, examples, given), strict=True))

        self._in_batches([asked[number][0] for number in known], look)
        return [
            {
                "text": text,
                "nll": round(losses[number][0], DIGITS) if number in losses else None,
                "num_tokens": losses[number][1] if number in losses else None,
            }
            for number, text in enumerate(texts)
        ]

    def _written(self, examples: Sequence[Example], *, tokens: int) -> list[str]:
        """What the model writes to each prompt."""
        texts: dict[int, str] = {}

        def write(numbers: list[int]) -> None:
            batch = [examples[number] for number in numbers]
            written = self._model.generate(batch, max_new_tokens=tokens)
            texts.update(zip(numbers, written, strict=True))

        self._in_batches(examples, write)
        return [texts[number] for number in range(len(examples))]

    def _in_batches(self, examples: Sequence[Example], work: Callable[[list[int]], None]) -> None:
        """Calls `work` with the numbers of some examples at a time: those of like length together, as the
        shorter ones wait for the longest, and half as many where memory does not hold them.
        """
        for alike in self._alike(examples):
            waiting = sorted(alike, key=lambda number: sum(self._model.num_tokens(examples[number])))
            while waiting:
                some = waiting[: self._most]
                try:
                    work(some)
                except (RuntimeError, MemoryError) as error:
                    refuse_unless_memory(error, len(some), where=examples[some[0]].id)
                    self._most = len(some) // 2
                    log.warning("memory does not hold %d questions at a time: now %d", len(some), self._most)
                    if self._model.device.type == "cuda":
                        torch.cuda.empty_cache()
                    continue
                waiting = waiting[len(some) :]

    def _alike(self, examples: Sequence[Example]) -> list[list[int]]:
        """The examples' numbers by what may stand in one batch."""
        found: dict[int, list[int]] = {}
        for number, example in enumerate(examples):
            frames = len(example.media.times_s) if example.media and self._model.facts.equal_frames else 0
            found.setdefault(frames, []).append(number)
        return list(found.values())
