"""Independent pieces of work side by side, in processes that end with the one that started them.

Small models leave cores idle when one process works with all of them; several processes of one thread each do
not. Their progress and log lines appear in the parent. Called by pipeline.py for the cells of a run.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from behavior_llava.core import progress
from behavior_llava.core.errors import UserError


class _Forward(logging.Handler):
    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        """Sends the line to the parent."""
        self._connection.send(("log", (record.name, record.levelno, record.getMessage())))


def end_with_parent() -> None:
    """Runs in a thread of a child: ends it as soon as its parent is gone, even by kill -9."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _serve(connection: Connection, function: Callable[..., None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends us
    threading.Thread(target=end_with_parent, daemon=True).start()
    log = logging.getLogger("behavior_llava")
    log.addHandler(_Forward(connection))
    log.setLevel(logging.INFO)
    log.propagate = False
    progress.tell_instead(lambda name, arguments: connection.send(("board", (name, arguments))))
    while True:
        connection.send(("ready", ()))
        try:
            arguments = connection.recv()
        except EOFError:
            return
        try:
            function(*arguments)
        except UserError as error:
            connection.send(("refused", error))
            return


def run(
    function: Callable[..., None],
    jobs: Sequence[tuple[Any, ...]],
    *,
    processes: int,
    after: Mapping[int, int] | None = None,
) -> None:
    """Calls `function` with the arguments of every job, in so many processes; returns when all are done.

    Args:
        function: importable by name.
        jobs: begun in their order; arguments that can be pickled.
        after: number of a job -> number of an earlier one it has to wait for; others go ahead meanwhile.

    Raises:
        UserError: the first that a job raised; the other processes are ended.
        RuntimeError: a process ended before its job did.
    """
    context = multiprocessing.get_context("spawn")
    plan = _Plan(len(jobs), after or {})
    crew: dict[Connection, Any] = {}
    try:
        for _ in range(min(processes, len(jobs))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, function), daemon=False)
            process.start()
            theirs.close()
            crew[ours] = process
        with progress.Board() as board:
            while crew:
                for connection in wait(list(crew)):
                    assert isinstance(connection, Connection)
                    try:
                        kind, value = connection.recv()
                    except EOFError:
                        raise RuntimeError(
                            f"a process of {function.__name__} ended before its work; see its trace above"
                        ) from None
                    if kind == "refused":
                        raise value
                    if kind == "log":
                        logging.getLogger(value[0]).log(value[1], value[2])
                    elif kind == "board":
                        name, (key, *rest) = value
                        getattr(board, name)((id(connection), key), *rest)
                    else:
                        for free, number in plan.assigned(connection):
                            free.send(jobs[number])
                        for free in plan.dismissed():
                            free.close()
                            crew.pop(free).join()
    finally:
        for connection, process in crew.items():
            process.kill()
            process.join()
            connection.close()


class _Plan:
    """Which job goes to which process next."""

    def __init__(self, num_jobs: int, after: Mapping[int, int]) -> None:
        if any(not 0 <= before < number < num_jobs for number, before in after.items()):
            raise ValueError("a job can wait for an earlier one only")
        self._waiting, self._after = list(range(num_jobs)), after
        self._done: set[int] = set()
        self._at_work: dict[Connection, int] = {}
        self._idle: list[Connection] = []

    def assigned(self, ready: Connection) -> list[tuple[Connection, int]]:
        """The jobs that can begin now that this process has done its own; others may have waited for it."""
        if ready in self._at_work:
            self._done.add(self._at_work.pop(ready))
        self._idle.append(ready)
        able = [
            number
            for number in self._waiting
            if number not in self._after or self._after[number] in self._done
        ]
        begun = list(zip(self._idle, able, strict=False))
        for connection, number in begun:
            self._idle.remove(connection)
            self._waiting.remove(number)
            self._at_work[connection] = number
        return begun

    def dismissed(self) -> list[Connection]:
        """The processes nothing is left for."""
        if self._waiting:
            return []
        gone, self._idle = self._idle, []
        return gone
