"""Videos that run too long, or whose length nobody knows.

Source: https://arxiv.org/abs/2405.00942 (500 s).
"""

from __future__ import annotations

import daft
from daft import col, lit
from pydantic import BaseModel, ConfigDict, Field

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """`max_duration_s` keeps videos of that many seconds or fewer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_duration_s: float = Field(default=500.0, gt=0)


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `runs_s`: the duration of a video, null where it is unknown; 0 for an image."""
    runs_s = daft.functions.when(col("media_kind") == "image", lit(0.0)).otherwise(col("duration_s"))
    return posts.with_column("runs_s", runs_s)


def keep(params: Params) -> daft.Expression:
    """Images, and videos known to be short enough."""
    return col("runs_s") <= lit(params.max_duration_s)


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    examples=(
        (
            [
                {"id": "image", "media_kind": "image", "duration_s": None},
                {"id": "short", "media_kind": "video", "duration_s": 500.0},
                {"id": "long", "media_kind": "video", "duration_s": 500.5},
                {"id": "unknown", "media_kind": "video", "duration_s": None},
            ],
            [],
            ["image", "short"],
        ),
    ),
)
