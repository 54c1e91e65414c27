"""Every task from its official layout to a score: a tiny model, and benchmarks that the sandbox writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from behavior_llava import comparing, evaluating
from behavior_llava.core import discover
from behavior_llava.core.config import build
from behavior_llava.core.errors import UserError
from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.evaluation import benchmarks
from behavior_llava.evaluation.evaluator import EvaluateConfig

SIZES = {"train": 8, "val": 4, "test": 4}


def draw(folder: Path, names: tuple[str, ...] | None = None) -> Path:
    """Benchmarks in their official layouts, with their media."""
    canvas = Canvas(seed=5)
    layouts = discover.find("data.world.layouts", "LAYOUT")
    for name in names or tuple(layouts):
        # a fifth of VideoMem is tested, by a hash: of so few it may be none
        layouts[name](canvas, folder, dict.fromkeys(SIZES, 16) if name == "videomem" else SIZES)
    for job in canvas.images:
        writers.save_image(*job)
    for job in canvas.videos:
        writers.save_video(*job)
    for job in canvas.copies:
        writers.copy(*job)
    return folder


def settings(data: Path, tasks: list[str], **changes: object) -> EvaluateConfig:
    known = {
        "tasks": tasks,
        "benchmarks": str(data),
        "settings": ["zero_shot"],
        "context_tokens": 8,
        "answer_tokens": 8,
        "calibration_samples": 2,
    }
    return build(EvaluateConfig, known | changes)


@pytest.mark.slow
def test_every_task_runs_end_to_end(tiny_folder: Path, tmp_path: Path) -> None:
    data = draw(tmp_path / "benchmarks")
    known = benchmarks.all_tasks()
    assert sum(task.paper for task in known.values()) == 46
    judged = {"model": str(tiny_folder), "tokens": 4}
    place = evaluating.evaluate(
        str(tiny_folder), settings(data, list(known), judge=judged), tmp_path / "out", limit=3
    )
    scores = pq.read_table(place / "scores.parquet").to_pylist()
    primary = {row["task"]: row for row in scores if row["primary"]}
    assert set(primary) == set(known), "a task without a primary score"
    for name, row in primary.items():
        assert 1 <= row["n"] <= 3, name
        assert row["coverage"] == 1.0, name
        assert row["metric"] == known[name].metric
    # a judge that is no judge says nothing that can be read: all its verdicts are unparsed and count as 0
    for name in ("msvd_qa", "dense_caption_detail"):
        assert (primary[name]["unparsed"], primary[name]["value"]) == (1.0, 0.0)
        assert "prompts 1" in primary[name]["judge"]
    exact = {row["task"] for row in scores if row["metric"] == "exact_match" and row["scoring"] == "generate"}
    assert {"msvd_qa", "msrvtt_qa", "activitynet_qa"} <= exact, "also without a judge"
    (file,) = (tmp_path / "out" / "evaluate" / "seed0").glob("*/predictions.parquet")
    predictions = pq.read_table(file)
    told = [json.loads(one) for one in predictions["judged"].to_pylist() if one is not None]
    assert told
    assert all(set(one) == {"judge", "prompt", "reply", "reason"} for one in told)
    table = (place / "scores.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in table for name in known)


@pytest.mark.slow
def test_a_model_alone_is_evaluated_continued_and_compared(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw(tmp_path / "benchmarks", ("emoset", "lamem", "imdb"))
    folders = []
    for name in ("one", "other"):
        model = tmp_path / name / "model"
        shutil.copytree(tiny_folder, model)
        folders.append(tmp_path / f"of_{name}")
        config = settings(data, ["emoset", "lamem", "imdb"], settings=["zero_shot", "few_shot"], shots=[1])
        evaluating.evaluate(str(model), config, folders[-1])
    first = pq.read_table(folders[0] / "evaluate" / "scores" / "scores.parquet").to_pylist()
    assert {row["arm"] for row in first} == {"one"}, "a folder called model is named by the one it lies in"
    assert {(row["setting"], row["shots"]) for row in first} == {("zero_shot", 0), ("few_shot", 1)}
    assert all(row["published"] is None or row["primary"] for row in first)

    page = comparing.compare(folders, tmp_path / "comparison")
    summary = json.loads(page.with_name("summary.json").read_text(encoding="utf-8"))
    assert summary["arms"] == ["of_one/one", "of_other/other"]
    assert {(row["arm"], row["against"]) for row in summary["differences"]} == {
        ("of_other/other", "of_one/one")
    }
    assert {row["value"] for row in summary["differences"] if row["task"] == "emoset"} == {0.0}
    told = page.read_text(encoding="utf-8")
    assert "No run has an arm called behavior, so nothing is claimed of any." in told
    assert "after Holm" not in told
    assert {row["p_holm"] for row in summary["differences"]} == {None}

    # what could not be asked is named
    gone = sorted((data / "lamem" / "images").iterdir())[-1]
    gone.unlink()
    config = settings(data, ["lamem"])
    place = evaluating.evaluate(str(tmp_path / "one" / "model"), config, tmp_path / "partly")
    missing = json.loads((place / "missing.json").read_text(encoding="utf-8"))
    assert missing == {"lamem": {"media_missing": [gone.name]}}
    assert "lamem: 1 of 4 samples were not asked (1 media_missing)" in (place / "scores.md").read_text(
        encoding="utf-8"
    )
    (row, *_) = pq.read_table(place / "scores.parquet").to_pylist()
    assert (row["n"], row["coverage"]) == (3, 0.75)

    # nothing is asked again, nor loaded, where all is there
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr("behavior_llava.models.auto.load", refuse)
    evaluating.evaluate(str(tmp_path / "one" / "model"), config, tmp_path / "partly")


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished evaluation"):
        comparing.compare([tmp_path], tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["evaluate"], "give a config, or a model with --model"),
        (["evaluate", "--model", "m", "--data", "."], "--model wants --tasks and --data"),
        (["evaluate", "--model", "m", "--tasks", "emosett", "--data", "."], "did you mean 'emoset'"),
        (
            ["evaluate", "configs/quickstart.yaml", "--tasks", "emoset"],
            "--tasks and --data belong to --model",
        ),
        (["tasks", "check", "emosett", "."], "did you mean 'emoset'"),
        (["tasks", "check", "emoset", "."], "info.json"),
        (["report", "src", "configs/quickstart.yaml"], "is no folder of a run"),
    ],
)
def test_wrong_words_are_told(
    finish: Callable[..., str], words: list[str], told: str, tmp_path: Path
) -> None:
    assert told in finish(words, cwd=Path(__file__).parents[2], code=2)


def test_a_benchmarks_folder_is_checked_in_json_and_in_words(
    finish: Callable[..., str], tmp_path: Path
) -> None:
    data = draw(tmp_path, ("lamem",))
    (
        data / "lamem" / "images" / sorted(path.name for path in (data / "lamem" / "images").iterdir())[0]
    ).unlink()
    found = json.loads(finish(["tasks", "check", "lamem", str(data / "lamem"), "--json"], cwd=tmp_path))
    splits = found["splits"]
    assert {name: part["rows"] for name, part in splits.items() if name.endswith("_1")} == {
        "train_1": 8,
        "val_1": 4,
        "test_1": 4,
    }
    assert sum(part["media_missing"] for name, part in splits.items() if name.endswith("_1")) == 1
    words = finish(["tasks", "check", "lamem", str(data / "lamem")], cwd=tmp_path)
    assert "missing: 1 of" in words
    assert "memorability.csail.mit.edu" in words
    assert "licence: academic research" in words
