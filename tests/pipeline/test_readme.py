"""What the README shows is run: its Python snippet, and its YAML as a config."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from behavior_llava.ablation import AblationConfig
from behavior_llava.core.config import check
from behavior_llava.pipeline import RunConfig

ROOT = Path(__file__).parents[2]


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found, f"the README shows no {language}"
    return found


@pytest.mark.slow
def test_snippet_runs(tmp_path: Path) -> None:
    (snippet,) = blocks("python")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    result = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert re.search(r"^\d+ rows of BLIFT from \d+ posts$", result.stdout, re.MULTILINE)


def test_config_of_ones_own_is_accepted(tmp_path: Path) -> None:
    own, judged, said, trained, grid = map(yaml.safe_load, blocks("yaml"))
    assert list(check(AblationConfig, grid, where="README.md").variants()) == ["1:1", "1:4"]
    config = check(RunConfig, own, where="README.md")
    assert config.model == "llava-hf/llava-1.5-7b-hf"
    evaluated = {"evaluate": own["evaluate"] | judged["evaluate"]}
    config = check(RunConfig, {**own, **said, **trained, **evaluated}, where="README.md")
    assert config.evaluate.judge is not None
    assert config.build.kinds == ("likes", "comments", "replay", "retention")
    assert config.training.train.lora is not None
