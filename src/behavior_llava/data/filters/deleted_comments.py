"""Comments that were deleted or removed, that hold no text, or whose account is deleted."""

from __future__ import annotations

import daft
from daft import col, lit
from pydantic import BaseModel, ConfigDict

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """`keep_deleted_accounts`: keep comments that stand although the account behind them is gone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_deleted_accounts: bool = False


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `stands` (not removed, and there is a text) and `has_account`."""
    return comments.with_columns(
        {
            "stands": col("removed_by").is_null() & col("text").not_null(),
            "has_account": col("author_kind") != lit("deleted"),
        }
    )


def keep(params: Params) -> daft.Expression:
    """What stands, of an account that exists."""
    return col("stands") & (col("has_account") | lit(params.keep_deleted_accounts))


FILTER = Filter(
    table="comments",
    params=Params,
    measure=measure,
    keep=keep,
    examples=(
        (
            [],
            [
                {"id": "p/1", "text": "a fine day", "removed_by": None, "author_kind": "person"},
                {"id": "p/2", "text": None, "removed_by": "author", "author_kind": "deleted"},
                {"id": "p/3", "text": None, "removed_by": None, "author_kind": "person"},
                {"id": "p/4", "text": "still here", "removed_by": None, "author_kind": "deleted"},
            ],
            ["p/1"],
        ),
    ),
)
