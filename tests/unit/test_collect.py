"""Sources to tables: what is broken is counted and stops in time, what is missing never does."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import daft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from behavior_llava.core import discover
from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Post
from behavior_llava.core.workers import Workers
from behavior_llava.data import joining, json_lines, ledger, measuring, people, reading
from behavior_llava.data.collect import CollectConfig, SourceConfig, collect
from behavior_llava.data.sources import reddit as reddit_source


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
    assert facts == {
        "records": 3,
        "posts": 3,
        "comments": 4,
        "comments_without_post": 0,
        "comments_repeated": 0,
        "refused": {"no_consent": 0, "opted_out": 0},
        "forgotten": 0,
        "downloads": {},
        "faults": {},
    }
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


# ---- the join ----------------------------------------------------------------------------------------------


def reddit(
    folder: Path, posts: list[dict[str, Any]], comments: list[dict[str, Any]], month: str
) -> SourceConfig:
    """A dump of a month in `folder`."""
    folder.mkdir(exist_ok=True)
    base = {"subreddit": "pics", "author": "someone", "url": "https://i.redd.it/x.jpg", "body": "well seen"}
    for kind, rows in (("RS", posts), ("RC", comments)):
        lines = "".join(json.dumps(base | row) + "\n" for row in rows)
        (folder / f"{kind}_{month}.ndjson").write_text(lines)
    return SourceConfig(kind="reddit", settings={"path": str(folder)})


def test_the_latest_counts_of_a_post_win_and_comments_find_it(tmp_path: Path) -> None:
    reddit(
        tmp_path / "dump",
        [
            {"id": "aa", "score": 1, "retrieved_on": 50},
            {"id": "bb", "score": 2},
            {"id": "cc", "score": 3, "retrieved_on": 90},
        ],
        [
            {"id": "c1", "link_id": "t3_aa", "score": 1},
            {"id": "c1", "link_id": "t3_bb", "score": 5},
            {"id": "c2", "link_id": "t3_zz"},
        ],
        "2020-01",
    )
    source = reddit(
        tmp_path / "dump",
        [
            {"id": "aa", "score": 10, "retrieved_on": 60},
            {"id": "bb", "score": 20},
            {"id": "cc", "score": 30},
        ],
        [{"id": "c0", "link_id": "t3_aa"}, {"id": "c1", "link_id": "t3_aa", "score": 7}],
        "2020-02",
    )
    facts = run([source], tmp_path)
    assert facts["faults"] == {"duplicate_id": 3, "media_missing": 3}
    assert (facts["records"], facts["posts"], facts["comments"], facts["comments_without_post"]) == (
        11,
        3,
        3,
        1,
    )
    scores = {row["id"]: row["score"] for row in read(tmp_path, "posts").to_pylist()}
    # aa: read later; bb: in doubt the first; cc: a known time wins over none
    assert scores == {"reddit:aa": 10, "reddit:bb": 2, "reddit:cc": 3}
    said = [(row["id"], row["position"], row["score"]) for row in read(tmp_path, "comments").to_pylist()]
    assert sorted(said) == [("reddit:aa/c0", 0, None), ("reddit:aa/c1", 1, 7), ("reddit:bb/c1", 0, 5)]


def test_buckets_hold_whole_threads_and_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = [{"id": f"p{number}"} for number in range(60)]
    comments = [
        {"id": f"c{number}", "link_id": f"t3_p{number % 60}", "score": number} for number in range(600)
    ]
    source = reddit(tmp_path / "dump", posts, comments, "2020-01")
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 4000)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    expected = run([source], whole)
    monkeypatch.setattr(joining, "BUCKET_ROWS", 100)
    assert run([source], cut) == expected
    assert expected["comments"] == 600
    files = sorted((cut / "out" / "posts").iterdir())
    assert len(files) == 7
    for kind, key in (("posts", "id"), ("comments", "id")):
        one, many = read(whole, kind), read(cut, kind)
        assert one.sort_by(key) == many.sort_by(key)
    for file in files:
        ids = set(pq.read_table(file)["id"].to_pylist())
        threads = pq.read_table(cut / "out" / "comments" / file.name)
        assert set(threads["post_id"].to_pylist()) == ids
        assert threads.num_rows == 10 * len(ids)


# ---- who refused, and who is to be forgotten ---------------------------------------------------------------


def claims(folder: Path, name: str, rows: list[dict[str, Any]]) -> SourceConfig:
    """Posts with what they say of consent ("agreed", "out") and when they were read ("read")."""
    plain = {"file": "none.png", "likes": 1, "agreed": None, "out": None, "read": None, "by": None}
    lines = [json.dumps({**plain, "replies": [f"on {row['id']}"], **row}) for row in rows]
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
    columns = {"id": "id", "media_path": "file", "num_likes": "likes", "comments": "replies"}
    columns |= {"has_consent": "agreed", "is_opted_out": "out", "retrieved_utc": "read", "author_hash": "by"}
    return SourceConfig(kind="table", settings={"path": str(folder / name), "columns": columns})


def ids_of(folder: Path) -> set[str]:
    return {row["id"].removeprefix("table:") for row in read(folder, "posts").to_pylist()}


def test_who_opted_out_or_did_not_agree_is_in_no_table_with_all_comments(tmp_path: Path) -> None:
    with_media(tmp_path, range(6))
    rows = [
        {"id": "0", "file": "0.png"},
        {"id": "1", "file": "1.png", "out": True},
        {"id": "2", "file": "2.png", "agreed": False},
        {"id": "3", "file": "3.png", "agreed": True, "out": False},
        {"id": "4", "file": "4.png", "agreed": False, "out": True},
        {"id": "5", "file": "5.png", "agreed": "no"},
    ]
    facts = run([claims(tmp_path, "a.jsonl", rows)], tmp_path, max_fault_rate=0)
    assert facts["refused"] == {"no_consent": 2, "opted_out": 2}
    assert (facts["records"], facts["posts"], facts["comments"], facts["faults"]) == (6, 2, 2, {})
    assert ids_of(tmp_path) == {"0", "3"}
    assert {row["text"] for row in read(tmp_path, "comments").to_pylist()} == {"on 0", "on 3"}
    for file in (tmp_path / "out").rglob("*.parquet"):
        assert b"1.png" not in file.read_bytes()
    with pytest.raises(UserError, match=r"no post was found \(opted_out 1\)"):
        run([claims(tmp_path, "b.jsonl", rows[1:2])], again(tmp_path))


LAST_WORDS = [
    # the record that is kept is the first one, and the other one still counts
    ({}, {"out": True}, False),
    ({"read": 90}, {"out": True}, False),
    ({"read": 90, "out": False}, {"read": 50, "out": True}, False),
    ({"out": True}, {}, False),
    ({"read": 50, "out": True}, {"read": 90}, False),
    ({"agreed": True}, {"agreed": False}, False),
    ({"read": 90, "agreed": False}, {"read": 50, "agreed": True}, False),
    # taken back, later in every sense
    ({"out": True}, {"out": False}, True),
    ({"read": 50, "out": True}, {"read": 90, "out": False}, True),
    ({"agreed": False}, {"agreed": True}, True),
    ({"agreed": True}, {}, True),
]


def test_the_last_word_on_consent_counts_in_whatever_record(tmp_path: Path) -> None:
    records = [
        [{"id": str(number), **case[place]} for number, case in enumerate(LAST_WORDS)] for place in (0, 1)
    ]
    sources = [claims(tmp_path, "a.jsonl", records[0]), claims(tmp_path, "b.jsonl", records[1])]
    facts = run(sources, tmp_path)
    assert ids_of(tmp_path) == {str(number) for number, case in enumerate(LAST_WORDS) if case[2]}
    assert facts["refused"] == {"no_consent": 2, "opted_out": 5}
    assert facts["faults"]["duplicate_id"] == len(LAST_WORDS)


def test_media_of_a_refused_post_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(config: Any, folder: Path, wanted: Any, done: Any) -> Counter[str]:
        asked.extend(item.key for item in wanted)
        return Counter()

    monkeypatch.setattr(measuring, "download", download)
    columns = {"id": "id", "media_url": "url", "is_opted_out": "out"}
    rows = [{"id": n, "url": f"https://example.org/{n}.jpg", "out": n == 1} for n in range(3)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = SourceConfig(kind="table", settings={"path": str(tmp_path / "log.jsonl"), "columns": columns})
    run([source], tmp_path, download={"enabled": True})
    assert asked == ["table:0", "table:2"]


def test_the_forgotten_stay_out_also_where_the_raw_files_still_hold_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = [{"id": "aa"}, {"id": "bb", "author": "leaver"}, {"id": "cc"}, {"id": "dd"}]
    comments = [
        {"id": "c1", "link_id": "t3_aa", "body": "by one who goes", "author": "leaver"},
        {"id": "c2", "link_id": "t3_aa", "body": "who stays"},
        {"id": "c3", "link_id": "t3_bb", "body": "below what goes"},
        {"id": "c4", "link_id": "t3_cc", "body": "below what goes, too"},
    ]
    source = reddit(tmp_path / "dump", posts, comments, "2020-01")
    leaver = people.hash_author("leaver", people.DEFAULT_SALT)
    assert leaver is not None
    ledger.remember(tmp_path, [ledger.post_key("reddit:cc"), ledger.author_key(leaver)], was_found=True)
    facts = run([source], tmp_path)
    assert (facts["records"], facts["posts"], facts["comments"], facts["forgotten"]) == (8, 2, 1, 5)
    assert facts["comments_without_post"] == 0
    assert run([source], tmp_path) == facts, "counted alike when nothing is read again"
    assert [row["text"] for row in read(tmp_path, "comments").to_pylist()] == ["who stays"]

    # another dump with more of them; one record of their post no longer names them
    reddit(
        tmp_path / "dump",
        [{"id": "bb", "author": "[deleted]"}, {"id": "ee", "author": "leaver"}],
        [{"id": "c5", "link_id": "t3_ee", "author": "leaver"}],
        "2020-02",
    )
    assert run([source], tmp_path)["forgotten"] == 8
    # and when all is read anew, by another version
    monkeypatch.setattr(reading, "code_version", lambda: "another")
    facts = run([source], tmp_path)
    assert (facts["records"], facts["posts"], facts["comments"], facts["forgotten"]) == (11, 2, 1, 8)
    files = [path for path in (tmp_path / "read").rglob("*") if path.is_file()]
    assert len(files) >= 6
    for path in [*files, *(tmp_path / "out").rglob("*.parquet")]:
        for bad in (leaver, "reddit:bb", "reddit:cc", "reddit:ee", "one who goes", "what goes"):
            assert bad.encode() not in raw(path), f"{bad} in {path}"


def raw(path: Path) -> bytes:
    """A file's bytes; of Parquet the values, which it packs."""
    if path.suffix != ".parquet":
        return path.read_bytes()
    return json.dumps(pq.read_table(path).to_pylist()).encode()


