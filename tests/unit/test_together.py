"""Several processes do the work of one: who works, who waits, and how all of them end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from behavior_llava.core import together
from behavior_llava.core.config import load
from behavior_llava.core.errors import UserError
from behavior_llava.pipeline import RunConfig, run

WAIT_S = 120

PROGRAM = """
import os, sys, time
from pathlib import Path
from behavior_llava.core import together
from behavior_llava.core.errors import UserError

RANK = os.environ["RANK"]

def note(word):
    with open(sys.argv[1] + "/" + RANK, "a") as file:
        file.write(word + "\\n")

def summed(number, blame=None):
    import torch
    note(f"call {number} of {os.environ['WORLD_SIZE']} with rank {os.environ['RANK']}")
    if blame == RANK or blame == "all":
        raise UserError("cannot be used", where="row7", remedy="mend it")
    if blame == "crash" and RANK == "1":
        raise ValueError("a fault of ours")
    value = torch.tensor([float(RANK) + number])
    torch.distributed.all_reduce(value)
    if blame == "stuck":
        note("stuck")
        while True:
            torch.distributed.all_reduce(value)
            time.sleep(0.05)
    return float(value)

def main():
    note(f"working among {together.count()}, hidden {'WORLD_SIZE' not in os.environ}")
    print("the first says this", flush=True)
    case = sys.argv[2]
    if case == "refused before":
        raise UserError("no such folder", where="x")
    if case.startswith("exit "):
        raise SystemExit(int(case.split()[1]))
    if case == "wait":
        together.call(note, "here")  # from here on the other is there too
        note("waiting")
        time.sleep(60)
    if case.startswith("blame "):
        summed_by_all = together.call(summed, 10, case.split()[1])
    note(f"sum {together.call(summed, 10)}")
    time.sleep(1)
    note(f"sum {together.call(summed, 20)}")
    return "done"

if __name__ == "__main__":
    try:
        note(f"returned {together.work(main)}")
    except UserError as error:
        sys.stderr.write(f"error: {error}\\n")
        raise SystemExit(2) from None
"""


def begun(folder: Path, case: str, processes: int = 2) -> subprocess.Popen[str]:
    """The program under torchrun."""
    (folder / "program.py").write_text(PROGRAM)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [sys.executable, *launch, str(folder / "program.py"), str(folder), case],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def notes(folder: Path, rank: int) -> list[str]:
    path = folder / str(rank)
    return path.read_text().splitlines() if path.exists() else []


def wait_for(folder: Path, rank: int, word: str) -> None:
    began = time.monotonic()
    while word not in notes(folder, rank):
        assert time.monotonic() - began < WAIT_S, (rank, notes(folder, rank))
        time.sleep(0.05)


def test_alone_nothing_is_different() -> None:
    assert together.count() == 1
    assert together.work(lambda: together.call(int, "12")) == 12


def test_a_run_that_several_processes_would_repeat_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(RunConfig, Path(__file__).parents[2] / "configs" / "quickstart.yaml")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"together\.work"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_first_works_and_all_take_part_in_its_calls(tmp_path: Path) -> None:
    running = begun(tmp_path, "well", processes=3)
    said, _ = running.communicate(timeout=WAIT_S)
    assert running.returncode == 0, said
    assert said.count("the first says this") == 1
    calls = [[f"call {number} of 3 with rank {rank}" for number in (10, 20)] for rank in range(3)]
    assert notes(tmp_path, 0) == [
        "working among 3, hidden True",
        calls[0][0],
        "sum 33.0",
        calls[0][1],
        "sum 63.0",
        "returned done",
    ]
    for rank in (1, 2):
        assert notes(tmp_path, rank) == [*calls[rank], "returned None"]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["refused before", "blame 0", "blame 1", "blame all"])
def test_what_one_refuses_ends_all_and_is_said_once(tmp_path: Path, case: str) -> None:
    began = time.monotonic()
    running = begun(tmp_path, case)
    said, _ = running.communicate(timeout=WAIT_S)
    assert running.returncode == 1  # the launcher's own; it tells those of the processes
    message = "x: no such folder." if case == "refused before" else "row7: cannot be used; mend it."
    assert said.count(f"error: {message}") == 1
    before_the_launcher = said[: said.index("ChildFailedError")]
    assert "UserError" not in before_the_launcher
    assert "RuntimeError" not in before_the_launcher
    assert "exitcode  : 2" in said
    assert time.monotonic() - began < 60
    assert not any("returned" in word for rank in (0, 1) for word in notes(tmp_path, rank))


@pytest.mark.slow
def test_a_fault_of_ours_keeps_its_trace_and_ends_all(tmp_path: Path) -> None:
    running = begun(tmp_path, "blame crash")
    said, _ = running.communicate(timeout=WAIT_S)
    assert running.returncode == 1
    assert said.count("ValueError: a fault of ours") == 1
    assert "Connection closed" not in said


@pytest.mark.slow
def test_the_code_a_command_exits_with_is_that_of_all(tmp_path: Path) -> None:
    running = begun(tmp_path, "exit 0")
    said, _ = running.communicate(timeout=WAIT_S)
    assert running.returncode == 0, said
    for rank in (0, 1):
        (tmp_path / str(rank)).unlink(missing_ok=True)
    running = begun(tmp_path, "exit 7")
    said, _ = running.communicate(timeout=WAIT_S)
    assert running.returncode == 1
    assert "exitcode  : 7" in said


@pytest.mark.slow
@pytest.mark.parametrize(("case", "word"), [("wait", "waiting"), ("blame stuck", "stuck")])
def test_ctrl_c_ends_all(tmp_path: Path, case: str, word: str) -> None:
    running = begun(tmp_path, case)
    wait_for(tmp_path, 0, word)
    began = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)
    said, _ = running.communicate(timeout=WAIT_S)
    assert running.returncode != 0
    assert time.monotonic() - began < 20
    assert said.count("KeyboardInterrupt") <= 1
    assert "Connection closed" not in said
    left = subprocess.run(
        ["pgrep", "-f", str(tmp_path / "program.py")], capture_output=True, text=True, check=False
    )
    assert left.stdout == ""


@pytest.mark.slow
def test_without_a_launcher_those_who_wait_end_with_the_first(tmp_path: Path) -> None:
    """As under srun or mpirun: the first process itself runs the store, and may die of anything."""
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(29000 + os.getpid() % 900),
    }
    first, second = (
        subprocess.Popen(
            [sys.executable, str(tmp_path / "program.py"), str(tmp_path), "wait"],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    )
    wait_for(tmp_path, 0, "waiting")
    time.sleep(0.5)
    first.kill()
    first.communicate()
    said, _ = second.communicate(timeout=WAIT_S)
    assert second.returncode == 1
    assert said == ""
