"""Media by URL: every way a server, a name or a kill can go wrong has its reason, and costs nobody else."""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import itertools
import logging
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpcore2
import pytest

from behavior_llava.core.errors import UserError
from behavior_llava.data import download as module
from behavior_llava.data.download import (
    NORMAL_REASONS,
    DownloadConfig,
    Downloaded,
    Ledger,
    Wanted,
    download,
)
from behavior_llava.data.web_rules import PLACEHOLDER_ADDRESSES, is_placeholder, is_public, opted_out

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
MP4 = b"\0\0\0\x20ftypisom" + bytes(300)
HTML = b"<!doctype html><title>Please log in</title>" + b" " * 300


# ---- a site of our own -------------------------------------------------------------------------------------

Answer = Callable[["_Handler"], None]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go in two writes
    site: Site

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.site.asked.append(Asked(self.path, time.monotonic(), dict(self.headers)))
        try:
            self.site.answers.get(path, missing)(self)
        except OSError:  # the other side has gone
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Asked:
    path: str
    at: float
    headers: dict[str, str]


@dataclass
class Site:
    port: int
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Site]:
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        handler.site = site = Site(server.server_address[1])
        server.daemon_threads = False  # all are waited for, so that no socket is left
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield site
        finally:
            site.ended.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names ending in .test are ours; nothing is asked of a real name server."""
    known: dict[str, list[str]] = {}
    original = socket.getaddrinfo

    def resolve(host: str, port: int, *arguments: Any, **options: Any) -> list[Any]:
        if host in known:
            found = known[host]
            known[host] = found[1:] + found[:1] if host.startswith("rebind") else found
            return [
                entry for address in known[host] for entry in original(address, port, *arguments, **options)
            ]
        if host.endswith(".test"):
            return original("127.0.0.1", port, *arguments, **options)
        if not host.replace(".", "").replace(":", "").isalnum() or host[-1:].isalpha():
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return original(host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


def send(
    body: bytes = PNG,
    kind: str | None = "image/png",
    *headers: tuple[str, str],
    status: int = 200,
    length: int | None = None,
) -> Answer:
    def answer(handler: _Handler) -> None:
        handler.send_response(status)
        if kind is not None:
            handler.send_header("Content-Type", kind)
        for name, value in headers:
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = length is not None

    return answer


missing = send(b"not here", "text/plain", status=404)


def lead_to(address: str, *headers: tuple[str, str], status: int = 302) -> Answer:
    return send(b"", None, ("Location", address), *headers, status=status)


def first_then(first: Answer, then: Answer, times: int = 1) -> Answer:
    count = itertools.count()
    return lambda handler: (first if next(count) < times else then)(handler)


def drip(chunk: bytes, every_s: float, head: bytes = PNG) -> Answer:
    """A body without length that never ends."""

    def answer(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "image/png")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(head)
        while not handler.site.ended.wait(every_s):
            handler.wfile.write(chunk)

    return answer


def config(**settings: Any) -> DownloadConfig:
    quick = {
        "enabled": True,
        "allow_private_addresses": True,
        "threads": 4,
        "requests_per_host_per_s": 1000,
        "timeout_s": 5,
        "deadline_s": 5,
        "retries": 1,
        "backoff_s": 0.01,
    }
    return DownloadConfig(**{**quick, **settings})


def fetch(folder: Path, *urls: str, kind: Any = "image", **settings: Any) -> Counter[str]:
    wanted = [Wanted(f"reddit:{number}", url, kind) for number, url in enumerate(urls)]
    return download(config(**settings), folder, wanted)


def result(folder: Path, url: str) -> Downloaded:
    with Ledger(folder) as ledger:
        found = ledger.lookup(url)
    assert found is not None
    return found


def files(folder: Path) -> list[str]:
    """All media files, finished or not."""
    ours = ("ledger.sqlite", ".lock")
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(ours)
    )


# ---- what is fetched ---------------------------------------------------------------------------------------


def test_nothing_is_asked_unless_enabled(tmp_path: Path, site: Site) -> None:
    folder = tmp_path / "media"
    assert fetch(folder, site.url("/a.png"), enabled=False) == Counter()
    assert not folder.exists()
    assert not site.asked
    assert DownloadConfig().enabled is False


def test_a_file_is_named_by_us_and_found_again(tmp_path: Path, site: Site) -> None:
    site.answers["/..%2F..%2Fevil.exe"] = send(
        PNG, "image/jpeg", ("Content-Disposition", 'attachment; filename="../../../evil.sh"')
    )
    url = site.url("/..%2F..%2Fevil.exe?name=../../evil.php")
    assert fetch(tmp_path / "media", url) == Counter(ok=1)
    key = hashlib.sha256(url.encode()).hexdigest()
    assert files(tmp_path / "media") == [f"{key[:2]}/{key}.png"]
    path = tmp_path / "media" / key[:2] / f"{key}.png"
    assert result(tmp_path / "media", url) == Downloaded(
        str(path), None, hashlib.sha256(PNG).hexdigest(), len(PNG)
    )
    assert path.read_bytes() == PNG
    with Ledger(tmp_path / "media") as ledger:
        assert ledger.lookup(url + "x") is None


@pytest.mark.parametrize(
    ("head", "suffix"),
    [
        (b"\xff\xd8\xff\xe0\0\x10JFIF", ".jpg"),
        (b"GIF89a", ".gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", ".webp"),
        (b"BM\x46\0\0\0\0\0\0\0", ".bmp"),
        (b"\0\0\0\x20ftypisom", ".mp4"),
        (b"\0\0\0\x14ftypqt  ", ".mov"),
        (b"\0\0\0\x1cftypavif", ".avif"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", ".webm"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x88matroska", ".mkv"),
        (b"RIFF\x10\0\0\0AVI LIST", ".avi"),
    ],
)
def test_the_suffix_is_that_of_the_content(tmp_path: Path, site: Site, head: bytes, suffix: str) -> None:
    site.answers["/x.exe"] = send(head + bytes(100), "application/octet-stream")
    assert fetch(tmp_path, site.url("/x.exe"), kind="video") == Counter(ok=1)
    assert str(result(tmp_path, site.url("/x.exe")).path).endswith(suffix)


def test_the_request_says_who_asks_and_keeps_no_cookie(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    site.answers["/a"] = send(PNG, "image/png", ("Set-Cookie", "track=1; Path=/"))
    site.answers["/b"] = send()
    assert fetch(tmp_path, site.url("/a"), site.url("/b"), threads=1, user_agent="me (me@example.org)") == {
        "ok": 2
    }
    for asked in site.asked:
        assert asked.headers["User-Agent"] == "me (me@example.org)"
        assert asked.headers["Accept-Encoding"] == "identity"
        assert asked.headers["Host"] == f"127.0.0.1:{site.port}"
        assert not {"Cookie", "Referer", "Authorization"} & set(asked.headers)


def test_a_url_wanted_by_several_posts_is_fetched_once(tmp_path: Path, site: Site) -> None:
    site.answers["/a"] = send()
    told: list[int] = []
    wanted = [Wanted(f"reddit:{number}", site.url("/a"), "image") for number in range(7)]
    wanted += [Wanted("reddit:x", site.url("/gone"), "image")]
    assert download(config(), tmp_path, wanted, done=told.append) == Counter(ok=7, gone=1)
    assert sorted(site.paths()) == ["/a", "/gone"]
    assert sum(told) == 8


def test_what_is_wanted_is_read_as_it_is_needed(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 20)
    site.answers["/a"] = send()
    furthest = 0

    def many() -> Iterator[Wanted]:
        for number in range(300):
            nonlocal furthest
            furthest = max(furthest, number - len(site.asked))
            yield Wanted(str(number), site.url(f"/a?{number}"), "image")

    assert download(config(), tmp_path, many()) == Counter(ok=300)
    assert furthest <= 21


# ---- starting again ----------------------------------------------------------------------------------------

KILLED = """
import sys
from pathlib import Path
from behavior_llava.data.download import DownloadConfig, Wanted, download
port, folder = sys.argv[1], Path(sys.argv[2])
config = DownloadConfig(enabled=True, allow_private_addresses=True, threads=1, requests_per_host_per_s=1000)
download(config, folder, [Wanted(str(n), f"http://127.0.0.1:{port}/{n}", "image") for n in range(8)])
"""


def test_a_killed_download_goes_on_where_it_stopped(tmp_path: Path, site: Site) -> None:
    body = PNG * 1000
    half_sent = threading.Event()

    def stall(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "image/png")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        half_sent.set()
        handler.site.ended.wait(20)

    site.answers = {f"/{number}": send(body) for number in range(8)}
    site.answers["/2"] = missing
    site.answers["/5"] = first_then(stall, send(body))
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(site.port), str(tmp_path)])
    try:
        assert half_sent.wait(30)
        until = time.monotonic() + 10
        while not any((tmp_path / "unfinished").glob("*.part")) and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert [name for name in files(tmp_path) if name.endswith(".part")]
    assert sorted(site.paths()) == [f"/{number}" for number in range(6)]
    site.asked.clear()
    (tmp_path / "unfinished" / "of_a_url_no_longer_wanted.part").write_bytes(body)

    assert fetch(tmp_path, *(site.url(f"/{number}") for number in range(8))) == Counter(ok=7, gone=1)
    assert sorted(site.paths()) == ["/5", "/6", "/7"]
    assert len(files(tmp_path)) == 7
    assert all((tmp_path / name).read_bytes() == body for name in files(tmp_path))


def test_only_what_may_have_passed_is_tried_on_the_next_start(tmp_path: Path, site: Site) -> None:
    site.answers = {
        "/ok": send(),
        "/page": send(HTML, "text/html"),
        "/busy": first_then(send(b"", None, status=503), send(), times=2),
        "/no": send(PNG, "image/png", ("X-Robots-Tag", "noai")),
        "/large": send(PNG, length=10**9),
    }
    urls = [site.url(f"/{name}") for name in ("ok", "page", "busy", "no", "large", "gone")]
    lasting = {"ok": 1, "not_media": 1, "opted_out": 1, "too_large": 1, "gone": 1}
    assert fetch(tmp_path, *urls) == Counter(lasting) + Counter(host_busy=1)
    assert site.paths().count("/busy") == 2
    site.asked.clear()
    assert fetch(tmp_path, *urls) == Counter(lasting) + Counter(ok=1)
    assert site.paths() == ["/busy"]


def test_what_the_settings_refused_is_asked_for_again_under_others(tmp_path: Path, site: Site) -> None:
    site.answers = {"/no": send(PNG, "image/png", ("X-Robots-Tag", "noai"))}
    assert fetch(tmp_path, site.url("/no")) == {"opted_out": 1}
    assert fetch(tmp_path, site.url("/no"), honour_opt_out=False) == {"ok": 1}


def test_a_file_that_is_gone_or_cut_is_fetched_again(tmp_path: Path, site: Site) -> None:
    site.answers = {"/a": send(), "/b": send()}
    urls = [site.url("/a"), site.url("/b")]
    fetch(tmp_path, *urls)
    first, second = (Path(str(result(tmp_path, url).path)) for url in urls)
    first.unlink()
    second.write_bytes(PNG[:20])
    with Ledger(tmp_path) as ledger:
        assert [ledger.lookup(url) for url in urls] == [None, None]
    assert fetch(tmp_path, *urls) == {"ok": 2}
    assert first.read_bytes() == second.read_bytes() == PNG


def test_two_downloads_into_one_folder_are_refused(tmp_path: Path, site: Site) -> None:
    site.answers["/a"] = send()

    def second() -> Iterator[Wanted]:
        with pytest.raises(UserError, match="another run"):
            fetch(tmp_path, site.url("/a"))
        yield Wanted("x", site.url("/a"), "image")

    assert download(config(), tmp_path, second()) == {"ok": 1}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_threads_end_soon_when_the_caller_stops(
    tmp_path: Path, site: Site, error: type[BaseException]
) -> None:
    site.answers = {"/a": send(), "/slow": drip(b"x", 0.05)}

    def stop(_: int) -> None:
        raise error

    wanted = [Wanted(name, site.url(f"/{name}"), "image") for name in ("slow", "a")]
    begun = time.monotonic()
    with pytest.raises(error):
        download(config(timeout_s=60, deadline_s=60), tmp_path, wanted, done=stop)
    assert time.monotonic() - begun < 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("download")]
    assert fetch(tmp_path, site.url("/a")) == {"ok": 1}
    assert site.paths().count("/a") == 1


def test_a_full_disk_is_not_blamed_on_the_server(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.answers["/a"] = send()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(tmp_path, site.url("/a"))


# ---- being polite ------------------------------------------------------------------------------------------


def test_a_host_is_asked_no_faster_than_allowed_by_all_threads_together(tmp_path: Path, site: Site) -> None:
    site.answers["/a"] = send()
    urls = [site.url(f"/a?{number}") for number in range(7)]
    assert fetch(tmp_path, *urls, requests_per_host_per_s=20) == {"ok": 7}
    times = sorted(asked.at for asked in site.asked)
    assert times[-1] - times[0] >= 6 * 0.05 - 0.03


def test_redirects_count_towards_the_rate(tmp_path: Path, site: Site) -> None:
    site.answers = {f"/{number}": lead_to(f"/{number + 1}") for number in range(4)} | {"/4": send()}
    assert fetch(tmp_path, site.url("/0"), requests_per_host_per_s=20) == {"ok": 1}
    assert site.asked[-1].at - site.asked[0].at >= 4 * 0.05 - 0.03


def test_a_slow_host_does_not_hold_up_the_others(tmp_path: Path, site: Site) -> None:
    others_done = threading.Event()

    def slow(handler: _Handler) -> None:
        assert others_done.wait(10)
        send()(handler)

    site.answers = {"/slow": slow, "/a": send()}
    urls = [site.url(f"/slow?{number}", "slow.test") for number in range(20)]
    urls += [site.url(f"/a?{number}", f"{number}.test") for number in range(20)]
    count = 0

    def done(more: int) -> None:
        nonlocal count
        count += more
        if count == 20:
            others_done.set()

    wanted = [Wanted(url, url, "image") for url in urls]
    settings = config(threads=4, connections_per_host=64, timeout_s=20, deadline_s=20)
    assert download(settings, tmp_path, wanted, done=done) == {"ok": 40}


def test_no_more_connections_to_a_host_than_allowed(tmp_path: Path, site: Site) -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def count(handler: _Handler) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.02)
        with lock:
            under_way -= 1
        send()(handler)

    site.answers["/a"] = count
    urls = [site.url(f"/a?{number}") for number in range(12)]
    assert fetch(tmp_path, *urls, threads=8, connections_per_host=2) == {"ok": 12}
    assert most == 2


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_heeded_by_all_requests_to_the_host(tmp_path: Path, site: Site, status: int) -> None:
    site.answers["/a"] = first_then(send(b"", None, ("Retry-After", "1"), status=status), send())
    urls = [site.url(f"/a?{number}") for number in range(3)]
    assert fetch(tmp_path, *urls, threads=1) == {"ok": 3}
    first, second, *_ = (asked.at for asked in site.asked)
    assert 0.95 <= second - first < 3
    assert len(site.asked) == 4


def test_a_host_that_wants_a_long_rest_is_left_alone(tmp_path: Path, site: Site) -> None:
    site.answers["/a"] = send(b"", None, ("Retry-After", "86400"), status=429)
    site.answers["/b"] = send()
    urls = [site.url(f"/a?{number}", "tired.test") for number in range(30)]
    assert fetch(tmp_path, *urls, site.url("/b"), threads=1, retries=4) == {"host_busy": 30, "ok": 1}
    assert len(site.asked) == 2


def test_a_host_that_only_fails_is_given_up_until_the_next_start(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GIVE_UP_AFTER", 3)
    site.answers["/a"] = send(b"", None, status=500)
    urls = [site.url(f"/a?{number}") for number in range(40)]
    assert fetch(tmp_path, *urls, threads=1, retries=0) == {"host_busy": 40}
    assert len(site.asked) == 3
    site.answers["/a"] = send()
    assert fetch(tmp_path, *urls) == {"ok": 40}


def test_what_fails_is_tried_again_later_each_time(tmp_path: Path, site: Site) -> None:
    site.answers["/a"] = first_then(send(b"", None, status=502), send(), times=3)
    assert fetch(tmp_path, site.url("/a"), retries=4, backoff_s=0.05) == {"ok": 1}
    waits = [later.at - sooner.at for sooner, later in itertools.pairwise(site.asked)]
    assert len(waits) == 3
    assert all(wait >= 0.05 * 2**number * 0.5 for number, wait in enumerate(waits))


def test_hosts_that_rest_are_forgotten(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IDLE_HOSTS", 5)
    kept: list[module._Hosts] = []
    original = module._Hosts

    def hosts(settings: DownloadConfig) -> module._Hosts:
        kept.append(original(settings))
        return kept[-1]

    monkeypatch.setattr(module, "_Hosts", hosts)
    site.answers["/a"] = send()
    assert fetch(tmp_path, *(site.url("/a", f"{number}.test") for number in range(30))) == {"ok": 30}
    assert len(kept[0]._idle) == 5
    assert not kept[0]._busy


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        (" 120 ", 120.0),
        (email.utils.formatdate(0, usegmt=True), 0.0),
        ("Thu, 99 Foo 99999999999 00:00:00 GMT", None),
        ("-5", None),
        ("1e9", None),
        ("soon", None),
        (None, None),
    ],
)
def test_retry_after_in_all_its_forms(text: str | None, seconds: float | None) -> None:
    assert module._retry_after_s(text) == seconds
    tomorrow = email.utils.formatdate(time.time() + 86400, usegmt=True)
    assert 86000 < (module._retry_after_s(tomorrow) or 0) <= 86400


# ---- sizes and types ---------------------------------------------------------------------------------------


def test_a_size_told_beforehand_is_believed_when_too_large(tmp_path: Path, site: Site) -> None:
    site.answers["/a"] = send(PNG, length=5000)
    settings = {"max_image_bytes": 1000, "max_video_bytes": 4000}
    assert fetch(tmp_path, site.url("/a"), **settings) == {"too_large": 1}
    site.answers["/v"] = send(MP4 + bytes(2000), "video/mp4")
    assert fetch(tmp_path, site.url("/v"), kind="video", **settings) == {"ok": 1}


def test_a_body_without_end_is_cut_at_the_limit(tmp_path: Path, site: Site) -> None:
    site.answers["/a"] = drip(bytes(10_000), 0)
    assert fetch(tmp_path, site.url("/a"), max_image_bytes=100_000) == {"too_large": 1}
    assert files(tmp_path) == []


def test_a_drip_ends_at_the_deadline(tmp_path: Path, site: Site) -> None:
    def headers_for_ever(handler: _Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not handler.site.ended.wait(0.05):
            handler.wfile.write(b"X-A: b\r\n")

    site.answers = {"/a": drip(b"x", 0.05), "/b": headers_for_ever}
    begun = time.monotonic()
    assert fetch(tmp_path, site.url("/a"), site.url("/b"), deadline_s=0.6, retries=0) == {"timeout": 2}
    assert time.monotonic() - begun < 4
    assert files(tmp_path) == []


def test_a_silent_server_ends_at_the_timeout(tmp_path: Path, site: Site) -> None:
    site.answers["/a"] = lambda handler: (handler.site.ended.wait(10), None)[1]
    assert fetch(tmp_path, site.url("/a"), timeout_s=0.3, retries=0) == {"timeout": 1}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (send(HTML, "text/html; charset=utf-8"), "not_media"),
        (send(HTML, "image/jpeg"), "not_media"),
        (send(PNG, "text/html"), "not_media"),
        (send(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"), "not_media"),
        (send(b"", "image/png"), "not_media"),
        (send(b"\x89PN", "image/png"), "not_media"),
        (send(PNG, None), "ok"),
        (send(PNG, "IMAGE/PNG"), "ok"),
        (send(PNG, "binary/octet-stream"), "ok"),
        (send(gzip.compress(PNG), "image/png", ("Content-Encoding", "gzip")), "encoded"),
        (send(PNG, "image/png", ("Content-Encoding", "identity")), "ok"),
        (send(PNG, length=len(PNG) + 50), "connection_broken"),
        (send(HTML, "text/html", status=404), "gone"),
        (send(PNG, status=404), "gone"),
        (send(PNG, status=410), "gone"),
        (send(PNG, status=401), "refused"),
        (send(PNG, status=403), "refused"),
        (send(PNG, status=451), "refused"),
        (send(PNG, status=418), "refused"),
        (send(PNG, status=206), "refused"),
        (send(PNG, status=429), "host_busy"),
        (send(PNG, status=500), "host_busy"),
        (send(PNG, status=503), "host_busy"),
        (lambda handler: (handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n"), None)[1], "connection_broken"),
    ],
)
def test_answers_and_their_reasons(tmp_path: Path, site: Site, answer: Answer, reason: str) -> None:
    def once(handler: _Handler) -> None:
        answer(handler)
        handler.close_connection = True

    site.answers["/a"] = once
    assert fetch(tmp_path, site.url("/a"), retries=0) == {reason: 1}
    assert len(files(tmp_path)) == (reason == "ok")
    assert reason == "ok" or reason in NORMAL_REASONS


def test_no_server_is_a_broken_connection(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a"
        assert fetch(tmp_path, url) == {"connection_broken": 1}


# ---- redirects and placeholders ----------------------------------------------------------------------------


def test_redirects_are_followed_so_far(tmp_path: Path, site: Site) -> None:
    site.answers = {f"/{number}": lead_to(f"/{number + 1}") for number in range(5)} | {
        "/5": send(),
        "/before": lead_to("/0"),
        "/loop": lead_to("/loop"),
        "/nowhere": lead_to("http://0177.0.0.1/"),
        "/file": lead_to("file:///etc/passwd"),
        "/password": lead_to(site.url("/5").replace("//", "//user:word@")),
        "/300": send(HTML, "text/html", status=300),
        "/away": lead_to(site.url("/5", "away.test"), status=308),
    }
    assert fetch(tmp_path, site.url("/0")) == {"ok": 1}
    assert fetch(tmp_path, site.url("/before")) == {"too_many_redirects": 1}
    assert fetch(tmp_path, site.url("/loop")) == {"too_many_redirects": 1}
    assert fetch(tmp_path, site.url("/nowhere")) == {"url_broken": 1}
    assert fetch(tmp_path, site.url("/file"), site.url("/password")) == {"url_refused": 2}
    assert fetch(tmp_path, site.url("/300")) == {"refused": 1}
    assert fetch(tmp_path, site.url("/away")) == {"ok": 1}
    assert site.asked[-1].headers["Host"] == f"away.test:{site.port}"


def test_an_address_of_a_placeholder_is_not_asked(tmp_path: Path, site: Site) -> None:
    site.answers = {
        "/imgur": lead_to("https://i.imgur.com/removed.png"),
        "/flickr": lead_to("https://s.yimg.com/pw/images/en-us/photo_unavailable_h.png?x=1"),
    }
    urls = [site.url("/imgur"), site.url("/flickr"), "http://i.imgur.com/removed.png"]
    assert fetch(tmp_path, *urls) == {"placeholder": 3}
    assert len(site.asked) == 2
    assert not is_placeholder("i.imgur.com", "/abcdefg.png")
    assert not is_placeholder("notyimg.com", "/pw/images/photo_unavailable.png")
    assert all(source.startswith("https://") for _, _, source in PLACEHOLDER_ADDRESSES)


def test_a_known_placeholder_is_told_by_its_bytes(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.answers["/a"] = send()
    monkeypatch.setattr(module, "PLACEHOLDER_MD5", {hashlib.md5(PNG).hexdigest()})
    assert fetch(tmp_path, site.url("/a")) == {"placeholder": 1}
    assert files(tmp_path) == []


# ---- who does not want to be collected ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("X-Robots-Tag", "noai", True),
        ("x-robots-tag", "NOIMAGEAI", True),
        ("X-Robots-Tag", "nofollow, noindex", True),
        ("X-Robots-Tag", "noimageindex", True),
        ("X-Robots-Tag", "none", True),
        ("X-Robots-Tag", "behavior-llava: noindex", True),
        ("X-Robots-Tag", "*: noai", True),
        ("X-Robots-Tag", "otherbot: noindex, behavior-llava: nofollow, noai", True),
        ("X-Robots-Tag", "max-image-preview: large, noai", True),
        ("X-Robots-Tag", "unavailable_after: 25 Jun 2030 15:00:00 PST, noindex", True),
        ("TDM-Reservation", "1", True),
        ("X-Robots-Tag", "otherbot: noindex, noai", False),
        ("X-Robots-Tag", "nofollow, noarchive, max-snippet:5", False),
        ("X-Robots-Tag", "", False),
        ("TDM-Reservation", "0", False),
        ("Robots", "noai", False),
    ],
)
def test_headers_that_opt_out(name: str, value: str, expected: bool) -> None:
    assert opted_out([("Content-Type", "image/png"), (name, value)]) is expected


@pytest.mark.parametrize("header", [("X-Robots-Tag", "noai"), ("tdm-reservation", "1")])
def test_who_opts_out_is_not_read(tmp_path: Path, site: Site, header: tuple[str, str]) -> None:
    site.answers = {
        "/a": send(PNG, "image/png", ("X-Robots-Tag", "nofollow"), header),
        "/b": lead_to("/c", header),
        "/c": send(),
    }
    assert fetch(tmp_path, site.url("/a"), site.url("/b")) == {"opted_out": 2}
    assert files(tmp_path) == []
    assert "/c" not in site.paths()


# ---- addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.0.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "100.100.100.200", "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1"),
        *("255.255.255.255", "168.63.129.16", "192.0.2.1"),
        *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1", "100::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1"),
        *("2002:7f00:1::", "2002:a00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
        *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "5f00::1"),
    ],
)
def test_addresses_that_are_not_of_the_open_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "151.101.1.140", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_of_the_open_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "2130706433", "0x7f000001", "127.1"),
        *("0", "0.0.0.0", "127。0。0。1", "local.test", "both.test", "10.0.0.1", "169.254.169.254"),
    ],
)
def test_private_addresses_are_refused_however_written(
    tmp_path: Path, names: dict[str, list[str]], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names["both.test"] = ["8.8.8.8", "127.0.0.1"]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(socket, "create_connection", never)
    assert fetch(tmp_path, f"http://{host}/a", allow_private_addresses=False) == {"private_address": 1}


def test_a_redirect_to_a_private_address_is_refused(
    tmp_path: Path, site: Site, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["open.test"] = ["8.8.8.8"]
    at_8_8_8_8(site, monkeypatch)
    site.answers = {
        "/a": lead_to("http://127.0.0.1/secret"),
        "/b": lead_to("http://inside.test/secret"),
        "/c": lead_to(f"http://127.0.0.1:{site.port}/secret"),
        "/secret": send(),
    }
    urls = [f"http://open.test/{name}" for name in "abc"]
    found = fetch(tmp_path, *urls, allow_private_addresses=False)
    assert found == {"private_address": 2, "url_refused": 1}
    assert "/secret" not in site.paths()


def at_8_8_8_8(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets connections to 8.8.8.8 come to the site; gives the addresses connected to."""
    original, seen = socket.create_connection, []

    def connect(address: tuple[str, int], *arguments: Any, **options: Any) -> socket.socket:
        seen.append(address[0])
        assert address[0] == "8.8.8.8"
        return original(("127.0.0.1", site.port), *arguments, **options)

    monkeypatch.setattr(socket, "create_connection", connect)
    return seen


