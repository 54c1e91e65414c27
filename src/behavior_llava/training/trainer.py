"""One training stage on transformers.Trainer: a model and rows in, a model folder and a loss curve out.

Runs under `python`, `accelerate launch` or `torchrun` alike. A killed stage continues from its last whole
checkpoint to the weights an undisturbed run would have had. Called by stages.py for the base stage, for
every arm and for fine-tuning.
"""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from pydantic import Field
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import write_json
from behavior_llava.core.progress import Advance, progress
from behavior_llava.core.schema import Example
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.training import lora
from behavior_llava.training.batching import ROWS, Collator, can_share, gate, not_finite, supervised_loss
from behavior_llava.training.lora import LoraConfig

log = logging.getLogger(__name__)

COMPLETE = "complete"
"""Lists the files of a checkpoint and is written after them: one without it, or without one of them, was cut
off while it was written or removed, and is never resumed from."""
_MOST_NAMED = 10
"""Rows in a message."""


class TrainConfig(Config):
    """One training stage.

    Attributes:
        epochs: passes over the stage's own rows; may be fractional.
        lora: train adapters and merge them into the weights in the end; null trains the weights themselves.
        freeze: parts whose names match stay as they are (regular expressions over parameter names).
        share_media: the questions of a batch on one media item share its tokens without seeing each other;
            false shows the media to each question again. The result is the same, the work is not.
        pack_tokens: rows of a batch share sequences of so many tokens without seeing each other; None gives
            each media item a sequence, padded to the longest.
        arguments: passed to transformers.TrainingArguments and checked by it.
    """

    epochs: float = Field(gt=0)
    freeze: tuple[str, ...] = ()
    lora: LoraConfig | None = None
    max_tokens: int = 2048
    share_media: bool = True
    pack_tokens: int | None = Field(default=None, gt=0)
    arguments: dict[str, Any] = Field(default_factory=dict)


class Watch(TrainerCallback):
    """Marks whole checkpoints and drives the progress bar."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Marks the checkpoint as whole."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        write_json(folder / COMPLETE, sorted(path.name for path in folder.iterdir()))

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Moves the bar."""
        self._advance()


