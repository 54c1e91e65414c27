"""Rows to batches, behind a gate that refuses what would train on nothing.

The label gate reads every distinct row's text before the first step: a row without a supervised token, with a
media placeholder in its text, or with more tokens than are allowed stops the training there. The tokens of
its media count, and nothing here or later cuts them. All questions on one media item then share a sequence:
the media once, each question a branch that sees the media and itself, never its siblings. Short sequences
are packed together under the same mask.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import MediaFault
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Example
from behavior_llava.models import features
from behavior_llava.models.auto import IGNORED, VisionLanguageModel

log = logging.getLogger(__name__)


ROWS = "rows"
"""Beside a batch's inputs: (id, supervised tokens) of its rows in the order in which their tokens stand."""
PICTURES = "pictures"
"""Beside a batch's inputs, where features are cached: a name for each entry of `pixel_values`."""


def gate(
    model: VisionLanguageModel, examples: Iterable[Example], *, max_tokens: int, total: int | None = None
) -> None:
    """Checks every row before training.

    Args:
        total: how many there are, where that is known.

    Raises:
        UserError: the first row at fault, by its id.
    """
    placeholders = sorted(model.media_tokens)
    with progress("checking labels", total) as advance:
        for example in examples:
            advance()
            answers = [*(answer for _, answer in example.earlier), example.completion]
            if not all(answer and answer.strip() for answer in answers):
                raise UserError(
                    "has no answer to learn", where=example.id, remedy="drop the row or give it a completion"
                )
            texts = [example.prompt, example.completion or "", *chain.from_iterable(example.earlier)]
            held = [mark for mark in placeholders if any(mark in text for text in texts)]
            if held:
                raise UserError(
                    f"holds the media placeholder {held[0]} in its text",
                    where=example.id,
                    remedy="remove it; media are placed by the template",
                )
            if not model.num_supervised(example):
                raise UserError("has no supervised token", where=example.id, remedy="check the tokenizer")
            words, media = _num_tokens(model, example)
            if words + media > max_tokens:
                raise UserError(
                    f"has {words + media} tokens ({media} of media, {words} of text) where {max_tokens} are "
                    "allowed",
                    where=example.id,
                    remedy="raise max_tokens, shorten the text or show fewer frames; media are never cut",
                )


def _num_tokens(model: VisionLanguageModel, example: Example) -> tuple[int, int]:
    try:
        return model.num_tokens(example)
    except MediaFault as fault:
        raise UserError(
            f"media cannot be read since they were collected ({fault.reason})",
            where=example.id,
            remedy="run collect again",
        ) from fault


# ---- one media, many questions -----------------------------------------------------------------------------


def grouped(examples: Sequence[Example]) -> list[list[Example]]:
    """Examples on the same media item together, each group where its first one stands.

    A conversation of several rounds stays alone: what is learned of it is not only its end.
    """
    groups: dict[object, list[Example]] = {}
    for number, example in enumerate(examples):
        media = example.media
        key: object = number
        if media is not None and not example.earlier:
            key = media.seen
        groups.setdefault(key, []).append(example)
    return list(groups.values())


@dataclass(frozen=True, slots=True)
class Branch:
    """A question's own tokens, behind what it shares with the others.

    Attributes:
        labels: as many as ids, IGNORED where nothing is learned. Never at the first: what a token is foretold
            by must be the branch's own.
    """

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class Group:
    """The questions on one media item, or one question alone.

    Attributes:
        trunk: tokens all questions begin with, their media among them; 0 where there is one question.
        positions: of the first question's tokens: [tokens] or, where a model counts in several dimensions,
            [dimensions, tokens].
    """

    trunk: list[int]
    branches: list[Branch]
    positions: torch.Tensor

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.trunk) + sum(len(branch.ids) for branch in self.branches)


def parting(rows: Sequence[Sequence[int]], num_supervised: Sequence[int]) -> int:
    """After how many tokens the rows part; at least one token of each row's question is its own."""
    most = min(len(row) - learned - 1 for row, learned in zip(rows, num_supervised, strict=True))
    first = rows[0]
    for place in range(most):
        if any(row[place] != first[place] for row in rows[1:]):
            return place
    return max(most, 0)


