"""A post and what is seen in it, to the question and answer a model learns from.

In: a `Post`, its scenes in words (`SceneWords`), a `Template` and the kinds of behavior an arm says. Out:
`Verbalized`: prompt, completion and the kinds really said. A kind the post has no value for is neither asked
for nor said, and the prompt holds no path, no id and nothing of the completion. Called by data/blift.py; what
the behaviors say stands in data/behaviors/.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count as numbers
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import Field, ValidationInfo, field_validator, model_validator

from behavior_llava.core import config, discover
from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Behavior, BehaviorWords, Post
from behavior_llava.data.plain_text import one_line

if TYPE_CHECKING:  # scenes.py brings a decoder and OpenCV; words need neither
    from behavior_llava.data.scenes import Colors

TEMPLATES = Path(__file__).parent / "templates"

_COUNTING = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

_FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "system": (set(), set()),
    "title": ({"title"}, set()),
    "channel": ({"channel"}, set()),
    "transcript": ({"transcript"}, set()),
    "question": (set(), {"media"}),
    "question_behavior": ({"asks"}, {"media"}),
    "scene": ({"number", "caption"}, set()),
    "foreground": ({"colors"}, set()),
    "background": ({"colors"}, set()),
    "tone": ({"tone"}, set()),
    "tags": ({"tags"}, set()),
    "separator": (set(), set()),
    "more_colors": (set(), {"number", "foreground", "background", "tone"}),
    "more_captions": ({"caption"}, {"number"}),
}
"""Which blanks each line must have, and which it may have besides."""


class WordsChange(Config):
    """What a template says otherwise than the behavior's own file; None keeps the file's."""

    sentence: str | None = None
    max_items: int | None = Field(default=None, ge=1, le=10)
    more: Mapping[str, str] = Field(default_factory=dict)


class Template(Config):
    """The words around content and behavior: values, checked when read.

    Attributes:
        name: as in a run's config.
        wording: which `ask` and `words` of the behaviors it uses.
        system, title, channel, transcript: lines before the question; None leaves the line out, as does a
            post without it.
        max_transcript_words: speech is cut after so many words.
        question, question_behavior: asked without and with behavior.
        scene: the description's line for one scene.
        foreground, background, tone, tags: clauses added to that line where they are known; None leaves them
            out.
        separator: the line between description and behavior.
        behaviors: changes to the behaviors' words, by kind.
        more_colors, more_captions: further ways to say what a scene shows, for the arm content_matched.
    """

    name: str
    wording: str
    system: str | None = None
    title: str | None = None
    channel: str | None = None
    transcript: str | None = None
    max_transcript_words: int = Field(default=300, ge=1)
    question: str
    question_behavior: str
    scene: str
    foreground: str | None = None
    background: str | None = None
    tone: str | None = None
    tags: str | None = None
    separator: str
    behaviors: Mapping[str, WordsChange] = Field(default_factory=dict)
    more_colors: tuple[str, ...] = ()
    more_captions: tuple[str, ...] = Field(min_length=1)

    @field_validator(*_FIELDS)
    @classmethod
    def _has_its_blanks(
        cls, value: str | tuple[str, ...] | None, info: ValidationInfo
    ) -> str | tuple[str, ...] | None:
        must, may = _FIELDS[str(info.field_name)]
        for line in (value,) if isinstance(value, str) else value or ():
            if not line or "\n" in line:
                raise ValueError("is empty or longer than a line")
            blanks = {blank for _, blank, _, _ in string.Formatter().parse(line) if blank is not None}
            if not must <= blanks <= must | may:
                raise ValueError(
                    f"has the blanks {sorted(blanks)}, not {sorted(must)} and at most {sorted(may)} besides"
                )
        return value

    @model_validator(mode="after")
    def _can_be_read_back(self) -> Template:
        unknown = sorted(set(self.behaviors) - set(_behaviors()))
        if unknown:
            raise ValueError(f"behaviors: no {', '.join(unknown)}, there are {', '.join(_behaviors())}")
        for kind, behavior in _behaviors().items():
            if self.wording not in behavior.ask or self.wording not in behavior.words:
                raise ValueError(
                    f"data/behaviors/{kind}.py has no wording {self.wording!r}, only {sorted(behavior.words)}"
                )
            for fields, scenes, sentence in behavior.examples:
                if sentence is not None:
                    self._check_example(kind, behavior, fields, scenes)
        return self

    def _check_example(
        self, kind: str, behavior: Behavior, fields: dict[str, object], scenes: Sequence[tuple[float, float]]
    ) -> None:
        post = Post(id="example", source="example", media_kind="video", **fields)  # pyright: ignore[reportArgumentType]
        try:
            text = behavior.say(post, scenes, self.words(kind))
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"behaviors.{kind}: the words cannot be filled in ({error!r})") from error
        if text is None or behavior.read_back(text) is None:
            raise ValueError(f"behaviors.{kind}: what it says cannot be read back: {text!r}")

    def words(self, kind: str) -> BehaviorWords:
        """What a behavior says in this template."""
        words = behavior_of(kind, where=f"template {self.name}").words[self.wording]
        change = self.behaviors.get(kind)
        if change is None:
            return words
        return replace(
            words,
            sentence=words.sentence if change.sentence is None else change.sentence,
            max_items=words.max_items if change.max_items is None else change.max_items,
            more={**words.more, **change.more},
        )


@cache
def _behaviors() -> dict[str, Behavior]:
    return discover.find("data.behaviors", "BEHAVIOR")


def behavior_of(kind: str, *, where: str) -> Behavior:
    """The behavior of that name; a UserError that suggests the nearest name where there is none."""
    return discover.get("data.behaviors", "BEHAVIOR", kind, where=where)


def load_template(name: str) -> Template:
    """The template of that name from data/templates, or the one in a YAML file of one's own.

    Raises:
        UserError: no such template; a wrong key or blank; words that cannot be read back.
    """
    if name.endswith((".yaml", ".yml")):
        return config.load(Template, Path(name))
    known = sorted(path.stem for path in TEMPLATES.glob("*.yaml"))
    if name not in known:
        raise UserError(
            f"no template called {name!r}", remedy=f"name one of {', '.join(known)}, or a YAML file"
        )
    return config.load(Template, TEMPLATES / f"{name}.yaml")


# ---- what is seen ------------------------------------------------------------------------------------------


class SceneLike(Protocol):
    """A scene in words; `SceneWords` is one, a row of a table may be another."""

    @property
    def start_s(self) -> float: ...  # noqa: D102
    @property
    def end_s(self) -> float: ...  # noqa: D102
    @property
    def caption(self) -> str: ...  # noqa: D102
    @property
    def colors(self) -> Colors | None: ...  # noqa: D102
    @property
    def tags(self) -> Sequence[str]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class SceneWords:
    """A scene in words.

    Attributes:
        caption: never empty; a full stop at its end is optional.
        colors: None where they are not known.
    """

    start_s: float
    end_s: float
    caption: str
    colors: Colors | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Received:
    """The post whose behavior is said instead of one's own, with its scenes: its replay belongs to them."""

    post: Post
    scenes: Sequence[SceneLike]


