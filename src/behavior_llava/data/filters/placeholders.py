"""Posts whose file is a picture that says "no longer available", which hosts send in place of what is gone.

Sources: https://github.com/dusty-nv/jetson-inference/issues/145 and
https://github.com/facebookresearch/IMGUR5K-Handwriting-Dataset/issues/10 (such pictures in data sets). Some
are known by their hash; others are told by many addresses that gave the same bytes. People post one file
under new addresses, too, but seldom twenty times; a picture that was is lost with all its copies, so the
number is not small. Stands before near_duplicate_media, which would leave one of each. Files without an
address, as in local tables, are told by hash alone.
"""

from __future__ import annotations

import daft
from daft import col, lit
from pydantic import BaseModel, ConfigDict, Field, field_validator

from behavior_llava.core.schema import Filter

KNOWN = {
    # "The image you are requesting does not exist or is no longer available". Source:
    # https://github.com/shadowmoose/RedditDownloader, src/engine/file-processing/dl-file-processing.ts
    "9b5936f4006146e4e1e9025b474c02863c0b5614132ad40db4b925a10e8bfbb9": "imgur",
    # "If you are looking for an image, it was probably deleted". Source:
    # https://github.com/milouse/chwall, chwall/utils.py
    "35a0932c61e09a8c1cad9eec75b67a03602056463ed210310d2a09cf0b002ed5": "reddit",
}
"""SHA-256 of the file -> who sends it."""


class Params(BaseModel):
    """What is taken for a placeholder.

    Attributes:
        min_urls: drops files that came from that many addresses or more; None goes by hash alone.
        more_hashes: SHA-256 of further placeholders, besides KNOWN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_urls: int | None = Field(default=20, ge=2)
    more_hashes: tuple[str, ...] = ()

    @field_validator("more_hashes")
    @classmethod
    def _in_lower_case(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sha256.lower() for sha256 in value)


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `file_hash`, "" where no file was read, and `urls_with_file`, how many addresses gave it."""
    addresses = (
        posts.where(col("media_sha256").not_null())
        .groupby("media_sha256")
        .agg(col("media_url").count_distinct().alias("_urls"))
    )
    joined = posts.join(addresses, on="media_sha256", how="left")
    return joined.with_columns(
        {"file_hash": col("media_sha256").fill_null(""), "urls_with_file": col("_urls").fill_null(0)}
    ).select(*posts.column_names, "file_hash", "urls_with_file")


def keep(params: Params) -> daft.Expression:
    """Files no sign of a placeholder was found in, and posts without a file, which are media_missing's."""
    kept = ~col("file_hash").is_in([*KNOWN, *params.more_hashes])
    return kept if params.min_urls is None else kept & (col("urls_with_file") < lit(params.min_urls))


def _post(name: str, sha256: str | None, url: str | None) -> dict[str, object]:
    return {"id": name, "media_kind": "image", "media_sha256": sha256, "media_url": url}


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    looks_at="all",
    examples=(
        (
            [
                *(_post(f"gone {n}", "aa", f"https://example.org/{n}.png") for n in range(20)),
                *(_post(f"reposted {n}", "bb", f"https://example.org/{n}.jpg") for n in range(2)),
                *(_post(f"linked {n}", "cc", "https://example.org/cc.jpg") for n in range(20)),
                *(_post(f"local {n}", "dd", None) for n in range(20)),
                _post("known", next(iter(KNOWN)), "https://i.imgur.com/a.png"),
                _post("no file", None, "https://example.org/x.jpg"),
            ],
            [],
            [
                *(f"reposted {n}" for n in range(2)),
                *(f"linked {n}" for n in range(20)),
                *(f"local {n}" for n in range(20)),
                "no file",
            ],
        ),
    ),
)