def test_the_address_checked_is_the_one_connected_to(
    tmp_path: Path, site: Site, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name's address changes with each question, as in DNS rebinding; only one is asked."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def rebinding(host: str, port: int, *arguments: Any, **options: Any) -> list[Any]:
        if host == "rebind.test":
            asked.append(host)
            host = "8.8.8.8" if len(asked) == 1 else "127.0.0.1"
        return resolve(host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    site.answers["/a"] = send()
    connected = at_8_8_8_8(site, monkeypatch)
    assert fetch(tmp_path, "http://rebind.test/a", allow_private_addresses=False) == {"ok": 1}
    assert connected == ["8.8.8.8"]
    assert asked == ["rebind.test"]
    assert site.asked[0].headers["Host"] == "rebind.test"
    assert fetch(tmp_path, "http://rebind.test/b", allow_private_addresses=False) == {"private_address": 1}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://8.8.8.8/a.png", "url_refused"),
        ("file:///etc/passwd", "url_refused"),
        ("javascript:alert(1)", "url_refused"),
        ("//8.8.8.8/a.png", "url_refused"),
        ("", "url_refused"),
        ("http://", "url_refused"),
        ("http://user:word@8.8.8.8/a.png", "url_refused"),
        ("http://8.8.8.8:22/", "url_refused"),
        ("http://8.8.8.8:99999/", "url_broken"),
        ("http://[::1/", "url_broken"),
        ("http://0177.0.0.1/", "url_broken"),
        ("http://a\r\nHost: b/", "url_broken"),
        ("http://8.8.8.8/\x00", "url_broken"),
        ("http://8.8.8.8/\ud800", "url_broken"),
        ("http://" + "a" * 300 + "/", "host_unknown"),
        ("http://a..b/", "host_unknown"),
        ("http://xn--/", "host_unknown"),
        ("http://nowhere.invalid/", "host_unknown"),
    ],
)
def test_urls_that_are_not_asked(tmp_path: Path, url: str, reason: str) -> None:
    assert fetch(tmp_path, url, allow_private_addresses=False) == {reason: 1}
    assert result(tmp_path, url) == Downloaded(reason=reason)


