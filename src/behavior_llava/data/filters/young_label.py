"""Posts whose counts were read before they had settled, or nobody knows when.

Pushshift stored the scores of the first minutes for whole months: they look like data and say "nobody liked
it". Source: https://github.com/pushshift/api/issues/14; scores level off within 24 hours,
https://github.com/dmarx/psaw/pull/14. The paper has no such filter.

A post of unknown age is dropped like every missing value, for young and old cannot be told apart. Saved
answers of Reddit's API carry no time of retrieval: with them, say `keep_unknown` after a look at when they
were fetched.
"""

from __future__ import annotations

import daft
from daft import col, lit
from daft import functions as F
from pydantic import BaseModel, ConfigDict, Field

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """Which ages are kept.

    Attributes:
        min_age_s: keeps labels of that many seconds or more; a day.
        keep_unknown: keep posts whose label's age nobody knows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_age_s: int = Field(default=86_400, ge=0)
    keep_unknown: bool = False


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `label_age_s`, from posting to reading; null where either is unknown or reading came first."""
    age_s = col("retrieved_utc") - col("created_utc")
    return posts.with_column("label_age_s", F.when(age_s >= lit(0), age_s).otherwise(None))


def keep(params: Params) -> daft.Expression:
    """Old enough."""
    return (col("label_age_s") >= lit(params.min_age_s)).fill_null(params.keep_unknown)


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    examples=(
        (
            [
                {"id": "settled", "created_utc": 1000, "retrieved_utc": 87_400},
                {"id": "young", "created_utc": 1000, "retrieved_utc": 87_399},
                {"id": "read before it was there", "created_utc": 1000, "retrieved_utc": 999},
                {"id": "unknown", "created_utc": 1000, "retrieved_utc": None},
            ],
            [],
            ["settled"],
        ),
    ),
)
