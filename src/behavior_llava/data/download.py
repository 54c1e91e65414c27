"""Media by URL onto the disk, as a step of its own that can be killed at any time and started again.

In come URLs that strangers wrote; out go files that we named, `<2 hex>/<sha256 of the URL>.<suffix>`, and a
ledger that knows of every URL what came of it. The ledger holds hashes: a signed URL is a password and stands
neither there nor in a log. What failed for good is not asked for again on the next start, what may have
passed (a timeout, a busy host) is.

One thread, the caller's, decides which request is due and keeps the ledger; the others each send one request
and come back with a file, a redirect or a reason. So a host that is slow or wants to be left alone costs its
own URLs their time and nobody else's. Every connection goes to an address that was checked just before, and
no proxy, cookie or password of the environment is used (SSL_CERT_FILE and SSL_CERT_DIR are).

What is heeded and what is refused stands in web_rules.py.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import heapq
import itertools
import logging
import random
import re
import shutil
import socket
import sqlite3
import ssl
import threading
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpcore2
import httpx2
from pydantic import Field

from behavior_llava.core import manifest
from behavior_llava.core.config import Config
from behavior_llava.core.schema import MediaKind
from behavior_llava.data.ledger import delete_rows
from behavior_llava.data.web_rules import (
    HEAD_BYTES,
    PLACEHOLDER_MD5,
    is_placeholder,
    is_public,
    opted_out,
    suffix_of,
)


class DownloadConfig(Config):
    """Settings of the download; nothing is fetched unless it is enabled.

    Attributes:
        enabled: ask the network at all.
        threads: requests under way at once, over all hosts.
        connections_per_host: of these, how many to one host; never all threads.
        requests_per_host_per_s: requests begun per second and host.
        timeout_s: seconds to connect, and to wait for the next bytes.
        deadline_s: seconds for one whole answer: a server that drips for ever is left.
        retries: how often a request is sent again where the fault may pass.
        backoff_s: seconds before the first of these; each further one waits twice as long.
        max_image_bytes, max_video_bytes: larger files are not fetched.
        max_redirects: how many are followed.
        user_agent: say here who asks, and how to reach you.
        honour_opt_out: do not keep what says in its headers that it is not to be mined.
        allow_private_addresses: DANGEROUS with URLs of strangers: they may then name machines inside your
            network, and their answers become training data. For a company's own store, and for tests; also
            lets ports other than 80 and 443 through.
    """

    enabled: bool = False
    threads: int = Field(default=16, ge=1, le=256)
    connections_per_host: int = Field(default=4, ge=1)
    requests_per_host_per_s: float = Field(default=2.0, gt=0)
    timeout_s: float = Field(default=15.0, gt=0)
    deadline_s: float = Field(default=600.0, gt=0)
    retries: int = Field(default=4, ge=0)
    backoff_s: float = Field(default=1.0, ge=0)
    max_image_bytes: int = Field(default=64 * 2**20, gt=0)
    max_video_bytes: int = Field(default=2**30, gt=0)
    max_redirects: int = Field(default=5, ge=0)
    user_agent: str = Field(
        default="behavior-llava/0.1 (media for research; contact: none given, see download.user_agent)",
        pattern=r"^[\x20-\x7e]+$",
    )
    honour_opt_out: bool = True
    allow_private_addresses: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that a post needs.

    Attributes:
        key: the post's id.
        url: kept out of every log and message.
        kind: decides which size limit counts; what came is told by its first bytes, not by this.
    """

    key: str
    url: str = field(repr=False)
    kind: MediaKind


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What came of a URL: a file, or a reason out of NORMAL_REASONS."""

    path: str | None = None
    reason: str | None = None
    sha256: str | None = None
    num_bytes: int | None = None


LEDGER = "ledger.sqlite"
"""Name of what is known of the URLs, in the folder of their files."""

_MAY_PASS = frozenset({"host_busy", "host_unknown", "connection_broken", "timeout", "tls_broken"})
_BY_SETTINGS = frozenset({"opted_out", "too_large", "private_address", "url_refused", "too_many_redirects"})
_LASTING = _BY_SETTINGS | {"gone", "refused", "not_media", "encoded", "placeholder", "url_broken"}
NORMAL_REASONS = _MAY_PASS | _LASTING
"""What happens to URLs in the wild: none of these is a fault of ours."""

MAX_WAITING = 10_000
"""URLs held in memory. Where all of them are of one slow host, those behind them in `wanted` wait."""
MAX_IDLE_HOSTS = 10_000
GIVE_UP_AFTER = 8
"""So many URLs of a host in a row that failed after all retries, and its others wait for the next start."""
MAX_BACKOFF_S = 120.0
"""A host that asks (Retry-After) for more is left alone until the next start."""

_ACCEPT = "image/jpeg,image/png,image/webp,image/gif,image/bmp,video/*,*/*;q=0.1"
_MEDIA_TYPE = re.compile(r"(image|video)/|(application|binary)/octet-stream\b|$")


class _Fault(Exception):
    """No file: the reason, and for how long the host wants to be left alone."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait_s = reason, wait_s


