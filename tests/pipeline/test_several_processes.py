"""`torchrun ... -m behavior_llava run CONFIG`: what one process does and learns, and nothing said twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from behavior_llava.core.manifest import fingerprint
from behavior_llava.models.auto import weights_hash
from behavior_llava.training.trainer import COMPLETE, loss_curve

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "quickstart.yaml")
WAIT_S = 280
STAGES = ("base/seed0", "train/seed0/shuffled", "train/seed0/behavior")
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
ACCELERATE += ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")

WORLD = {
    "images": 60,
    "videos": 10,
    "page_posts": 8,
    "instruction_images": 80,
    "instruction_videos": 3,
    "instruction_texts": 20,
    "benchmark_train": 16,
    "benchmark_test": 16,
}


def values(small: tuple[str, ...], processes: int) -> list[str]:
    """Eight rows a step, whatever the number of processes; plain descent, which does not magnify rounding."""
    found = [*small, *(f"collect.sources.0.settings.{name}={value}" for name, value in WORLD.items())]
    found += ["side_by_side=1", "arms=[base,shuffled,behavior]", "build.captions.tokens=8"]
    found += ["evaluate.tasks=[emoset]", "evaluate.settings=[zero_shot_verbalized]"]
    found += ["evaluate.finetune.fractions=[1.0]", "evaluate.context_tokens=8"]
    for stage in ("base.train", "training.train", "evaluate.finetune.train"):
        arguments = {
            "per_device_train_batch_size": 8 // processes,
            "save_steps": 3,
            "logging_steps": 1,
            "optim": "sgd",
            "learning_rate": 0.05,
        }
        found.append(f"{stage}.epochs=1")
        found += [f"{stage}.arguments.{name}={value}" for name, value in arguments.items()]
    return found


def launched(
    verb: str, folder: Path, values: list[str], launcher: tuple[str, ...] = TORCHRUN
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *launcher, "-m", "behavior_llava", verb, CONFIG, "--out", str(folder)]
    return subprocess.Popen(
        command + [word for value in values for word in ("--set", value)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == code, said[-5000:]
    return said


@pytest.fixture(scope="module")
def two(small: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run to the report in two processes, and what it said."""
    folder = tmp_path_factory.mktemp("two") / "run"
    return folder, ended(launched("run", folder, values(small, 2)))


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(
    two: tuple[Path, str], small: tuple[str, ...], finish: Callable[..., str], tmp_path: Path
) -> None:
    finish(["train", CONFIG, "--out", "run"], values(small, 1), cwd=tmp_path)
    for stage in STAGES:
        first, second = two[0] / stage, tmp_path / "run" / stage
        curve, expected = loss_curve(first), loss_curve(second)
        assert [step for step, _ in curve] == [step for step, _ in expected]
        assert len(curve) >= 5
        for (_, value), (_, wanted) in zip(curve, expected, strict=True):
            assert value == pytest.approx(wanted, abs=1e-5)
        weights, others = (load_file(folder / "model" / "model.safetensors") for folder in (first, second))
        assert weights.keys() == others.keys()
        for key, value in weights.items():
            torch.testing.assert_close(value, others[key], atol=1e-5, rtol=1e-4)
    told = [
        json.loads((folder / STAGES[0] / "manifest.json").read_text())
        for folder in (two[0], tmp_path / "run")
    ]
    for key in ("tower_loss", "rows", "steps", "step_rows", "passes"):
        assert told[0][key] == told[1][key], key


@pytest.mark.slow
def test_it_says_everything_once_and_reports(two: tuple[Path, str]) -> None:
    folder, said = two
    lines = [line for line in said.splitlines() if line.endswith(" ...") or " done in " in line]
    assert len(lines) == len(set(lines)), said
    assert {"collect ...", "train/seed0/behavior ...", "evaluate/seed0/behavior ...", "report ..."} <= set(
        lines
    )
    assert said.count("The report is at") == 1
    assert "rank1" not in said, said
    assert json.loads((folder / "report" / "summary.json").read_text())["results"]
    assert not list(folder.rglob("*.part"))
    finetuned = list(folder.glob("evaluate/seed0/*/finetuned/*/loss.json"))
    assert len(finetuned) == 3