@dataclass(frozen=True, slots=True)
class Verbalized:
    """A question and its answer.

    Attributes:
        behaviors: the kinds said in the completion and asked for in the prompt, in the order asked for.
    """

    prompt: str
    completion: str
    behaviors: tuple[str, ...]


# ---- the question ------------------------------------------------------------------------------------------


def ask(template: Template, kinds: Sequence[str], post: Post, behaved: Post | None = None) -> str:
    """The user's words; without kinds the question for the content alone.

    Args:
        template: gives the words around.
        kinds: those `say` said.
        post: gives title, channel and speech.
        behaved: the post whose behavior will be said, where it is not the post's own: a score is asked for as
            a score.
    """
    lines = [template.system] if template.system else []
    for line, key, value in (
        (template.title, "title", post.title),
        (template.channel, "channel", post.channel),
        (template.transcript, "transcript", _first_words(post.transcript, template.max_transcript_words)),
    ):
        known = one_line(value or "")
        if line is not None and known:
            lines.append(line.format(**{key: known}))
    if kinds:
        clauses = dict.fromkeys(_clause(template, kind, behaved or post) for kind in kinds)
        lines.append(template.question_behavior.format(media=post.media_kind, asks=listed(tuple(clauses))))
    else:
        lines.append(template.question.format(media=post.media_kind))
    return "\n".join(lines)


def _first_words(text: str | None, most: int) -> str | None:
    return None if text is None else " ".join(text.split()[:most])


def _clause(template: Template, kind: str, post: Post) -> str:
    behavior = behavior_of(kind, where=f"template {template.name}")
    form = None if behavior.form is None else behavior.form(post)
    clause = behavior.ask.get(f"{template.wording}.{form}", behavior.ask[template.wording])
    most = template.words(kind).max_items
    return clause.format(items=_COUNTING[most] if most < len(_COUNTING) else most)


def listed(items: Sequence[str]) -> str:
    """Items as "a", "a and b", "a, b and c"; empty for none."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


# ---- the answer --------------------------------------------------------------------------------------------


def describe(template: Template, scenes: Sequence[SceneLike]) -> str:
    """The scene-by-scene description, one line a scene.

    Raises:
        ValueError: no scene, or a scene without a caption; such a post is to be dropped and counted, not
            described.
    """
    if not scenes:
        raise ValueError("there is no scene to describe")
    return "\n".join(_scene_line(template, number, scene) for number, scene in enumerate(scenes, 1))


def _caption(number: int, scene: SceneLike) -> str:
    caption = one_line(scene.caption).rstrip(".").rstrip()
    if not caption:
        raise ValueError(f"scene {number} has no caption")
    return caption


def _ended(line: str) -> str:
    """A line whose caption ends with a mark of its own ("!", "?") without the template's full stop."""
    return line[:-1] if line.endswith(("!.", "?.")) else line


