"""Planted copies of test media are found, near misses are not, and what cannot be compared is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from behavior_llava.core.media import sha256, spread_frames
from behavior_llava.core.schema import Example, Media, Sample
from behavior_llava.data.viewing import Viewer
from behavior_llava.evaluation import benchmarks, contamination
from behavior_llava.evaluation.contamination import check, needed_views
from behavior_llava.evaluation.evaluator import Prepared, Question

REVIEW = (
    "I went in expecting nothing and came out humming; the second act drags, but its last ten minutes are "
    "worth the price of a ticket and of the popcorn too."
)


def scene(seed: int, size=(320, 240)) -> Image.Image:
    """A picture of a fixed composition, a sky over a ground, with its own shapes."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    sky = np.stack([110 + 60 * y / height, 150 + 60 * y / height, 230 - 40 * y / height], -1)
    pixels = np.where((y > 0.65 * height)[..., None], np.array([80, 120, 60]), sky)
    for _ in range(9):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.06, 0.2) * width
        color = rng.integers(0, 256, 3)
        shape = (
            (x - cx) ** 2 + (y - cy) ** 2 < r**2
            if rng.random() < 0.5
            else (abs(x - cx) < r) & (abs(y - cy) < r / 2)
        )
        pixels = np.where(shape[..., None], color, pixels)
    return Image.fromarray(pixels.astype(np.uint8))


def film(path: Path, pictures: list[Image.Image], seconds_each=2, rate=8, bit_rate=None) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        for picture in pictures:
            for _ in range(seconds_each * rate):
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


def saved(picture: Image.Image, path: Path, **how) -> Path:
    picture.save(path, **how)
    return path


def shown(path: Path) -> Media:
    return Media(str(path), "video" if path.suffix == ".mp4" else "image", sha256(path))


def prepared(name: str, items: dict[str, Path | str]) -> Prepared:
    """A task whose samples show a file or have a text; `name` says what it is asked like."""
    task = benchmarks.all_tasks()[name]
    questions = []
    for sample_id, item in items.items():
        media = shown(item) if isinstance(item, Path) else None
        prompt = task.question if media is not None else f"{item}\n\n{task.question}"
        example = Example(f"{name}:{sample_id}", prompt, task.labels[0], media)
        questions.append(Question(Sample(id=sample_id, label=task.labels[0]), sample_id, example, None))
    return Prepared(task, tuple(questions), len(questions), {}, {})


def row(name: str, item: Path | str) -> tuple[str, Example]:
    if isinstance(item, Path):
        return "data", Example(name, "What do viewers say?", "Nice.", shown(item))
    return "data", Example(name, "What do viewers say?", item)


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Viewer:
    """One for all tests: what it remembers goes by the media's hash."""
    folder = tmp_path_factory.mktemp("viewer")
    return Viewer(folder / "seen", folder / "frames", processes=1)


def found(viewer: Viewer, tests, rows):
    result = check(tests, lambda: iter(rows), viewer)
    return result.hits.to_pylist(), result.facts


