"""Posts that show what an earlier post shows; the earliest stays and takes in the others' comments."""

from __future__ import annotations

import daft
from daft import col, lit
from daft import functions as F
from pydantic import BaseModel, ConfigDict, Field

from behavior_llava.core.schema import Filter
from behavior_llava.data import duplicates


class Params(BaseModel):
    """`max_distance`: bits of 64 in which perceptual hashes may differ; 4 finds recompressed copies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_distance: int = Field(default=4, ge=0, le=15)


_SHIFT = 2**61
"""Moves times, which may lie before 1970, above 0, so that digits sort as they do; no time sorts last."""


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `duplicate_of`: the earliest post (then smallest id) of its cluster; null for that post itself."""
    time = (col("created_utc").fill_null(_SHIFT) + _SHIFT).cast(daft.DataType.string())
    order = F.concat(F.concat(F.lpad(time, 20, "0"), lit("/")), col("id"))
    clustered = duplicates.cluster(posts, params.max_distance).with_column("_order", order)
    first = clustered.groupby("cluster").agg(col("_order").min().alias("_first"))
    joined = clustered.join(first, on="cluster")
    other = F.when(col("_order") != col("_first"), F.substr(col("_first"), 21)).otherwise(None)
    return joined.with_column("duplicate_of", other).select(*posts.column_names, "duplicate_of")


def keep(params: Params) -> daft.Expression:
    """The earliest of every cluster."""
    return col("duplicate_of").is_null()


def _post(name: str, created_utc: int, dhash: str | None, sha256: str | None) -> dict[str, object]:
    return {
        "id": name,
        "media_kind": "image",
        "created_utc": created_utc,
        "media_dhash": dhash,
        "media_sha256": sha256,
    }


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    looks_at="all",
    measured_with=("max_distance",),
    pools="duplicate_of",
    examples=(
        (
            [
                _post("later", 20, "00ff00ff00ff00ff", "aa"),
                _post("first", 10, "00ff00ff00ff00f0", "bb"),
                _post("other", 5, "00ff00ff00ff0fe0", "cc"),
                _post("unread", 1, None, None),
                _post("copy", 2, None, "cc"),
            ],
            [],
            ["first", "unread", "copy"],
        ),
    ),
)
