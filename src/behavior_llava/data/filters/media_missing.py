"""Posts whose media file is not there: gone from the platform, or never fetched."""

from __future__ import annotations

import daft
from daft import col, lit
from pydantic import BaseModel, ConfigDict

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `has_media`: there is a path, and collect found a file at it."""
    found = col("media_fault").fill_null("") != lit("media_missing")
    return posts.with_column("has_media", col("media_path").not_null() & found)


def keep(params: Params) -> daft.Expression:
    """What can be looked at, readable or not."""
    return col("has_media")


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    examples=(
        (
            [
                {"id": "here", "media_path": "/media/a.jpg", "media_fault": None},
                {"id": "broken", "media_path": "/media/b.jpg", "media_fault": "image_broken"},
                {"id": "gone", "media_path": "/media/c.jpg", "media_fault": "media_missing"},
                {"id": "never", "media_path": None, "media_fault": None},
            ],
            [],
            ["here", "broken"],
        ),
    ),
)
