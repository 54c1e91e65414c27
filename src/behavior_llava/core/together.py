"""Processes that a launcher started together: the first does the work of one, all train and ask for it.

`torchrun` and `accelerate launch` start the same command several times. `work` lets the first process run it
as if it were alone; the others wait, for as long as that takes, until it comes to a `call`: then all of them
run one function side by side, in a process group that ends with it. Outside a call no process knows of the
others, and nothing else in the program has to. Used by cli.py for every command, by stages.py for training
and by evaluation/evaluator.py for asking.
"""

from __future__ import annotations

import logging
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from behavior_llava.core import progress
from behavior_llava.core.errors import UserError

Result = TypeVar("Result")

POLL_S = 0.2
"""How often the others look whether there is something to do."""
FAREWELL_S = 5.0
"""How long a process lets another say its last words: the launcher ends all as soon as one has ended."""
PATIENCE = timedelta(days=1)
"""How long processes wait for each other within a call. The first may be measuring or writing files; one that
is gone is seen at once, by the launcher or by its closed connection."""

_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "ACCELERATE_USE_FSDP")
"""What tells libraries that they are one of several."""


@dataclass
class _Crew:
    """One of the processes.

    Attributes:
        store: what the processes tell each other; a server that the launcher or the first process runs.
        environment: what the launcher had set, kept from the libraries outside a call.
        calls: so many were begun.
    """

    store: Any
    rank: int
    size: int
    environment: dict[str, str]
    calls: int = 0

    def call(self, job: tuple[Callable[..., Any], tuple[Any, ...]] | None) -> Any:
        """Does a job with the others; None where the first process tells which."""
        import torch.distributed as dist

        with self._joined():
            box = [job]
            dist.broadcast_object_list(box, src=0)
            assert box[0] is not None
            function, arguments = box[0]
            return function(*arguments)

    @contextmanager
    def _joined(self) -> Iterator[None]:
        import torch
        import torch.distributed as dist
        from accelerate.state import AcceleratorState
        from torch.distributed.distributed_c10d import PrefixStore

        self.calls += 1
        os.environ |= self.environment
        # the names in the store are new ones each time: those of an earlier group lead nowhere
        store = PrefixStore(f"group {self.calls}", self.store)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=store,
            rank=self.rank,
            world_size=self.size,
            timeout=PATIENCE,
        )
        yield
        dist.barrier()
        dist.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)  # which still speaks of the group
        _hide()

    def wait(self) -> int | None:
        """Waits for the first process: None when it calls, its exit code when it has ended."""
        from torch.distributed import DistNetworkError

        try:
            while not self.store.check([f"call {self.calls + 1}"]):
                if self.store.check(["end"]):
                    self.store.add("left", 1)
                    return int(self.store.get("end"))
                time.sleep(POLL_S)
        except DistNetworkError:
            return 1  # whoever ran the store is gone
        return None

    def end(self, code: int) -> None:
        """Says that this process has ended, if it is the first."""
        if self.rank:
            return
        self.store.set("end", str(code))
        until = time.monotonic() + FAREWELL_S
        # the store may end with this process
        while not code and self.store.add("left", 0) < self.size - 1 and time.monotonic() < until:
            time.sleep(POLL_S / 4)

    def is_first_to_fail(self) -> bool:
        """Whether no other process has: one of them tells what was wrong."""
        return self.store.compare_set("failed", "", str(self.rank)).decode() == str(self.rank)


_crew: _Crew | None = None


def count() -> int:
    """How many processes take part in a call."""
    return 1 if _crew is None else _crew.size


def call(function: Callable[..., Result], *arguments: Any) -> Result:
    """Calls the function in all processes at once; what it returns here, in the first of them.

    Args:
        function: importable by name.
        arguments: that can be pickled.
    """
    if _crew is None:
        return function(*arguments)
    _crew.store.set(f"call {_crew.calls + 1}", "")
    return _crew.call((function, arguments))


def work(function: Callable[[], Result]) -> Result | None:
    """Calls the function in the first of the processes that were started together.

    The others take part in its calls, and return None when it has returned. A failure ends all of them: one
    tells what was wrong, and all exit with its code.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return function()
    crew = _meet()
    try:
        if crew.rank:
            return _take_part(crew)
        result = function()
    except SystemExit as ended:  # as commands end, well or not
        crew.end(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
        raise
    except BaseException as failure:
        code = 2 if isinstance(failure, UserError) else 1
        if not crew.is_first_to_fail():
            time.sleep(FAREWELL_S)
            raise SystemExit(code) from None
        crew.end(code)
        raise
    crew.end(0)
    return result


def _meet() -> _Crew:
    global _crew
    if os.environ["RANK"] != "0":
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no trace: the first process says that it was stopped
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch reads it when it is imported
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(iter(rendezvous("env://")))
    _crew = _Crew(store, rank, size, {key: os.environ[key] for key in _LAUNCHER if key in os.environ})
    _hide()
    return _crew


def _hide() -> None:
    for key in _LAUNCHER:
        os.environ.pop(key, None)


def _take_part(crew: _Crew) -> None:
    """Unseen and unheard, until the first process ends."""
    from transformers.utils import logging as transformers_logging

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    transformers_logging.disable_progress_bar()
    progress.tell_instead(lambda name, arguments: None)
    while (code := crew.wait()) is None:
        crew.call(None)
    if code:
        time.sleep(FAREWELL_S)
        raise SystemExit(code)
