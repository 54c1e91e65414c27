"""Rows to batches, behind a gate that refuses what would train on nothing.

The label gate reads every distinct row's text before the first step: a row without a supervised token, with a
media placeholder in its text, or whose tokens differ from the processor's own template stops the training
there. Packing puts several rows into one sequence, so that short rows cost no padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import MediaFault
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Example
from behavior_llava.models.auto import IGNORED, VisionLanguageModel


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
    """Examples to model inputs; what `transformers.Trainer` calls for every batch.

    Args:
        pack_tokens: length of the sequences rows are packed into; None for a padded sequence a row.
    """

    def __init__(self, model: VisionLanguageModel, pack_tokens: int | None = None) -> None:
        self._model, self._pack_tokens = model, pack_tokens

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The batch's inputs with labels.

        Raises:
            UserError: a row's media cannot be read any more; another row never takes its place.
        """
        try:
            batch = self._model.inputs(examples, supervise=True)
        except MediaFault as fault:
            ids = ", ".join(example.id for example in examples if example.media is not None)
            raise UserError(
                f"media cannot be read since they were collected ({fault.reason}) in one of {ids}",
                remedy="run collect again",
            ) from fault
        if self._pack_tokens is None:
            return batch
        return pack(batch, [self._model.num_images(example) for example in examples], self._pack_tokens)


def pack(batch: dict[str, torch.Tensor], num_images: Sequence[int], length: int) -> dict[str, Any]:
    """Rows of a padded batch as few sequences of at most `length` tokens, or of the longest row.

    Positions start again with every row and there is no attention mask: transformers reads from both that a
    row sees itself alone (masking_utils.find_packed_sequence_indices). Loss and gradients equal those of the
    padded batch.

    Args:
        batch: input_ids, attention_mask, labels [B, T], padded on the right; pixel_values [N, ...].
        num_images: of every row; they add up to N.

    Raises:
        UserError: the model takes its pictures in another form than one entry of pixel_values each.
    """
    lengths = batch["attention_mask"].sum(1).tolist()
    pixels = batch.get("pixel_values")
    known = {"input_ids", "attention_mask", "labels", "pixel_values"}
    if set(batch) - known or (0 if pixels is None else len(pixels)) != sum(num_images):
        raise UserError(
            "this model's inputs cannot be packed",
            where=", ".join(sorted(batch)),
            remedy="leave pack_tokens out of the config",
        )
    bins = _first_fit(lengths, length)
    width = max(sum(lengths[row] for row in rows) for rows in bins)
    # what fills a sequence up is a row of its own, of which nothing is learned
    packed = {
        "input_ids": torch.zeros(len(bins), width, dtype=torch.long),
        "labels": torch.full((len(bins), width), IGNORED),
        "position_ids": torch.zeros(len(bins), width, dtype=torch.long),
    }
    firsts = [0, *itertools.accumulate(num_images)]
    pictures: list[int] = []
    for number, rows in enumerate(bins):
        at = 0
        for row in rows:
            size = lengths[row]
            for name in ("input_ids", "labels"):
                packed[name][number, at : at + size] = batch[name][row, :size]
            packed["position_ids"][number, at : at + size] = torch.arange(size)
            pictures += range(firsts[row], firsts[row + 1])
            at += size
        packed["position_ids"][number, at:] = torch.arange(width - at)
    if pixels is not None:
        packed["pixel_values"] = pixels[pictures]
    # with a cache transformers does not look for packed rows
    return {**packed, "use_cache": False}


def _first_fit(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Rows to bins, the longest first, each into the first bin with room."""
    bins: list[list[int]] = []
    room: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        place = next((number for number, left in enumerate(room) if left >= lengths[row]), None)
        if place is None:
            bins.append([])
            room.append(max(most, lengths[row]))
            place = len(bins) - 1
        bins[place].append(row)
        room[place] -= lengths[row]
    return bins


@torch.no_grad()
def check_packing(model: VisionLanguageModel, examples: Sequence[Example], length: int) -> None:
    """Refuses to pack where the model lets packed rows see each other.

    Raises:
        UserError: the loss of a few rows packed is not their loss apart.
    """
    # the shortest of the first ones: they share a sequence
    few = sorted(examples[:64], key=lambda row: len(row.prompt) + len(row.completion or ""))[:4]
    losses = []
    for collate in (Collator(model), Collator(model, length)):
        batch = collate(few)
        moved = {
            key: value.to(model.device) if isinstance(value, torch.Tensor) else value
            for key, value in batch.items()
        }
        losses.append(float(model.network(**moved).loss))
    apart, packed = losses
    # NaN is left to the trainer, which says at which step
    if abs(apart - packed) > (1e-4 if model.network.dtype == torch.float32 else 2e-2) * max(1.0, abs(apart)):
        raise UserError(
            f"this model does not keep packed rows apart (loss {packed:.4f} instead of {apart:.4f})",
            where=type(model.network).__name__,
            remedy="leave pack_tokens out of the config",
        )
