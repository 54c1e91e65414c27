"""Posts marked not safe for work, and posts with a listed word in the title.

Source: https://arxiv.org/abs/2405.00942 (the mark on Reddit, the list LDNOOBW on YouTube); the list is
word_list.py's.
"""

from __future__ import annotations

import daft
from daft import col, lit
from daft import functions as F
from pydantic import BaseModel, ConfigDict

from behavior_llava.core.schema import Filter
from behavior_llava.data.word_list import FALSE_FRIENDS, unsafe_words


class Params(BaseModel):
    """What counts as not safe.

    Attributes:
        word_list: drop posts with listed words in the title, besides those the platform marks.
        allowed_words: listed words that are let through.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    word_list: bool = True
    allowed_words: tuple[str, ...] = FALSE_FRIENDS


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `is_marked` and `has_listed_word`; no mark and no title are nothing against a post."""
    listed = F.regexp(col("title").fill_null(""), unsafe_words(params.allowed_words))
    return posts.with_columns({"is_marked": col("is_nsfw").fill_null(False), "has_listed_word": listed})


def keep(params: Params) -> daft.Expression:
    """What nothing speaks against."""
    return ~(col("is_marked") | (col("has_listed_word") & lit(params.word_list)))


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    measured_with=("allowed_words",),
    examples=(
        (
            [
                {"id": "plain", "is_nsfw": False, "title": "Scunthorpe at dawn"},
                {"id": "unmarked", "is_nsfw": None, "title": None},
                {"id": "marked", "is_nsfw": True, "title": "A harmless title"},
                {"id": "worded", "is_nsfw": False, "title": "This is porn, of a kind"},
            ],
            [],
            ["plain", "unmarked"],
        ),
    ),
)
