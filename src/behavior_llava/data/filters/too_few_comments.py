"""Posts with too few comments left; the comments that earlier filters dropped do not count.

Source: https://arxiv.org/abs/2405.00942 (at least 2).
"""

from __future__ import annotations

import daft
from daft import col, lit
from pydantic import BaseModel, ConfigDict, Field

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """`min_comments` keeps posts with that many comments or more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_comments: int = Field(default=2, ge=0)


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `comments_left`: rows of the comments table; 0 where there are none, a count and no gap."""
    counts = comments.groupby("post_id").agg(col("id").count().alias("_left"))
    joined = posts.join(counts, left_on="id", right_on="post_id", how="left")
    return joined.with_column("comments_left", col("_left").fill_null(0)).select(
        *posts.column_names, "comments_left"
    )


def keep(params: Params) -> daft.Expression:
    """Enough left."""
    return col("comments_left") >= lit(params.min_comments)


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    looks_at="thread",
    examples=(
        (
            [{"id": "two"}, {"id": "one"}, {"id": "none"}],
            [
                {"id": "two/1", "post_id": "two"},
                {"id": "two/2", "post_id": "two"},
                {"id": "one/1", "post_id": "one"},
            ],
            ["two"],
        ),
    ),
)
