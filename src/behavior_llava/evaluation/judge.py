"""Another model's opinion of what a model wrote, where no rule can tell what is right.

In: a question, the true answer where there is one, what a model wrote, and for captions the picture. Out:
what the judge replied, word for word, and what was read in it; None where that cannot be read, which the
metrics count as wrong. Replies stand in the journal under the judge's own identity, so another judge is asked
anew.

The judge is any model: a folder, a name on the hub, or a served one. Its prompts follow two protocols: for
video questions that of Video-ChatGPT (https://arxiv.org/abs/2306.05424), which the paper uses: yes or no, and
a grade of 0 to 5; for captions that of the paper's appendix: three criteria of 1 to 10, each asked apart and
with the picture. The words are ours, as is the form of a caption's grade, which the paper does not give:
numbers of another judge, or of these words, are not the published ones.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, model_validator

from behavior_llava.core import together
from behavior_llava.core.config import Config
from behavior_llava.core.manifest import fingerprint
from behavior_llava.core.media import FrameStore, MediaFault
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Example, Media
from behavior_llava.evaluation import answering
from behavior_llava.evaluation.answering import Ask, Asks, Rules
from behavior_llava.evaluation.journal import Journal, Key
from behavior_llava.models import auto
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.models.remote import RemoteConfig, RemoteModel

VERSION = 1
"""Of the prompts below; another one is another judge."""
MOST = 20_000
"""Characters of a reply that are looked at."""


class JudgeConfig(Config):
    """Who judges.

    Attributes:
        model: folder or hub name of an image-text-to-text model.
        endpoint: a served one in its place.
        tokens: of a reply.
        batch_size: replies at a time.
    """

    model: str | None = None
    endpoint: RemoteConfig | None = None
    tokens: int = Field(default=64, gt=0)
    batch_size: int = Field(default=16, gt=0)

    @model_validator(mode="after")
    def _one_judge(self) -> JudgeConfig:
        if (self.model is None) == (self.endpoint is None):
            raise ValueError("give model or endpoint, and not both")
        return self


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing a judge is asked.

    Attributes:
        words: with {question}, {reference} and {answer}.
        read: reply -> what it says; None where it cannot be read.
        shows_media: whether the judge looks at what was described.
    """

    words: str
    read: Callable[[str], dict[str, Any] | None]
    shows_media: bool


@dataclass(frozen=True, slots=True)
class Judge:
    """A model that judges.

    Attributes:
        name: for people: what it is and which version.
        weights: its identity in the journal.
        load: gives the model; sent to every process that takes part. None for a served one.
        served: it, where it is served.
    """

    name: str
    weights: str
    config: JudgeConfig
    load: Callable[[], VisionLanguageModel] | None = None
    served: RemoteModel | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One answer to be judged.

    Attributes:
        sample: names the answer's sample, and who gave it.
        criterion: a key of CRITERIA.
        reference: the true answer; empty where there is none.
    """

    task: str
    version: int
    sample: str
    criterion: str
    question: str
    reference: str
    answer: str
    media: Media | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge was asked and replied.

    Attributes:
        reply: word for word; None where an endpoint gave none, and `reason` says why.
        read: what it says; None where it cannot be read.
    """

    prompt: str
    reply: str | None
    read: dict[str, Any] | None
    reason: str | None = None


def of(config: JudgeConfig, store: FrameStore, device: str) -> Judge:
    """The judge of a config, not yet loaded.

    Raises:
        UserError: there is no such model, or the endpoint's key is not set.
    """
    if config.endpoint is not None:
        served = RemoteModel(config.endpoint, store)
        return Judge(f"{served.identity()}, prompts {VERSION}", served.identity(), config, served=served)
    assert config.model is not None
    auto.check(config.model)
    folder = Path(config.model)
    weights = auto.weights_hash(folder) if folder.is_dir() else auto.on_hub(config.model)
    load = partial(auto.load, config.model, store, device=device)
    return Judge(f"{folder.name} ({weights[:12]}), prompts {VERSION}", weights, config, load=load)


def judge(who: Judge, cases: Sequence[Case], folder: Path) -> list[Verdict]:
    """The verdict on every case, in order; what the journal in `folder` knows is not asked again.

    Raises:
        UserError: an endpoint cannot be reached or refuses altogether.
    """
    asks = [_ask(who, case) for case in cases]
    replies = _served(who, asks, folder) if who.served is not None else _here(who, asks, folder)
    found = []
    for case, ask, (reply, reason) in zip(cases, asks, replies, strict=True):
        read = None if reply is None else CRITERIA[case.criterion].read(reply[:MOST])
        found.append(Verdict(ask.example.prompt, reply, read, reason))
    return found


