"""Sources to two tables: posts with what their media files are, and comments.

Reading, joining and measuring go piece by piece in processes that can be killed, and what is done stays, so a
killed run continues and a later one reads only what is new. A file that cannot be read becomes a reason in
its row, a record that cannot be parsed a counted fault. Called by stages.py's collect stage.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from pydantic import Field

from behavior_llava.core import chunks, media
from behavior_llava.core.config import Config
from behavior_llava.core.discover import get
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import POSTS, Source
from behavior_llava.core.workers import Workers
from behavior_llava.data import joining, reading
from behavior_llava.data.download import DownloadConfig, Ledger, Wanted, download

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

NOT_FAULTS = frozenset(
    {"not_media", "not_a_video", "duplicate_id", "media_missing", "comment_without_post", "cohort_too_small"}
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
            design.md.
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


def world_folder(run: Path, number: int) -> Path:
    """Where the n-th source's fetched material lies."""
    return run / "fetched" / f"{number}"


def collect(config: CollectConfig, run: Path, folder: Path, *, limit: int | None) -> dict[str, Any]:
    """Reads every source into `folder`/posts and `folder`/comments, one pair of files a bucket.

    Args:
        run: what the pieces gave and what media were measured stays in it, for the next time.
        limit: at most so many posts a source; None for all.

    Returns:
        Counts for the manifest: rows in, kept, faults by reason.

    Raises:
        UserError: a source's files are not there or not in its format, nothing was found, or too much is
            broken.
    """
    faults: Counter[str] = Counter()
    pieces: list[list[Path]] = [[] for _ in config.sources]
    records = rows = 0
    for number, entry in enumerate(config.sources):
        with progress(f"reading {entry.kind}", None) as advance:
            for piece in reading.read(
                entry.kind,
                entry.settings,
                world_folder(run, number),
                run / "read" / f"{number}",
                processes=config.processes,
                timeout_s=config.timeout_s,
            ):
                pieces[number].append(piece.name)
                faults.update(piece.faults)
                new = sum(piece.posts.values()) + piece.comments
                rows, records = rows + new, records + new + sum(piece.faults.values())
                advance(new)
    joined = _join(pieces, joining.num_buckets(rows), folder / "joined", limit, config.processes)
    posts = sum(part.posts for part in joined)
    faults["duplicate_id"] += sum(part.duplicates for part in joined)
    orphans = sum(part.orphans for part in joined)
    if not posts:
        shutil.rmtree(folder / "joined")
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted((+faults).items()))
        raise UserError(
            f"no post was found ({reasons or 'the sources are empty'})",
            where="collect.sources",
            remedy="check the paths and the formats in the config",
        )
    downloads = _download(config.download, run / "media", folder / "joined" / "posts", posts)
    media_faults = _measure(config, run, folder, posts)
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
        "comments_without_post": orphans,
        "downloads": dict(sorted(downloads.items())),
        "faults": dict(sorted((+faults).items())),
    }


def _num_broken(faults: Counter[str]) -> int:
    return sum(count for reason, count in faults.items() if reason not in NOT_FAULTS)


def _join(
    pieces: Sequence[Sequence[Path]], buckets: int, folder: Path, limit: int | None, processes: int
) -> list[joining.Joined]:
    """Joins all buckets, as many at a time as there are processes: Arrow's work needs none of its own."""
    if folder.exists():
        shutil.rmtree(folder)
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


# ---- media -------------------------------------------------------------------------------------------------

CHUNK = 512
"""Posts whose media are measured at a time; what a kill costs at most."""

_MEASURED = pa.schema(
    [
        POSTS.field(name)
        for name in (
            "media_sha256",
            "media_dhash",
            "media_width",
            "media_height",
            "media_fault",
            "duration_s",
        )
    ]
)


def _download(config: DownloadConfig, media_folder: Path, posts: Path, number: int) -> Counter[str]:
    """Fetches the media that are not at hand, where the config asks for it; counts by outcome.

    What was taken away is not fetched. YouTube's pages hold no file: its videos come from a download tool.
    """
    if not config.enabled:
        return Counter()
    columns = ["id", "media_url", "media_path", "media_kind", "removed_by"]

    def wanted() -> Iterator[Wanted]:
        for part in sorted(posts.iterdir()):
            for batch in pq.ParquetFile(part).iter_batches(batch_size=CHUNK, columns=columns):
                for row in batch.to_pylist():
                    if _is_wanted(row):
                        yield Wanted(row["id"], row["media_url"], row["media_kind"])

    with progress("downloading media", None) as advance:
        return download(config, media_folder, wanted(), done=advance)


