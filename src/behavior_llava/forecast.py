"""What a run would read, train and score, and about what it would take: the command line's --dry-run.

Numbers come from finished stages where there are any, else from the config; what neither tells is called
unknown. Time is the floating point operations of training and evaluation over the speed of a matrix product
measured here and now, so it is an order of magnitude.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from behavior_llava.core.manifest import MANIFEST
from behavior_llava.core.progress import console
from behavior_llava.core.schema import Task
from behavior_llava.data import arms, instruction
from behavior_llava.data.collect import source_of
from behavior_llava.evaluation import benchmarks
from behavior_llava.pipeline import VERBS, RunConfig

TOKENS_A_ROW = {"short": 80, "paper": 500}
"""With the media's. Measured on the sandbox with its own tokenizer (short), and estimated from the paper's
template of some ten scenes."""
INSTRUCTION_TOKENS = 45
"""Measured on the sandbox's instruction data."""
QUESTION_TOKENS = 40
"""A benchmark's question with its media and labels, on the sandbox."""
UTILIZATION = 0.4
"""Share of the matrix peak. The quickstart reached 0.48 on two cores; what is left is room for reading."""
MEDIA_BYTES = 30_000
"""A picture or film of the sandbox, on disk."""
BYTES_A_PARAMETER = 16
"""Weights, gradient and AdamW's two moments in fp32."""


@dataclass(frozen=True)
class Size:
    """A model's size; None where its files are not at hand."""

    parameters: int | None


def show(config: RunConfig, folder: Path, *, until: str, limit: int | None) -> None:
    """Prints the forecast; writes nothing.

    Raises:
        UserError: a source's settings or files are wrong: found before anything runs.
    """
    console.print(
        f"[bold]{config.name}[/bold] in {folder}, up to {until}; nothing is written now", soft_wrap=True
    )
    posts = _sources(config, folder, limit)
    verbs = VERBS[: VERBS.index(until) + 1]
    size = _size(config)
    trained = [name for name in config.arms if arms.arm(name, config.build.kinds, where="arms").is_trained]
    operations: float | None = 0.0
    if "train" in verbs:
        operations = _training(config, posts, size, trained, limit)
    if "evaluate" in verbs:
        asked = _evaluation(config, limit, size)
        operations = None if operations is None or asked is None else operations + asked
    if "train" in verbs:
        _cost(config, posts, size, operations, len(trained))
    finished = sorted(path.parent.relative_to(folder).as_posix() for path in folder.glob(f"**/{MANIFEST}"))
    console.print(f"finished already, if nothing changed: {', '.join(finished) or 'nothing'}", soft_wrap=True)


def _sources(config: RunConfig, folder: Path, limit: int | None) -> int | None:
    """Prints what is read; returns the number of posts, None where it is not known."""
    table = Table("source", "from", "posts", "on disk", title="read")
    total: int | None = 0
    for entry in config.collect.sources:
        settings = source_of(entry)[1]
        paths = [value for _, value in settings if isinstance(value, Path)]
        files = [file for path in paths for file in _files(path)]
        count = _declared(settings)
        named = [value for name, value in settings if name in ("path", "media", "hub") and value is not None]
        table.add_row(
            entry.kind,
            "made by the run" if count is not None else ", ".join(map(str, named)),
            "unknown" if count is None else f"{count:,}",
            "unknown" if not files else _bytes(sum(file.stat().st_size for file in files)),
        )
        total = None if total is None or count is None else total + count
    console.print(table)
    manifest = folder / "collect" / MANIFEST
    if manifest.exists():
        total = json.loads(manifest.read_text(encoding="utf-8"))["posts"]
        console.print(f"collected before: {total:,} posts")
    if limit is not None and total is not None:
        total = min(total, 3 * limit)
    return total


def _files(path: Path) -> Iterator[Path]:
    from behavior_llava.core.errors import UserError

    if not path.exists():
        raise UserError("no such file or folder", where=path, remedy="check the path in the config")
    yield from [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())


def _declared(settings: Any) -> int | None:
    """The posts that a source's settings ask it to make; None where it makes none."""
    names = ("images", "videos", "page_posts")
    return sum(getattr(settings, name) for name in names) if hasattr(settings, names[0]) else None


