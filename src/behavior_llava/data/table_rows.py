"""Rows of a CSV, TSV, Parquet or JSON-lines table in pieces; the ground under the sources that read tables.

The process that calls `cut` holds the file open and reads it once, in bounded memory; what it yields can be
sent to another process, which makes cells of it. Every row is a dict by column or the Fault reason it is
none, so that one broken row never hides the next; nor does one broken cell hide what its row refuses.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Fault
from behavior_llava.data import json_lines
from behavior_llava.data.stores import File, suffix

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")

MAX_CELL_CHARS = 2**20
"""Of a CSV cell. A quote that nobody closes takes what follows with it, up to here."""

PIECE_BYTES, PIECE_ROWS = json_lines.BLOCK_BYTES, 8192
"""What one process reads at a time, about."""

Rows = Iterator[tuple[int, dict[str, Any] | str]]


class BrokenRow(str):
    """The Fault reason of a row in which a cell is broken, and all its cells by column.

    A broken cell stays as it is: half characters, or an object that is no value of any kind.
    """

    __slots__ = ("cells",)

    cells: dict[str, Any]

    @classmethod
    def of(cls, reason: str, cells: dict[str, Any]) -> BrokenRow:
        """The row that is broken for this reason."""
        row = cls(reason)
        row.cells = cells
        return row


@dataclass(frozen=True, slots=True)
class CsvPiece:
    """Rows of a CSV file: line number, and cells or a Fault reason."""

    columns: tuple[str, ...]
    lines: tuple[tuple[int, list[str] | str], ...]

    def __len__(self) -> int:
        return len(self.lines)

    def rows(self) -> Rows:
        """The number and the cells of each row."""
        for number, cells in self.lines:
            yield number, cells if isinstance(cells, str) else _csv_row(self.columns, cells)


@dataclass(frozen=True, slots=True)
class JsonPiece:
    """Lines of a JSON-lines file."""

    block: json_lines.Block

    def __len__(self) -> int:
        data = self.block.data
        return 1 if data is None else data.count(b"\n") + (not data.endswith(b"\n"))

    def rows(self) -> Rows:
        """The number and the record of each line; blank lines are none."""
        for number, raw in self.block.lines():
            if raw is None or raw.strip():
                record = json_lines.parse_json(raw, "")
                yield number, record.reason if isinstance(record, Fault) else record


@dataclass(frozen=True, slots=True)
class ParquetPiece:
    """Rows of a Parquet file: the number of the first, and the wanted columns as an Arrow stream."""

    number: int
    num_rows: int
    data: bytes

    def __len__(self) -> int:
        return self.num_rows

    def rows(self) -> Rows:
        """The number and the cells of each row."""
        with pa.ipc.open_stream(self.data) as stream:
            batch = stream.read_next_batch()
        columns = [_cells(column) for column in batch.columns]
        for place, cells in enumerate(zip(*columns, strict=True)):
            row = dict(zip(batch.schema.names, cells, strict=True))
            yield self.number + place, BrokenRow.of("cell_broken", row) if _BROKEN in cells else row


Piece = CsvPiece | JsonPiece | ParquetPiece


def is_table(name: str) -> bool:
    """Whether a file's name is a table's."""
    return suffix(name) in SUFFIXES


def cut(file: File, wanted: Collection[str], given: Collection[str] = ()) -> Iterator[Piece]:
    """The rows of a table in pieces, in order; of Parquet only the wanted columns are read.

    Args:
        wanted: the columns that must be there, once each.
        given: those that may be missing, because something else tells them.

    Raises:
        UserError: for a file of another kind, one that cannot be read, or one that lacks a column.
    """
    if file.suffix not in SUFFIXES:
        raise UserError(
            f"a table of unknown kind {file.suffix!r}",
            where=file.place,
            remedy=f"there are {', '.join(SUFFIXES)}",
        )
    if file.suffix == ".parquet":
        yield from _parquet_pieces(file, wanted, given)
        return
    with file.stream() as stream:
        read = _csv_pieces if file.suffix in (".csv", ".tsv") else _json_pieces
        yield from read(file, stream, wanted, given)


def _check(file: File, columns: list[str], wanted: Collection[str], given: Collection[str]) -> None:
    for name in wanted:
        count = columns.count(name)
        if count == 1 or (not count and name in given):
            continue
        near = difflib.get_close_matches(name, columns, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        found = f"{count} columns called {name!r}" if count else f"no column {name!r}"
        shown = ", ".join(column[:80] for column in columns[:200])
        raise UserError(found, where=file.place, remedy=f"{hint}There are: {shown}")


# ---- CSV ---------------------------------------------------------------------------------------------------


class _Lines:
    """Lines of text for the csv module; one that is too long raises csv.Error once, then the next is read."""

    def __init__(self, stream: pa.NativeFile) -> None:
        # A byte that is no UTF-8 becomes half a surrogate pair and is found in its row.
        raw: Any = io.BufferedReader(stream)  # type: ignore[type-var]
        self.is_utf16 = raw.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        self._text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self.number = self.chars = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(4 * MAX_CELL_CHARS)
        if not line:
            raise StopIteration
        self.number += 1
        self.chars += len(line)
        if len(line) == 4 * MAX_CELL_CHARS and line[-1] not in "\r\n":
            while line and line[-1] not in "\r\n":
                line = self._text.readline(4 * MAX_CELL_CHARS)
            raise csv.Error("a line too long")
        return line


def _csv_rows(file: File, lines: _Lines) -> Iterator[tuple[int, list[str] | str]]:
    """The number of its last line and the cells of every row; a broken one once for each line it took."""
    csv.field_size_limit(MAX_CELL_CHARS)
    reader = csv.reader(lines, delimiter="\t" if file.suffix == ".tsv" else ",", strict=True)
    while True:
        before = lines.number
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:  # the next row is read again
            yield from ((number, "row_broken") for number in range(before + 1, lines.number + 1))
            continue
        if cells:
            yield lines.number, cells


def _csv_pieces(
    file: File, stream: pa.NativeFile, wanted: Collection[str], given: Collection[str]
) -> Iterator[CsvPiece]:
    lines = _Lines(stream)
    if lines.is_utf16:
        raise UserError("a text in UTF-16", where=file.place, remedy="save the table as UTF-8")
    rows = _csv_rows(file, lines)
    number, columns = next(rows, (1, "file_empty"))
    if columns == "file_empty":
        yield CsvPiece((), ((number, columns),))
        return
    if isinstance(columns, str):
        raise UserError("a first line that is no header", where=file.place, remedy="write the table again")
    _check(file, columns, wanted, given)
    held: list[tuple[int, list[str] | str]] = []
    begun, last = lines.chars, lines.number
    for number, cells in rows:
        if isinstance(cells, list) and len(cells) != len(columns):
            # an open quote ends at the next one: the rows between them are lost, each of them counted
            held += [(line, "row_broken") for line in range(last + 1, number + 1)]
        else:
            held.append((number, cells))
        last = number
        if len(held) >= PIECE_ROWS or lines.chars - begun >= PIECE_BYTES:
            yield CsvPiece(tuple(columns), tuple(held))
            held, begun = [], lines.chars
    if held:
        yield CsvPiece(tuple(columns), tuple(held))


def _csv_row(columns: tuple[str, ...], cells: list[str]) -> dict[str, Any] | str:
    row = dict(zip(columns, cells, strict=True))
    if any("\ud800" <= letter <= "\udfff" for cell in cells if not cell.isascii() for letter in cell):
        return BrokenRow.of("not_utf8", row)
    return row


# ---- JSON lines --------------------------------------------------------------------------------------------


def _json_pieces(
    file: File, stream: pa.NativeFile, wanted: Collection[str], given: Collection[str]
) -> Iterator[Piece]:
    is_first = True
    for block in _blocks(file.name, stream):
        if is_first and (columns := _keys(block)):
            _check(file, columns, wanted, given)
        is_first = False
        yield JsonPiece(block)
    if is_first:
        yield CsvPiece((), ((1, "file_empty"),))


def _blocks(name: str, stream: pa.NativeFile) -> Iterator[json_lines.Block]:
    """The lines in blocks of about PIECE_BYTES."""
    source: Any = io.BufferedReader(stream, 2**20)  # type: ignore[type-var]
    held, first, number = bytearray(), 1, 0
    while line := source.readline(json_lines.MAX_LINE_BYTES):
        number += 1
        is_too_long = len(line) == json_lines.MAX_LINE_BYTES and not line.endswith(b"\n")
        while is_too_long and line and not line.endswith(b"\n"):
            line = source.readline(json_lines.MAX_LINE_BYTES)
        if held and (is_too_long or len(held) + len(line) > PIECE_BYTES):
            yield json_lines.Block(name, first, bytes(held))
            held, first = bytearray(), number
        if is_too_long:
            yield json_lines.Block(name, number, None)
            first = number + 1
        else:
            held += line
    if held:
        yield json_lines.Block(name, first, bytes(held))


def _keys(block: json_lines.Block) -> list[str]:
    """The keys of the first thousand records: one may be left out where it is null."""
    found: dict[str, None] = {}
    for number, raw in block.lines():
        record = json_lines.parse_json(raw, "")
        if not isinstance(record, Fault):
            found |= dict.fromkeys(record)
        if number >= 1000:
            break
    return list(found)


# ---- Parquet -----------------------------------------------------------------------------------------------


def _parquet_pieces(file: File, wanted: Collection[str], given: Collection[str]) -> Iterator[ParquetPiece]:
    with file.seekable() as opened:
        # read by pages, not by row groups, which may be larger than the memory
        table = pq.ParquetFile(opened, pre_buffer=False, buffer_size=2**22)
        columns = table.schema_arrow.names
        _check(file, columns, wanted, given)
        names = [name for name in dict.fromkeys(wanted) if name in columns]
        number = 0
        for batch in table.iter_batches(batch_size=_batch_rows(table), columns=names, use_threads=False):
            for part in _parts(batch):
                yield ParquetPiece(number + 1, part.num_rows, _stream(part))
                number += part.num_rows
        if number != table.metadata.num_rows:
            raise UserError(
                f"holds {number} rows and claims {table.metadata.num_rows}",
                where=file.place,
                remedy="write the table again",
            )


def _batch_rows(table: pq.ParquetFile) -> int:
    """So many rows as make a piece, by what the file says of itself."""
    claimed = max(1, table.metadata.num_rows)
    groups = (table.metadata.row_group(index) for index in range(min(table.num_row_groups, 1000)))
    size = max(1, sum(max(0, group.total_byte_size) for group in groups))
    return min(max(64, claimed * PIECE_BYTES // size), PIECE_ROWS)


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in parts of about a piece: one text may stand in thousands of rows and once in the file."""
    rows = size = max(batch.num_rows, 1)
    if batch.nbytes > 4 * PIECE_BYTES:
        size = max(1, rows * PIECE_BYTES // batch.nbytes)
    for start in range(0, batch.num_rows, size):
        yield batch.slice(start, size)


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


_BROKEN = object()
"""Stands for a cell that no Python value can be made of, such as a text that is no UTF-8."""

_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def _cells(column: pa.Array) -> list[Any]:
    """A column's values as JSON would have them; times and days become seconds since 1970."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _seconds(column.cast(pa.int64()), 1, _UNITS[kind.unit])
    if pa.types.is_date32(kind):
        return _seconds(column.cast(pa.int32()), 86_400, 1)
    if pa.types.is_date64(kind):
        return _seconds(column.cast(pa.int64()), 1, 1000)
    try:
        values = column.to_pylist(maps_as_pydicts="strict")
    except (ValueError, KeyError, OverflowError, pa.ArrowException):
        values = [_one(item) for item in column]
    plain = _BY_KIND.get(kind.id)
    return values if plain is None else [value if value is _BROKEN else plain(value) for value in values]


def _seconds(column: pa.Array, times: int, units: int) -> list[Any]:
    return [None if value is None else value * times // units for value in column.to_pylist()]


def _one(item: pa.Scalar) -> Any:
    try:
        return item.as_py(maps_as_pydicts="strict")
    except (ValueError, KeyError, OverflowError, pa.ArrowException):
        return _BROKEN


def _plain(value: Any) -> Any:
    """A value as JSON would have it, where Parquet has more kinds; what has no such form stays as it is."""
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):  # how older writers keep texts
        try:
            return value.decode()
        except UnicodeDecodeError:
            return _BROKEN
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, list):
        items = [_plain(item) for item in value]
        return _BROKEN if _BROKEN in items else items
    if isinstance(value, dict):
        found = {key: _plain(item) for key, item in value.items()}
        return _BROKEN if _BROKEN in found.values() else found
    return value


_BY_KIND: dict[int, Callable[[Any], Any]] = dict.fromkeys(
    [
        kind.id
        for kind in (
            pa.decimal128(1),
            pa.decimal256(1),
            pa.decimal32(1),
            pa.decimal64(1),
            pa.binary(),
            pa.large_binary(),
            pa.binary(1),
            pa.list_(pa.null()),
            pa.large_list(pa.null()),
            pa.list_(pa.null(), 1),
            pa.struct([]),
            pa.map_(pa.string(), pa.null()),
            pa.uuid(),
        )
    ],
    _plain,
)