def _ask(who: Judge, case: Case) -> Ask:
    criterion = CRITERIA[case.criterion]
    # put in at once, so that braces in what a model wrote are no fields
    given = {"question": case.question, "reference": case.reference, "answer": case.answer}
    prompt = criterion.words.format(**given)
    media = case.media if criterion.shows_media else None
    example = Example(f"{case.task}:{case.sample}", prompt, None, media)
    return Ask(f"{case.task}, {case.criterion} {VERSION}", case.version, case.sample, example)


def _here(who: Judge, asks: Sequence[Ask], folder: Path) -> Iterator[tuple[str | None, str | None]]:
    assert who.load is not None
    rules = Rules(who.config.tokens, who.config.batch_size, "")
    together.call(answering.fill, who.load, who.weights, [Asks("judging", tuple(asks))], rules, folder)
    with Journal(folder) as journal:
        for answer in answering.read(who.weights, asks, rules, journal):
            yield answer.text, None


def _served(who: Judge, asks: Sequence[Ask], folder: Path) -> list[tuple[str | None, str | None]]:
    """Asked a few at a time; a reply that concerns one case alone and failed is not kept, so that the next
    call asks it again.
    """
    assert who.served is not None
    found: dict[int, tuple[str | None, str | None]] = {}
    size = 8 * (1 if who.config.endpoint is None else who.config.endpoint.concurrency)
    with Journal(folder) as journal, progress("judging", len(asks)) as advance:
        keys = [Key(who.weights, ask.task, ask.version, ask.sample, _prompt_hash(who, ask)) for ask in asks]
        new = []
        for number, key in enumerate(keys):
            known = journal.find(key)
            if known is None:
                new.append(number)
            else:
                found[number] = known["text"], None
        advance(len(found))
        for start in range(0, len(new), size):
            some = new[start : start + size]
            replies = who.served.answers(
                [asks[number].example for number in some], max_new_tokens=who.config.tokens
            )
            for number, reply in zip(some, replies, strict=True):
                failed = isinstance(reply, MediaFault)
                found[number] = (None, reply.reason) if failed else (reply, None)
            journal.keep(
                (keys[number], {"text": found[number][0]}) for number in some if found[number][1] is None
            )
            advance(len(some))
    return [found[number] for number in range(len(asks))]


def _prompt_hash(who: Judge, ask: Ask) -> str:
    media = ask.example.media
    return fingerprint([ask.example.prompt, None if media is None else [*media.seen], who.config.tokens])


# ---- what is asked, and how replies are read ---------------------------------------------------------------


def _object(reply: str) -> dict[str, Any] | None:
    """The one {...} of a reply, as JSON or as a Python literal; None where there is none, or more."""
    start, end = reply.find("{"), reply.rfind("}")
    if start < 0 or end < start:
        return None
    text = reply[start : end + 1]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _grade(found: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    """A whole number within the grades, also as "4" or 4.0; None for anything else."""
    value = found.get(name)
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value.strip()[:3])
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        return None
    return int(value) if low <= value <= high else None


def read_answer(reply: str) -> dict[str, Any] | None:
    """{"correct": bool, "score": 0..5} of a reply about an answer; None where either cannot be read."""
    found = _object(reply)
    if found is None:
        return None
    said, score = found.get("pred"), _grade(found, "score", 0, 5)
    if not isinstance(said, str) or said.strip().lower() not in ("yes", "no") or score is None:
        return None
    return {"correct": said.strip().lower() == "yes", "score": score}


def read_grade(reply: str) -> dict[str, Any] | None:
    """{"grade": 1..10} of a reply about a caption; None where it cannot be read."""
    found = _object(reply)
    grade = None if found is None else _grade(found, "grade", 1, 10)
    return None if grade is None else {"grade": grade}


_ANSWER = """You compare an answer to a question about a video with the right one. It counts when it means
the same; other words for the same thing are as good, and what it says beside does not matter.

Question: {question}
Right answer: {reference}
Given answer: {answer}

Reply with nothing but {{"pred": "yes", "score": 4}}: pred is "yes" if the given answer is right and "no" if
it is not, score is a whole number from 0 (nothing in common) to 5 (exactly the same)."""

_CAPTION = """You look at an image and grade a description of it, strictly and by one thing alone: {criterion}

Description: {{answer}}

Reply with nothing but {{{{"grade": 7}}}}, a whole number from 1 (worst) to 10 (best)."""

# Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), appendix, the three prompts for captions; what
# each asks about, in our words.
_OF_CAPTIONS = {
    "caption_correctness": "is everything it says true of the image, with nothing invented?",
    "caption_detail": "how many of the image's objects, properties and relations does it tell?",
    "caption_quality": "is it well written, clear and easy to follow as a text about this image?",
}

CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "qa": Criterion(_ANSWER, read_answer, shows_media=False),
        **{
            name: Criterion(_CAPTION.format(criterion=criterion), read_grade, shows_media=True)
            for name, criterion in _OF_CAPTIONS.items()
        },
    }
)
"""By the name tasks call them in `Task.judged`."""
