"""Long row-by-row work in chunks that survive a kill: one Parquet file a chunk, written whole or not at all.

The items must come in the same order each time; chunks that are there are not computed again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

T = TypeVar("T")


def write(
    folder: Path,
    items: Iterable[T],
    rows: Callable[[list[T]], pa.Table],
    *,
    size: int = 512,
    done: Callable[[int], None] | None = None,
) -> int:
    """Runs `rows` over chunks of `items` and keeps each result in `folder`.

    Args:
        rows: makes the table of one chunk.
        size: items a chunk; must not change between runs over the same folder.
        done: told the number of items of every chunk, also of those that were there already.

    Returns:
        How many items there were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remaining = iter(items)
    count = 0
    for number in itertools.count():
        chunk = list(itertools.islice(remaining, size))
        if not chunk:
            return count
        target = folder / f"{number:06d}.parquet"
        if not target.exists():
            write_table(target, rows(chunk))
        count += len(chunk)
        if done is not None:
            done(len(chunk))
    raise AssertionError("unreachable")


def write_table(path: Path, table: pa.Table) -> None:
    """One Parquet file, whole or not at all; the same table gives the same bytes."""
    part = path.with_suffix(f".{os.getpid()}.part")
    pq.write_table(table, part, compression="zstd")
    part.replace(path)


def read(folder: Path, schema: pa.Schema) -> pa.Table:
    """All chunks of a folder as one table of this schema, in order; without rows where there is no chunk."""
    files = sorted(folder.glob("*.parquet"))
    return pa.concat_tables([schema.empty_table(), *(pq.read_table(file) for file in files)])


def stream(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of all chunks, in order, one batch in memory at a time."""
    for file in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=512):
            yield from batch.to_pylist()


def concat(tables: Iterable[pa.Table]) -> pa.Table:
    """Tables of one schema, one after the other."""
    return pa.concat_tables(list(tables))
