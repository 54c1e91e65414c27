"""Batches made ahead of the training step, in processes of their own.

torch's DataLoader runs the collator in forked workers: they share the model's memory and touch no GPU. What
they refuse comes back as a value, because torch would make a text of it with a trace in it. Called by
trainer.py.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from behavior_llava.core.errors import UserError

REFUSED = "refused"
"""The one entry of a batch that could not be made: the UserError."""


def default_workers(*, on_cpu: bool) -> int:
    """How many processes make batches: beside a GPU up to four, on a CPU none, where they would take the
    cores of the step itself.
    """
    return 0 if on_cpu else min(4, max(1, (os.cpu_count() or 1) - 1))


def check(num_workers: int) -> None:
    """Refuses workers where they would need a copy of the model.

    Raises:
        UserError: processes are not forked here.
    """
    if num_workers and multiprocessing.get_start_method() != "fork":
        raise UserError(
            f"{num_workers} dataloader workers asked for, but this system does not fork processes",
            where="arguments.dataloader_num_workers",
            remedy="set it to 0",
        )
    if num_workers:
        # a tokenizer that used threads before the fork warns of it for every worker
        os.environ["TOKENIZERS_PARALLELISM"] = "false"


class Ahead:
    """A collator for DataLoader workers: its UserError becomes the batch, for `opened` to raise."""

    def __init__(self, collate: Callable[[Sequence[Any]], dict[str, Any]]) -> None:
        self._collate = collate

    def __call__(self, examples: Sequence[Any]) -> dict[str, Any]:
        """The batch, or what refused it."""
        try:
            return self._collate(examples)
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