def _size(config: RunConfig) -> Size:
    if config.model == "tiny":
        tiny = config.base.tiny
        # attention and a gated MLP of three times the width; in the tower a plain one of twice the width
        layer, seeing = 13 * tiny.hidden_size**2, 8 * tiny.hidden_size**2
        patch = 3 * tiny.patch_size**2 * tiny.hidden_size
        language = tiny.num_layers * layer + tiny.vocab_size * tiny.hidden_size
        return Size(language + tiny.num_vision_layers * seeing + patch)
    folder = Path(config.model)
    if folder.is_dir():
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        return Size(weights // 2)
    return Size(None)


def _instruction_rows(config: RunConfig, limit: int | None) -> int | None:
    """Rows of the instruction data; None where they are not known before the run."""
    path = config.base.instruction
    if path is not None:
        return len(instruction.read(path))
    for entry in config.collect.sources:
        if entry.kind == "sandbox":
            settings: Any = source_of(entry)[1]
            media = settings.instruction_images + settings.instruction_videos
            rows = 2 * media + settings.instruction_texts
            return rows if limit is None else min(rows, 8 * limit)
    return None


def _training(
    config: RunConfig, posts: int | None, size: Size, trained: list[str], limit: int | None
) -> float | None:
    """Prints what is trained; returns its operations, None where they cannot be told."""
    stages, told = len(trained) * len(config.seeds), config.training
    based = len(config.seeds) if config.model == "tiny" else 0
    console.print(
        f"train: {based} base model(s) and {stages} arm stage(s): {', '.join(trained)} "
        f"x seeds {list(config.seeds)}",
        soft_wrap=True,
    )
    rows = _instruction_rows(config, limit)
    tokens: float | None = 0.0
    if based:
        if rows is None:
            tokens = None
        else:
            console.print(f"rows of the base stage: {rows:,}, {config.base.train.epochs:g} epochs")
            tokens = based * rows * config.base.train.epochs * INSTRUCTION_TOKENS
    if posts is None:
        console.print("rows of an arm stage: unknown until collect has run", soft_wrap=True)
        return None
    own = 0.8 * posts * told.train.epochs
    console.print(
        f"rows of an arm stage: at most {round(own * (1 + told.ratio)):,} (80 % of the posts, "
        f"{told.train.epochs:g} epochs, 1:{told.ratio:g} with instruction data)"
    )
    if size.parameters is None:
        console.print(f"model {config.model}: its size is known once it is downloaded", soft_wrap=True)
    if size.parameters is None or tokens is None:
        return None
    a_row = TOKENS_A_ROW.get(config.build.template, TOKENS_A_ROW["paper"])
    tokens += stages * own * (a_row + told.ratio * INSTRUCTION_TOKENS)
    return 6 * size.parameters * tokens


def _evaluation(config: RunConfig, limit: int | None, size: Size) -> float | None:
    """Prints what is scored; returns its operations, None where they cannot be told."""
    settings, known = config.evaluate, benchmarks.all_tasks()
    table = Table("task", "samples", "settings", "metric", "modality", title="score")
    cells = len(config.arms) * len(config.seeds)
    tokens: float | None = 0.0
    for name in settings.tasks:
        task = known[name]
        asked = [
            setting for setting in settings.settings if setting == "zero_shot" or task.modality != "text"
        ]
        tuned = settings.finetune.fractions if name in settings.finetune.tasks else ()
        samples = _samples(config, task, limit)
        table.add_row(
            name,
            "unknown" if samples is None else f"{samples:,}",
            "\n".join([*asked, *(f"finetuned {fraction:.0%}" for fraction in tuned)]),
            task.metric,
            task.modality,
        )
        if tokens is None or samples is None:
            tokens = None
            continue
        written = sum(setting != "zero_shot" for setting in asked) * (
            QUESTION_TOKENS + settings.context_tokens
        )
        tokens += cells * samples * ((len(asked) + len(tuned)) * QUESTION_TOKENS + written)
        # a learned token costs three times one that is read; the labels are about as many as the samples
        tokens += cells * 3 * sum(tuned) * samples * settings.finetune.train.epochs * QUESTION_TOKENS
    console.print(table)
    console.print(f"by {len(config.arms)} arm(s) x {len(config.seeds)} seed(s)")
    return None if tokens is None or size.parameters is None else 2 * size.parameters * tokens


def _samples(config: RunConfig, task: Task, limit: int | None) -> int | None:
    """Samples of a task's test split; None where its list is not there yet."""
    settings = config.evaluate
    count: int | None = None
    if settings.benchmarks is not None:
        place = settings.benchmarks / benchmarks.folder_name(task)
        count = len(task.load(place, task.test_split)) if place.is_dir() else None
    else:
        made = [source_of(entry)[1] for entry in config.collect.sources if entry.kind == "sandbox"]
        count = made[0].benchmark_test if made else None
    most = [value for value in (limit, settings.limit, count) if value is not None]
    return None if count is None else min(most)


def _cost(
    config: RunConfig, posts: int | None, size: Size, operations: float | None, num_trained: int
) -> None:
    """Prints time, memory and disk."""
    if operations is None or size.parameters is None or posts is None:
        console.print("time, memory and disk: unknown, for the reasons above")
        return
    speed = _matmul_flops()
    console.print(
        f"operations: {operations:.1e}; here {speed / 1e9:.0f} GFLOP/s at best, so about "
        f"{_time(operations / (speed * UTILIZATION))} of training and evaluation on this machine",
        soft_wrap=True,
    )
    memory = config.side_by_side * (BYTES_A_PARAMETER * size.parameters + 2**30) + 2**30
    models = num_trained * len(config.seeds) + (2 * len(config.seeds) if config.model == "tiny" else 0)
    tuned = config.evaluate.finetune
    models += len(config.arms) * len(config.seeds) * len(tuned.tasks) * len(tuned.fractions)
    disk = 4 * size.parameters * models + 20_000 * posts + MEDIA_BYTES * _media_made(config)
    console.print(
        f"memory: about {_bytes(memory)}; disk: about {_bytes(disk)} "
        f"({models} models of {_bytes(4 * size.parameters)}, media and frames)",
        soft_wrap=True,
    )


def _media_made(config: RunConfig) -> int:
    """Pictures and films the sandbox will draw: posts, instruction data, and five benchmarks' splits."""
    made = 0
    for entry in config.collect.sources:
        if entry.kind == "sandbox":
            settings: Any = source_of(entry)[1]
            a_benchmark = settings.benchmark_train * 7 // 6 + settings.benchmark_test
            made += _declared(settings) + settings.instruction_images + settings.instruction_videos
            made += 4 * a_benchmark
    return made


def _matmul_flops() -> float:
    """Floating point operations a second of an fp32 matrix product, the best of a few."""
    import torch

    side, best = 1024, 0.0
    matrix = torch.ones(side, side)
    for _ in range(5):
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
