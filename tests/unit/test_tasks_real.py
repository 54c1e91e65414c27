"""The task files against real annotation files, where the folder with them is beside the checkout."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from behavior_llava.evaluation import benchmarks, metrics
from behavior_llava.evaluation.tasks import emoset

DATA = Path(__file__).parents[2].parent / "shared" / "benchmarks" / "data"

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(),
    reason="no folder shared/benchmarks/data beside the checkout: real annotations not read",
)

TASKS = benchmarks.all_tasks()

# Source: the published lists of VideoEmotion-8 (VAANet, tools/annotations/ve8/classInd.txt).
VIDEO_EMOTIONS = ("Anger", "Anticipation", "Disgust", "Fear", "Joy", "Sadness", "Surprise", "Trust")


def test_lvu_scene_has_the_official_counts() -> None:
    counts = benchmarks.check(TASKS["lvu_scene"], DATA / "lvu")
    assert counts["absent"] == []
    assert {split: part["rows"] for split, part in counts["splits"].items()} == {
        "train": 557,
        "val": 120,
        "test": 86,
    }
    assert counts["splits"]["test"]["labels"] == {
        "office": 12,
        "airport": 10,
        "school": 23,
        "hotel": 15,
        "prison": 13,
        "restaurant": 13,
    }
    assert counts["splits"]["test"]["media_missing"] == 86
    assert counts["splits"]["test"]["media_found"] == 0


def test_lvu_scene_majority_is_the_documented_one() -> None:
    task = TASKS["lvu_scene"]
    assert benchmarks.majority(task, task.load(DATA / "lvu", "test")) == pytest.approx(0.267, abs=5e-4)


def test_lvu_scene_keeps_ids_as_listed() -> None:
    first = TASKS["lvu_scene"].load(DATA / "lvu", "test")[0]
    assert (first.id, first.label, first.fields["imdb_id"]) == ("7OARf8dNLBc", "office", "tt0144084")


def test_lamem_first_rows_of_split_1(tmp_path: Path) -> None:
    task = TASKS["lamem"]
    (tmp_path / "splits").mkdir()
    for part in ("train", "val", "test"):
        # The shared files hold the first 200 lines and say so in their name.
        shutil.copy(DATA / "lamem/splits" / f"{part}_1.first200.txt", tmp_path / "splits" / f"{part}_1.txt")
    counts = benchmarks.check(task, tmp_path)
    assert {split: part["rows"] for split, part in counts["splits"].items()} == {
        "train_1": 200,
        "val_1": 200,
        "test_1": 200,
    }
    assert len(counts["absent"]) == 12
    first = task.load(tmp_path, "train_1")[0]
    assert (first.id, first.label, task.answer(first)) == ("00051110.jpg", 0.675, "67")


def test_lamem_two_digits_cost_next_to_nothing(tmp_path: Path) -> None:
    task = TASKS["lamem"]
    (tmp_path / "splits").mkdir()
    shutil.copy(DATA / "lamem/splits/test_1.first200.txt", tmp_path / "splits/test_1.txt")
    samples = task.load(tmp_path, "test_1")
    read = [task.parse(task.answer(sample)) for sample in samples]
    value = metrics.named("spearman").score(read, [sample.label for sample in samples])
    assert value == pytest.approx(1.0, abs=1e-3)
    assert benchmarks.majority(task, samples) is None


def test_imdb_counts_and_text() -> None:
    task = TASKS["imdb"]
    counts = benchmarks.check(task, DATA / "imdb")["splits"]
    assert counts["test"]["rows"] == 200
    assert counts["test"]["labels"] == {"negative": 100, "positive": 100}
    assert counts["train"]["rows"] == 50
    assert counts["train"]["labels"] == {"negative": 25, "positive": 25}
    assert counts["test"]["media_found"] is None
    samples = task.load(DATA / "imdb", "test")
    assert [sample.id for sample in samples[:4]] == ["neg/0", "pos/0", "neg/1", "pos/1"]
    prompts = [benchmarks.to_prompt(task, sample) for sample in samples]
    assert sum("<br />" in prompt for prompt in prompts) > 50
    assert all(prompt.endswith(f"\n\n{task.question}") for prompt in prompts)
    assert benchmarks.majority(task, samples) == 0.5


def test_emoset_ids_of_the_official_info(tmp_path: Path) -> None:
    shutil.copy(DATA / "emoset/info.json", tmp_path / "info.json")
    ids = json.loads((tmp_path / "info.json").read_text(encoding="utf-8"))["emotion"]["label2idx"]
    assert sorted(ids, key=ids.__getitem__) == list(emoset.LABELS)
    rows = [[label, f"image/{label}/{label}_1.jpg", f"annotation/{label}/{label}_1.json"] for label in ids]
    (tmp_path / "test.json").write_text(json.dumps(rows), encoding="utf-8")
    assert [sample.label for sample in TASKS["emoset"].load(tmp_path, "test")] == list(ids)


def test_video_emotion_lists_through_the_reader_of_ekman6() -> None:
    folder = DATA / "videoemotion8"
    train = benchmarks.class_list(folder, "train", VIDEO_EMOTIONS, "")
    test = benchmarks.class_list(folder, "test", VIDEO_EMOTIONS, "")
    assert (len(train), len(test)) == (732, 367)
    assert Counter(sample.label for sample in train) == {
        "Anger": 74,
        "Anticipation": 64,
        "Disgust": 76,
        "Fear": 113,
        "Joy": 114,
        "Sadness": 64,
        "Surprise": 166,
        "Trust": 61,
    }
    # One name stands under two classes; an id without the class would lose a row.
    names = [sample.id.split("/")[1] for sample in train + test]
    assert len(set(names)) == 1098
    assert len({sample.id for sample in train + test}) == 1099
