"""What receivers are expected to do with a media item: a model's answer, read back into numbers.

The model is asked as it was in training, describes what it sees and says what viewers do; `Audience` is what
could be read in that. What it does not say is None, never 0. For a share of viewers a local model also tells
how likely each value is: the sentences of all values are scored behind what it has written so far.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from behavior_llava.core.schema import Example, Media, Value
from behavior_llava.data import verbalizer
from behavior_llava.data.manner import Manner
from behavior_llava.data.verbalizer import behavior_of
from behavior_llava.data.viewing import View
from behavior_llava.evaluation.scoring import Query, Scorer, refuse_unless_memory
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.models.remote import RemoteModel

log = logging.getLogger(__name__)

SHARES = ("like_rate", "upvote_ratio", "likes_percentile")
"""Parts of likes that lie in 0..1, so that all their values can be weighed."""
_STEPS = 1000
_TRIES = 4
"""Sampled answers in which further comments are looked for."""
_TEMPERATURE = 1.0


@dataclass(frozen=True, slots=True)
class Counts:
    """How often something is done, and of which kinds.

    Attributes:
        part: what `total` is: num_reactions, shares_ratio, ...
        kinds: name -> share of the whole, 0..1, as said; empty where none is named.
    """

    part: str
    total: float
    kinds: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """What a model expects of those who see a media item; None for what it does not say.

    Attributes:
        description: what it wrote before behavior.
        likes: part (data/behaviors/likes.py) and value as said; shares are 0..1.
        likes_spread: (value, probability), values ascending, probabilities adding up to 1 over all sentences
            of that form; None where the value is no share, or the model is served elsewhere.
        comments: distinct; those of the greedy answer first, then sampled ones.
        replay: a value a scene, 0..1. retention: a share of viewers a scene, above 1 where people rewind.
            None also where there are not as many values as scenes.
        scenes: start_s and end_s; of an image (0, 0).
        raw: the greedy answer, word for word.
    """

    description: str
    likes: tuple[str, float] | None
    likes_spread: tuple[tuple[float, float], ...] | None
    comments: tuple[str, ...]
    replay: tuple[float, ...] | None
    retention: tuple[float, ...] | None
    reactions: Counts | None
    shares: Counts | None
    scenes: tuple[tuple[float, float], ...]
    raw: str


class Predictor:
    """Asks one model about behavior, and whatever else one wants to know.

    Args:
        model: local or served.
        manner: how it was taught to speak.
        max_new_tokens: of an answer.
        batch_size: media at a time, where memory holds them.
        seed: of the sampled comments.
    """

    def __init__(
        self,
        model: VisionLanguageModel | RemoteModel,
        manner: Manner,
        *,
        max_new_tokens: int = 200,
        batch_size: int = 8,
        seed: int = 0,
    ) -> None:
        self._model, self._manner, self._seed = model, manner, seed
        self._tokens, self._batch_size = max_new_tokens, batch_size
        self._scorer = Scorer(model) if isinstance(model, VisionLanguageModel) else None

    def audience(self, view: View, *, comments: int = 5) -> Audience:
        """What is expected of those who see one item."""
        return self.audiences([view], comments=comments)[0]

    def audiences(self, views: Sequence[View], *, comments: int = 5) -> list[Audience]:
        """What is expected of those who see each item, in order; `comments` at most of each.

        Raises:
            MediaFault: an item is gone or broken.
            UserError: memory does not hold a single one, or the endpoint is at fault.
        """
        examples = [self._example(view) for view in views]
        answers = self._written(examples)
        read = [self._read(answer) for answer in answers]
        spreads = self._spreads(examples, answers)
        texts = self._comments(examples, read, most=comments)
        return [
            _audience(view, self._manner, answer, values, spread, said)
            for view, answer, values, spread, said in zip(views, answers, read, spreads, texts, strict=True)
        ]

    def answers(self, media: Sequence[Media | None], questions: Sequence[str]) -> list[str]:
        """What the model writes to each pair of media and question."""
        pairs = zip(media, questions, strict=True)
        return self._written(
            [
                Example(id=f"question {number}", prompt=question, completion=None, media=shown)
                for number, (shown, question) in enumerate(pairs, 1)
            ]
        )

    # ---- asking ----

    def _example(self, view: View) -> Example:
        return Example(
            id=view.sha256, prompt=self._manner.questions[view.kind], completion=None, media=view.media()
        )

    def _written(
        self, examples: Sequence[Example], *, temperature: float = 0.0, seed: int | None = None
    ) -> list[str]:
        """An answer each; fewer at a time where memory does not hold as many."""
        if isinstance(self._model, RemoteModel):
            return self._model.generate(
                examples, max_new_tokens=self._tokens, temperature=temperature, seed=seed
            )
        found: dict[int, str] = {}
        for waiting in _alike(self._model, examples):
            while waiting:
                some = waiting[: self._batch_size]
                batch = [examples[number] for number in some]
                try:
                    written = self._model.generate(
                        batch, max_new_tokens=self._tokens, temperature=temperature, seed=seed
                    )
                except (RuntimeError, MemoryError) as error:
                    refuse_unless_memory(error, len(some), where=batch[0].id)
                    self._batch_size = len(some) // 2
                    log.warning("memory does not hold %d items at a time: now %d", len(some), len(some) // 2)
                    continue
                found |= dict(zip(some, written, strict=True))
                waiting = waiting[len(some) :]
        return [found[number] for number in range(len(examples))]

    # ---- reading ----

    def _read(self, answer: str) -> dict[str, Value]:
        """Kind -> what is said of it."""
        said = verbalizer.split(self._manner.template, answer)[1]
        if said is None:
            return {}
        found = {
            kind: behavior_of(kind, where=self._manner.template.name).read_back(said)
            for kind in self._manner.kinds
        }
        return {kind: value for kind, value in found.items() if value is not None}

    def _comments(
        self, examples: Sequence[Example], read: Sequence[dict[str, Value]], *, most: int
    ) -> list[tuple[str, ...]]:
        """Those of the answers, and where they are too few, those of a few sampled ones."""
        found = [dict.fromkeys(_texts(values)) for values in read]
        for turn in range(_TRIES):
            # a model that speaks of no comments at all will not with another seed either
            short = [number for number, texts in enumerate(found) if 0 < len(texts) < most]
            if not short:
                break
            sampled = self._written(
                [examples[number] for number in short], temperature=_TEMPERATURE, seed=self._seed + turn
            )
            for number, answer in zip(short, sampled, strict=True):
                found[number] |= dict.fromkeys(_texts(self._read(answer)))
        return [tuple(texts)[:most] for texts in found]

    def _spreads(
        self, examples: Sequence[Example], answers: Sequence[str]
    ) -> list[tuple[tuple[float, float], ...] | None]:
        """How likely every value of a share is, behind what stands before it in the answer."""
        found: list[tuple[tuple[float, float], ...] | None] = [None] * len(answers)
        if self._scorer is None or "likes" not in self._manner.kinds:
            return found
        asked: list[tuple[int, Query, tuple[float, ...]]] = []
        for number, (example, answer) in enumerate(zip(examples, answers, strict=True)):
            place = self._place_of_likes(answer)
            if place is not None:
                before, part = place
                sentences = self._sentences(part)
                labels = tuple(before + sentence for sentence in sentences.values())
                asked.append((number, Query(example, labels), tuple(sentences)))
        for start in range(0, len(asked), self._batch_size):
            some = asked[start : start + self._batch_size]
            scores = self._scorer.scores([query for _, query, _ in some])
            for (number, _, values), one in zip(some, scores, strict=True):
                weights = np.exp(one.log_probs - one.log_probs.max())
                shares = (weights / weights.sum()).tolist()
                found[number] = tuple(zip(values, shares, strict=True))
        return found

    def _place_of_likes(self, answer: str) -> tuple[str, str] | None:
        """What stands before the sentence of likes, and which share it says; None where it says none."""
        lines = answer.split("\n")
        if self._manner.template.separator not in lines:
            return None
        behavior = behavior_of("likes", where=self._manner.template.name)
        for number in range(lines.index(self._manner.template.separator) + 1, len(lines)):
            value = behavior.read_back(lines[number])
            if value is not None:
                (part,) = value
                before = "".join(f"{line}\n" for line in lines[:number])
                return (before, part) if part in SHARES else None
        return None

    def _sentences(self, part: str) -> dict[float, str]:
        """Value -> its sentence, for every value that the words tell from the others, ascending."""
        behavior = behavior_of("likes", where=self._manner.template.name)
        words = self._manner.template.words("likes")
        found: dict[float, str] = {}
        for step in range(_STEPS + 1):
            sentence = behavior.say({part: step / _STEPS}, words)
            told = behavior.read_back(sentence)
            assert told is not None
            found.setdefault(told[part], sentence)
        return found


def _alike(model: VisionLanguageModel, examples: Sequence[Example]) -> list[list[int]]:
    """The examples' numbers by what may stand in one batch."""
    found: dict[int, list[int]] = {}
    for number, example in enumerate(examples):
        frames = len(example.media.times_s) if example.media and model.facts.equal_frames else 0
        found.setdefault(frames, []).append(number)
    return list(found.values())


