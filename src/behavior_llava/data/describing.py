"""Media to words: captions and tags that a model writes of every scene, and what is said in a video.

What was written is kept by the media's hash, the model and the question in a Cache, a batch at a time; a
killed call continues, and what is kept is not asked again. A caption belongs to the frame it was written of,
so more or fewer scenes cost only the frames that are new. Called by the build stage.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from behavior_llava.core import media
from behavior_llava.core.cache import Cache
from behavior_llava.core.media import MediaFault
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Example, Media
from behavior_llava.core.workers import Workers
from behavior_llava.data import people
from behavior_llava.data.plain_text import one_line
from behavior_llava.data.viewing import View
from behavior_llava.models.remote_wire import EndpointError
from behavior_llava.models.speech import Recognizer

What = Literal["captions", "tags"]


class Generate(Protocol):
    """What every model of ours can do; see models/auto.py and, where an example may fail alone, `answers` in
    models/remote.py.
    """

    def __call__(  # noqa: D102
        self, examples: Sequence[Example], *, max_new_tokens: int
    ) -> Sequence[str | MediaFault]: ...


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A model and what it is asked about every scene.

    Attributes:
        generate: an answer an example, or the reason there is none; may raise MediaFault.
        identity: of its weights, or where it is served and under which name.
        prompt: the same for every scene; it names no file.
    """

    generate: Generate
    identity: str
    prompt: str
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of what was asked for; the same whether it took one call or several.

    Attributes:
        items: scenes to describe, or videos to hear.
        empty: of these, how many the model found no words for; or in which nothing is said.
        faults: reason -> how many; they are asked for again by the next call.
    """

    items: int
    empty: int
    faults: dict[str, int]


# ---- scenes ------------------------------------------------------------------------------------------------


def remembered(path: Path, what: What, writer: Writer) -> Cache:
    """Where a writer's captions or tags are kept: of each media item {milliseconds of a frame: its words}."""
    asked = {"writer": writer.identity, "prompt": writer.prompt, "max_new_tokens": writer.max_new_tokens}
    return Cache(path, what, asked)


def captions_of(cache: Cache, view: View) -> tuple[str | None, ...] | None:
    """A caption a scene, None where the model wrote nothing; None for a view that is not wholly described."""
    return _told(cache, view)


def tags_of(cache: Cache, view: View) -> tuple[tuple[str, ...], ...] | None:
    """The tags of every scene, () where the model gave none; None for a view not wholly described."""
    told = _told(cache, view)
    return None if told is None else tuple(map(tuple, told))


def _told(cache: Cache, view: View) -> tuple[Any, ...] | None:
    found = cache.find(view.sha256) or {}
    frames = _frames(view)
    return tuple(found[key] for key in frames) if frames.keys() <= found.keys() else None


def _frames(view: View) -> dict[str, Media]:
    """The frames to describe by their milliseconds, as the frame store counts them."""
    return {
        str(round(1000 * scene.time_s)): frame
        for scene, frame in zip(view.scenes, view.frames(), strict=True)
    }


def describe(
    path: Path,
    views: Iterable[View],
    writer: Writer,
    *,
    what: What,
    batch: int = 64,
    total: int | None = None,
) -> Outcome:
    """Has every scene described that is not yet; `captions_of` and `tags_of` then find it.

    Args:
        path: of the Cache's file.
        views: read once, as they are needed.
        batch: scenes the writer is shown at a time.
        total: how many views there are, for the progress bar.
    """
    with remembered(path, what, writer) as cache, progress(f"writing {what}", total) as advance:
        desk = _Desk(cache, writer, caption if what == "captions" else tags)
        for view in views:
            desk.take(view)
            while len(desk.waiting) >= batch:
                desk.write(batch)
            advance()
        while desk.waiting:
            desk.write(batch)
    return Outcome(desk.items, desk.empty, dict(sorted(desk.faults.items())))


