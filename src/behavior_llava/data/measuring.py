"""Media files of collected posts: fetched where they are not at hand, and measured once.

What a file is (hash, size, length, or why it cannot be read) is kept by its path and state, so posts may
come, go and move between buckets and no file is decoded twice. Called by data/collect.py.
"""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from behavior_llava.core import media, parquet
from behavior_llava.core.manifest import code_version, fingerprint
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import POSTS
from behavior_llava.core.workers import CRASHED, TIMEOUT, Workers
from behavior_llava.data.download import DownloadConfig, Ledger, Wanted, download
from behavior_llava.data.ledger import delete_rows

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers


CHUNK = 512
"""Posts whose media are measured at a time; what a kill costs at most."""

MEASURES = "measures.sqlite"

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


def fetch(config: DownloadConfig, media_folder: Path, posts: Path) -> Counter[str]:
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


def measure(
    run: Path, folder: Path, posts: int, *, processes: int, timeout_s: float, fetched: bool
) -> Counter[str]:
    """Completes every joined bucket with what the media files are; returns the reasons of unusable ones.

    Args:
        run: keeps the measures. folder: has joined/, gets posts/ and comments/.
        fetched: take the files that `fetch` brought for posts without one.
    """
    faults: Counter[str] = Counter()
    for kind in ("posts", "comments"):
        (folder / kind).mkdir(exist_ok=True)
    with (
        progress("looking at media files", posts) as advance,
        Measures(run / "measured") as measures,
        Workers(
            media.measure,
            processes=processes,
            timeout_s=timeout_s,
            quarantine=measures.folder / "quarantine.jsonl",
        ) as workers,
        ExitStack() as open_while,
    ):
        ledger = open_while.enter_context(Ledger(run / "media")) if fetched else None
        for part in sorted((folder / "joined" / "posts").iterdir()):
            done = []
            for batch in pq.ParquetFile(part).iter_batches(batch_size=CHUNK):
                rows = batch.to_pylist()
                if ledger is not None:
                    _take_downloads(rows, ledger)
                measured = _measured(rows, workers, measures)
                faults.update(value for value in measured["media_fault"].to_pylist() if value is not None)
                paths = pa.array([row["media_path"] for row in rows], pa.string())
                done.append(_completed(pa.Table.from_batches([batch]), paths, measured))
                advance(len(rows))
            whole = pa.concat_tables([POSTS.empty_table(), *done])
            parquet.write_table(folder / "posts" / part.name, whole)
            (folder / "joined" / "comments" / part.name).replace(folder / "comments" / part.name)
        measures.forget_others()
    return faults


class Measures:
    """What media files are, by path and state: measured once, whatever becomes of the posts around them.

    A context manager over `folder`/measures.sqlite; for one thread.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._database = sqlite3.connect(folder / MEASURES, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS measures"
            " (state TEXT PRIMARY KEY, facts TEXT, start TEXT) WITHOUT ROWID"
        )
        self._start = uuid.uuid4().hex

    def __enter__(self) -> Measures:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def find(self, state: str) -> dict[str, Any] | None:
        """The facts of a file in this state; None where it was not measured."""
        row = self._database.execute("SELECT facts FROM measures WHERE state = ?", (state,)).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, found: Mapping[str, dict[str, Any]]) -> None:
        """Writes down facts, in one transaction; what a limit ended may end otherwise the next time."""
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT OR REPLACE INTO measures VALUES (?, ?, ?)",
            (
                (state, json.dumps(facts), self._start)
                for state, facts in found.items()
                if facts.get("media_fault") not in (TIMEOUT, CRASHED, media.OUT_OF_MEMORY)
            ),
        )
        self._database.execute("COMMIT")

    def forget_others(self) -> None:
        """Lets go of files that were not met in this start."""
        self._database.execute("DELETE FROM measures WHERE start != ?", (self._start,))


def forget(folder: Path, hashes: Iterable[str], *, is_dry: bool) -> int:
    """Takes out of the measures in a folder all that is known of media with these hashes; returns how many.

    Args:
        is_dry: only count.
    """
    column = "json_extract(facts, '$.media_sha256')"
    return delete_rows(folder / MEASURES, "measures", column, hashes, is_dry=is_dry)


def _take_downloads(rows: list[dict[str, Any]], ledger: Ledger) -> None:
    """Gives posts the files that were fetched for them."""
    for row in rows:
        found = ledger.lookup(row["media_url"]) if _is_wanted(row) else None
        if found is not None:
            row["media_path"] = found.path


def _state(row: dict[str, Any]) -> str | None:
    """The media file of a post in its present state; None where there is no file."""
    if row["media_path"] is None:
        return None
    try:
        found = Path(row["media_path"]).stat()
    except OSError:
        return None
    state = (row["media_path"], row["media_kind"], found.st_size, found.st_mtime_ns)
    return fingerprint([code_version(), *state])


def _measured(rows: list[dict[str, Any]], workers: Workers, measures: Measures) -> pa.Table:
    """What the rows' files are, in the rows' order; new ones are measured."""
    states = [_state(row) for row in rows]
    known = {state: measures.find(state) for state in set(states) if state is not None}
    new = {
        state: (Path(row["media_path"]), row["media_kind"])
        for row, state in zip(rows, states, strict=True)
        if state is not None and known[state] is None
    }
    known |= {state: _facts(result) for state, result in zip(new, workers.map(new.values()), strict=True)}
    found = {state: facts for state, facts in known.items() if facts is not None}
    measures.keep(found)
    missing = {"media_fault": "media_missing"}
    facts = [missing if state is None else found[state] for state in states]
    return pa.Table.from_pylist(facts, schema=_MEASURED)


def _facts(result: media.Measured | media.MediaFault) -> dict[str, Any]:
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
