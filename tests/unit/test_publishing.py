"""The published data set as others open it: Parquet in `datasets`, LLaVA JSON in our reader, and the card."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Adjusted, Comment, Curve, Example, Media, Post, post_row
from behavior_llava.data import data_card, instruction, publishing
from behavior_llava.data.comment_signals import measure
from behavior_llava.data.data_card import CardFacts, Tally
from behavior_llava.data.publishing import Sample, publish
from behavior_llava.data.scenes import Colors
from behavior_llava.data.splits import Config as SplitConfig
from behavior_llava.data.verbalizer import SceneWords, load_template

SURVIVORS = {
    "reddit": [
        {"filter": "nsfw", "table": "posts", "rows_in": 50, "kept": 41, "dropped": 9, "pooled": 0},
        {
            "filter": "short_comments",
            "table": "comments",
            "rows_in": 300,
            "kept": 200,
            "dropped": 100,
            "pooled": 0,
        },
    ],
    "youtube": [
        {"filter": "language", "table": "posts", "rows_in": 20, "kept": 11, "dropped": 9, "pooled": 0}
    ],
}


@pytest.fixture(scope="module")
def facts() -> CardFacts:
    return CardFacts(
        arm="behavior",
        template=load_template("short"),
        splits=SplitConfig(by="channel"),
        survivors=SURVIVORS,
        left_out={"no_caption": 7},
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three JPEGs and a video."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    found = {}
    for name in ("a.jpg", "b.JPEG", "someone's photo.jpg"):
        found[name] = folder / name
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(found[name], format="JPEG")
    found["clip.mp4"] = folder / "clip.mp4"
    with av.open(str(found["clip.mp4"]), "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 30 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def picture(path: Path, number: int = 0, split: str = "train", **post: Any) -> Sample:
    """A Reddit picture with two comments."""
    fields: dict[str, Any] = {
        "source": "reddit",
        "channel": "pics",
        "title": "A hat",
        "media_url": f"https://example.org/{number}.jpg",
        "created_utc": 1_500_000_000,
        "retrieved_utc": 1_500_000_000 + 7200,
        "score": -3,
        "upvote_ratio": 0.4,
        "author_hash": "u_0123456789",
        "licence": "CC BY 4.0",
        "comments": (
            Comment("1", "I love that hat", 5, "u_aaaaaaaaaa"),
            Comment("2", "he looks like my uncle", None, "u_bbbbbbbbbb"),
            Comment("3", None, removed_by="author"),
        ),
    }
    own = Post(id=f"reddit:{number}", media_kind="image", **{**fields, **post})
    media = Media(str(path), "image", digest(path))
    return Sample(
        example=Example(
            own.id, f"Picture {number}?", "Scene 1: a hat.\n>>>\n1. I love that hat", media, ("likes",)
        ),
        post=own,
        split=split,
        cluster=f"cluster {number}",
        scenes=(SceneWords(0, 0, "a hat", Colors(("red", "blue"), ("white",), "dark"), ("hat", "man")),),
        media_sha256=media.sha256,
        label_age_s={"likes": 7200.0},
    )


def clip(path: Path, number: int = 100, split: str = "train", **post: Any) -> Sample:
    """A YouTube video with everything a post may have."""
    fields: dict[str, Any] = {
        "channel": "UC1",
        "num_likes": 3,
        "num_views": 90,
        "num_impressions": 900,
        "num_comments": 0,
        "duration_s": 2.0,
        "replay": Curve((0.0, 1.0), (1.0, 2.0), (1.0, 0.25)),
        "retention": Curve((0.0, 1.0), (1.0, 2.0), (1.2, 0.5)),
        "shares": {"COPY_PASTE": 4, "FACEBOOK": 1},
        "reactions": {"love": 2},
        "saliency_tiles": (0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1),
        "saliency_objects": {"dog": 0.75},
        "recall": 0.5,
        "recall_delay_s": 60.0,
        "adjusted": {"num_likes": Adjusted(0.5, "channel", -0.25, "age")},
    }
    own = Post(f"youtube:{number}", "youtube", "video", **{**fields, **post})
    media = Media(str(path), "video", digest(path), (0.5, 1.5))
    return Sample(
        example=Example(
            own.id, "What happens?", "Scene 1: gray.\nScene 2: white.", media, ("likes", "replay")
        ),
        post=own,
        split=split,
        cluster="c",
        scenes=(SceneWords(0.0, 1.0, "gray"), SceneWords(1.0, 2.0, "white")),
        media_sha256=media.sha256,
        label_age_s={"likes": None, "replay": 86400.0 * 10},
        curves={"replay": (1.0, 0.25), "replay_without_start": (0.0, 1.0), "retention": (1.2, 0.5)},
    )


@pytest.fixture(scope="module")
def samples(files: dict[str, Path]) -> list[Sample]:
    return [
        picture(files["a.jpg"], 0),
        clip(files["clip.mp4"], 100),
        picture(files["b.JPEG"], 1, "heldout", licence=None),
        picture(files["someone's photo.jpg"], 2, "validation"),
        picture(files["a.jpg"], 3),
    ]


def opened(folder: Path, cache: Path) -> Any:
    """The folder in `datasets`, without the network."""
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(str(folder), cache_dir=str(cache))


def rows_of(folder: Path, split: str) -> list[dict[str, Any]]:
    return [
        row
        for path in sorted((folder / "data").glob(f"{split}-*"))
        for row in pq.read_table(path).to_pylist()
    ]


@pytest.fixture(scope="module")
def published(
    samples: list[Sample], facts: CardFacts, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Published with linked media; to be read only."""
    folder = tmp_path_factory.mktemp("published") / "set"
    return folder, publish(iter(samples), folder, name="hats", facts=facts)


