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
import pyarrow as pa
from daft import DataType, Series, col, lit

HASH_BITS = 64

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so no two values of a pair of pieces get one key


@daft.func.batch(return_dtype=DataType.list(DataType.uint64()))
def _bands(hashes: Series, max_distance: int) -> Any:  # a list a hash; Daft's types want Any
    """Keys of which two hashes at most `max_distance` bits apart share one.

    Cut into that many pieces and two more, two pieces must be equal (pigeonhole), so there is a key for every
    pair of pieces. Pairs, because at a million hashes, single pieces of 13 bits join far too many.
    """
    values = np.array([int(text, 16) for text in hashes.to_pylist()], dtype=np.uint64)
    edges = [HASH_BITS * index // (max_distance + 2) for index in range(max_distance + 3)]
    masks = [np.uint64((1 << high) - (1 << low)) for low, high in pairwise(edges)]
    # The pair's number goes in too: empty pieces, common in flat pictures, must not all meet under one key.
    keys = [
        (values & (left | right)) * _MIX ^ np.uint64(index * 0xC2B2AE3D27D4EB4F % 2**64)
        for index, (left, right) in enumerate(combinations(masks, 2))
    ]
    offsets = np.arange(0, len(values) * len(keys) + 1, len(keys), dtype=np.int32)
    return Series.from_arrow(pa.ListArray.from_arrays(offsets, np.stack(keys, axis=1).ravel()))


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


def _near_pairs(media: daft.DataFrame, max_distance: int) -> list[tuple[str, str]]:
    """Pairs of distinct keys whose hashes are at most `max_distance` bits apart, within one kind of media."""
    hashes = media.where(col("media_dhash").not_null()).select("_key", "media_kind", "media_dhash").distinct()
    banded = hashes.with_column("band", _bands(col("media_dhash"), max_distance)).explode("band").collect()
    other = banded.select(
        col("_key").alias("_other"), col("media_kind"), col("band"), col("media_dhash").alias("_other_dhash")
    )
    pairs = (
        banded.join(other, on=["media_kind", "band"])
        .where(col("_key") < col("_other"))
        .where(_distance(col("media_dhash"), col("_other_dhash")) <= lit(max_distance))
        .select("_key", "_other")
        .distinct()
        .to_pydict()
    )
    return list(zip(pairs["_key"], pairs["_other"], strict=True))


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