@pytest.mark.slow
def test_two_processes_share_the_questions_and_answer_as_one_does(
    two: tuple[Path, str], small: tuple[str, ...], tmp_path: Path
) -> None:
    run, kept = two[0], tmp_path / "kept"
    kept.mkdir()
    for name in ("evaluate", "journal", "report"):
        (run / name).rename(kept / name)
    alone = (*TORCHRUN[:-1], "1")
    try:
        ended(launched("evaluate", run, [*values(small, 2), "evaluate.finetune.tasks=[]"], alone))
        for arm in ("shuffled", "behavior"):
            weights = fingerprint(weights_hash(run / "train" / "seed0" / arm / "model"))
            shares, (whole,) = (list((place / "journal" / weights).iterdir()) for place in (kept, run))
            assert len(shares) == 2
            lines = [file.read_bytes().splitlines() for file in shares]
            assert min(map(len, lines)) > 4
            assert sorted(line for some in lines for line in some) == sorted(whole.read_bytes().splitlines())
            answers = f"evaluate/seed0/{arm}/predictions.parquet"
            first, other = (
                pq.read_table(place / answers, filters=[("setting", "!=", "finetuned")])
                for place in (kept, run)
            )
            assert first.num_rows > 64
            assert first.equals(other)
    finally:
        for name in ("evaluate", "journal", "report"):
            shutil.rmtree(run / name, ignore_errors=True)
            (kept / name).rename(run / name)


@pytest.mark.slow
def test_a_second_start_in_one_process_or_two_finds_all_done(
    two: tuple[Path, str], small: tuple[str, ...], finish: Callable[..., str], tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in two[0].rglob("manifest.json")}
    said = ended(launched("run", two[0], values(small, 2)))
    assert said.count("report is finished") == 1
    finish(["run", CONFIG, "--out", str(two[0])], values(small, 2), cwd=tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in two[0].rglob("manifest.json")}


@pytest.mark.slow
def test_an_arm_in_steps_of_another_size_is_refused(
    two: tuple[Path, str], small: tuple[str, ...], finish: Callable[..., str], tmp_path: Path
) -> None:
    folder = two[0] / STAGES[2]
    folder.rename(tmp_path / "kept")
    said = finish(["train", CONFIG, "--out", str(two[0])], values(small, 2), cwd=tmp_path, code=2)
    shutil.rmtree(folder)
    (tmp_path / "kept").rename(folder)
    assert "train/seed0/behavior: a step would take 4 rows; those of train/seed0/shuffled took 8" in said


@pytest.mark.slow
def test_killed_at_any_step_the_same_command_ends_with_the_same_bits(
    two: tuple[Path, str], small: tuple[str, ...], tmp_path: Path
) -> None:
    stage = random.choice(STAGES)
    folder = tmp_path / "run"
    running = launched("train", folder, values(small, 2))
    began = time.monotonic()
    while not list((folder / stage / "checkpoints").glob(f"checkpoint-*/{COMPLETE}")):
        assert running.poll() is None
        assert time.monotonic() - began < WAIT_S
        time.sleep(0.002)
    time.sleep(random.random() * 0.3)
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(running.pid)], capture_output=True, text=True, check=True
    )
    for pid in (running.pid, *map(int, listed.stdout.split())):
        os.kill(pid, signal.SIGKILL)
    running.communicate(timeout=WAIT_S)
    assert not (folder / stage / "manifest.json").exists()
    ended(launched("train", folder, values(small, 2)))
    for stage in STAGES:
        assert loss_curve(folder / stage) == loss_curve(two[0] / stage)
        weights, others = (
            load_file(place / stage / "model" / "model.safetensors") for place in (folder, two[0])
        )
        assert all(torch.equal(weights[key], others[key]) for key in others), stage


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE])
def test_arms_side_by_side_in_several_processes_are_refused_once(
    small: tuple[str, ...], tmp_path: Path, launcher: tuple[str, ...]
) -> None:
    said = ended(launched("train", tmp_path / "run", [*small, "side_by_side=2"], launcher), code=1)
    assert said.count("error: side_by_side: 2 arms at a time") == 1
    assert "--set side_by_side=1" in said
    assert "exitcode  : 2" in said
    assert not (tmp_path / "run").exists()
