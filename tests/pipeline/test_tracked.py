"""A run that measures while it trains: all of it is told, and the weights are those of one that does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

ROOT = Path(__file__).parents[2]
ARMS = ("content_only", "behavior")
TASKS = ("emoset", "ekman6", "imdb")
QUESTIONS = {f"zero-shot accuracy of {name}" for name in TASKS}


def tracked(stage: Path) -> list[dict[str, Any]]:
    return json.loads((stage / "tracked.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_measuring_changes_nothing_and_all_of_it_is_told(
    tmp_path: Path, small: tuple[str, ...], finish: Callable[..., str]
) -> None:
    values = [*small, f"arms=[{','.join(ARMS)}]", f"evaluate.tasks=[{','.join(TASKS)}]"]
    values += ["evaluate.finetune.tasks=[]", "training.probe_items=6", "evaluate.settings=[zero_shot]"]
    values += ["evaluate.primary=zero_shot"]
    words = ["run", str(ROOT / "configs" / "quickstart.yaml"), "--out"]
    finish(["train", *words[1:], "plain"], values, cwd=tmp_path)
    watching = [*values, "base.train.track_every=20", "training.train.track_every=4"]
    finish([*words, "watched"], watching, cwd=tmp_path)

    stages = ["base/seed0", *(f"train/seed0/{arm}" for arm in ARMS)]
    for name in stages:
        plain, watched = tmp_path / "plain" / name, tmp_path / "watched" / name
        for file in ("model/model.safetensors", "loss.json"):
            assert (plain / file).read_bytes() == (watched / file).read_bytes(), f"{name}: {file}"
        assert not (plain / "tracked.json").exists()
        found = tracked(watched)
        last = json.loads((watched / "manifest.json").read_text(encoding="utf-8"))["steps"]
        every = 20 if name == "base/seed0" else 4
        assert [entry["step"] for entry in found] == [*range(every, last, every), last]
        shown = {
            value.tag
            for event in EventFileLoader(str(next((watched / "logs").iterdir()))).Load()
            for value in event.summary.value
        }
        for entry in found:
            assert QUESTIONS <= set(entry["values"])
            assert all(0 <= entry["values"][task] <= 1 for task in QUESTIONS)
            if name == "base/seed0":
                assert set(entry["values"]) == QUESTIONS
                continue
            more = set(entry["values"]) - QUESTIONS - {"perplexity of comments"}
            assert all(value.startswith("R² of ") or " read, of " in value for value in more)
            assert entry["values"]["perplexity of comments"] > 1
            assert any(value.startswith("R² of ") for value in more)
            assert sum(int(value.split()[-1]) for value in more if " read, of " in value) == 6
        defined = {name for entry in found for name, value in entry["values"].items() if value is not None}
        assert {f"tracked/{name}" for name in defined} <= shown
    page = (tmp_path / "watched" / "report" / "index.html").read_text(encoding="utf-8")
    assert "Measured while training" in page
    assert "perplexity of comments" in page
