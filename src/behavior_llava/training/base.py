"""The base: a model that comes trained, or a small one trained on the spot from instruction data.

A config's `model` is a folder or hub name, taken as it is, or one of BUILT: then the base stage makes a
model and trains it on instruction data, before any behaviour is seen. `tiny` begins with random weights,
`smol` with a pretrained tower and language model. Either way the arms start from the same base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Example
from behavior_llava.data import instruction
from behavior_llava.data.viewing import View, Viewer
from behavior_llava.models import smol
from behavior_llava.models.smol import SmolConfig
from behavior_llava.models.tiny import TinyConfig, build
from behavior_llava.training import mixture
from behavior_llava.training.readable import LIST, Unreadable, readable
from behavior_llava.training.trainer import TrainConfig

BUILT = {"tiny": "a small LLaVA trained on the spot", "smol": smol.NAME}
"""The models that the base stage makes, and what they are called."""
BASE = "base"
"""How the names of the instruction data sets begin."""


class BaseConfig(Config):
    """The base stage.

    Attributes:
        instruction: LLaVA JSON; None for the sandbox's. The arms mix it with behavior data, whatever the
            model.
        tiny, smol: of the model of that name.
        tower: of the vision tower of `tiny` alone, before `train`; epochs count pictures.
        train: of a model made here. None of these is used for a model that comes trained.
    """

    instruction: Path | None = None
    tiny: TinyConfig = TinyConfig()
    smol: SmolConfig = SmolConfig()
    tower: TrainConfig = TrainConfig(epochs=5, arguments={"learning_rate": 2.0e-3, "adam_beta2": 0.98})
    train: TrainConfig = TrainConfig(epochs=2)

    def of(self, model: str) -> dict[str, Any]:
        """The settings that the model's base depends on, but for the instruction data: these count by what
        they say and show, wherever they lie.
        """
        other = {"tiny": {"smol"}, "smol": {"tiny", "tower"}}
        return self.model_dump(mode="json", exclude={"instruction", *other[model]})


def instruction_rows(path: Path, viewer: Viewer, unreadable: Unreadable) -> dict[str, list[Example]]:
    """The instruction data as two named data sets: rows with media and rows of text alone.

    Args:
        unreadable: rows with these media are left out.

    Raises:
        UserError: other media of the data cannot be read, or no row with media is left of those there are.
    """
    rows, _ = readable(instruction.read(path), unreadable, name=str(path))
    # a picture stands in several rows; it is looked at once
    items = list(dict.fromkeys((row.media.path, row.media.kind) for row in rows if row.media is not None))
    seen = dict(zip(items, viewer.views(items, label="reading instruction data"), strict=True))
    found: dict[str, list[Example]] = {f"{BASE}_media": [], f"{BASE}_text": []}
    for row in rows:
        if row.media is None:
            found[f"{BASE}_text"].append(row)
            continue
        view = seen[row.media.path, row.media.kind]
        if not isinstance(view, View):
            raise UserError(
                f"media cannot be read since they were looked at ({view})",
                where=f"{path}: {row.id}",
                remedy=f"put the file back, or delete the run's base/instruction ({LIST}) to look again",
            )
        found[f"{BASE}_media"].append(replace(row, media=view.media()))
    return {name: rows for name, rows in found.items() if rows}


def ordered(
    data: Mapping[str, Sequence[Example]],
    ratio: Mapping[str, float],
    *,
    epochs: float,
    seed: int,
    step_rows: int,
    max_passes: float | None = None,
    together: bool = True,
) -> mixture.RowsInOrder:
    """Rows of named data sets in training order; the first data set's epochs are counted.

    Each data set is read once, from its first row to its last.

    Args:
        together: rows of a data set on one media item stand next to each other, so that they can share a
            sequence; false draws every row by itself.
        step_rows: rows of one optimizer step. Within a step, and only there, rows of about one length are put
            together: the step's gradient stays the same, and its micro-batches are padded less. The rows on
            one media item count as one, as long as all of them.
        max_passes: of all data sets but the first; see mixture.order.

    Raises:
        UserError: a data set of the ratio is empty, or would be repeated too often.
    """
    sizes = {name: len(rows) for name, rows in data.items()}
    measured = {name: _measured(rows, together=together) for name, rows in data.items()}
    groups = {name: group for name, (group, _, _) in measured.items()}
    drawn = mixture.order(sizes, ratio, epochs=epochs, seed=seed, groups=groups, max_passes=max_passes)
    numbers, rows, units = mixture.interleave(drawn, seed=seed, groups=groups)
    pictures, words = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for number, (_, of_pictures, of_words) in enumerate(measured.values()):
        here = numbers == number
        pictures[here], words[here] = of_pictures[rows[here]], of_words[rows[here]]
    steps = np.arange(len(rows)) // max(step_rows, 1)
    # the part of a unit that lies in one step
    part = np.cumsum(np.diff(units, prepend=units[:1]) + np.diff(steps, prepend=0) > 0)
    words = np.bincount(part, weights=words).astype(np.int64)[part]
    # equal lengths stay in their order: a unit's rows are neighbors
    by_length = np.lexsort((np.arange(len(rows)), words, pictures, steps))
    passes = mixture.passes(sizes, ratio, epochs=epochs)
    return mixture.RowsInOrder(data, numbers[by_length], rows[by_length], passes)


def _measured(rows: Sequence[Example], *, together: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row the number of its group, and how many pictures and words it has.

    A group is what training/batching.py can put into one sequence: single rounds on one media item.
    """
    group_of: dict[object, int] = {}
    found = np.empty((3, len(rows)), np.int64)
    for number, row in enumerate(rows):
        media = row.media
        key: object = number
        if together and media is not None and not row.earlier:
            key = media.seen
        found[:, number] = group_of.setdefault(key, len(group_of)), *_length(row)
    return found[0], found[1], found[2]


def _length(row: Example) -> tuple[int, int]:
    pictures = 0 if row.media is None else max(1, len(row.media.times_s))
    texts = (row.prompt, row.completion or "", *chain.from_iterable(row.earlier))
    return pictures, sum(len(text.split()) for text in texts)


def build_tiny(
    config: TinyConfig,
    data: dict[str, list[Example]],
    template_texts: Sequence[str],
    folder: Path,
    *,
    seed: int,
) -> None:
    """A small random model whose tokenizer knows the instruction data's words and the template's."""
    texts = [
        f"USER: {question} ASSISTANT: {answer}"
        for rows in data.values()
        for row in rows
        for question, answer in (*row.earlier, (row.prompt, row.completion))
    ]
    # the words a template repeats in every row are worth a token each
    texts += [f"USER: {text} ASSISTANT: {text}" for text in template_texts] * max(1, len(texts) // 200)
    texts += [f"{number:02d}" for number in range(100)] * 20
    build(config, texts, folder, seed=seed)
