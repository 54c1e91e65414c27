"""What was found out about media once and is not to be found out again: facts by media hash and settings.

One SQLite file, which several processes may read and write at once; it also knows which media the files on
disk are, so that an unchanged file is not read again. What is kept can be taken out by the media's hash, so
that forgotten media leave nothing behind. Called by everything that looks at media, listens to it or has a
model describe it.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint

_TABLES = (
    "CREATE TABLE IF NOT EXISTS facts (kind TEXT, sha256 TEXT, settings TEXT, facts TEXT,"
    " PRIMARY KEY (kind, sha256, settings)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS files (state TEXT PRIMARY KEY, sha256 TEXT) WITHOUT ROWID",
)
_WAIT_S = 600.0
"""For another process that is writing."""


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None, timeout=_WAIT_S)
    end_s = time.monotonic() + _WAIT_S
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            for table in _TABLES:
                database.execute(table)
            return database
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself for a process that is making the file, or tidying up after itself
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end_s:
                database.close()
                raise
            time.sleep(0.01)


class Cache:
    """Facts of one kind under one setting; a context manager for one thread.

    Args:
        path: of the SQLite file; made where it is not there.
        kind: what is known, e.g. "captions".
        settings: everything the facts depend on but the media itself; any JSON value.
    """

    def __init__(self, path: Path, kind: str, settings: Any) -> None:
        self._kind, self._settings = kind, fingerprint(settings)
        self._database = _opened(path)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def find(self, sha256: str) -> Any:
        """The facts about a media file; None where there are none yet."""
        row = self._database.execute(
            "SELECT facts FROM facts WHERE kind = ? AND sha256 = ? AND settings = ?",
            (self._kind, sha256, self._settings),
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, found: Mapping[str, Any]) -> None:
        """Writes down the facts of media files by their hash, all of them or none."""
        rows = [
            (self._kind, sha256, self._settings, json.dumps(facts, allow_nan=False))
            for sha256, facts in found.items()
        ]
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)", rows)


class Hashes:
    """Which media a file is, as long as it has not changed; a context manager for one thread.

    Args:
        path: of the SQLite file; made where it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._database = _opened(path)

    def __enter__(self) -> Hashes:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def find(self, state: str) -> str | None:
        """The hash of a file in this state (see `file_state`); None where it is not known."""
        row = self._database.execute("SELECT sha256 FROM files WHERE state = ?", (state,)).fetchone()
        return None if row is None else row[0]

    def keep(self, state: str, sha256: str) -> None:
        """Writes down the hash of a file in this state."""
        self._database.execute("INSERT OR REPLACE INTO files VALUES (?, ?)", (state, sha256))


def file_state(path: str) -> str | None:
    """Names a file as it is now, by its path, size and time of change; None where there is none."""
    try:
        whole = Path(path).absolute()
        found = whole.stat()
    except (OSError, ValueError):
        return None
    return fingerprint([str(whole), found.st_size, found.st_mtime_ns])


def forget(path: Path, hashes: Iterable[str]) -> int:
    """Takes everything about these media out of the file, and their bytes too; returns the facts removed.

    Raises:
        UserError: another process is reading the file, and does not stop.
    """
    if not path.exists():
        return 0
    rows = [(value,) for value in hashes]
    database = _opened(path)
    try:
        with database:
            database.execute("BEGIN IMMEDIATE")
            removed = database.executemany("DELETE FROM facts WHERE sha256 = ?", rows).rowcount
            database.executemany("DELETE FROM files WHERE sha256 = ?", rows)
        # a deleted row's bytes stay in the file and its log until both are written anew
        database.execute("VACUUM")
        is_busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        database.close()
    if is_busy:
        raise UserError(
            "is being read by another process", where=path, remedy="wait for it, then forget again"
        )
    return max(removed, 0)
