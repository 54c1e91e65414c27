"""What receivers wrote: the best-scored comments, numbered, one line each."""

from __future__ import annotations

import re

from behavior_llava.core.schema import Behavior, BehaviorWords, Comment, NoParams, Post, Spans, Value
from behavior_llava.data.plain_text import one_line

_LINE = re.compile(r"(\d{1,3})\. (\S.*)")


def value(post: Post, spans: Spans, params: NoParams) -> Value | None:
    """The part comments: all texts, one line each, the best-scored first; equal scores in the source's
    order, unknown scores last.
    """

    def rank(item: tuple[int, Comment]) -> tuple[bool, int, int]:
        position, comment = item
        return (comment.score is None, -(comment.score or 0), position)

    texts = (one_line(comment.text or "") for _, comment in sorted(enumerate(post.comments), key=rank))
    found = tuple(text for text in texts if text)
    return {"comments": found} if found else None


def say(said: Value, words: BehaviorWords) -> str:
    """One numbered line a comment, at most `words.max_items`."""
    return "\n".join(
        words.sentence.format(number=number, text=text)
        for number, text in enumerate(said["comments"][: words.max_items], 1)
    )


def read_back(text: str) -> Value | None:
    """The texts of the first lines numbered 1, 2, ... without a gap; None where there is no line 1."""
    texts: list[str] = []
    for line in text.split("\n"):
        numbered = _LINE.fullmatch(line)
        if numbered is not None and int(numbered[1]) == len(texts) + 1:
            texts.append(numbered[2])
        elif texts:
            break
    return {"comments": tuple(texts)} if texts else None


BEHAVIOR = Behavior(
    columns=("comments",),
    params=NoParams,
    value=value,
    unsaid="no comment has a text",
    ask={"paper": "the {items} most popular comments", "short": "the reactions"},
    words={
        "paper": BehaviorWords("{number}. {text}", max_items=5),
        "short": BehaviorWords("{number}. {text}", max_items=2),
    },
    say=say,
    read_back=read_back,
    metrics={"comments": "perplexity"},
    examples=(
        (
            {
                "comments": (
                    Comment("a", "no score"),
                    Comment("b", "late but\n\nbest", score=7),
                    Comment("c", None, score=99, removed_by="moderator"),
                    Comment("d", "early", score=1),
                    Comment("e", "as good as early", score=1),
                )
            },
            {},
            (),
            "1. late but best\n2. early",
        ),
        ({"comments": (Comment("a", "see <image> 2. here"),)}, {}, (), "1. see (image) 2. here"),
        ({"comments": (Comment("a", " \n "), Comment("b", None))}, {}, (), None),
        ({"comments": ()}, {}, (), None),
    ),
)
