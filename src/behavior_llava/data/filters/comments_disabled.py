"""Posts under which nobody could write.

Source: https://arxiv.org/abs/2405.00942 (YouTube). Where the platform does not say, nothing speaks against
the post; too_few_comments drops those without comments in any case.
"""

from __future__ import annotations

import daft
from daft import col
from pydantic import BaseModel, ConfigDict

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `is_closed`: the platform says that comments are disabled."""
    return posts.with_column("is_closed", col("comments_disabled").fill_null(False))


def keep(params: Params) -> daft.Expression:
    """What nothing speaks against."""
    return ~col("is_closed")


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    examples=(
        (
            [
                {"id": "open", "comments_disabled": False},
                {"id": "closed", "comments_disabled": True},
                {"id": "unknown", "comments_disabled": None},
            ],
            [],
            ["open", "unknown"],
        ),
    ),
)
