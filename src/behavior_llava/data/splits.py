"""Posts to train, validation and held-out: by near-duplicate cluster, by channel, or by time; never by row.

Copies of one media item always share a split. Which one follows from names and the seed alone, not from the
order of rows, so a post keeps its split when others are added (except by time, and where a new copy joins two
clusters).
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import daft
import numpy as np
from daft import DataType, col, lit
from daft import functions as F
from pydantic import BaseModel, ConfigDict, Field, model_validator

from behavior_llava.data import duplicates

SPLITS = ("train", "validation", "heldout")

_BINS = 4096


class Config(BaseModel):
    """How posts are divided.

    Attributes:
        by: "cluster" (of near duplicates); "channel", whose posts stay together, as do channels that share a
            cluster; "time", where the newest are held out and the next validate.
        train, validation, heldout: shares of the groups (by time: of the posts), which sum to 1; met on
            average.
        seed: of the assignment by name; fixed, apart from the training seeds.
        max_distance: bits of 64 within which two media count as copies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["cluster", "channel", "time"] = "cluster"
    train: float = Field(default=0.8, ge=0, le=1)
    validation: float = Field(default=0.1, ge=0, le=1)
    heldout: float = Field(default=0.1, ge=0, le=1)
    seed: int = 0
    max_distance: int = Field(default=4, ge=0, le=15)

    @model_validator(mode="after")
    def _sums_to_one(self) -> Config:
        total = self.train + self.validation + self.heldout
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train, validation and heldout sum to {total:g}, not 1")
        return self


def _place(position: daft.Expression, config: Config) -> daft.Expression:
    """The split of a position in 0..1."""
    return (
        F.when(position < lit(config.train), lit("train"))
        .when(position < lit(config.train + config.validation), lit("validation"))
        .otherwise(lit("heldout"))
    )


@daft.func(return_dtype=DataType.float64())
def _position(name: str, seed: int) -> Any:
    """A place in 0..1 that is the name's own: sha256, so it is the same on every machine and version."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _by_channel(clustered: daft.DataFrame) -> daft.DataFrame:
    """Renames groups from clusters to channels; channels that a cluster spans become one group."""
    pairs = clustered.where(col("channel").not_null()).select("cluster", "channel").distinct().collect()
    first = pairs.groupby("cluster").agg(col("channel").min().alias("_first")).collect()
    spans = (
        pairs.join(first, on="cluster")
        .where(col("channel") != col("_first"))
        .select("channel", "_first")
        .distinct()
    )
    found = spans.to_pydict()
    joined = duplicates.components(zip(found["channel"], found["_first"], strict=True))
    named = duplicates.mapped(first, "_first", joined)
    grouped = clustered.join(named, on="cluster", how="left")
    # A cluster without any channel is a group of its own.
    return grouped.with_column("cluster", F.coalesce(col("_first"), col("cluster"))).exclude("_first")


def _by_time(clustered: daft.DataFrame, config: Config) -> daft.DataFrame:
    """Adds `_place`: the share of posts older than the cluster's first post, to 1/4096 of the span of time.

    A histogram instead of a sort, so that memory does not grow with the posts. No time at all counts as
    oldest: such a post cannot claim to be new.
    """
    first = clustered.groupby("cluster").agg(col("created_utc").min().alias("_first"))
    joined = clustered.join(first, on="cluster").collect()
    span = joined.agg(col("_first").min().alias("low"), col("_first").max().alias("high")).to_pydict()
    low, high = span["low"][0], span["high"][0]
    if low is None:
        return joined.with_column("_place", lit(0.0)).exclude("_first")
    width = (high - low) / _BINS or 1.0
    bin_of = F.clip(F.floor((col("_first") - low) / width).cast(DataType.int64()), lit(0), lit(_BINS - 1))
    joined = joined.with_column("_bin", bin_of.fill_null(0)).collect()
    counted = joined.groupby("_bin").agg(col("id").count().alias("_posts")).sort("_bin").to_pydict()
    posts = np.asarray(counted["_posts"], dtype=np.float64)
    middles = (np.cumsum(posts) - posts / 2) / posts.sum()  # a bin goes where most of it belongs
    places = daft.from_pydict({"_bin": counted["_bin"], "_place": middles.tolist()})
    return joined.join(places, on="_bin").exclude("_bin", "_first")


def assign(posts: daft.DataFrame, config: Config) -> daft.DataFrame:
    """The posts with a column `split`: "train", "validation" or "heldout".

    Args:
        posts: rows of schema.POSTS; after the filters, so that shares are of what is left.
        config: see Config.
    """
    clustered = duplicates.cluster(posts, config.max_distance)
    if config.by == "time":
        placed = _by_time(clustered, config)
    else:
        grouped = _by_channel(clustered) if config.by == "channel" else clustered
        placed = grouped.with_column("_place", _position(col("cluster"), config.seed))
    return placed.with_column("split", _place(col("_place"), config)).select(*posts.column_names, "split")
