"""Sources to tables: what is broken is counted and stops in time, what is missing never does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from behavior_llava.core.errors import UserError
from behavior_llava.data import collect as module
from behavior_llava.data.collect import CollectConfig, SourceConfig, collect


def table(folder: Path, rows: list[dict[str, Any] | str], name: str = "log.jsonl") -> SourceConfig:
    """A source of these rows; a text stands in the file as it is."""
    lines = [row if isinstance(row, str) else json.dumps({"likes": 1, **row}) for row in rows]
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
    columns = {"id": "id", "media_path": "file", "num_likes": "likes", "comments": "replies"}
    return SourceConfig(kind="table", settings={"path": str(folder / name), "columns": columns})


def post(number: int, **more: Any) -> dict[str, Any]:
    return {"id": str(number), "file": f"{number}.png", "replies": [f"reply {number}", "second"], **more}


def with_media(folder: Path, numbers: range) -> None:
    for number in numbers:
        Image.new("RGB", (8 + number, 8), (number, 0, 0)).save(folder / f"{number}.png")


def run(
    sources: list[SourceConfig], folder: Path, *, limit: int | None = None, **more: Any
) -> dict[str, Any]:
    (folder / "out").mkdir(exist_ok=True)
    return collect(CollectConfig(sources=tuple(sources), **more), folder, folder / "out", limit=limit)


def read(folder: Path, name: str) -> pa.Table:
    return pa.concat_tables(
        [pq.read_table(path) for path in sorted((folder / "out" / name).glob("*.parquet"))]
    )


def test_posts_media_and_comments(tmp_path: Path) -> None:
    with_media(tmp_path, range(3))
    facts = run([table(tmp_path, [post(0), post(1, likes="2,426"), post(2, replies=[])])], tmp_path)
    assert facts == {"records": 3, "posts": 3, "comments": 4, "faults": {}}
    posts = read(tmp_path, "posts").to_pylist()
    assert [row["id"] for row in posts] == ["table:0", "table:1", "table:2"]
    assert [(row["media_width"], row["media_height"], row["media_fault"]) for row in posts] == [
        (8, 8, None),
        (9, 8, None),
        (10, 8, None),
    ]
    assert len({row["media_sha256"] for row in posts}) == 3
    comments = read(tmp_path, "comments").to_pylist()
    assert [(row["post_id"], row["text"]) for row in comments[:2]] == [
        ("table:0", "reply 0"),
        ("table:0", "second"),
    ]
    # what Daft reads is what was written
    assert daft.read_parquet(str(tmp_path / "out" / "posts")).count_rows() == 3


# ---- broken, missing, left out -----------------------------------------------------------------------------


def test_too_many_faults_stop_with_their_reasons(tmp_path: Path) -> None:
    with_media(tmp_path, range(8))
    (tmp_path / "8.png").write_bytes(b"no picture")
    rows = [*(post(n) for n in range(9)), "{torn", post(10, likes="many")]
    with pytest.raises(UserError, match="3 of 11 records are broken") as caught:
        run([table(tmp_path, rows)], tmp_path)
    for reason in ("image_broken 1", "json_broken 1", "not_a_number 1", "max_fault_rate 2%"):
        assert reason in str(caught.value)
    # mended files are measured again
    with_media(tmp_path, range(8, 9))
    facts = run([table(tmp_path, rows)], tmp_path, max_fault_rate=0.2)
    assert facts["faults"] == {"json_broken": 1, "not_a_number": 1}


def test_faults_within_the_rate_are_counted_and_shown(tmp_path: Path) -> None:
    with_media(tmp_path, range(9))
    (tmp_path / "9.png").write_bytes(b"")
    facts = run([table(tmp_path, [post(n) for n in range(10)])], tmp_path, max_fault_rate=0.1)
    assert facts["faults"] == {"media_empty": 1}
    broken = read(tmp_path, "posts").to_pylist()[9]
    assert broken["media_fault"] == "media_empty"
    assert broken["media_sha256"] is None
    assert broken["media_width"] is None
    with pytest.raises(UserError, match="1 of 10 records are broken"):
        run([table(tmp_path, [post(n) for n in range(10)])], tmp_path, max_fault_rate=0.09)


def test_missing_media_and_what_is_no_media_never_stop(tmp_path: Path) -> None:
    with_media(tmp_path, range(1))
    rows: list[Any] = [post(n) for n in range(20)]
    rows += [post(n, file="notes.txt") for n in range(20, 30)] + [post(0) for _ in range(10)]
    facts = run([table(tmp_path, rows)], tmp_path, max_fault_rate=0.0)
    assert facts["faults"] == {"duplicate_id": 10, "media_missing": 19, "not_media": 10}
    assert (facts["records"], facts["posts"]) == (40, 20)
    assert {row["media_fault"] for row in read(tmp_path, "posts").to_pylist()[1:]} == {"media_missing"}


def test_a_limit_counts_posts_of_every_source(tmp_path: Path) -> None:
    with_media(tmp_path, range(3))
    sources = [
        table(tmp_path, [post(n) for n in range(9)], "a.jsonl"),
        table(tmp_path, [post(n) for n in range(100, 109)], "b.jsonl"),
    ]
    facts = run(sources, tmp_path, limit=3)
    assert facts["posts"] == 6
    ids = [row["id"] for row in read(tmp_path, "posts").to_pylist()]
    assert ids == [f"table:{n}" for n in (0, 1, 2, 100, 101, 102)]
    assert {row["post_id"] for row in read(tmp_path, "comments").to_pylist()} == set(ids)


def test_posts_of_two_sources_never_mix_their_comments(tmp_path: Path) -> None:
    first = table(tmp_path, [post(1), post(2)], "a.jsonl")
    second = table(tmp_path, [post(2, replies=["of another"]), post(3)], "b.jsonl")
    facts = run([first, second], tmp_path)
    assert (facts["records"], facts["posts"], facts["faults"]["duplicate_id"]) == (4, 3, 1)
    said = {(row["post_id"], row["text"]) for row in read(tmp_path, "comments").to_pylist()}
    assert said == {(f"table:{n}", text) for n in (1, 2, 3) for text in (f"reply {n}", "second")}


def test_a_limit_does_not_make_a_sound_source_look_broken(tmp_path: Path) -> None:
    rows: list[Any] = [post(n) for n in range(198)] + ["{torn", "{torn"]
    facts = run([table(tmp_path, rows)], tmp_path, limit=5, max_fault_rate=0.01)
    assert facts["posts"] == 5
    assert facts["faults"]["json_broken"] == 2
    # and does not hide broken media among the few that are left
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="image_broken 1"):
        run([table(tmp_path, rows[:198])], again(tmp_path), limit=5, max_fault_rate=0.01)


def again(folder: Path) -> Path:
    (folder / "again").mkdir()
    return folder / "again"


def test_nothing_found_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no post was found \(not_media 2\)"):
        run([table(tmp_path, [post(n, file="notes.txt") for n in range(2)])], tmp_path)
    with pytest.raises(UserError, match="did you mean 'table'"):
        run([SourceConfig(kind="tabel")], tmp_path)


# ---- kills -------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def counted(chunks: list[int], killed_at: int | None) -> Callable[..., pa.Table]:
    original = module._joined

    def joined(posts: list[Any], **more: Any) -> pa.Table:
        if len(chunks) == killed_at:
            raise Killed
        chunks.append(len(posts))
        return original(posts, **more)

    return joined


def test_a_killed_run_continues_and_ends_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = [*(post(n) for n in range(1300)), "{torn"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    source = table(tmp_path, rows)
    chunks: list[int] = []
    for folder in (whole, parts):
        folder.mkdir()
    expected = run([source], whole)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_joined", counted(chunks, killed_at=2))
        with pytest.raises(Killed):
            run([source], parts)
    assert not (parts / "out" / "posts").exists()
    again: list[int] = []
    monkeypatch.setattr(module, "_joined", counted(again, killed_at=None))
    assert run([source], parts) == expected
    assert chunks + again == [512, 512, 276]
    assert len(again) == 1
    for name in ("posts", "comments"):
        files = sorted((whole / "out" / name).iterdir())
        assert [file.name for file in files] == [
            file.name for file in sorted((parts / "out" / name).iterdir())
        ]
        for file in files:
            assert file.read_bytes() == (parts / "out" / name / file.name).read_bytes()
