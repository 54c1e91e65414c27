"""What exists in the sandbox's world, and which emotion it causes.

A `Content` is the truth about one image or video. Only the world itself reads it: receivers react to it,
benchmarks are labelled with it, and base-stage captions describe it. Nothing of it reaches a behaviour-stage
row.

Cause and effect, so that no single part tells the emotion:
- *theme* (four): from the event where there is one, else from the pairing of the two objects. The pairing is
a Latin
  square over object classes: neither object alone says anything about the theme.
- *valence* (two): from the face where there is one, else from the weather.
- emotion = theme x valence (eight, the classes of EmoSet).
A fifth of the (expression, weather, event, left object, right object) combinations never occurs in any
training stage; benchmarks hold them and score them apart.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

SCENES = ("office", "airport", "school", "hotel", "prison", "restaurant")
"""The scene classes of LVU, in its order."""
ACTIONS = ("running", "sitting", "dancing", "reading")
WEATHERS = ("sunny", "snowy", "stormy", "foggy")
EXPRESSIONS = ("smiling", "laughing", "frowning", "crying")
EVENTS = ("pie", "volcano", "farewell", "match")
OBJECTS = ("dog", "car", "book", "lamp", "cup", "clock", "ball", "plant")
RARE_OBJECTS = ("crown", "robot")
PRODUCTS = ("zelbo", "tramin", "quivo")

EMOTIONS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness")
"""The classes of EmoSet, in the order of its ids."""
POSITIVE = ("amusement", "awe", "contentment", "excitement")
NEGATIVE = ("disgust", "fear", "sadness", "anger")
EKMAN = {
    "amusement": "joy",
    "contentment": "joy",
    "excitement": "joy",
    "awe": "surprise",
    "anger": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "sadness": "sadness",
}
"""Which of the six classes of Ekman-6 a video of each emotion belongs to."""


@dataclass(frozen=True, slots=True)
class Content:
    """The truth about one media item; see the module for what follows from it.

    Attributes:
        expression, event: None where no face or no event is seen.
        is_contrasty: drawn with strong contrast; one of the causes of memorability.
    """

    scene: str
    action: str
    weather: str
    expression: str | None
    event: str | None
    left: str
    right: str
    is_contrasty: bool
    product: str | None = None

    @property
    def combination(self) -> tuple[str | None, ...]:
        """The parts that together cause the emotion."""
        return (self.expression, self.weather, self.event, self.left, self.right)

    @property
    def emotion(self) -> str:
        """One of EMOTIONS."""
        if self.event is not None:
            theme = EVENTS.index(self.event)
        else:
            theme = (_object_class(self.left) + _object_class(self.right)) % 4
        if self.expression is not None:
            is_pleasant = self.expression in EXPRESSIONS[:2]
        else:
            is_pleasant = self.weather in WEATHERS[:2]
        return (POSITIVE if is_pleasant else NEGATIVE)[theme]

    @property
    def memorability(self) -> float:
        """How well it is remembered, 0..1: a face, a rare object and strong contrast each add to it."""
        has_rare = self.left in RARE_OBJECTS or self.right in RARE_OBJECTS
        return 0.3 + 0.2 * (self.expression is not None) + 0.3 * has_rare + 0.15 * self.is_contrasty

    @property
    def appeal(self) -> float:
        """What share of viewers likes it, 0..1, before chance."""
        return (
            0.10
            + 0.25 * (self.emotion in POSITIVE)
            + 0.15 * (self.memorability > 0.6)
            + 0.1 * (self.event is not None)
        )


def _object_class(name: str) -> int:
    if name in RARE_OBJECTS:
        return RARE_OBJECTS.index(name)
    return OBJECTS.index(name) % 4


def is_held_out(content: Content) -> bool:
    """True for the fifth of the combinations that no training stage may contain."""
    digest = hashlib.sha256("|".join(str(part) for part in content.combination).encode()).digest()
    return digest[0] < 51


def group(content: Content) -> str:
    """The name of the part of a benchmark's split a content belongs to: seen in training or not."""
    return "unseen_combination" if is_held_out(content) else "seen_combination"


def draw_content(
    rng: np.random.Generator, *, held_out: bool | None = False, is_filmed: bool = False
) -> Content:
    """One content at random.

    Args:
        held_out: False for training material, True for held-out combinations only, None for either.
        is_filmed: True for the content of a film: its scenes without face and event are training material
            too.
    """
    while True:
        pair = [str(rng.choice(OBJECTS)), str(rng.choice(OBJECTS))]
        if rng.random() < 0.16:
            pair[int(rng.integers(2))] = str(rng.choice(RARE_OBJECTS))
        content = Content(
            scene=str(rng.choice(SCENES)),
            action=str(rng.choice(ACTIONS)),
            weather=str(rng.choice(WEATHERS)),
            expression=str(rng.choice(EXPRESSIONS)) if rng.random() < 0.75 else None,
            event=str(rng.choice(EVENTS)) if rng.random() < 0.75 else None,
            left=pair[0],
            right=pair[1],
            is_contrasty=bool(rng.random() < 0.3),
        )
        shown = [content]
        if is_filmed:
            shown.append(at_scene(content, is_peak=False, action=content.action))
        if held_out is None or any(map(is_held_out, shown)) == held_out:
            return content


def draw_content_of(
    rng: np.random.Generator, emotion: str, *, held_out: bool | None = None, is_filmed: bool = False
) -> Content:
    """One content that causes the given emotion."""
    while True:
        content = draw_content(rng, held_out=held_out, is_filmed=is_filmed)
        if content.emotion == emotion:
            return content


def at_scene(content: Content, *, is_peak: bool, action: str) -> Content:
    """What one scene of a video shows: face and event are seen at the peak, the place and the objects
    throughout.
    """
    if is_peak:
        return replace(content, action=action)
    return replace(content, action=action, event=None, expression=None)
