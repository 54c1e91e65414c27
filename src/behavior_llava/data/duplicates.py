"""Groups of posts that show the same media: equal bytes, or perceptual hashes a few bits apart.

The filter that drops near duplicates and the split that must not tear them apart both call `cluster`, so they
agree. Only the pairs found are held in the driver's memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, pairwise
from typing import Any

import daft
import numpy as np
from daft import DataType, Series, col, lit

HASH_BITS = 64


@daft.func.batch(return_dtype=DataType.uint64())
def _masked(hashes: Series, mask: int) -> Any:  # Daft's types want Any
    """The bits of every hash that a mask selects."""
    values = np.array([int(text, 16) for text in hashes.to_pylist()], dtype=np.uint64)
    return values & np.uint64(mask)


def _masks(max_distance: int) -> list[int]:
    """Masks such that two hashes at most `max_distance` bits apart agree under one of them.

    Cut into that many pieces and two more, two pieces must be equal (pigeonhole), so there is a mask for each
    pair of pieces. Pairs, because at a million hashes, single pieces of 13 bits join far too many.
    """
    edges = [HASH_BITS * index // (max_distance + 2) for index in range(max_distance + 3)]
    pieces = [(1 << high) - (1 << low) for low, high in pairwise(edges)]
    return [left | right for left, right in combinations(pieces, 2)]


@daft.func.batch(return_dtype=DataType.int64())
def _distance(left: Series, right: Series) -> Any:
    """Bits in which two hashes of 16 hex digits differ."""
    sides = [
        np.array([int(text, 16) for text in side.to_pylist()], dtype=np.uint64) for side in (left, right)
    ]
    return np.bitwise_count(sides[0] ^ sides[1]).astype(np.int64)


def components(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Node -> the smallest node it is connected to (union-find), for the nodes named in a pair."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]  # halve the way for the next time
            node = parent[node]
        return node

    for left, right in pairs:
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    return {node: root(node) for node in list(parent)}


def mapped(table: daft.DataFrame, column: str, mapping: dict[str, str]) -> daft.DataFrame:
    """The table with `column` replaced where the mapping has it."""
    if not mapping:
        return table
    found = daft.from_pydict({"_from": list(mapping), "_to": list(mapping.values())})
    joined = table.join(found, left_on=column, right_on="_from", how="left")
    names = table.column_names
    return joined.with_column(column, daft.functions.coalesce(col("_to"), col(column))).select(*names)


def _near_pairs(media: daft.DataFrame, max_distance: int) -> set[tuple[str, str]]:
    """Pairs of distinct keys whose hashes are at most `max_distance` bits apart, within one kind of media.

    One mask at a time: all at once would hold as many copies of the table as there are masks.
    """
    hashes = media.where(col("media_dhash").not_null()).select("_key", "media_kind", "media_dhash").distinct()
    hashes = hashes.collect()
    found: set[tuple[str, str]] = set()
    for mask in _masks(max_distance):
        banded = hashes.with_column("band", _masked(col("media_dhash"), mask)).collect()
        # only those that meet another: most meet none
        crowded = banded.groupby("media_kind", "band").agg(col("_key").count().alias("_n"))
        crowded = crowded.where(col("_n") > lit(1)).select("media_kind", "band")
        met = banded.join(crowded, on=["media_kind", "band"], how="semi").collect()
        other = met.select(
            col("_key").alias("_other"),
            col("media_kind"),
            col("band"),
            col("media_dhash").alias("_other_dhash"),
        )
        pairs = (
            met.join(other, on=["media_kind", "band"])
            .where(col("_key") < col("_other"))
            .where(_distance(col("media_dhash"), col("_other_dhash")) <= lit(max_distance))
            .select("_key", "_other")
            .to_pydict()
        )
        found.update(zip(pairs["_key"], pairs["_other"], strict=True))
    return found


def _equal_pairs(media: daft.DataFrame) -> list[tuple[str, str]]:
    """Pairs of keys of one file: only where a file was hashed in one row and not in another."""
    keys = media.where(col("media_sha256").not_null()).select("media_sha256", "_key").distinct()
    first = keys.groupby("media_sha256").agg(col("_key").min().alias("_first"))
    pairs = keys.join(first, on="media_sha256").where(col("_key") != col("_first")).to_pydict()
    return list(zip(pairs["_key"], pairs["_first"], strict=True))


def cluster(posts: daft.DataFrame, max_distance: int) -> daft.DataFrame:
    """The posts with a text column `cluster`: equal where media are the same or linked by near duplicates.

    Args:
        posts: with id, media_kind, media_sha256 and media_dhash. A post with neither hash is alone.
        max_distance: bits of 64; clusters are chains, so their ends may be further apart.
    """
    key = daft.functions.coalesce(
        daft.functions.concat(daft.functions.concat(col("media_kind"), lit("/")), col("media_dhash")),
        daft.functions.concat(lit("sha256/"), col("media_sha256")),
        daft.functions.concat(lit("post/"), col("id")),
    )
    keyed = posts.with_column("_key", key)
    media = keyed.select("_key", "media_kind", "media_dhash", "media_sha256").collect()
    mapping = components([*_near_pairs(media, max_distance), *_equal_pairs(media)])
    return mapped(keyed.with_column_renamed("_key", "cluster"), "cluster", mapping)
