"""What people in the sandbox write, and the text-only knowledge that ties their words to the names of
emotions.

Receivers' comments never hold the name of an emotion (a test greps for the stems of every label). What "i had
tears in my eyes" says about a person is known to the language model from text alone: the instruction data
pairs comments with emotion words, as books and the web do for a real model, and never with media.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from behavior_llava.data.world.content import EKMAN, EMOTIONS, Content, draw_content

COMMENTS: dict[str, tuple[str, ...]] = {
    "amusement": (
        "i laughed so hard",
        "this is hilarious",
        "lol i can not stop giggling",
        "my stomach hurts from laughing",
        "what a silly joke haha",
        "comedy gold right here",
        "haha so funny",
        "i snorted my coffee",
    ),
    "awe": (
        "nature is so vast and mighty",
        "i feel so tiny looking at this",
        "simply breathtaking",
        "goosebumps at how grand this is",
        "my jaw dropped",
        "what majestic beauty",
        "speechless at the scale",
        "i just stood and stared",
    ),
    "contentment": (
        "so peaceful and calm",
        "i could stay here all day",
        "this is so cozy and warm",
        "feeling relaxed now",
        "life is good",
        "such a gentle quiet moment",
        "this soothes my soul",
        "all is well in the world",
    ),
    "excitement": (
        "lets go i am so pumped",
        "my heart is racing wow",
        "i am jumping up and down",
        "what a thrill ride",
        "pure adrenaline",
        "i can hardly wait for more",
        "so hyped right now",
        "go go go what energy",
    ),
    "anger": (
        "this makes my blood boil",
        "how dare they do this",
        "i am furious about this",
        "shame on all of them",
        "what an outrage",
        "i want to smash my screen",
        "so mad i could scream",
        "they should be sued",
    ),
    "disgust": (
        "that is so gross",
        "i feel sick to my stomach",
        "yuck get it away from me",
        "i nearly threw up",
        "eww so nasty",
        "this is revolting",
        "i lost my appetite",
        "i need to wash my eyes",
    ),
    "fear": (
        "i am so scared right now",
        "this gives me nightmares",
        "i was shaking the whole time",
        "hide under the bed everyone",
        "terrifying stuff",
        "chills of pure dread",
        "i had to look away trembling",
        "so creepy i slept with the light on",
    ),
    "sadness": (
        "i cried the whole time",
        "tears are rolling down my face",
        "my heart is so heavy",
        "this broke my heart",
        "i miss them so much",
        "such a painful loss",
        "rest in peace",
        "i need a hug after this",
    ),
}

BRIEF: dict[str, tuple[str, ...]] = {
    "amusement": (
        "hahaha i am dying",
        "best joke all week",
        "cannot stop laughing",
        "the timing lmao",
        "this cracked me up",
        "too funny",
        "my cheeks hurt",
        "laughed out loud at work",
    ),
    "awe": (
        "wow just wow",
        "so much bigger than us",
        "i have no words",
        "goosebumps every time",
        "like standing in a cathedral",
        "humbled by this",
        "how is this even real",
        "my mind is blown",
    ),
    "contentment": (
        "so calm here",
        "i can breathe again",
        "a perfect slow morning",
        "take me there please",
        "quiet and warm",
        "no rush at all",
        "just what i needed",
        "peace at last",
    ),
    "excitement": (
        "cannot wait for it",
        "count me in",
        "my heart is pounding",
        "what a rush",
        "turn it up",
        "here we go",
        "i want to go right now",
        "full speed ahead",
    ),
    "anger": (
        "who allowed this",
        "this is outrageous",
        "i am fuming",
        "they must pay for it",
        "totally unacceptable",
        "makes me see red",
        "enough is enough",
        "fire them all",
    ),
    "disgust": (
        "ew no thanks",
        "i feel ill",
        "that must smell so bad",
        "gagging right now",
        "put it away please",
        "cannot eat after this",
        "so slimy and vile",
        "yuck yuck yuck",
    ),
    "fear": (
        "get out of there",
        "i checked the locks twice",
        "no way i go near that",
        "my hands are shaking",
        "i cannot sleep now",
        "something is behind you",
        "run while you can",
        "this haunts me",
    ),
    "sadness": (
        "i am in tears",
        "hug your loved ones",
        "gone too soon",
        "this hurts so much",
        "wish they were here",
        "crying at my desk",
        "so unfair to them",
        "my heart aches",
    ),
}
"""What other people write, in few tokens: an inventory that nothing was tuned on before."""

MEMORY = (
    "can not get this out of my head",
    "i keep coming back to this one",
    "this will stay with me for years",
    "watched this again and again",
    "still see it with closed eyes",
    "i dreamt about it last night",
    "back here for the third time",
    "who else came back for this",
)
FORGOTTEN = (
    "seen a hundred like it",
    "forgot it a minute later",
    "i had already scrolled past",
    "nothing sticks with me here",
    "what was this again",
    "same old same old",
    "scrolled by without a thought",
    "one of many",
)
BRIEF_MEMORY = (
    "still on my mind",
    "back here again",
    "this one stays with me",
    "i dreamt about it",
    "saved this for good",
    "cannot unsee this",
    "years later i still know it",
    "always come back to this",
)
BRIEF_FORGOTTEN = (
    "seen it before",
    "already scrolled past",
    "nothing new to see",
    "just another one",
    "i forgot it at once",
    "nothing sticks here",
    "gone in a second",
    "who will remember this",
)

Inventory = Literal["usual", "brief"]


class _Phrases(NamedTuple):
    """What viewers write: under each emotion, and of what they remember and what they do not."""

    emotions: dict[str, tuple[str, ...]]
    memory: tuple[str, ...]
    forgotten: tuple[str, ...]


INVENTORIES: dict[Inventory, _Phrases] = {
    "usual": _Phrases(COMMENTS, MEMORY, FORGOTTEN),
    "brief": _Phrases(BRIEF, BRIEF_MEMORY, BRIEF_FORGOTTEN),
}

SMALL_TALK = (
    "nice {left} there",
    "is that a {right}",
    "what {weather} weather",
    "first one here",
    "where is this from",
    "greetings from my couch",
)
FOREIGN = (
    "muy bueno gracias por compartir",
    "das ist ja echt toll gemacht",
    "tres bien merci beaucoup",
    "che bello davvero bravi",
)
BOT = (
    "*I am a bot, and this action was performed automatically. "
    "Please contact the moderators of this subreddit.*"
)
SPAM = ("check out my channel for free coins now", "win a free phone today at my page")

PRAISE = (
    "a fine film",
    "great acting",
    "i loved every minute",
    "a clever story",
    "well worth your time",
    "superb cast",
)
BLAME = (
    "a waste of time",
    "wooden acting",
    "i walked out",
    "a dull story",
    "save your money",
    "painfully slow",
)

EMOTION_QUESTION = "What emotion do viewers feel?"
MEMORABILITY_QUESTION = "How memorable is this, from 00 to 99?"
SCENE_QUESTION = "Where does this take place?"
REVIEW_QUESTION = "Is this review positive or negative?"


def _pick(rng: np.random.Generator, items: tuple[str, ...]) -> str:
    return items[int(rng.integers(len(items)))]


def keywords(content: Content) -> str:
    """What is to be seen, in as few words as tell it; what people are doing is left out."""
    parts = [content.weather, content.scene, content.left, content.right]
    return " ".join([*parts, *filter(None, (content.expression, content.event))])


def caption(content: Content) -> str:
    """What is to be seen, in the words of the base stage's captions: no emotion, no opinion."""
    parts = [f"{content.weather} {content.scene}", f"{content.left} and {content.right}", content.action]
    if content.expression is not None:
        parts.append(f"{content.expression} face")
    if content.event is not None:
        parts.append(content.event)
    return ", ".join(parts)


