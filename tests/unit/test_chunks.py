"""Chunks on disk: computed once, whole or not at all, the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior_llava.core import chunks

SCHEMA = pa.schema([("item", pa.int64()), ("square", pa.int64())])


class Killed(BaseException):
    pass


class Rows:
    """Squares; notes which chunks were asked for, and is killed at one of them."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.asked: list[list[int]] = []
        self.killed_at = killed_at

    def __call__(self, items: list[int]) -> pa.Table:
        if len(self.asked) == self.killed_at:
            raise Killed
        self.asked.append(items)
        return pa.table({"item": items, "square": [item * item for item in items]})


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_all_items_come_back_in_order(tmp_path: Path) -> None:
    rows, done = Rows(), []
    assert chunks.write(tmp_path / "new", iter(range(10)), rows, size=4, done=done.append) == 10
    assert rows.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert done == [4, 4, 2]
    assert chunks.read(tmp_path / "new", SCHEMA)["square"].to_pylist() == [n * n for n in range(10)]
    assert [row["item"] for row in chunks.stream(tmp_path / "new")] == list(range(10))


def test_more_than_ten_chunks_keep_their_order(tmp_path: Path) -> None:
    chunks.write(tmp_path, range(25), Rows(), size=2)
    assert chunks.read(tmp_path, SCHEMA)["item"].to_pylist() == list(range(25))


def test_a_killed_run_computes_only_what_is_missing(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    chunks.write(whole, range(10), Rows(), size=3)
    with pytest.raises(Killed):
        chunks.write(parts, range(10), Rows(killed_at=2), size=3)
    assert [path.name for path in sorted(parts.iterdir())] == ["000000.parquet", "000001.parquet"]
    (parts / "000000.parquet").unlink()
    rows, done = Rows(), []
    assert chunks.write(parts, range(10), rows, size=3, done=done.append) == 10
    assert rows.asked == [[0, 1, 2], [6, 7, 8], [9]]
    assert done == [3, 3, 3, 1]
    assert content(parts) == content(whole)
    again = Rows()
    chunks.write(parts, range(10), again, size=3)
    assert again.asked == []


def test_a_torn_write_leaves_nothing_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(table: pa.Table, where: Path, **_: object) -> None:
        Path(where).write_bytes(b"PAR1 half of it")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", torn)
        with pytest.raises(Killed):
            chunks.write(tmp_path, range(4), Rows(), size=4)
    assert list(tmp_path.glob("*.parquet")) == []
    assert list(chunks.stream(tmp_path)) == []
    rows = Rows()
    chunks.write(tmp_path, range(4), rows, size=4)
    assert rows.asked == [[0, 1, 2, 3]]
    assert chunks.read(tmp_path, SCHEMA)["item"].to_pylist() == [0, 1, 2, 3]


def test_a_torn_write_keeps_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    chunks.write_table(path, pa.table({"a": [1]}))
    monkeypatch.setattr(pq, "write_table", lambda *_, **__: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        chunks.write_table(path, pa.table({"a": [2]}))
    assert pq.read_table(path).to_pylist() == [{"a": 1}]


def test_one_table_one_content(tmp_path: Path) -> None:
    table = pa.table({"a": list(range(1000)), "b": [str(n % 7) for n in range(1000)]})
    chunks.write_table(tmp_path / "x.parquet", table)
    chunks.write_table(tmp_path / "y.parquet", table)
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "y.parquet").read_bytes()


def test_no_items_leave_an_empty_folder(tmp_path: Path) -> None:
    assert chunks.write(tmp_path / "x", [], Rows()) == 0
    assert list((tmp_path / "x").iterdir()) == []
    assert chunks.read(tmp_path / "x", SCHEMA) == SCHEMA.empty_table()


def test_tables_of_different_schemas_are_not_joined(tmp_path: Path) -> None:
    with pytest.raises(pa.ArrowInvalid):
        chunks.concat([pa.table({"a": [1]}), pa.table({"b": [1]})])
    assert chunks.concat([pa.table({"a": [1]}), pa.table({"a": [2]})])["a"].to_pylist() == [1, 2]
