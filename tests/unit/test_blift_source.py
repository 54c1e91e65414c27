"""The blift source: rows as released and as others wrote them, and the hub: fetched, continued, refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from behavior_llava.core import schema
from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Comment, Fault, Post
from behavior_llava.data import reddit_records
from behavior_llava.data.sources import blift

COMMIT, LATER = "a" * 40, "b" * 40


def row(name: str = "8abc12", **more: Any) -> dict[str, Any]:
    return {
        "url": f"https://i.redd.it/{name}.jpg",
        "permalink": f"/r/pics/comments/{name}/fog/",
        "comments": ["one", "two, u/someone"],
        "num_comments": 7,
        "subreddit": "pics",
        "title": "Fog",
    } | more


def read(folder: Path | None = None, **config: Any) -> list[Post | Fault]:
    made = blift.Config(**config)
    parts = blift.list_parts(made, folder or Path())
    return [item for part in parts for piece in blift.pieces(made, part) for item in blift.read(made, piece)]


# ---- rows --------------------------------------------------------------------------------------------------


def test_the_real_shape(shared: Path) -> None:
    path = shared / "behaviour" / "data" / "reddit" / "blift_shape_derived.jsonl"
    items = read(path=path)
    posts = [item for item in items if isinstance(item, Post)]
    assert (len(items), len(posts)) == (15, 14)
    assert {item.reason for item in items if isinstance(item, Fault)} == {"not_media"}  # a page of Flickr
    assert sum(len(post.comments) for post in posts) == 609
    first = posts[0]
    assert (first.id, first.media_kind, first.channel) == ("reddit:3hahrw", "video", "funny")
    assert first.media_url == "http://i.imgur.com/eoF76hj.gifv"
    assert (first.score, first.author_hash, first.created_utc) == (None, None, None)
    assert [comment.id for comment in first.comments[:3]] == ["0", "1", "2"]
    texts = " ".join(comment.text or "" for post in posts for comment in post.comments)
    assert "http" not in texts
    assert texts.count("<link>") > 10


def test_parquet_and_lines_say_the_same(tmp_path: Path) -> None:
    rows = [row(), row("9xyz", url="https://v.redd.it/q", comments=[]), row("7", url="https://a.org/")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train-00000-of-00001.parquet")
    (tmp_path / "lines").mkdir()
    text = "".join(json.dumps(one) + "\n" for one in rows)
    (tmp_path / "lines" / "x.jsonl").write_text(text + "{broken", encoding="utf-8")
    items = read(path=tmp_path / "train-00000-of-00001.parquet")
    again = read(path=tmp_path / "lines")
    assert items[:2] == again[:2]
    assert items[2] == Fault("not_media", "train-00000-of-00001.parquet:3")
    assert again[3] == Fault("json_broken", "x.jsonl:4")
    first, second = items[0], items[1]
    assert isinstance(first, Post)
    assert isinstance(second, Post)
    assert first.comments == (Comment(id="0", text="one"), Comment(id="1", text="two, <user>"))
    assert (second.media_kind, second.comments, second.num_comments) == ("video", (), 7)
    assert len(read(path=tmp_path)) == 7  # a folder is all below it


@pytest.mark.parametrize(
    "comments",
    [
        [{"text": "one", "score": 5}, {"text": None, "score": 1}, {"text": "two", "score": None}],
        [{"body": "one", "score": 5, "id": "x"}, {"body": None}, {"body": "two"}],
        '[{"body": "one", "score": "5"}, {"body": null}, {"text": "two"}]',
    ],
)
def test_other_forms_of_comments(comments: Any) -> None:
    post = blift.parse(row(comments=comments))
    assert isinstance(post, Post)
    assert post.comments == (Comment(id="0", text="one", score=5), Comment(id="2", text="two"))


def test_comments_as_structs_in_parquet(tmp_path: Path) -> None:
    comments = pa.array([[{"text": "one", "score": 5}, {"text": "two", "score": None}]])
    columns = {name: [value] for name, value in row().items()} | {"comments": comments}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    (post,) = read(path=tmp_path)
    assert isinstance(post, Post)
    assert [(comment.text, comment.score) for comment in post.comments] == [("one", 5), ("two", None)]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"permalink": None}, "id_missing"),
        ({"permalink": "/r/pics/comments/UPPER/x/"}, "id_missing"),
        ({"permalink": 7}, "field_broken"),
        ({"url": None}, "not_media"),
        ({"url": ["x"]}, "field_broken"),
        ({"url": "https://www.reddit.com/r/pics/comments/8abc12/fog/"}, "not_media"),
        ({"num_comments": "many"}, "field_broken"),
        ({"num_comments": -1}, "field_broken"),
        ({"title": 3}, "field_broken"),
        ({"comments": {"text": "one"}}, "field_broken"),
        ({"comments": [["one"]]}, "field_broken"),
        ({"comments": "just a text"}, "field_broken"),
        ({"comments": "[" * 100_000}, "field_broken"),
        ({"comments": [{"text": "one", "score": "high"}]}, "field_broken"),
    ],
)
def test_rows_that_are_none(changed: dict[str, Any], reason: str) -> None:
    assert blift.parse(row(**changed), where="x:1") == Fault(reason, "x:1")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["text", "score", "x"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(blift.COLUMNS), ANY))
def test_any_value_gives_a_post_or_a_fault(changed: dict[str, Any]) -> None:
    made = blift.parse(row(**changed))
    if isinstance(made, Post):
        pa.Table.from_pylist([schema.post_row(made)], schema=schema.POSTS).validate(full=True)
        pa.Table.from_pylist(schema.comment_rows(made), schema=schema.COMMENTS).validate(full=True)


def test_communities_and_media(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for name in ("1a.png", "2b.jpg"):
        (media / name).write_bytes(b"x")
    rows = [
        row("1a"),
        row("2b", url="https://i.imgur.com/2b.jpg"),
        row("3c", subreddit="aww"),
        row("4d", url="https://i.redd.it/../../etc/passwd.jpg"),
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    posts = read(path=tmp_path / "x.parquet", media=media, communities=("PICS",), licence="MIT")
    assert [post.media_path and Path(post.media_path).name for post in posts if isinstance(post, Post)] == [
        "1a.png",
        "2b.jpg",
        None,
    ]
    assert {post.licence for post in posts if isinstance(post, Post)} == {"MIT"}


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither path nor hub"):
        read()
    with pytest.raises(ValidationError, match="give path or hub, not both"):
        blift.Config(path=tmp_path, hub="a/b")
    with pytest.raises(UserError, match="no such file or folder"):
        read(path=tmp_path / "gone")
    with pytest.raises(UserError, match="no file is there"):
        read(path=tmp_path)
    with pytest.raises(UserError, match="set media to the folder"):
        read(path=tmp_path, media=tmp_path / "gone")
    pq.write_table(pa.table({"url": ["x"], "permlink": ["x"]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"no column 'permalink'; did you mean 'permlink'\?"):
        read(path=tmp_path)


def test_its_records_are_reddits() -> None:
    """The two sources give the same post for the same submission, but for what the data set leaves out."""
    post = blift.parse(row(title="[deleted by user]", subreddit="u_someone"))
    other = reddit_records.parse(row(id="8abc12", title="[deleted by user]", subreddit="u_someone"))
    assert isinstance(post, Post)
    assert isinstance(other, Post)
    assert (post.removed_by, post.title, post.channel) == (other.removed_by, None, other.channel)
    assert "someone" not in repr(post.channel)


# ---- the hub -----------------------------------------------------------------------------------------------


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download asks for; `folder` holds <owner>/<name>/<commit>/<path>.

    While a file `.slow` stands beside the folder, a body stops after 16 MB: the client writes 10 at a time.
    """

    protocol_version = "HTTP/1.1"
    folder: Path

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        with self.folder.with_suffix(".log").open("a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path} {self.headers.get('Range', '')} {dict(self.headers)}\n")
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        slow = self.folder.with_suffix(".slow")
        for start in range(0, len(body), 2**16):
            self.wfile.write(body[start : start + 2**16])
            while slow.exists() and start >= 2**24:
                time.sleep(0.05)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/api/datasets/"):
            owner, name, *rest = path.removeprefix("/api/datasets/").split("/")
            self.info(f"{owner}/{name}", rest[1] if len(rest) > 1 else "main")
        else:
            _, owner, name, _, commit, *rest = path.strip("/").split("/")
            file = self.folder / owner / name / commit / "/".join(rest)
            self.contents(file, commit)

    do_HEAD = do_GET

    def info(self, repository: str, revision: str) -> None:
        folder = self.folder / repository
        if repository == "closed/data":
            self.answer(b"{}", 403, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        elif not folder.is_dir():
            self.answer(b"{}", 401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        else:
            commit = (folder / "main").read_text(encoding="utf-8") if revision == "main" else revision
            if not (folder / commit).is_dir():
                self.answer(b"{}", 404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
                return
            files = sorted(path for path in (folder / commit).rglob("*") if path.is_file())
            told = [{"rfilename": str(path.relative_to(folder / commit))} for path in files]
            body = json.dumps({"id": repository, "sha": commit, "siblings": told}).encode()
            self.answer(body, Content_Type="application/json")

    def contents(self, file: Path, commit: str) -> None:
        if not file.is_file():
            self.answer(b"", 404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
            return
        body = file.read_bytes()
        tag = hashlib.sha256(body).hexdigest()
        headers = {"ETag": f'"{tag}"', "X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
        span = self.headers.get("Range")
        if span and self.command == "GET":
            first = int(span.removeprefix("bytes=").split("-")[0])
            headers["Content_Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            self.answer(body[first:], 206, **headers)
        else:
            self.answer(body, **headers)


class Hub:
    """A served hub, and what it takes to fetch from it in a process of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.slow = folder.with_suffix(".slow")

    def put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def asked(self) -> str:
        """The requests so far; then they are forgotten."""
        log = self.folder.with_suffix(".log")
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        log.unlink(missing_ok=True)
        return text

    def fetch(self, to: Path, **config: Any) -> subprocess.Popen[str]:
        """HF_ENDPOINT is read when the library is imported, so this is another process."""
        code = f"""
            import sys
            from pathlib import Path
            from behavior_llava.core.errors import UserError
            from behavior_llava.data.sources import blift
            try:
                blift.fetch(blift.Config(**{config!r}), Path({str(to)!r}))
            except UserError as error:
                sys.exit(f"UserError: {{error}}")
        """
        environment = {
            "HF_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(self.folder.parent / "home"),
            "HF_TOKEN": "hf_secret",
            "PATH": "",
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.PIPE, text=True, env=environment
        )

    def told(self, to: Path, **config: Any) -> str:
        """What a fetch that fails says; "" for one that works."""
        with self.fetch(to, **config) as process:
            assert process.stderr is not None
            return process.stderr.read().strip()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    made = Hub(tmp_path / "hub", 0)
    made.folder.mkdir()
    command = [sys.executable, __file__, str(made.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        made.port = int(server.stdout.readline())
        yield made
        server.kill()


def parquet(*names: str, fill: int = 0) -> bytes:
    sink = pa.BufferOutputStream()
    rows = [
        row(name, comments=["".join(hashlib.sha256(b"%d" % at).hexdigest() for at in range(fill))])
        for name in names
    ]
    pq.write_table(pa.Table.from_pylist(rows), sink, compression="none")
    return sink.getvalue().to_pybytes()


def test_fetched_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    hub.put("owner/data/main", COMMIT.encode())
    hub.put(f"owner/data/{COMMIT}/data/train-00000-of-00002.parquet", parquet("1a", "2b"))
    hub.put(f"owner/data/{COMMIT}/data/train-00001-of-00002.parquet", parquet("3c"))
    hub.put(f"owner/data/{COMMIT}/README.md", b"# not wanted")
    to = tmp_path / "fetched"
    assert hub.told(to, hub="owner/data") == ""
    items = read(to, hub="owner/data")
    assert [item.id for item in items if isinstance(item, Post)] == ["reddit:1a", "reddit:2b", "reddit:3c"]
    asked = hub.asked()
    assert "README" not in asked.replace("/api/", "")
    assert "telemetry" not in asked
    # again: what is there is not sent again, though main has moved on
    hub.put("owner/data/main", LATER.encode())
    hub.put(f"owner/data/{LATER}/data/train-00000-of-00001.parquet", parquet("9z"))
    assert hub.told(to, hub="owner/data") == ""
    assert not [line for line in hub.asked().splitlines() if line.startswith("GET") and "parquet " in line]
    assert read(to, hub="owner/data") == items
    other = tmp_path / "other"
    assert hub.told(other, hub="owner/data", revision=COMMIT) == ""
    assert len(read(other, hub="owner/data")) == 3


@pytest.mark.slow
def test_a_fetch_that_was_killed_is_continued(hub: Hub, tmp_path: Path) -> None:
    hub.put("owner/data/main", COMMIT.encode())
    large = parquet("1a", fill=320_000)
    hub.put(f"owner/data/{COMMIT}/a.parquet", parquet("2b"))
    hub.put(f"owner/data/{COMMIT}/x.parquet", large)
    hub.slow.touch()
    to = tmp_path / "fetched"
    with hub.fetch(to, hub="owner/data") as process:
        for _ in range(200):
            parts = [path for path in to.rglob("*.incomplete") if path.stat().st_size >= 2**20]
            if parts:
                break
            time.sleep(0.05)
        process.kill()
    assert parts
    assert not (to / "hub" / "x.parquet").exists()
    hub.slow.unlink()
    # without the hub what is there is not taken for all there is
    assert "cannot be reached" in Hub(hub.folder, 9).told(to, hub="owner/data")
    hub.put("owner/data/main", LATER.encode())
    hub.put(f"owner/data/{LATER}/x.parquet", parquet("9z"))
    hub.asked()
    assert hub.told(to, hub="owner/data") == ""
    assert (to / "hub" / "x.parquet").read_bytes() == large
    assert not [line for line in hub.asked().splitlines() if line.startswith("GET") and "a.parquet" in line]
    assert not list(to.rglob("*.incomplete"))
    assert [item.id for item in read(to, hub="owner/data") if isinstance(item, Post)] == [
        "reddit:2b",
        "reddit:1a",
    ]


def test_what_the_hub_refuses(hub: Hub, tmp_path: Path) -> None:
    hub.put("owner/data/main", COMMIT.encode())
    hub.put(f"owner/data/{COMMIT}/README.md", b"#")
    hub.put("closed/data/main", COMMIT.encode())
    for config, message in (
        (
            {"hub": "owner/gone"},
            "owner/gone: no such data set on the hub, or a private one; check hub, or give",
        ),
        ({"hub": "closed/data"}, "closed/data: a data set behind a gate; accept its terms"),
        ({"hub": "owner/data", "revision": "v9"}, "owner/data: no revision 'v9'; check revision"),
        ({"hub": "owner/data"}, "owner/data: no Parquet file in the data set"),
        ({"hub": "not a name"}, "not a name: no name of a data set"),
    ):
        told = hub.told(tmp_path / "to", **config)
        assert f"UserError: {message}" in told
        assert "hf_secret" not in told
    told = Hub(hub.folder, 9).told(tmp_path / "to", hub="owner/data")
    assert "the hub cannot be reached (ConnectError); check the network and start again" in told


def test_offline(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="offline mode is on; unset HF_HUB_OFFLINE, or set path"):
        blift.fetch(blift.Config(hub="owner/data"), tmp_path)
    blift.fetch(blift.Config(path=tmp_path), tmp_path)
    assert list(tmp_path.iterdir()) == []


if __name__ == "__main__":
    handler = type("Handler", (_Hub,), {"folder": Path(sys.argv[1])})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        sys.stdout.write(f"{served.server_port}\n")
        sys.stdout.flush()
        served.serve_forever()
