"""Rows to batches, behind a gate that refuses what would train on nothing.

The label gate reads every distinct row's text before the first step: a row without a supervised token, with a
media placeholder in its text, or whose tokens differ from the processor's own template stops the training
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import MediaFault
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Example
from behavior_llava.models.auto import VisionLanguageModel


def gate(model: VisionLanguageModel, examples: Sequence[Example], *, max_tokens: int) -> None:
    """Checks every row before training.

    Raises:
        UserError: the first row at fault, by its id.
    """
    image_token = model.tokenizer.convert_ids_to_tokens(model.image_token_id)
    with progress("checking labels", len(examples)) as advance:
        for example in examples:
            advance()
            if not example.completion or not example.completion.strip():
                raise UserError(
                    "has no answer to learn", where=example.id, remedy="drop the row or give it a completion"
                )
            if image_token in example.prompt or image_token in example.completion:
                raise UserError(
                    f"holds the media placeholder {image_token} in its text",
                    where=example.id,
                    remedy="remove it; media are placed by the template",
                )
            if not model.completion_ids(example.completion, end=True):
                raise UserError("has no supervised token", where=example.id, remedy="check the tokenizer")
            words = len(example.prompt.split()) + len(example.completion.split())
            if words > max_tokens:
                raise UserError(
                    f"has {words} words where {max_tokens} tokens are allowed",
                    where=example.id,
                    remedy="shorten the text; media are never cut",
                )


class Collator:
    """Examples to model inputs; what `transformers.Trainer` calls for every batch."""

    def __init__(self, model: VisionLanguageModel) -> None:
        self._model = model

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The batch's inputs with labels.

        Raises:
            UserError: a row's media cannot be read any more; another row never takes its place.
        """
        try:
            return self._model.inputs(examples, supervise=True)
        except MediaFault as fault:
            ids = ", ".join(example.id for example in examples if example.media is not None)
            raise UserError(
                f"media cannot be read since they were collected ({fault.reason}) in one of {ids}",
                remedy="run collect again",
            ) from fault


def pad_free_tokens(batch: dict[str, torch.Tensor]) -> int:
    """How many tokens of a batch are no padding."""
    return int(batch["attention_mask"].sum())