def test_copies_of_pictures_are_found_and_like_ones_are_not(viewer: Viewer, tmp_path: Path) -> None:
    width, height = 320, 240
    changed = {
        "q40": lambda one: one,
        "half": lambda one: one.resize((width // 2, height // 2)),
        "cut": lambda one: one.crop((8, 6, width - 8, height - 6)).resize((300, 225)),
        "cut_left": lambda one: one.crop((16, 0, width, height)),
        "mirrored": ImageOps.mirror,
    }
    tests, rows = {}, []
    for number, (name, change) in enumerate(changed.items()):
        for copy in range(3):
            seed = 10 * number + copy
            tests[f"{name}{copy}"] = saved(scene(seed), tmp_path / f"test{seed}.png")
            file = saved(change(scene(seed)), tmp_path / f"train{seed}.jpg", quality=40)
            rows.append(row(f"row {name}{copy}", file))
    # near misses: other pictures of the same composition, and a test sample nobody copied
    rows += [row(f"other{seed}", saved(scene(seed), tmp_path / f"o{seed}.jpg")) for seed in range(500, 540)]
    tests["nobody"] = saved(scene(999), tmp_path / "nobody.png")
    hits, facts = found(viewer, [prepared("emoset", tests)], rows)
    assert {hit["sample_id"]: hit["row"] for hit in hits} == {
        name: f"row {name}" for name in tests if name != "nobody"
    }
    assert {hit["kind"] for hit in hits} == {"picture"}
    assert {hit["sample_id"][:-1] for hit in hits if hit["is_mirrored"]} == {"mirrored"}
    assert all(hit["trained_in"] == ["data"] and hit["similarity"] >= 0.8 for hit in hits)
    assert facts["tasks"] == {"emoset": {"samples": 16, "hits": 15}}
    assert (facts["media"], facts["training_media"], facts["training_rows"]) == (16, 55, 55)


def test_the_benchmark_may_be_the_cut_copy(viewer: Viewer, tmp_path: Path) -> None:
    cut = scene(3).crop((8, 6, 312, 234))
    tests = {"a": saved(cut, tmp_path / "a.jpg", quality=60)}
    hits, _ = found(viewer, [prepared("emoset", tests)], [row("r", saved(scene(3), tmp_path / "b.png"))])
    assert [(hit["sample_id"], hit["row"], hit["kind"]) for hit in hits] == [("a", "r", "picture")]


def test_plain_pictures_are_no_evidence_but_equal_bytes_are(viewer: Viewer, tmp_path: Path) -> None:
    colors = {"blue": (30, 60, 200), "grey": (90, 90, 90), "black": (0, 0, 0)}
    tests = {
        name: saved(Image.new("RGB", (90, 80), rgb), tmp_path / f"{name}.png") for name, rgb in colors.items()
    }
    gradient = Image.linear_gradient("L").resize((200, 200)).convert("RGB")
    tests["gradient"] = saved(gradient, tmp_path / "gradient.png")
    rows = [
        row("same color", saved(Image.new("RGB", (64, 64), colors["blue"]), tmp_path / "x.jpg", quality=30)),
        row("same gradient", saved(gradient.resize((150, 150)), tmp_path / "y.jpg", quality=30)),
        row("same file", tests["grey"]),
    ]
    hits, facts = found(viewer, [prepared("emoset", tests)], rows)
    assert [(hit["sample_id"], hit["row"], hit["kind"]) for hit in hits] == [("grey", "same file", "bytes")]
    assert hits[0]["distance"] is None
    assert facts["plain"] == {"benchmark": 4, "training": 3}


def test_a_frame_of_a_training_video_is_found(viewer: Viewer, tmp_path: Path) -> None:
    clip = film(tmp_path / "clip.mp4", [scene(1), scene(2), scene(3)])
    frames = [frame for _, frame in spread_frames(clip, step_s=0.7, most=9)]
    tests = {
        "frame": saved(frames[4].resize((200, 150)), tmp_path / "frame.jpg", quality=50),
        "other": saved(scene(4), tmp_path / "other.jpg"),
    }
    hits, _ = found(viewer, [prepared("emoset", tests)], [row("film", clip)])
    assert [(hit["sample_id"], hit["row"], hit["kind"]) for hit in hits] == [("frame", "film", "frame")]


def test_videos_share_more_than_a_title(viewer: Viewer, tmp_path: Path) -> None:
    title, black = scene(100), Image.new("RGB", (320, 240))
    own = [scene(seed) for seed in range(101, 106)]
    tests = {
        "copied": film(tmp_path / "copied.mp4", [title, black, *own]),
        "alone": film(tmp_path / "alone.mp4", [title, black, *map(scene, range(201, 206))]),
        "still": film(tmp_path / "still.mp4", [scene(301)]),
    }
    recoded = film(
        tmp_path / "recoded.mp4", [one.resize((160, 120)) for one in [title, black, *own]], bit_rate=90_000
    )
    titled = film(tmp_path / "titled.mp4", [title, black, *map(scene, range(401, 404))])
    still = film(tmp_path / "still_copy.mp4", [scene(301).resize((160, 120))], seconds_each=3)
    rows = [row("titled", titled), row("recoded", recoded), row("still", still)]
    rows.append(row("title picture", saved(title, tmp_path / "title.jpg")))
    hits, _ = found(viewer, [prepared("ekman6", tests)], rows)
    assert [(hit["sample_id"], hit["row"], hit["kind"]) for hit in hits] == [
        ("copied", "recoded", "video"),
        ("still", "still", "video"),
    ]


@pytest.mark.parametrize(("views", "needed"), [(1, 1), (2, 2), (7, 2), (8, 2), (9, 3), (60, 15)])
def test_views_needed(views: int, needed: int) -> None:
    assert needed_views(views) == needed


def test_unreadable_media_are_counted(viewer: Viewer, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no picture")
    # pictures of this test alone: what is known of a medium is not looked up again
    gone, changed = saved(scene(71), tmp_path / "gone.png"), saved(scene(72), tmp_path / "changed.png")
    tests = [prepared("emoset", {"a": broken, "b": saved(scene(73), tmp_path / "b.png")})]
    rows = [row("gone", gone), row("changed", changed)]
    gone.unlink()
    scene(74).save(changed)
    hits, facts = found(viewer, tests, rows)
    assert hits == []
    assert facts["unreadable"] == {
        "benchmark": {"image_broken": 1},
        "training": {"media_changed": 1, "media_missing": 1},
    }


def test_texts_and_rows_of_every_data_set(viewer: Viewer, tmp_path: Path) -> None:
    picture = saved(scene(5), tmp_path / "p.png")
    tests = [prepared("imdb", {"copied": REVIEW, "own": "Nobody wrote these words but me, I am quite sure."})]
    tests.append(prepared("emoset", {"p": picture}))
    talk = Example("talk", "And now?", "Bye.", earlier=(("Read!", f"1. {REVIEW.upper()}"),))
    name, same = row("later", picture)
    rows = [("base", talk), ("behavior seed 1", talk), (name, same), ("other", replace(same, id="earlier"))]
    # the question of a task is in every training row too, and is no hit
    rows += [("base", replace(talk, id=one.task.name, prompt=one.task.question, earlier=())) for one in tests]
    hits, facts = found(viewer, tests, rows)
    assert [(hit["task"], hit["sample_id"], hit["row"], hit["trained_in"]) for hit in hits] == [
        ("emoset", "p", "earlier", ["data", "other"]),
        ("imdb", "copied", "talk", ["base", "behavior seed 1"]),
    ]
    assert facts["texts"] == 2


def test_empty_sides(viewer: Viewer, tmp_path: Path) -> None:
    picture = saved(scene(6), tmp_path / "p.png")
    for tests, rows in (
        ([], [row("r", picture)]),
        ([prepared("emoset", {"p": picture})], []),
        ([prepared("emoset", {})], [row("r", picture)]),
        # a benchmark of texts alone opens no training media
        (
            [prepared("imdb", {"a": REVIEW})],
            [("data", Example("r", "q", "a", Media("/gone", "image", "ab" * 32)))],
        ),
    ):
        hits, facts = found(viewer, tests, rows)
        assert hits == []
        assert facts["unreadable"] == {"benchmark": {}, "training": {}}


def test_order_changes_nothing(viewer: Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contamination, "CHUNK", 3)
    monkeypatch.setattr(contamination, "MAX_CANDIDATES", 2)
    tests = {f"t{seed}": saved(scene(seed), tmp_path / f"t{seed}.png") for seed in range(4)}
    rows = [
        row(f"r{seed}-{quality}", saved(scene(seed), tmp_path / f"r{seed}-{quality}.jpg", quality=quality))
        for seed in range(6)
        for quality in (20, 50, 80)
    ]
    first = check([prepared("emoset", tests)], lambda: iter(rows), viewer)
    turned = dict(reversed(tests.items()))
    again = check([prepared("emoset", turned)], lambda: iter(rows[::-1]), viewer)
    assert first.hits.to_pylist() == again.hits.to_pylist()
    assert first.facts == again.facts
    assert first.hits.num_rows == 4
