"""The title it was posted under; for ablations, because a title is the sender's word, not a receiver's."""

from __future__ import annotations

import re

from behavior_llava.core.schema import Behavior, BehaviorWords, NoParams, Post, Spans, Value
from behavior_llava.data.plain_text import one_line

_LINE = re.compile(r"^Title: (\S.*)$", re.MULTILINE)


def value(post: Post, spans: Spans, params: NoParams) -> Value | None:
    """The part title, on one line."""
    text = one_line(post.title or "")
    return {"title": text} if text else None


def say(said: Value, words: BehaviorWords) -> str:
    """One line."""
    return words.sentence.format(text=said["title"])


def read_back(text: str) -> Value | None:
    """The text of the first line that starts with "Title:"; None where there is none."""
    line = _LINE.search(text)
    return None if line is None else {"title": line[1]}


BEHAVIOR = Behavior(
    columns=("title",),
    params=NoParams,
    value=value,
    unsaid="there is no title",
    ask={"paper": "the title it would be posted under", "short": "the title"},
    words={"paper": BehaviorWords("Title: {text}"), "short": BehaviorWords("Title: {text}")},
    say=say,
    read_back=read_back,
    metrics={"title": "perplexity"},
    examples=(
        ({"title": "My cat\nand <image> me"}, {}, (), "Title: My cat and (image) me"),
        ({"title": " \n"}, {}, (), None),
        ({}, {}, (), None),
    ),
    age_s=None,
    hides=("title",),
)