# ---- as others open it -------------------------------------------------------------------------------------


def test_datasets_opens_it_with_images_and_videos(
    published: tuple[Path, dict[str, Any]], files: dict[str, Path], tmp_path: Path
) -> None:
    from datasets import Image as ImageFeature
    from datasets import Video

    data = opened(published[0], tmp_path)
    assert {split: len(rows) for split, rows in data.items()} == {"train": 3, "validation": 1, "heldout": 1}
    assert data["train"].features["image"] == ImageFeature()
    assert data["train"].features["video"] == Video()
    rows = data["train"].cast_column("video", Video(decode=False))
    assert [row["id"] for row in rows] == ["reddit:0", "youtube:100", "reddit:3"]
    assert [row["image"] is None for row in rows] == [row["video"] is not None for row in rows]
    with Image.open(files["a.jpg"]) as original:
        assert np.array_equal(np.asarray(rows[0]["image"]), np.asarray(original))
    assert Path(rows[1]["video"]["path"]).read_bytes() == files["clip.mp4"].read_bytes()
    assert rows[1]["video"]["bytes"] is None
    assert rows[0]["messages"] == [
        {"role": "user", "content": "Picture 0?"},
        {"role": "assistant", "content": "Scene 1: a hat.\n>>>\n1. I love that hat"},
    ]


def test_embedded_media_need_no_other_file(
    samples: list[Sample], facts: CardFacts, files: dict[str, Path], tmp_path: Path
) -> None:
    from datasets import Video

    counts = publish(samples, tmp_path / "set", name="hats", facts=facts, media="embedded")
    assert counts["media_files"] == counts["exported"] == 0
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["README.md", "data"]
    shutil.move(tmp_path / "set", tmp_path / "moved")
    rows = opened(tmp_path / "moved", tmp_path / "cache")["train"].cast_column("video", Video(decode=False))
    with Image.open(files["a.jpg"]) as original:
        assert np.array_equal(np.asarray(rows[0]["image"]), np.asarray(original))
    assert rows[1]["video"] == {
        "bytes": files["clip.mp4"].read_bytes(),
        "path": f"{digest(files['clip.mp4'])}.mp4",
    }


def test_without_media_addresses_and_hashes_are_left(
    samples: list[Sample], facts: CardFacts, tmp_path: Path
) -> None:
    publish(samples, tmp_path / "set", name="hats", facts=facts, media="none")
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["README.md", "data"]
    data = opened(tmp_path / "set", tmp_path / "cache")
    row = data["train"][0]
    assert (row["image"], row["video"]) == (None, None)
    assert row["media_url"] == "https://example.org/0.jpg"
    assert row["media_sha256"] == samples[0].media_sha256


