"""The data set that comes out of a build that says every kind of behavior: what it holds, that others read
it, that it trains, and that the forgotten are in none of its files.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard

from behavior_llava.core import discover
from behavior_llava.data import ledger

pytestmark = pytest.mark.slow

WORLD = {
    "seed": 5,
    "images": 90,
    "videos": 40,
    "page_posts": 60,
    "saliency_images": 24,
    "memory_images": 24,
    "instruction_images": 160,
    "instruction_videos": 4,
    "instruction_texts": 40,
    "benchmark_train": 16,
    "benchmark_test": 16,
}
TINY = {
    "hidden_size": 32,
    "num_layers": 1,
    "num_vision_layers": 1,
    "num_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
KINDS = [
    {"likes": {"measure": "percentile"}},
    {"views": {"measure": "residual"}},
    "comments",
    {"replay": {"start": "without"}},
    "retention",
    "shares",
    "reactions",
    "titles",
    "saliency_tiles",
    "saliency_objects",
    "recall",
]
CONFIG: dict[str, Any] = {
    "name": "all",
    "arms": ["content_only", "shuffled", "behavior"],
    "collect": {"sources": [{"kind": "sandbox", "settings": WORLD}]},
    "build": {"template": "paper", "behaviors": KINDS, "exposure": {"min_posts": 5}},
    "base": {
        "tiny": TINY,
        "train": {"epochs": 4, "arguments": {"learning_rate": 5e-3, "per_device_train_batch_size": 16}},
    },
    "training": {"train": {"epochs": 1, "arguments": {"per_device_train_batch_size": 8}}},
    "evaluate": {"tasks": [], "settings": ["zero_shot"], "primary": "zero_shot"},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, finish: Callable[..., str]) -> Path:
    """The folder of a run up to build."""
    folder = tmp_path_factory.mktemp("all")
    (folder / "all.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    finish(["build", "all.yaml", "--out", "run"], cwd=folder)
    return folder / "run"


def rows(built: Path, *columns: str) -> list[dict[str, Any]]:
    files = sorted((built / "blift" / "data").glob("*.parquet"))
    assert [file.name.split("-")[0] for file in files] == ["heldout", "train", "validation"]
    return [row for file in files for row in pq.read_table(file, columns=list(columns)).to_pylist()]


def test_every_kind_is_said_and_read_back(built: Path) -> None:
    behaviors = discover.find("data.behaviors", "BEHAVIOR")
    names = {kind if isinstance(kind, str) else next(iter(kind)) for kind in KINDS}
    assert names == set(behaviors)
    said: Counter[str] = Counter()
    for row in rows(built, "completion", "behaviors"):
        said.update(row["behaviors"])
        for kind in row["behaviors"]:
            assert behaviors[kind].read_back(row["completion"]) is not None
    assert set(said) == names
    assert min(said.values()) >= 15


def test_what_shuffling_left_is_told_of_every_kind(built: Path) -> None:
    manifest = json.loads((built / "build/arms/seed0/shuffled/manifest.json").read_text(encoding="utf-8"))
    told = manifest["agreement"]
    assert told["num_likes"] >= 30
    pairs = {name.partition(":")[0]: value for name, value in told.items() if ": pairs" in name}
    assert set(pairs) == {kind if isinstance(kind, str) else next(iter(kind)) for kind in KINDS} - {
        "likes",
        "comments",
    }
    assert min(pairs.values()) >= 10
    assert all(-1 <= value <= 1 for name, value in told.items() if ": " in name and ": pairs" not in name)


def test_every_arm_tells_by_hashes_whose_data_it_holds(built: Path) -> None:
    posts = {
        row["id"]: row
        for file in (built / "build/posts/posts").iterdir()
        for row in pq.read_table(file, columns=["id", "author_hash"]).to_pylist()
    }
    wrote: dict[str, set[str]] = {}
    for file in (built / "build/posts/comments").iterdir():
        for row in pq.read_table(file, columns=["post_id", "author_hash"]).to_pylist():
            wrote.setdefault(row["post_id"], set()).add(row["author_hash"])
    train = set(pq.read_table(next((built / "blift/data").glob("train-*")), columns=["id"])["id"].to_pylist())
    for arm in ("content_only", "shuffled", "behavior"):
        folder = built / "build/arms/seed0" / arm
        ids = set(pq.read_table(folder / "examples.parquet", columns=["id"])["id"].to_pylist())
        assert len(ids) >= 60
        ids = train if arm == "shuffled" else ids  # a donor may be any of them
        people = {posts[post]["author_hash"] for post in ids}
        if arm != "content_only":
            people = people.union(*(wrote.get(post, ()) for post in ids))
        expected = {ledger.post_key(post) for post in ids}
        expected |= {ledger.author_key(person) for person in people - {None}}
        saw = pq.read_table(folder / ledger.SAW)["sha256"].to_pylist()
        assert [key.hex() for key in saw] == sorted(expected)


def test_a_title_that_is_asked_for_is_told_in_no_arm(built: Path) -> None:
    seen = 0
    for file in (built / "build" / "arms" / "seed0").glob("*/examples.parquet"):
        prompts = pq.read_table(file, columns=["prompt"])["prompt"].to_pylist()
        seen += 1
        assert prompts
        assert not any("Title:" in prompt for prompt in prompts)
    assert seen == 3


def test_counts_stand_apart_from_exposure(built: Path) -> None:
    adjusted = [
        entry
        for row in rows(built, "adjusted", "num_views")
        for entry in row["adjusted"] or ()
        if entry["count"] == "num_views"
    ]
    assert len(adjusted) >= 60
    assert all(0 <= entry["percentile"] <= 1 for entry in adjusted)


def test_both_forms_of_a_curve_are_in_the_rows(built: Path) -> None:
    scenes = [scene for row in rows(built, "scenes") for scene in row["scenes"] if scene["retention"]]
    assert len(scenes) >= 30
    assert all(scene["retention_without_start"] is not None for scene in scenes)


def test_every_row_says_where_it_comes_from(built: Path) -> None:
    found = rows(built, "source", "license", "retrieved_utc", "media_sha256", "is_synthetic")
    assert {row["source"] for row in found} == {"reddit", "youtube", "table", "salicon", "memorability"}
    for row in found:
        assert row["is_synthetic"]
        assert row["license"]
        assert len(row["media_sha256"]) == 64
        assert row["retrieved_utc"] is not None or row["source"] in ("table", "salicon", "memorability")


def test_datasets_opens_it_with_pictures_and_films(built: Path, tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    data = datasets.load_dataset(str(built / "blift"), cache_dir=str(tmp_path))
    assert set(data) == {"train", "validation", "heldout"}
    assert isinstance(data["train"].features["image"], datasets.Image)
    assert isinstance(data["train"].features["video"], datasets.Video)
    plain = data["train"].cast_column("video", datasets.Video(decode=False))
    kinds: Counter[str] = Counter()
    for row in plain:
        kinds[row["media_kind"]] += 1
        if row["media_kind"] == "image":
            assert row["image"].size[0] > 0
        else:
            assert Path(row["video"]["path"]).stat().st_size > 0
    assert kinds["image"] >= 60
    assert kinds["video"] >= 15


def test_the_card_has_real_counts(built: Path) -> None:
    card = (built / "blift" / "README.md").read_text(encoding="utf-8")
    num_rows = len(rows(built, "id"))
    assert f"{num_rows} of the {num_rows} samples were made by a program" in card
    said = Counter(kind for row in rows(built, "behaviors") for kind in row["behaviors"])
    assert f"| image | {said['recall']} |" in card


def test_its_llava_export_trains(built: Path, finish: Callable[..., str]) -> None:
    """The exported file in the place of the base's instruction data, through the training step as it is."""
    folder = built.parent
    small = {**WORLD, "images": 30, "videos": 6, "saliency_images": 0, "memory_images": 0}
    config = {
        **CONFIG,
        "name": "from_export",
        "arms": ["behavior"],
        "collect": {"sources": [{"kind": "sandbox", "settings": small}]},
        "base": {**CONFIG["base"], "instruction": str(built / "blift" / "llava.json")},
        "build": {"template": "paper"},
    }
    config["base"]["train"] = {**config["base"]["train"], "epochs": 12}
    (folder / "export.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    finish(["train", "export.yaml", "--out", "trained"], cwd=folder)
    manifest = json.loads((folder / "trained" / "base" / "seed0" / "manifest.json").read_text())
    exported = json.loads((built / "blift" / "llava.json").read_text(encoding="utf-8"))
    assert len(exported) == len(pq.read_table(next((built / "blift" / "data").glob("train-*"))))
    losses = json.loads((folder / "trained" / "base" / "seed0" / "loss.json").read_text())
    assert manifest["stage"] == "base/seed0"
    assert losses[-1][1] < 0.7 * losses[0][1]


# ---- last, because it changes the run ----------------------------------------------------------------------


def contents(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what is packed in them."""
    data = path.read_bytes()
    yield data
    if path.suffix == ".zst":
        yield zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(io.BytesIO(data)).read()
    elif path.suffix == ".parquet":
        yield json.dumps(pq.read_table(path).to_pylist(), default=str, ensure_ascii=False).encode()
    elif path.suffix == ".arrow":
        with pa.ipc.open_file(path) as file:
            yield json.dumps(file.read_all().to_pylist(), default=str, ensure_ascii=False).encode()


def places_of(traces: set[str], run: Path) -> set[str]:
    """The first folders, or files, of a run in which one of these stands, in a name or in a file."""
    wanted = {trace.encode() for trace in traces}
    found = set()
    for path in run.rglob("*"):
        inside = path.relative_to(run)
        texts = [inside.as_posix().encode(), *(contents(path) if path.is_file() else ())]
        if any(trace in text for text in texts for trace in wanted):
            found.add(inside.parts[0])
    return found


def test_the_forgotten_are_found_nowhere(built: Path, finish: Callable[..., str]) -> None:
    posts = [
        row for file in (built / "collect" / "posts").iterdir() for row in pq.read_table(file).to_pylist()
    ]
    comments = [
        row for file in (built / "collect" / "comments").iterdir() for row in pq.read_table(file).to_pylist()
    ]
    written = Counter(row["author_hash"] for row in comments if row["author_hash"])
    author = next(iter(sorted(written, key=lambda name: (written[name], name))))
    gone = next(row for row in posts if row["source"] == "youtube" and row["media_sha256"])
    own = [row["id"].rpartition("/")[2] for row in comments if author in (row["author_hash"], row["post_id"])]
    # what names them; of a comment its platform's id, because others may have used the same words
    traces = {author, gone["id"], gone["id"].partition(":")[2], gone["media_sha256"], *own}
    before = places_of(traces, built)
    assert {"fetched", "read", "collect", "build", "blift", "seen", "frames", "measured"} <= before

    command = ["forget", "run", "--post", gone["id"], "--author", author]
    assert "would be removed" in finish([*command, "--dry-run"], cwd=built.parent)
    assert places_of(traces, built) == before
    said = finish(command, cwd=built.parent)
    assert author not in said
    assert places_of(traces, built) == set()
    assert "Nothing of them is there" in finish(command, cwd=built.parent)

    said = finish(["build", "all.yaml", "--out", "run"], cwd=built.parent)
    assert "collect done" in said
    assert places_of(traces, built) == set()
    left = {row["id"] for row in rows(built, "id")}
    assert len(left) >= 150
    assert gone["id"] not in left
