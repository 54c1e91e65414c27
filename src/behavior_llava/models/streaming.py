"""An answer as it is being written: pieces of text from a local or a served model.

An Example goes in, pieces come out; joined they are what `generate` gives. Called by the demo.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import torch
from transformers import TextStreamer
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from behavior_llava.core.schema import Example
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.models.remote import RemoteModel

Hear = Callable[[str], None]
IsUnwanted = Callable[[], bool]


def stream(
    model: VisionLanguageModel | RemoteModel,
    example: Example,
    *,
    max_new_tokens: int,
    stop: threading.Event | None = None,
) -> Generator[str, None, None]:
    """One answer, greedy, in pieces of at least a letter, without blanks at either end.

    Closing the iterator, or setting `stop`, ends the generation at its next token, or closes the connection
    to a served model. Nothing is at work any more when the iterator has ended.

    Raises:
        MediaFault: the example's media is gone or broken, or the endpoint says nothing about it.
        UserError: as `generate`.
    """
    pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    closed = threading.Event()

    def is_unwanted() -> bool:
        return closed.is_set() or (stop is not None and stop.is_set())

    with ThreadPoolExecutor(1, thread_name_prefix="stream") as alone:
        if isinstance(model, RemoteModel):
            answering = alone.submit(
                model.stream, example, max_new_tokens=max_new_tokens, hear=pieces.put, is_unwanted=is_unwanted
            )
        else:
            answering = alone.submit(_write, model, example, max_new_tokens, pieces.put, is_unwanted)
        answering.add_done_callback(lambda _: pieces.put(None))
        try:
            yield from _trimmed(iter(pieces.get, None))
        finally:
            closed.set()
    answering.result()


@torch.inference_mode()
def _write(
    model: VisionLanguageModel, example: Example, max_new_tokens: int, hear: Hear, is_unwanted: IsUnwanted
) -> None:
    batch = {key: value.to(model.device) for key, value in model.inputs([example], supervise=False).items()}
    if is_unwanted():
        return
    model.network.generate(
        **batch,
        **model.decoding(max_new_tokens),
        streamer=_Streamer(model.tokenizer, hear),
        stopping_criteria=StoppingCriteriaList([_Unwanted(is_unwanted)]),
    )


class _Streamer(TextStreamer):
    """Tells every piece of text that later tokens cannot change."""

    def __init__(self, tokenizer: Any, hear: Hear) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._hear = hear

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self._hear(text)


class _Unwanted(StoppingCriteria):
    """Ends a generation nobody waits for."""

    def __init__(self, is_unwanted: IsUnwanted) -> None:
        self._is_unwanted = is_unwanted

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.BoolTensor:
        """[B], all alike."""
        ended = torch.full((len(input_ids),), self._is_unwanted(), device=input_ids.device)
        return cast(torch.BoolTensor, ended)


def _trimmed(pieces: Iterable[str]) -> Iterator[str]:
    """The same text without blanks at either end."""
    waiting, has_begun = "", False
    for piece in pieces:
        text = waiting + piece if has_begun else piece.lstrip()
        kept = text.rstrip()
        waiting = text[len(kept) :]
        if kept:
            has_begun = True
            yield kept
