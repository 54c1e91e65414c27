"""Rows of a CSV, TSV, Parquet or JSONL table, streamed; the ground under the table source.

Every reader gives the columns first, then (line or row number, row by column or the Fault reason it is none),
so that one broken row never hides the next.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import pyarrow.parquet as pq

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Fault
from behavior_llava.data import json_lines

Rows = Iterator[tuple[int, dict[str, Any] | str]]


def _csv_reader(file: TextIO, path: Path) -> Any:
    return csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",")


def _csv_row(columns: list[str], cells: list[str]) -> dict[str, Any] | str:
    if len(cells) != len(columns):
        return "row_broken"
    if any("\ud800" <= letter <= "\udfff" for cell in cells if not cell.isascii() for letter in cell):
        return "not_utf8"
    return dict(zip(columns, cells, strict=True))


def _csv_rows(path: Path) -> tuple[list[str], Rows]:
    # A byte that is no UTF-8 becomes half a surrogate pair and is found in its row.
    opened = partial(path.open, encoding="utf-8-sig", errors="surrogateescape", newline="")
    with opened() as file:
        columns = next(_csv_reader(file, path), [])

    def rows() -> Rows:
        with opened() as file:
            reader = _csv_reader(file, path)
            next(reader, None)
            while True:
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error:  # a cell over the csv module's limit; the next row is read again
                    yield reader.line_num, "row_broken"
                    continue
                if cells:
                    yield reader.line_num, _csv_row(columns, cells)

    return columns, rows()


def _json_rows(path: Path) -> tuple[list[str], Rows]:
    columns: dict[str, None] = {}
    for number, raw in json_lines.lines(
        path
    ):  # keys may be left out where they are null: look at more than one row
        record = json_lines.parse_json(raw, "")
        if not isinstance(record, Fault):
            columns |= dict.fromkeys(record)
        if number >= 1000:
            break

    def rows() -> Rows:
        for number, raw in json_lines.lines(path):
            if raw is None or raw.strip():
                record = json_lines.parse_json(raw, "")
                yield number, record.reason if isinstance(record, Fault) else record

    return list(columns), rows()


def _parquet_rows(path: Path, wanted: list[str]) -> tuple[list[str], Rows]:
    file = pq.ParquetFile(path)
    columns = file.schema_arrow.names

    def rows() -> Rows:
        with file:
            number = 0
            for batch in file.iter_batches(
                batch_size=1024, columns=[name for name in wanted if name in columns]
            ):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row

    return columns, rows()


def open_table(path: Path, wanted: list[str]) -> tuple[list[str], Rows]:
    """The table's columns and its rows; of Parquet only the `wanted` columns are read.

    Raises:
        UserError: for a file of another kind.
    """
    if path.suffix == ".parquet":
        return _parquet_rows(path, wanted)
    if path.suffix in (".csv", ".tsv"):
        return _csv_rows(path)
    if path.suffix in (".jsonl", ".ndjson"):
        return _json_rows(path)
    raise UserError(
        f"a table of unknown kind {path.suffix!r}",
        where=path,
        remedy="there are .csv, .tsv, .parquet, .jsonl, .ndjson",
    )
