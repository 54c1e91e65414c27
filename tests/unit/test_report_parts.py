"""The report's parts: relative gains, ablations, lineage, files of tables and charts, cards, samples."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import Stage
from behavior_llava.core.media import MediaFault
from behavior_llava.evaluation import benchmarks
from behavior_llava.evaluation.summary import PREDICTIONS, Config, default_duels, summarize
from behavior_llava.reporting import breakdowns, charts, exports, headline, lineage, samples, site
from behavior_llava.reporting.content import PageContent
from behavior_llava.training import model_card

HOSTILE = "</script><script>alert(1)</script>\u2028\u202eevil\"'"


def result(task: str, arm: str, value: float | None, **fields: Any) -> dict[str, Any]:
    """A pooled primary result row."""
    row = {
        "benchmark": "b",
        "task": task,
        "setting": "zero_shot",
        "metric": "accuracy",
        "label_fraction": None,
    }
    row |= {"shots": 0, "scoring": "sum", "primary": True, "arm": arm, "seed": None, "modality": "image"}
    width = None if value is None else 0.04
    row |= {"value": value, "low": None if value is None else value - width, "chance": 0.1, "majority": 0.1}
    row |= {"high": None if value is None else value + width, "n": 50, "n_clusters": 50, "unparsed": 0.0}
    return row | {"coverage": 1.0} | fields


def of_rows(*rows: dict[str, Any], synthetic: bool = False) -> dict[str, Any]:
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    return {"synthetic": synthetic, "arms": arms, "results": list(rows), "differences": []}


# ---- relative gains ----------------------------------------------------------------------------------------


def test_the_ten_groups_hold_tasks_of_the_paper_each_once() -> None:
    groups = headline.groups()
    assert len(groups) == 10
    names = [task for group in groups for task in group.tasks]
    assert len(names) == len(set(names)) == 43
    known = benchmarks.all_tasks()
    assert all(known[name].paper for name in names)
    others = {name for name, task in known.items() if task.paper} - set(names)
    assert others == {
        "shot2story_multishot",
        "qvhighlights_highlight_detection",
        "qvhighlights_moment_retrieval",
    }


def test_a_gain_is_relative_to_the_base_and_errors_count_as_their_reduction() -> None:
    rows = [result("emoset", "base", 0.2), result("emoset", "behavior", 0.3)]
    rows += [
        result("lvu_view_count", arm, value, metric="mse")
        for arm, value in (("base", 10.0), ("behavior", 5.0))
    ]
    (found,) = headline.headlines(of_rows(*rows), {})
    gains = {group.name: group.gains["behavior"] for group in found.groups}
    assert gains == {"Long videos (LVU)": pytest.approx(0.5), "Image emotion": pytest.approx(0.5)}


def test_a_base_near_zero_is_flagged_and_stays_out_of_the_mean() -> None:
    bases = {"emoset": 0.2, "abstract": 0.03, "iapsa": None}
    rows = [result(task, "base", value) for task, value in bases.items()]
    rows += [result(task, "behavior", 0.3) for task in bases]
    rows += [result("emotion6", "base", 0.2, low=-0.01), result("emotion6", "behavior", 0.9)]
    (found,) = headline.headlines(of_rows(*rows), {})
    (group,) = found.groups
    assert set(group.flagged) == {"abstract", "iapsa", "emotion6"}
    assert group.gains["behavior"] == pytest.approx(0.5)
    only = headline.headlines(of_rows(*rows[1:2], *rows[4:5]), {})[0].groups[0]
    assert only.gains["behavior"] is None


def test_a_task_in_no_group_is_said() -> None:
    rows = [result(task, arm, 0.5) for task in ("emoset", "moods") for arm in ("base", "behavior")]
    (found,) = headline.headlines(of_rows(*rows), {})
    assert found.ungrouped == ("moods",)


@pytest.mark.parametrize(
    ("setting", "left_out", "published", "why_not"),
    [
        ("zero_shot", None, 0.5, None),
        ("story", None, 0.5, "the paper asked zero_shot"),
        ("zero_shot", "iapsa", 0.5, "not asked here: iapsa"),
        ("zero_shot", None, None, "not the same task: iapsa, abstract, emotion6, emoset"),
    ],
)
def test_the_papers_percentage_stands_only_beside_the_same_tasks(
    setting: str, left_out: str | None, published: float | None, why_not: str | None
) -> None:
    names = [name for name in ("emoset", "abstract", "emotion6", "iapsa") if name != left_out]
    rows = [result(name, arm, 0.5, setting=setting) for name in names for arm in ("base", "behavior")]
    (found,) = headline.headlines(of_rows(*rows), {name: {"published": published} for name in names})
    (group,) = found.groups
    assert (group.paper, group.why_not) == (29.14 if why_not is None else None, why_not)


def test_arms_of_several_runs_are_compared_with_the_base_of_their_own() -> None:
    values = {"a/base": 0.2, "a/behavior": 0.3, "b/base": 0.4, "b/behavior": 0.3, "c/behavior": 0.9}
    (found,) = headline.headlines(of_rows(*(result("emoset", arm, one) for arm, one in values.items())), {})
    gains = found.groups[0].gains
    assert gains == {"a/behavior": pytest.approx(0.5), "b/behavior": pytest.approx(-0.25)}


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("abstract", {"a/base": 0.03, "a/behavior": 0.3, "b/base": 0.2, "b/behavior": 0.9}),
        ("abstract", {"a/base": 0.2, "a/behavior": None, "b/base": 0.2, "b/behavior": 0.9}),
        ("abstract", {"b/base": 0.2, "b/behavior": 0.9}),
        ("abstract", {"a/behavior": 0.3, "b/base": 0.2, "b/behavior": 0.9}),
    ],
    ids=["near_zero", "undefined", "not_asked", "without_base"],
)
def test_all_means_of_a_line_are_over_the_same_tasks(task: str, values: dict[str, float | None]) -> None:
    """What one arm's mean leaves out every arm's does."""
    asked = {"a/base": 0.2, "a/behavior": 0.3, "b/base": 0.4, "b/behavior": 0.6}
    rows = [result("emoset", arm, value) for arm, value in asked.items()]
    rows += [result(task, arm, value) for arm, value in values.items()]
    (group,) = headline.headlines(of_rows(*rows), {})[0].groups
    assert group.flagged == (task,)
    assert group.gains == {"a/behavior": pytest.approx(0.5), "b/behavior": pytest.approx(0.5)}


def test_an_arm_that_was_asked_nothing_of_a_group_takes_nothing_from_the_others() -> None:
    values = {"emoset": ("a/base", "a/behavior", "b/base", "b/behavior"), "caer": ("b/base", "b/behavior")}
    rows = [
        result(task, arm, 0.3 if arm.endswith("behavior") else 0.2)
        for task, arms in values.items()
        for arm in arms
    ]
    found = {group.name: group for group in headline.headlines(of_rows(*rows), {})[0].groups}
    assert set(found["Image emotion"].gains) == {"a/behavior", "b/behavior"}
    (other,) = [group for group in found.values() if "caer" in group.tasks]
    assert other.gains == {"b/behavior": pytest.approx(0.5)}
    assert other.flagged == ()


# ---- ablations ---------------------------------------------------------------------------------------------


ARMS = ("base", "content_only", "content_matched", "shuffled", "behavior", "only_comments", "ceiling")


def test_arms_that_learned_from_some_behavior_meet_content_only_and_holms_family_stays() -> None:
    duels = default_duels(ARMS)
    assert ("only_comments", "content_only") in duels
    assert ("shuffled", "content_only") in duels
    assert not {("content_matched", "content_only"), ("ceiling", "content_only")} & set(duels)
    assert len(duels) == len(set(duels))
    rows = [
        {"benchmark": "b", "task": "t", "metric": "accuracy", "setting": "zero_shot", "arm": arm, "seed": 0}
        | {"label_fraction": None, "shots": 0, "scoring": "sum", "primary": True, "group": None, "label": "1"}
        | {"sample_id": f"s{item}", "cluster": f"m{item}", "prediction": str(int(item % 7 < place))}
        for place, arm in enumerate(ARMS)
        for item in range(40)
    ]
    task = {"benchmark": "b", "metric": "accuracy", "modality": "image", "chance": 0.5, "majority": 0.5}
    found = summarize(rows, {"t": {**task, "low_level": False}}, ARMS, Config(draws=100, flips=100))
    family = {(row["arm"], row["against"]) for row in found["differences"] if row["p_holm"] is not None}
    assert family == {("behavior", "content_only"), ("behavior", "shuffled")}
    (ablation,) = breakdowns.ablations(found)
    assert ablation.arms == ("behavior", "only_comments")
    gain = ablation.gains["only_comments", "t"]
    (row,) = [
        one
        for one in found["differences"]
        if (one["arm"], one["against"], one["seed"]) == ("only_comments", "content_only", None)
    ]
    assert gain.value == pytest.approx(100 * row["value"])
    assert (gain.sign, gain.strength) == (1, 1.0)


def test_one_arm_makes_no_heat_map_and_runs_keep_to_themselves() -> None:
    row = {**result("t", "a/behavior", 0.1), "against": "a/content_only", "higher_is_better": True}
    other = {**row, "arm": "b/behavior"}
    summary = {**of_rows(row), "differences": [row, other]}
    assert breakdowns.ablations(summary) == []
    own = {**other, "against": "b/content_only"}
    (found,) = breakdowns.ablations(
        {**summary, "arms": ["a/behavior", "b/behavior"], "differences": [row, own]}
    )
    assert found.arms == ("a/behavior", "b/behavior")


def test_a_mean_over_tasks_leaves_out_what_some_arm_lacks() -> None:
    rows = [result("a", "base", 0.2), result("a", "behavior", 0.4), result("b", "base", 0.6)]
    rows += [result("c", "base", 3.0, metric="mse"), result("c", "behavior", 2.0, metric="mse")]
    (found,) = breakdowns.by_modality(of_rows(*rows))
    assert (found.tasks, found.left_out) == (("a",), ("b", "c"))
    assert found.means == {"base": 0.2, "behavior": 0.4}


def test_a_learning_curve_needs_two_shares() -> None:
    rows = [
        result("t", "behavior", 0.1 * part, label_fraction=part / 4, setting="finetuned") for part in (4, 1)
    ]
    (found,) = breakdowns.learning(of_rows(*rows))
    assert [point.share for point in found.curves["behavior"]] == [0.25, 1.0]
    assert breakdowns.learning(of_rows(rows[0])) == []


# ---- lineage -----------------------------------------------------------------------------------------------


def test_lineage_names_the_stage_each_was_made_from(tmp_path: Path) -> None:
    collect = Stage(tmp_path / "collect", "collect", {}, {"source 0": "abc"})
    with collect.work() as facts:
        facts |= {"records": 9, "posts": 7, "comments": 20}
    posts = Stage(tmp_path / "build/posts", "build/posts", {}, {"collect": collect.fingerprint})
    with posts.work() as facts:
        facts |= {"rows_in": 7, "kept": 5, "splits": {"train": 4, "heldout": 1}}
    for seed, rows in ((0, 4), (1, 3)):
        arm = f"build/arms/seed{seed}/behavior"
        with Stage(tmp_path / arm, arm, {}, {"posts": posts.fingerprint}).work() as facts:
            facts |= {"rows": rows}
    found = lineage.steps(tmp_path)
    assert [one.stage for one in found][:2] == ["collect", "build/posts"]
    assert [one.made_from for one in found] == [("source 0 (abc)",), ("collect",), *[("build/posts",)] * 2]
    assert found[1].fingerprint == posts.fingerprint
    flow = dict(lineage.flow(found))
    assert flow["sources"] == ["1 source", "9 records read"]
    assert flow["after filters"] == ["5 posts kept"]
    assert flow["splits"] == ["heldout: 1", "train: 4"]
    assert flow["rows of each arm"] == ["behavior: 3 to 4"]


def test_stages_that_were_taken_over_are_found_by_their_links(tmp_path: Path) -> None:
    """And only stages: not what lies inside of them, nor what is remembered of media."""
    first, second = tmp_path / "first", tmp_path / "second"
    for name, facts in (("collect", {"posts": 7}), ("build/posts", {"kept": 5}), ("base/seed0", {"rows": 3})):
        with Stage(first / name, name, {}, {}).work() as told:
            told |= facts
    for name in ("collect", "base/seed0"):
        assert Stage(second / name, name, {}, {}).adopt(first / name)
    with Stage(second / "build/posts", "build/posts", {"other": 1}, {}).work() as told:
        told |= {"kept": 4}
    for strange in ("first/frames/ab", "first/collect/media"):
        (tmp_path / strange).mkdir(parents=True)
        (tmp_path / strange / "manifest.json").write_text("[]")
    found = lineage.steps(second, "second")
    assert [(one.stage, one.is_taken_over) for one in found] == [
        ("collect", True),
        ("build/posts", False),
        ("base/seed0", True),
    ]
    rows = [row["stage"] for row in lineage.as_rows(found)]
    assert rows == ["second: collect (taken over)", "second: build/posts", "second: base/seed0 (taken over)"]
    both = [*lineage.steps(first, "first"), *found]
    rows = [row["stage"] for row in lineage.as_rows(both)]
    assert rows == ["first: collect", "first: build/posts", "first: base/seed0", "second: build/posts"]
    assert [(run, dict(boxes)["collected"]) for run, boxes in lineage.flows(both)] == [
        ("first", ["7 posts"]),
        ("second", ["7 posts"]),
    ]


# ---- files -------------------------------------------------------------------------------------------------


def test_tables_keep_undefined_from_looking_like_data(tmp_path: Path) -> None:
    rows = [("=1+1", 1 / 3, None), ("a|b\n<b>*x*", -0.5, 0)]
    one = exports.Table("t", "title", ("name", "value", "count"), rows)
    assert exports.write_tables([one, exports.Table("empty", "", ("a",), ())], tmp_path) == ["t"]
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["t.csv", "t.md"]
    with (tmp_path / "tables" / "t.csv").open(newline="") as file:
        read = list(csv.reader(file))
    assert read == [
        ["name", "value", "count"],
        ["'=1+1", repr(1 / 3), "undefined"],
        ["a|b\n<b>*x*", "-0.5", "0"],
    ]
    told = (tmp_path / "tables" / "t.md").read_text()
    assert "| undefined |" in told
    assert "<b>" not in told
    assert {line.count("|") for line in told.splitlines() if line.startswith("|")} == {4}


def test_charts_stand_alone_with_real_colors(tmp_path: Path) -> None:
    cells = {("only_a", HOSTILE): charts.Cell(("+1.0", "[0.5, 1.5]"), 1.0, is_clear=True)}
    chart = charts.heat_map(["only_a", "only_b"], [HOSTILE], cells, name="heat map/1", alt=HOSTILE)
    assert chart is not None
    assert exports.write_charts([chart], tmp_path) == ["heat-map-1"]
    svg = (tmp_path / "charts" / "heat-map-1.svg").read_text()
    assert "var(--" not in svg
    assert "currentColor" not in svg
    assert charts.LIGHT.good in svg
    assert "not run" in svg
    assert "<script" not in svg
    assert not re.search(r'(?:href|src)="(?!#)', svg)
    with Image.open(tmp_path / "charts" / "heat-map-1.png") as png:
        assert png.width > 400
        assert png.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    inline = chart.inline()
    assert "var(--good)" in inline
    assert not set(re.findall(r"#[0-9a-f]{6}", inline))
    again = charts.heat_map(["only_a", "only_b"], [HOSTILE], cells, name="heat map/1", alt=HOSTILE)
    assert again is not None
    assert (again.svg(), again.png()) == (chart.svg(), chart.png())


KINDS = "likes comments replay retention shares reactions views title saliency objects memory links".split()


@pytest.mark.parametrize(
    "arms",
    [
        ["content_only", "behavior", *(f"only_{kind}" for kind in KINDS)],
        [
            f"{run}/{arm}"
            for run in ("a", "b", "c", "d", "e", "f")
            for arm in ("base", "content_only", "behavior")
        ],
        [f"{run}/only_{kind}" for run in ("a", "b") for kind in KINDS],
    ],
    ids=["kinds", "runs", "kinds_of_runs"],
)
def test_no_two_arms_of_a_chart_look_alike_even_without_color(arms: list[str]) -> None:
    looks = charts.looks_of(arms)
    assert len({(look.marker, look.line) for look in looks.values()}) == len(arms)
    assert len({look.sign for look in looks.values()}) == len(arms)
    # as drawn: every arm is one line through the same points
    for chart in (
        charts.loss_curves({(arm, 0): [(0, 1.0), (9, 0.5)] for arm in arms}, name="l", alt="x"),
        charts.radar({arm: dict.fromkeys("abc", 0.5) for arm in arms}, {}, name="r", alt="x"),
        charts.learning_curves(
            {arm: [charts.Measured(share, 0.5, None, None) for share in (0.5, 1.0)] for arm in arms},
            None,
            name="c",
            alt="x",
            measured="accuracy",
        ),
    ):
        assert chart is not None
        lines = chart.draw(charts.LIGHT).axes[0].lines
        drawn = {(str(line.get_marker()), str(line._unscaled_dash_pattern)) for line in lines}
        assert len(drawn) == len(arms)


def test_an_arm_has_the_look_of_its_name_in_every_run_and_chart() -> None:
    alone = charts.looks_of(["base", "content_only", "shuffled", "behavior"])
    looks = charts.looks_of([f"{run}/{arm}" for run in ("a", "b") for arm in alone])
    for arm, look in alone.items():
        assert looks[f"a/{arm}"] == look
        other = looks[f"b/{arm}"]
        assert (other.slot, other.marker) == (look.slot, look.marker)
        assert other.line != look.line
    assert charts.arm_slot("b/behavior") == charts.arm_slot("behavior") != charts.arm_slot("b/base")


CARD = "---\nlicense: unknown\ntags:\n- behavior-llava\n---\n\n# a model\n"


def test_a_model_card_with_results_is_read_by_the_hubs_own_reader(tmp_path: Path) -> None:
    rows = [result("emoset", "behavior", 0.5), result("lamem", "behavior", None, metric="spearman")]
    told = model_card.with_results(CARD, "run: behavior", rows, is_synthetic=True)
    (tmp_path / "card.md").write_text(told)
    card = ModelCard.load(tmp_path / "card.md")
    assert card.data.license == "unknown"
    (score,) = card.data.eval_results or []
    assert (score.metric_type, score.metric_value) == ("accuracy", 0.5)
    assert "synthetic" in score.dataset_name
    assert "| lamem (synthetic stand-in) | zero_shot | spearman | undefined |" in card.content
    without = model_card.with_results(CARD, "run: behavior", [], is_synthetic=False)
    assert "It was not evaluated." in without
    assert "model-index" not in without


def test_a_project_page_overwrites_no_foreign_page(tmp_path: Path) -> None:
    content = PageContent(title=HOSTILE, summary=of_rows(), tasks={}, config_text="")
    page = site.write(content, tmp_path / "site").read_text()
    assert "<script" not in page
    assert "@inproceedings" in page
    assert site.write(content, tmp_path / "site").read_text() == page
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UserError, match="was not written by this command"):
        site.write(content, tmp_path)


# ---- the sample browser's data -----------------------------------------------------------------------------


def predictions(num: int, arms: tuple[str, ...] = ("base", "behavior"), **fields: Any) -> pa.Table:
    rows = [
        {"benchmark": "b", "task": "emotion", "metric": "accuracy", "setting": "zero_shot", "arm": arm}
        | {"seed": 0, "shots": 0, "scoring": "sum", "primary": primary, "sample_id": f"s{item:05d}"}
        | {"cluster": f"m{item}", "label": '"joy"', "answer": f"{arm} says {item}"}
        | {"prediction": '"joy"' if arm == "behavior" else '"awe"' if item % 2 else None}
        | {"likely": [{"label": "joy", "probability": 0.75}] if primary else None}
        | fields
        for arm in arms
        for item in range(num)
        for primary in (True, False)
    ]
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


def chunk(folder: Path, name: str) -> Any:
    """What a script of the browser holds."""
    text = (folder / "samples" / f"{name}.js").read_text(encoding="ascii")
    call = re.fullmatch(r'behaviorLlavaSamples\("\w+", \d+, (".*")\);\n', text)
    assert call is not None
    assert "<" not in text
    return json.loads(json.loads(call[1]))


def browsed(table: pa.Table, **fields: Any) -> samples.Browsed:
    known: dict[str, Any] = {"title": "t", "arms": ("base", "behavior"), "most": 1000, "synthetic": False}
    known |= {"question": lambda task, sample: "Which?", "look": lambda *_: None}
    return samples.Browsed(table=table, **{**known, **fields})


def test_the_browser_has_every_sample_once_with_all_arms(tmp_path: Path) -> None:
    assert samples.write(browsed(predictions(450)), tmp_path) == 450
    index = chunk(tmp_path, "index-0")
    assert index["contests"] == [{"task": "emotion", "setting": "zero_shot", "seed": 0, "count": 450}]
    assert index["verdicts"] == "urwr" * 225
    keys = re.findall("." * 16, index["keys"])
    assert len(keys) == len(set(keys)) == 450
    rows = [row for number in range(3) for row in chunk(tmp_path, f"rows-{number}")]
    assert [row["id"] for row in rows] == [f"s{item:05d}" for item in range(450)]
    assert rows[7]["answers"][1] == {"text": "behavior says 7", "context": None, "likely": [["joy", 0.75]]}
    assert len(chunk(tmp_path, "texts-0")) == 450
    assert not (tmp_path / "samples" / "rows-3.js").exists()


def test_more_samples_than_are_browsed_are_said_and_evenly_left_out(tmp_path: Path) -> None:
    assert samples.write(browsed(predictions(90), most=30), tmp_path) == 30
    ids = [row["id"] for row in chunk(tmp_path, "rows-0")]
    assert ids[0] < "s00005"
    assert ids[-1] > "s00085"
    assert "Of 90 samples 30 are shown" in (tmp_path / "samples.html").read_text()


@pytest.mark.slow
def test_a_hundred_thousand_samples_need_little_memory_and_few_files(tmp_path: Path) -> None:
    num, num_media = 100_000, 50
    ids = pa.array([f"s{item:06d}" for item in range(num)] * 2)
    table = predictions(1).filter(pc.field("primary")).take([0] * num + [1] * num)
    for name in ("sample_id", "cluster"):
        table = table.set_column(table.schema.get_field_index(name), name, ids)
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), (9, 90, 160)).save(picture, "PNG")

    def look(row: Mapping[str, Any]) -> samples.Look:
        medium = int(row["sample_id"][1:]) % num_media
        return samples.Look(key=str(medium), kind="image", pictures=lambda: [picture.getvalue()])

    tracemalloc.start()
    try:
        assert samples.write(browsed(table, look=look, most=num), tmp_path) == num
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20
    files = {path.name: path.stat().st_size for path in (tmp_path / "samples").iterdir() if path.is_file()}
    kinds = {kind: [name for name in files if name.startswith(kind)] for kind in ("rows", "texts", "index")}
    assert {kind: len(names) for kind, names in kinds.items()} == {"rows": 500, "texts": 20, "index": 1}
    assert len(list((tmp_path / "samples" / "media").iterdir())) == num_media
    assert max(files.values()) < 3 * 2**20
    assert sum(files.values()) < 1000 * num
    assert [row["id"] for row in chunk(tmp_path, "rows-499")][-1] == "s099999"


def test_an_arm_that_was_not_asked_and_old_predictions_are_shown_as_such(tmp_path: Path) -> None:
    table = predictions(3, ("behavior",)).drop_columns(["likely", "media_path"])
    samples.write(browsed(table), tmp_path)
    assert chunk(tmp_path, "index-0")["verdicts"] == "-r" * 3
    (row, *_) = chunk(tmp_path, "rows-0")
    assert row["answers"][0] is None
    assert row["answers"][1]["likely"] is None


def test_hostile_text_reaches_the_browser_as_text_alone(tmp_path: Path) -> None:
    table = predictions(2, answer=HOSTILE, sample_id="../../x", cluster="m").slice(0, 1)
    samples.write(browsed(table, question=lambda *_: HOSTILE, title=HOSTILE), tmp_path)
    (row,) = chunk(tmp_path, "rows-0")
    assert row["answers"][0]["text"] == row["question"] == HOSTILE
    assert "<script>alert" not in (tmp_path / "samples.html").read_text()


def test_a_medium_has_one_thumbnail_and_one_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (640, 480), (9, 90, 160)).save(picture, "PNG")
    asked: list[str] = []

    def look(row: Mapping[str, Any]) -> samples.Look:
        sample = row["sample_id"]

        def pictures() -> list[bytes]:
            asked.append(sample)
            if sample == "s00002":
                raise MediaFault("video_broken")
            return [picture.getvalue()] * 3 if sample != "s00003" else [b"no picture"]

        kind = "same" if sample in ("s00000", "s00001") else sample
        return samples.Look(key=f"../{kind}", kind="video", pictures=pictures)

    samples.write(browsed(predictions(4), look=look), tmp_path)
    assert sorted(asked)[1:] == ["s00002", "s00003"]
    (file,) = (tmp_path / "samples" / "media").iterdir()
    shown = [row["picture"] for row in chunk(tmp_path, "rows-0")]
    assert (
        shown[0] == shown[1] == {"kind": "video", "file": file.name, "frames": 3, "width": 488, "height": 120}
    )
    assert [one["fault"] for one in shown[2:]] == ["video_broken", "UnidentifiedImageError"]


def test_a_link_is_the_same_whatever_else_is_in_the_report() -> None:
    row = {"task": "t", "setting": "s", "label_fraction": None, "shots": 0, "seed": 1, "sample_id": "x"}
    assert samples.sample_key(row) == samples.sample_key({**row, "arm": "behavior", "answer": "other"})
    assert samples.sample_key(row) != samples.sample_key({**row, "seed": 2})
