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
    assert "6,800" in told  # 5,000 images, 1,600 videos, 200 rows of the page
    assert "rows of the base stage: 14,400" in told  # 2 x (4,500 images + 1,200 videos) + 3,000 texts
    assert "at most 21,760" in told  # 0.8 x 6,800 posts, 2 epochs, as many instruction rows
    assert "memory: about 3 GiB" in told
    assert "of training and evaluation on this machine" in told
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


def test_what_is_not_known_is_called_unknown(tmp_path: Path) -> None:
    """One's own table and a model on a hub: neither posts nor parameters are known before they are read."""
    (tmp_path / "posts.csv").write_text("a,b\n1,x.jpg\n")
    (tmp_path / "instruction.json").write_text(
        '[{"id": 1, "conversations": [{"from": "human", "value": "say"}, {"from": "gpt", "value": "no"}]}]'
    )
    columns = "{id: a, media_path: b}"
    source = f"[{{kind: table, settings: {{path: {tmp_path / 'posts.csv'}, columns: {columns}}}}}]"
    changes = [
        f"collect.sources={source}",
        f"base.instruction={tmp_path / 'instruction.json'}",
        f"evaluate.benchmarks={tmp_path}",
        "model=somebody/some-model",
    ]
    config = load(RunConfig, ROOT / "configs" / "quickstart.yaml", changes)
    with console.capture() as captured:
        forecast.show(config, tmp_path / "run", until="report", limit=None)
    told = " ".join(captured.get().split())
    assert "train: 0 base model(s) and 3 arm stage(s)" in told
    assert "rows of an arm stage: unknown until collect has run" in told
    assert "time, memory and disk: unknown" in told
    assert "GFLOP/s" not in told


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