# ---- TLS ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The certificate and key of media.test."""
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"]
    command += ["/CN=media.test", "-addext", "subjectAltName=DNS:media.test"]
    command += ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def test_the_certificate_must_be_that_of_the_name(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with serving(context) as site:
        site.answers["/a"] = send()
        right, wrong = (site.url("/a", host, "https") for host in ("media.test", "other.test"))
        assert fetch(tmp_path, right) == {"tls_broken": 1}  # nobody vouches for it
        monkeypatch.setattr(
            httpcore2, "default_ssl_context", lambda: ssl.create_default_context(cafile=str(certificate[0]))
        )
        assert fetch(tmp_path, right) == {"ok": 1}
        assert fetch(tmp_path, wrong) == {"tls_broken": 1}


def test_no_tls_at_all_is_tls_broken(tmp_path: Path, site: Site) -> None:
    assert fetch(tmp_path, site.url("/a", scheme="https"), timeout_s=1) == {"tls_broken": 1}


# ---- secrets -----------------------------------------------------------------------------------------------


def test_a_signed_url_stays_secret(tmp_path: Path, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    secret = "Signature-3f9a2c"
    site.answers = {
        "/a": send(),
        "/b": lead_to(f"/a?sig={secret}-of-the-redirect"),
        "/c": send(b"", None, status=500),
        "/d": lead_to(f"http://[{secret}"),
    }
    urls = [site.url(f"/{name}?X-Amz-Signature={secret}") for name in "abcde"]
    with caplog.at_level(logging.DEBUG):
        fetch(tmp_path, *urls)
    assert len(site.asked) == 7
    assert secret not in caplog.text
    assert secret not in repr([Wanted("x", url, "image") for url in urls])
    with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
        assert database.execute("SELECT COUNT(*) FROM results").fetchone() == (5,)
    database.close()
    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(contents) >= 3
    assert not any(secret.encode() in content or b"127.0.0.1" in content for content in contents)
