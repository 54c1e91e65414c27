"""A run whose instruction data holds broken pictures: it trains without them, says so, and always does the
same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from behavior_llava.models.auto import weights_hash

ROOT = Path(__file__).parents[2]


def manifest(run: Path, stage: str) -> dict[str, Any]:
    return json.loads((run / stage / "manifest.json").read_text(encoding="utf-8"))


def damage(path: Path) -> bytes:
    """Cuts a file in the middle; returns what it was."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return whole


@pytest.mark.slow
def test_broken_pictures_are_left_out_the_same_way_every_time(
    tmp_path: Path, small: tuple[str, ...], finish: Callable[..., str]
) -> None:
    values = (*small, 'arms=["base","behavior"]')

    def run(verb: str, code: int = 0) -> str:
        words = [verb, str(ROOT / "configs" / "quickstart.yaml"), "--out", "run"]
        return finish(words, values, cwd=tmp_path, code=code)

    run("collect")
    folder = tmp_path / "run" / "fetched" / "0" / "instruction"
    rows = json.loads((folder / "instruction.json").read_text(encoding="utf-8"))
    pictures = list(dict.fromkeys(row["image"] for row in rows if "image" in row))
    whole = {name: damage(folder / name) for name in pictures[:12]}
    said = " ".join(run("train", code=2).split())
    assert "cannot be read (image_broken" in said
    assert "more than max_fault_rate 2%" in said
    assert not (tmp_path / "run" / "base" / "seed0" / "manifest.json").exists()

    broken = pictures[0]
    for name in pictures[1:12]:
        (folder / name).write_bytes(whole[name])
    without = [row for row in rows if row.get("image") == broken]
    said = " ".join(run("train").split())
    assert f"{len(without)} of " in said
    assert without[0]["id"] in said
    told = {"image_broken": len(without)}
    listed = json.loads((tmp_path / "run" / "base" / "instruction" / "unreadable.json").read_text())
    assert [(row, reason) for row, _, _, reason in listed] == [(row["id"], "image_broken") for row in without]
    for stage in ("base/seed0", "train/seed0/behavior"):
        assert manifest(tmp_path / "run", stage)["left_out"]["instruction"] == told
    base = manifest(tmp_path / "run", "base/seed0")
    assert base["rows"] == 4 * (len(rows) - len(without))  # epochs of the small world

    before = {stage: weights_hash(tmp_path / "run" / stage / "model") for stage in ("train/seed0/behavior",)}
    (folder / broken).write_bytes(whole[broken])  # it is mended, but this run has left it out
    (tmp_path / "run" / "train" / "seed0" / "behavior" / "manifest.json").unlink()
    for left in ("model", "loss.json"):
        path = tmp_path / "run" / "train" / "seed0" / "behavior" / left
        path.rename(tmp_path / left)
    again = run("train")
    assert "base/seed0 is finished" in again
    assert {stage: weights_hash(tmp_path / "run" / stage / "model") for stage in before} == before
    assert manifest(tmp_path / "run", "train/seed0/behavior")["left_out"]["instruction"] == told
