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
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from behavior_llava.core import config, discover
from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Behavior, BehaviorWords, Post, Spans, Value
from behavior_llava.data.plain_text import one_line

if TYPE_CHECKING:  # scenes.py brings a decoder and OpenCV; words need neither
    from behavior_llava.data.scenes import Colors

TEMPLATES = Path(__file__).parent / "templates"

_COUNTING = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

_ABOUT = frozenset({"media", "title", "channel", "speech", "duration_s", "orientation", "pace"})
_SCENE = frozenset({"number", "foreground", "background", "tone", "tags"})
_FIELDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "about": (frozenset(), _ABOUT),
    "question": (frozenset(), frozenset({"media"})),
    "question_behavior": (frozenset({"asks"}), frozenset({"media"})),
    "scene": (frozenset({"caption"}), frozenset({"number"})),
    "scene_more": (frozenset(), _SCENE),
    "separator": (frozenset(), frozenset()),
    "more_colors": (frozenset(), _SCENE - {"tags"}),
    "more_captions": (frozenset({"caption"}), frozenset({"number"})),
}
"""Which blanks each line must have, and which it may have besides."""


class BehaviorChange(Config):
    """What a template says otherwise than the behavior's own file; None keeps the file's.

    Attributes:
        ask: clauses of the question in place of the file's for the template's wording; keys as there.
        params: how it is measured, where the behavior leaves a choice; a run's config goes before it.
    """

    sentence: str | None = None
    max_items: int | None = Field(default=None, ge=1, le=10)
    more: Mapping[str, str] = Field(default_factory=dict)
    ask: Mapping[str, str] = Field(default_factory=dict)
    params: Mapping[str, Any] = Field(default_factory=dict)


