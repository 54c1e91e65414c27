"""The whole way by the command line: what it leaves, what it skips, and that being killed changes no
number."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from behavior_llava.core.manifest import fingerprint, only_one
from behavior_llava.core.media import FrameStore
from behavior_llava.data import blift
from behavior_llava.models import auto

ROOT = Path(__file__).parents[2]
ARMS = ("base", "content_only", "shuffled", "behavior")
MEDIA_TASKS = ("emoset", "ekman6", "lvu_scene", "lamem")
SETTINGS = ("zero_shot", "zero_shot_described", "zero_shot_verbalized")
HELDOUT = ("heldout_behavior_text", "heldout_like_rate", "heldout_replay", "heldout_score")

RESULT = """benchmark task setting metric arm seed label_fraction shots scoring primary modality value low
high n
    n_clusters coverage unparsed chance majority""".split()
DIFFERENCE = """benchmark task setting metric label_fraction shots scoring primary arm against seed value low
high p
    p_holm n n_boot""".split()
LABEL_WORD = re.compile(
    r"amus|awe|content|excit|anger|angr|disgust|fear|sad|joy|surpris|positiv|negativ|memorab", re.IGNORECASE
)
PATH = re.compile(r"\.(?:jpe?g|png|mp4)|fetched|media/|images/|youtube:|reddit:|page:")


@dataclass
class Finished:
    """A run that went through undisturbed."""

    folder: Path
    values: tuple[str, ...]
    said: str
    summary: bytes
    finish: Callable[..., str]

    @property
    def words(self) -> list[str]:
        return ["run", str(ROOT / "configs" / "quickstart.yaml"), "--out", "run"]

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def again(self, *values: str, verb: str = "run", code: int = 0) -> str:
        """The same command once more, with further --set values."""
        return self.finish([verb, *self.words[1:]], [*self.values, *values], cwd=self.folder, code=code)

    def read(self) -> bytes:
        return (self.run / "report" / "summary.json").read_bytes()


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, small: tuple[str, ...], finish: Callable[..., str]
) -> Finished:
    folder = tmp_path_factory.mktemp("quickstart")
    done = Finished(folder, small, "", b"", finish)
    done.said = done.again()
    done.summary = done.read()
    return done


@pytest.fixture(scope="module")
def summary(finished: Finished) -> dict[str, Any]:
    return json.loads(finished.summary)


def stages(said: str, ending: str) -> set[str]:
    """The stages of which the log says so."""
    return {line.split()[0] for line in said.splitlines() if re.search(ending, line)}


# ---- what a run leaves -------------------------------------------------------------------------------------


def test_it_says_what_it_does_and_where_the_report_is(finished: Finished) -> None:
    done = stages(finished.said, r" done in ")
    assert {"fetched/0", "collect", "build/posts", "base/seed0", "build/captions/seed0", "report"} <= done
    assert {f"evaluate/seed0/{arm}" for arm in ARMS} <= done
    assert {f"train/seed0/{arm}" for arm in ARMS[1:]} <= done
    assert "Traceback" not in finished.said
    assert "Warning" not in finished.said
    assert re.search(r"The report is at run/report/index\.html", finished.said)
    assert "summary.json" in finished.said


@pytest.mark.slow
def test_another_run_takes_over_every_stage_that_is_equal(finished: Finished, tmp_path: Path) -> None:
    """All but what tells of both arms alone: no place of a run's files is in what identifies them."""
    words = [*finished.words[:2], "--out", "other", "--like", str(finished.run)]
    said = finished.finish(words, [*finished.values, "arms=[content_only, behavior]"], cwd=tmp_path)
    assert stages(said, r" done in ") == {"evaluate/scores", "evaluate/contamination", "report"}
    for name in ("collect", "build/posts", "blift", "train/seed0/behavior", "evaluate/seed0/behavior"):
        link = tmp_path / "other" / name
        assert link.is_symlink()
        assert link.resolve() == finished.run / name
    told = {}
    for name in ("lineage", "cost"):
        with (tmp_path / "other" / "report" / "tables" / f"{name}.csv").open(newline="") as file:
            told[name] = {row["stage"]: row for row in csv.DictReader(file)}
    assert {"collect (taken over)", "base/seed0 (taken over)"} <= set(told["lineage"])
    assert told["lineage"]["build/posts (taken over)"]["made_from"] == "collect"
    took = json.loads((finished.run / "base" / "seed0" / "manifest.json").read_text(encoding="utf-8"))
    assert float(told["cost"]["base/seed0"]["seconds"]) == took["seconds"] > 0
    assert "evaluate/scores" in told["cost"]


