"""Parquet files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_A_GROUP = 20_000
"""So many rows of small tables are written together."""


def write_table(path: Path, table: pa.Table) -> None:
    """One Parquet file, whole or not at all; the same table gives the same bytes."""
    part = path.with_suffix(f".{os.getpid()}.part")
    pq.write_table(table, part, compression="zstd")
    part.replace(path)


def write_tables(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """One Parquet file of tables that come one after the other, whole or not at all; the number of rows."""
    part, count, held = path.with_suffix(f".{os.getpid()}.part"), 0, 0
    waiting = [schema.empty_table()]
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for table in tables:
            count += table.num_rows
            held += table.num_rows
            waiting.append(table)
            if held >= ROWS_A_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting, held = [schema.empty_table()], 0
        writer.write_table(pa.concat_tables(waiting))
    part.replace(path)
    return count
