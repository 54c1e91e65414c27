"""Batches made ahead of the training step, in processes of their own.

The training process looks the rows of a batch up and sends them; a worker of torch's DataLoader decodes their
media and makes the tensors. Workers are forked from a process that has only imported what they need: forked
from the training process, they would hang behind torch's threads, which a fork leaves behind. They hold no
other rows and no weights. What refuses a batch there is raised here as it would have been without workers.
Called by trainer.py.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from behavior_llava.core.errors import UserError

REFUSED = "refused"
"""The one entry of a batch that could not be made: the UserError."""
_MOST_WORKERS = 4
_DEATH = re.compile(
    r"DataLoader worker \(pid.*?\) (is killed by signal: (?P<signal>[^.]+)|exited unexpectedly)"
)
"""All that torch tells of a dead worker is this text, of whatever the training process was doing then."""


def default_workers(*, on_cpu: bool) -> int:
    """How many processes make batches: beside a GPU up to four, as far as this process's share of the cores
    goes; on a CPU none, where they would take the cores of the step itself.
    """
    if on_cpu:
        return 0
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(0, min(_MOST_WORKERS, cores - 1))


def context(num_workers: int) -> Any:
    """How a DataLoader's workers begin; None where it has none."""
    if not num_workers:
        return None
    found = multiprocessing.get_context("forkserver")
    # torch and transformers are read once, not by every worker of every stage
    found.set_forkserver_preload(["behavior_llava.training.batching"])
    return found


def end_with_parent(_: int) -> None:
    """What a DataLoader takes as its worker_init_fn: the worker ends when the training process has.

    torch's own watch looks for the process that forked the worker, and that one lives as long as workers do.
    """
    threading.Thread(target=_leave_after_parent, daemon=True).start()


def _leave_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class AsSent(torch.utils.data.Dataset):
    """What a DataLoader reads whose batch sampler gives rows in place of their numbers: the rows themselves.

    So a worker is sent what it needs for its batch, and the data sets stay in one process.
    """

    def __init__(self, num_rows: int) -> None:
        self._num_rows = num_rows

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, row: Any) -> Any:
        return row


class Ahead:
    """A collator for workers: its UserError becomes the batch, for `opened` to raise.

    torch would make a text of it, with a trace in it.
    """

    def __init__(self, collate: Callable[[Sequence[Any]], dict[str, Any]]) -> None:
        self._collate = collate

    def __call__(self, rows: Sequence[Any]) -> dict[str, Any]:
        """The batch, or what refused it."""
        try:
            return self._collate(rows)
        except UserError as error:
            return {REFUSED: error}


def opened(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The batches as they come.

    Raises:
        UserError: that of the first batch that could not be made, in the order of the rows.
    """
    for batch in batches:
        if REFUSED in batch:
            raise batch[REFUSED]
        yield batch


@contextmanager
def deaths_told() -> Iterator[None]:
    """Tells of a worker that was ended while the block ran.

    Raises:
        UserError: one was.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        death = _DEATH.search(str(error))
        # one that is ended while it hands a batch over leaves a broken connection
        if death is None and isinstance(error, RuntimeError):
            raise
        signal = None if death is None else death["signal"]
        raise UserError(
            f"a process that makes batches was ended ({signal or 'by the system or by hand'})",
            where="arguments.dataloader_num_workers",
            remedy="give it more memory (in a container, shared memory too) or set fewer, 0 for none; run "
            "again to continue from the last checkpoint",
        ) from error
