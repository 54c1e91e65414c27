"""Sources to rows on disk: parts cut into pieces, pieces read in processes, each piece kept once it is read.

What a part gave stays until the part changes, so a killed run continues and a new day's file is read alone. A
piece that makes its process hang, crash or run out of memory costs that piece, is counted with all its
records, and the rest is read. Called by data/collect.py, which joins the rows.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from behavior_llava.core import discover, media
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import code_version, fingerprint, write_json
from behavior_llava.core.schema import (
    COMMENTS,
    POSTS,
    Comment,
    Fault,
    Part,
    Post,
    Said,
    Source,
    comment_rows,
    post_row,
)
from behavior_llava.core.workers import Workers

_ORDER = (pa.field("_key", pa.uint32()), pa.field("_row", pa.uint32()))
"""Hash of the post's id, by which the rows of a piece are sorted, so that a range of it can be read alone;
and the row's place in the piece."""

_CAME_WITH = pa.field("_came_with", pa.uint32())
"""Of a comment that came with its post, that post's `_row`; null for one that came apart."""

POSTS_READ = pa.schema([*POSTS, *_ORDER])
COMMENTS_READ = pa.schema([*COMMENTS, _CAME_WITH, *_ORDER])


PART = "part.json"


@dataclass(frozen=True, slots=True)
class Piece:
    """What one piece gave: `name` with .posts.arrow and .comments.arrow, where there were any, and counts.

    Attributes:
        faults: by reason. posts: records that became a post. comments: those that came apart. rows: of posts
            and of all comments.
        is_lost: its process was ended by a limit of time or memory, or crashed; all its records are faults.
    """

    name: Path
    faults: dict[str, int]
    posts: int
    comments: int
    rows: int
    is_lost: bool


def settings_of(source: Source, values: dict[str, Any], kind: str) -> Any:
    """The checked settings of a source."""
    from behavior_llava.core.config import check

    return check(source.config, values, where=f"collect.sources ({kind})")


def all_items(source: Source, settings: Any, folder: Path) -> Iterator[Post | Said | Fault]:
    """Everything a source gives, in this process: for looking at, and for tests."""
    for part in source.parts(settings, folder):
        for piece in [part] if source.pieces is None else source.pieces(settings, part):
            yield from source.read(settings, piece)


def read(
    kind: str, values: dict[str, Any], fetched: Path, kept: Path, *, processes: int, timeout_s: float
) -> Iterator[Piece]:
    """Reads a source into `kept`, as far as it is not there yet; yields the pieces in order as they get done.

    Args:
        kind, values: the source's name and settings.
        fetched: what its `fetch` filled.

    Raises:
        UserError: as the source does, where its files are missing or of another kind.
    """
    source: Source = discover.get("data.sources", "SOURCE", kind, where="collect.sources")
    settings = settings_of(source, values, kind)
    # another version of us or of the tables reads everything again
    version = [kind, values, code_version(), str(POSTS_READ), str(COMMENTS_READ)]
    place = kept / fingerprint(version)
    for other in kept.glob("*"):
        if other != place:
            shutil.rmtree(other)
    work = _Work(source, settings, kind, values, place)
    with Workers(read_piece, processes=processes, timeout_s=timeout_s) as workers:
        for result in workers.map(work.waiting(fetched), ahead=2):
            name, records = work.handed_out.popleft()
            if isinstance(result, media.MediaFault):
                reason = result.reason.replace("decoder", "reader")
                _save(name, [], [], Counter({reason: records}), is_lost=True)
            piece = _piece(name)
            yield piece
            work.is_done(piece)
        work.mark_whole()
    for other in place.glob("*"):
        if other.name not in work.keys:
            shutil.rmtree(other)


def _piece(name: Path) -> Piece:
    return Piece(name, **json.loads(name.with_suffix(".json").read_text(encoding="utf-8")))


