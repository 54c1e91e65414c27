"""`behavior-llava serve`: what is served where, from the first look at the settings to the last deleted file.

The page is in page.py, what happens when it is used in demo.py, what is reachable at all in gate.py. Called
by the command line.
"""

from __future__ import annotations

import importlib
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.serving.demo import Demo
from behavior_llava.serving.dialogues import Dialogues
from behavior_llava.serving.sessions import HOUR_S, Rate, Sessions
from behavior_llava.serving.targets import Models, Target
from behavior_llava.serving.uploads import Door, private_folder, remove_old

log = logging.getLogger(__name__)

_SWEEP_S = 60.0


class ServeConfig(Config):
    """How the demo is served.

    Attributes:
        host: the address to listen at. port: 1024..65535, or 80 and such as root.
        device: auto, cpu or cuda.
        store: the folder of opted-in dialogues; None where none are stored and nobody is asked.
        max_mb: of an uploaded file. max_seconds: of a video.
        per_minute: uploads, questions and accepted terms from one address.
        queue: requests that may wait; more are refused.
        max_new_tokens: of an answer.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=7860, ge=1, le=65535)
    device: str = "auto"
    store: Path | None = None
    max_mb: int = Field(default=50, ge=1, le=4096)
    max_seconds: float = Field(default=60.0, gt=0)
    per_minute: int = Field(default=20, ge=1)
    queue: int = Field(default=20, ge=1)
    max_new_tokens: int = Field(default=200, ge=1)


def serve(target: Target, config: ServeConfig, *, told: Callable[[str], None]) -> None:
    """Serves the demo until Ctrl-C or SIGTERM; uploads are deleted then.

    Args:
        told: called with the page's address when it can be opened.

    Raises:
        UserError: Gradio is missing, the port is taken, or a folder cannot be written.
    """
    ended = threading.Event()
    if not _is_loopback(config.host):
        log.warning(
            "the demo listens at %s, without TLS and without a password: put a reverse proxy with both before"
            " it (nginx, Caddy), and bind to 127.0.0.1",
            config.host,
        )
    if not _is_free(config.host, config.port):
        raise UserError(
            "cannot be listened at: taken, or no address of this machine",
            where=f"{config.host}:{config.port}",
            remedy="choose another --port or --host",
        )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with private_folder() as folder:
        _prepare_gradio(folder / "gradio")
        from behavior_llava.serving import page

        sessions, rate = Sessions(folder), Rate(config.per_minute)
        dialogues = None if config.store is None else Dialogues(config.store)
        if dialogues is not None:
            dialogues.open()
        door = Door(
            max_bytes=config.max_mb * 2**20,
            max_seconds=config.max_seconds,
            max_scenes=target.manner.max_scenes,
            rule=target.manner.scenes,
        )
        models = Models(target, device=config.device)
        demo = Demo(models, sessions, door, dialogues, config.max_new_tokens)
        limits = page.Limits(config.max_mb, config.max_seconds, config.queue)
        close = page.Page(demo, rate, limits).open(config.host, config.port)
        told(f"http://{config.host}:{config.port}")
        try:
            while not ended.wait(_SWEEP_S):
                sessions.sweep()
                remove_old(folder / "gradio", HOUR_S)
        finally:
            close()


def _prepare_gradio(folder: Path) -> None:
    """Tells the library, before it is imported, to send nothing and to keep files in our folder.

    Raises:
        UserError: it is not installed.
    """
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
        "GRADIO_SSR_MODE": "False",
        "GRADIO_SHARE": "False",
        "GRADIO_TEMP_DIR": str(folder),
    }
    folder.mkdir(mode=0o700)
    try:
        importlib.import_module("gradio")
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UserError("Gradio is not installed", remedy="pip install 'behavior-llava[demo]'") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_free(host: str, port: int) -> bool:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError:
        return False
    return True
