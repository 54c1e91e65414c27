"""The shipped configs on the real samples: photos with real likes to a report, a real dump to its counted
end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
TILES = "behaviour/data/images_sophoappeal_tiles"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory beside which `shared` lies, as the configs expect it."""
    if not (shared / TILES / "behaviour.csv").is_file():
        pytest.skip(f"no {TILES} in the folder of real samples")
    folder = tmp_path_factory.mktemp("real")
    (folder / "shared").symlink_to(shared.resolve(), target_is_directory=True)
    (folder / "main").mkdir()
    return folder / "main"


def manifest(run: Path, stage: str) -> dict[str, Any]:
    return json.loads((run / stage / "manifest.json").read_text(encoding="utf-8"))


# ---- photos ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(place: Path, small: tuple[str, ...], finish: Callable[..., str]) -> Path:
    """The run of configs/real_samples.yaml with its model and the sandbox beside it made small; all
    photos."""
    sizes = [value for value in small if value.startswith(("base.", "training.", "report.", "build."))]
    world = {"instruction_images": 200, "instruction_videos": 6, "instruction_texts": 60}
    world |= {"benchmark_train": 16, "benchmark_test": 16}
    sizes += [f"collect.sources.1.settings.{name}={value}" for name, value in world.items()]
    sizes += ["evaluate.context_tokens=24", "evaluate.batch_size=8"]
    said = finish(["run", str(ROOT / "configs" / "real_samples.yaml")], sizes, cwd=place)
    assert "Traceback" not in said
    return place / "runs" / "real_samples"


def test_every_photo_is_collected_with_its_likes_and_views(photos: Path) -> None:
    collected = manifest(photos, "collect")
    assert (collected["posts"], collected["comments"], collected["faults"]) == (357, 0, {})
    files = sorted((photos / "collect" / "posts").glob("*.parquet"))
    posts = [row for file in files for row in pq.read_table(file).to_pylist()]
    by_id = {post["id"]: post for post in posts}
    first = by_id["sophoappeal:images/500px_cc0_0000.jpg"]
    assert (first["num_likes"], first["num_views"], first["channel"]) == (52, 152, "500px_cc0")
    assert first["licence"] == "photos CC0, table GPL-3.0"
    assert {post["source"] for post in posts} == {"table"}
    assert not any(post["is_synthetic"] for post in posts)
    assert all(post["media_sha256"] and post["media_width"] == 80 for post in posts)


def test_no_synthetic_post_is_mixed_in(photos: Path) -> None:
    selected = manifest(photos, "build/posts")
    assert set(selected["survivors"]) == {"table"}
    assert selected["kept"] >= 340
    assert sum(selected["splits"].values()) == selected["kept"]
    for arm in ("content_only", "shuffled", "behavior"):
        rows = pq.read_table(photos / "build" / "arms" / "seed0" / arm / "examples.parquet").to_pylist()
        assert len(rows) == selected["splits"]["train"]
        assert {row["id"].split(":")[0] for row in rows} == {"sophoappeal"}


def test_the_arms_say_the_real_like_rate(photos: Path) -> None:
    posts = {row["id"]: row for row in pq.read_table(photos / "build" / "posts" / "posts").to_pylist()}

    def said(arm: str) -> dict[str, int]:
        rows = pq.read_table(photos / "build" / "arms" / "seed0" / arm / "examples.parquet").to_pylist()
        found = {row["id"]: re.search(r"(\d+)% of viewers like it\.$", row["completion"]) for row in rows}
        return {key: int(match[1]) for key, match in found.items() if match}

    own = said("behavior")
    assert len(own) > 250
    for key, percent in own.items():
        assert percent == pytest.approx(100 * posts[key]["num_likes"] / posts[key]["num_views"], abs=0.51)
    assert said("content_only") == {}
    placebo = said("shuffled")
    assert sorted(placebo.values()) == sorted(own.values())
    assert sum(placebo[key] != own[key] for key in own) > 0.5 * len(own)


def test_the_report_tells_likes_of_held_out_photos(photos: Path) -> None:
    summary = json.loads((photos / "report" / "summary.json").read_text(encoding="utf-8"))
    assert summary["arms"] == ["base", "content_only", "shuffled", "behavior"]
    held = manifest(photos, "build/posts")["splits"]["heldout"]
    likes = {
        row["arm"]: row
        for row in summary["results"]
        if row["task"] == "heldout_like_rate" and row["seed"] == 0
    }
    assert set(likes) == set(summary["arms"])
    assert {row["n"] for row in likes.values()} == {held}
    # only arms that were told of likes can say any
    assert likes["base"]["unparsed"] == likes["content_only"]["unparsed"] == 1.0
    assert {row["task"] for row in summary["results"]} == {
        "emoset",
        "lamem",
        "heldout_like_rate",
        "heldout_behavior_text",
    }
    # the benchmarks are the sandbox's, and the report must not hide it
    assert summary["synthetic"] is True
    assert "synthetic" in (photos / "report" / "index.html").read_text(encoding="utf-8").lower()


# ---- dump --------------------------------------------------------------------------------------------------


def test_every_post_of_the_dump_ends_as_counted_media_missing(
    place: Path, finish: Callable[..., str]
) -> None:
    words = [str(ROOT / "configs" / "real_reddit.yaml")]
    said = finish(["build", *words], cwd=place)
    assert "Traceback" not in said
    assert re.search(r"none of 652 posts is left \(dropped: nsfw 23, deleted 38, media_missing 591\)", said)
    run = place / "runs" / "real_reddit"
    collected = manifest(run, "collect")
    assert (collected["records"], collected["posts"], collected["comments"]) == (739 + 929, 652, 615)
    assert collected["comments_without_post"] == 314
    assert collected["faults"] == {"media_missing": 652, "not_media": 87}
    selected = manifest(run, "build/posts")
    assert (selected["rows_in"], selected["kept"], selected["splits"]) == (652, 0, {})
    dropped = [row for row in selected["survivors"]["reddit"] if row["table"] == "posts"]
    assert sum(row["dropped"] for row in dropped) == 652
    folders = {path.name for path in run.iterdir() if path.is_dir()}
    assert folders == {"fetched", "read", "measured", "collect", "build"}

    # to train on nothing is refused, before the base is trained
    said = finish(["train", *words], cwd=place, code=2)
    assert said.splitlines()[-1].startswith("error: runs/real_reddit/build/posts: none of 652 posts is left")
    assert not (run / "base").exists()