@dataclass
class _Desk:
    """Scenes that wait to be described, and how many were."""

    cache: Cache
    writer: Writer
    read: Callable[[str], Any]
    waiting: dict[tuple[str, str], Media] = field(default_factory=dict)
    items: int = 0
    empty: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def take(self, view: View) -> None:
        frames = _frames(view)
        while any((view.sha256, key) in self.waiting for key in frames):
            self.write(len(self.waiting))  # the same media again: known from then on
        known = self.cache.find(view.sha256) or {}
        self.items += len(frames)
        self.empty += sum(not known[key] for key in frames if key in known)
        self.waiting |= {(view.sha256, key): frame for key, frame in frames.items() if key not in known}

    def write(self, count: int) -> None:
        """Describes the first that wait, and keeps it."""
        chosen = list(islice(self.waiting.items(), count))
        examples = [
            Example(f"{sha256}:{key}", self.writer.prompt, None, frame) for (sha256, key), frame in chosen
        ]
        try:
            answers = self._answers(examples)
        except EndpointError as error:
            # what was answered before the end is paid for
            self._keep([(chosen[place][0], answer) for place, answer in error.finished.items()])
            raise
        self._keep([(key, answer) for (key, _), answer in zip(chosen, answers, strict=True)])

    def _keep(self, told: Iterable[tuple[tuple[str, str], str | MediaFault]]) -> None:
        found: dict[str, dict[str, Any]] = {}
        for (sha256, key), answer in told:
            del self.waiting[sha256, key]
            if isinstance(answer, MediaFault):
                self.faults[answer.reason] += 1
                continue
            if sha256 not in found:
                found[sha256] = self.cache.find(sha256) or {}
            found[sha256][key] = words = self.read(answer)
            self.empty += not words
        self.cache.keep(found)

    def _answers(self, examples: list[Example]) -> Sequence[str | MediaFault]:
        try:
            return self.writer.generate(examples, max_new_tokens=self.writer.max_new_tokens)
        except MediaFault as fault:
            if len(examples) == 1:
                return [fault]
        # one of them is at fault: each alone
        return [answer for example in examples for answer in self._answers([example])]


# ---- what was written --------------------------------------------------------------------------------------


def caption(text: str) -> str | None:
    """A caption as a clause: one line, without the "Scene 1:" a model may begin with, no final stop, and
    without addresses it may have read off a picture; None where nothing is left.
    """
    words = people.scrub(" ".join(text.split())) or ""
    return words.removeprefix("Scene 1:").strip().rstrip(".").strip() or None


MAX_TAGS, MAX_TAG_WORDS, MAX_TAG_LETTERS = 8, 3, 40
_LOOKED_AT = 2000
"""Characters of an answer; more than eight tags take."""
_APART = re.compile(r"[,;|\n•·‣▪#]|(?<!\S)(?:\d{1,3}[.)]|[-*\u2013\u2014])(?=\s)")
_AROUND = " \t\"'`\u201c\u201d\u2018\u00ab\u00bb[](){}*_.!"
_HEADING = re.compile(r"(?:[^\n:,;|]{0,80}|[^\n:]{0,80}(?:tags|keywords)[^\n:,;|]{0,20}):(?!\S)")
_LEADING = frozenset({"a", "an", "the", "and", "or"})
_NO_TAGS = frozenset({"none", "null", "nothing", "unknown", "nan"})
_TALK = frozenset(
    "i i'm i'll i've i'd you you're we he she they it it's this that there here's is isn't are aren't"
    " was were am be can can't cannot could couldn't do don't does doesn't has have will would sorry"
    " unable please sure".split()
)
"""Words of sentences and refusals, which no tag holds."""


def tags(text: str) -> list[str]:
    """The tags of a list a model wrote, in lower case, each once, at most MAX_TAGS; none where it wrote
    anything else.

    Tags are parted by commas, semicolons, lines, bars, bullets, numbers or hashes; a heading ("Tags:"),
    quotes, brackets and articles around them fall away. A tag has at most MAX_TAG_WORDS words of letters
    (with hyphens and apostrophes inside). Prose is no list: there, a third of the pieces or more are longer,
    or one holds a word of _TALK.
    """
    looked = text[:_LOOKED_AT].replace("\u2019", "'").lower()
    heading = _HEADING.match(looked)
    pieces = [_bare(piece) for piece in _APART.split(looked[heading.end() if heading else 0 :])]
    if len(text) > _LOOKED_AT:
        pieces = pieces[:-1]  # cut in the middle
    pieces = [piece for piece in pieces if piece]
    num_long = sum(len(piece) > MAX_TAG_WORDS for piece in pieces)
    if 3 * num_long >= max(len(pieces), 1) or any(word in _TALK for piece in pieces for word in piece):
        return []
    found = dict.fromkeys(" ".join(piece) for piece in pieces if _is_tag(piece))
    return list(found)[:MAX_TAGS]