class Ordered(Trainer):
    """A Trainer that takes the rows as they come (the mixture has ordered them already), names the rows of a
    loss that is no number, and resumes to the saved weights.

    transformers' own resuming loads a checkpoint by the names in the file and only warns of those it does not
    find; LLaVA's weights are saved under other names than the module's, so none of them is found and training
    goes on from the base.
    """

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        rows: Any = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(rows)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch.

        Raises:
            UserError: it is no number.
        """
        inputs = dict(inputs)
        rows, labels = inputs.pop(ROWS, None), inputs.get("labels")
        found, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if not found.isfinite():
            wrong = [] if rows is None else not_finite(outputs, labels, rows)
            more = f" and {len(wrong) - _MOST_NAMED} more rows" if len(wrong) > _MOST_NAMED else ""
            raise UserError(
                f"the loss is {float(found.detach())} at step {self.state.global_step + 1}"
                + (f", because of {', '.join(wrong[:_MOST_NAMED])}{more}" if wrong else ""),
                where=self.args.output_dir,
                remedy="look at these rows; where all of a step are named, lower the learning rate",
            )
        return (found, outputs) if return_outputs else found

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        network: Any = self.model if model is None else model
        if isinstance(network, PeftModel):
            lora.resume(network, resume_from_checkpoint)
            return
        saved, info = type(network).from_pretrained(
            resume_from_checkpoint, dtype=network.dtype, output_loading_info=True
        )
        wrong = [
            name
            for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
            for name in info.get(key) or ()
        ]
        if wrong:
            told = ", ".join(map(str, wrong[:5]))
            raise UserError(
                f"the checkpoint's weights do not fit ({told})",
                where=resume_from_checkpoint,
                remedy="delete it; the stage trains from its start",
            )
        network.load_state_dict(saved.state_dict())


def _last_whole_checkpoint(folder: Path) -> str | None:
    while (found := get_last_checkpoint(str(folder))) is not None:
        mark = Path(found) / COMPLETE
        if mark.exists() and all(
            (Path(found) / name).exists() for name in json.loads(mark.read_text(encoding="utf-8"))
        ):
            return found
        log.info("checkpoint %s was cut off; it is removed", Path(found).name)
        shutil.rmtree(found)
    return None


def arguments(config: TrainConfig, folder: Path, *, seed: int, on_cpu: bool) -> TrainingArguments:
    """TrainingArguments of a stage: ours where the method needs them, the config's otherwise.

    Raises:
        UserError: transformers does not know or does not take one of the config's arguments.
    """
    ours = {
        "output_dir": str(folder),
        "num_train_epochs": 1,
        "seed": seed,
        "data_seed": seed,
        "use_cpu": on_cpu,
        "bf16": not on_cpu,
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "report_to": "none",
        "logging_strategy": "steps",
        # transformers' default shows the average so far in place of a loss that is no number
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_total_limit": 1,
        "dataloader_pin_memory": not on_cpu,
    }
    defaults = {
        "logging_steps": 10,
        "save_steps": 200,
        "per_device_train_batch_size": 32,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.03,
    }
    clash = sorted(set(ours) & set(config.arguments))
    if clash:
        raise UserError(
            f"{', '.join(clash)} is set by the method", where="arguments", remedy="remove it from the config"
        )
    for name, value in config.arguments.items():
        default = getattr(TrainingArguments, name, None)
        if isinstance(value, str) and isinstance(default, int | float) and not isinstance(default, bool):
            # YAML reads 1e-4 as a text, and the optimizer would meet it
            raise UserError(
                f"{name} is the text {value!r}, not a number",
                where="arguments",
                remedy="write numbers with a point, e.g. 1.0e-4",
            )
    try:
        return TrainingArguments(**{**defaults, **config.arguments, **ours})
    except (TypeError, ValueError) as error:
        raise UserError(
            f"transformers.TrainingArguments refuses it: {error}",
            where="arguments",
            remedy="correct the config",
        ) from error


def freeze(network: torch.nn.Module, patterns: Sequence[str]) -> None:
    """Stops learning of every parameter whose name matches one of the patterns.

    Raises:
        UserError: a pattern matches nothing.
    """
    for parameter in network.parameters():
        parameter.requires_grad = True
    names = dict(network.named_parameters())
    for pattern in patterns:
        matched = [name for name in names if re.search(pattern, name)]
        if not matched:
            raise UserError(
                f"freeze pattern {pattern!r} matches no parameter",
                remedy=f"names look like {next(iter(names))}",
            )
        for name in matched:
            names[name].requires_grad = False


def train(
    model: VisionLanguageModel,
    rows: Sequence[Example],
    config: TrainConfig,
    folder: Path,
    *,
    seed: int,
    label: str,
) -> dict[str, Any]:
    """Trains on the rows in their order and saves the model to `folder`/model, with `lora` merged into it.

    Args:
        folder: checkpoints, loss.json, the model and adapters; a killed call continues from here.
        seed: of everything random in the stage.

    Returns:
        Steps, first and last loss, for the manifest.

    Raises:
        UserError: the label gate refuses a row, the loss is no number, or an argument is wrong.
    """
    gate(model, list({id(row): row for row in rows}.values()), max_tokens=config.max_tokens)
    collator = Collator(model, share=config.share_media, pack_tokens=config.pack_tokens)
    if (config.share_media or config.pack_tokens) and not can_share(model, rows, config.pack_tokens):
        collator = Collator(model, share=False)
    freeze(model.network, config.freeze)
    network = model.network
    if config.lora is not None:
        torch.manual_seed(seed)  # which draws the adapters
        network = lora.wear(model.network, config.lora, config.freeze)
    network.train()
    model.network.config.use_cache = False
    settings = arguments(config, folder / "checkpoints", seed=seed, on_cpu=model.device.type == "cpu")
    batch = settings.train_batch_size * settings.gradient_accumulation_steps * settings.world_size
    steps = math.ceil(len(rows) / batch)
    resume = _last_whole_checkpoint(folder / "checkpoints") if (folder / "checkpoints").exists() else None
    done = int(resume.rsplit("-", 1)[1]) if resume else 0
    with progress(label, steps) as advance:
        advance(done)
        trainer = Ordered(
            model=network,
            args=settings,
            train_dataset=Rows(rows),
            data_collator=collator,
            compute_loss_func=supervised_loss,
            callbacks=[Watch(advance)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=resume)
    curve = [[entry["step"], entry["loss"]] for entry in trainer.state.log_history if "loss" in entry]
    if isinstance(network, PeftModel):
        if trainer.is_world_process_zero():
            network.save_pretrained(str(folder / "adapters"))
        model.network = lora.merged(network)
    model.network.eval()
    model.network.config.use_cache = True
    if trainer.is_world_process_zero():
        model.save(folder / "model")
        # after the model: where it lies, the model beside it is whole
        write_json(folder / "loss.json", curve)
        # the model is what counts from here on; its checkpoints are three times its size
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return {
        "rows": len(rows),
        "steps": trainer.state.global_step,
        "first_loss": curve[0][1] if curve else None,
        "last_loss": curve[-1][1] if curve else None,
    }


class Rows(torch.utils.data.Dataset):
    """Rows in memory, as torch takes them."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        return self._rows[index]


def loss_curve(folder: Path) -> list[list[float]]:
    """The (step, loss) pairs a finished stage left."""
    return json.loads((folder / "loss.json").read_text(encoding="utf-8"))