class Template(Config):
    """The words around content and behavior: values, checked when read.

    Attributes:
        name: as in a run's config.
        wording: which `ask` and `words` of the behaviors it uses.
        about: what stands before the question, with the blanks media, title, channel, speech, duration_s,
            orientation ("landscape", ...) and pace (of the cuts, "low", ...). A line with a blank that is not
            known, or that would give an answer away, is left out.
        about_joint: between these and the question.
        max_speech_words: speech is cut after so many words.
        question, question_behavior: asked without and with behavior.
        scene: the description's line for one scene.
        scene_more: clauses added to that line, with the blanks number, foreground, background, tone and
            tags; one with a blank that is not known is left out.
        scene_joint: between them.
        separator: the line between description and behavior.
        behaviors: changes to the behaviors' words, by kind.
        more_colors, more_captions: further ways to say what a scene shows, for the arm content_matched.
        hides: blanks of `about` that would give away what a run asks for; `for_run` fills it in.
    """

    name: str
    wording: str
    about: tuple[str, ...] = ()
    about_joint: str = "\n"
    max_speech_words: int = Field(default=300, ge=1)
    question: str
    question_behavior: str
    scene: str
    scene_more: tuple[str, ...] = ()
    scene_joint: str = ", "
    separator: str
    behaviors: Mapping[str, BehaviorChange] = Field(default_factory=dict)
    more_colors: tuple[str, ...] = ()
    more_captions: tuple[str, ...] = Field(min_length=1)
    hides: tuple[str, ...] = ()

    @field_validator(*_FIELDS)
    @classmethod
    def _has_its_blanks(
        cls, value: str | tuple[str, ...] | None, info: ValidationInfo
    ) -> str | tuple[str, ...] | None:
        must, may = _FIELDS[str(info.field_name)]
        for line in (value,) if isinstance(value, str) else value or ():
            if not line or "\n" in line:
                raise ValueError("is empty or longer than a line")
            blanks = _blanks(line)
            if not must <= blanks <= must | may:
                raise ValueError(
                    f"has the blanks {sorted(blanks)}, not {sorted(must)} and at most {sorted(may)} besides"
                )
        return value

    @field_validator("hides")
    @classmethod
    def _are_blanks_of_about(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(value) - _ABOUT):
            raise ValueError(f"no blanks {', '.join(unknown)}, only {sorted(_ABOUT)}")
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
            self.params(kind)
            self._check_change(kind, behavior)
            for fields, params, spans, sentence in behavior.examples:
                if sentence is not None:
                    self._check_example(kind, behavior, (fields, params, spans))
        return self

    def _check_change(self, kind: str, behavior: Behavior[Any]) -> None:
        """A word under a key that nothing looks up would be left unsaid without a word."""
        change = self.behaviors.get(kind, BehaviorChange())
        clauses = {self.wording, *(f"{self.wording}.{part}" for part in behavior.metrics)}
        for field, given, known in (
            ("ask", change.ask, clauses),
            ("more", change.more, set(behavior.words[self.wording].more)),
        ):
            if unknown := sorted(set(given) - known):
                raise ValueError(f"behaviors.{kind}.{field}: no {', '.join(unknown)}, only {sorted(known)}")
        for clause in change.ask.values():
            if not _blanks(clause) <= {"items"}:
                raise ValueError(f"behaviors.{kind}.ask: has the blanks {sorted(_blanks(clause))}, not items")

    def _check_example(
        self, kind: str, behavior: Behavior[Any], example: tuple[dict[str, Any], dict[str, Any], Spans]
    ) -> None:
        fields, params, spans = example
        post = Post(id="example", source="example", media_kind="video", **fields)
        value = behavior.value(post, spans, behavior.params.model_validate(params))
        assert value is not None
        try:
            text = behavior.say(value, self.words(kind))
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"behaviors.{kind}: the words cannot be filled in ({error!r})") from error
        read = behavior.read_back(text)
        if read is None or set(read) != set(value):
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

    def asks(self, kind: str) -> dict[str, str]:
        """The clauses of the question for a behavior: for the wording, and for parts that come first."""
        behavior = behavior_of(kind, where=f"template {self.name}")
        change = self.behaviors.get(kind, BehaviorChange())
        clauses = {**behavior.ask, **change.ask}
        return {key: clause for key, clause in clauses.items() if key.partition(".")[0] == self.wording}

    def repeated_words(self, kinds: Sequence[str]) -> list[str]:
        """What rows that say these kinds hold again and again, blanks included: a small model's tokenizer
        learns these words whole. Of a behavior's further sentences only the template's own.
        """
        found = [self.question, self.question_behavior, self.separator]
        for kind in kinds:
            own = self.behaviors.get(kind, BehaviorChange())
            found += [self.words(kind).sentence, *self.asks(kind).values(), *own.more.values()]
        return found

    def params(self, kind: str) -> BaseModel:
        """How a behavior is measured in this template."""
        change = self.behaviors.get(kind)
        given = {} if change is None else change.params
        model = behavior_of(kind, where=f"template {self.name}").params
        return config.check(model, given, where=f"behaviors ({kind})")

    def for_run(self, behaviors: Mapping[str, Mapping[str, Any]]) -> Template:
        """The template of a run that says these kinds, measured with these parameters.

        In every arm alike, also in those that say nothing: what would give one of them away is not told.

        Raises:
            UserError: an unknown kind or parameter.
        """
        changes = dict(self.behaviors)
        hidden = dict.fromkeys(self.hides)
        for kind, params in behaviors.items():
            hidden |= dict.fromkeys(behavior_of(kind, where="build.behaviors").hides)
            given = changes.get(kind, BehaviorChange())
            changes[kind] = given.model_copy(update={"params": {**given.params, **params}})
        fitted = self.model_copy(update={"behaviors": changes, "hides": tuple(hidden)})
        for kind in behaviors:
            fitted.params(kind)
        return fitted


def _blanks(line: str) -> set[str]:
    return {blank for _, blank, _, _ in string.Formatter().parse(line) if blank is not None}


@cache
def _behaviors() -> dict[str, Behavior[Any]]:
    return discover.find("data.behaviors", "BEHAVIOR")