def _bare(piece: str) -> list[str]:
    """The words of a piece, without what stands around them."""
    words = [bare for word in piece.split() if (bare := word.strip(_AROUND))]
    while words and words[0] in _LEADING:
        words.pop(0)
    return words


def _is_tag(words: list[str]) -> bool:
    letters = "".join(words)
    return (
        0 < len(words) <= MAX_TAG_WORDS
        and len(letters) <= MAX_TAG_LETTERS
        and not _NO_TAGS.intersection(words)
        and all(_is_word(word) for word in words)
    )


def _is_word(word: str) -> bool:
    """Letters of any script with their marks; a hyphen or apostrophe only between them."""
    parts = re.split(r"[-']", word)
    return all(part and all(unicodedata.category(letter)[0] in "LM" for letter in part) for part in parts)


# ---- speech ------------------------------------------------------------------------------------------------


def sound_of(path: str, sha256: str, rate: int, max_s: float) -> np.ndarray | None:
    """The sound of a file that is still the one with this hash; None where it has none.

    Raises:
        MediaFault: with the reason; media_changed where it is another.
    """
    if media.sha256(Path(path)) != sha256:
        raise MediaFault("media_changed")
    return media.read_audio(Path(path), rate=rate, max_s=max_s)


def heard(path: Path, recognizer: Recognizer) -> Cache:
    """Where it is kept what a recognizer heard: of a media item {"said": what is said in it, or null}."""
    config = recognizer.config
    asked = {"recognizer": recognizer.identity, "language": config.language, "max_s": config.max_s}
    return Cache(path, "speech", asked)


def speech_of(cache: Cache, sha256: str) -> str | None:
    """What is said in a video; None where nothing is, or nobody could hear it (`hear` counts these)."""
    found = cache.find(sha256)
    return None if found is None else found["said"]


def hear(
    path: Path,
    items: Iterable[tuple[str, str]],
    recognizer: Recognizer,
    *,
    processes: int = 1,
    timeout_s: float = 120.0,
    total: int | None = None,
) -> Outcome:
    """Has every video heard that is not yet; `speech_of` then finds what is said in it.

    Only for videos that came without words: what a subtitle file says (Post.transcript) was written or
    corrected by people and goes before what a recognizer hears.

    Args:
        path: of the Cache's file.
        items: (path, hash) of video files; read once, as they are needed.
        processes: that decode sound; recognition happens in this one.
        timeout_s: for decoding one file.
        total: how many items there are, for the progress bar.
    """
    count, empty, faults = 0, 0, Counter[str]()
    under_way: deque[str] = deque()
    with (
        heard(path, recognizer) as cache,
        progress("listening to videos", total) as advance,
        Workers(
            sound_of,
            processes=processes,
            timeout_s=timeout_s,
            quarantine=path.with_name("quarantine.jsonl"),
        ) as workers,
    ):

        def unheard() -> Iterator[tuple[str, str, int, float]]:
            nonlocal count, empty
            for file, sha256 in items:
                count += 1
                found = cache.find(sha256)
                if found is None:
                    under_way.append(sha256)
                    yield file, sha256, recognizer.rate, recognizer.config.max_s
                else:
                    empty += found["said"] is None
                    advance()

        # few ahead: the sound of one file may take 32 MB
        for sound in workers.map(unheard(), ahead=2):
            sha256 = under_way.popleft()
            if isinstance(sound, MediaFault):
                faults[sound.reason] += 1
            else:
                said = None if sound is None else recognizer.transcribe(sound)
                said = None if said is None else people.scrub(one_line(said))
                cache.keep({sha256: {"said": said}})
                empty += said is None
            advance()
    return Outcome(count, empty, dict(sorted(faults.items())))