class Collator:
    """Examples to model inputs; what `transformers.Trainer` calls for every batch.

    Questions on one media item share it where the model's media tokens do not depend on the question; where
    they do (LLaMA-VID's context token), each question has its own and only the picture's way through the
    vision tower is shared, by the processor.

    Args:
        share: False gives every question its media again.
        pack_tokens: several media items share a sequence of so many tokens; None for a sequence each.
        names_pictures: adds PICTURES, by which models/features.py finds what the tower made of them.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        *,
        share: bool = True,
        pack_tokens: int | None = None,
        names_pictures: bool = False,
    ) -> None:
        self._model, self._pack_tokens, self._names_pictures = model, pack_tokens, names_pictures
        self._share = share and not model.facts.media_see_question

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The batch's inputs as the model takes them, with `labels`, `logits_to_keep`, ROWS and PICTURES.

        `loss` takes them all out that the model does not take.

        Raises:
            UserError: a row's media cannot be read any more; another row never takes its place.
        """
        try:
            return self._batch(examples)
        except MediaFault as fault:
            ids = ", ".join(example.id for example in examples if example.media is not None)
            raise UserError(
                f"media cannot be read since they were collected ({fault.reason}) in one of {ids}",
                remedy="put the files back, or delete the run's lists of unreadable media (unreadable.json, "
                "each with its folder) to leave these rows out",
            ) from fault

    def _batch(self, examples: Sequence[Example]) -> dict[str, Any]:
        model = self._model
        groups = self._groups(examples)
        batch = model.inputs([group[0] for group in groups], supervise=True)
        rows = [(row.id, model.num_supervised(row)) for group in groups for row in group]
        beside: dict[str, Any] = {ROWS: rows}
        if self._names_pictures and "pixel_values" in batch:
            shown = [group[0].media for group in groups if group[0].media is not None]
            beside[PICTURES] = features.names(model.store, shown, batch["pixel_values"])
        if self._pack_tokens is None and all(len(group) == 1 for group in groups):
            return {**_kept(batch), **beside}
        tokens = {name: batch.pop(name) for name in ("input_ids", "attention_mask", "labels")}
        positions = model.positions({**batch, **tokens})
        lengths = tokens["attention_mask"].sum(1).tolist()
        found = []
        for number, (group, length) in enumerate(zip(groups, lengths, strict=True)):
            ids = tokens["input_ids"][number, :length].tolist()
            places = torch.arange(length) if positions is None else positions[..., number, :length]
            labels = tokens["labels"][number, :length].tolist()
            found.append(self._group(group, ids, labels, places))
        for name in set(batch) & PER_TOKEN:
            del batch[name]
        return {**batch, **_arranged(found, self._pack_tokens, model.network.dtype), **beside}

    def _groups(self, examples: Sequence[Example]) -> list[list[Example]]:
        """Those that can share, together; a question whose media stand behind its words stays alone."""
        if not self._share:
            return [[example] for example in examples]
        groups = []
        for group in grouped(examples):
            rows, learned = self._raw(group)
            at = parting(rows, learned) if len(group) > 1 else 0
            if any(self._model.media_token_ids & set(row[at:]) for row in rows):
                groups += [[example] for example in group]
            else:
                groups.append(group)
        return groups

    def _raw(self, group: Sequence[Example]) -> tuple[list[list[int]], list[int]]:
        """The rows' tokens before their media are spread out, and how many of each are learned."""
        model = self._model
        learned = [len(model.completion_ids(row.completion or "", end=True)) for row in group]
        return [model.text_ids(row) for row in group], learned

    def _group(
        self, group: Sequence[Example], ids: list[int], labels: list[int], positions: torch.Tensor
    ) -> Group:
        """Args: ids, labels: of the first question, its media spread out."""
        if len(group) == 1:
            return Group([], [Branch(ids, labels)], positions)
        rows, learned = self._raw(group)
        at = parting(rows, learned)
        # the media stand before the parting: behind it, the tokens are the same, spread out or not
        trunk = len(ids) - (len(rows[0]) - at)
        if ids[trunk:] != rows[0][at:]:
            raise UserError(
                "the row's tokens are not those of its template",
                where=group[0].id,
                remedy="report this model and row",
            )
        branches = [
            Branch(row[at:], [IGNORED] * (len(row) - count - at) + row[len(row) - count :])
            for row, count in zip(rows, learned, strict=True)
        ]
        return Group(ids[:trunk], branches, positions)


PER_TOKEN = frozenset({"mm_token_type_ids", "token_type_ids"})
"""What processors say of every token beside its id; it tells positions, which are given here."""