def _texts(values: dict[str, Value]) -> tuple[str, ...]:
    return tuple(values["comments"]["comments"]) if "comments" in values else ()


def _audience(
    view: View,
    manner: Manner,
    answer: str,
    values: dict[str, Value],
    spread: tuple[tuple[float, float], ...] | None,
    comments: tuple[str, ...],
) -> Audience:
    scenes = tuple((scene.start_s, scene.end_s) for scene in view.scenes)
    likes = next(((part, float(amount)) for part, amount in values.get("likes", {}).items()), None)

    def curve(kind: str) -> tuple[float, ...] | None:
        found: Any = values.get(kind, {}).get(kind)
        if found is None or view.kind != "video" or len(found) != len(scenes):
            return None
        return tuple(float(value) for value in found)

    return Audience(
        description=verbalizer.split(manner.template, answer)[0],
        likes=likes,
        likes_spread=spread,
        comments=comments,
        replay=curve("replay"),
        retention=curve("retention"),
        reactions=_counts(values, "reactions", "reaction_kinds"),
        shares=_counts(values, "shares", "services"),
        scenes=scenes,
        raw=answer,
    )


def _counts(values: dict[str, Value], kind: str, kinds_part: str) -> Counts | None:
    value = dict(values.get(kind, {}))
    named: Any = value.pop(kinds_part, {})
    if not value:
        return None
    ((part, total),) = value.items()
    return Counts(part, float(total), tuple((str(name), float(share)) for name, share in named.items()))