def _is_wanted(row: dict[str, Any]) -> bool:
    if row["media_path"] is not None or row["removed_by"] is not None or row["media_url"] is None:
        return False
    return _WATCH_PAGE.match(row["media_url"]) is None


_WATCH_PAGE = re.compile(r"https?://([\w-]+\.)*(youtube|youtu\.be|youtube-nocookie)\b", re.IGNORECASE)


def _measure(config: CollectConfig, run: Path, folder: Path, posts: int) -> Counter[str]:
    """Completes every joined bucket with what the media files are; returns the reasons of unusable ones."""
    faults: Counter[str] = Counter()
    used: set[Path] = set()
    kept = run / "measured"
    kept.mkdir(exist_ok=True)
    for kind in ("posts", "comments"):
        (folder / kind).mkdir(exist_ok=True)
    with (
        progress("looking at media files", posts) as advance,
        Workers(
            media.measure,
            processes=config.processes,
            timeout_s=config.timeout_s,
            quarantine=kept / "quarantine.jsonl",
        ) as workers,
        ExitStack() as open_while,
    ):
        ledger = open_while.enter_context(Ledger(run / "media")) if config.download.enabled else None
        for part in sorted((folder / "joined" / "posts").iterdir()):
            done = []
            for batch in pq.ParquetFile(part).iter_batches(batch_size=CHUNK):
                rows = batch.to_pylist()
                if ledger is not None:
                    _take_downloads(rows, ledger)
                states = [_state(row) for row in rows]
                place = kept / f"{fingerprint(states)}.parquet"
                if not place.exists():
                    chunks.write_table(place, _measured(rows, workers))
                used.add(place)
                measured = pq.read_table(place)
                faults.update(value for value in measured["media_fault"].to_pylist() if value is not None)
                paths = pa.array([row["media_path"] for row in rows], pa.string())
                done.append(_completed(pa.Table.from_batches([batch]), paths, measured))
                advance(len(rows))
            whole = pa.concat_tables([POSTS.empty_table(), *done])
            chunks.write_table(folder / "posts" / part.name, whole)
            comments = folder / "joined" / "comments" / part.name
            (folder / "comments" / part.name).unlink(missing_ok=True)
            (folder / "comments" / part.name).hardlink_to(comments)
    for place in set(kept.glob("*.parquet")) - used:
        place.unlink()
    return faults


def _take_downloads(rows: list[dict[str, Any]], ledger: Ledger) -> None:
    """Gives posts the files that were fetched for them."""
    for row in rows:
        found = ledger.lookup(row["media_url"]) if _is_wanted(row) else None
        if found is not None:
            row["media_path"] = found.path


def _state(row: dict[str, Any]) -> tuple[Any, ...]:
    """The file of a post in its present state."""
    if row["media_path"] is None:
        return (row["id"],)
    try:
        found = Path(row["media_path"]).stat()
    except OSError:
        return (row["id"], row["media_path"])
    return (row["id"], row["media_path"], row["media_kind"], found.st_size, found.st_mtime_ns)


def _measured(rows: list[dict[str, Any]], workers: Workers) -> pa.Table:
    found = [row for row in rows if row["media_path"] is not None]
    files = [(Path(row["media_path"]), row["media_kind"]) for row in found]
    results = dict(zip([row["id"] for row in found], workers.map(files), strict=True))
    return pa.Table.from_pylist([_facts(results.get(row["id"])) for row in rows], schema=_MEASURED)


def _facts(result: media.Measured | media.MediaFault | None) -> dict[str, Any]:
    if result is None:
        return {"media_fault": "media_missing"}
    if isinstance(result, media.MediaFault):
        return {"media_fault": result.reason}
    return {
        "media_sha256": result.sha256,
        "media_dhash": result.dhash,
        "media_width": result.width,
        "media_height": result.height,
        "duration_s": result.duration_s,
    }


def _completed(posts: pa.Table, paths: pa.Array, measured: pa.Table) -> pa.Table:
    """Posts with their files and measured columns; a file's own duration wins over the platform's rounded
    one.
    """
    place = posts.schema.get_field_index("media_path")
    posts = posts.set_column(place, POSTS.field("media_path"), paths)
    for name in measured.column_names:
        values = measured[name]
        if name == "duration_s":
            values = pc.coalesce(values, posts[name])
        posts = posts.set_column(posts.schema.get_field_index(name), POSTS.field(name), values)
    return posts.cast(POSTS)