def _kept(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with the places whose next token is learned."""
    keep = torch.zeros_like(batch["labels"], dtype=torch.bool)
    keep[:, :-1] = batch["labels"][:, 1:] != IGNORED
    return {**batch, "logits_to_keep": keep}


def _arranged(groups: Sequence[Group], pack_tokens: int | None, dtype: torch.dtype) -> dict[str, Any]:
    """Groups as sequences, in their order, under a mask that keeps branches and groups apart.

    Returns:
        input_ids, labels, logits_to_keep [B, T]; position_ids [B, T] or [dimensions, B, T]; attention_mask
        [B, 1, T, T], to be added to the scores.
    """
    sequences: list[list[Group]] = []
    room = 0
    for group in groups:
        if not sequences or pack_tokens is None or group.length > room:
            sequences.append([])
            room = pack_tokens or 0
        sequences[-1].append(group)
        room -= group.length
    width = max(sum(group.length for group in sequence) for sequence in sequences)
    size = (len(sequences), width)
    ids = torch.zeros(size, dtype=torch.long)
    labels = torch.full(size, IGNORED)
    positions = torch.zeros(*groups[0].positions.shape[:-1], *size, dtype=torch.long)
    owner, branch = torch.full(size, -1), torch.zeros(size, dtype=torch.long)
    for number, sequence in enumerate(sequences):
        at = 0
        for group in sequence:
            trunk = len(group.trunk)
            ids[number, at : at + trunk] = torch.tensor(group.trunk, dtype=torch.long)
            positions[..., number, at : at + trunk] = group.positions[..., :trunk]
            owner[number, at : at + group.length] = at
            at += trunk
            for place, one in enumerate(group.branches):
                end = at + len(one.ids)
                ids[number, at:end] = torch.tensor(one.ids)
                labels[number, at:end] = torch.tensor(one.labels)
                branch[number, at:end] = place + 1
                positions[..., number, at:end] = _continued(group.positions, trunk, len(one.ids))
                at = end
    before = torch.ones(width, width, dtype=torch.bool).tril()
    seen = before & (owner[:, :, None] == owner[:, None, :])
    seen &= (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)
    packed = {"input_ids": ids, "labels": labels, "position_ids": positions, "attention_mask": mask[:, None]}
    return _kept(packed)


def _continued(positions: torch.Tensor, trunk: int, length: int) -> torch.Tensor:
    """Positions of a branch: the first question's as far as they go, then one more a token.

    Behind the trunk there are only words, which count on by one in every dimension.
    """
    start = positions[..., trunk : trunk + 1]
    return start + torch.arange(length) if trunk else positions[..., :length]


@dataclass(frozen=True, slots=True)
class Uncounted:
    """A row of which nothing is learned."""

    row: Any


def collated(collate: Callable[..., dict[str, Any]], rows: Sequence[Any]) -> dict[str, Any]:
    """A batch, or one of a single row without any supervised token."""
    if not isinstance(rows[0], Uncounted):
        return collate(rows)
    batch = collate([row.row for row in rows])
    batch["labels"] = torch.full_like(batch["labels"], IGNORED)
    batch["logits_to_keep"] = torch.zeros_like(batch["logits_to_keep"])
    return {**batch, ROWS: []}


def loss(network: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Mean cross-entropy of the supervised tokens of a batch; logits are made for these alone."""
    inputs = {name: value for name, value in batch.items() if name not in ("labels", ROWS, PICTURES)}
    return supervised_loss(network(**inputs), batch["labels"])


def supervised_loss(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """What `transformers.Trainer` calls as its compute_loss_func.

    Args:
        outputs: of a network that was given `logits_to_keep`: logits [supervised tokens, vocabulary].
        labels: [B, T], IGNORED where nothing is learned.
        num_items_in_batch: divides the sum; None divides by the batch's own supervised tokens.
    """
    shifted = labels[:, 1:]
    targets = shifted[shifted != IGNORED]
    total = torch.nn.functional.cross_entropy(outputs.logits.float(), targets, reduction="sum")
    return total / (len(targets) if num_items_in_batch is None else num_items_in_batch)


def not_finite(outputs: Any, labels: torch.Tensor, rows: Sequence[tuple[str, int]]) -> list[str]:
    """The ids of the rows whose own loss is no number."""
    shifted = labels[:, 1:]
    targets = shifted[shifted != IGNORED]
    each = torch.nn.functional.cross_entropy(outputs.logits.float(), targets, reduction="none")
    parts = each.split([count for _, count in rows])
    return [id for (id, _), part in zip(rows, parts, strict=True) if not part.isfinite().all()]


@torch.no_grad()
def can_share(model: VisionLanguageModel, examples: Sequence[Example], pack_tokens: int | None) -> bool:
    """Whether rows in one sequence teach the model what they teach it apart; a warning where they do not.

    Tried on the shortest of the first rows, and on all questions about their media among these.
    """
    few = sorted(examples[:64], key=lambda row: len(row.prompt) + len(row.completion or ""))[:4]
    shown = {row.media for row in few if row.media is not None}
    few += [row for row in examples[:64] if row.media in shown and row not in few][:4]
    if model.facts.equal_frames:
        # videos of other lengths cannot stand in one batch
        frames = {row.id: model.num_images(row) for row in few if model.num_placeholders(row)[1]}
        few = [row for row in few if frames.get(row.id) in (None, next(iter(frames.values()), None))]
    losses = []
    for collate in (Collator(model, share=False), Collator(model, pack_tokens=pack_tokens)):
        batch = collate(few)
        moved = {
            key: value.to(model.device) if isinstance(value, torch.Tensor) else value
            for key, value in batch.items()
        }
        losses.append(float(loss(model.network, moved)))
    apart, together = losses
    # NaN is left to the trainer, which says at which step
    allowed = (1e-4 if model.network.dtype == torch.float32 else 2e-2) * max(1.0, abs(apart))
    if abs(apart - together) <= allowed or not math.isfinite(apart):
        return True
    log.warning(
        "%s does not keep rows of one sequence apart (loss %.4f instead of %.4f): each row has its own",
        type(model.network).__name__,
        together,
        apart,
    )
    return False