def _url_key(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


# ---- the ledger --------------------------------------------------------------------------------------------


class Ledger:
    """What came of every URL of a folder, on disk; a context manager.

    For one thread; several processes may read while one writes.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.resolve()
        # every statement is its own transaction; a kill loses none, a power cut the last ones, whose files
        # are then fetched again
        self._database = sqlite3.connect(self._folder / LEDGER, timeout=60, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS results (url_sha256 TEXT PRIMARY KEY, reason TEXT, suffix TEXT,"
            " sha256 TEXT, num_bytes INTEGER, start TEXT, settings TEXT) WITHOUT ROWID"
        )

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def lookup(self, url: str) -> Downloaded | None:
        """What came of this URL; None where it was not fetched, or the file is gone since."""
        found = self._find(_url_key(url))
        return None if found is None else found[0]

    def final(self, key: str, start: str, settings: str) -> Downloaded | None:
        """What came of a URL, where asking again in this start, under these settings, would be no use."""
        found = self._find(key)
        if found is None:
            return None
        result, then_start, then_settings = found
        if result.reason is None or then_start == start:
            return result
        lasting = result.reason in _LASTING and (
            result.reason not in _BY_SETTINGS or then_settings == settings
        )
        return result if lasting else None

    def record(self, key: str, result: Downloaded, start: str, settings: str) -> None:
        """Writes down what came of a URL; the file must be in its place before."""
        suffix = None if result.path is None else Path(result.path).suffix
        row = (key, result.reason, suffix, result.sha256, result.num_bytes, start, settings)
        self._database.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _find(self, key: str) -> tuple[Downloaded, str, str] | None:
        row = self._database.execute(
            "SELECT reason, suffix, sha256, num_bytes, start, settings FROM results WHERE url_sha256 = ?",
            (key,),
        ).fetchone()
        if row is None:
            return None
        reason, suffix, sha256, num_bytes, start, settings = row
        if reason is not None:
            return Downloaded(reason=reason), start, settings
        path = self._folder / key[:2] / (key + suffix)
        try:
            if path.stat().st_size != num_bytes:  # cut off by a power cut, or somebody wrote to it
                return None
        except FileNotFoundError:
            return None
        return Downloaded(str(path), None, sha256, num_bytes), start, settings


def hashes_of(folder: Path, urls: Iterable[str]) -> set[str]:
    """Hashes of the files that came of these URLs, also of those that are gone since; changes nothing."""
    path = folder / LEDGER
    if not path.exists():
        return set()
    query = "SELECT sha256 FROM results WHERE url_sha256 = ? AND sha256 IS NOT NULL"
    with closing(sqlite3.connect(path, timeout=60)) as database:
        return {row[0] for url in urls for row in database.execute(query, (_url_key(url),))}


def forget(folder: Path, urls: Iterable[str], *, is_dry: bool) -> tuple[int, int]:
    """Deletes what came of these URLs, then all that is known of them; a killed call may be made again.

    Args:
        is_dry: only count.

    Returns:
        The number of files, and of rows of the ledger.
    """
    keys = sorted(map(_url_key, urls))
    files = [file for key in keys for file in (folder / key[:2]).glob(f"{key}.*")]
    for file in files if not is_dry else ():
        file.unlink()
    return len(files), delete_rows(folder / LEDGER, "results", "url_sha256", keys, is_dry=is_dry)


# ---- addresses and answers ---------------------------------------------------------------------------------


def _check_url(url: httpx2.URL, config: DownloadConfig) -> None:
    if url.scheme not in ("http", "https") or not url.raw_host or url.userinfo:
        raise _Fault("url_refused")
    if url.port is not None and not 0 < url.port < 65536:
        raise _Fault("url_broken")
    if url.port not in (None, 80, 443) and not config.allow_private_addresses:
        raise _Fault("url_refused")
    if is_placeholder(_host(url), url.path):
        raise _Fault("placeholder")


def _parse_url(text: str, base: httpx2.URL | None = None) -> httpx2.URL:
    try:
        return httpx2.URL(text.strip()) if base is None else base.join(text.strip())
    except (httpx2.InvalidURL, ValueError):  # half a surrogate pair is a ValueError
        raise _Fault("url_broken") from None


def _host(url: httpx2.URL) -> str:
    return url.raw_host.decode("ascii")  # not url.host, which fails on what is no IDNA


def _status_reason(status: int) -> str | None:
    if status == 200:
        return None
    if status in (404, 410):
        return "gone"
    return "host_busy" if status == 429 or status >= 500 else "refused"


def _retry_after_s(text: str | None) -> float | None:
    """Seconds out of a Retry-After header, which holds seconds or a date; None where it cannot be read."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}", text.strip()):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError, TypeError):
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


