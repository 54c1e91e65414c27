"""Filters in order, with the survivors of each: the paper's funnel.

Posts and comments come in buckets, whole threads each, and one bucket is in memory at a time; only a filter
that has to see everything (near duplicates) looks across them. What the filters measure is stored: with other
thresholds the funnel decides anew on stored measures and reads no text again. After every filter the counts
must add up. blift.py calls this after collect.
"""

from __future__ import annotations

import difflib
import shutil
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import daft
import pyarrow.parquet as pq
from daft import col, lit
from pydantic import BaseModel, ValidationError

from behavior_llava.core import discover, parquet
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import code_version, fingerprint
from behavior_llava.core.schema import Filter
from behavior_llava.data.joining import BUCKET_ROWS

_HELD_ROWS = 4 * BUCKET_ROWS
"""Ids and measures that stay in memory while buckets are joined with them; more are read from disk."""


@dataclass
class Bucket:
    """Some posts and all their comments.

    Attributes:
        name: of its files. is_collected: False for one that came to be by pooling.
        posts, comments: as collected; may hold more than what belongs here.
        left_posts: `id` and stored measures of the posts that are left. left_comments: the same of comments,
            with the `post_id` they belong to by now.
    """

    name: str
    posts: daft.DataFrame
    comments: daft.DataFrame
    left_posts: daft.DataFrame = field(init=False)
    left_comments: daft.DataFrame = field(init=False)
    is_collected: bool = True

    def set_down(self, folder: Path) -> None:
        """Puts what is left on disk, so that memory holds no other bucket's while the next is worked on."""
        for table in ("left_posts", "left_comments"):
            setattr(self, table, _set_down(getattr(self, table), folder))

    def full_posts(self) -> daft.DataFrame:
        """The posts that are left, as collected."""
        return self.posts.join(self.left_posts.select("id"), on="id", how="semi")

    def full_comments(self) -> daft.DataFrame:
        """The comments that are left, as collected but for the post they belong to by now."""
        names = self.comments.column_names
        placed = self.left_comments.select(col("id"), col("post_id").alias("_now"))
        joined = self.comments.join(placed, on="id").with_column("post_id", col("_now"))
        return joined.select(*names)


@dataclass(frozen=True)
class Funnel:
    """What is left, and how it came to that.

    Attributes:
        buckets: with what is left in them.
        survivors: a dict for each filter and table it changed: filter, table, rows_in, kept, dropped, pooled.
            A filter of posts has a second one, for the comments that went with a post (dropped) or moved to
            another (pooled, and part of kept).
    """

    buckets: list[Bucket]
    survivors: list[dict[str, Any]]

    @property
    def posts(self) -> daft.DataFrame:
        """All posts that are left, as collected."""
        return reduce(daft.DataFrame.concat, [bucket.full_posts() for bucket in self.buckets])

    @property
    def comments(self) -> daft.DataFrame:
        """All comments that are left, each with the post it belongs to by now."""
        return reduce(daft.DataFrame.concat, [bucket.full_comments() for bucket in self.buckets])


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


@dataclass(frozen=True)
class Step:
    """A filter in its place of the funnel."""

    place: int
    name: str
    declared: Filter[Any]
    params: BaseModel

    @property
    def measured_with(self) -> dict[str, Any]:
        """The parameters the measure depends on."""
        values = self.params.model_dump(mode="json")
        return {key: values[key] for key in self.declared.measured_with}

    @property
    def prefix(self) -> str:
        """Of its stored columns: the same filter may stand twice, measured with other parameters."""
        known = self.measured_with
        return f"{self.name}_{fingerprint(known)[:6]}__" if known else f"{self.name}__"


def ready(filters: Sequence[tuple[str, dict[str, Any]]]) -> list[Step]:
    """The declared filters with their checked parameters.

    Raises:
        UserError: for an unknown filter or parameter.
    """
    found = []
    for place, (name, values) in enumerate(filters):
        declared: Filter[Any] = discover.get("data.filters", "FILTER", name, where="filters")
        found.append(Step(place, name, declared, _params(name, declared, values)))
    return found


def _count(name: str, table: str, counts: tuple[int, ...], pooled: int = 0) -> dict[str, Any]:
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


