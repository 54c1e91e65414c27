"""One training stage on transformers.Trainer: a model and rows in, a model folder and a loss curve out.

Runs under `python`, `accelerate launch` or `torchrun` alike: the processes share the rows of every step, and
the first of them writes. A killed stage continues from its last whole checkpoint to the weights an
undisturbed run would have had. Called by stages.py for the base stage, for every arm and for fine-tuning.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from peft import PeftModel
from pydantic import Field
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from behavior_llava.core import together
from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import write_json
from behavior_llava.core.progress import Advance, progress
from behavior_llava.core.schema import Example
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.models.features import FrozenFeatures
from behavior_llava.training import lora, precision, prefetching
from behavior_llava.training.batching import (
    PICTURES,
    ROWS,
    Collator,
    Uncounted,
    can_share,
    collated,
    gate,
    not_finite,
    supervised_loss,
)
from behavior_llava.training.lora import LoraConfig
from behavior_llava.training.mixture import RowsInOrder
from behavior_llava.training.prefetching import Ahead, AsSent, opened
from behavior_llava.training.tracking import TRACKED, Board, Probe, Track

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
        keep_together: the questions on one media item follow each other, so that there is something to share:
            less work, but a step shows fewer different media.
        pack_tokens: rows of a batch share sequences of so many tokens without seeing each other; None gives
            each media item a sequence, padded to the longest.
        cache_features: what a frozen vision tower makes of a video's frames is kept on disk, beside them, and
            read in later epochs and by other arms; pictures pass the tower as always. For models of
            LLaVA-1.5's form, whose frames take 1.2 MB each, and LLaMA-VID.
        max_passes: so often the rows mixed in may be repeated; null allows 16 times, or `epochs` if more.
        track_every: steps between two measurements of the probes that the caller gives, of a run those of
            evaluation/probing.py; null measures none.
        arguments: passed to transformers.TrainingArguments and checked by it. Of these,
            dataloader_num_workers is how many processes make batches ahead: if it is not given up to 4 beside
            a GPU, and none on a CPU.
    """

    epochs: float = Field(gt=0)
    freeze: tuple[str, ...] = ()
    lora: LoraConfig | None = None
    max_tokens: int = 2048
    share_media: bool = True
    keep_together: bool = False
    pack_tokens: int | None = Field(default=None, gt=0)
    cache_features: bool = False
    max_passes: float | None = Field(default=None, gt=0)
    track_every: int | None = Field(default=None, gt=0)
    arguments: dict[str, Any] = Field(default_factory=dict)