# ---- one request -------------------------------------------------------------------------------------------


class _Stream(httpcore2.NetworkStream):
    """A connection that ends at its request's deadline and when the download is stopped."""

    def __init__(self, inner: httpcore2.NetworkStream, backend: _CheckedNetwork) -> None:
        self._inner, self._backend = inner, backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        end = min(self._backend.deadline(), time.monotonic() + (timeout or 0.0))
        while not self._backend.stopped.is_set():
            left = end - time.monotonic()
            if left <= 0:
                raise httpcore2.ReadTimeout
            try:
                return self._inner.read(max_bytes, min(left, 0.25))
            except httpcore2.ReadTimeout:
                continue
        raise httpcore2.ReadError

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        try:
            return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._backend)
        except httpcore2.ConnectError as error:
            raise _Fault(
                "tls_broken" if isinstance(error.__cause__, ssl.SSLError) else "connection_broken"
            ) from None

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _CheckedNetwork(httpcore2.SyncBackend):
    """Resolves a name once, checks every address it has, and connects to one of these."""

    def __init__(self, config: DownloadConfig) -> None:
        self._allow_private = config.allow_private_addresses
        self._thread = threading.local()
        self.stopped = threading.Event()

    def begin(self, deadline_s: float) -> None:
        """From now on this thread's reads have so many seconds."""
        self._thread.deadline = time.monotonic() + deadline_s

    def deadline(self) -> float:
        return self._thread.deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # UnicodeError: a name that can be none, such as "a..b"
            raise _Fault("host_unknown") from None
        addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise _Fault("private_address")
        *others, last = addresses[:4]  # each may cost the whole time limit
        for address in others:
            try:
                return _Stream(super().connect_tcp(address, port, timeout), self)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue  # often an IPv6 address on a machine without
        return _Stream(super().connect_tcp(last, port, timeout), self)


@dataclass(slots=True, eq=False)
class _Job:
    """A URL on its way: where it has led so far, how often it was tried, how many posts wait for it."""

    key: str
    kind: MediaKind
    url: httpx2.URL = field(repr=False)
    posts: int = 1
    redirects: int = 0
    tries: int = 0


