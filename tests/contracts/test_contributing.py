"""The worked example of CONTRIBUTING.md is a benchmark that works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.contracts import test_tasks as contract

from behavior_llava.core import discover
from behavior_llava.core.errors import UserError
from behavior_llava.evaluation import benchmarks, metrics

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    namespace: dict[str, Any] = {"__name__": "moods"}
    exec(compile(code, "CONTRIBUTING.md", "exec"), namespace)
    return namespace


def test_its_header_is_the_fixed_one() -> None:
    lines = example()["__doc__"].splitlines()
    assert [key for line in lines for key in contract.HEADER if line.startswith(key)] == list(contract.HEADER)


def test_it_holds_the_contract(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (task,) = example()["TASKS"]
    for check in (contract.completions_equal_the_hand_checked, contract.parse_never_guesses):
        check(task, tmp_path, tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "p0.jpg").write_bytes(b"x")
    rows = [f"p{number}.jpg,{task.labels[number % 3]}" for number in range(60)]
    (tmp_path / "moods.csv").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.setattr(contract, "samples_of", lambda task, world: task.load(world, task.test_split))
    monkeypatch.setattr(contract, "PAPER", set())
    for check in contract.CHECKS:
        check(task, tmp_path, tmp_path / "files")
    found = benchmarks.check(task, tmp_path)
    assert {name: split["rows"] for name, split in found["splits"].items()} == {"train": 30, "test": 30}
    assert found["splits"]["test"]["media_found"] == 1
    samples = task.load(tmp_path, "test")
    assert metrics.named(task.metric).score(["calm"] * 30, [one.label for one in samples]) == pytest.approx(
        1 / 3
    )


def test_it_refuses_and_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (task,) = example()["TASKS"]
    with pytest.raises(UserError, match=r"moods\.csv.*moods\.zip"):
        task.load(tmp_path, "test")
    (tmp_path / "moods.csv").write_text("a.jpg,cheesy\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"moods\.csv:1.*'cheesy'"):
        task.load(tmp_path, "test")
    monkeypatch.setattr(discover, "find", lambda package, constant: {"moods": (task,)})
    assert benchmarks.task_named("moods") is task
