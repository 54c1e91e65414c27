"""The table source: column maps, numbers, paths, and what is wrong with rows and tables."""

import csv
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Curve, Fault, Post
from behavior_llava.data.sources import table

SHARED = Path(os.environ.get("BEHAVIOR_LLAVA_SHARED", Path(__file__).parents[2].parent / "shared"))
TILES = SHARED / "behaviour" / "data" / "images_sophoappeal_tiles" / "behaviour.csv"
COLUMNS = {"id": "name", "media_path": "file"}


def read(path, columns=None, **config):
    made = table.Config(path=path, columns=COLUMNS | (columns or {}), **config)
    items = list(table.read(made, path.parent))
    return [item for item in items if isinstance(item, Post)], [
        item for item in items if isinstance(item, Fault)
    ]


def write_csv(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.skipif(not TILES.is_file(), reason="the real samples are not here")
def test_real_tiles(tmp_path):
    columns = {"id": "image", "media_path": "image", "num_likes": "likes", "num_views": "views"}
    items = list(table.read(table.Config(path=TILES, columns=columns), tmp_path))
    assert len(items) == 357
    assert all(isinstance(item, Post) and item.media_path and item.num_likes is not None for item in items)
    assert (items[0].num_likes, items[0].num_views) == (52, 152)


def test_csv_with_everything(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    path = write_csv(
        tmp_path / "log.csv",
        "\ufeffname,file,likes,when,loves,curve,who,nsfw,said\n"
        '7,a.jpg,"2,426",2020-01-02T00:00:00,3,,jo,no,"so nice, @jo"\n'
        '8,b.mp4,,1577923200.5,,"[1.2, 0.5]",,TRUE,\n',
    )
    columns = {
        "num_likes": "likes",
        "created_utc": "when",
        "reactions.love": "loves",
        "retention": "curve",
        "author_hash": "who",
        "is_nsfw": "nsfw",
        "comments": "said",
        "duration_s": "loves",
    }
    posts, faults = read(path, columns, platform="ours")
    first = posts[0]
    assert (first.id, first.num_likes, first.created_utc, first.is_nsfw) == (
        "ours:7",
        2426,
        1577923200,
        False,
    )
    assert first.reactions == {"love": 3}
    assert first.media_path == str((tmp_path / "a.jpg").resolve())
    assert [comment.text for comment in first.comments] == ["so nice, <user>"]
    assert first.author_hash.startswith("u_")
    assert faults == [Fault("curve_broken", "log.csv:3")]  # no duration, so no time line
    assert "jo" not in repr(first.comments)


def test_parquet_and_jsonl_hold_lists(tmp_path):
    rows = [
        {
            "name": 1,
            "file": "v.mp4",
            "said": ["one", None, "two a@b.org"],
            "curve": [1.0, 0.5],
            "s": 4.0,
            "n": 3,
        },
        {"name": 2, "file": "v.mp4", "said": None, "curve": None, "s": None, "n": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "log.jsonl").write_text(text + "\n{broken\n", encoding="utf-8")
    columns = {"comments": "said", "retention": "curve", "duration_s": "s", "num_likes": "n"}
    for name, broken in (("log.parquet", []), ("log.jsonl", [Fault("json_broken", "log.jsonl:4")])):
        posts, faults = read(tmp_path / name, columns)
        assert faults == broken
        assert [comment.text for comment in posts[0].comments] == ["one", "two <email>"]
        assert posts[0].retention == Curve((0.0, 2.0), (2.0, 4.0), (1.0, 0.5))
        assert (posts[1].comments, posts[1].retention, posts[1].num_likes) == ((), None, None)


def test_parquet_times_and_nan(tmp_path):
    columns = {"name": ["a"], "file": ["a.jpg"], "n": [float("nan")], "t": [datetime(2020, 1, 2, tzinfo=UTC)]}
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    posts, _ = read(tmp_path / "log.parquet", {"num_likes": "n", "created_utc": "t"})
    assert (posts[0].num_likes, posts[0].created_utc) == (None, 1577923200)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("2,4", "not_a_number"),
        ("many", "not_a_number"),
        ("-1", "not_a_number"),
        ("1.5", "not_a_number"),
        ("nan", "not_a_number"),
        ("1e400", "not_a_number"),
        ("9" * 30, "not_a_number"),
        ("0x10", "not_a_number"),
    ],
)
def test_what_is_no_count(tmp_path, cell, reason):
    path = write_csv(tmp_path / "log.csv", f'name,file,likes\n1,a.jpg,5\n2,a.jpg,"{cell}"\n3,a.jpg,3.0\n')
    posts, faults = read(path, {"num_likes": "likes"})
    assert [post.num_likes for post in posts] == [5, 3]
    assert faults == [Fault(reason, "log.csv:3")]


def test_broken_rows(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    huge = b"x" * (csv.field_size_limit() + 1)
    rows = [
        b"name,file",
        b"1,a.jpg,extra",
        b"2",
        b"\xff,a.jpg",
        huge + b",a.jpg",
        b"",
        b"3,a.txt",
        b",a.jpg",
        b"4,a.jpg",
    ]
    path.write_bytes(b"\n".join([*rows, b"4,b.jpg"]) + b"\n")
    posts, faults = read(path)
    assert [post.id for post in posts] == ["table:4"]
    reasons = [
        "row_broken",
        "row_broken",
        "not_utf8",
        "row_broken",
        "not_media",
        "id_missing",
        "duplicate_id",
    ]
    assert [fault.reason for fault in faults] == reasons
    assert faults[-1].where == "log.csv:10"


@pytest.mark.parametrize(
    "name",
    ["../secret.jpg", "link.jpg", "/etc/secret.jpg", "a/../../secret.jpg", "loop/x.jpg", "n" * 5000 + ".jpg"],
)
def test_paths_never_lead_outside(tmp_path, name):
    media = tmp_path / "media"
    media.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (media / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (media / "loop").symlink_to(media / "loop")
    path = write_csv(tmp_path / "log.csv", f"name,file\n1,{name}\n")
    posts, faults = read(path, media=media)
    assert not [post for post in posts if post.media_path]
    assert [fault.reason for fault in faults] == ["media_outside"]


def test_an_absent_file_is_null_and_an_inner_path_is_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").write_bytes(b"x")
    inside = tmp_path / "sub" / "a.jpg"
    path = write_csv(tmp_path / "log.csv", f"name,file\n1,sub/a.jpg\n2,{inside}\n3,gone.jpg\n")
    posts, faults = read(path)
    assert [post.media_path for post in posts] == [str(inside.resolve())] * 2 + [None]
    assert not faults


def test_a_missing_column_names_the_nearest(tmp_path):
    path = write_csv(tmp_path / "log.csv", "name,file,num_likes\n1,a.jpg,3\n")
    with pytest.raises(
        UserError, match=r"no column 'num_like'; did you mean 'num_likes'\? There are: name, file, num_likes"
    ):
        read(path, {"num_likes": "num_like"})
    write_csv(path, "name,file,file\n1,a.jpg,b.jpg\n")
    with pytest.raises(UserError, match="2 columns called 'file'"):
        read(path)


def test_tables_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "gone.csv")
    (tmp_path / "log.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "log.parquet")
    (tmp_path / "log.xlsx").write_bytes(b"x")
    with pytest.raises(UserError, match="unknown kind"):
        read(tmp_path / "log.xlsx")
    (tmp_path / "log.csv").write_bytes(b"")
    with pytest.raises(UserError, match="no column 'name'"):
        read(tmp_path / "log.csv")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": "a", "media_path": "b", "num_like": "c"}, "did you mean 'num_likes'"),
        ({"id": "a"}, "must name a column for media_path"),
        ({"id": "a", "media_path": "b", "title.x": "c"}, "no Post field 'title.x'"),
        ({"id": "a", "media_path": "b", "is_synthetic": "c"}, "no Post field 'is_synthetic'"),
    ],
)
def test_unknown_fields_in_the_map(tmp_path, columns, message):
    with pytest.raises(ValidationError, match=message):
        table.Config(path=tmp_path / "x.csv", columns=columns)
