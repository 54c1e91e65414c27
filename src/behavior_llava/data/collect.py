"""Sources to two tables: posts with what their media files are, and comments.

Reading, joining and measuring go piece by piece in processes that can be killed, and what is done stays, so a
killed run continues and a later one reads only what is new. A file that cannot be read becomes a reason in
its row, a record that cannot be parsed a counted fault. Who opted out or gave no consent is in neither table,
nor is who is to be forgotten. Called by stages.py's collect stage.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import Field

from behavior_llava.core.config import Config
from behavior_llava.core.discover import get
from behavior_llava.core.errors import UserError
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Source
from behavior_llava.data import joining, ledger, measuring, reading
from behavior_llava.data.download import DownloadConfig

NOT_FAULTS = frozenset(
    {
        "not_media",
        "not_a_video",
        "not_youtube",
        "duplicate_id",
        "media_missing",
        "comment_without_post",
        "cohort_too_small",
    }
)
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
            design.md. Before training it holds for the rows of the instruction data and of the posts again.
        processes: that read and decode; timeout_s: after which one of them is killed.
        download: how media that are not at hand are fetched by their URL; off unless it is enabled.
    """

    sources: tuple[SourceConfig, ...]
    max_fault_rate: float = 0.02
    processes: int = 2
    timeout_s: float = 60.0
    download: DownloadConfig = DownloadConfig()


def source_of(entry: SourceConfig) -> tuple[Source, Any]:
    """The declared source of a config entry and its checked settings."""
    source: Source = get("data.sources", "SOURCE", entry.kind, where="collect.sources")
    return source, reading.settings_of(source, entry.settings, entry.kind)


def fetched_folder(run: Path, number: int) -> Path:
    """Where the n-th source's fetched material lies."""
    return run / "fetched" / f"{number}"


def collect(config: CollectConfig, run: Path, folder: Path, *, limit: int | None) -> dict[str, Any]:
    """Reads every source into `folder`/posts and `folder`/comments, one pair of files a bucket.

    Args:
        run: what the pieces gave and what media were measured stays in it, for the next time.
        limit: at most so many posts a source; None for all.

    Returns:
        Counts for the manifest: rows in, kept, posts refused, records forgotten, faults by reason.

    Raises:
        UserError: a source's files are not there or not in its format, nothing was found, or too much is
            broken.
    """
    found = _read(config, run)
    faults: Counter[str] = Counter()
    for piece in (piece for pieces in found for piece in pieces):
        faults.update(piece.faults)
    records = sum(piece.posts + piece.comments for pieces in found for piece in pieces) + faults.total()
    forgotten = faults.pop("forgotten", 0)
    joined = _join(found, folder / "joined", limit, config.processes)
    posts = sum(part.posts for part in joined)
    refused = {name: sum(getattr(part, name) for part in joined) for name in ("no_consent", "opted_out")}
    faults["duplicate_id"] += sum(part.duplicates for part in joined)
    if not posts:
        shutil.rmtree(folder / "joined")
        left_out = +(faults + Counter(refused | {"forgotten": forgotten}))
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(left_out.items()))
        raise UserError(
            f"no post was found ({reasons or 'the sources are empty'})",
            where="collect.sources",
            remedy="check the paths and the formats in the config",
        )
    downloads = measuring.fetch(config.download, run / "media", folder / "joined" / "posts")
    media_faults = measuring.measure(
        run,
        folder,
        posts,
        processes=config.processes,
        timeout_s=config.timeout_s,
        fetched=config.download.enabled,
    )
    # a limit leaves posts out, but the faults between them were read: each share has its own whole
    broken = _num_broken(faults) + _num_broken(media_faults)
    fault_rate = _num_broken(faults) / records + _num_broken(media_faults) / posts
    faults += media_faults
    if fault_rate > config.max_fault_rate:
        told = ", ".join(
            f"{reason} {count}" for reason, count in sorted(faults.items()) if reason not in NOT_FAULTS
        )
        raise UserError(
            f"{broken} of {records} records are broken ({told}), more than max_fault_rate "
            f"{config.max_fault_rate:.0%}",
            where="collect",
            remedy="mend the files, or raise collect.max_fault_rate knowingly",
        )
    shutil.rmtree(folder / "joined")
    return {
        "records": records,
        "posts": posts,
        "comments": sum(part.comments for part in joined),
        "comments_without_post": sum(part.orphans for part in joined),
        "comments_repeated": sum(part.repeated for part in joined),
        "refused": refused,
        "forgotten": forgotten,
        "downloads": dict(sorted(downloads.items())),
        "faults": dict(sorted((+faults).items())),
    }


def _num_broken(faults: Counter[str]) -> int:
    return sum(count for reason, count in faults.items() if reason not in NOT_FAULTS)


def _read(config: CollectConfig, run: Path) -> list[list[reading.Piece]]:
    """The pieces of every source, in order, without what is to be forgotten."""
    found: list[list[reading.Piece]] = []
    for number, entry in enumerate(config.sources):
        found.append([])
        with progress(f"reading {entry.kind}", None) as advance:
            for piece in reading.read(
                entry.kind,
                entry.settings,
                fetched_folder(run, number),
                run / "read" / f"{number}",
                processes=config.processes,
                timeout_s=config.timeout_s,
            ):
                found[-1].append(piece)
                advance(piece.posts + piece.comments)
    if forgotten := ledger.Forgotten.read(run):
        names = [piece.name for pieces in found for piece in pieces]
        left = ledger.take_out(names, run, forgotten)
        found = [[next(left) for _ in pieces] for pieces in found]
    return found


def _join(
    read: Sequence[Sequence[reading.Piece]], folder: Path, limit: int | None, processes: int
) -> list[joining.Joined]:
    """Joins all buckets, as many at a time as there are processes: Arrow's work needs none of its own."""
    pieces = [[piece.name for piece in of_source] for of_source in read]
    buckets = joining.num_buckets(sum(piece.rows for of_source in read for piece in of_source))
    for old in (folder, folder.parent / "posts", folder.parent / "comments"):
        if old.exists():
            shutil.rmtree(old)  # of an earlier start, which may have had other buckets
    for kind in ("posts", "comments"):
        (folder / kind).mkdir(parents=True)
    ids = None
    if limit is not None:
        ids = set[str]().union(*(joining.first_posts(names, limit) for names in pieces))
    in_order = [name for names in pieces for name in names]

    def one(bucket: int) -> joining.Joined:
        name = f"{bucket:04d}.parquet"
        return joining.join(
            in_order, bucket, buckets, folder / "posts" / name, folder / "comments" / name, ids
        )

    with progress("joining", buckets) as advance, ThreadPoolExecutor(processes) as pool:
        found = []
        for part in pool.map(one, range(buckets)):
            found.append(part)
            advance()
        return found
