"""docs/results.md: what it says is what the answers in results/ say, and the arithmetic is right."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior_llava.evaluation.summary import PREDICTIONS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    spec = spec_from_file_location("results_page", ROOT / "docs" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["results_page"] = module  # where its dataclasses look for their annotations
    spec.loader.exec_module(module)
    module.FIGURES = tmp_path_factory.mktemp("figures")  # pyright: ignore[reportAttributeAccessIssue]
    return module


def test_the_page_is_what_the_answers_say(page: ModuleType) -> None:
    assert page.page(ROOT / "results") == (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


# ---- a small experiment whose numbers are known ------------------------------------------------------------

WORDINGS = ("emoset_feel", "emoset_evokes", "emoset_choice")


def answers(arm: str, seed: int, right: dict[str, list[bool]], scenes: list[bool]) -> pa.Table:
    """One row a sample: of each wording, and of the scenes."""
    rows: list[dict[str, Any]] = []
    asked = {task: ("split", right[task]) for task in WORDINGS} | {"lvu_scene": ("sum", scenes)}
    for task, (scoring, hits) in asked.items():
        for number, is_right in enumerate(hits):
            row: dict[str, Any] = dict.fromkeys(PREDICTIONS.names)
            rows.append(
                row
                | {
                    "benchmark": "B",
                    "task": task,
                    "metric": "accuracy",
                    "setting": "zero_shot",
                    "scoring": scoring,
                    "arm": arm,
                    "seed": seed,
                    "primary": True,
                    "sample_id": f"s{number}",
                    "cluster": f"c{number}",
                    "label": '"joy"',
                    "prediction": '"joy"' if is_right else '"fear"',
                }
            )
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


MANIFEST: dict[str, Any] = {
    "key": "k" * 20,
    "costs": {},
    "commit": "c" * 40,
    "seconds": 30.0,
    "machine": {"device": "cpu", "cores": 2, "memory_gib": 24, "processor": "x86_64", "python": "3.11"},
    "versions": {"torch": "1", "transformers": "2"},
}


def experiment(folder: Path, better: dict[int, bool], *, seeds: tuple[int, ...] = (0, 1)) -> Path:
    """100 samples; content_only gets 20 right of each wording, behavior 80, 50 and 20 where it is better."""
    (folder / "evaluate" / "scores").mkdir(parents=True)
    (folder / "config.yaml").write_text("arms: [content_only, behavior]\nseeds: [0, 1]\n")
    facts = {task: {"chance": 0.125, "majority": 0.2} for task in (*WORDINGS, "lvu_scene")}
    (folder / "evaluate" / "scores" / "tasks.json").write_text(json.dumps(facts))
    for seed in seeds:
        for arm in ("content_only", "behavior"):
            counts = dict.fromkeys(WORDINGS, 20)
            if arm == "behavior" and better[seed]:
                counts |= {"emoset_feel": 80, "emoset_evokes": 50}
            right = {task: [number < count for number in range(100)] for task, count in counts.items()}
            place = folder / "evaluate" / f"seed{seed}" / arm
            place.mkdir(parents=True)
            pq.write_table(answers(arm, seed, right, [True] * 100), place / "predictions.parquet")
            costs = {f"train/seed{seed}/{arm}": 60.0, f"evaluate/seed{seed}/{arm}": 30.0, "collect": 1000.0}
            manifest = MANIFEST | {"costs": costs}
            (place / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_primary_is_the_mean_over_the_questions(page: ModuleType, tmp_path: Path) -> None:
    told = "".join(page.section(experiment(tmp_path / "e", {0: True, 1: True}), "gain", "run it"))
    assert "```\nrun it\n```" in told
    drawn = (page.FIGURES / "gain.svg").read_bytes()
    assert len(drawn) > 5000
    page.figure(page.Experiment(tmp_path / "e"), "gain")
    assert (page.FIGURES / "gain.svg").read_bytes() == drawn
    assert "| content_only | 0.200 | 0.200 | 0.200 |" in told
    assert "| behavior | 0.500 | 0.500 | 0.500 |" in told  # (0.8 + 0.5 + 0.2) / 3
    assert "chance 0.125, most frequent label 0.200" in told
    assert "| content_only, seed 0 | 1.5 | kkkkkkkkkkkk |" in told
    assert "<summary>4 cells, 6 minutes to train and ask</summary>" in told
    found = page.differences(page.Experiment(tmp_path / "e"), page.PRIMARY, "behavior", ["content_only"])
    assert [(one.seed, round(one.value, 9), one.n) for one in found] == [
        (0, 0.3, 100),
        (1, 0.3, 100),
        (None, 0.3, 100),
    ]
    # 20 samples gain nothing, 30 gain two thirds, 30 a third, 20 nothing: a standard error of 0.027
    assert all(0.23 < one.low < 0.26 and 0.34 < one.high < 0.37 for one in found)
    # the scenes are the same, but 100 samples are too few to call them equivalent
    assert "**Supported in part**: behavior is above every control in every seed. 2 of 2 comparisons" in told
    assert "content_only +0.0 [+0.0, +0.0]: inconclusive" in told


def test_a_seed_without_a_gain_is_not_hidden(page: ModuleType, tmp_path: Path) -> None:
    told = "".join(page.section(experiment(tmp_path / "e", {0: True, 1: False}), "gain", "run it"))
    assert "**Not supported** as stated before the runs. 1 of 2 comparisons" in told


def test_missing_seeds_are_named(page: ModuleType, tmp_path: Path) -> None:
    folder = experiment(tmp_path / "e", {0: True}, seeds=(0,))
    (folder / "evaluate" / "seed0" / "contamination.json").write_text('{"emoset_feel": 3, "lvu_scene": 0}')
    assert "**Not finished**: content_only in seed 1: missing. So far 1 of 1" in "".join(
        page.section(folder, "gain", "run it")
    )
    told = "".join(page.section(folder, "gain", "run it"))
    assert "**Not finished**: content_only in seed 1, behavior in seed 1. Means are over" in told
    assert "stand in training data too, by copies or texts: emoset_feel 3, lvu_scene 0." in told
    absent = "".join(page.section(tmp_path / "absent", "gain", "run it"))
    assert absent == "```\nrun it\n```\n\nNot run yet.\n\n"


def test_what_an_interval_says(page: ModuleType) -> None:
    told = {"a": (0.1, 0.2), "b": (-0.1, 0.2), "c": (-0.2, -0.1), "d": (0.0, 0.1), "e": (None, None)}
    assert page.outcome(told) == "above 0: a; below 0: c; not told apart from 0: b, d; undefined: e."


def test_what_is_supported_is_all_that_was_said(page: ModuleType) -> None:
    def found(seed: int, low: float) -> Any:
        return page.Difference("content_only", seed, 0.1, low, 0.2, low, 0.2, 500)

    both = [found(0, 0.05), found(1, 0.02)]
    say = page.verdict
    assert say(both, ["content_only"], [0, 1], are_scenes_equal=True).startswith("**Supported**")
    assert say(both, ["content_only"], [0, 1], are_scenes_equal=False).startswith("**Supported in part**")
    less = [both[0], found(1, -0.1)]
    assert say(less, ["content_only"], [0, 1], are_scenes_equal=True).startswith("**Not supported** as")
    missing = say(both, ["content_only", "shuffled"], [0, 1], are_scenes_equal=True)
    assert missing.startswith("**Not finished**: shuffled in seed 0, shuffled in seed 1: missing.")
    same = [page.Difference("content_only", None, 0.0, -0.03, 0.03, low, 0.02, 500) for low in (-0.02, -0.06)]
    assert page.scenes(same[:1])[0]
    assert not page.scenes(same)[0]
    assert not page.scenes([])[0]


def test_arms_that_were_asked_of_other_samples_are_refused(page: ModuleType, tmp_path: Path) -> None:
    right = {task: [True] * (5 if task == "emoset_feel" else 6) for task in WORDINGS}
    with pytest.raises(ValueError, match="not asked of the same samples"):
        page.right(answers("behavior", 0, right, [True]), page.PRIMARY)


# ---- ablations, photos, texts ------------------------------------------------------------------------------


def test_arms_that_were_asked_of_different_samples_are_refused(page: ModuleType, tmp_path: Path) -> None:
    folder = experiment(tmp_path / "e", {0: True}, seeds=(0,))
    file = folder / "evaluate" / "seed0" / "behavior" / "predictions.parquet"
    rows = pq.read_table(file).to_pylist()
    for row in rows:
        row |= {"sample_id": f"x{row['sample_id']}", "cluster": f"x{row['cluster']}"}
    pq.write_table(pa.Table.from_pylist(rows, schema=PREDICTIONS), file)
    with pytest.raises(ValueError, match="two arms are not asked of the same samples"):
        page.differences(page.Experiment(folder), page.PRIMARY, "behavior", ["content_only"])


def test_every_variant_is_compared_with_its_own_content_only(page: ModuleType, tmp_path: Path) -> None:
    experiment(tmp_path / "ablations" / "plain", {0: True}, seeds=(0,))
    experiment(tmp_path / "ablations" / "signal_0pct", {0: False}, seeds=(0,))
    told = "".join(page.ablations(tmp_path / "ablations", "run it"))
    assert "| plain: content_only | 0.200 |  |" in told
    assert "| plain: behavior | 0.500 | +30.0 [+2" in told
    assert "| signal_0pct: behavior | 0.200 | +0.0 [+0.0, +0.0] |" in told


def test_labels_are_told_share_by_share(page: ModuleType, tmp_path: Path) -> None:
    def told(share: float, num_right: int) -> list[dict[str, Any]]:
        return [
            {
                "task": "emoset_feel",
                "setting": "finetuned",
                "label_fraction": share,
                "scoring": "sum",
                "sample_id": f"{number:03d}",
                "cluster": f"{number}",
                "label": '"joy"',
                "prediction": '"joy"' if number < num_right else '"fear"',
            }
            for number in range(100)
        ]

    folder = kept(
        tmp_path / "labels",
        {"content_only": [*told(0.1, 20), *told(1.0, 70)], "behavior": [*told(0.1, 50), *told(1.0, 65)]},
    )
    said = "".join(page.finetuned(folder, "run it"))
    assert "| 10% of the labels: content_only | 0.200 | +30.0 [+2" in said
    assert "| 100% of the labels: content_only | 0.700 | -5.0 [-" in said
    assert "| 100% of the labels: behavior | 0.650 |  |" in said
    assert "Not run yet" in "".join(page.finetuned(tmp_path / "absent", "run it"))


def test_the_ceiling_is_of_the_tested_halves(page: ModuleType, tmp_path: Path) -> None:
    """Votes of one platform rise with likes and with likes over views, of the other fall with both."""
    rows = [
        *(
            f"images/a{number:02d}.jpg,a,{10 + number},{1000 - 90 * number},{1 + number / 4}\n"
            for number in range(8)
        ),
        *(f"images/b{number:02d}.jpg,b,{10 + number},100,{5 - number / 4}\n" for number in range(8)),
    ]
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "behaviour.csv").write_text("image,source,likes,views,crowd_mos\n" + "".join(rows))
    # +1 within a and -1 within b, in every half
    assert page.ceiling(folder) == {"likes": 0.0, "likes_over_views": 0.0}
    (folder / "behaviour.csv").write_text("image,source,likes,views,crowd_mos\n" + "".join(rows[:8]))
    assert page.ceiling(folder) == {"likes": 1.0, "likes_over_views": 1.0}


def kept(folder: Path, cells: dict[str, list[dict[str, Any]]]) -> Path:
    """Answers of arms, seed 0, as `run --results` keeps them."""
    (folder / "evaluate" / "scores").mkdir(parents=True)
    (folder / "config.yaml").write_text(f"arms: [{', '.join(cells)}]\nseeds: [0]\n")
    (folder / "evaluate" / "scores" / "tasks.json").write_text("{}")
    for arm, rows in cells.items():
        place = folder / "evaluate" / "seed0" / arm
        place.mkdir(parents=True)
        (place / "manifest.json").write_text(json.dumps(MANIFEST))
        whole = [dict.fromkeys(PREDICTIONS.names) | {"primary": True, "seed": 0} | row for row in rows]
        pq.write_table(pa.Table.from_pylist(whole, schema=PREDICTIONS), place / "predictions.parquet")
    return folder


def photos(said: dict[str, list[float]], share: float | None = None) -> list[dict[str, Any]]:
    """Of each platform photos whose votes rise; what was said of them."""
    return [
        {
            "task": "photo_appeal_more",
            "setting": "zero_shot" if share is None else "finetuned",
            "label_fraction": share,
            "scoring": "expectation",
            "sample_id": f"{platform}:{number}",
            "cluster": f"{platform}{number}",
            "label": json.dumps(1 + number / 5),
            "prediction": json.dumps(value),
        }
        for platform, values in said.items()
        for number, value in enumerate(values)
    ]


def test_photos_are_ranked_within_their_platform(page: ModuleType, tmp_path: Path) -> None:
    up = [float(one) for one in range(20)]
    down = up[::-1]
    # between the platforms the order is wrong, within each it is right
    both, mixed = {"a": up, "b": [-100 + one for one in up]}, {"a": up, "b": down}
    for split in ("split_1", "split_2"):
        cells = {"content_only": photos(mixed), "shuffled": photos(mixed), "behavior": photos(both)}
        kept(tmp_path / "photos" / split, cells)
    told = "".join(page.photos(tmp_path / "photos", "run it"))
    assert "2 of 20 halves are finished" in told
    row = next(line for line in told.splitlines() if line.startswith("| photo_appeal_more, zero_shot"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1].startswith("0.00 [")  # (1 - 1) / 2
    assert cells[3].startswith("1.00 [1.00, 1.00]")
    assert cells[4].startswith("1.00 [")
    assert page.CEILING not in told


def test_photos_with_labels_stand_apart(page: ModuleType, tmp_path: Path) -> None:
    up, down = [1.0, 2, 3, 4, 5, 6], [6.0, 5, 4, 3, 2, 1]
    rows = [*photos({"a": up}), *photos({"a": down}, 0.061)]
    kept(tmp_path / "photos" / "split_1", {"content_only": rows, "behavior": rows})
    (tmp_path / "photos" / "ceiling.json").write_text('{"likes": 0.451, "likes_over_views": 0.229}')
    told = "".join(page.photos(tmp_path / "photos", "run it"))
    assert "| photo_appeal_more, zero_shot | 1.00" in told
    assert "| photo_appeal_more, finetuned, 10 labels | -1.00" in told
    assert "likes 0.45; secondary, likes over views 0.23" in told


def test_texts_stand_beside_base(page: ModuleType, tmp_path: Path) -> None:
    def reviews(num_right: int) -> list[dict[str, Any]]:
        return [
            {
                "task": "imdb",
                "setting": "zero_shot",
                "scoring": "sum",
                "sample_id": f"{number:03d}",
                "cluster": f"{number}",
                "label": '"positive"',
                "prediction": '"positive"' if number < num_right else '"negative"',
            }
            for number in range(100)
        ]

    kept(tmp_path / "texts" / "reviews", {"base": reviews(50), "behavior": reviews(60)})
    told = "".join(page.texts(tmp_path / "texts", "run it"))
    assert "| imdb, zero_shot, accuracy, n = 100 | 0.500 | 0.600 (+0.100 [+0.0" in told
    assert "lambda_ads" not in told


# ---- docs/scaling.md ---------------------------------------------------------------------------------------


def test_the_page_on_scaling_is_what_its_numbers_say() -> None:
    spec = spec_from_file_location("scaling_page", ROOT / "docs" / "scaling.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["scaling_page"] = module
    spec.loader.exec_module(module)
    assert module.page() == (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    # by hand: a million posts at 4,230 a second on two cores
    assert module.Scale(1e6).text_core_hours == pytest.approx(2 * 1e6 / 4230 / 3600)
    # 13e9 numbers x (2 + 4 + 2 again) operations x 502 to 520 tokens, 0.8 x 2.2 x 2 rows a post
    hours, operations = module.gpu_hours(module.RECIPES[0])
    assert operations == pytest.approx(13e9 * 8 * 510, rel=0.15)
    assert hours == pytest.approx(operations * 3.52e6 / (0.35 * 312e12) / 3600)
    assert [module.amount(value) for value in (0, 0.0961, 3.34, 163, 12_950)] == [
        "0",
        "0.096",
        "3.3",
        "160",
        "13,000",
    ]
