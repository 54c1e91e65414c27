"""Comments with a listed word.

Source: https://arxiv.org/abs/2405.00942 (YouTube: a word list against NSFW, LDNOOBW); the list is
word_list.py's.
"""

from __future__ import annotations

import daft
from daft import col
from daft import functions as F
from pydantic import BaseModel, ConfigDict

from behavior_llava.core.schema import Filter
from behavior_llava.data.word_list import FALSE_FRIENDS, unsafe_words


class Params(BaseModel):
    """`allowed_words`: listed words that are let through."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allowed_words: tuple[str, ...] = FALSE_FRIENDS


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `has_listed_word`; null where there is no text."""
    return comments.with_column("has_listed_word", F.regexp(col("text"), unsafe_words(params.allowed_words)))


def keep(params: Params) -> daft.Expression:
    """What holds none."""
    return ~col("has_listed_word")


FILTER = Filter(
    table="comments",
    params=Params,
    measure=measure,
    keep=keep,
    measured_with=("allowed_words",),
    examples=(
        (
            [],
            [
                {"id": "p/1", "text": "A class act from Scunthorpe"},
                {"id": "p/2", "text": "what the FUCK is that"},
                {"id": "p/3", "text": "domination by the home team"},
                {"id": "p/4", "text": None},
            ],
            ["p/1", "p/3"],
        ),
    ),
)