def test_the_report_is_there_and_says_synthetic(finished: Finished) -> None:
    page = (finished.run / "report" / "index.html").read_text(encoding="utf-8")
    assert "synthetic" in page.lower()
    for arm in ARMS:
        assert arm in page
    curves = list(finished.run.glob("evaluate/seed0/*/finetuned/*/loss.json"))
    assert len(curves) == 2 * len(ARMS)
    assert [path.name for path in curves[0].parent.iterdir() if path.name in ("model", "trained.json")] == []
    cards = finished.run / "report" / "cards"
    assert {path.stem for path in cards.iterdir()} == {*ARMS[1:], "data"}
    assert (cards / "data.md").read_bytes() == (finished.run / "blift" / "README.md").read_bytes()


def test_summary_obeys_the_contract(summary: dict[str, Any]) -> None:
    assert summary["schema"] == 1
    assert summary["arms"] == list(ARMS)
    assert summary["synthetic"] is True
    assert {"schema", "arms", "results", "differences"} <= set(summary)
    clean = {"without_contamination", "without_contamination_differences"}
    assert set(summary) - {"synthetic", "groups", "group_differences", *clean} == {
        "schema",
        "arms",
        "results",
        "differences",
    }
    for row in summary["results"]:
        assert sorted(row) == sorted(RESULT)
    more = {"low90", "high90", "equivalence", "higher_is_better", "n_clusters", "cluster_sd"}
    more |= {"media_needed", "media_needed_equivalence"}
    for row in summary["differences"]:
        assert set(row) == {*DIFFERENCE, *more}


def test_every_arm_has_results_in_every_task_and_setting(summary: dict[str, Any]) -> None:
    found = {(row["task"], row["setting"], row["arm"], row["seed"]) for row in summary["results"]}
    for seed in (None, 0):
        for arm in ARMS:
            for task in MEDIA_TASKS:
                for setting in SETTINGS:
                    assert (task, setting, arm, seed) in found
            assert ("imdb", "zero_shot", arm, seed) in found
            assert ("imdb", "zero_shot_verbalized", arm, seed) not in found
            assert ("heldout_behavior_text", "zero_shot", arm, seed) in found
            assert ("emoset", "finetuned", arm, seed) in found
    assert {task for task, *_ in found} <= {*MEDIA_TASKS, "imdb", *HELDOUT}
    fractions = {row["label_fraction"] for row in summary["results"] if row["setting"] == "finetuned"}
    assert fractions == {0.1, 1.0}


def test_results_are_of_all_samples(summary: dict[str, Any]) -> None:
    for row in summary["results"]:
        if row["task"] not in HELDOUT:
            assert row["n"] == 16
            assert row["coverage"] == 1.0
            assert row["unparsed"] == 0.0
            assert row["value"] is None or row["low"] <= row["value"] <= row["high"]
    groups = {(row["task"], row["group"]) for row in summary["groups"]}
    assert groups == {
        (task, f"{kind}_combination") for task in ("emoset", "ekman6") for kind in ("seen", "unseen")
    }


def test_test_samples_are_looked_for_in_training_data(finished: Finished, summary: dict[str, Any]) -> None:
    folder = finished.run / "evaluate" / "contamination"
    told = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {name: task["samples"] for name, task in told["tasks"].items()} == dict.fromkeys(
        (*MEDIA_TASKS, "imdb"), 16
    )
    assert told["unreadable"] == {"benchmark": {}, "training": {}}
    assert told["media"] > 0
    assert told["texts"] == 16
    assert told["training_media"] > 100
    hits = pq.read_table(folder / "hits.parquet").to_pylist()
    by_task = {name: {hit["sample_id"] for hit in hits if hit["task"] == name} for name in told["tasks"]}
    assert {name: len(found) for name, found in by_task.items()} == {
        name: task["hits"] for name, task in told["tasks"].items()
    }
    again = {row["task"] for row in summary["without_contamination"]}
    assert again == {name for name, found in by_task.items() if found}


def test_every_comparison_is_there(summary: dict[str, Any]) -> None:
    pairs = {(row["arm"], row["against"]) for row in summary["differences"]}
    assert pairs == {
        ("behavior", "base"),
        ("behavior", "content_only"),
        ("behavior", "shuffled"),
        ("shuffled", "content_only"),
    }
    primary = {row["setting"] for row in summary["differences"] if row["primary"]}
    assert primary == {"zero_shot", "zero_shot_described", "zero_shot_verbalized", "finetuned"}


def test_arms_learn_from_the_same_posts_in_equally_many_steps(finished: Finished) -> None:
    ids, steps = set(), set()
    for arm in ARMS[1:]:
        rows = pq.read_table(finished.run / "build" / "arms" / "seed0" / arm / "examples.parquet")
        ids.add(tuple(rows["id"].to_pylist()))
        manifest = json.loads((finished.run / "train" / "seed0" / arm / "manifest.json").read_text())
        steps.add((manifest["rows"], manifest["steps"]))
    assert len(ids) == len(steps) == 1
    assert len(next(iter(ids))) > 60


