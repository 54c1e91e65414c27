"""Posts that few have seen, or whose views nobody counted.

Source: https://arxiv.org/abs/2405.00942 (YouTube: more than 10,000 views).
"""

from __future__ import annotations

import daft
from daft import col, lit
from pydantic import BaseModel, ConfigDict, Field

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """`more_than_views` keeps posts with more views; that many are too few."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    more_than_views: int = Field(default=10_000, ge=0)


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `views`; null where they are unknown, as on platforms without views."""
    return posts.with_column("views", col("num_views"))


def keep(params: Params) -> daft.Expression:
    """Seen often enough."""
    return col("views") > lit(params.more_than_views)


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    examples=(
        (
            [
                {"id": "more", "num_views": 10_001},
                {"id": "as many", "num_views": 10_000},
                {"id": "unknown", "num_views": None},
            ],
            [],
            ["more"],
        ),
    ),
)