class Watch(TrainerCallback):
    """Marks whole checkpoints and drives the progress bar."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Marks the checkpoint as whole once every process has written its part, then removes older ones."""
        if args.world_size > 1:
            torch.distributed.barrier()
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        write_json(folder / COMPLETE, sorted(path.name for path in folder.iterdir()))
        # not before: a kill in between would leave none
        for other in folder.parent.glob("checkpoint-*"):
            if other != folder:
                shutil.rmtree(other)

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Moves the bar."""
        if control.should_save:
            # a checkpoint does not hold the losses since the last entry of the log: there are none then
            control.should_log = True
        self._advance()


# ---- which process learns what -----------------------------------------------------------------------------


class Idle(int):
    """The number of a row that is shown to a process for which a step has none: nothing of it counts."""


def shares(
    num_rows: int, *, per_process: int, accumulation: int, processes: int, process: int
) -> list[list[int]]:
    """The batches of one process, as numbers of rows.

    A step's rows are the next `per_process * accumulation * processes` of the whole order, whatever the
    number of processes. The last step has those that are left, spread evenly: none is shown twice and none is
    left out, as accelerate's own ways would. A process without a row there gets an Idle one, because the
    processes wait for each other.
    """
    found: list[list[int]] = []
    step = per_process * accumulation * processes
    for start in range(0, num_rows, step):
        count = min(step, num_rows - start)
        parts = math.ceil(count / (per_process * processes)) * processes
        for part in range(process, parts, processes):
            rows = range(start + count * part // parts, start + count * (part + 1) // parts)
            found.append(list(rows) or [Idle(start)])
    return found


class Batches(Sampler[list[Any]]):
    """The rows of batches decided before; what a DataLoader takes as its batch_sampler."""

    def __init__(self, rows: Rows, batches: Sequence[list[int]]) -> None:
        self._rows, self._batches = rows, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Any]]:
        return ([self._rows[number] for number in batch] for batch in self._batches)


def step_rows(config: TrainConfig) -> int:
    """Rows of one optimizer step of all processes together."""
    batch = int(config.arguments.get("per_device_train_batch_size", DEFAULTS["per_device_train_batch_size"]))
    batch *= int(config.arguments.get("gradient_accumulation_steps", 1))
    return batch * together.count()


class Ordered(Trainer):
    """A Trainer that takes the rows as they come (the mixture has ordered them already), names the rows of a
    loss that is no number, and resumes to the saved weights.

    transformers' own resuming loads a checkpoint by the names in the file and only warns of those it does not
    find; LLaVA's weights are saved under other names than the module's, so none of them is found and training
    goes on from the base.
    """

    features: FrozenFeatures | None = None
    """Of the tower, where they are cached."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This process's share of the rows, in their order."""
        args, rows = self.args, self.train_dataset
        batches = shares(
            len(rows),  # pyright: ignore[reportArgumentType]
            per_process=self._train_batch_size,
            accumulation=args.gradient_accumulation_steps,
            processes=args.world_size,
            process=args.process_index,
        )
        return DataLoader(
            AsSent(len(rows)),  # pyright: ignore[reportArgumentType]
            batch_sampler=Batches(rows, batches),  # pyright: ignore[reportArgumentType]
            collate_fn=Ahead(partial(collated, self.data_collator)),
            num_workers=args.dataloader_num_workers,
            multiprocessing_context=prefetching.context(args.dataloader_num_workers),
            worker_init_fn=prefetching.end_with_parent,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
        )

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The batches of a step.

        Raises:
            UserError: one of them could not be made.
        """
        return super().get_batch_samples(opened(epoch_iterator), num_batches, device)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch.

        Raises:
            UserError: it is no number, here or in another process: all of them stop.
        """
        inputs = dict(inputs)
        rows, labels = inputs.pop(ROWS, None), inputs.get("labels")
        pictures = inputs.pop(PICTURES, None)
        kept = self.features
        with nullcontext() if kept is None or pictures is None else kept.shown(pictures):
            found, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        lost = (~found.detach().isfinite()).float()
        if self.args.world_size > 1:
            torch.distributed.all_reduce(lost)
        if lost:
            wrong = [] if not rows or labels is None else not_finite(outputs, labels, rows)
            values = [float(found.detach())]
            if self.args.world_size > 1:
                wrong, values = gather_object(wrong), gather_object(values)
            value = next(value for value in values if not math.isfinite(value))
            more = f" and {len(wrong) - _MOST_NAMED} more rows" if len(wrong) > _MOST_NAMED else ""
            raise UserError(
                f"the loss is {value} at step {self.state.global_step + 1}"
                + (f", because of {', '.join(wrong[:_MOST_NAMED])}{more}" if wrong else ""),
                where=self.args.output_dir,
                remedy="look at these rows; where all of a step are named, lower the learning rate",
            )
        return (found, outputs) if return_outputs else found

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        network: Any = self.model if model is None else model
        if isinstance(network, PeftModel):
            lora.resume(network, resume_from_checkpoint)
            return
        # fp32 holds both types a checkpoint has (precision.py); each weight is then taken in its own
        saved, info = type(network).from_pretrained(
            resume_from_checkpoint, dtype=torch.float32, output_loading_info=True
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


def _resume_from(folder: Path, settings: TrainingArguments) -> str | None:
    """The checkpoint that all processes continue from; the first of them looks.

    Raises:
        UserError: it is of another number of processes.
    """
    found: list[str | None] = [None]
    if settings.process_index == 0 and folder.exists():
        found = [_last_whole_checkpoint(folder)]
    if settings.world_size > 1:
        broadcast_object_list(found)
    (checkpoint,) = found
    if checkpoint is not None:
        saved = len(list(Path(checkpoint).glob("rng_state*.pth")))
        if saved != settings.world_size:
            raise UserError(
                f"the checkpoint is of {saved} processes, not {settings.world_size}",
                where=checkpoint,
                remedy=f"continue with {saved}, or delete it: the stage trains from its start",
            )
    return checkpoint


DEFAULTS: dict[str, Any] = {
    "logging_steps": 10,
    "save_steps": 200,
    "per_device_train_batch_size": 32,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    # a batch of text alone gives the vision tower and the projector no gradient, and the last layers of most
    # towers never get one: without it the processes would wait for these for ever
    "ddp_find_unused_parameters": True,
}
"""What a config's arguments may change."""


def arguments(
    config: TrainConfig, folder: Path, *, seed: int, on_cpu: bool, in_bf16: bool = False
) -> TrainingArguments:
    """TrainingArguments of a stage: ours where the method needs them, the config's otherwise.

    Args:
        in_bf16: the model was loaded in bf16, and computes in it; see precision.py.

    Raises:
        UserError: transformers does not know or does not take one of the config's arguments.
    """
    ours = {
        "output_dir": str(folder),
        "num_train_epochs": 1,
        "seed": seed,
        "data_seed": seed,
        "use_cpu": on_cpu,
        "bf16": in_bf16,
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "report_to": "none",
        "logging_strategy": "steps",
        # transformers' default shows the average so far in place of a loss that is no number
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        # older checkpoints go when the new one is marked (Watch)
        "save_total_limit": None,
        "dataloader_pin_memory": not on_cpu,
        "dataloader_drop_last": False,
        # a step's loss is per token of all its processes
        "average_tokens_across_devices": True,
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
    if "deepspeed" in config.arguments or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise UserError(
            "DeepSpeed is not supported: nothing of it has been tested here",
            where="arguments" if "deepspeed" in config.arguments else "accelerate launch",
            remedy="split weights with FSDP instead: see configs/accelerate/fsdp.yaml",
        )
    try:
        workers = {"dataloader_num_workers": prefetching.default_workers(on_cpu=on_cpu)}
        return TrainingArguments(**{**DEFAULTS, **workers, **config.arguments, **ours})
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
    _quiet(network)


def _quiet(module: torch.nn.Module) -> None:
    """Lets batch normalization and dropout in what learns nothing do as in use, whatever batch they meet: the
    Trainer puts all modules into training at every step.
    """
    if any(parameter.requires_grad for parameter in module.parameters()):
        for child in module.children():
            _quiet(child)
    elif any(True for _ in module.parameters()):
        for part in module.modules():
            if isinstance(part, (_BatchNorm, _DropoutNd)):
                part.register_forward_pre_hook(_as_in_use)


def _as_in_use(module: torch.nn.Module, inputs: Any) -> None:
    module.eval()


def train(
    model: VisionLanguageModel,
    rows: Sequence[Example],
    config: TrainConfig,
    folder: Path,
    *,
    seed: int,
    label: str,
    probes: Sequence[Probe] = (),
) -> dict[str, Any]:
    """Trains on the rows in their order and saves the model to `folder`/model, with `lora` merged into it.

    Every process of a `torchrun` calls it with the same arguments, and all return when the files are there.
    Where FSDP has split the weights, `model` itself is of no use afterwards; `folder`/model is whole.

    Args:
        folder: checkpoints, loss.json, tracked.json, logs for TensorBoard, the model and adapters; a killed
            call continues from here.
        seed: of everything random in the stage.
        probes: measured every `track_every` steps; they change nothing of the training.

    Returns:
        Steps, first and last loss, for the manifest.

    Raises:
        UserError: the label gate refuses a row, the loss is no number, or an argument is wrong.
    """
    if isinstance(rows, RowsInOrder):
        gate(model, rows.distinct(), max_tokens=config.max_tokens, total=rows.num_distinct)
    else:
        distinct = {id(row): row for row in rows}.values()
        gate(model, distinct, max_tokens=config.max_tokens, total=len(distinct))
    share, pack_tokens = config.share_media, config.pack_tokens
    if (share or pack_tokens) and not can_share(model, rows, pack_tokens):
        share, pack_tokens = False, None
    freeze(model.network, config.freeze)
    types, in_bf16 = precision.types_of(model.network), precision.computes_in_bf16(model.network)
    network = model.network
    if config.lora is not None:
        torch.manual_seed(seed)  # which draws the adapters
        network = lora.wear(model.network, config.lora, config.freeze)
    precision.raise_what_learns(network)
    network.train()
    model.network.config.use_cache = False
    on_cpu = model.device.type == "cpu"
    settings = arguments(config, folder / "checkpoints", seed=seed, on_cpu=on_cpu, in_bf16=in_bf16)
    shown = model.without_weights() if settings.dataloader_num_workers else model
    collator = Collator(shown, share=share, pack_tokens=pack_tokens, names_pictures=config.cache_features)
    batch = settings.train_batch_size * settings.gradient_accumulation_steps * settings.world_size
    steps = math.ceil(len(rows) / batch)
    resume = _resume_from(folder / "checkpoints", settings)
    done = int(resume.rsplit("-", 1)[1]) if resume else 0
    with progress(label, steps) if settings.process_index == 0 else nullcontext(_unseen) as advance:
        advance(done)
        trainer = Ordered(
            model=network,
            args=settings,
            train_dataset=Rows(rows),
            data_collator=collator,
            compute_loss_func=supervised_loss,
            callbacks=[Watch(advance), Board(folder / "logs")],
        )
        if config.cache_features:
            trainer.features = _frozen_features(model, trainer)
        if config.track_every is not None and probes:
            track = Track(
                model, probes, config.track_every, folder / TRACKED, everywhere=trainer.is_fsdp_enabled
            )
            trainer.add_callback(track)
        trainer.remove_callback(PrinterCallback)
        if trainer.is_fsdp_enabled:
            split(model.network, trainer.accelerator.state.fsdp_plugin)
            trainer.add_callback(Split())
        with prefetching.deaths_told() if settings.dataloader_num_workers else nullcontext():
            trainer.train(resume_from_checkpoint=resume)
    curve = [[entry["step"], entry["loss"]] for entry in trainer.state.log_history if "loss" in entry]
    is_first = trainer.is_world_process_zero()
    if trainer.is_fsdp_enabled:
        weights = trainer.accelerator.get_state_dict(trainer.model)  # all processes take part
        if is_first:
            network = _whole(model, weights, config)
    if isinstance(network, PeftModel) and (is_first or not trainer.is_fsdp_enabled):
        if is_first:
            network.save_pretrained(str(folder / "adapters"))
        model.network = lora.merged(network)
    model.network.eval()
    model.network.config.use_cache = True
    if is_first:
        precision.restore(model.network, types)
        model.save(folder / "model")
        # after the model: where it lies, the model beside it is whole
        write_json(folder / "loss.json", curve)
        # the model is what counts from here on; its checkpoints are three times its size
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    kept = trainer.features
    return {
        **({} if kept is None else {"features_read": kept.num_read, "features_computed": kept.num_computed}),
        "rows": len(rows),
        "steps": trainer.state.global_step,
        "first_loss": curve[0][1] if curve else None,
        "last_loss": curve[-1][1] if curve else None,
    }


def split(network: Any, plugin: Any) -> None:
    """Has FSDP cut a network at the layers of its language model, and nowhere else.

    The vision tower stays in one piece: a process whose batch has no picture would not take part in the
    exchange of its layers' weights.

    Raises:
        UserError: the older FSDP is asked for.
    """
    if plugin.fsdp_version != 2:
        raise UserError(
            "this is FSDP of version 1", where="fsdp_config", remedy="set fsdp_version: 2, for fully_shard"
        )
    plugin.transformer_cls_names_to_wrap = [type(network.get_decoder().layers[0]).__name__]
    # without it the first layer's part in the backward pass depends on whether a batch has a picture
    network.enable_input_require_grads()


class Split(TrainerCallback):
    """Lets FSDP exchange gradients of what a batch did not use, such as the vision tower for text alone."""

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Once the network is cut."""
        kwargs["model"].set_reduce_scatter_unused_params(True)


def _frozen_features(model: VisionLanguageModel, trainer: Trainer) -> FrozenFeatures:
    if trainer.is_fsdp_enabled:
        raise UserError(
            "features cannot be kept where the tower's weights are split between processes",
            where="cache_features",
            remedy="set cache_features to false",
        )
    return FrozenFeatures(model.network, model.store)


def _unseen(done: int = 1) -> None:
    """Progress of a process whose progress nobody looks at."""


def _whole(model: VisionLanguageModel, weights: dict[str, Any], config: TrainConfig) -> Any:
    """A network like the model's, in one piece again, with the gathered weights; adapters are still on it."""
    sharded: Any = model.network
    plain = type(sharded)._from_config(sharded.config, dtype=next(iter(weights.values())).dtype)
    model.network = plain
    network = plain if config.lora is None else lora.wear(plain, config.lora, config.freeze)
    network.load_state_dict(weights)
    return network


class Rows(torch.utils.data.Dataset):
    """Rows in memory, as torch takes them."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        row = self._rows[index]
        return Uncounted(row) if isinstance(index, Idle) else row


def loss_curve(folder: Path) -> list[list[float]]:
    """The (step, loss) pairs a finished stage left."""
    return json.loads((folder / "loss.json").read_text(encoding="utf-8"))