# ---- what is read stays read -------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch, killed_at: int | None = None) -> list[str]:
    """The pieces that are read, in this process instead of several; Killed at the given one."""
    pieces: list[str] = []
    original = reading.read_piece

    def read_piece(kind: str, values: dict[str, Any], piece: Any, name: str) -> None:
        if piece is not None:
            if len(pieces) == killed_at:
                raise Killed
            pieces.append(Path(name).name)
        original(kind, values, piece, name)

    monkeypatch.setattr(reading, "read_piece", read_piece)
    monkeypatch.setattr(reading, "Workers", InThisProcess)
    return pieces


class Killed(BaseException):
    pass


class InThisProcess:
    """In place of Workers: a function of the test's own cannot be handed to a process."""

    def __init__(self, function: Callable[..., Any], **settings: Any) -> None:
        self.function = function

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def map(self, arguments: Any, ahead: int) -> Any:
        return (self.function(*given) for given in arguments)


def the_files(folder: Path) -> dict[str, bytes]:
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in sorted((folder / "out").glob("*/*.parquet"))
    }


def test_a_killed_run_continues_and_ends_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = [{"id": f"p{number}"} for number in range(200)]
    comments = [{"id": f"c{number}", "link_id": f"t3_p{number % 200}"} for number in range(400)]
    source = reddit(tmp_path / "dump", posts, comments, "2020-01")
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 5000)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    expected = run([source], whole)
    with monkeypatch.context() as patch:
        first = counted(patch, killed_at=5)
        with pytest.raises(Killed):
            run([source], parts)
    with monkeypatch.context() as patch:
        second = counted(patch)
        assert run([source], parts) == expected
    assert len(first) == 5
    with monkeypatch.context() as patch:
        again = counted(patch)
        assert run([source], parts) == expected
    assert not again
    assert len(second) > 5
    assert the_files(parts) == the_files(whole)
    assert len(the_files(whole)) == 2


