"""A grid by the command line: what variants share, that a kill changes nothing, what the report compares."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from behavior_llava.data import blift

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def values(small: tuple[str, ...]) -> list[str]:
    own = [value for value in small if "finetune" not in value]
    return [*own, "evaluate.tasks=[emoset]", "evaluate.settings=[zero_shot_verbalized]"]


def test_a_grid_shares_what_is_equal_and_a_kill_changes_no_number(
    tmp_path: Path, values: list[str], start: Callable, finish: Callable[..., str]
) -> None:
    words = ["run", str(ROOT / "configs" / "ablation_signal.yaml"), "--out"]
    changes = [f"run.{value}" for value in values]
    changes.append("vary={all: {}, none: {collect.sources.0.settings.signal: 0.0}}")
    changes.append("run.arms=[content_only, behavior]")
    said = finish([*words, "whole"], changes, cwd=tmp_path)
    assert "base/seed0 is finished" in said.partition("variant 2 of 2: none")[2]
    whole = tmp_path / "whole"
    base = whole / "none" / "base" / "seed0"
    assert base.is_symlink()
    assert base.resolve() == whole / "all" / "base" / "seed0"
    assert not (whole / "none" / "train" / "seed0" / "behavior").is_symlink()  # other receivers, other rows

    summary = read(whole / "report" / "summary.json")
    pairs = {(row["arm"], row["against"]) for row in summary["differences"]}
    assert {(f"{one}/behavior", f"{one}/content_only") for one in ("all", "none")} <= pairs
    assert {row["task"] for row in summary["results"]} >= {"emoset"}
    page = (whole / "report" / "index.html").read_text(encoding="utf-8")
    assert "all/behavior" in page
    assert "all: reddit" in page  # what its filters left
    assert "all: base/seed0" in page  # what it cost
    assert "none: base/seed0" not in page  # which was done once
    for variant in ("all", "none"):
        claim = f"{variant}, zero_shot_verbalized: no claim can be made on 1 task, because shuffled was not"
        assert claim in page
    assert "Where the data come from is not known here." not in page
    heat = (whole / "report" / "tables").glob("*ablation*.csv")
    assert any("none/behavior" in path.read_text(encoding="utf-8") for path in heat)

    running = start([*words, "killed"], changes, cwd=tmp_path)
    deadline = time.monotonic() + 300
    while not (tmp_path / "killed" / "none" / "train").exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    said = finish([*words, "killed"], changes, cwd=tmp_path)
    assert "done in" not in said.partition("variant 2 of 2: none")[0]
    assert (tmp_path / "killed" / "report" / "summary.json").read_bytes() == (
        whole / "report" / "summary.json"
    ).read_bytes()
    assert "done in" not in finish([*words, "killed"], changes, cwd=tmp_path)

    rows = blift.load(whole / "none" / "build" / "arms" / "seed0" / "behavior" / "examples.parquet")
    gone = next(row.id for row in rows)
    said = " ".join(finish(["forget", "whole", "--post", gone], cwd=tmp_path).split())
    for variant in ("all", "none"):
        assert f"{variant}/train/seed0/behavior" in said
        assert not (whole / variant / "build").exists()
        assert not (whole / variant / "collect").exists()
    assert not (whole / "report").exists()


def test_a_share_of_the_posts_says_behavior_and_the_others_content(
    tmp_path: Path, values: list[str], finish: Callable[..., str]
) -> None:
    words = ["build", str(ROOT / "configs" / "ablation_size.yaml"), "--out", "run"]
    arms = ["content_only", "behavior_10pct", "behavior_30pct", "behavior"]
    finish(words, [*values, f"arms=[{', '.join(arms)}]"], cwd=tmp_path)
    rows = {
        arm: list(blift.load(tmp_path / "run" / "build" / "arms" / "seed0" / arm / "examples.parquet"))
        for arm in arms
    }
    assert len({tuple(row.id for row in own) for own in rows.values()}) == 1
    says: dict[str, set[str]] = {}
    for arm in ("behavior_10pct", "behavior_30pct"):
        says[arm] = set()
        for row, plain, own in zip(rows[arm], rows["content_only"], rows["behavior"], strict=True):
            assert row in (plain, own)
            if row == own and row != plain:
                says[arm].add(row.id)
    assert says["behavior_10pct"] < says["behavior_30pct"]
    total = len(rows["behavior"])
    assert 0.1 * total < len(says["behavior_30pct"]) < 0.5 * total
    assert pq.read_metadata(tmp_path / "run/build/arms/seed0/behavior/examples.parquet").num_rows == total
