"""Posts from outside a period, or of an unknown time; a community may begin later or end earlier.

Source: https://arxiv.org/abs/2405.00942: Reddit from January 2018 to January 2022, which we read as whole
months, so that 31 January 2022 is the last day; r/pics from February 2015, because text over the picture was
allowed until then. The second is implied by the first and matters to those who begin earlier. (YouTube: 2018
to 2023, so `before` 2024-01-01.)
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from functools import reduce

import daft
from daft import col, lit
from daft import functions as F
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from behavior_llava.core.schema import Filter


class Period(BaseModel):
    """Days in UTC; None sets no limit.

    Attributes:
        after: the first day kept.
        before: the first day no longer kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: date | None = None
    before: date | None = None

    @model_validator(mode="after")
    def _holds_a_day(self) -> Period:
        if self.after and self.before and self.after >= self.before:
            raise ValueError(f"no day lies on or after {self.after} and before {self.before}")
        return self

    def holds(self, posted_utc: daft.Expression) -> daft.Expression:
        """Whether a time lies inside; null where it is unknown and there is a limit."""
        inside = [] if self.after is None else [posted_utc >= lit(_midnight_utc(self.after))]
        inside += [] if self.before is None else [posted_utc < lit(_midnight_utc(self.before))]
        return reduce(lambda left, right: left & right, inside, lit(True))


class Params(Period):
    """`communities`: channel, in any case of letters -> a Period that its posts must lie in, too."""

    after: date | None = date(2018, 1, 1)
    before: date | None = date(2022, 2, 1)
    communities: dict[str, Period] = Field(default_factory=lambda: {"pics": Period(after=date(2015, 2, 1))})

    @field_validator("communities")
    @classmethod
    def _in_lower_case(cls, value: dict[str, Period]) -> dict[str, Period]:
        return {name.lower().removeprefix("r/"): period for name, period in value.items()}


def _midnight_utc(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `posted_utc` and `community`, the channel in lower case; null where they are unknown."""
    return posts.with_columns({"posted_utc": col("created_utc"), "community": F.lower(col("channel"))})


def keep(params: Params) -> daft.Expression:
    """What is known to lie in the period, and in its community's."""
    kept = params.holds(col("posted_utc"))
    for name, period in sorted(params.communities.items()):
        is_other = (col("community") != lit(name)).fill_null(True)
        kept = kept & (is_other | period.holds(col("posted_utc")))
    return kept


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    examples=(
        (
            [
                {"id": "first second", "created_utc": 1514764800, "channel": "Pics"},
                {"id": "last second", "created_utc": 1643673599, "channel": None},
                {"id": "early", "created_utc": 1514764799, "channel": "videos"},
                {"id": "late", "created_utc": 1643673600, "channel": "videos"},
                {"id": "unknown", "created_utc": None, "channel": "videos"},
            ],
            [],
            ["first second", "last second"],
        ),
    ),
)