def _check_ids(bucket: Bucket) -> None:
    """Every row has its own id and every comment its post: else the joins below invent or lose rows."""
    for table, name in ((bucket.posts, "posts"), (bucket.comments, "comments")):
        counted = table.select("id").agg(
            col("id").count(mode="all").alias("rows"), col("id").count_distinct().alias("ids")
        )
        found = counted.to_pydict()
        if found["rows"] == found["ids"]:
            continue
        repeated = table.groupby("id").agg(col("id").count().alias("_times")).where(col("_times") != lit(1))
        examples = repeated.limit(3).to_pydict()["id"]
        raise UserError(
            f"ids that are missing or stand more than once, such as {examples}",
            where=name,
            remedy="collect each source once",
        )
    orphans = bucket.comments.join(bucket.posts.select("id"), left_on="post_id", right_on="id", how="anti")
    if count := orphans.count_rows():
        raise UserError(f"{count} comments whose post is not there", where="comments", remedy="collect again")


def _set_down(table: daft.DataFrame, folder: Path) -> daft.DataFrame:
    """The table on disk, written as it streams by."""
    place = folder / uuid.uuid4().hex
    table.write_parquet(str(place), compression="zstd")
    return daft.read_parquet(f"{place}/*.parquet")


def _parted(table: daft.DataFrame, keep: daft.Expression) -> tuple[daft.DataFrame, daft.DataFrame]:
    """Kept and dropped rows; a measure that is null drops."""
    measured = table.with_column("_keep", keep.fill_null(False)).collect()
    return measured.where(col("_keep")).exclude("_keep"), measured.where(~col("_keep")).exclude("_keep")


