"""Several runs in one report: each with its own claim, and with all that its folder tells, and no more."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from behavior_llava import comparing
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import Stage
from behavior_llava.evaluation.summary import PREDICTIONS, Config
from behavior_llava.reporting import samples

QUICK = Config(draws=200, flips=2000)
ARMS = ("base", "content_only", "shuffled", "behavior")
FACTS = {"benchmark": "b", "metric": "accuracy", "modality": "image", "chance": 0.25, "majority": 0.25}
FACTS |= {"low_level": False, "published": None, "listed": 40}
NUM = 40


def answers(arm: str, **fields: Any) -> list[dict[str, Any]]:
    """One arm's: behavior is nearly always right, the others mostly wrong."""
    return [
        {"benchmark": "b", "task": "emotion", "metric": "accuracy", "setting": "zero_shot", "arm": arm}
        | {"seed": 0, "shots": 0, "scoring": "sum", "primary": True, "sample_id": f"s{item}"}
        | {"cluster": f"m{item}", "label": str(item % 4), "answer": "x"}
        | {"prediction": str(item % 4 if item % 10 < (9 if arm == "behavior" else 3) else 9)}
        | fields
        for item in range(NUM)
    ]


def stage(run: Path, name: str, inputs: Mapping[str, str], **facts: Any) -> str:
    """A finished stage, which took so many seconds as its name has letters; its fingerprint."""
    one = Stage(run / name, name, {}, inputs)
    with one.work() as told:
        told |= facts
    path = run / name / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": float(len(name))}))
    return one.fingerprint


def evaluated(run: Path, rows: Sequence[dict[str, Any]], tasks: Mapping[str, Any] | None = None) -> Path:
    """A run that was evaluated; returns its folder."""
    for arm in dict.fromkeys(row["arm"] for row in rows):
        table = pa.Table.from_pylist([row for row in rows if row["arm"] == arm], schema=PREDICTIONS)
        stage(run, f"evaluate/seed0/{arm}", {})
        pq.write_table(table, run / "evaluate" / "seed0" / arm / "predictions.parquet")
    (run / "evaluate" / "scores").mkdir()
    (run / "evaluate" / "scores" / "tasks.json").write_text(json.dumps(tasks or {"emotion": FACTS}))
    return run


def all_arms(**fields: Any) -> list[dict[str, Any]]:
    return [row for arm in ARMS for row in answers(arm, **fields)]


def section(page: Path, name: str) -> str:
    """A section's words."""
    text = page.read_text(encoding="utf-8")
    part = text[text.index(f'<section id="{name}"') :]
    return " ".join(re.sub(r"<[^>]+>", " ", part[: part.index("</section>")]).split())


def head(page: Path) -> str:
    """What the page opens with."""
    text = page.read_text(encoding="utf-8")
    return " ".join(re.sub(r"<[^>]+>", " ", text[text.index("<header>") : text.index("<nav")]).split())


# ---- claims ------------------------------------------------------------------------------------------------


def test_every_run_has_a_claim_a_family_and_a_forest_of_its_own(tmp_path: Path) -> None:
    weak = [row | {"arm": arm} for arm in ARMS for row in answers("base")]
    runs = [evaluated(tmp_path / "strong", all_arms()), evaluated(tmp_path / "weak", weak)]
    page = comparing.compare(runs, tmp_path / "out", QUICK)
    assert "strong, zero_shot: behavior beats content_only and shuffled on 1 of 1 task after Holm" in head(
        page
    )
    assert "weak, zero_shot: behavior beats content_only and shuffled on 0 of 1 task after Holm" in head(page)
    found = json.loads(page.with_name("summary.json").read_text(encoding="utf-8"))
    family = {
        (row["arm"], row["against"])
        for row in found["differences"]
        if row["p_holm"] is not None and row["seed"] is None
    }
    assert family == {
        (f"{run}/behavior", f"{run}/{control}")
        for run in ("strong", "weak")
        for control in ("content_only", "shuffled")
    }
    pooled = [row for row in found["differences"] if (row["arm"], row["seed"]) == ("strong/behavior", None)]
    tested = [row for row in pooled if row["p_holm"] is not None]
    assert [row["p_holm"] for row in tested] == pytest.approx([2 * tested[0]["p"]] * 2, abs=1e-5)
    assert ("weak/behavior", "strong/behavior") in {
        (row["arm"], row["against"]) for row in found["differences"]
    }
    charts = {path.stem for path in (tmp_path / "out" / "charts").glob("*.svg")}
    assert {"forest-zero-shot-0-strong", "forest-zero-shot-1-weak"} <= charts


