"""Files here and in object stores: what a path finds, and that no message repeats a secret.

The stores are small servers that speak as much of S3 and of Google Cloud Storage as pyarrow's clients ask
for. They are processes of their own (this file, run as a script): a client may wait for its answer without
letting any other Python thread run.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Fault, Post
from behavior_llava.data import stores, table_rows
from behavior_llava.data.sources import table

KEY, SECRET = "AKIATESTKEY", "s3cr3tSECRETs3cr3t"
TIME = "2026-11-24T01:02:03.000Z"


def names(path: str | Path) -> list[str]:
    return [file.name for file in stores.find(path, table_rows.is_table)]


# ---- this machine ------------------------------------------------------------------------------------------


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for name in (
        "2026-01.csv",
        "2026-02.csv",
        "2026-02.csv.crc",
        "notes.txt",
        "_SUCCESS",
        ".hidden.csv",
        "day=1/part-0.csv",
        "day=1/hour=2/part-0.csv.gz",
        "day=2/part-0.csv",
        "_temporary/part-0.csv",
    ):
        path = tmp_path / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", encoding="utf-8")
    return tmp_path / "logs"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("2026-01.csv", ["2026-01.csv"]),
        ("2026-*.csv", ["2026-01.csv", "2026-02.csv"]),
        ("2026-0[2-9].csv", ["2026-02.csv"]),
        ("2026-0?.csv", ["2026-01.csv", "2026-02.csv"]),
        ("day=*/part-*.csv", ["day=1/part-0.csv", "day=2/part-0.csv"]),
        ("day=*/hour=2/*", ["day=1/hour=2/part-0.csv.gz"]),
        ("**/part-0.csv", ["day=1/part-0.csv", "day=2/part-0.csv"]),
        ("day=1/**", ["hour=2/part-0.csv.gz", "part-0.csv"]),
        ("_temporary/*.csv", ["part-0.csv"]),
        ("_t*/*.csv", ["_temporary/part-0.csv"]),
        (".h*", [".hidden.csv"]),
    ],
)
def test_wildcards(logs: Path, pattern: str, found: list[str]) -> None:
    assert names(f"{logs}/{pattern}") == found


def test_a_folder_is_all_tables_below_it(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        "2026-01.csv",
        "2026-02.csv",
        "day=1/hour=2/part-0.csv.gz",
        "day=1/part-0.csv",
        "day=2/part-0.csv",
    ]
    assert names(logs) == names(f"{logs}/") == found
    monkeypatch.chdir(logs.parent)
    assert names("logs") == found
    assert names("log*/2026-01.csv") == ["logs/2026-01.csv"]
    assert [file.suffix for file in stores.find("logs", table_rows.is_table)] == [".csv"] * 5


def test_links_pipes_and_names_with_brackets(logs: Path) -> None:
    (logs / "day=1" / "loop").symlink_to(logs)
    (logs / "day=1" / "broken.csv").symlink_to(logs / "gone")
    (logs / "linked.csv").symlink_to(logs / "2026-01.csv")
    os.mkfifo(logs / "pipe.csv")
    assert len(names(logs)) == 6
    assert names(f"{logs}/**/2026-01.csv") == ["2026-01.csv"]
    (logs / "a[1].csv").write_text("x", encoding="utf-8")
    assert names(f"{logs}/a[1].csv") == ["a[1].csv"]
    for name in ("pipe.csv", "day=1/broken.csv"):
        with pytest.raises(UserError, match="no such file"):
            names(logs / name)


def test_what_is_not_there(logs: Path) -> None:
    (logs / "empty").mkdir()
    for path, message in (
        (logs / "gone", "no such file or folder; check path"),
        (logs / "empty", "no file is there to read"),
        (f"{logs}/3*.csv", "no file is there to read"),
        ("ftp://host/x.csv", r"ftp://host/x.csv: an unknown kind of store; there are s3:// and gs://"),
        ("s3:///x.csv", "an address without a bucket"),
    ):
        with pytest.raises(UserError, match=message):
            names(path)


@pytest.mark.parametrize(
    ("path", "is_plain", "folder"),
    [
        ("a/b.csv", True, "a"),
        ("a/*.csv", False, "a"),
        ("a/day=*/x.csv", False, "a"),
        ("*.csv", False, "."),
        ("/*.csv", False, "/"),
        ("s3://b/x.csv", False, None),
    ],
)
def test_where_is_searched(path: str, is_plain: bool, folder: str | None) -> None:
    assert stores.is_plain(path) == is_plain
    assert stores.folder_of(path) == (None if folder is None else Path(folder))


def test_addresses_taken_apart() -> None:
    place = stores.place_of("s3://anonymous@b/a b/%20*.csv?scheme=http&endpoint_override=h%3A1")
    assert (place.kind, place.path, place.is_anonymous) == ("s3", "b/a b/%20*.csv", True)
    assert place.options == (("endpoint_override", "h:1"), ("scheme", "http"))
    assert str(place) == "s3://b/a b/%20*.csv"
    assert stores.place_of("gcs://b/x/") == stores.place_of("GS://b/x")


@pytest.mark.parametrize(
    "address",
    [
        f"s3://{KEY}:{SECRET}@bucket/logs",
        f"gs://{SECRET}@bucket/logs",
        f"s3://bucket/x.csv?X-Amz-Signature={SECRET}",
        f"https://bucket.s3.amazonaws.com/x.csv?X-Amz-Signature={SECRET}",
        f"https://{SECRET}@host/x.csv",
    ],
)
def test_secrets_in_an_address_are_refused_and_not_repeated(address: str) -> None:
    made = table.Config(path=address, columns={"id": "a", "media_url": "b"})
    with pytest.raises(UserError) as raised:
        list(table.list_parts(made, Path()))
    assert SECRET not in str(raised.value)
    assert KEY not in str(raised.value)
    assert raised.value.__cause__ is None


# ---- object stores -----------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    """What both stores do alike; `folder` holds bucket/key, and `asked` is a log of requests."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def objects(self, start: str) -> list[str]:
        """The names that begin so, sorted as stores sort them."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(
            name for path in found if (name := str(path.relative_to(self.folder))).startswith(start)
        )

    def contents_of(self, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        with self.folder.with_suffix(".log").open("a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path}\n")
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def contents(self, body: bytes, **headers: str) -> None:
        """A body, or the range of it that was asked for."""
        span = self.headers.get("Range")
        if span is None:
            self.answer(body, **headers)
            return
        first, last = span.removeprefix("bytes=").split("-")
        part = body[int(first) : int(last or len(body)) + 1]
        told = f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}"
        self.answer(part, 206, Content_Range=told, **headers)


class _S3(_Handler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        bucket, _, key = unquote(url.path).strip("/").partition("/")
        if self.headers.get("Authorization") and KEY not in self.headers["Authorization"]:
            self.fail(403, "InvalidAccessKeyId")
        elif bucket == "closed":
            self.fail(403, "AccessDenied")
        elif not (self.folder / bucket).is_dir():
            self.fail(404, "NoSuchBucket")
        elif not key and "list-type" in url.query:
            self.listing(bucket, {name: value[0] for name, value in parse_qs(url.query).items()})
        elif not key or self.contents_of(f"{bucket}/{key}") is not None:
            body = self.contents_of(f"{bucket}/{key}") or b""
            tag = hashlib.md5(body, usedforsecurity=False).hexdigest()
            self.contents(body, ETag=f'"{tag}"', Last_Modified="Tue, 24 Nov 2026 01:02:03 GMT")
        else:
            self.fail(404, "NoSuchKey")

    do_HEAD = do_GET

    def fail(self, status: int, code: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>{SECRET} of {KEY}</Message></Error>"
        self.answer(text.encode(), status, Content_Type="application/xml")

    def listing(self, bucket: str, query: dict[str, str]) -> None:
        """Two keys a page, so that pages are asked for."""
        prefix, mark = query.get("prefix", ""), query.get("delimiter")
        found: dict[str, str] = {}
        for name in self.objects(f"{bucket}/{prefix}"):
            key = name.removeprefix(f"{bucket}/")
            head, cut, _ = key.removeprefix(prefix).partition(mark) if mark else (key, "", "")
            if cut:
                folder = escape(prefix + head + cut)
                found[folder] = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
            else:
                found[key] = (
                    f"<Contents><Key>{escape(key)}</Key><Size>{(self.folder / name).stat().st_size}</Size>"
                    f"<LastModified>{TIME}</LastModified></Contents>"
                )
        start = int(query.get("continuation-token", "0"))
        page, more = list(found.values())[start : start + 2], start + 2 < len(found)
        token = f"<NextContinuationToken>{start + 2}</NextContinuationToken>" if more else ""
        text = (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(page)}</KeyCount>"
            f"{''.join(page)}{token}</ListBucketResult>"
        )
        self.answer(text.encode(), Content_Type="application/xml")


class _Gcs(_Handler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: value[0] for name, value in parse_qs(url.query).items()}
        parts = [unquote(part) for part in url.path.removeprefix("/storage/v1/b/").split("/")]
        bucket = parts[0]
        if bucket == "closed":
            self.fail(403)
        elif not (self.folder / bucket).is_dir():
            self.fail(404)
        elif len(parts) == 1:
            self.tell({"kind": "storage#bucket", "name": bucket})
        elif len(parts) == 2:
            prefix = query.get("prefix", "")
            found = self.objects(f"{bucket}/{prefix}")
            start = int(query.get("pageToken") or 0)
            page: dict[str, Any] = {"items": [self.facts(name) for name in found[start : start + 2]]}
            if start + 2 < len(found):
                page["nextPageToken"] = str(start + 2)
            self.tell({"kind": "storage#objects", **page})
        elif (body := self.contents_of(f"{bucket}/{parts[2]}")) is None:
            self.fail(404)
        elif query.get("alt") == "media":
            self.contents(body, Content_Type="application/octet-stream")
        else:
            self.tell(self.facts(f"{bucket}/{parts[2]}"))

    do_HEAD = do_GET

    def facts(self, name: str) -> dict[str, Any]:
        bucket, _, key = name.partition("/")
        size = str((self.folder / name).stat().st_size)
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": key,
            "size": size,
            "timeCreated": TIME,
            "updated": "2026-11-30T00:00:00Z",
            "generation": "1",
        }

    def tell(self, value: dict[str, Any], status: int = 200) -> None:
        self.answer(json.dumps(value).encode(), status, Content_Type="application/json")

    def fail(self, status: int) -> None:
        self.tell({"error": {"code": status, "message": f"{SECRET} may not"}}, status)


def _tables() -> dict[str, bytes]:
    sink = pa.BufferOutputStream()
    rows = 30_000
    pq.write_table(
        pa.table({"name": [str(row) for row in range(rows)], "url": ["https://a.org/x.jpg"] * rows}),
        sink,
        row_group_size=10_000,
    )
    return {
        "bucket/logs/_SUCCESS": b"",
        "bucket/logs/day=2026-11-24/part 0.csv": b"name,url\n1,https://a.org/x.jpg\n",
        "bucket/logs/day=2026-11-25/part 0.csv": b"name,url\n1,https://a.org/x.jpg\n2,https://a.org/y.jpg\n3,,\n",
        "bucket/logs/day=2026-11-26/part 0.csv.gz": gzip.compress(b"name,url\n4,https://a.org/x.jpg\n"),
        "bucket/large/x.parquet": sink.getvalue().to_pybytes(),
        "bucket/large/broken.parquet": sink.getvalue().to_pybytes()[:-100],
        "bucket/lines.jsonl": b'{"name": 1, "url": "https://a.org/x.mp4"}\n',
    }


class Store:
    """A served store.

    Attributes:
        kind: "s3" or "gs". folder: with its buckets. port: where it listens on this machine.
    """

    def __init__(self, kind: str, folder: Path, port: int) -> None:
        self.kind, self.folder, self.port = kind, folder, port

    def __call__(self, path: str) -> str:
        """The address of a path in it."""
        start = "s3://" if self.kind == "s3" else "gs://anonymous@"
        return f"{start}{path}?scheme=http&endpoint_override=127.0.0.1:{self.port}"

    def put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def asked(self) -> list[str]:
        """The requests so far; then they are forgotten."""
        log = self.folder.with_suffix(".log")
        lines = log.read_text(encoding="utf-8").splitlines()
        log.unlink()
        return lines


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name, value in (
        ("ACCESS_KEY_ID", KEY),
        ("SECRET_ACCESS_KEY", SECRET),
        ("EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(stores, "RETRIES", 1)
    monkeypatch.setattr(stores, "RETRY_S", 1)
    stores._store.cache_clear()
    made = Store(request.param, tmp_path / "store", 0)
    for name, data in _tables().items():
        made.put(name, data)
    command = [sys.executable, __file__, request.param, str(made.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        made.port = int(server.stdout.readline())
        yield made
        server.kill()
    stores._store.cache_clear()


def config(path: str, **more: Any) -> table.Config:
    return table.Config(path=path, columns={"id": "name", "media_url": "url"}, **more)


def read(made: table.Config) -> list[Post | Fault]:
    parts = table.list_parts(made, Path())
    return [item for part in parts for piece in table.pieces(made, part) for item in table.read(made, piece)]


def test_a_store_is_listed_by_folder_and_by_wildcards(store: Store) -> None:
    days = [
        "day=2026-11-24/part 0.csv",
        "day=2026-11-25/part 0.csv",
        "day=2026-11-26/part 0.csv.gz",
    ]
    assert names(store("bucket/logs")) == names(store("bucket/logs/")) == days
    assert names(store("bucket/logs/**/*")) == days
    assert names(store("bucket/*/day=*/*.csv")) == [f"logs/{day}" for day in days[:2]]
    assert names(store("bucket/logs/day=2026-11-2[56]/*")) == days[1:]
    assert names(store("bucket/lines.jsonl")) == ["lines.jsonl"]
    (file,) = stores.find(store("bucket/lines.jsonl"), table_rows.is_table)
    assert (file.size, file.modified_ns) == (42, 1795482123 * 10**9)
    assert str(file.place) == f"{file.place.kind}://bucket/lines.jsonl"


def test_tables_in_a_store_are_read_day_by_day(store: Store) -> None:
    made = config(store("bucket/logs"))
    items = read(made)
    posts = [item for item in items if isinstance(item, Post)]
    assert [post.id for post in posts] == [f"table:{name}" for name in (1, 1, 2, 4)]
    assert [fault for fault in items if isinstance(fault, Fault)] == [
        Fault("row_broken", "day=2026-11-25/part 0.csv:4")
    ]
    ends = [post.retrieved_utc for post in posts]
    assert [end - ends[0] for end in ends if end and ends[0]] == [0, 86_400, 86_400, 2 * 86_400]
    keys = [part.key for part in table.list_parts(made, Path())]
    store.put("bucket/logs/day=2026-11-27/part 0.csv", b"name,url\n5,https://a.org/x.jpg\n")
    store.asked()
    later = list(table.list_parts(made, Path()))
    assert not [line for line in store.asked() if "part" in line]  # only lists: no file is opened
    assert [part.key for part in later[:-1]] == keys
    assert len(later) == 4
    assert [item.id for item in table.read(made, next(iter(table.pieces(made, later[-1]))))] == ["table:5"]


def test_parquet_and_lines_in_a_store(store: Store) -> None:
    items = read(config(store("bucket/large/x.parquet")))
    assert len(items) == 30_000
    assert [items[0].id, items[-1].id] == ["table:0", "table:29999"]  # type: ignore[union-attr]
    (item,) = read(config(store("bucket/lines.jsonl")))
    assert isinstance(item, Post)
    assert item.media_kind == "video"
    with pytest.raises(UserError, match=r"cannot be read .*that the file is whole"):
        read(config(store("bucket/large/broken.parquet")))


def test_media_files_of_a_table_in_a_store_need_a_folder(store: Store, tmp_path: Path) -> None:
    made = table.Config(path=store("bucket/lines.jsonl"), columns={"id": "name", "media_path": "url"})
    with pytest.raises(UserError, match="set media to a folder of this machine"):
        read(made)
    assert read(made.model_copy(update={"media": tmp_path})) != []


def test_what_a_store_refuses_is_said_without_its_words(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cases = [
        ("bucket/gone.csv", f"^{store.kind}://bucket/gone.csv: no such file or folder; check path"),
        ("bucket/logs/*.parquet", r"no file is there to read"),
        ("nobucket/x.csv", "no such file or folder"),
        ("closed/x.csv", r"cannot be read \((ACCESS_DENIED|PERMISSION_DENIED)\); set (AWS|GOOGLE)"),
    ]
    for path, message in cases:
        with pytest.raises(UserError, match=message) as raised:
            names(store(path))
        told = str(raised.value)
        assert SECRET not in told
        assert KEY not in told
        assert str(store.port) not in told
        assert raised.value.__cause__ is None
    if store.kind == "s3":
        stores._store.cache_clear()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
        with pytest.raises(UserError, match=r"cannot be read \(\w+\); set AWS_ACCESS_KEY_ID") as raised:
            names(store("bucket/logs"))
        assert SECRET not in str(raised.value)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("store", ["s3"], indirect=True)  # the Google client has no such setting
def test_the_endpoint_may_come_from_the_environment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        stores._store.cache_clear()
        monkeypatch.setenv(name, f"http://127.0.0.1:{store.port}")
        assert names("s3://bucket/lines.jsonl") == ["lines.jsonl"]
        monkeypatch.delenv(name)
    stores._store.cache_clear()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert names(store("anonymous@bucket/lines.jsonl")) == ["lines.jsonl"]


def test_a_store_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "RETRIES", 1)
    monkeypatch.setattr(stores, "RETRY_S", 1)
    monkeypatch.setattr(stores, "CONNECT_S", 0.5)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    stores._store.cache_clear()
    for start in ("s3://", "gs://anonymous@"):
        with pytest.raises(UserError, match=r"cannot be read \(\w+\); check the network") as raised:
            names(f"{start}bucket/x.csv?scheme=http&endpoint_override=127.0.0.1:9")
        assert SECRET not in str(raised.value)
    stores._store.cache_clear()


if __name__ == "__main__":
    made = type("Made", ({"s3": _S3, "gs": _Gcs}[sys.argv[1]],), {"folder": Path(sys.argv[2])})
    with ThreadingHTTPServer(("127.0.0.1", 0), made) as served:
        sys.stdout.write(f"{served.server_port}\n")
        sys.stdout.flush()
        served.serve_forever()
