"""Filters in order, with the survivors of each: the paper's funnel.

Posts and comments come in as two Daft tables and go out as two; `blift.py` calls this after collect. After
every filter the counts must add up, and what was dropped can be written beside the result.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import daft
from daft import col, lit
from pydantic import BaseModel, ValidationError

from behavior_llava.core import discover
from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Filter


@dataclass(frozen=True)
class Funnel:
    """What is left, and how it came to that.

    Attributes:
        posts, comments: with the columns they came in with.
        survivors: a dict for each filter and table it changed: filter, table, rows_in, kept, dropped, pooled.
            A filter of posts has a second one, for the comments that went with a post (dropped) or moved to
            another (pooled, and part of kept).
    """

    posts: daft.DataFrame
    comments: daft.DataFrame
    survivors: list[dict[str, Any]]


def _params(name: str, declared: Filter[Any], values: dict[str, Any]) -> BaseModel:
    known = list(declared.params.model_fields)
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(
                f"no parameter {key!r}",
                where=f"filters.{name}",
                remedy=f"{hint}There are: {', '.join(known) or 'none'}",
            )
    try:
        return declared.params.model_validate(values)
    except ValidationError as fault:
        first = fault.errors()[0]
        place = ".".join(str(part) for part in ("filters", name, *first["loc"]))
        raise UserError(f"{first['input']!r} is refused: {first['msg']}", where=place) from fault


def ready(filters: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, Filter[Any], BaseModel]]:
    """The declared filters with their checked parameters.

    Raises:
        UserError: for an unknown filter or parameter.
    """
    chosen = [
        (name, discover.get("data.filters", "FILTER", name, where="filters"), values)
        for name, values in filters
    ]
    return [(name, declared, _params(name, declared, values)) for name, declared, values in chosen]


def _count(name: str, table: str, counts: tuple[int, int, int], pooled: int = 0) -> dict[str, Any]:
    """One line of the funnel; a filter that loses or invents rows is a fault of ours."""
    rows_in, kept, dropped = counts
    if rows_in != kept + dropped:
        raise RuntimeError(f"filter {name!r}, {table}: {rows_in} rows in, {kept} kept and {dropped} dropped")
    return {
        "filter": name,
        "table": table,
        "rows_in": rows_in,
        "kept": kept,
        "dropped": dropped,
        "pooled": pooled,
    }


def _check_ids(posts: daft.DataFrame, comments: daft.DataFrame) -> None:
    """Every row has its own id and every comment its post: else the joins below invent or lose rows."""
    for table, name in ((posts, "posts"), (comments, "comments")):
        repeated = table.groupby("id").agg(col("id").count().alias("_times")).where(col("_times") != lit(1))
        examples = repeated.limit(3).to_pydict()["id"]
        if examples or table.where(col("id").is_null()).limit(1).count_rows():
            raise UserError(
                f"ids that are missing or stand more than once, such as {examples}",
                where=name,
                remedy="collect each source once",
            )
    orphans = comments.join(posts.select("id"), left_on="post_id", right_on="id", how="anti")
    if count := orphans.count_rows():
        raise UserError(f"{count} comments whose post is not there", where="comments", remedy="collect again")


def _parted(table: daft.DataFrame, keep: daft.Expression) -> tuple[daft.DataFrame, daft.DataFrame]:
    """Kept and dropped rows; a measure that is null drops."""
    measured = table.with_column("_keep", keep.fill_null(False)).collect()
    return measured.where(col("_keep")).exclude("_keep"), measured.where(~col("_keep")).exclude("_keep")


def _follow(
    comments: daft.DataFrame, dropped: daft.DataFrame, pools: str | None
) -> tuple[daft.DataFrame, daft.DataFrame, int]:
    """The comments that stay, those that went with their post, and how many moved to another post."""
    target = lit(None).cast(daft.DataType.string()) if pools is None else col(pools)
    fate = dropped.select(col("id").alias("_gone"), target.alias("_to"))
    names = comments.column_names
    joined = comments.join(fate, left_on="post_id", right_on="_gone", how="left")
    # A left join does not say whether it matched: the semi and anti joins do.
    stay = comments.join(fate, left_on="post_id", right_on="_gone", how="anti").collect()
    moved = joined.where(col("_to").not_null()).with_column("post_id", col("_to")).select(*names).collect()
    lost = comments.join(
        fate.where(col("_to").is_null()), left_on="post_id", right_on="_gone", how="semi"
    ).collect()
    num_moved = moved.count_rows()
    return (stay.concat(moved).collect() if num_moved else stay), lost, num_moved


def _write(dropped_dir: Path | None, place: int, name: str, tables: dict[str, daft.DataFrame]) -> None:
    for table, rows in tables.items():
        if dropped_dir is not None and rows.count_rows():
            rows.write_parquet(str(dropped_dir / f"{place:02d}_{name}" / table))


def run(
    posts: daft.DataFrame,
    comments: daft.DataFrame,
    filters: Sequence[tuple[str, dict[str, Any]]],
    *,
    dropped_dir: Path | None = None,
) -> Funnel:
    """Applies the filters in order.

    Args:
        posts: rows of schema.POSTS.
        comments: rows of schema.COMMENTS, each with its post.
        filters: (file name in data/filters, parameters) pairs.
        dropped_dir: where to write the rows each filter dropped, with what it measured, as
            `<place>_<filter>/<table>/*.parquet`; None for nowhere.

    Raises:
        UserError: for an unknown filter or parameter, repeated ids, and comments without a post.
        RuntimeError: where a filter's counts do not add up.
    """
    declared_filters = ready(filters)
    posts, comments = posts.collect(), comments.collect()
    _check_ids(posts, comments)
    survivors = []
    for place, (name, declared, params) in enumerate(declared_filters):
        before = posts if declared.table == "posts" else comments
        kept, dropped = _parted(declared.measure(posts, comments, params), declared.keep(params))
        counts = before.count_rows(), kept.count_rows(), dropped.count_rows()
        kept = kept.select(*before.column_names).collect()
        if declared.table == "comments":
            comments = kept
            survivors.append(_count(name, "comments", counts))
            _write(dropped_dir, place, name, {"comments": dropped})
            continue
        pooled_posts = (
            0 if declared.pools is None else dropped.where(col(declared.pools).not_null()).count_rows()
        )
        survivors.append(_count(name, "posts", counts, pooled_posts))
        posts, rows_in = kept, comments.count_rows()
        comments, lost, moved = _follow(comments, dropped, declared.pools)
        counts = rows_in, comments.count_rows(), lost.count_rows()
        survivors.append(_count(name, "comments", counts, moved))
        _write(dropped_dir, place, name, {"posts": dropped, "comments": lost})
    return Funnel(posts, comments, survivors)