def test_what_does_not_outlast_holm_is_not_called_better(tmp_path: Path) -> None:
    """Six media won and none lost is a p of 2 / 2^6, which is not enough for one of two controls."""
    rows = [
        row | {"prediction": row["label"] if arm == "behavior" or item >= 6 else "9"}
        for arm in ARMS
        for item, row in enumerate(answers(arm))
    ]
    runs = [evaluated(tmp_path / name, rows) for name in ("a", "b")]
    page = comparing.compare(runs, tmp_path / "out", QUICK)
    found = json.loads(page.with_name("summary.json").read_text(encoding="utf-8"))
    (row, *_) = [row for row in found["differences"] if row["p_holm"] is not None]
    assert row["p"] < 0.05 < row["p_holm"]
    assert row["low"] > 0
    assert "better before Holm only" in section(page, "differences")
    assert "on 0 of 1 task after Holm" in head(page)


def test_models_that_were_evaluated_alone_claim_nothing(tmp_path: Path) -> None:
    runs = [evaluated(tmp_path / name, answers(name)) for name in ("a", "b")]
    page = comparing.compare(runs, tmp_path / "out", QUICK)
    assert "No run has an arm called behavior, so nothing is claimed of any." in head(page)
    assert "after Holm" not in head(page)


def test_one_folder_is_shown_as_a_run(tmp_path: Path) -> None:
    rows = all_arms() + all_arms(setting="story")
    run = evaluated(tmp_path / "kept", rows)
    config = "arms: [shuffled, content_only, base, behavior]\nevaluate: {primary: zero_shot}\n"
    (run / "config.yaml").write_text(config)
    page = comparing.compare([run], tmp_path / "out", QUICK)
    found = json.loads(page.with_name("summary.json").read_text(encoding="utf-8"))
    assert found["arms"] == ["shuffled", "content_only", "base", "behavior"]
    assert head(page).startswith("kept zero_shot: behavior beats content_only and shuffled on 1 of 1 task")
    assert "They differ only in what they were trained on" in section(page, "compared")
    assert "The primary setting, written in the config before arms were compared, is zero_shot." in section(
        page, "compared"
    )
    assert "kept/" not in page.read_text(encoding="utf-8")


# ---- what the folders tell ---------------------------------------------------------------------------------


def test_all_that_runs_tell_is_shown_and_what_they_share_once(tmp_path: Path) -> None:
    heldout = {"benchmark": "heldout_posts", "task": "heldout_likes", "metric": "spearman", "primary": False}
    rows = all_arms() + all_arms(**heldout)
    tasks = {"emotion": FACTS, "heldout_likes": {**FACTS, "benchmark": "heldout_posts", "metric": "spearman"}}
    runs = [evaluated(tmp_path / name, rows, tasks) for name in ("a", "b")]
    faults = {"image_broken": 3, "media_missing": 1}
    stage(runs[1], "collect", {"source 0": "x"}, faults=faults, posts=7, comments=9, records=16)
    (runs[0] / "collect").symlink_to(Path("..") / "b" / "collect")
    stage(tmp_path / "elsewhere", "base/seed0", {}, rows=5)
    (runs[0] / "base").mkdir()
    (runs[0] / "base" / "seed0").symlink_to(tmp_path / "elsewhere" / "base" / "seed0")
    facts = {"media": 40, "texts": 0, "training_media": 9, "training_rows": 12, "short_texts": 0}
    facts |= {"plain": {"benchmark": 0}, "unreadable": {}, "tasks": {"emotion": {"samples": NUM, "hits": 2}}}
    stage(runs[0], "evaluate/contamination", {}, **facts)
    hits = pa.table({"task": ["emotion"] * 3, "sample_id": ["s1", "s1", "s2"]})
    pq.write_table(hits, runs[0] / "evaluate" / "contamination" / "hits.parquet")

    page = comparing.compare(runs, tmp_path / "out", QUICK)
    assert "image_broken 3 media_missing 1" in section(page, "survivors"), "once: they read it together"
    assert "rank correlation of likes a/behavior" in section(page, "behavior")
    said = section(page, "contamination")
    assert "a: 2 test samples are hits among 40 media" in said
    assert "b: Nobody looked whether test samples stand in training data, as far as is known here." in said
    assert f"2 of {NUM} b/behavior" in said, "left out for both"
    line = section(page, "lineage")
    assert "b: collect source 0 (x) 16 records read" in line
    assert "a: collect" not in line
    assert "a: base/seed0 (taken over)" in line
    assert line.count("16 records read") == 3, "both runs' ways, and the stage once"
    with (tmp_path / "out" / "tables" / "cost.csv").open(newline="") as file:
        costs = {row["stage"]: float(row["seconds"]) for row in csv.DictReader(file)}
    assert costs["b: collect"] == len("collect")
    assert costs["a: base/seed0"] == len("base/seed0")
    assert "a: collect" not in costs
    assert {f"{run}: evaluate/seed0/{arm}" for run in ("a", "b") for arm in ARMS} <= set(costs)
    notes = section(page, "compared")
    assert "a: not known here is what the filters left." in notes