def behavior_of(kind: str, *, where: str) -> Behavior[Any]:
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
class About:
    """What is told of a media item besides its post; None for what is not known.

    Attributes:
        orientation: "landscape", "portrait" or "square". pace: of the cuts, "low", "medium" or "high".
    """

    orientation: str | None = None
    pace: str | None = None


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


def ask(
    template: Template,
    kinds: Sequence[str],
    post: Post,
    about: About = About(),
    received: Received | None = None,
    scenes: Sequence[SceneLike] = (),
) -> str:
    """The user's words; without kinds the question for the content alone.

    Args:
        template: gives the words around.
        kinds: those `say` said; of a post without behavior, those a model is to say.
        post: gives title, channel, speech and length.
        about: what else is told of the media.
        received: the post whose behavior will be said, where it is not the post's own: a score is asked for
            as a score.
        scenes: the post's own.
    """
    known = {
        "media": post.media_kind,
        "title": one_line(post.title or ""),
        "channel": one_line(post.channel or ""),
        "speech": _first_words(post.transcript, template.max_speech_words),
        "duration_s": "" if post.duration_s is None else f"{post.duration_s:.0f}",
        "orientation": about.orientation or "",
        "pace": about.pace or "",
    }
    told = {blank: value for blank, value in known.items() if value and blank not in template.hides}
    lines = [line.format(**told) for line in template.about if _blanks(line) <= set(told)]
    if kinds:
        giver = Received(post, scenes) if received is None else received
        clauses = dict.fromkeys(_clause(template, kind, giver) for kind in kinds)
        lines.append(template.question_behavior.format(media=post.media_kind, asks=listed(tuple(clauses))))
    else:
        lines.append(template.question.format(media=post.media_kind))
    return template.about_joint.join(lines)


def _first_words(text: str | None, most: int) -> str:
    return one_line(" ".join((text or "").split()[:most]))


def _clause(template: Template, kind: str, giver: Received) -> str:
    asks = template.asks(kind)
    value = value_of(template, kind, giver)
    part = None if value is None else next(iter(value))
    clause = asks.get(f"{template.wording}.{part}", asks[template.wording])
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
    known: dict[str, str] = {"number": str(number)}
    if scene.colors is not None:
        known["foreground"] = listed(scene.colors.foreground)
        known["background"] = listed(scene.colors.background)
        known["tone"] = scene.colors.tone
    known["tags"] = ", ".join(tag for tag in (one_line(tag) for tag in scene.tags) if tag)
    told = {blank: value for blank, value in known.items() if value}
    clauses = [clause.format(**told) for clause in template.scene_more if _blanks(clause) <= set(told)]
    if not clauses:
        return line
    said = template.scene_joint.join(clauses)
    return f"{line} {said[0].upper()}{said[1:]}."


def value_of(template: Template, kind: str, giver: Received) -> Value | None:
    """What a post's receivers did of a kind, measured as the template says; None where it has nothing."""
    spans = [(scene.start_s, scene.end_s) for scene in giver.scenes]
    behavior = behavior_of(kind, where=f"template {template.name}")
    return behavior.value(giver.post, spans, template.params(kind))


def say_behavior(
    template: Template, kinds: Sequence[str], post: Post, scenes: Sequence[SceneLike]
) -> tuple[str, tuple[str, ...]]:
    """The lines after the separator and the kinds said in them; ("", ()) where the post has none."""
    said: dict[str, str] = {}
    for kind in kinds:
        value = value_of(template, kind, Received(post, scenes))
        if value is not None:
            behavior = behavior_of(kind, where=f"template {template.name}")
            said[kind] = behavior.say(value, template.words(kind))
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
    about: About = About(),
) -> Verbalized:
    """Answer and matching question: `say`, then `ask` for what was said."""
    completion, said = say(template, kinds, post, scenes, received)
    prompt = ask(template, said, post, about, received, scenes)
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