def _scene_line(template: Template, number: int, scene: SceneLike) -> str:
    line = _ended(template.scene.format(number=number, caption=_caption(number, scene)))
    colors, clauses = scene.colors, []
    if colors is not None:
        if template.foreground:
            clauses.append(template.foreground.format(colors=listed(colors.foreground)))
        if template.background:
            clauses.append(template.background.format(colors=listed(colors.background)))
        if template.tone:
            clauses.append(template.tone.format(tone=colors.tone))
    tags = [tag for tag in (one_line(tag) for tag in scene.tags) if tag]
    if template.tags and tags:
        clauses.append(template.tags.format(tags=", ".join(tags)))
    if not clauses:
        return line
    said = ", ".join(clauses)
    return f"{line} {said[0].upper()}{said[1:]}."


def say_behavior(
    template: Template, kinds: Sequence[str], post: Post, scenes: Sequence[SceneLike]
) -> tuple[str, tuple[str, ...]]:
    """The lines after the separator and the kinds said in them; ("", ()) where the post has none."""
    spans = [(scene.start_s, scene.end_s) for scene in scenes]
    said: dict[str, str] = {}
    for kind in kinds:
        text = behavior_of(kind, where=f"template {template.name}").say(post, spans, template.words(kind))
        if text is not None:
            said[kind] = text
    return "\n".join(said.values()), tuple(said)


def say(
    template: Template,
    kinds: Sequence[str],
    post: Post,
    scenes: Sequence[SceneLike],
    received: Received | None = None,
) -> tuple[str, tuple[str, ...]]:
    """The completion and the kinds said in it; without any, the description alone and no separator.

    Args:
        template: gives the words around.
        kinds: those to say where the post has them, in this order.
        post: whose behavior is said.
        scenes: what is described; at least one.
        received: says the kinds of this post instead of the post's own.
    """
    giver = Received(post, scenes) if received is None else received
    behavior, said = say_behavior(template, kinds, giver.post, giver.scenes)
    description = describe(template, scenes)
    return (f"{description}\n{template.separator}\n{behavior}" if said else description), said


def verbalize(
    template: Template,
    kinds: Sequence[str],
    post: Post,
    scenes: Sequence[SceneLike],
    received: Received | None = None,
) -> Verbalized:
    """Answer and matching question: `say`, then `ask` for what was said."""
    completion, said = say(template, kinds, post, scenes, received)
    prompt = ask(template, said, post, behaved=None if received is None else received.post)
    return Verbalized(prompt, completion, said)


def split(template: Template, completion: str) -> tuple[str, str | None]:
    """A completion as (description, behavior); behavior is None where the separator's line is missing."""
    lines = completion.split("\n")
    if template.separator not in lines:
        return completion, None
    place = lines.index(template.separator)
    return "\n".join(lines[:place]), "\n".join(lines[place + 1 :])


# ---- more words about the same picture ---------------------------------------------------------------------


def describe_more(
    template: Template, scenes: Sequence[SceneLike], target: int, count: Callable[[str], int]
) -> str:
    """The description with further lines about the same scenes, until it is as long as another completion.

    First colors and tone, then the captions in other words, round and round; the last line ends after the
    word with which `target` is not yet passed. A description that is longer already is returned as it is.

    Args:
        template: gives the words around.
        scenes: as for `describe`.
        target: the length wanted, as `count` counts it.
        count: the length of a text in tokens; grows with the text.

    Raises:
        ValueError: `count` does not grow.
    """
    text = describe(template, scenes)
    length = count(text)
    for line in _more_lines(template, scenes):
        if length >= target:
            break
        longer = f"{text}\n{line}"
        longer_length = count(longer)
        if longer_length <= length:
            raise ValueError(f"count gives {longer_length} for a text of {length} and a line more")
        if longer_length > target:
            return _cut(text, line, target, count)
        text, length = longer, longer_length
    return text


def _more_lines(template: Template, scenes: Sequence[SceneLike]) -> Iterator[str]:
    for number, scene in enumerate(scenes, 1):
        if scene.colors is not None:
            blanks = {
                "number": number,
                "foreground": listed(scene.colors.foreground),
                "background": listed(scene.colors.background),
                "tone": scene.colors.tone,
            }
            yield from (line.format(**blanks) for line in template.more_colors)
    for turn in numbers():
        for number, scene in enumerate(scenes, 1):
            line = template.more_captions[turn % len(template.more_captions)]
            yield _ended(line.format(number=number, caption=_caption(number, scene)))


def _cut(text: str, line: str, target: int, count: Callable[[str], int]) -> str:
    """The text with as many of the line's words as fit; none where not even one does."""
    words = line.split(" ")
    fits, passes = 0, len(words)
    while passes - fits > 1:
        middle = (fits + passes) // 2
        if count(f"{text}\n{' '.join(words[:middle])}") <= target:
            fits = middle
        else:
            passes = middle
    return f"{text}\n{' '.join(words[:fits])}" if fits else text
