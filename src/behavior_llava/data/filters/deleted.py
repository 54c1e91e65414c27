"""Posts their author or a moderator took away, and posts of deleted accounts."""

from __future__ import annotations

import daft
from daft import col, lit
from pydantic import BaseModel, ConfigDict

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """`keep_deleted_accounts`: keep posts that stand although the account behind them is gone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_deleted_accounts: bool = False


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `stands` and `has_account`; on links, dumps mark a deleted post and a deleted account alike."""
    return posts.with_columns(
        {"stands": col("removed_by").is_null(), "has_account": col("author_kind") != lit("deleted")}
    )


def keep(params: Params) -> daft.Expression:
    """What stands, of an account that exists."""
    return col("stands") & (col("has_account") | lit(params.keep_deleted_accounts))


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    examples=(
        (
            [
                {"id": "stands", "removed_by": None, "author_kind": "person"},
                {"id": "moderated", "removed_by": "moderator", "author_kind": "person"},
                {"id": "gone", "removed_by": None, "author_kind": "deleted"},
                {"id": "unknown", "removed_by": None, "author_kind": None},
            ],
            [],
            ["stands"],
        ),
    ),
)
