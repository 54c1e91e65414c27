"""The small model's vision tower learns to see before the language model learns to read it.

A published LLaVA starts from a tower that was trained on pictures and their texts (CLIP); a random one gives
a language model nothing to attend to for most of a short base stage. So the tower of `model: tiny` first
learns, from the base's own instruction data, which words people use of a picture.
Source: the method, bags of words as targets: Joulin et al. 2016, https://arxiv.org/abs/1511.02251.

Called by stages.py in the base stage; a model that comes trained never meets it.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import SaveStrategy

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import MediaFault
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Example, Media
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.training import mixture, precision
from behavior_llava.training.prefetching import deaths_told
from behavior_llava.training.trainer import Ordered, Rows, TrainConfig, Watch, arguments

log = logging.getLogger(__name__)

MIN_PICTURES = 20
"""A word of fewer pictures teaches little."""
MAX_SHARE = 0.5
"""A word of more pictures than that tells them apart less than its absence does: "and", "scene"."""

_WORD = re.compile(r"[^\W\d_]{2,}")

Bag = tuple[Media, tuple[int, ...]]


def bags(rows: Sequence[Example]) -> tuple[list[Bag], tuple[str, ...]]:
    """Every picture of the rows with the words of its answers, as numbers into the vocabulary returned too.

    Videos are left out: a word of theirs belongs to one of their frames, and the rows do not tell which.
    """
    media: dict[str, Media] = {}
    said: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.media is not None and row.media.kind == "image":
            media[row.media.path] = row.media
            answers = [*(answer for _, answer in row.earlier), row.completion or ""]
            said[row.media.path] |= set(_WORD.findall(" ".join(answers).lower()))
    counted = Counter(word for words in said.values() for word in words)
    vocabulary = tuple(
        sorted(word for word, count in counted.items() if MIN_PICTURES <= count <= MAX_SHARE * len(media))
    )
    number_of = {word: number for number, word in enumerate(vocabulary)}
    found = [
        (media[path], tuple(sorted(number_of[word] for word in words if word in number_of)))
        for path, words in said.items()
    ]
    return found, vocabulary


class _Words(torch.nn.Module):
    """The tower under a linear layer that says, from the mean of its patches, which words are used."""

    def __init__(self, tower: Any, num_words: int) -> None:
        super().__init__()
        self.tower = tower
        self.head = torch.nn.Linear(tower.config.hidden_size, num_words)

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Cross-entropy of every word, summed over words and averaged over pictures."""
        patches = self.tower(pixel_values=pixel_values).last_hidden_state[:, 1:]
        logits = self.head(patches.mean(1))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        return {"loss": loss / len(labels), "logits": logits}


class _Collator:
    def __init__(self, model: VisionLanguageModel, num_words: int) -> None:
        self._model, self._num_words = model, num_words

    def __call__(self, batch: Sequence[Bag]) -> dict[str, torch.Tensor]:
        labels = torch.zeros(len(batch), self._num_words)
        for row, (_, words) in enumerate(batch):
            labels[row, list(words)] = 1.0
        try:
            pixels = self._model.pixels([media for media, _ in batch])
        except MediaFault as fault:
            paths = ", ".join(media.path for media, _ in batch)
            raise UserError(
                f"a picture cannot be read since it was looked at ({fault.reason}), one of {paths}",
                remedy="mend or remove its rows",
            ) from fault
        return {"pixel_values": pixels, "labels": labels}


def pretrain(
    model: VisionLanguageModel, rows: Sequence[Example], config: TrainConfig, folder: Path, *, seed: int
) -> dict[str, Any]:
    """Trains the model's vision tower in place; nothing else of it changes.

    It takes seconds, so a killed call starts again.

    Args:
        rows: instruction rows; those with a picture are used.
        config: epochs count pictures.
        folder: for the Trainer; nothing is left in it.

    Returns:
        Pictures, words and the last loss, for the manifest; the loss is None where the rows' pictures have no
        word in common and nothing was learned.

    Raises:
        UserError: a picture is gone, the loss is no number, or an argument is wrong.
    """
    pictures, vocabulary = bags(rows)
    told = {"tower_pictures": len(pictures), "tower_words": len(vocabulary), "tower_loss": None}
    if not vocabulary:
        log.warning(
            "the vision tower stays random: the instruction data's %s pictures share no words", len(pictures)
        )
        return told
    if config.freeze or config.pack_tokens is not None or config.cache_features:
        raise UserError(
            "freeze, pack_tokens and cache_features mean nothing here",
            where="base.tower",
            remedy="remove them there",
        )
    torch.manual_seed(seed)
    network = _Words(model.network.model.vision_tower, len(vocabulary)).to(model.device).train()
    types, in_bf16 = precision.types_of(model.network), precision.computes_in_bf16(model.network)
    precision.raise_what_learns(network)
    on_cpu = model.device.type == "cpu"
    settings = arguments(config, folder, seed=seed, on_cpu=on_cpu, in_bf16=in_bf16)
    settings.save_strategy = SaveStrategy.NO
    shown = model.without_weights() if settings.dataloader_num_workers else model
    drawn = mixture.order({"pictures": len(pictures)}, {"pictures": 1.0}, epochs=config.epochs, seed=seed)
    ordered = [pictures[number] for number in drawn[0][1]]
    steps = -(-len(ordered) // (settings.train_batch_size * settings.gradient_accumulation_steps))
    with progress(f"training the vision tower, seed {seed}", steps) as advance:
        trainer: Trainer = Ordered(
            model=network,
            args=settings,
            train_dataset=Rows(ordered),
            data_collator=_Collator(shown, len(vocabulary)),
            callbacks=[Watch(advance)],
        )
        trainer.remove_callback(PrinterCallback)
        with deaths_told() if settings.dataloader_num_workers else nullcontext():
            trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    precision.restore(model.network, types)
    model.network.eval()
    return {**told, "tower_loss": losses[-1] if losses else None}
