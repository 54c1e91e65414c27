"""What is measured while a model trains: the caller's probes every few steps, and logs for TensorBoard.

A probe takes the model as it is at a step and gives a number, or None where it is undefined; those of a run
are made by evaluation/probing.py. Values go into
the trainer's own history, so a checkpoint holds them and a continued run has each once; from there to
`tracked.json` and, with loss, learning rate and gradient norm, to `logs`. Measuring changes nothing of the
training. Called by trainer.py.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]  # made when imported
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter
from transformers import TrainerCallback, TrainingArguments

from behavior_llava.core.manifest import write_json
from behavior_llava.core.schema import Example
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.training.batching import Collator, loss

TRACKED = "tracked.json"
EVENTS = "events.out.tfevents.0"
"""TensorBoard reads every file with `tfevents` in its name; its own writers put the machine's name there."""
_LOGGED = ("loss", "learning_rate", "grad_norm")


@dataclass(frozen=True, slots=True)
class Probe:
    """One number of a model, or some that are found together.

    Attributes:
        name: as it is shown, e.g. "perplexity of comments".
        measure: the number, or None where it is undefined; or numbers by names of their own. The model is in
            evaluation mode and without gradients; it may draw random numbers, and must not change the
            weights.
    """

    name: str
    measure: Callable[[VisionLanguageModel], float | Mapping[str, float | None] | None]


def perplexity(name: str, rows: Sequence[Example], *, batch_rows: int = 8) -> Probe:
    """Perplexity of the rows' completions: e to the mean loss of all their tokens; None without rows."""

    def measure(model: VisionLanguageModel) -> float | None:
        collate, total, tokens = Collator(model, share=False), 0.0, 0
        for start in range(0, len(rows), batch_rows):
            batch = collate(rows[start : start + batch_rows])
            moved = {
                key: value.to(model.device) if isinstance(value, torch.Tensor) else value
                for key, value in batch.items()
            }
            count = int(batch["logits_to_keep"].sum())
            total += float(loss(model.network, moved)) * count
            tokens += count
        if not tokens:
            return None
        mean = total / tokens
        return math.exp(mean) if mean < _TOO_LARGE else None

    return Probe(name, measure)


_TOO_LARGE = 700.0
"""e to this is about the largest number there is; a loss that is no number is not below it either."""


@contextmanager
def _undisturbed(model: VisionLanguageModel) -> Iterator[None]:
    """The model ready to answer; afterwards it and all random numbers are as they were."""
    network: Any = model.network
    training = {module: module.training for module in network.modules()}
    caches = network.config.use_cache
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(), torch.no_grad():
        network.eval()
        network.config.use_cache = True
        yield
    random.setstate(python)
    np.random.set_state(numpy)
    network.config.use_cache = caches
    for module, was_training in training.items():
        module.training = was_training


class Track(TrainerCallback):
    """Measures the probes every few steps and after the last.

    Args:
        file: rewritten each time: a list of {"step": n, "values": {name: number or null}}.
        everywhere: all processes measure, because each holds a part of the weights; otherwise the first
            does, and the others wait for it at their next step.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        probes: Sequence[Probe],
        every: int,
        file: Path,
        *,
        everywhere: bool = False,
    ) -> None:
        self._model, self._probes, self._every = model, probes, every
        self._file, self._everywhere = file, everywhere

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Takes back what a killed run had measured after its last checkpoint."""
        self._write(state)

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Measures, and adds to the trainer's history."""
        if state.global_step % self._every and state.global_step != state.max_steps:
            return
        if not (state.is_world_process_zero or self._everywhere):
            return
        # weights that learn are in fp32 beside frozen ones in bf16: the trainer's forward computes likewise
        computing = torch.autocast(self._model.device.type, torch.bfloat16, enabled=args.bf16)
        with _undisturbed(self._model), computing:
            values = {
                name: _finite(value)
                for probe in self._probes
                for name, value in _measured(probe, self._model)
            }
        state.log_history.append({"step": state.global_step, "tracked": values})
        self._write(state)

    def _write(self, state: Any) -> None:
        if state.is_world_process_zero:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(
                self._file,
                [
                    {"step": entry["step"], "values": entry["tracked"]}
                    for entry in state.log_history
                    if "tracked" in entry
                ],
            )


def measured(folder: Path) -> list[tuple[int, dict[str, float | None]]]:
    """The (step, values by name) that a finished stage left."""
    found = json.loads((folder / TRACKED).read_text(encoding="utf-8"))
    return [(entry["step"], entry["values"]) for entry in found]


def _measured(probe: Probe, model: VisionLanguageModel) -> Iterable[tuple[str, float | None]]:
    found = probe.measure(model)
    return found.items() if isinstance(found, Mapping) else [(probe.name, found)]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


class Board(TrainerCallback):
    """Writes the trainer's history for TensorBoard: `train/loss` and so on, `tracked/<probe>`.

    The file is begun anew with each run, from the history that the checkpoint holds: no step stands in it
    twice, however often a stage was killed. Undefined values are not in it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / EVENTS
        self._written = 0

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Begins the file."""
        if state.is_world_process_zero:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.unlink(missing_ok=True)
            self._append([Event(wall_time=time.time(), file_version="brain.Event:2")])
            self._follow(state)

    def on_log(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Adds what is new."""
        if state.is_world_process_zero:
            self._follow(state)

    def _follow(self, state: Any) -> None:
        new = state.log_history[self._written :]
        events = [
            Event(wall_time=time.time(), step=entry["step"], summary=Summary(value=told))
            for entry in new
            if (told := _told(entry))
        ]
        self._append(events)
        self._written += len(new)

    def _append(self, events: Sequence[Any]) -> None:
        with self._file.open("ab") as file:
            writer = RecordWriter(file)
            for event in events:
                writer.write(event.SerializeToString())


def _told(entry: dict[str, Any]) -> list[Any]:
    """An entry of the trainer's history as TensorBoard takes it."""
    values = {f"train/{name}": entry[name] for name in _LOGGED if name in entry}
    values |= {f"tracked/{name}": value for name, value in entry.get("tracked", {}).items()}
    return [
        Summary.Value(tag=name, simple_value=float(value))
        for name, value in values.items()
        if value is not None
    ]
