"""Posts whose media file is there and cannot be read."""

from __future__ import annotations

import daft
from daft import col, lit
from pydantic import BaseModel, ConfigDict

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `is_unreadable`; a file that is not there is media_missing's."""
    fault = col("media_fault").fill_null("media_missing")
    return posts.with_column("is_unreadable", fault != lit("media_missing"))


def keep(params: Params) -> daft.Expression:
    """What no fault was found in."""
    return ~col("is_unreadable")


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    examples=(
        (
            [
                {"id": "here", "media_fault": None},
                {"id": "broken", "media_fault": "image_broken"},
                {"id": "gone", "media_fault": "media_missing"},
            ],
            [],
            ["here", "gone"],
        ),
    ),
)