def test_a_new_file_is_read_alone_and_a_changed_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = reddit(tmp_path / "dump", [{"id": "aa"}], [{"id": "c1", "link_id": "t3_aa"}], "2020-01")
    assert run([source], tmp_path)["posts"] == 1
    reddit(tmp_path / "dump", [{"id": "bb"}], [], "2020-02")
    pieces = counted(monkeypatch)
    assert run([source], tmp_path)["posts"] == 2
    assert len(pieces) == 1  # an empty file of comments has none
    pieces.clear()
    reddit(tmp_path / "dump", [{"id": "bb"}, {"id": "cc"}], [], "2020-02")
    assert run([source], tmp_path)["posts"] == 3
    assert len(pieces) == 1
    pieces.clear()
    (tmp_path / "dump" / "RS_2020-02.ndjson").unlink()
    assert run([source], tmp_path)["posts"] == 1
    assert not pieces
    assert len(list((tmp_path / "read" / "0").glob("*/*/part.json"))) == 3


def test_media_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_media(tmp_path, range(4))
    source = table(tmp_path, [post(n) for n in range(4)])
    run([source], tmp_path)
    before = read(tmp_path, "posts")
    monkeypatch.setattr(
        Workers, "map", lambda self, arguments: [pytest.fail("measured again") for _ in arguments]
    )
    monkeypatch.setattr(reading, "Workers", InThisProcess)
    run([source], tmp_path)
    assert read(tmp_path, "posts") == before
    monkeypatch.undo()
    Image.new("RGB", (99, 8)).save(tmp_path / "2.png")
    run([source], tmp_path)
    assert read(tmp_path, "posts").to_pylist()[2]["media_width"] == 99