class _Work:
    """The parts of a source while they are read: what was handed out, and which part is whole.

    Attributes:
        handed_out: names of pieces and their records, in order; taken away as results come.
        keys: of the parts.
    """

    def __init__(self, source: Source, settings: Any, kind: str, values: dict[str, Any], place: Path) -> None:
        self.source, self.settings, self.kind, self.values = source, settings, kind, values
        self.place = place
        self.handed_out: deque[tuple[Path, int]] = deque()
        self.keys: set[str] = set()
        self._cut: dict[Path, int] = {}
        self._read: Counter[Path] = Counter()

    def waiting(self, fetched: Path) -> Iterator[tuple[str, dict[str, Any], Any, str]]:
        """Arguments of `read_piece` for every piece; None in place of what is there already."""
        for part in self.source.parts(self.settings, fetched):
            if part.key in self.keys:
                raise UserError("one file stands twice in it", where=f"collect.sources ({self.kind})")
            self.keys.add(part.key)
            folder = self.place / part.key
            count = 0
            for piece in self._pieces(part, folder):
                name = folder / f"{count:07d}"
                count += 1
                self.handed_out.append((name, _num_records(piece)))
                # what was lost to a limit of time or memory is tried again: the limits may be others now
                is_there = name.with_suffix(".json").exists() and not _piece(name).is_lost
                yield self.kind, self.values, None if is_there else piece, str(name)
            self._cut[folder] = count

    def _pieces(self, part: Part, folder: Path) -> Iterator[Any]:
        finished = folder / PART
        if finished.exists():
            yield from [None] * json.loads(finished.read_text(encoding="utf-8"))["pieces"]
            return
        folder.mkdir(parents=True, exist_ok=True)
        yield from [part] if self.source.pieces is None else self.source.pieces(self.settings, part)

    def is_done(self, piece: Piece) -> None:
        """Counts a piece that is on disk; one that was lost keeps its part from being whole."""
        self._read[piece.name.parent] += not piece.is_lost
        self.mark_whole()

    def mark_whole(self) -> None:
        """Marks parts of which all is read, so that a later start does not even cut them again."""
        for folder, count in list(self._cut.items()):
            if self._read[folder] == count:
                del self._cut[folder], self._read[folder]
                write_json(folder / PART, {"pieces": count})


def _num_records(piece: Any) -> int:
    """How many records are lost with a piece that cannot be read: its length, or 1 where it tells none."""
    content = piece.content if isinstance(piece, Part) else piece
    return max(1, len(content)) if isinstance(content, Sized) and not isinstance(content, str) else 1


# ---- in a process of its own -------------------------------------------------------------------------------


def read_piece(kind: str, values: dict[str, Any], piece: Any, name: str) -> None:
    """Reads one piece and keeps what it gave; None in place of a piece that is there already."""
    if piece is None:
        return
    source: Source = discover.get("data.sources", "SOURCE", kind, where="collect.sources")
    settings = settings_of(source, values, kind)
    posts: list[Post] = []
    comments: list[tuple[str, Comment]] = []
    faults: Counter[str] = Counter()
    for item in source.read(settings, piece):
        if isinstance(item, Said):
            comments.append((item.post_id, item.comment))
        elif isinstance(item, Fault):
            faults[item.reason] += 1
        else:
            posts.append(item)
    _save(Path(name), posts, comments, faults)


def _save(
    name: Path,
    posts: list[Post],
    comments: list[tuple[str, Comment]],
    faults: Counter[str],
    *,
    is_lost: bool = False,
) -> None:
    """Writes a piece's rows; the .json comes last and says that all is there."""
    rows = [row for post in posts for row in comment_rows(post)]
    came_with = [place for place, post in enumerate(posts) for _ in post.comments]
    said = pa.concat_tables([_said_table(comments), pa.Table.from_pylist(rows, schema=COMMENTS)])
    tables = {
        "posts": pa.Table.from_pylist([post_row(post) for post in posts], schema=POSTS),
        "comments": said.append_column(
            _CAME_WITH, pa.array([None] * len(comments) + came_with, _CAME_WITH.type)
        ),
    }
    for kind, table in tables.items():
        path = name.with_suffix(f".{kind}.arrow")
        if not table.num_rows:
            path.unlink(missing_ok=True)  # left by an attempt that failed
        else:
            ids = table["id" if kind == "posts" else "post_id"].to_pylist()
            keys = np.array([zlib.crc32(value.encode()) for value in ids], dtype=np.uint32)
            order = np.argsort(keys, kind="stable")
            keyed = table.take(pa.array(order))
            keyed = keyed.append_column(_ORDER[0], pa.array(keys[order]))
            keyed = keyed.append_column(_ORDER[1], pa.array(order.astype(np.uint32)))
            part = path.with_suffix(f".{os.getpid()}.part")
            with pa.ipc.new_file(part, keyed.schema) as writer:
                writer.write_table(keyed.combine_chunks())
            part.replace(path)
    told = {"faults": dict(faults), "posts": len(posts), "comments": len(comments)}
    told |= {"rows": len(posts) + said.num_rows, "is_lost": is_lost}
    write_json(name.with_suffix(".json"), told)


def _said_table(comments: list[tuple[str, Comment]]) -> pa.Table:
    """Comments that came apart, column by column: a dict a row would cost more than the parsing."""
    columns: list[Any] = []
    for field in COMMENTS:
        if field.name == "post_id":
            values: list[Any] = [post for post, _ in comments]
        elif field.name == "id":
            values = [f"{post}/{comment.id}" for post, comment in comments]
        elif field.name == "position":
            values = [None] * len(comments)
        else:
            values = [getattr(comment, field.name) for _, comment in comments]
        columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=COMMENTS)
