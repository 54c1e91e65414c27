"""One function over many arguments in processes that can be killed: what hangs or crashes costs itself alone.

A hostile file may make a decoder run for ever, end its process or eat the machine's memory; here it costs its
time limit, and is remembered if a `Quarantine` is given. Called by data/collect.py (measure media), data/
reading.py (read records) and data/viewing.py (look at media).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import os
import resource
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from behavior_llava.core.media import OUT_OF_MEMORY, MediaFault
from behavior_llava.core.processes import end_with_parent

TIMEOUT, CRASHED = "decoder_timeout", "decoder_crashed"
"""Reasons that cost a process, as OUT_OF_MEMORY does; these are quarantined."""

_BATCH_S = 0.02
"""Work sent to a process at a time: long beside the cost of a message, short beside a person's patience."""
_MAX_BATCH = 32
_MAX_AHEAD_BYTES = 4096
"""A message to a process that is not waiting for it must fit into the pipe (macOS: 8 KiB): a writer that
blocks would wait for a process that may be hanging."""
_TICK_S = 0.5


def _limit(memory_gib: float | None) -> None:
    """Caps what this process may allocate, beyond what it holds already, and keeps its crash from filling
    the disk.

    Data is what counts: address space also counts the libraries and what is only reserved.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if memory_gib is None or not statm.exists():  # macOS keeps no account of data, and enforces no limit
        return
    held = int(statm.read_text().split()[5]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = held + int(memory_gib * 2**30)
    resource.setrlimit(
        resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
    )


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "ok", function(*arguments)
    except MediaFault as fault:
        return "fault", fault.reason
    except MemoryError:
        return "fault", OUT_OF_MEMORY
    except Exception as error:  # noqa: BLE001 - a decoder may raise anything; it becomes a counted reason
        return "fault", f"decoder_{type(error).__name__}"


def _sendable(answer: tuple[str, Any]) -> tuple[str, Any]:
    try:
        ForkingPickler.dumps(answer)
    except Exception as error:  # noqa: BLE001 - a result's own pickling code
        return "fault", f"decoder_{type(error).__name__}"
    return answer


def _packed(spent_s: float, answers: list[tuple[str, Any]]) -> Any:
    """The message with these answers; what cannot be sent becomes a fault."""
    try:
        return ForkingPickler.dumps((spent_s, answers))
    except Exception:  # noqa: BLE001 - one of them; the others are not to be lost
        return ForkingPickler.dumps((spent_s, [_sendable(answer) for answer in answers]))


def _serve(
    connection: multiprocessing.connection.Connection,
    function: Callable[..., Any],
    num_begun: Any,
    memory_gib: float | None,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends us
    threading.Thread(target=end_with_parent, daemon=True).start()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # files would tell of themselves on the terminal
    threadpool_limits(1)  # the processes share the cores; their matrix products are not to fight over them
    _limit(memory_gib)
    connection.send("ready")
    while True:
        try:
            batch = connection.recv()
        except EOFError:
            return
        answers: list[tuple[str, Any]] = []
        since_s = time.monotonic()
        for number, arguments in enumerate(batch, 1):
            # the parent reads this to know which one we hang or crash in
            num_begun.value += 1
            answers.append(_answer(function, arguments))
            spent_s = time.monotonic() - since_s
            is_full = answers[-1] == ("fault", OUT_OF_MEMORY)
            if number == len(batch) or spent_s > _BATCH_S or is_full:
                connection.send_bytes(_packed(spent_s, answers))
                answers, since_s = [], time.monotonic()
            if is_full:
                return  # what is left of the memory may be in pieces


class _Job:
    """One call: its arguments and, once `is_done`, its result or the MediaFault."""

    __slots__ = ("arguments", "is_done", "is_second_try", "key", "result")

    def __init__(self, arguments: tuple[Any, ...], key: str | None) -> None:
        self.arguments, self.key = arguments, key
        self.is_done, self.is_second_try, self.result = False, False, None

    def end(self, result: Any) -> None:
        self.result, self.is_done = result, True


class _Worker:
    """A process and the jobs it was sent and has not answered, in order."""

    def __init__(self, function: Callable[..., Any], memory_gib: float | None) -> None:
        self._name = function.__name__
        context = multiprocessing.get_context("spawn")
        self._num_begun = context.RawValue("q", 0)
        self.connection, theirs = context.Pipe()
        try:
            self._process = context.Process(
                target=_serve, args=(theirs, function, self._num_begun, memory_gib), daemon=True
            )
            self._process.start()
        finally:
            theirs.close()
        self.jobs: deque[_Job] = deque()
        self._is_ready = False
        self._num_answered = 0
        self._seen = 0
        self._since_s = time.monotonic()

    def send(self, jobs: Sequence[_Job], *, max_bytes: int | None = None) -> bool:
        """False, and nothing is sent, where that takes more bytes."""
        message = ForkingPickler.dumps([job.arguments for job in jobs])
        if max_bytes is not None and len(message) > max_bytes:
            return False
        if not self.jobs:
            self._since_s = time.monotonic()
        self.jobs.extend(jobs)
        # a process that is gone shows at the other end
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(message)
        return True

    def receive(self) -> tuple[float, list[tuple[_Job, bool, Any]]]:
        """Seconds spent, and what was answered: the job, whether it went well, its result or its reason.

        Raises:
            EOFError: the process has ended.
        """
        try:
            message = self.connection.recv()
        except (EOFError, OSError):  # or in the middle of a message
            if self._is_ready:
                raise EOFError from None
            # no fault of a file: the function itself cannot be imported there
            raise RuntimeError(
                f"a worker for {self._name} ends before it begins; see its trace above"
            ) from None
        self._since_s = time.monotonic()
        if not self._is_ready:
            self._is_ready = True
            return 0.0, []
        spent_s, answers = message
        self._num_answered += len(answers)
        return spent_s, [(self.jobs.popleft(), kind == "ok", value) for kind, value in answers]

    def is_overdue(self, timeout_s: float) -> bool:
        """Whether it has been at one job for longer than that, or has never begun it."""
        now_s = time.monotonic()
        if self._num_begun.value != self._seen or not self.jobs or not self._is_ready:
            self._seen, self._since_s = self._num_begun.value, now_s
        return now_s - self._since_s > timeout_s

    def is_at_its_first(self) -> bool:
        """Whether nothing but the job it is at can have brought the process to this."""
        return self._num_begun.value == 1

    def take_culprit(self) -> _Job | None:
        """The job it was at."""
        if not self.jobs:
            return None
        place = max(self._num_begun.value - self._num_answered - 1, 0)
        culprit = self.jobs[place]
        del self.jobs[place]
        return culprit

    def close(self) -> None:
        self._process.kill()
        # a process stuck in the kernel (a dead network disk) does not end; it must not keep us
        self._process.join(10)
        self.connection.close()


@dataclass
class Quarantine:
    """Files that cost a decoder its process, on disk: they are answered for, and not decoded again.

    One line of JSON a file: a hash of function, path, size and time of change (no name is kept), the reason,
    and the limits it broke. A file that was changed, or gets more time or memory, is tried again; so is all
    when the quarantine is deleted.
    """

    path: Path
    timeout_s: float
    memory_gib: float | None
    _reasons: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.path.exists():
            return
        for line in self.path.read_text("utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                enough = row["timeout_s"] >= self.timeout_s and row["memory_gib"] >= self._memory_gib
                if enough:
                    self._reasons[row["file"]] = row["reason"]
            except (ValueError, KeyError, TypeError):
                continue  # half a line, of a process that was killed: its file is tried again

    @property
    def _memory_gib(self) -> float:
        return 1e9 if self.memory_gib is None else self.memory_gib

    def key(self, function: Callable[..., Any], path: Path) -> str | None:
        """None where there is no file."""
        try:
            found = path.stat()
        except (OSError, ValueError):
            return None
        text = f"{function.__module__}.{function.__qualname__}\0{path.absolute()}\0{found.st_size}\0"
        return hashlib.sha256(f"{text}{found.st_mtime_ns}".encode(errors="surrogateescape")).hexdigest()

    def reason(self, key: str) -> str | None:
        """Why the file is not to be decoded, if it is not."""
        return self._reasons.get(key)

    def add(self, key: str, reason: str) -> None:
        """Remembers a file, now and for the next start."""
        self._reasons[key] = reason
        row = {"file": key, "reason": reason, "timeout_s": self.timeout_s, "memory_gib": self._memory_gib}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(number).st_size
            is_whole = size == 0 or os.pread(number, 1, size - 1) == b"\n"
            # in one write, so that lines of several processes do not mix
            os.write(number, (("" if is_whole else "\n") + json.dumps(row) + "\n").encode())
            os.fsync(number)
        finally:
            os.close(number)


class Workers:
    """Runs one function over many arguments in processes that are killed when they hang, crash or swell.

    A context manager, for one thread: the processes start with the first call and end with the block. Quick
    calls travel several at a time, slow ones alone. Of calls whose process ended only the guilty one is lost;
    one that was not the first of its process is tried once more in a fresh one, since an earlier one may have
    done the harm. So results do not depend on the number of processes.

    Args:
        function: importable by name; raises MediaFault for what it refuses.
        timeout_s: per call; a call beyond it yields MediaFault("decoder_timeout") and a fresh process.
        memory_gib: what a process may allocate beyond what it starts with (Linux); a call beyond it yields
            MediaFault("decoder_out_of_memory"). The largest picture allowed takes about 0.8.
        quarantine: file that remembers, over starts, whose decoding ended a process; the first argument must
            then be the path of a media file. None: every start tries again.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        processes: int = 2,
        timeout_s: float = 60.0,
        memory_gib: float | None = 2.0,
        quarantine: Path | None = None,
    ) -> None:
        self._function, self._processes, self._timeout_s = function, processes, timeout_s
        self._memory_gib = memory_gib
        self._quarantine = None if quarantine is None else Quarantine(quarantine, timeout_s, memory_gib)
        self._workers: list[_Worker] = []
        self._waiting: deque[_Job] = deque()
        self._job_s: float | None = None
        """What a call takes, lately."""

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.close()
        self._workers.clear()

    def map(self, arguments: Iterable[tuple[Any, ...]], *, ahead: int = 64) -> Iterator[Any]:
        """Results, or MediaFault values, in the order of the arguments.

        Args:
            ahead: for each process, arguments that are taken before the oldest is answered for.
        """
        ours: deque[_Job] = deque()
        looked_s = 0.0
        try:
            for item in arguments:
                ours.append(self._admitted(item))
                self._assign()
                # slow arguments must not keep quick processes waiting
                if time.monotonic() - looked_s > _BATCH_S / 2:
                    self._look(0)
                    looked_s = time.monotonic()
                while len(ours) >= ahead * self._processes and not ours[0].is_done:
                    self._look(self._tick_s)
                while ours and ours[0].is_done:
                    yield ours.popleft().result
            while ours:
                while not ours[0].is_done:
                    self._look(self._tick_s)
                yield ours.popleft().result
        finally:
            # where the reader goes away early, what was not begun is not done
            unwanted = set(map(id, ours))
            self._waiting = deque(job for job in self._waiting if id(job) not in unwanted)

    @property
    def _tick_s(self) -> float:
        return min(_TICK_S, self._timeout_s / 8)

    def _admitted(self, arguments: tuple[Any, ...]) -> _Job:
        if self._quarantine is None:
            job = _Job(arguments, None)
        else:
            job = _Job(arguments, self._quarantine.key(self._function, Path(arguments[0])))
            reason = None if job.key is None else self._quarantine.reason(job.key)
            if reason is not None:
                job.end(MediaFault(reason))
                return job
        self._waiting.append(job)
        return job

    def _assign(self) -> None:
        """Gives every process that has too little to do a batch of what waits."""
        for worker in self._workers:
            self._give(worker)
        while self._waiting and len(self._workers) < self._processes:
            self._workers.append(_Worker(self._function, self._memory_gib))
            self._give(self._workers[-1])

    def _give(self, worker: _Worker) -> None:
        # a fair share, so that at the end none has a long way to go while another idles
        share = math.ceil(len(self._waiting) / (2 * self._processes))
        fitting = 1 if self._job_s is None else int(_BATCH_S / max(self._job_s, 1e-9))
        size = max(1, min(share, fitting, _MAX_BATCH))
        is_idle = not worker.jobs
        if not self._waiting or not (is_idle or len(worker.jobs) <= size // 2):
            return
        batch = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
        if not worker.send(batch, max_bytes=None if is_idle else _MAX_AHEAD_BYTES):
            self._waiting.extendleft(reversed(batch))

    def _look(self, wait_s: float) -> None:
        """Takes what the processes have answered, ends those that hang, and gives out work."""
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in multiprocessing.connection.wait(list(by_connection), wait_s):
            assert isinstance(connection, multiprocessing.connection.Connection)
            worker = by_connection[connection]
            try:
                spent_s, answers = worker.receive()
            except EOFError:
                self._replace(worker, worker.take_culprit(), CRASHED)
                continue
            for job, is_ok, value in answers:
                if not is_ok and value == OUT_OF_MEMORY:
                    self._replace(worker, job, OUT_OF_MEMORY)
                else:
                    job.end(value if is_ok else MediaFault(value))
            if answers:
                lately_s = spent_s / len(answers)
                self._job_s = lately_s if self._job_s is None else (self._job_s + lately_s) / 2
        for worker in list(self._workers):
            if worker.is_overdue(self._timeout_s):
                self._replace(worker, worker.take_culprit(), TIMEOUT)
        self._assign()

    def _replace(self, worker: _Worker, culprit: _Job | None, reason: str) -> None:
        """Ends a process, settles what brought it to that, and lets the rest of its jobs wait again."""
        self._workers.remove(worker)
        worker.close()
        self._waiting.extendleft(reversed(worker.jobs))
        if culprit is None:
            return
        if reason != TIMEOUT and not (worker.is_at_its_first() or culprit.is_second_try):
            culprit.is_second_try = True
            fresh = _Worker(self._function, self._memory_gib)
            fresh.send([culprit])
            self._workers.append(fresh)
            return
        culprit.end(MediaFault(reason))
        if self._quarantine is not None and culprit.key is not None:
            self._quarantine.add(culprit.key, reason)