# ---- hostile pieces ----------------------------------------------------------------------------------------


def hang_or_crash(config: Any, piece: Any) -> Any:
    for number, raw in piece.lines():
        if raw and b"hang" in raw:
            time.sleep(600)
        if raw and b"crash" in raw:
            os.kill(os.getpid(), signal.SIGKILL)
        if raw and b"raise" in raw:
            raise ZeroDivisionError
        yield Post(id=f"x:{piece.number + number}", source="x", media_kind="image")


@pytest.mark.parametrize(
    ("word", "reason"), [("hang", "timeout"), ("crash", "crashed"), ("raise", "ZeroDivisionError")]
)
def test_a_piece_that_ends_its_process_costs_itself_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, reason: str
) -> None:
    good = [f"line {number}" for number in range(40)]
    (tmp_path / "RS_a.ndjson").write_text("\n".join([*good[:20], word, *good[20:]]) + "\n")
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 30)
    results = []
    source = replace(reddit_source.SOURCE, read=hang_or_crash)
    monkeypatch.setattr(discover, "get", lambda *names, **where: source)
    monkeypatch.setattr(reading, "read_piece", careless_piece)
    for piece in reading.read(
        "reddit", {"path": str(tmp_path)}, tmp_path, tmp_path / "kept", processes=2, timeout_s=2
    ):
        results.append(piece)
    lost = [piece for piece in results if piece.faults]
    assert len(lost) == 1
    (counted_reason, count), *none = lost[0].faults.items()
    assert (counted_reason, none) == (f"reader_{reason}", [])
    assert count > 1, "every record of the piece is counted"
    # the next start tries it again: its limits may be others, and its code
    assert not list((tmp_path / "kept").rglob("part.json"))
    assert count + sum(piece.posts for piece in results) == 41


def careless_piece(kind: str, values: dict[str, Any], piece: Any, name: str) -> None:
    """`reading.read_piece` with a source that hangs; importable by name in a spawned process."""
    posts = list(hang_or_crash(None, piece))
    reading._save(Path(name), posts, [], Counter())


# ---- media by URL ------------------------------------------------------------------------------------------


class Site(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = io.BytesIO()
        Image.new("RGB", (20, 10), "red").save(body, "JPEG")
        self.send_response(404 if "gone" in self.path else 200)
        self.send_header("Content-Type", "image/jpeg")
        self.end_headers()
        self.wfile.write(body.getvalue())

    def log_message(self, *words: Any) -> None:
        pass


def test_media_that_are_not_at_hand_are_fetched_where_the_config_says_so(tmp_path: Path) -> None:
    Site.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_address[1]}"
        posts = [
            {"id": "here", "url": f"{at}/here.jpg"},
            {"id": "lost", "url": f"{at}/gone.jpg"},
            {"id": "away", "url": f"{at}/away.jpg", "removed_by_category": "moderator"},
            {"id": "film", "url": "https://www.youtube.com/watch?v=x"},
        ]
        source = reddit(tmp_path / "dump", posts, [], "2020-01")
        assert run([source], tmp_path)["downloads"] == {}
        assert Site.asked == []
        settings = {"enabled": True, "allow_private_addresses": True, "requests_per_host_per_s": 100}
        facts = run([source], tmp_path, download=settings)
        again = run([source], tmp_path, download=settings)
        server.shutdown()
    assert facts == again
    assert facts["downloads"] == {"gone": 1, "ok": 1}
    # what was taken away is not fetched, a watch page is no file, and nothing is asked for twice
    assert sorted(Site.asked) == ["/gone.jpg", "/here.jpg"]
    rows = {row["id"]: row for row in read(tmp_path, "posts").to_pylist()}
    found = rows.pop("reddit:here")
    assert (found["media_width"], found["media_fault"]) == (20, None)
    assert Path(found["media_path"]).is_relative_to((tmp_path / "media").resolve())
    assert {row["media_fault"] for row in rows.values()} == {"media_missing"}
