"""A local server that speaks the chat protocol, and can do everything wrong that a real one may do.

A script says what it answers to the n-th request; what it was asked is kept for the test to look at.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def reply(text: Any, *, finish_reason: Any = "stop", **more: Any) -> dict[str, Any]:
    """An answer as an endpoint gives it."""
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], **more}


HOW = frozenset({"X-Drip", "X-Drip-Head", "X-Reset"})


class Server:
    """Answers as its `script` says: (status, headers, body) or a body alone, for the n-th request.

    A body that is a generator of bytes is sent piece by piece as it gives them, and the connection closed;
    where the client goes away, the generator is closed.

    Three headers are not sent but say how: X-Drip sends the body byte by byte, X-Drip-Head everything, and
    X-Reset breaks the connection in the middle of the body.
    """

    def __init__(self) -> None:  # noqa: C901 - a handler of requests inside
        self.script: Callable[[int, dict[str, Any]], Any] = lambda number, asked: reply("a cat")
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.stop = threading.Event()
        self.under_way = self.most_under_way = 0
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.asked)
                    outer.asked.append(asked)
                    outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                    outer.paths.append(self.path)
                    outer.under_way += 1
                    outer.most_under_way = max(outer.most_under_way, outer.under_way)
                try:
                    answer = outer.script(number, asked)
                finally:
                    with lock:
                        outer.under_way -= 1
                status, headers, body = answer if isinstance(answer, tuple) else (200, {}, answer)
                if isinstance(body, Generator):
                    self.send_pieces(status, body)
                    return
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                shown = {name: value for name, value in headers.items() if name not in HOW}
                head = "".join(
                    f"{name}: {value}\r\n"
                    for name, value in {"Content-Length": str(len(content)), **shown}.items()
                )
                head_bytes = f"HTTP/1.1 {status} So\r\n{head}\r\n".encode()
                try:
                    self.send(head_bytes, drips="X-Drip-Head" in headers)
                    if "X-Reset" in headers:
                        self.wfile.write(content[: len(content) // 2])
                        # closed at once, with a reset in place of an end
                        linger = struct.pack("ii", 1, 0)
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        self.connection.close()
                        self.close_connection = True
                        return
                    self.send(content, drips="X-Drip" in headers or "X-Drip-Head" in headers)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client went away, as some tests want

            def send_pieces(self, status: int, pieces: Generator[bytes, None, None]) -> None:
                self.close_connection = True
                try:
                    self.wfile.write(f"HTTP/1.1 {status} So\r\nConnection: close\r\n\r\n".encode())
                    for piece in pieces:
                        self.wfile.write(piece)
                except (BrokenPipeError, ConnectionResetError):
                    pieces.close()

            def send(self, content: bytes, *, drips: bool) -> None:
                if not drips:
                    self.wfile.write(content)
                    return
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    if outer.stop.wait(0.05):
                        return

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
