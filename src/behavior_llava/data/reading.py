"""Sources to rows on disk: parts cut into pieces, pieces read in processes, each piece kept once it is read.

What a part gave stays until the part changes, so a killed run continues and a new day's file is read alone. A
piece that makes its process hang, crash or run out of memory costs that piece, is counted with all its
records, and the rest is read. Called by data/collect.py, which joins the rows.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from behavior_llava.core import discover, media
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint, write_json
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
        faults: by reason. posts: records that became a post, by source. comments: those that came apart.
    """

    name: Path
    faults: dict[str, int]
    posts: dict[str, int]
    comments: int


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
    version = [kind, values, metadata.version("behavior-llava"), str(POSTS_READ), str(COMMENTS_READ)]
    place = kept / fingerprint(version)
    for other in kept.glob("*"):
        if other != place:
            shutil.rmtree(other)
    work = _Work(source, settings, kind, values, place)
    with Workers(read_piece, processes=processes, timeout_s=timeout_s) as workers:
        results = workers.map(work.waiting(fetched), ahead=2)
        for result, name, records in zip(results, work.names, work.sizes, strict=False):
            if isinstance(result, media.MediaFault):
                _save(name, [], [], Counter({result.reason.replace("decoder", "reader"): records}))
            yield Piece(name, **json.loads(name.with_suffix(".json").read_text(encoding="utf-8")))
            work.is_done(name)
    for other in place.glob("*"):
        if other.name not in work.keys:
            shutil.rmtree(other)


class _Work:
    """The parts of a source while they are read: what was handed out, and which part is whole.

    Attributes:
        names, sizes: of the pieces handed out, in order; taken away as results come.
    """

    def __init__(self, source: Source, settings: Any, kind: str, values: dict[str, Any], place: Path) -> None:
        self.source, self.settings, self.kind, self.values, self.place = (
            source,
            settings,
            kind,
            values,
            place,
        )
        self.keys: set[str] = set()
        self._names: deque[Path] = deque()
        self._sizes: deque[int] = deque()
        self._whole: dict[Path, int] = {}

    @property
    def names(self) -> Iterator[Path]:
        while self._names:
            yield self._names.popleft()

    @property
    def sizes(self) -> Iterator[int]:
        while self._sizes:
            yield self._sizes.popleft()

    def waiting(self, fetched: Path) -> Iterator[tuple[str, dict[str, Any], Any, str]]:
        """Arguments of `read_piece` for every piece; None in place of what is there already."""
        for part in self.source.parts(self.settings, fetched):
            if part.key in self.keys:
                raise UserError("one file stands twice in it", where=f"collect.sources ({self.kind})")
            self.keys.add(part.key)
            folder = self.place / part.key
            number = -1
            for number, piece in enumerate(self._pieces(part, folder)):
                name = folder / f"{number:07d}"
                self._names.append(name)
                self._sizes.append(_num_records(piece))
                is_there = name.with_suffix(".json").exists()
                yield self.kind, self.values, None if is_there else piece, str(name)
            self._whole[folder / f"{number:07d}"] = number + 1

    def _pieces(self, part: Part, folder: Path) -> Iterator[Any]:
        finished = folder / PART
        if finished.exists():
            yield from [None] * json.loads(finished.read_text(encoding="utf-8"))["pieces"]
            return
        folder.mkdir(parents=True, exist_ok=True)
        yield from [part] if self.source.pieces is None else self.source.pieces(self.settings, part)

    def is_done(self, name: Path) -> None:
        """Marks a part whose last piece is read, so that a later start does not even cut it again."""
        if name in self._whole:
            write_json(name.parent / PART, {"pieces": self._whole.pop(name)})


def _num_records(piece: Any) -> int:
    """How many records are lost with a piece that cannot be read."""
    content = piece.content if isinstance(piece, Part) else piece
    return max(1, len(content)) if isinstance(content, Sized) else 1


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


def _save(name: Path, posts: list[Post], comments: list[tuple[str, Comment]], faults: Counter[str]) -> None:
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
        if table.num_rows:
            ids = table["id" if kind == "posts" else "post_id"].to_pylist()
            keys = np.array([zlib.crc32(value.encode()) for value in ids], dtype=np.uint32)
            order = np.argsort(keys, kind="stable")
            keyed = table.take(pa.array(order))
            keyed = keyed.append_column(_ORDER[0], pa.array(keys[order]))
            keyed = keyed.append_column(_ORDER[1], pa.array(order.astype(np.uint32)))
            path = name.with_suffix(f".{kind}.arrow")
            part = path.with_suffix(".part")
            with pa.ipc.new_file(part, keyed.schema) as writer:
                writer.write_table(keyed.combine_chunks())
            part.replace(path)
    counts = Counter(post.source for post in posts)
    told = {"faults": dict(faults), "posts": dict(counts), "comments": len(comments)}
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