def test_instruction_reader_gives_back_prompts_and_completions(
    published: tuple[Path, dict[str, Any]], samples: list[Sample]
) -> None:
    folder, counts = published
    train = [sample.example for sample in samples if sample.split == "train"]
    found = instruction.read(folder / "llava.json")
    assert counts["exported"] == len(train) == 3
    assert [(row.id, row.prompt, row.completion) for row in found] == [
        (row.id, row.prompt, row.completion) for row in train
    ]
    for row, expected in zip(found, train, strict=True):
        assert row.media is not None
        assert expected.media is not None
        assert row.media.kind == expected.media.kind
        assert Path(row.media.path).read_bytes() == Path(expected.media.path).read_bytes()
    raw = json.loads((folder / "llava.json").read_text(encoding="utf-8"))
    assert [row["conversations"][0]["value"].split("\n")[0] for row in raw] == [
        "<image>",
        "<video>",
        "<image>",
    ]


def test_messages_are_one_row_a_line(published: tuple[Path, dict[str, Any]], samples: list[Sample]) -> None:
    folder = published[0]
    rows = [json.loads(line) for line in (folder / "messages.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 3
    assert rows[1]["messages"] == [
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What happens?"}]},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "Scene 1: gray.\nScene 2: white."}],
        },
    ]
    assert [list(row) for row in rows] == [
        ["messages", "images"],
        ["messages", "videos"],
        ["messages", "images"],
    ]
    names = [name for row in rows for name in row.get("images", row.get("videos"))]
    assert [digest(folder / name) for name in names] == [
        sample.media_sha256 for sample in samples if sample.split == "train"
    ]


# ---- what is in a row --------------------------------------------------------------------------------------


def test_behavior_and_lineage_are_the_posts(
    published: tuple[Path, dict[str, Any]], samples: list[Sample]
) -> None:
    rows = {
        row["id"]: row for split in ("train", "validation", "heldout") for row in rows_of(published[0], split)
    }
    assert len(rows) == len(samples)
    for sample in samples:
        row, post = rows[sample.post.id], post_row(sample.post)
        same = (*publishing._BEHAVIOR, *publishing._LINEAGE)
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in post.items()}
        assert {name: row[name] for name in same} == {name: listed[name] for name in same}
        assert row["license"] == sample.post.licence
        assert (row["cluster"], row["media_sha256"]) == (sample.cluster, sample.media_sha256)
        assert {item["kind"]: item["age_s"] for item in row["label_age_s"]} == sample.label_age_s
    assert rows["reddit:0"]["comments"] == [
        {"text": "I love that hat", "score": 5},
        {"text": "he looks like my uncle", "score": None},
    ]
    assert rows["youtube:100"]["shares"] == [
        {"kind": "COPY_PASTE", "count": 4},
        {"kind": "FACEBOOK", "count": 1},
    ]
    assert (rows["reddit:0"]["num_likes"], rows["youtube:100"]["num_comments"]) == (None, 0)


def test_scenes_hold_words_and_curves(published: tuple[Path, dict[str, Any]]) -> None:
    first, video, _ = rows_of(published[0], "train")
    none = dict.fromkeys(publishing.CURVES)
    assert first["scenes"] == [
        {
            "start_s": 0.0,
            "end_s": 0.0,
            "caption": "a hat",
            "foreground": ["red", "blue"],
            "background": ["white"],
            "tone": "dark",
            "tags": ["hat", "man"],
            **none,
        }
    ]
    assert [scene["replay"] for scene in video["scenes"]] == [1.0, 0.25]
    assert [scene["replay_without_start"] for scene in video["scenes"]] == [0.0, 1.0]
    assert [scene["retention"] for scene in video["scenes"]] == [1.2, 0.5]
    assert [scene["retention_without_start"] for scene in video["scenes"]] == [None, None]
    assert (video["scenes"][0]["foreground"], video["scenes"][0]["tone"]) == (None, None)


