"""Work side by side: all jobs are done, what goes wrong reaches the parent, and nobody outlives it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from behavior_llava.core import processes
from behavior_llava.core.errors import UserError
from behavior_llava.core.progress import progress

log = logging.getLogger("behavior_llava.test")


def write(folder: Path, name: str) -> None:
    with progress(f"writing {name}", 1) as advance:
        (folder / name).write_text(str(os.getpid()))
        advance()
    log.info("wrote %s", name)


def refuse_the_second(folder: Path, name: str) -> None:
    if name == "1":
        raise UserError("is the second", where=folder / name, remedy="leave it out")
    time.sleep(60)


def crash(folder: Path, name: str) -> None:
    os._exit(3)


def wait_for_ever(folder: Path, name: str) -> None:
    (folder / name).write_text(str(os.getpid()))
    time.sleep(600)


def test_every_job_is_done_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [str(number) for number in range(7)]
    with caplog.at_level(logging.INFO):
        processes.run(write, [(tmp_path, name) for name in names], processes=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    pids = {path.read_text() for path in tmp_path.iterdir()}
    assert 1 <= len(pids) <= 2
    assert str(os.getpid()) not in pids
    assert sorted(record.message for record in caplog.records) == [f"wrote {name}" for name in names]


def leave_a_mark(folder: Path, name: str, other: str | None, seconds: float) -> None:
    assert other is None or (folder / other).exists(), f"{name} began before {other} was done"
    time.sleep(seconds)
    (folder / name).write_text(name)


def test_a_job_waits_for_the_one_it_needs_while_others_go_ahead(tmp_path: Path) -> None:
    jobs = [
        (tmp_path, "long", None, 2.0),
        (tmp_path, "needs long", "long", 0.0),
        (tmp_path, "short", None, 0.0),
        (tmp_path, "needs short", "short", 0.0),
    ]
    processes.run(leave_a_mark, jobs, processes=2, after={1: 0, 3: 2})
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(made) == {name for _, name, _, _ in jobs}
    assert made["needs short"] < made["long"] < made["needs long"]


@pytest.mark.parametrize("after", [{0: 1}, {1: 1}, {1: -1}, {2: 0}])
def test_a_job_cannot_wait_for_a_later_one(tmp_path: Path, after: dict[int, int]) -> None:
    with pytest.raises(ValueError, match="earlier"):
        processes.run(write, [(tmp_path, "a"), (tmp_path, "b")], processes=2, after=after)


def test_no_jobs_are_no_processes(tmp_path: Path) -> None:
    processes.run(write, [], processes=2)
    assert not list(tmp_path.iterdir())


def test_bad_input_of_one_job_ends_all(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        processes.run(refuse_the_second, [(tmp_path, "0"), (tmp_path, "1")], processes=2)
    assert str(caught.value) == f"{tmp_path / '1'}: is the second; leave it out."
    assert time.monotonic() - started < 50


def test_a_crash_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a process of crash ended before its work"):
        processes.run(crash, [(tmp_path, "0")], processes=1)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="/proc, which tells a dead process from a zombie, is Linux's"
)
def test_nobody_outlives_a_parent_killed_with_9(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from test_processes import wait_for_ever\n"
        "from behavior_llava.core import processes\n"
        "if __name__ == '__main__':\n"
        "    place = Path(sys.argv[1])\n"
        "    processes.run(wait_for_ever, [(place, 'a'), (place, 'b')], processes=2)\n"
    )
    place = tmp_path / "pids"
    place.mkdir()
    parent = subprocess.Popen([sys.executable, str(program), str(place)])
    deadline = time.monotonic() + 60
    while len([path for path in place.iterdir() if path.read_text()]) < 2:
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.1)
    pids = [int(path.read_text()) for path in place.iterdir()]
    assert all(map(is_alive, pids))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "a process outlived its parent"
        time.sleep(0.05)