class _Fetcher:
    """Sends one request at a time for each thread that calls `fetch`."""

    def __init__(self, config: DownloadConfig, folder: Path) -> None:
        self._config, self._folder = config, folder.resolve()
        self._unfinished = self._folder / "unfinished"
        shutil.rmtree(self._unfinished, ignore_errors=True)  # what a killed run left
        self._unfinished.mkdir(parents=True, exist_ok=True)
        self.network = _CheckedNetwork(config)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpcore2.default_ssl_context(),
            max_connections=config.threads,
            max_keepalive_connections=config.threads,
            keepalive_expiry=10.0,
            network_backend=self.network,
        )

    def __enter__(self) -> _Fetcher:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.close()

    def fetch(self, job: _Job) -> Downloaded | httpx2.URL | _Fault:
        """The file, the address that the answer leads to, or why there is neither."""
        self.network.begin(self._config.deadline_s)
        part = self._unfinished / f"{job.key}.part"
        try:
            return self._ask(job, part)
        except _Fault as fault:
            return fault
        except httpcore2.TimeoutException:
            return _Fault("timeout")
        except (httpcore2.NetworkError, httpcore2.ProtocolError):
            return _Fault("connection_broken")
        finally:
            part.unlink(missing_ok=True)

    def _ask(self, job: _Job, part: Path) -> Downloaded | httpx2.URL:
        url, timeout_s = job.url, self._config.timeout_s
        headers = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": self._config.user_agent,
            "Accept": _ACCEPT,
            "Accept-Encoding": "identity",
        }
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        with self._pool.stream(
            "GET", target, headers=list(headers.items()), extensions={"timeout": timeouts}
        ) as response:
            answer = [
                (name.decode("ascii"), value.decode("utf-8", "replace")) for name, value in response.headers
            ]
            first = {name.lower(): value for name, value in reversed(answer)}
            if response.status < 400 and self._config.honour_opt_out and opted_out(answer):
                raise _Fault("opted_out")
            if response.status in (301, 302, 303, 307, 308) and "location" in first:
                return _parse_url(first["location"], url)
            if reason := _status_reason(response.status):
                raise _Fault(reason, _retry_after_s(first.get("retry-after")))
            if first.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
                raise _Fault("encoded")  # a gzip bomb, or a page
            if not _MEDIA_TYPE.match(first.get("content-type", "").strip().lower()):
                raise _Fault("not_media")
            limit = self._config.max_image_bytes if job.kind == "image" else self._config.max_video_bytes
            if int(first.get("content-length", "0")) > limit:  # h11 lets digits alone through
                raise _Fault("too_large")
            return self._keep(job.key, response.iter_stream(), limit, part)

    def _keep(self, key: str, chunks: Iterator[bytes], limit: int, part: Path) -> Downloaded:
        """Writes the body to `part`, and to its own name once it is whole."""
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= HEAD_BYTES:
                break
        suffix = suffix_of(head[:HEAD_BYTES])
        if suffix is None:
            raise _Fault("not_media")
        sha256, md5, num_bytes = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        with part.open("wb") as file:
            for chunk in itertools.chain([head], chunks):
                num_bytes += len(chunk)
                if num_bytes > limit:
                    raise _Fault("too_large")
                file.write(chunk)
                sha256.update(chunk)
                md5.update(chunk)
        if md5.hexdigest() in PLACEHOLDER_MD5:
            raise _Fault("placeholder")
        path = self._folder / key[:2] / (key + suffix)
        path.parent.mkdir(exist_ok=True)
        part.replace(path)
        return Downloaded(str(path), None, sha256.hexdigest(), num_bytes)


# ---- whose turn it is --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Host:
    waiting: list[tuple[float, int, _Job]] = field(default_factory=list)
    next_s: float = 0.0
    planned_s: float = float("inf")
    under_way: int = 0
    failures: int = 0
    given_up: str | None = None


