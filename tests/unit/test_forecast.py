"""The dry run tells what will happen and writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from behavior_llava import forecast
from behavior_llava.core.config import load
from behavior_llava.core.errors import UserError
from behavior_llava.core.progress import console
from behavior_llava.pipeline import RunConfig

ROOT = Path(__file__).parents[2]


def test_quickstart_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    config = load(RunConfig, ROOT / "configs" / "quickstart.yaml")
    with console.capture() as captured:
        forecast.show(config, tmp_path / "run", until="report", limit=None)
    told = " ".join(captured.get().split())
    assert "9,000" in told  # 8,000 images, 800 videos, 200 rows of the page
    for word in (
        "emoset",
        "ekman6",
        "lvu_scene",
        "lamem",
        "imdb",
        "finetuned 10%",
        "memory: about",
        "disk: about",
    ):
        assert word in told
    assert not (tmp_path / "run").exists()


def test_only_the_stages_of_the_verb_are_told(tmp_path: Path) -> None:
    config = load(RunConfig, ROOT / "configs" / "quickstart.yaml")
    with console.capture() as captured:
        forecast.show(config, tmp_path, until="collect", limit=None)
    assert "emoset" not in captured.get()
    assert "train:" not in captured.get()


def test_a_missing_file_is_found_before_anything_runs(tmp_path: Path) -> None:
    columns = "{id: a, media_path: b}"
    source = f"[{{kind: table, settings: {{path: {tmp_path / 'nothing.csv'}, columns: {columns}}}}}]"
    config = load(RunConfig, ROOT / "configs" / "quickstart.yaml", [f"collect.sources={source}"])
    with pytest.raises(UserError, match=r"nothing\.csv"):
        forecast.show(config, tmp_path, until="collect", limit=None)