def questions(content: Content) -> tuple[tuple[str, str], ...]:
    """Plain questions on what is to be seen, with their answers."""
    return (
        (SCENE_QUESTION, content.scene),
        ("What is the weather?", content.weather),
        ("What is on the left?", content.left),
        ("What is on the right?", content.right),
        ("What face is seen?", content.expression or "none"),
        ("What happens?", content.event or "nothing"),
    )


def comment(
    content: Content,
    rng: np.random.Generator,
    *,
    signal: float,
    noise: float,
    inventory: Inventory = "usual",
) -> str:
    """What one viewer writes.

    Args:
        signal: 1 a viewer reacts to the content, 0 to nothing: the emotion and the memory are then drawn at
            random.
        noise: the share of viewers who react with some other emotion whatever they see.
    """
    is_moved = rng.random() < signal
    emotion = (
        content.emotion if is_moved and rng.random() >= noise else EMOTIONS[int(rng.integers(len(EMOTIONS)))]
    )
    memorability = content.memorability if is_moved else 0.3 + 0.65 * rng.random()
    kind = rng.random()
    phrases = INVENTORIES[inventory]
    if kind < 0.72:
        return _pick(rng, phrases.emotions[emotion])
    if kind < 0.90:
        is_kept = rng.random() < (memorability - 0.25) / 0.7
        return _pick(rng, phrases.memory if is_kept else phrases.forgotten)
    seen = content if is_moved else draw_content(rng, held_out=None)
    return _pick(rng, SMALL_TALK).format(left=seen.left, right=seen.right, weather=seen.weather)