def test_no_author_and_no_name_of_a_file_goes_out(
    published: tuple[Path, dict[str, Any]], files: dict[str, Path]
) -> None:
    folder, counts = published
    place = str(files["a.jpg"].parent)
    looked_at = [path for path in folder.rglob("*") if path.is_file()]
    assert counts["media_files"] == 4
    assert len(looked_at) == 4 + 3 + 3  # media; a file a split; two exports and the card
    for path in looked_at:
        text = (
            json.dumps(pq.read_table(path).to_pylist())
            if path.suffix == ".parquet"
            else path.read_bytes().decode("latin1")
        )
        for trace in (place, "someone", "u_0123456789", "u_aaaaaaaaaa"):
            assert trace not in text, path
            assert trace not in str(path)


# ---- files -------------------------------------------------------------------------------------------------


def test_media_are_linked_by_hash_and_once(
    published: tuple[Path, dict[str, Any]], files: dict[str, Path]
) -> None:
    for path in files.values():
        name = digest(path)
        link = published[0] / "media" / name[:2] / f"{name}{path.suffix.lower()}"
        assert link.samefile(path)


def test_media_are_copied_where_links_fail(
    samples: list[Sample], facts: CardFacts, files: dict[str, Path], tmp_path: Path, monkeypatch: Any
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    publish(samples, tmp_path, name="hats", facts=facts)
    copies = [path for path in (tmp_path / "media").rglob("*") if path.is_file()]
    assert sorted(path.read_bytes() for path in copies) == sorted(
        path.read_bytes() for path in files.values()
    )
    assert not any(copy.samefile(path) for copy in copies for path in files.values())


@pytest.mark.parametrize("mode", ["linked", "embedded"])
def test_another_file_under_the_same_name_is_refused(
    facts: CardFacts, files: dict[str, Path], tmp_path: Path, mode: Any
) -> None:
    path = tmp_path / "a.jpg"
    shutil.copy(files["a.jpg"], path)
    sample = picture(path)
    shutil.copy(files["b.JPEG"], path)
    with pytest.raises(UserError, match="not the one that was measured"):
        publish([sample], tmp_path / "set", name="hats", facts=facts, media=mode)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        publish([sample], tmp_path / "set", name="hats", facts=facts, media=mode)
    assert not (tmp_path / "set" / "README.md").exists()
    assert list((tmp_path / "set" / "media").rglob("*.jpg")) == []


def test_a_file_too_large_for_a_row_is_refused(
    facts: CardFacts, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "EMBED_BYTES", 100)
    with pytest.raises(UserError, match="more than a row may hold"):
        publish([picture(files["a.jpg"])], tmp_path, name="hats", facts=facts, media="embedded")


def test_shards_are_bounded_numbered_and_in_order(
    facts: CardFacts, files: dict[str, Path], tmp_path: Path
) -> None:
    from datasets import load_dataset

    one = picture(files["a.jpg"])
    many = [
        replace(
            one,
            example=replace(one.example, id=f"{n}", prompt=hashlib.sha256(f"{n}".encode()).hexdigest() * 20),
        )
        for n in range(60)
    ]
    counts = publish(
        iter(many), tmp_path / "set", name="x", facts=facts, shard_bytes=12_000, group_bytes=40_000
    )
    names = sorted(path.name for path in (tmp_path / "set" / "data").iterdir())
    number = counts["files"]["train"]
    assert number > 2
    assert names == [f"train-{n:05d}-of-{number:05d}.parquet" for n in range(number)]
    assert [row["id"] for row in rows_of(tmp_path / "set", "train")] == [f"{n}" for n in range(60)]
    groups = [
        pq.ParquetFile(tmp_path / "set" / "data" / name).metadata.row_group(group).num_rows
        for name in names
        for group in range(pq.ParquetFile(tmp_path / "set" / "data" / name).num_row_groups)
    ]
    assert sum(groups) == 60
    assert max(groups) <= 40_000 // 2560 + 1
    loaded = load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"), split="train")
    assert loaded["id"][:] == [f"{n}" for n in range(60)]


def test_samples_are_read_one_after_the_other_and_let_go(
    facts: CardFacts, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "GROUP_ROWS", 50)
    living: list[weakref.ref[Sample]] = []
    one = picture(files["a.jpg"])
    waiting = []

    def stream() -> Iterator[Sample]:
        for number in range(400):
            sample = replace(one, example=replace(one.example, id=f"{number}"))
            living.append(weakref.ref(sample))
            assert sum(held() is not None for held in living) <= 2
            yield sample
            del sample
            part = tmp_path / "data" / "train-00000.part"
            waiting.append(part.stat().st_size if part.exists() else 0)

    publish(stream(), tmp_path, name="x", facts=facts)
    # the file grows while samples still come, a group at a time
    assert len(set(waiting)) == 1 + 400 // 50
    assert len(rows_of(tmp_path, "train")) == 400


def test_a_kill_leaves_a_folder_that_is_written_again_whole(
    samples: list[Sample], facts: CardFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed() -> Iterator[Sample]:
        yield from samples[:2]
        raise KeyboardInterrupt

    publish(samples, tmp_path / "whole", name="hats", facts=facts)
    publish(
        [*samples, picture(Path(samples[3].example.media.path), 9)], tmp_path / "set", name="old", facts=facts
    )
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "GROUP_ROWS", 1)
        with pytest.raises(KeyboardInterrupt):
            publish(killed(), tmp_path / "set", name="hats", facts=facts, shard_bytes=1)
    left = {path.name for path in (tmp_path / "set").rglob("*") if path.is_file()}
    assert not left & {"README.md", "llava.json", "messages.jsonl"}
    assert not any(name.endswith(".parquet") for name in left)
    assert any(name.startswith("train-00001") for name in left)

    publish(samples, tmp_path / "set", name="hats", facts=facts)
    contents = [
        {
            path.relative_to(folder).as_posix(): path.read_bytes().replace(str(folder).encode(), b"")
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".parquet"
        }
        for folder in (tmp_path / "whole", tmp_path / "set")
    ]
    assert len(contents[0]) == 7
    assert contents[0] == contents[1]
    assert rows_of(tmp_path / "whole", "train")[0]["id"] == rows_of(tmp_path / "set", "train")[0]["id"]
    assert [path.name for path in sorted((tmp_path / "set" / "data").iterdir())] == [
        "heldout-00000-of-00001.parquet",
        "train-00000-of-00001.parquet",
        "validation-00000-of-00001.parquet",
    ]


def test_who_refused_or_opted_out_is_left_out_and_counted(
    samples: list[Sample], facts: CardFacts, files: dict[str, Path], tmp_path: Path
) -> None:
    refusing = [
        picture(files["b.JPEG"], 7, has_consent=False),
        picture(files["b.JPEG"], 8, is_opted_out=True),
        picture(files["a.jpg"], 9, has_consent=True, is_opted_out=False),
    ]
    counts = publish(refusing, tmp_path, name="x", facts=facts)
    assert (counts["refused"], counts["rows"], counts["media_files"]) == (2, 1, 1)
    assert [row["id"] for row in rows_of(tmp_path, "train")] == ["reddit:9"]
    assert "2 posts were left out here" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_nothing_to_publish_gives_a_card_that_says_so(facts: CardFacts, tmp_path: Path) -> None:
    counts = publish([], tmp_path, name="none", facts=facts)
    assert (counts["rows"], counts["files"]) == (0, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "data"]
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "0 samples" in card
    assert "configs" not in yaml.safe_load(card.split("---")[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "test"}, "in the split 'test'"),
        ({"media_sha256": ""}, "no hash"),
        ({"curves": {"replay": (1.0, 2.0)}}, "no curve with a value for each scene"),
        ({"curves": {"laughter": (1.0,)}}, "no curve with a value for each scene"),
        ({"completion": None}, "no completion"),
        ({"media": None}, "not the media"),
        ({"prompt": "what <image> is it"}, "does not give back"),
        ({"prompt": "what is it\n"}, "does not give back"),
    ],
)
def test_samples_that_cannot_be_meant_are_refused(
    facts: CardFacts, files: dict[str, Path], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    sample = picture(files["a.jpg"])
    of_example = {key: change[key] for key in ("completion", "media", "prompt") if key in change}
    of_sample = {key: value for key, value in change.items() if key not in of_example}
    bad = replace(sample, example=replace(sample.example, **of_example), **of_sample)
    with pytest.raises(ValueError, match=message):
        publish([bad], tmp_path, name="x", facts=facts)


# ---- the card ----------------------------------------------------------------------------------------------


def test_it_is_counted_within_which_group_percentiles_were_taken() -> None:
    tally = Tally()
    for number, adjusted in enumerate(
        [
            {"num_likes": Adjusted(0.1, "channel"), "score": Adjusted(0.2, "source")},
            {"num_likes": Adjusted(0.3, "channel and age"), "score": Adjusted(None, None)},
            {"num_likes": Adjusted(0.5, "channel")},
            None,
        ]
    ):
        post = Post(id=str(number), source="x", media_kind="image", adjusted=adjusted)
        tally.add(Example(str(number), "p", "c"), post, "train", {})
    assert data_card.WITHIN == ("channel and age", "channel", "age", "source")
    assert data_card._within_rows(tally) == [
        {"count": "num_likes", "within": [1, 2, 0, 0], "nowhere": 0},
        {"count": "score", "within": [0, 0, 0, 1], "nowhere": 1},
    ]
    assert data_card._within_rows(Tally()) == []


def cells(card: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    part = card.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = re.search(r"(?:^\|.*\n)+", part, re.MULTILINE)
    assert lines is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[0].splitlines()[2:]]


def test_the_card_counts_what_is_there(published: tuple[Path, dict[str, Any]], samples: list[Sample]) -> None:
    folder, counts = published
    card = (folder / "README.md").read_text(encoding="utf-8")
    matter = yaml.safe_load(card.split("---")[1])
    assert counts["splits"] == {"train": 3, "validation": 1, "heldout": 1}
    assert matter["size_categories"] == ["n<1K"]
    assert matter["task_categories"] == ["image-text-to-text", "video-text-to-text"]
    assert matter["configs"][0]["data_files"] == [
        {"split": split, "path": f"data/{split}-*.parquet"} for split in ("train", "validation", "heldout")
    ]
    assert "synthetic" not in matter["tags"]
    rows = cells(card, "What is in it")
    assert [(row[0], row[2], row[4], row[5]) for row in rows] == [
        ("likes", "reddit", "image", "4"),
        ("likes", "youtube", "video", "1"),
        ("replay", "youtube", "video", "1"),
    ]
    assert rows[0][1] == "How many of those who saw it liked it."
    assert rows[2][1].startswith("How often each scene is replayed")
    assert cells(card, "What was left out") == [
        ["reddit", "nsfw", "posts", "50", "9", "0", "41"],
        ["reddit", "short_comments", "comments", "300", "100", "0", "200"],
        ["youtube", "language", "posts", "20", "9", "0", "11"],
    ]
    assert "- 7 posts passed the filters and could not be said: no_caption." in card
    assert cells(card, "Licenses") == [["CC BY 4.0", "3"], ["not stated", "2"]]
    assert cells(card, "How old the labels are") == [
        ["likes", "2 hours", "20.0%"],
        ["replay", "10 days", "0.0%"],
    ]
    assert "By channel, never by row" in card
    texts = [comment.text for sample in samples for comment in sample.post.comments if comment.text]
    assert measure(texts).carrying["opinion"] == 4
    assert [(row[0], row[2], row[3]) for row in cells(card, "What comments carry")] == [
        ("temporal", "0", "0.0%"),
        ("cognitive", "0", "0.0%"),
        ("character", "4", "50.0%"),
        ("context", "4", "50.0%"),
        ("opinion", "4", "50.0%"),
        ("other", "0", "0.0%"),
    ]


def test_the_card_holds_no_word_of_a_person(published: tuple[Path, dict[str, Any]]) -> None:
    card = (published[0] / "README.md").read_text(encoding="utf-8")
    for text in ("hat", "uncle", "pics", "UC1", "example.org"):
        assert not re.search(rf"\b{re.escape(text)}\b", card), text


def test_synthetic_posts_are_said_first_and_shown(
    facts: CardFacts, files: dict[str, Path], tmp_path: Path
) -> None:
    made = picture(files["a.jpg"], 1, is_synthetic=True)
    made = replace(made, example=replace(made.example, prompt="</pre><b>*look*</b>\n\n# at it", behaviors=()))
    publish([picture(files["a.jpg"], 0), made], tmp_path, name="hats", facts=facts)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---")[1])["tags"][0] == "synthetic"
    assert card.split("# hats\n")[1].strip().startswith("**Synthetic:** 1 of the 2 samples")
    assert "&#60;&#47;pre&#62;&#60;b&#62;&#42;look&#42;&#60;&#47;b&#62;\n\n&#35; at it" in card
    assert "Scene 1: a hat.\n&#62;&#62;&#62;\n1. I love that hat" in card
    assert [row[0] for row in cells(card, "What is in it")] == ["content only", "likes"]


def rendered(body: str) -> tuple[list[tuple[str, str]], str]:
    """What Markdown makes of a card: the elements in order, and the text that is seen."""
    blocks = MarkdownIt("commonmark").enable("table").parse(body)
    tokens = [token for block in blocks for token in (block, *(block.children or ()))]
    tokens = [token for token in tokens if not token.type.startswith("text")]
    seen = [
        child.content for block in blocks for child in block.children or () if child.type.startswith("text")
    ]
    return [(token.type, token.tag) for token in tokens], "".join(seen)


HOSTILE = (
    "---\nlicense: mit\n---\n",
    "| a | b |\n|---|---|\n# Heading",
    "<script>alert(1)</script><img src=x onerror=y>",
    "[click](javascript:alert(1)) ![x](https://evil.example/x.png) `code` **b** _i_ ~~s~~",
    "https://evil.example www.evil.example &lt;b&gt; \\| \u202eabc\x00\x1b[31m",
    "{{ 7 * 7 }}{% raw %}",
    "x" * 100_000,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_line_of_the_card(
    facts: CardFacts, files: dict[str, Path], tmp_path: Path, text: str
) -> None:
    def card_of(word: str, folder: Path) -> str:
        sample = picture(
            files["a.jpg"],
            licence=word,
            channel=word,
            title=word,
            source=word,
            comments=(Comment("1", word, 1),),
        )
        sample = replace(sample, example=replace(sample.example, behaviors=(word,)), label_age_s={word: 1.0})
        odd = replace(facts, arm=word, survivors={word: [dict(SURVIVORS["reddit"][0], filter=word)]})
        publish([sample], folder, name=word, facts=replace(odd, left_out={word: 1}))
        return (folder / "README.md").read_text(encoding="utf-8")

    hostile, plain = card_of(text, tmp_path / "hostile"), card_of("plain", tmp_path / "plain")
    lines = hostile.splitlines()
    body, plain_body = hostile.split("\n---\n", 1)[1], plain.split("\n---\n", 1)[1]
    shape, shown = rendered(body)
    assert (shape, len(body.splitlines())) == (rendered(plain_body)[0], len(plain_body.splitlines()))
    visible = "".join(letter for letter in " ".join(text.split()) if letter not in "\u202a\u202e\x00\x1b")
    assert shown.count(visible[:120]) >= 6
    for part in ("https://evil", "www.evil", "<script", "<img", "\u202a", "\x1b", "\x00"):
        assert part not in body
    assert max(len(line) for line in lines) < 2000
    matter = yaml.safe_load(hostile.split("\n---\n", 1)[0].removeprefix("---\n"))
    assert matter["license"] == "other"
    row = rows_of(tmp_path / "hostile", "train")[0]
    assert (row["license"], row["title"], row["channel"], row["comments"][0]["text"]) == (text,) * 4


def test_licenses_without_number_are_told_in_few_lines(
    facts: CardFacts, files: dict[str, Path], tmp_path: Path
) -> None:
    many = [picture(files["a.jpg"], number, licence=f"my own {number}") for number in range(1200)]
    publish(many, tmp_path, name="x", facts=facts, media="none")
    rows = cells((tmp_path / "README.md").read_text(encoding="utf-8"), "Licenses")
    assert len(rows) == 22
    assert sum(int(row[1]) for row in rows) == 1200
    assert rows[-2][1] == "1180"


def test_importing_the_package_loads_no_datasets() -> None:
    code = "import sys, behavior_llava; sys.exit(bool({'datasets', 'torch'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = (
        "import sys, behavior_llava.data.publishing; sys.exit(bool({'datasets', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
