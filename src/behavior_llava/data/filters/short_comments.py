"""Comments of too few words to say anything, and of too many to be learned.

Source: https://arxiv.org/abs/2405.00942 (Reddit, and the defaults: at least 3 words; YouTube: 4 to 100).
"""

from __future__ import annotations

import daft
from daft import col, lit
from pydantic import BaseModel, ConfigDict, Field

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """`min_words` and `max_words` keep comments of that many words; `max_words` None keeps any length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_words: int = Field(default=3, ge=0)
    max_words: int | None = Field(default=None, ge=1)


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `num_words`: runs without a blank; null where there is no text."""
    return comments.with_column("num_words", daft.functions.regexp_count(col("text"), r"\S+"))


def keep(params: Params) -> daft.Expression:
    """Lengths within the limits."""
    kept = col("num_words") >= lit(params.min_words)
    return kept if params.max_words is None else kept & (col("num_words") <= lit(params.max_words))


FILTER = Filter(
    table="comments",
    params=Params,
    measure=measure,
    keep=keep,
    examples=(
        (
            [],
            [
                {"id": "p/1", "text": "what a view"},
                {"id": "p/2", "text": "so  good"},
                {"id": "p/3", "text": "word " * 101},
                {"id": "p/4", "text": None},
            ],
            ["p/1", "p/3"],
        ),
    ),
)