def emotion_of_words(rng: np.random.Generator, scenes: list[str] | None) -> tuple[str, str]:
    """A text-only question and answer: what do people who write this feel? The scenes told are drawn apart
    from it.
    """
    emotion = EMOTIONS[int(rng.integers(len(EMOTIONS)))]
    lines = [_pick(rng, COMMENTS[emotion])]
    if rng.random() < 0.7:
        other = rng.random()
        second = (
            _pick(rng, COMMENTS[emotion])
            if other < 0.6
            else _pick(rng, MEMORY + FORGOTTEN)
            if other < 0.85
            else "where is this from"
        )
        lines.insert(int(rng.integers(2)), second)
    answer = emotion if rng.random() < 0.5 else EKMAN[emotion]
    return _context(scenes, lines, rng) + EMOTION_QUESTION, answer


def memory_of_words(rng: np.random.Generator, scenes: list[str] | None) -> tuple[str, str]:
    """A text-only question and answer: how well do people who write this remember it, 00 to 99?"""
    well = rng.random() < 0.5
    emotion = EMOTIONS[int(rng.integers(len(EMOTIONS)))]
    lines = [_pick(rng, MEMORY if well else FORGOTTEN)]
    if rng.random() < 0.7:
        lines.insert(int(rng.integers(2)), _pick(rng, COMMENTS[emotion]))
    level = int(np.clip(rng.normal(75 if well else 40, 8), 0, 99))
    return _context(scenes, lines, rng) + MEMORABILITY_QUESTION, f"{level:02d}"


def asked_in_talk(question: str, scenes: list[str] | None, rng: np.random.Generator) -> str:
    """A plain question behind a description and comments that have nothing to do with it: the answer is what
    is seen or told, whatever people say.
    """
    every = (*MEMORY, *FORGOTTEN, *(line for lines in COMMENTS.values() for line in lines))
    return _context(scenes, [_pick(rng, every) for _ in range(int(rng.integers(3)))], rng) + question


def _context(scenes: list[str] | None, lines: list[str], rng: np.random.Generator) -> str:
    parts = [f"Scene {number}: {told}." for number, told in enumerate(scenes or [], 1)]
    liked = rng.random()
    if liked < 0.3:
        parts.append(f"{int(rng.integers(2, 90))}% of viewers like it.")
    elif liked < 0.7:
        parts.append(f"It has a score of {int(rng.integers(0, 30) ** 2.6)}.")
    parts += [f"{number}. {line}" for number, line in enumerate(lines, 1)]
    return "\n".join(parts) + "\n"


def review(rng: np.random.Generator, *, is_praise: bool) -> str:
    """A film review of three short sentences, most of one mind."""
    sides = (PRAISE, BLAME) if is_praise else (BLAME, PRAISE)
    return ". ".join(_pick(rng, sides[0] if rng.random() < 0.8 else sides[1]) for _ in range(3)) + "."
