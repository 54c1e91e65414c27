"""Who is to be forgotten, and what learned from them: a run's list of one-way hashes, and what every arm saw.

The list (`forgotten.jsonl` in the run's folder) holds no id and no author's hash, only hashes of these: one
can ask of a post or author whether it is on the list, and cannot read from it who is. Collect takes what is
on it out of the pieces that reading keeps, forgetting.py out of everything else. Every trained arm's folder
has a `saw.parquet` of the same hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from behavior_llava.core import parquet
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint, write_json
from behavior_llava.data.reading import Piece

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

FORGOTTEN, SAW = "forgotten.jsonl", "saw.parquet"

_SEEN = pa.schema([("sha256", pa.binary(32))])


def post_key(post_id: str) -> str:
    """The one-way hash under which a post is known: 64 hex digits."""
    return hashlib.sha256(f"post:{post_id}".encode("utf-8", "surrogatepass")).hexdigest()


def author_key(author_hash: str) -> str:
    """The one-way hash under which an author is known, who is a salted hash already: 64 hex digits."""
    return hashlib.sha256(f"author:{author_hash}".encode("utf-8", "surrogatepass")).hexdigest()


class Forgotten:
    """Posts and authors to be forgotten, known by their keys alone.

    Args:
        keys: of `post_key` and `author_key`.
        effective: those of them whose data a run had when it forgot them.

    Attributes:
        met: those of the keys that were asked for so far.
    """

    def __init__(self, keys: Iterable[str] = (), effective: Iterable[str] = ()) -> None:
        self.keys = frozenset(keys)
        self.effective = frozenset(effective)
        self.met: set[str] = set()

    @classmethod
    def read(cls, run: Path) -> Forgotten:
        """The list of a run; empty where there is none.

        Raises:
            UserError: it cannot be read: nobody knows then who is to be left out.
        """
        path = run / FORGOTTEN
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            return cls((row["sha256"] for row in rows), (row["sha256"] for row in rows if row["was_found"]))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"cannot be read ({type(error).__name__})",
                where=path,
                remedy="bring back an unharmed copy: it says who is to be left out",
            ) from error

    def __bool__(self) -> bool:
        return bool(self.keys)

    def has_post(self, post_id: str) -> bool:
        """Whether this post is to be forgotten."""
        return self._has(post_key(post_id))

    def has_author(self, author_hash: str | None) -> bool:
        """Whether this author is; False for none."""
        return author_hash is not None and self._has(author_key(author_hash))

    def _has(self, key: str) -> bool:
        if key not in self.keys:
            return False
        self.met.add(key)
        return True

    def fingerprint(self) -> str:
        """Changes when something was taken out of the run; not by names of which the run had nothing."""
        return fingerprint(sorted(self.effective))


def remember(run: Path, keys: Iterable[str], *, was_found: bool) -> None:
    """Puts keys on the run's list for ever, all or none; those that say nothing new are left out."""
    known = Forgotten.read(run)
    new = sorted(set(keys) - (known.effective if was_found else known.keys))
    if not new:
        return
    path = run / FORGOTTEN
    part = path.with_suffix(f".{os.getpid()}.part")
    date = datetime.now(UTC).date().isoformat()
    with part.open("w", encoding="utf-8") as file:
        file.write(path.read_text(encoding="utf-8") if path.exists() else "")
        for key in new:
            file.write(json.dumps({"sha256": key, "date": date, "was_found": was_found}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


# ---- rows --------------------------------------------------------------------------------------------------


def _is(column: pa.ChunkedArray, is_wanted: Callable[[str], bool]) -> pa.ChunkedArray:
    """True where the value is wanted, False for null; each value is asked for once."""
    wanted = [value for value in pc.unique(column).to_pylist() if value is not None and is_wanted(value)]
    return pc.is_in(column, value_set=pa.array(wanted, pa.string()))


def forgotten_posts(posts: pa.Table, forgotten: Forgotten) -> set[str]:
    """Ids of the posts that are on the list, are by one of its authors, or stand on the page of one.

    Args:
        posts: with id, author_hash and channel.
    """
    is_gone = _is(posts["id"], forgotten.has_post)
    for name in ("author_hash", "channel"):
        is_gone = pc.or_(is_gone, _is(posts[name], forgotten.has_author))
    return set(posts["id"].filter(is_gone).to_pylist())


def is_forgotten_comment(comments: pa.Table, forgotten: Forgotten, gone: set[str]) -> pa.ChunkedArray:
    """True for comments on the posts `gone` or on posts of the list, and for those by its authors."""
    of_post = _is(comments["post_id"], lambda post_id: post_id in gone or forgotten.has_post(post_id))
    return pc.or_(of_post, _is(comments["author_hash"], forgotten.has_author))


# ---- pieces, as data/reading.py keeps them -----------------------------------------------------------------


def pieces(run: Path) -> list[Path]:
    """Names of all pieces a run has read and kept, also of those that are not whole."""
    files = (run / "read").glob("*/*/*/*.*")
    return sorted({file.parent / file.name.partition(".")[0] for file in files if file.name[0].isdecimal()})


def rows_of(name: Path, kind: str) -> pa.Table | None:
    """The posts or comments of a piece; None where it has none."""
    path = name.with_suffix(f".{kind}.arrow")
    if not path.exists():
        return None
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def take_out(names: Sequence[Path], run: Path, forgotten: Forgotten) -> Iterator[Piece]:
    """Takes what is on the run's list out of pieces; yields each as it is then.

    The records taken out are counted as "forgotten" among the piece's faults, so that its accounts stay
    whole. Posts that go for their author's sake are put on the list: other records of them may not name him.
    """
    gone: set[str] = set()
    for name in names:
        posts = rows_of(name, "posts")
        if posts is not None:
            gone |= forgotten_posts(posts, forgotten)
    remember(run, map(post_key, gone), was_found=False)
    for name in names:
        told = json.loads(name.with_suffix(".json").read_text(encoding="utf-8"))
        yield _without(Piece(name, **told), forgotten, gone)


def _without(piece: Piece, forgotten: Forgotten, gone: set[str]) -> Piece:
    """One piece without its forgotten rows; a killed call may be made again."""
    name = piece.name
    posts, comments = rows_of(name, "posts"), rows_of(name, "comments")
    if comments is not None:
        comments = _kept(name, "comments", comments, is_forgotten_comment(comments, forgotten, gone))
    if posts is not None:
        posts = _kept(name, "posts", posts, _is(posts["id"], gone.__contains__))
    num_posts = 0 if posts is None else posts.num_rows
    apart = 0 if comments is None else comments["_came_with"].null_count
    taken = piece.posts + piece.comments - num_posts - apart
    rows = num_posts + (0 if comments is None else comments.num_rows)
    if rows == piece.rows:
        return piece
    faults = {**piece.faults}
    if taken:
        faults["forgotten"] = faults.get("forgotten", 0) + taken
    # last: until it is written, the counts still tell how many there were
    told = {"faults": faults, "posts": num_posts, "comments": apart, "rows": rows, "is_lost": piece.is_lost}
    write_json(name.with_suffix(".json"), told)
    return Piece(name, **told)


def _kept(name: Path, kind: str, table: pa.Table, is_gone: pa.ChunkedArray) -> pa.Table:
    """Writes the rows that stay in place of the file, if any go; no file for no rows."""
    if not pc.any(is_gone).as_py():
        return table
    path = name.with_suffix(f".{kind}.arrow")
    left = table.filter(pc.invert(is_gone)).combine_chunks()
    if not left.num_rows:
        path.unlink()
        return left
    part = path.with_suffix(f".{os.getpid()}.part")
    with pa.ipc.new_file(part, left.schema) as writer:
        writer.write_table(left)
    part.replace(path)
    return left


def drop_rows(
    path: Path, columns: Sequence[str], is_gone: Callable[[dict[str, Any]], bool], *, is_dry: bool
) -> int:
    """Rewrites a Parquet file without some of its rows, for sources that erase their own; returns how many.

    Args:
        columns: those `is_gone` looks at; what is not in the file is not in its rows either.
        is_dry: only count.
    """
    with pq.ParquetFile(path) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        kept = [
            pa.array([not is_gone(row) for row in batch.to_pylist()], pa.bool_())
            for batch in file.iter_batches(8192, columns=there)
        ]
        dropped = sum(mask.false_count for mask in kept)
        if is_dry or not dropped:
            return dropped
        part = path.with_suffix(f".{os.getpid()}.part")
        with pq.ParquetWriter(part, file.schema_arrow, compression="zstd") as writer:
            for batch, mask in zip(file.iter_batches(8192), kept, strict=True):
                writer.write_batch(batch.filter(mask))
    part.replace(path)
    return dropped


# ---- SQLite ------------------------------------------------------------------------------------------------


def delete_rows(path: Path, table: str, column: str, values: Iterable[str], *, is_dry: bool) -> int:
    """Takes rows out of an SQLite file, and their bytes too, for those who keep one; returns how many.

    Args:
        column: it, or an expression, is compared with the values.
        is_dry: only count.
    """
    if not path.exists():
        return 0
    rows = [(value,) for value in values]
    with closing(sqlite3.connect(path, isolation_level=None, timeout=600)) as database:
        if is_dry:
            query = f"SELECT count(*) FROM {table} WHERE {column} = ?"
            return sum(database.execute(query, row).fetchone()[0] for row in rows)
        with database:
            database.execute("BEGIN IMMEDIATE")
            removed = database.executemany(f"DELETE FROM {table} WHERE {column} = ?", rows).rowcount
        # a deleted row's bytes stay in the file and its log until both are written anew
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return max(removed, 0)


# ---- what models saw ---------------------------------------------------------------------------------------


def save_saw(folder: Path, post_ids: Iterable[str], author_hashes: Iterable[str | None]) -> None:
    """Writes down, as one-way hashes, whose data a model is trained on; before it is.

    Args:
        folder: of the trained arm.
        post_ids: of all its rows, donors of an exchange included.
        author_hashes: of these posts and of the comments said in them; None for those without.
    """
    keys = {post_key(value) for value in post_ids}
    keys |= {author_key(value) for value in author_hashes if value is not None}
    column = pa.array(sorted(map(bytes.fromhex, keys)), _SEEN.field("sha256").type)
    parquet.write_table(folder / SAW, pa.table([column], schema=_SEEN))


def models_that_saw(run: Path, keys: Iterable[str]) -> list[str]:
    """Folders, below the run's, of the models that were trained on one of these posts or authors.

    A model that was fine-tuned later saw what its arm saw.
    """
    wanted = _seen(keys)
    folders = [
        path.parent
        for path in sorted((run / "train").rglob(SAW))
        if pc.any(pc.is_in(_saw(path), value_set=wanted)).as_py()
    ]
    return _with_finetuned(run, folders)


def models_unknown(run: Path) -> list[str]:
    """Folders, below the run's, of models of which nobody wrote down what they saw: an earlier version made
    them. Any of them may have seen anybody.
    """
    train = run / "train"
    inside = {path.relative_to(train).parts for path in train.rglob("*.safetensors")}
    arms = sorted({train.joinpath(*parts[:2]) for parts in inside if len(parts) > 2})
    return _with_finetuned(run, [arm for arm in arms if not (arm / SAW).exists()])


def seen_by_models(run: Path, keys: Iterable[str]) -> set[str]:
    """Those of the keys that stand for somebody a model was trained on."""
    left, found = _seen(keys), set[str]()
    for path in (run / "train").rglob(SAW):
        found |= {key.hex() for key in left.filter(pc.is_in(left, value_set=_saw(path))).to_pylist()}
    return found


def _seen(keys: Iterable[str]) -> pa.Array:
    return pa.array(list(map(bytes.fromhex, keys)), _SEEN.field("sha256").type)


def _saw(path: Path) -> pa.Array:
    return pq.read_table(path, schema=_SEEN)["sha256"].combine_chunks()


_WEIGHTS = ("model", "checkpoints")
"""What holds weights of a fine-tuning; a model goes when it was asked, other files stay."""


def _with_finetuned(run: Path, arms: Iterable[Path]) -> list[str]:
    """Each arm's folder, and those of what was fine-tuned from it and is still there."""
    found = []
    for arm in arms:
        finetuned = run / "evaluate" / arm.relative_to(run / "train") / "finetuned"
        found += [arm, *sorted({place.parent for place in finetuned.glob("*/*") if place.name in _WEIGHTS})]
    return [folder.relative_to(run).as_posix() for folder in found]
