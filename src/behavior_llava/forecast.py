"""What a run would read, train and score, and about what it would take: the command line's --dry-run.

Numbers come from finished stages where there are any, else from the config; what neither tells is called
unknown. Time is the floating point operations of the training over the speed of a matrix product measured
here and now, so it is an order of magnitude.
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
from behavior_llava.data import arms
from behavior_llava.data.collect import source_of
from behavior_llava.evaluation import benchmarks
from behavior_llava.pipeline import VERBS, RunConfig

TOKENS_A_ROW = {"short": 60, "paper": 500}
"""Measured on the sandbox with its own tokenizer (short), and estimated from the paper's template of some ten
scenes."""
UTILIZATION = 0.25
"""Share of the matrix peak that small models reach here in training; measured on the quickstart."""
BYTES_A_PARAMETER = 16
"""Weights, gradient and AdamW's two moments in fp32."""


@dataclass(frozen=True)
class Size:
    """A model's size: parameters that learn in an arm's stage and in all; None where the config is not at
    hand.
    """

    parameters: int | None
    hidden: int = 0


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
    trained = [
        name for name in config.arms if arms.arm(name, config.build.behaviors, where="arms").is_trained
    ]
    if "train" in verbs:
        _training(config, posts, size, trained)
    if "evaluate" in verbs:
        _evaluation(config, limit)
    finished = sorted(path.parent.relative_to(folder).as_posix() for path in folder.glob(f"**/{MANIFEST}"))
    console.print(f"finished already, if nothing changed: {', '.join(finished) or 'nothing'}", soft_wrap=True)


def _sources(config: RunConfig, folder: Path, limit: int | None) -> int | None:
    """Prints what is read; returns the number of posts, None where it is not known."""
    table = Table("source", "from", "posts", "on disk", title="read")
    total: int | None = 0
    for entry in config.collect.sources:
        source, settings = source_of(entry)
        paths = [value for _, value in settings if isinstance(value, Path)]
        files = [file for path in paths for file in _files(path)]
        count = _declared(settings) if source.fetch is not None else None
        table.add_row(
            entry.kind,
            "made by the run" if source.fetch else ", ".join(map(str, paths)),
            "unknown" if count is None else f"{count:,}",
            "0 B" if not files else _bytes(sum(file.stat().st_size for file in files)),
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


def _declared(settings: Any) -> int:
    return sum(getattr(settings, name, 0) for name in ("images", "videos", "page_posts"))


def _size(config: RunConfig) -> Size:
    if config.model == "tiny":
        tiny = config.base.tiny
        layer = 4 * tiny.hidden_size**2 + 3 * tiny.hidden_size * 3 * tiny.hidden_size
        return Size(tiny.num_layers * layer + tiny.vocab_size * tiny.hidden_size, tiny.hidden_size)
    folder = Path(config.model)
    if folder.is_dir():
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        return Size(weights // 2)
    return Size(None)


def _training(config: RunConfig, posts: int | None, size: Size, trained: list[str]) -> None:
    stages = len(trained) * len(config.seeds)
    console.print(
        f"train: {len(config.seeds)} base model(s) and {stages} arm stage(s): {', '.join(trained)} "
        f"x seeds {list(config.seeds)}",
        soft_wrap=True,
    )
    if posts is None:
        console.print("rows: unknown until collect has run", soft_wrap=True)
        return
    rows = round(0.8 * posts * config.training.train.epochs * (1 + config.training.ratio))
    tokens = rows * TOKENS_A_ROW.get(config.build.template, TOKENS_A_ROW["paper"])
    console.print(
        f"rows an arm stage: at most {rows:,} (80 % of the posts, {config.training.train.epochs:g} epochs, "
        f"1:{config.training.ratio:g}), about {tokens:,} tokens"
    )
    if size.parameters is None:
        console.print(f"model {config.model}: its size is known once it is downloaded", soft_wrap=True)
        return
    flops = 6 * size.parameters * tokens
    speed = _matmul_flops()
    seconds = stages * flops / (speed * UTILIZATION)
    console.print(
        f"operations: {flops * stages:.1e}; here {speed / 1e9:.0f} GFLOP/s at best, "
        f"so about {_time(seconds)} of training on this machine"
    )
    memory = BYTES_A_PARAMETER * size.parameters + 2**31
    disk = 4 * size.parameters * (stages + len(config.seeds)) + 20_000 * posts
    console.print(
        f"memory: about {_bytes(memory)}; disk: about {_bytes(disk)} "
        f"(models {_bytes(4 * size.parameters)} each)"
    )


def _evaluation(config: RunConfig, limit: int | None) -> None:
    settings, known = config.evaluate, benchmarks.all_tasks()
    table = Table("task", "settings", "metric", "modality", title="score")
    for name in settings.tasks:
        task = known[name]
        asked = [
            setting for setting in settings.settings if setting == "zero_shot" or task.modality != "text"
        ]
        if name in settings.finetune.tasks:
            asked += [f"finetuned {fraction:.0%}" for fraction in settings.finetune.fractions]
        table.add_row(name, ", ".join(asked), task.metric, task.modality)
    console.print(table)
    most = [value for value in (limit, settings.limit) if value is not None]
    console.print(
        f"by {len(config.arms)} arm(s) x {len(config.seeds)} seed(s), "
        f"{f'at most {min(most)} samples' if most else 'all samples'} a task"
    )


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