# ---- measures that are stored ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """Measures on disk.

    Attributes:
        folder: None keeps nothing.
        mark: identifies the collected posts; other posts, other measures.
    """

    folder: Path | None = None
    mark: str = ""

    def kept(self, key: Any, measured: Callable[[], daft.DataFrame]) -> daft.DataFrame:
        """The table of this key, measured now if it is not there."""
        if self.folder is None:
            return measured().collect()
        place = self.folder / f"{fingerprint([code_version(), self.mark, key])}.parquet"
        if not place.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            parquet.write_table(place, measured().to_arrow())
        return daft.from_arrow(pq.read_table(place))


def _once(bucket: Bucket, steps: Sequence[Step], table: str, store: Store) -> daft.DataFrame:
    """Ids and the measures of every filter of a table that looks at one row at a time."""
    chosen = {
        step.prefix: step
        for step in steps
        if step.declared.table == table and step.declared.looks_at == "row"
    }
    collected = bucket.posts if table == "posts" else bucket.comments
    ids = ["id"] if table == "posts" else ["id", "post_id"]

    def measured() -> daft.DataFrame:
        result = collected
        for prefix, step in sorted(chosen.items()):
            posts, comments = (result, bucket.comments) if table == "posts" else (bucket.posts, result)
            after = step.declared.measure(posts, comments, step.params)
            _check_measured(step, collected, after)
            new = [name for name in after.column_names if name not in result.column_names]
            result = after.with_columns({prefix + name: col(name) for name in new}).exclude(*new)
        stored = [name for name in result.column_names if name not in collected.column_names]
        return result.select(*ids, *stored).sort("id")

    return store.kept(["once", bucket.name, table, sorted(chosen)], measured)


def _now(bucket: Bucket, step: Step, chain: list[Any], store: Store) -> daft.DataFrame:
    """Ids and the measures of a filter that looks at whole threads, over what is left of the bucket."""

    def measured() -> daft.DataFrame:
        posts, comments = bucket.full_posts(), bucket.full_comments()
        return _measures(step, posts, comments).sort("id")

    return store.kept([bucket.name, step.name, step.measured_with, chain], measured)


def _measures(step: Step, posts: daft.DataFrame, comments: daft.DataFrame) -> daft.DataFrame:
    after = step.declared.measure(posts, comments, step.params)
    before = posts if step.declared.table == "posts" else comments
    return after.select("id", *(name for name in after.column_names if name not in before.column_names))


# ---- one filter on one bucket ------------------------------------------------------------------------------


@dataclass
class _Tally:
    """What one filter did, over all buckets."""

    posts: list[int] = field(default_factory=lambda: [0, 0, 0])
    comments: list[int] = field(default_factory=lambda: [0, 0, 0])
    pooled_posts: int = 0
    pooled_comments: int = 0

    def lines(self, step: Step) -> list[dict[str, Any]]:
        of_comments = _count(step.name, "comments", tuple(self.comments), self.pooled_comments)
        if step.declared.table == "comments":
            return [of_comments]
        return [_count(step.name, "posts", tuple(self.posts), self.pooled_posts), of_comments]


def _add(counts: list[int], *tables: daft.DataFrame) -> None:
    for index, table in enumerate(tables):
        counts[index] += table.count_rows()


def _apply(
    bucket: Bucket, step: Step, measures: daft.DataFrame | None, tally: _Tally, dropped_to: Path | None
) -> list[daft.DataFrame]:
    """Takes what a filter drops out of a bucket.

    Args:
        measures: ids and measures; None where the bucket holds them already.

    Returns:
        Of a filter that pools, a table of `_gone` and `_to`: the dropped posts whose comments move on and
        are still in the bucket.
    """
    is_posts = step.declared.table == "posts"
    left = (bucket.left_posts if is_posts else bucket.left_comments).collect()
    if measures is None:
        own = [name for name in left.column_names if name.startswith(step.prefix)]
        table = left.with_columns({name.removeprefix(step.prefix): col(name) for name in own})
        new = [name.removeprefix(step.prefix) for name in own]
    else:
        new = [name for name in measures.column_names if name != "id"]
        table = left.join(measures, on="id")
    _check_measured(step, left, table)
    kept, dropped = _parted(table, step.declared.keep(step.params))
    kept, dropped_rows = kept.select(*left.column_names), dropped.select(*_ids(left), *new)
    if not is_posts:
        bucket.left_comments = kept
        _add(tally.comments, left, kept, dropped)
        _write(dropped_to, step, bucket, {"comments": dropped_rows})
        return []
    bucket.left_posts = kept
    _add(tally.posts, left, kept, dropped)
    before = bucket.left_comments
    target = lit(None).cast(daft.DataType.string())
    if step.declared.pools is not None:
        target = col(step.declared.pools)
    fate = dropped.select(col("id").alias("_gone"), target.alias("_to")).collect()
    gone = fate.where(col("_to").is_null())
    lost = before.join(gone, left_on="post_id", right_on="_gone", how="semi").collect()
    if num_lost := lost.count_rows():
        bucket.left_comments = before.join(gone, left_on="post_id", right_on="_gone", how="anti").collect()
    tally.comments[0] += before.count_rows()
    tally.comments[1] += bucket.left_comments.count_rows()
    tally.comments[2] += num_lost
    _write(dropped_to, step, bucket, {"posts": dropped_rows, "comments": lost.select("id", "post_id")})
    return [] if step.declared.pools is None else [fate.where(col("_to").not_null()).collect()]


def _check_measured(step: Step, left: daft.DataFrame, measured: daft.DataFrame) -> None:
    """A filter that loses or invents rows while it measures is a fault of ours, not a finding."""
    before, after = left.count_rows(), measured.count_rows()
    if before != after:
        raise RuntimeError(f"filter {step.name!r}: {before} rows in, {after} measured")


def _ids(table: daft.DataFrame) -> list[str]:
    return [name for name in ("id", "post_id") if name in table.column_names]


def _write(folder: Path | None, step: Step, bucket: Bucket, tables: dict[str, daft.DataFrame]) -> None:
    for table, rows in tables.items():
        if folder is not None and rows.count_rows():
            place = folder / f"{step.place:02d}_{step.name}" / table
            place.mkdir(parents=True, exist_ok=True)
            parquet.write_table(place / f"{bucket.name}.parquet", rows.sort("id").to_arrow())


def _pool(buckets: list[Bucket], fates: list[daft.DataFrame], tally: _Tally, scratch: Path) -> list[Bucket]:
    """Gives the comments of dropped posts to the posts that stand for them.

    Threads that change, both ends of a move, come together in a bucket of their own: so every thread stays
    whole in one bucket.
    """
    if not fates:
        return buckets
    moves = reduce(daft.DataFrame.concat, fates).collect()
    tally.pooled_posts = moves.count_rows()
    if not tally.pooled_posts:
        return buckets
    together = [buckets[0]]
    if len(buckets) > 1:
        together = _gathered(buckets, moves, scratch)
        buckets = [*buckets, *together]
    for bucket in together:
        left = bucket.left_comments.collect()
        tally.pooled_comments += left.join(
            moves, left_on="post_id", right_on="_gone", how="semi"
        ).count_rows()
        moved = left.join(moves, left_on="post_id", right_on="_gone", how="left")
        to = daft.functions.coalesce(col("_to"), col("post_id"))
        bucket.left_comments = moved.with_column("post_id", to).select(*left.column_names)
        bucket.set_down(scratch)
    return buckets


def _gathered(buckets: list[Bucket], moves: daft.DataFrame, scratch: Path) -> list[Bucket]:
    """New buckets with the threads at both ends of the moves, which are taken out of the old ones."""
    ends = moves.select(col("_gone").alias("_post"), col("_to").alias("_thread"))
    ends = ends.concat(moves.select(col("_to").alias("_post"), col("_to").alias("_thread"))).distinct()
    ends = ends.collect()
    found: dict[str, list[daft.DataFrame]] = {"left_posts": [], "left_comments": []}
    for bucket in buckets:
        for table, key in (("left_posts", "id"), ("left_comments", "post_id")):
            left = getattr(bucket, table).collect()
            moving = left.join(ends, left_on=key, right_on="_post").select(*left.column_names, "_thread")
            found[table].append(_set_down(moving, scratch))
            setattr(bucket, table, left.join(ends, left_on=key, right_on="_post", how="anti"))
        bucket.set_down(scratch)
    posts, comments = (reduce(daft.DataFrame.concat, tables) for tables in found.values())
    collected = [bucket for bucket in buckets if bucket.is_collected]
    number = -(-comments.count_rows() // BUCKET_ROWS) or 1
    round_ = len({bucket.name.split("_")[0] for bucket in buckets if not bucket.is_collected})
    gathered = []
    for place in range(number):
        bucket = Bucket(
            # a later filter that pools takes from these buckets like from any other
            f"pooled{round_}_{place:04d}",
            reduce(daft.DataFrame.concat, [other.posts for other in collected]),
            reduce(daft.DataFrame.concat, [other.comments for other in collected]),
            is_collected=False,
        )
        is_here = _hashed(col("_thread")) % lit(number) == lit(place)
        for table, rows in (("left_posts", posts), ("left_comments", comments)):
            setattr(bucket, table, rows.where(is_here).exclude("_thread").collect())
        gathered.append(bucket)
    return gathered


@daft.func.batch(return_dtype=daft.DataType.int64())
def _hashed(names: daft.Series) -> Any:  # Daft's types want Any
    """A hash that is the same in every version and on every engine."""
    return [zlib.crc32(name.encode()) for name in names.to_pylist()]


# ---- the whole ---------------------------------------------------------------------------------------------


@contextmanager
def run(
    collected: Sequence[tuple[daft.DataFrame, daft.DataFrame]],
    filters: Sequence[tuple[str, dict[str, Any]]],
    *,
    dropped_dir: Path | None = None,
    store: Store = Store(),
    done: Callable[[], None] = lambda: None,
) -> Iterator[Funnel]:
    """Applies the filters in order; what is left can be read within the block.

    Args:
        collected: pairs of posts (rows of schema.POSTS) and all their comments (schema.COMMENTS).
        filters: (file name in data/filters, parameters) pairs.
        dropped_dir: where to write the ids each filter dropped, with what it measured, as
            `<place>_<filter>/<table>/*.parquet`; None for nowhere.
        done: called after each filter on each bucket.

    Raises:
        UserError: for an unknown filter or parameter, repeated ids, and comments without a post.
        RuntimeError: where a filter's counts do not add up.
    """
    steps = ready(filters)
    buckets = [Bucket(f"{number:04d}", posts, comments) for number, (posts, comments) in enumerate(collected)]
    tallies = [_Tally() for _ in steps]
    with _scratch(store.folder) as scratch:
        for bucket in buckets:
            _check_ids(bucket)
            bucket.left_posts = _once(bucket, steps, "posts", store)
            bucket.left_comments = _once(bucket, steps, "comments", store)
            bucket.set_down(scratch)
        for segment in _segments(steps):
            if segment[0].declared.looks_at == "all":
                step = segment.pop(0)
                whole = Funnel(buckets, [])
                everything = _set_down(_measures(step, whole.posts, whole.comments), scratch)
                if everything.count_rows() <= _HELD_ROWS:
                    everything = everything.collect()  # else every bucket would scan the file
                fates = []
                for bucket in buckets:
                    fates += _apply(bucket, step, everything, tallies[step.place], dropped_dir)
                    bucket.set_down(scratch)
                    done()
                buckets = _pool(buckets, fates, tallies[step.place], scratch)
            for bucket in buckets if segment else ():
                for step in segment:
                    measures = None
                    if step.declared.looks_at == "thread":
                        chain = [[other.name, other.params.model_dump(mode="json")] for other in steps]
                        measures = _now(bucket, step, chain[: step.place], store)
                    _apply(bucket, step, measures, tallies[step.place], dropped_dir)
                    done()
                bucket.set_down(scratch)
        survivors = [line for step, tally in zip(steps, tallies, strict=True) for line in tally.lines(step)]
        yield Funnel(buckets, survivors)


def _segments(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps in groups that one bucket can go through alone; first in a group stands one that looks at all."""
    groups: list[list[Step]] = []
    for step in steps:
        if not groups or step.declared.looks_at == "all":
            groups.append([])
        groups[-1].append(step)
    return groups


@contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    """A place for what is left between filters; removed at the end."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("left_*"):
            shutil.rmtree(old)  # of a start that was killed
    with tempfile.TemporaryDirectory(dir=folder, prefix="left_") as place:
        yield Path(place)
