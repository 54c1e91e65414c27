"""Sources to two tables: posts with what their media files are, and comments.

Reading and measuring go chunk by chunk, so a killed run continues; a file that cannot be read becomes a
reason in its row, a record that cannot be parsed a counted fault. Called by stages.py's collect stage.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from behavior_llava.core import chunks, media
from behavior_llava.core.config import Config
from behavior_llava.core.discover import get
from behavior_llava.core.errors import UserError
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import COMMENTS, POSTS, Fault, Post, Source, comment_rows, post_row
from behavior_llava.data.scratch import Scratch, scratch

NOT_FAULTS = frozenset({"not_media", "not_a_video", "duplicate_id", "media_missing"})
"""What is normal in the wild: counted, but no sign that something is broken."""


class SourceConfig(Config):
    """One source of posts.

    Attributes:
        kind: file name of the source in data/sources.
        settings: the source's own config.
    """

    kind: str
    settings: dict[str, Any] = Field(default_factory=dict)


class CollectConfig(Config):
    """What is collected.

    Attributes:
        max_fault_rate: share of records and media that may be broken before the stage stops; 0.02 as in
            design.md.
        processes: that decode media; timeout_s: after which a decoder is killed.
    """

    sources: tuple[SourceConfig, ...]
    max_fault_rate: float = 0.02
    processes: int = 2
    timeout_s: float = 60.0


def source_of(entry: SourceConfig) -> tuple[Source, Any]:
    """The declared source of a config entry and its checked settings."""
    from behavior_llava.core.config import check

    source: Source = get("data.sources", "SOURCE", entry.kind, where="collect.sources")
    return source, check(source.config, entry.settings, where=f"collect.sources ({entry.kind})")


def world_folder(run: Path, number: int) -> Path:
    """Where the n-th source's fetched material lies."""
    return run / "fetched" / f"{number}"


def collect(config: CollectConfig, run: Path, folder: Path, *, limit: int | None) -> dict[str, Any]:
    """Reads every source into `folder`/posts and `folder`/comments.

    Args:
        limit: at most so many posts a source; None for all.

    Returns:
        Counts for the manifest: rows in, kept, faults by reason.

    Raises:
        UserError: a source's files are not there or not in its format, nothing was found, or too much is
            broken.
    """
    faults: Counter[str] = Counter()
    seen = read = 0
    with scratch(folder) as ids:
        for number, entry in enumerate(config.sources):
            source, settings = source_of(entry)
            counts: Counter[str] = Counter()
            posts = _posts(source.read(settings, world_folder(run, number)), counts, faults, limit)
            if len(config.sources) > 1:
                posts = _new_posts(posts, ids, counts, faults)
            with (
                progress(f"collecting {entry.kind}", None) as advance,
                media.Workers(
                    media.measure, processes=config.processes, timeout_s=config.timeout_s
                ) as workers,
            ):
                place = folder / "joined" / f"{number}"
                seen += chunks.write(place, posts, partial(_joined, workers=workers), done=advance)
            read += counts.total()
    if not seen:
        reasons = (
            ", ".join(f"{reason} {count}" for reason, count in sorted(faults.items()))
            or "the sources are empty"
        )
        raise UserError(
            f"no post was found ({reasons})",
            where="collect.sources",
            remedy="check the paths and the formats in the config",
        )
    posts_rows, comments_rows, media_faults = _split(folder)
    # a limit leaves posts out, but the faults between them were read: each share has its own whole
    total = read + faults.total()
    broken = _num_broken(faults) + _num_broken(media_faults)
    fault_rate = _num_broken(faults) / total + _num_broken(media_faults) / seen
    faults += media_faults
    if fault_rate > config.max_fault_rate:
        told = ", ".join(
            f"{reason} {count}" for reason, count in sorted(faults.items()) if reason not in NOT_FAULTS
        )
        # files that are mended must be measured again
        shutil.rmtree(folder / "joined")
        raise UserError(
            f"{broken} of {total} records are broken ({told}), more than max_fault_rate "
            f"{config.max_fault_rate:.0%}",
            where="collect",
            remedy="mend the files, or raise collect.max_fault_rate knowingly",
        )
    return {
        "records": total,
        "posts": posts_rows,
        "comments": comments_rows,
        "faults": dict(sorted(faults.items())),
    }


def _num_broken(faults: Counter[str]) -> int:
    return sum(count for reason, count in faults.items() if reason not in NOT_FAULTS)


def _posts(
    stream: Iterator[Post | Fault], counts: Counter[str], faults: Counter[str], limit: int | None
) -> Iterator[Post]:
    for item in stream:
        if isinstance(item, Fault):
            faults[item.reason] += 1
            continue
        # the sandbox yields the posts of several sources
        counts[item.source] += 1
        if limit is None or counts[item.source] <= limit:
            yield item


_JOINED = pa.schema([("post", pa.struct(list(POSTS))), ("comments", pa.list_(pa.struct(list(COMMENTS))))])


def _new_posts(
    posts: Iterator[Post], ids: Scratch, counts: Counter[str], faults: Counter[str]
) -> Iterator[Post]:
    """Posts whose id no source has given before: comments belong to an id, so two posts would mix theirs."""
    for post in posts:
        if ids.is_new(post.id):
            yield post
        else:
            counts[post.source] -= 1
            faults["duplicate_id"] += 1


def _joined(posts: list[Post], workers: media.Workers) -> pa.Table:
    found = [post for post in posts if post.media_path is not None]
    results = dict(
        zip(
            [post.id for post in found],
            workers.map([(Path(str(post.media_path)), post.media_kind) for post in found]),
            strict=True,
        )
    )
    rows = []
    for post in posts:
        row = post_row(post)
        result = results.get(post.id)
        if result is None:
            row["media_fault"] = "media_missing"
        elif isinstance(result, media.MediaFault):
            row["media_fault"] = result.reason
        else:
            row |= {
                "media_sha256": result.sha256,
                "media_dhash": result.dhash,
                "media_width": result.width,
                "media_height": result.height,
                "duration_s": result.duration_s if result.duration_s is not None else post.duration_s,
            }
        rows.append({"post": row, "comments": comment_rows(post)})
    return pa.Table.from_pylist(rows, schema=_JOINED)


def _split(folder: Path) -> tuple[int, int, Counter[str]]:
    """Joined chunks to the two tables, and the reasons of unusable media."""
    faults: Counter[str] = Counter()
    counts = {"posts": 0, "comments": 0}
    for part in sorted((folder / "joined").glob("*/*.parquet")):
        name = f"{part.parent.name}-{part.name}"
        rows = chunks.read_rows(part)
        posts = [row["post"] for row in rows]
        comments = [comment for row in rows for comment in row["comments"]]
        faults.update(post["media_fault"] for post in posts if post["media_fault"] is not None)
        for kind, values, schema in (("posts", posts, POSTS), ("comments", comments, COMMENTS)):
            (folder / kind).mkdir(exist_ok=True)
            chunks.write_table(folder / kind / name, pa.Table.from_pylist(values, schema=schema))
            counts[kind] += len(values)
    return counts["posts"], counts["comments"], faults
