"""A temporary SQLite file beside the driver's memory: comments waiting for their post, and ids already seen.

Dumps hold more comments than memory does, and comments and posts come in separate files; sources put comments
here first and take them out post by post. Texts are scrubbed and names hashed before they get here.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path

from behavior_llava.core.schema import Comment

_FIELDS = tuple(field.name for field in fields(Comment))
_INSERT = f"INSERT INTO comments VALUES ({', '.join('?' * (len(_FIELDS) + 1))})"
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM comments WHERE post = ? ORDER BY rowid"


class Scratch:
    """Opened with `scratch(folder)`; one writer, one reader, gone afterwards."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Makes the tables in a new file."""
        self._connection = connection
        connection.execute("PRAGMA journal_mode = OFF")  # nobody recovers a temporary file
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.execute(f"CREATE TABLE comments (post, {', '.join(_FIELDS)})")
        connection.execute("CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def add_comment(self, post: str, comment: Comment) -> None:
        """Stores a comment of a post; findable after `index`."""
        self._connection.execute(_INSERT, (post, *(getattr(comment, name) for name in _FIELDS)))

    def index(self) -> None:
        """Makes the comments findable; called once, after the last: one sort instead of a seek a comment."""
        self._connection.execute("CREATE INDEX by_post ON comments (post)")

    def comments_of(self, post: str) -> tuple[Comment, ...]:
        """The post's comments in the order they came; of two with one id, the later (overlapping dumps)."""
        rows = self._connection.execute(_SELECT, (post,))
        # SQLite knows no booleans: the last field, is_pinned, comes back as 0 or 1.
        comments = (Comment(*row[:-1], is_pinned=None if row[-1] is None else bool(row[-1])) for row in rows)
        return tuple({comment.id: comment for comment in comments}.values())

    def is_new(self, identifier: str) -> bool:
        """True the first time an id is asked about."""
        cursor = self._connection.execute("INSERT OR IGNORE INTO seen VALUES (?)", (identifier,))
        return cursor.rowcount == 1


@contextmanager
def scratch(folder: Path | None = None) -> Iterator[Scratch]:
    """A Scratch in a new folder inside `folder`, or where the system keeps such; removed at the end."""
    inside = folder if folder is not None and folder.is_dir() else None
    with (
        tempfile.TemporaryDirectory(dir=inside, prefix="scratch_") as place,
        closing(sqlite3.connect(Path(place) / "scratch.sqlite", isolation_level=None)) as connection,
    ):
        yield Scratch(connection)