ALONE = """
import json, sys
from transformers import pipeline
folder, picture = sys.argv[1:]
content = [{"type": "image", "image": picture}, {"type": "text", "text": "Describe it."}]
said = pipeline("image-text-to-text", model=folder, dtype="float32")(
    text=[{"role": "user", "content": content}],
    return_full_text=False,
    generate_kwargs={"do_sample": False, "max_new_tokens": 12},
)
assert "behavior_llava" not in sys.modules
print(json.dumps(said[0]["generated_text"]))
"""


def test_transformers_alone_serves_what_was_trained(finished: Finished, tmp_path: Path) -> None:
    """A process that has never heard of this project gets the answer that this project gets."""
    folder = finished.run / "train/seed0/behavior/model"
    rows = blift.load(finished.run / "build/arms/seed0/behavior/examples.parquet")
    row = next(row for row in rows if row.media is not None and row.media.kind == "image")
    assert row.media is not None
    command = [sys.executable, "-c", ALONE, str(folder), row.media.path]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    model = auto.load(str(folder), FrameStore(tmp_path), device="cpu")
    expected = model.generate([replace(row, prompt="Describe it.")], max_new_tokens=12)
    assert [json.loads(ran.stdout.splitlines()[-1]).strip()] == expected
    assert len(expected[0]) > 5


def test_no_label_word_and_no_path_in_what_arms_learn(finished: Finished) -> None:
    arms = ("content_only", "content_matched", "shuffled", "behavior", "only_comments", "without_comments")
    finished.again(f"arms=[{','.join(arms)}]", verb="build")
    for arm in arms:
        rows = pq.read_table(finished.run / "build" / "arms" / "seed0" / arm / "examples.parquet").to_pylist()
        assert len(rows) > 60
        assert all(row["media"] is not None for row in rows)
        for row in rows:
            assert not PATH.search(row["prompt"])
            assert not PATH.search(row["completion"])
            assert not LABEL_WORD.search(f"{row['prompt']} {row['completion']}"), row


def test_no_path_and_no_label_enters_a_question(finished: Finished) -> None:
    """EmoSet's path is its label: what is asked must be the task's words, and what the model itself wrote."""
    seen = 0
    for path in (finished.run / "evaluate").glob("seed0/*/predictions.parquet"):
        for row in pq.read_table(path, columns=["context", "media_path"]).to_pylist():
            seen += 1
            assert row["context"] is None or not PATH.search(row["context"])
    assert seen > 16 * 4 * 12


# ---- again -------------------------------------------------------------------------------------------------


def test_a_second_start_skips_everything(finished: Finished) -> None:
    before = {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in finished.run.rglob("*")
        if path.is_file()
    }
    said = finished.again()
    assert stages(said, r" is finished$") == stages(finished.said, r" done in ")
    assert not stages(said, r" (?:done in|continues|starts again)")
    assert finished.read() == finished.summary
    config, lock = finished.run / "config.yaml", finished.run / ".lock"
    for path, state in before.items():
        if path not in (config, lock):
            assert (path.stat().st_mtime_ns, path.stat().st_size) == state, path


@pytest.mark.slow
def test_a_changed_setting_reruns_what_depends_on_it_and_says_so(finished: Finished) -> None:
    said = finished.again("report.samples=2")
    assert "report starts again: config.report.samples: 1 -> 2" in said
    assert stages(said, r" done in ") == {"report"}
    assert finished.read() == finished.summary

    said = finished.again("training.train.epochs=0.5", verb="train")
    trained = {f"train/seed0/{arm}" for arm in ARMS[1:]}
    assert stages(said, r"starts again: config\.training\.train\.epochs: 1\.0 -> 0\.5$") == trained
    assert stages(said, r" done in ") == trained
    assert "base/seed0 is finished" in said

    said = finished.again()
    changed = trained | {f"evaluate/seed0/{arm}" for arm in ARMS[1:]}
    # the trained models are the old ones again, so their evaluations still hold
    assert trained | {"report"} <= stages(said, r" done in ") <= changed | {"report"}
    assert finished.read() == finished.summary


@pytest.mark.slow
def test_the_base_does_not_depend_on_the_other_arms(finished: Finished) -> None:
    shutil.rmtree(finished.run / "evaluate" / "seed0" / "base")
    finished.again("arms=[base]")
    alone = json.loads(finished.read())
    assert alone["arms"] == ["base"]
    assert alone["differences"] == []
    together = [row for row in json.loads(finished.summary)["results"] if row["arm"] == "base"]
    assert alone["results"] == together
    finished.again()
    assert finished.read() == finished.summary