class _Hosts:
    """Which request may be sent now, by time.monotonic(); knows the hosts at work and the last idle ones."""

    def __init__(self, config: DownloadConfig) -> None:
        self._interval_s = 1.0 / config.requests_per_host_per_s
        self._connections = max(1, min(config.connections_per_host, config.threads - 1))
        self._busy: dict[str, _Host] = {}
        self._idle: OrderedDict[str, _Host] = OrderedDict()
        self._due: list[tuple[float, str]] = []
        self._order = itertools.count()

    def given_up(self, name: str) -> str | None:
        """Why a host is left alone for the rest of this start; None where it is not."""
        host = self._busy.get(name) or self._idle.get(name)
        return None if host is None else host.given_up

    def add(self, job: _Job, at: float = 0.0) -> None:
        """Queues a request, not to be sent before `at`."""
        name = _host(job.url)
        host = self._busy.setdefault(name, self._idle.pop(name, None) or _Host())
        heapq.heappush(host.waiting, (at, next(self._order), job))
        self._plan(name)

    def take(self) -> _Job | None:
        """A request that is to be sent now."""
        while self._due and self._due[0][0] <= time.monotonic():
            planned_s, name = heapq.heappop(self._due)
            host = self._busy.get(name)
            if host is None or host.planned_s != planned_s:  # planned anew since
                continue
            host.planned_s = float("inf")
            now = time.monotonic()
            if host.under_way < self._connections and self._ready_s(host) <= now:
                job = heapq.heappop(host.waiting)[2]
                host.under_way += 1
                host.next_s = now + self._interval_s
                self._plan(name)
                return job
            self._plan(name)
        return None

    def wait_s(self) -> float:
        """Seconds until `take` may have one; infinite where none waits for its time."""
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else float("inf")

    def pause(self, name: str, until: float) -> None:
        """The host is not to be asked before."""
        self._busy[name].next_s = max(self._busy[name].next_s, until)

    def end(self, name: str, *, failed: str | None) -> None:
        """A URL of the host is through; `failed` where the host, not the URL, was at fault."""
        host = self._busy[name]
        host.failures = 0 if failed is None else host.failures + 1
        if host.failures >= GIVE_UP_AFTER:
            host.given_up = failed

    def give_up(self, name: str, reason: str) -> None:
        """The host is left alone for the rest of this start."""
        self._busy[name].given_up = reason

    def answered(self, name: str) -> list[_Job]:
        """A request is no longer under way; gives back the host's others where it is to be left alone."""
        host = self._busy[name]
        host.under_way -= 1
        dropped = [job for _, _, job in host.waiting] if host.given_up else []
        if dropped:
            host.waiting.clear()
        self._plan(name)
        if not host.waiting and not host.under_way:
            host.planned_s = float("inf")
            self._idle[name] = self._busy.pop(name)
            if len(self._idle) > MAX_IDLE_HOSTS:
                self._idle.popitem(last=False)
        return dropped

    def _ready_s(self, host: _Host) -> float:
        return max(host.next_s, host.waiting[0][0]) if host.waiting else float("inf")

    def _plan(self, name: str) -> None:
        host = self._busy[name]
        if host.under_way < self._connections and self._ready_s(host) < host.planned_s:
            host.planned_s = self._ready_s(host)
            heapq.heappush(self._due, (host.planned_s, name))


# ---- all of them -------------------------------------------------------------------------------------------


