"""Posts whose media is hosted elsewhere than the kept hosts, or has no address that says where.

Source: https://arxiv.org/abs/2405.00942 (Reddit: only images hosted by Reddit and videos hosted by YouTube).
A filter for platforms that link: what was never on the web has no address and is dropped, so local tables
leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence

import daft
from daft import col, lit
from daft import functions as F
from pydantic import BaseModel, ConfigDict, field_validator

from behavior_llava.core.schema import Filter

FAMILIES = {
    "reddit": ("i.redd.it", "preview.redd.it", "i.reddituploads.com"),
    "reddit_video": ("v.redd.it",),
    "youtube": ("youtube.com", "music.youtube.com", "youtu.be", "youtube-nocookie.com"),
    "imgur": ("i.imgur.com", "imgur.com"),
}
"""Name -> hosts, without "www." and "m.". Reddit's galleries lie on preview.redd.it; external-preview.redd.it
holds small copies of what others host, and i.ytimg.com stills, so neither is here."""

# As browsers and Python's urlsplit read it: what stands before the last "@" is no host; a port and a final
# dot do not matter. Where the two may differ ("\", brackets, blanks, letters beyond ASCII), nothing matches.
_HOST = (
    r"^\s*https?://(?:[^/?#\\\[\]\s]*@)?(?:(?:www|m)\.)?"
    r"([a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::[0-9]*)?(?:[/?#]|\s*$)"
)


class Params(BaseModel):
    """`image_hosts` and `video_hosts`: names of FAMILIES, or hosts such as "live.staticflickr.com"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_hosts: tuple[str, ...] = ("reddit",)
    video_hosts: tuple[str, ...] = ("youtube",)

    @field_validator("image_hosts", "video_hosts")
    @classmethod
    def _in_lower_case(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host.lower() for host in value)


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `host`, null without a web address; `host_family`, the host itself where it is in none; and
    `is_video`.
    """
    host = F.regexp_extract(F.lower(col("media_url")), _HOST, 1)
    family = col("host")
    for name, hosts in FAMILIES.items():
        family = F.when(col("host").is_in(list(hosts)), lit(name)).otherwise(family)
    measured = posts.with_columns({"host": host, "is_video": col("media_kind") == lit("video")})
    return measured.with_column("host_family", family)


def keep(params: Params) -> daft.Expression:
    """What lies with a kept host of its kind."""
    return F.when(col("is_video"), _is_one_of(params.video_hosts)).otherwise(_is_one_of(params.image_hosts))


def _is_one_of(hosts: Sequence[str]) -> daft.Expression:
    return (col("host_family").is_in(list(hosts)) | col("host").is_in(list(hosts))).fill_null(False)


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    examples=(
        (
            [
                {"id": "picture", "media_kind": "image", "media_url": "https://i.redd.it/a.jpg"},
                {"id": "film", "media_kind": "video", "media_url": "https://youtu.be/dQw4w9WgXcQ"},
                {"id": "elsewhere", "media_kind": "image", "media_url": "https://i.imgur.com/a.jpg"},
                {"id": "own film", "media_kind": "video", "media_url": "https://v.redd.it/a/DASH_720.mp4"},
                {"id": "disguised", "media_kind": "image", "media_url": "https://i.redd.it@evil.com/a.jpg"},
                {"id": "local", "media_kind": "image", "media_url": None},
            ],
            [],
            ["picture", "film"],
        ),
    ),
)
