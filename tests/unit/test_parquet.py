"""Tables on disk: all of them in order, or no file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior_llava.core import parquet

SCHEMA = pa.schema([("item", pa.int64()), ("word", pa.string())])


def tables(sizes: list[int]) -> Iterator[pa.Table]:
    start = 0
    for size in sizes:
        items = range(start, start + size)
        yield pa.table({"item": items, "word": [f"w{item}" for item in items]}, schema=SCHEMA)
        start += size


@pytest.mark.parametrize("sizes", [[], [0], [3, 0, 2], [1] * 10, [7, 7, 7]])
def test_tables_come_back_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    monkeypatch.setattr(parquet, "ROWS_A_GROUP", 4)
    assert parquet.write_tables(tmp_path / "a.parquet", SCHEMA, tables(sizes)) == sum(sizes)
    found = pq.read_table(tmp_path / "a.parquet")
    assert found.schema == SCHEMA
    assert found["item"].to_pylist() == list(range(sum(sizes)))
    assert found["word"].to_pylist() == [f"w{item}" for item in range(sum(sizes))]
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_a_file_that_is_cut_off_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    parquet.write_tables(file, SCHEMA, tables([2]))
    before = file.read_bytes()

    def cut_off() -> Iterator[pa.Table]:
        yield from tables([50_000])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parquet.write_tables(file, SCHEMA, cut_off())
    assert file.read_bytes() == before


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    (table,) = tables([100])
    for name in ("a", "b"):
        parquet.write_table(tmp_path / f"{name}.parquet", table)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