class _Download:
    """One start; everything here happens in the caller's thread but `_Fetcher.fetch`."""

    def __init__(
        self, config: DownloadConfig, ledger: Ledger, fetcher: _Fetcher, done: Callable[[int], None] | None
    ) -> None:
        self._config, self._ledger, self._fetcher, self._done = config, ledger, fetcher, done
        self._start = uuid.uuid4().hex
        self._settings = repr(
            (
                config.honour_opt_out,
                config.allow_private_addresses,
                config.max_image_bytes,
                config.max_video_bytes,
                config.max_redirects,
            )
        )
        self._hosts = _Hosts(config)
        self._jobs: dict[str, _Job] = {}
        self._counts: Counter[str] = Counter()
        self._sent: dict[concurrent.futures.Future[Downloaded | httpx2.URL | _Fault], _Job] = {}

    def run(self, wanted: Iterable[Wanted]) -> Counter[str]:
        remaining, more = iter(wanted), True
        pool = concurrent.futures.ThreadPoolExecutor(self._config.threads, "download")
        try:
            while more or self._jobs:
                more = more and self._take_in(remaining)
                while len(self._sent) < self._config.threads and (job := self._hosts.take()):
                    self._sent[pool.submit(self._fetcher.fetch, job)] = job
                self._receive(at_once=more and len(self._jobs) < MAX_WAITING)
            return self._counts
        finally:
            self._fetcher.network.stopped.set()
            pool.shutdown(cancel_futures=True)

    def _take_in(self, remaining: Iterator[Wanted]) -> bool:
        """Queues some more of what is wanted; False at the end of it."""
        for _ in range(256):  # not so many that answers wait for it
            if len(self._jobs) >= MAX_WAITING:
                return True
            item = next(remaining, None)
            if item is None:
                return False
            key = _url_key(item.url)
            if key in self._jobs:
                self._jobs[key].posts += 1
            elif result := self._ledger.final(key, self._start, self._settings):
                self._count(result, 1)
            else:
                job = self._jobs[key] = _Job(key, item.kind, httpx2.URL())
                self._lead(job, item.url)
        return True

    def _lead(self, job: _Job, url: str | httpx2.URL) -> None:
        """Queues a request for this address, if it may be asked."""
        try:
            job.url = _parse_url(url) if isinstance(url, str) else url
            _check_url(job.url, self._config)
        except _Fault as fault:
            return self._settle(job, Downloaded(reason=fault.reason))
        if reason := self._hosts.given_up(_host(job.url)):
            return self._settle(job, Downloaded(reason=reason))
        return self._hosts.add(job)

    def _receive(self, *, at_once: bool) -> None:
        """Waits until an answer is there or a request is due, and goes on with what has come."""
        free = len(self._sent) < self._config.threads
        wait_s = 0.0 if at_once else min(self._hosts.wait_s() if free else 60.0, 60.0)
        if not self._sent:
            time.sleep(wait_s if self._jobs else 0.0)
            return
        finished, _ = concurrent.futures.wait(
            self._sent, wait_s, return_when=concurrent.futures.FIRST_COMPLETED
        )
        for future in finished:
            job = self._sent.pop(future)
            name = _host(job.url)
            result = future.result()
            if isinstance(result, _Fault):
                self._fail(job, result)
            elif isinstance(result, httpx2.URL):
                self._redirect(job, result)
            else:
                self._hosts.end(name, failed=None)
                self._settle(job, result)
            for dropped in self._hosts.answered(name):
                self._settle(dropped, Downloaded(reason=self._hosts.given_up(name)))

    def _redirect(self, job: _Job, url: httpx2.URL) -> None:
        self._hosts.end(_host(job.url), failed=None)
        job.redirects += 1
        if job.redirects > self._config.max_redirects:
            self._settle(job, Downloaded(reason="too_many_redirects"))
        else:
            self._lead(job, url)

    def _fail(self, job: _Job, fault: _Fault) -> None:
        name, now = _host(job.url), time.monotonic()
        may_pass = fault.reason in _MAY_PASS
        if may_pass and (fault.wait_s or 0.0) > MAX_BACKOFF_S:
            self._hosts.give_up(name, fault.reason)
        elif may_pass and fault.wait_s is not None:
            self._hosts.pause(name, now + fault.wait_s)
        again = fault.reason != "tls_broken" and job.tries < self._config.retries
        if may_pass and again and not self._hosts.given_up(name):
            backoff_s = min(MAX_BACKOFF_S, self._config.backoff_s * 2**job.tries) * random.uniform(0.5, 1.5)
            job.tries += 1
            self._hosts.add(job, now + max(backoff_s, fault.wait_s or 0.0))
            return
        self._hosts.end(name, failed=fault.reason if may_pass else None)
        self._settle(job, Downloaded(reason=fault.reason))

    def _settle(self, job: _Job, result: Downloaded) -> None:
        del self._jobs[job.key]
        self._ledger.record(job.key, result, self._start, self._settings)
        self._count(result, job.posts)

    def _count(self, result: Downloaded, posts: int) -> None:
        self._counts[result.reason or "ok"] += posts
        if self._done is not None:
            self._done(posts)


def download(
    config: DownloadConfig,
    folder: Path,
    wanted: Iterable[Wanted],
    *,
    done: Callable[[int], None] | None = None,
) -> Counter[str]:
    """Fetches what is wanted and not there yet into `folder`; `Ledger(folder).lookup(url)` then finds it.

    An interrupt ends it within `timeout_s`; the next call goes on.

    Args:
        wanted: read once, as it is needed; may be endless. A URL that several posts want is fetched once.
        done: told, in this thread, of how many entries of `wanted` the outcome is known since the last call.

    Returns:
        How many entries of `wanted` ended how: "ok" or a reason. Empty where the config does not enable it;
        nothing is read or written then.

    Raises:
        UserError: another process is at work in the folder.
    """
    if not config.enabled:
        return Counter()
    # its DEBUG lines hold whole headers, and the addresses in these may be signed
    logging.getLogger("httpcore2").setLevel(logging.INFO)
    with manifest.only_one(folder), Ledger(folder) as ledger, _Fetcher(config, folder) as fetcher:
        return _Download(config, ledger, fetcher, done).run(wanted)