@pytest.mark.slow
def test_a_second_seed_is_pooled_and_changes_nothing_of_the_first(finished: Finished) -> None:
    """Bases of two seeds describe the same posts in other words; their answers still meet."""
    values = ("seeds=[0,1]", "arms=[base,behavior]")
    finished.again(*values)
    both = json.loads(finished.read())
    assert {row["seed"] for row in both["results"]} == {None, 0, 1}
    assert {row["task"] for row in both["results"] if row["seed"] is None} >= {*MEDIA_TASKS, *HELDOUT}
    before = [row for row in json.loads(finished.summary)["results"] if row["seed"] == 0]
    kept = [row for row in both["results"] if row["seed"] == 0]
    assert kept == [row for row in before if row["arm"] in ("base", "behavior")]
    assert {row["seed"] for row in both["differences"]} == {None, 0, 1}
    finished.again()
    assert finished.read() == finished.summary


def test_two_runs_in_one_folder_are_refused(finished: Finished) -> None:
    with only_one(finished.run):
        said = finished.again(code=2)
    assert said == "error: run: another run is at work in this folder; wait for it or choose another --out.\n"


# ---- killed ------------------------------------------------------------------------------------------------


def stop_at(
    running: subprocess.Popen[str], folder: Path, pattern: str, signal_number: int
) -> tuple[int, str]:
    """Waits until a file is there, then signals the whole process group; the exit code and what was said."""
    deadline = time.monotonic() + 300
    while not any(folder.glob(pattern)):
        assert running.poll() is None, f"ended before {pattern}: {running.communicate()[0]}"
        assert time.monotonic() < deadline, pattern
        time.sleep(0.01)
    os.killpg(running.pid, signal_number)
    said, _ = running.communicate(timeout=60)
    return running.returncode, said


@pytest.mark.slow
def test_killed_runs_end_with_the_bytes_of_an_undisturbed_one(
    finished: Finished, start: Callable[..., subprocess.Popen[str]]
) -> None:
    shuffled = fingerprint(auto.weights_hash(finished.run / "train" / "seed0" / "shuffled" / "model"))
    for name in ("train", "evaluate", "journal", "report"):
        shutil.rmtree(finished.run / name)

    def begin() -> subprocess.Popen[str]:
        return start(finished.words, finished.values, cwd=finished.folder)

    checkpoint = "train/seed0/content_only/checkpoints/checkpoint-*/complete"
    code, said = stop_at(begin(), finished.run, checkpoint, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert "train/seed0/content_only ..." in said
    assert not (finished.run / "train" / "seed0" / "content_only" / "manifest.json").exists()

    code, said = stop_at(begin(), finished.run, f"journal/{shuffled}/*.jsonl", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert "train/seed0/content_only continues" in said
    assert not (finished.run / "evaluate" / "seed0" / "shuffled" / "manifest.json").exists()

    finetuning = "evaluate/seed0/behavior/finetuned/*/checkpoints"
    code, said = stop_at(begin(), finished.run, finetuning, signal.SIGINT)
    assert code in (1, 130, -signal.SIGINT)
    assert "Traceback" not in said
    assert "evaluate/seed0/shuffled continues" in said
    assert not (finished.run / "evaluate" / "seed0" / "behavior" / "manifest.json").exists()

    said = finished.again()
    assert "evaluate/seed0/behavior continues" in said
    assert finished.read() == finished.summary


@pytest.mark.slow
def test_a_run_killed_at_the_start_ends_with_the_same_bytes(
    finished: Finished, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """In another folder, too: no path of the machine is in the numbers."""
    for pattern, number in (
        ("run/fetched/0/**/*.mp4", signal.SIGKILL),
        ("run/base/seed0/checkpoints/checkpoint-*/complete", signal.SIGKILL),
        ("run/build/captions/seed0/plan.json", signal.SIGINT),
    ):
        stop_at(start(finished.words, finished.values, cwd=tmp_path), tmp_path, pattern, number)
    said = finished.finish(finished.words, finished.values, cwd=tmp_path)
    assert "build/captions/seed0 continues" in said
    assert (tmp_path / "run" / "report" / "summary.json").read_bytes() == finished.summary


@pytest.mark.slow
def test_verb_by_verb_is_the_same_as_run(finished: Finished, tmp_path: Path) -> None:
    for verb, last in (
        ("collect", "collect"),
        ("build", "build/arms/seed0/behavior"),
        ("train", "train/seed0/behavior"),
        ("evaluate", "evaluate/seed0/behavior"),
        ("report", "report"),
    ):
        words = [verb, *finished.words[1:]]
        said = finished.finish(words, finished.values, cwd=tmp_path)
        assert f"{last} done in" in said
    assert (tmp_path / "run" / "report" / "summary.json").read_bytes() == finished.summary
