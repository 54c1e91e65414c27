"""Posts written by bots; the source decided, while it still knew the name."""

from __future__ import annotations

import daft
from daft import col, lit
from pydantic import BaseModel, ConfigDict

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `is_bot`; null where the source did not decide."""
    return posts.with_column("is_bot", col("author_kind") == lit("bot"))


def keep(params: Params) -> daft.Expression:
    """What a person wrote."""
    return ~col("is_bot")


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    examples=(
        (
            [
                {"id": "a", "author_kind": "person"},
                {"id": "b", "author_kind": "bot"},
                {"id": "c", "author_kind": "deleted"},
                {"id": "d", "author_kind": None},
            ],
            [],
            ["a", "c"],
        ),
    ),
)
