"""Rows as they were read to the two tables: one post an id, every comment with its post, in bounded memory.

Posts and their comments fall into buckets by a hash of the post's id; a bucket is joined at a time, so memory
follows the bucket, not the data. Who has refused is decided here, over all records of a post: no later stage
sees it, whatever a config asks for. Called by data/collect.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from behavior_llava.core import parquet
from behavior_llava.core.schema import COMMENTS, POSTS
from behavior_llava.data.reading import COMMENTS_READ, POSTS_READ

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

BUCKET_ROWS = 250_000
"""Comments (and posts) of a bucket, on average: about 100 MB while it is joined."""

_KEYS = 2**32


@dataclass(frozen=True, slots=True)
class Joined:
    """Counts of one bucket.

    Attributes:
        posts, comments: kept. duplicates: records of a post that another record of it replaced.
        repeated: comments that a later record of them replaced, or that came with a replaced record of their
            post. orphans: comments whose post was not read. left_out: those of posts beyond the limit, or
            refused.
        opted_out, no_consent: posts refused; who opted out is not counted as without consent, too.
    """

    posts: int
    comments: int
    duplicates: int
    repeated: int
    orphans: int
    left_out: int
    opted_out: int
    no_consent: int


def num_buckets(rows: int) -> int:
    """How many buckets so many rows want."""
    return max(1, -(-rows // BUCKET_ROWS))


def _bucket(pieces: Sequence[Path], kind: str, schema: pa.Schema, low: int, high: int) -> pa.Table:
    """The rows of all pieces whose key is in low..high, in the order of reading, with that order in
    `_place`.
    """
    found = []
    for number, name in enumerate(pieces):
        path = name.with_suffix(f".{kind}.arrow")
        if not path.exists():
            continue
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
            keys = table["_key"].chunk(0).to_numpy()  # written as one chunk
            first = np.searchsorted(keys, np.uint32(low))
            last = len(keys) if high == _KEYS else np.searchsorted(keys, np.uint32(high))
            part = table.slice(first, last - first)
            places = (np.int64(number) << 32) + part["_row"].combine_chunks().to_numpy().astype(np.int64)
            # copied, so that the file is let go of
            found.append(part.append_column("_place", pa.array(places)).take(pa.array(np.arange(len(part)))))
    whole = pa.concat_tables([schema.append(pa.field("_place", pa.int64())).empty_table(), *found])
    return whole.sort_by("_place").combine_chunks()


def _is_first(column: pa.ChunkedArray) -> np.ndarray:
    """True where a value differs from the one before it."""
    values = column.combine_chunks()
    if not len(values):
        return np.zeros(0, dtype=bool)
    differs = pc.not_equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
    return np.concatenate([[True], differs])


def _one_of_each(posts: pa.Table) -> pa.Table:
    """Of several records of a post the one whose counts were read last; in doubt the first that was read."""
    ranked = posts.sort_by([("id", "ascending"), ("_read", "descending"), ("_place", "ascending")])
    return ranked.filter(pa.array(_is_first(ranked["id"]))).sort_by("_place")


def _refused(posts: pa.Table, column: str, refusal: bool) -> pa.Array:
    """Ids of the posts whose last statement is a refusal, also where another record of them is kept.

    Of what was stated the last in time counts, and the last in the order of reading. Where these differ,
    nobody knows which was meant last: the refusal counts.
    """
    stated = posts.filter(pc.is_valid(posts[column]))
    found = []
    for keys in (("_place",), ("_read", "_place")):
        ordered = stated.sort_by([(key, "ascending") for key in keys])
        last = ordered.group_by("id", use_threads=False).aggregate([(column, "last")])
        found.append(last["id"].filter(pc.equal(last[f"{column}_last"], refusal)))
    return pa.chunked_array([chunk for ids in found for chunk in ids.chunks], pa.string()).unique()


def join(
    pieces: Sequence[Path],
    bucket: int,
    buckets: int,
    posts_to: Path,
    comments_to: Path,
    limit: set[str] | None,
) -> Joined:
    """Joins one bucket of the pieces and writes its posts and comments, each in the order of reading.

    Args:
        limit: the posts' ids to keep; None for all.
    """
    low, high = (_KEYS * edge // buckets for edge in (bucket, bucket + 1))
    found = _bucket(pieces, "posts", POSTS_READ, low, high)
    found = found.append_column("_read", pc.fill_null(found["retrieved_utc"], -(2**62)))
    posts = _one_of_each(found)
    duplicates = len(found) - len(posts)
    if limit is not None:
        posts = posts.filter(pc.is_in(posts["id"], value_set=pa.array(sorted(limit), pa.string())))
    refused = []
    for column, refusal in (("is_opted_out", True), ("has_consent", False)):
        staying = posts.filter(pc.invert(pc.is_in(posts["id"], value_set=_refused(found, column, refusal))))
        refused.append(len(posts) - len(staying))
        posts = staying
    said = _bucket(pieces, "comments", COMMENTS_READ, low, high)
    order = pc.index_in(said["post_id"], value_set=posts["id"].combine_chunks())
    said = said.append_column("_post", order)
    own = said.filter(pc.is_valid(order))
    belonging = len(own)
    # comments that came with a record of the post stand or fall with it
    winner = posts["_place"].combine_chunks().take(own["_post"].combine_chunks())
    record = pc.add(pc.bit_wise_and(own["_place"], -(2**32)), pc.cast(own["_came_with"], pa.int64()))
    own = own.filter(pc.fill_null(pc.equal(record, winner), True))
    # of two comments with one id the later: dumps overlap, and downloads that were continued repeat some
    own = own.sort_by([("id", "ascending"), ("_place", "descending")])
    own = own.filter(pa.array(_is_first(own["id"])))
    own = own.sort_by([("_post", "ascending"), ("_place", "ascending")])
    starts = np.flatnonzero(_is_first(own["post_id"]))
    lengths = np.diff(np.append(starts, len(own)))
    position = np.arange(len(own)) - np.repeat(starts, lengths)
    own = own.set_column(
        COMMENTS.get_field_index("position"), "position", pa.array(position.astype(np.int32))
    )
    parquet.write_table(posts_to, posts.select(POSTS.names).cast(POSTS))
    parquet.write_table(comments_to, own.select(COMMENTS.names).cast(COMMENTS))
    known = int(pc.sum(pc.is_in(said["post_id"], value_set=found["id"].combine_chunks())).as_py() or 0)
    repeated, orphans, left_out = belonging - len(own), len(said) - known, known - belonging
    return Joined(len(posts), len(own), duplicates, repeated, orphans, left_out, *refused)


def first_posts(pieces: Sequence[Path], limit: int) -> set[str]:
    """The ids of the first so many posts of every platform, in the order of reading."""
    counts: dict[str, set[str]] = {}
    for name in pieces:
        path = name.with_suffix(".posts.arrow")
        if path.exists():
            with pa.memory_map(str(path)) as file:
                table = pa.ipc.open_file(file).read_all().select(["id", "source", "_row"])
                table = table.sort_by("_row")
                for source, identifier in zip(
                    table["source"].to_pylist(), table["id"].to_pylist(), strict=True
                ):
                    ids = counts.setdefault(source, set())
                    if len(ids) < limit:
                        ids.add(identifier)
    return set().union(*counts.values()) if counts else set()
