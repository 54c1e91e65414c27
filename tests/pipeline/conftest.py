"""Runs of the command line on a world small enough to take seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WORLD = {
    "seed": 7,
    "images": 120,
    "videos": 30,
    "page_posts": 20,
    "instruction_images": 200,
    "instruction_videos": 6,
    "instruction_texts": 60,
    "benchmark_train": 16,
    "benchmark_test": 16,
}
MODEL = {
    "hidden_size": 32,
    "num_layers": 1,
    "num_vision_layers": 1,
    "num_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """The --set values that make configs/quickstart.yaml take seconds."""
    values = {f"collect.sources.0.settings.{name}": value for name, value in WORLD.items()}
    values |= {f"base.tiny.{name}": value for name, value in MODEL.items()}
    for stage, epochs, batch in (
        ("base.train", 4, 16),
        ("training.train", 1, 8),
        ("evaluate.finetune.train", 2, 4),
    ):
        values |= {f"{stage}.epochs": epochs, f"{stage}.arguments.per_device_train_batch_size": batch}
        values |= {f"{stage}.arguments.save_steps": 5}
    values |= {"base.train.arguments.learning_rate": 0.005, "evaluate.batch_size": 8}
    values |= {"evaluate.context_tokens": 24, "build.captions.tokens": 24}
    values |= {"report.statistics.draws": 100, "report.statistics.flips": 100}
    return tuple(f"{key}={value}" for key, value in values.items())


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def start() -> Start:
    """Starts the command line as its own process group: (words, --set values, cwd=folder)."""

    def begin(words: Sequence[str], values: Sequence[str] = (), *, cwd: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "behavior_llava", *words]
        command += [word for value in values for word in ("--set", value)]
        return subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return begin


@pytest.fixture(scope="session")
def finish(start: Start) -> Callable[..., str]:
    """Runs the command line to its end, expects an exit code, and returns what it said."""

    def run(words: Sequence[str], values: Sequence[str] = (), *, cwd: Path, code: int = 0) -> str:
        running = start(words, values, cwd=cwd)
        said, _ = running.communicate(timeout=600)
        assert running.returncode == code, said
        return said

    return run