def test_what_nobody_kept_is_called_unknown(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "kept", all_arms())
    shared = {"collect": 3.0, "base/seed0": 5.0}
    for arm in ARMS:
        name = f"evaluate/seed0/{arm}"
        told = {"stage": name, "key": "k", "seconds": 2.0, "costs": shared | {name: 2.0}}
        (run / name / "manifest.json").write_text(json.dumps(told))
        (run / name / "plan.json").unlink()
    page = comparing.compare([run], tmp_path / "out", QUICK)
    assert "What could not be read is not known here." in section(page, "survivors")
    assert "No faults were recorded" not in section(page, "survivors")
    assert "not known here is what could not be read and what the filters left." in section(page, "compared")
    assert "Nobody looked" in section(page, "contamination")
    assert "Where the data come from is not known here." in section(page, "lineage")
    assert "There are no scores on held-out posts here." in section(page, "behavior")
    with (tmp_path / "out" / "tables" / "cost.csv").open(newline="") as file:
        costs = {row["stage"]: float(row["seconds"]) for row in csv.DictReader(file)}
    assert costs == shared | {f"evaluate/seed0/{arm}": 2.0 for arm in ARMS}
    (run / "evaluate" / "seed0" / "contamination.json").write_text('{"emotion": 2, "topic": 0}')
    page = comparing.compare([run], tmp_path / "out", QUICK)
    assert "2 test samples are hits: emotion 2; more was not kept." in section(page, "contamination")


def test_frames_of_films_are_shown_where_a_run_keeps_them(tmp_path: Path) -> None:
    digest = "ab" * 32
    clusters = [digest, "cd" * 32, "../../etc", "own"]
    rows = [
        {**row, "cluster": clusters[min(item, 3)], "media_path": None if item == 4 else f"{item}.mp4"}
        for arm in ARMS
        for item, row in enumerate(answers(arm))
    ]
    runs = [
        evaluated(tmp_path / name, rows, {"emotion": {**FACTS, "modality": "video"}}) for name in ("a", "b")
    ]
    place = runs[1] / "frames" / "ab" / digest
    place.mkdir(parents=True)
    for number in range(7):
        Image.new("RGB", (64, 48), (9, 30 * number, 90)).save(place / f"{number:012d}.448q92.jpg")
    comparing.compare(runs, tmp_path / "out", QUICK)
    chunk = (tmp_path / "out" / samples.FOLDER / "rows-0.js").read_text(encoding="ascii")
    call = re.search(r'\d+, (".*")\);', chunk)
    assert call is not None
    shown = {row["id"]: row["picture"] for row in json.loads(json.loads(call[1]))}
    assert (shown["s0"]["kind"], shown["s0"]["frames"]) == ("video", 4)
    assert [shown[name]["fault"] for name in ("s1", "s2", "s3")] == ["no frame"] * 3
    assert shown["s4"] is None


# ---- the folder it is written to ---------------------------------------------------------------------------


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "a", answers("base"))
    (tmp_path / "mine" / "tables").mkdir(parents=True)
    (tmp_path / "mine" / "index.html").write_text("<p>mine</p>")
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file", "a"):
        with pytest.raises(UserError, match="holds files that no report wrote"):
            comparing.compare([run], tmp_path / name, QUICK)
    assert (tmp_path / "mine" / "index.html").read_text() == "<p>mine</p>"
    assert (tmp_path / "mine" / "tables").is_dir()
    (tmp_path / "empty").mkdir()
    comparing.compare([run], tmp_path / "empty", QUICK)


def test_nothing_of_an_earlier_report_stays_and_a_killed_one_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evaluated(tmp_path / "a", all_arms())
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(samples, "write", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            comparing.compare([run], out, QUICK)
    assert "Not finished" in (out / "index.html").read_text()
    comparing.compare([run], out, QUICK)
    for stale in ("charts/forest-other.svg", "tables/old.csv", "samples/rows-9.js"):
        (out / stale).write_text("old")
    first = {path.relative_to(out) for path in out.rglob("*")}
    assert "Not finished" not in comparing.compare([run], out, QUICK).read_text(encoding="utf-8")
    left = {path.relative_to(out) for path in out.rglob("*")}
    assert {str(path) for path in first - left} == {
        "charts/forest-other.svg",
        "tables/old.csv",
        "samples/rows-9.js",
    }


def test_another_runs_report_stays_where_it_was_taken_over(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "a", answers("base"))
    stage(tmp_path / "other", "report", {})
    comparing.compare([run], tmp_path / "made", QUICK)
    theirs = tmp_path / "other" / "report" / "index.html"
    theirs.write_bytes((tmp_path / "made" / "index.html").read_bytes() + b"theirs")
    (tmp_path / "out").symlink_to(tmp_path / "other" / "report")
    comparing.compare([run], tmp_path / "out", QUICK)
    assert theirs.read_bytes().endswith(b"theirs")
    assert not (tmp_path / "out").is_symlink()
