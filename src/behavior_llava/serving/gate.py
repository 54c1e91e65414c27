"""What of a Gradio server visitors reach at all: an ASGI layer before it.

Only the addresses the page needs are open: no stored file, no proxy, no programming interface, no
documentation. Before the terms are accepted nothing can be uploaded, and a request may name only files that
its own visitor has sent. Called by app.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from behavior_llava.serving.sessions import NOT_ACCEPTED, Rate, Sessions, new_visitor
from behavior_llava.serving.uploads import Refused

COOKIE = "visitor"
UPLOAD, ASK = "/gradio_api/upload", "/gradio_api/queue/join"
_READ = (
    "/assets/",
    "/static/",
    "/gradio_api/heartbeat/",
    "/gradio_api/queue/data",
    "/gradio_api/startup-events",
    "/gradio_api/theme.css",
    "/gradio_api/upload_progress",
)
_READ_ALONE = frozenset({"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"})
_WRITE = frozenset({UPLOAD, ASK, "/gradio_api/cancel", "/gradio_api/reset"})
MOST_BODY_BYTES = 256 * 2**10
"""Of a request that is no upload."""
_ENVELOPE_BYTES = 64 * 2**10
"""What a form adds to the file in it."""

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""The page reaches this server alone, whatever gets into it. Gradio's own code needs inline and eval."""
HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Gate:
    """The layer.

    Args:
        max_bytes: of an uploaded file.
    """

    def __init__(self, app: ASGIApp, *, sessions: Sessions, rate: Rate, max_bytes: int) -> None:
        self._app, self._sessions, self._rate, self._max_bytes = app, sessions, rate, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it with a short sentence."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the page uses no web sockets
        answer = _Answer(send)
        refused = await self._passed(scope, receive, answer)
        if refused is not None:
            status, sentence = refused
            await PlainTextResponse(sentence, status_code=status)(scope, receive, answer)

    async def _passed(self, scope: Scope, receive: Receive, answer: _Answer) -> tuple[int, str] | None:
        """Status and sentence where the request is refused; else it was answered."""
        path, method = scope["path"], scope["method"]
        visitor = visitor_of(Headers(scope=scope))
        if method in ("GET", "HEAD") and (path in _READ_ALONE or path.startswith(_READ)):
            if path == "/" and not visitor:
                answer.cookie = _cookie(new_visitor(), is_secure=scope["scheme"] == "https")
            await self._app(scope, receive, answer)
            return None
        if method != "POST" or path not in _WRITE:
            return 404, "Not here."
        if path == UPLOAD:
            return await self._upload(scope, receive, answer, visitor)
        body = await _body(receive, MOST_BODY_BYTES)
        if body is None:
            return 413, "This is too much at once."
        if path == ASK and not self._may_name(body, visitor):
            return 400, "This request cannot be read."
        await self._app(scope, _again(body, receive), answer)
        return None

    async def _upload(
        self, scope: Scope, receive: Receive, answer: _Answer, visitor: str
    ) -> tuple[int, str] | None:
        if not self._sessions.has_accepted(visitor):
            return 403, NOT_ACCEPTED
        most = self._max_bytes + _ENVELOPE_BYTES
        told = Headers(scope=scope).get("content-length", "")
        # of a body without a length the limit could only be seen when it was passed
        if not told.isdecimal():
            return 411, "This upload does not say how large it is."
        if int(told) > most:
            return 413, "This file is larger than we take."
        try:
            self._rate.take(address_of(Request(scope)))
        except Refused as refused:
            return 429, str(refused)
        # before the page hears of it, which then asks about it at once
        answer.on_whole = lambda body: self._note(visitor, body)
        await self._app(scope, receive, answer)
        return None

    def _note(self, visitor: str, body: bytes) -> None:
        for name in json.loads(body):
            self._sessions.note_upload(visitor, Path(name))

    def _may_name(self, body: bytes, visitor: str) -> bool:
        """Whether a request is JSON, and all files in it are this visitor's own uploads.

        Gradio would fetch a file whose path is an address, and hand over another visitor's.
        """
        try:
            paths = list(_paths(json.loads(body)))
        except (ValueError, RecursionError):
            return False
        return all(isinstance(path, str) and self._sessions.owns(visitor, Path(path)) for path in paths)


class _Answer:
    """Sends what an app sends, with our headers.

    Attributes:
        cookie: to be set.
        on_whole: told the whole body of a good answer before its last part is sent.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.cookie: str | None = None
        self.on_whole: Callable[[bytes], None] | None = None
        self._status, self._body = 0, bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            if self.cookie is not None:
                headers.append("set-cookie", self.cookie)
                headers["cache-control"] = "no-store"
        elif self.on_whole is not None and self._status == 200 and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                self.on_whole(bytes(self._body))
        await self._send(message)


def visitor_of(headers: Any) -> str:
    """The visitor's cookie; empty where there is none."""
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""


def address_of(request: Any) -> str:
    """Where a request comes from, for counting alone."""
    return "unknown" if request.client is None else str(request.client.host)


def _cookie(value: str, *, is_secure: bool) -> str:
    return f"{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if is_secure else ''}"


async def _body(receive: Receive, most: int) -> bytes | None:
    """The whole body; None where it is longer."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > most:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """The same body once more, and then whatever comes."""
    left = [body]

    async def replay() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return replay


def _paths(value: Any) -> Iterator[Any]:
    """All that a request calls a path or an address, at any depth."""
    if isinstance(value, dict):
        yield from (one for name, one in value.items() if name == "path" and one is not None)
        for one in value.values():
            yield from _paths(one)
    elif isinstance(value, list):
        for one in value:
            yield from _paths(one)
