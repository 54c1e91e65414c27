"""The sandbox's files: real formats that the real readers take, the same bytes every time, dirt at its
rates."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import zstandard

from behavior_llava.core import media
from behavior_llava.core.schema import Fault, Post
from behavior_llava.data import instruction, json_lines, reading, scenes
from behavior_llava.data.sources import reddit, sandbox, youtube
from behavior_llava.data.world import words, writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.evaluation import benchmarks

Reader = Callable[..., tuple[list[Post], list[Fault]]]

MADE = ("emoset", "ekman6", "lvu_scene", "lamem", "imdb")
"""The tasks whose benchmarks the sandbox writes."""


def bytes_of(folder: Path) -> dict[str, str]:
    """Path -> hash of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): media.sha256(path) for path in files}


@pytest.fixture(scope="module")
def posts(world: Path, world_config: sandbox.Config, read_source: Reader) -> list[Post]:
    found, faults = read_source(sandbox.SOURCE, world_config, world)
    assert faults == []
    return found


# ---- formats -----------------------------------------------------------------------------------------------


def test_every_post_comes_back_and_is_marked_synthetic(
    posts: list[Post], world: Path, world_config: sandbox.Config
) -> None:
    counts = Counter(post.source for post in posts)
    assert counts == {
        "reddit": world_config.images,
        "youtube": world_config.videos,
        "table": world_config.page_posts,
    }
    assert all(post.is_synthetic for post in posts)
    assert {post.licence for post in posts} == {"synthetic, CC0"}
    assert len({post.id for post in posts}) == len(posts)
    assert set(json.loads((world / "truth.json").read_text())) == {post.id for post in posts}


def test_posts_have_the_behavior_of_their_platform(posts: list[Post]) -> None:
    by_source = {name: [post for post in posts if post.source == name] for name in ("reddit", "youtube")}
    for post in by_source["reddit"]:
        assert post.media_kind == "image"
        assert None not in (post.score, post.upvote_ratio)
        assert len(post.comments) >= 2
    for post in by_source["youtube"]:
        assert post.media_kind == "video"
        assert post.num_views is not None
        assert post.num_likes is None or post.num_likes <= post.num_views
        assert post.replay is None or len(post.replay.values) == 100
        assert post.transcript
        assert "Kind:" not in post.transcript
    assert any(post.replay is None for post in by_source["youtube"]) or len(by_source["youtube"]) < 100
    for post in posts:
        if post.source == "table":
            assert set(post.reactions or ()) == {"love", "wow", "haha", "sad", "angry"}
            assert post.shares is not None


def test_the_plain_sources_read_the_same_files(world: Path, tmp_path: Path, read_source: Reader) -> None:
    folder = world / "reddit"
    found, faults = read_source(reddit.SOURCE, reddit.Config(path=folder, media=folder / "media"), tmp_path)
    assert (len(found), faults) == (400, [])
    assert not any(post.is_synthetic for post in found)
    films, faults = read_source(youtube.SOURCE, youtube.Config(path=world / "youtube"), tmp_path)
    assert (len(films), faults) == (24, [])
    # the owner's exports beside the downloads are read with them
    assert all(post.retention is not None and post.shares for post in films)


def test_a_piece_tells_how_many_records_would_be_lost_with_it(
    world: Path, world_config: sandbox.Config
) -> None:
    dumps = (world / "reddit").glob("*.zst")
    lines = sum(1 for path in dumps for _ in json_lines.lines(path))
    assert lines > 2 * world_config.images
    parts = sandbox.SOURCE.parts(world_config, world)
    pieces = [piece for part in parts for piece in sandbox.pieces(world_config, part)]
    told = sum(reading._num_records(piece) for piece in pieces)
    assert told == lines + world_config.videos + world_config.page_posts


@pytest.mark.parametrize("name", ["RS_2020-06.zst", "RC_2020-06.zst"])
def test_dumps_need_the_window_of_the_real_ones(world: Path, name: str) -> None:
    path = world / "reddit" / name
    with path.open("rb") as file, pytest.raises(zstandard.ZstdError, match=r"memory|window"):
        zstandard.ZstdDecompressor().stream_reader(file).read(100)
    frame = zstandard.get_frame_parameters(path.read_bytes()[:18])
    assert frame.window_size == 2**31
    assert frame.content_size in (0, zstandard.CONTENTSIZE_UNKNOWN)
    records = [json.loads(raw or b"") for _, raw in json_lines.lines(path)]
    assert len(records) >= 400
    assert all("id" in record for record in records)


@pytest.mark.parametrize("name", MADE)
def test_benchmarks_are_in_their_official_layouts(world: Path, name: str) -> None:
    task = benchmarks.all_tasks()[name]
    counted = benchmarks.check(task, world / "benchmarks" / benchmarks.folder_name(task))
    assert counted["absent"] == []
    for split in (task.train_split, task.test_split):
        facts = counted["splits"][split]
        assert facts["rows"] == 24
        assert facts["media_missing"] in (0, None)
        if task.labels and name != "lvu_scene":
            assert min(facts["labels"].values()) >= 24 // len(task.labels)


def test_no_other_benchmark_is_made(world: Path) -> None:
    made = {path.name for path in (world / "benchmarks").iterdir()}
    assert {benchmarks.folder_name(benchmarks.all_tasks()[name]) for name in MADE} == made


def test_instruction_data_is_llava_json(world: Path) -> None:
    rows = instruction.read(world / "instruction" / "instruction.json")
    kinds = Counter(None if row.media is None else row.media.kind for row in rows)
    assert kinds == {"image": 2 * 24, "video": 2 * 4, None: 40}
    assert len({row.id for row in rows}) == len(rows)


def test_films_are_h264_and_aac_with_visible_cuts(world: Path) -> None:
    films = sorted((world / "instruction" / "videos").glob("*.mp4"))
    films += sorted((world / "benchmarks" / "lvu" / "videos").glob("*.mp4"))[:4]
    assert len(films) == 8
    for path in films:
        with av.open(str(path)) as container:
            assert [stream.codec_context.name for stream in container.streams.video] == ["h264"]
            assert [stream.codec_context.name for stream in container.streams.audio] == ["aac"]
            pictures = [
                frame.to_ndarray(format="rgb24").astype(np.float32) for frame in container.decode(video=0)
            ]
        with av.open(str(path)) as container:
            heard = sum(frame.samples for frame in container.decode(audio=0))
        seconds = len(pictures) / writers.FPS
        assert 3.0 <= seconds <= 4.5
        assert heard / writers.AUDIO_RATE == pytest.approx(seconds, abs=0.4)
        changes = np.array([np.abs(one - other).mean() for one, other in itertools.pairwise(pictures)])
        cuts = sorted(np.argsort(changes)[-2:] + 1)
        assert np.sort(changes)[-2] > 1.5 * np.sort(changes)[-3]
        assert cuts[0] / writers.FPS in writers.SHOT_S
        looked = scenes.look(str(path), "video", 3, "cuts")
        assert [round(scene.start_s * writers.FPS) for scene in looked.scenes] == [0, *cuts]


# ---- the same bytes ----------------------------------------------------------------------------------------

TINY = sandbox.Config(
    seed=5,
    images=60,
    videos=6,
    page_posts=3,
    instruction_images=4,
    instruction_videos=1,
    instruction_texts=5,
    benchmark_train=16,
    benchmark_test=16,
)
BROKEN_TINY = {"corrupt": 0.3, "repost": 0.3, "missing": 0.2}
"""With these rates a small world has reposts of corrupt originals, and reposts drawn after missing ones."""


@pytest.fixture
def much_dirt(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, rate in BROKEN_TINY.items():
        monkeypatch.setitem(sandbox.RATES, name, rate)


@pytest.fixture(scope="module")
def dirty_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dirty") / "0"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, rate in BROKEN_TINY.items():
            patch.setitem(sandbox.RATES, name, rate)
        sandbox.fetch(TINY, folder)
    return folder


@pytest.mark.usefixtures("much_dirt")
def test_two_fetches_give_the_same_bytes(dirty_world: Path, tmp_path: Path) -> None:
    sandbox.fetch(TINY.model_copy(update={"processes": 1}), tmp_path)
    first, second = bytes_of(dirty_world), bytes_of(tmp_path)
    assert first == second
    assert Counter(Path(name).suffix for name in first) >= Counter({".jpg": 100, ".mp4": 60, ".zst": 2})
    assert not any(name.endswith(".part") for name in first)


@pytest.mark.usefixtures("much_dirt")
def test_a_second_fetch_into_a_finished_world_changes_nothing(dirty_world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "0"
    shutil.copytree(dirty_world, folder)
    sandbox.fetch(TINY, folder)
    assert bytes_of(folder) == bytes_of(dirty_world)


@pytest.mark.usefixtures("much_dirt")
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_a_fetch_into_a_part_of_a_world_completes_it(dirty_world: Path, tmp_path: Path, kept: float) -> None:
    """Whatever part of the files a killed fetch left: originals without their reposts, reposts without
    originals."""
    folder = tmp_path / "0"
    shutil.copytree(dirty_world, folder)
    rng = np.random.default_rng(0)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if rng.random() >= kept:
            path.unlink()
    (folder / "reddit" / "media" / "x.12345.part").write_bytes(b"\xff\xd8 half a picture")
    sandbox.fetch(TINY, folder)
    assert bytes_of(folder) == bytes_of(dirty_world)


def test_reposts_of_corrupt_originals_are_whole(dirty_world: Path) -> None:
    files = sorted((dirty_world / "reddit" / "media").glob("*.jpg"))
    hashes = {}
    for path in files:
        if path.stat().st_size > writers.CORRUPT_BYTES:
            hashes[path.name] = media.measure(path, "image").dhash
        else:
            with pytest.raises(media.MediaFault, match="image_broken"):
                media.measure(path, "image")
    assert len(files) - len(hashes) >= 5
    assert len(hashes) >= 20


@pytest.mark.slow
def test_a_killed_fetch_continues_to_the_same_bytes(
    world: Path, world_config: sandbox.Config, tmp_path: Path
) -> None:
    folder = tmp_path / "0"
    folder.mkdir()
    code = (
        "import sys; from pathlib import Path; from behavior_llava.data.sources import sandbox\n"
        "if __name__ == '__main__':\n"
        "    sandbox.fetch(sandbox.Config.model_validate_json(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    script = tmp_path / "fetch.py"
    script.write_text(code)
    started = [sys.executable, str(script), world_config.model_dump_json(), str(folder)]
    for suffix in ("*.jpg", "*.mp4"):
        before = len(list(folder.rglob(suffix)))
        running = subprocess.Popen(started, start_new_session=True, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while len(list(folder.rglob(suffix))) < before + 5 and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        assert running.returncode == -signal.SIGKILL
    assert not (folder / "truth.json").exists()
    sandbox.fetch(world_config, folder)
    assert bytes_of(folder) == bytes_of(world)


def test_another_seed_is_another_world(dirty_world: Path, tmp_path: Path) -> None:
    small = {"images": 5, "videos": 0, "page_posts": 0, "instruction_images": 1, "instruction_videos": 0}
    sandbox.fetch(TINY.model_copy(update={**small, "seed": 6}), tmp_path)
    first, second = bytes_of(dirty_world), bytes_of(tmp_path)
    shared = {name for name in set(first) & set(second) if first[name] == second[name]}
    assert {Path(name).suffix for name in shared} <= {".txt", ".json"}


def test_a_world_without_posts_has_the_rest(tmp_path: Path) -> None:
    config = TINY.model_copy(update={"images": 0, "videos": 0, "page_posts": 0})
    sandbox.fetch(config, tmp_path)
    assert list(reading.all_items(sandbox.SOURCE, config, tmp_path)) == []
    assert instruction.read(tmp_path / "instruction" / "instruction.json")
    assert benchmarks.check(benchmarks.all_tasks()["emoset"], tmp_path / "benchmarks" / "emoset")


# ---- what people saw and knew again ------------------------------------------------------------------------

PERCEIVED = TINY.model_copy(update={"saliency_images": 12, "memory_images": 9})


@pytest.fixture(scope="module")
def perceived_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("perceived") / "0"
    folder.mkdir()
    sandbox.fetch(PERCEIVED, folder)
    return folder


def test_looking_and_memory_come_back_through_their_own_sources(
    perceived_world: Path, read_source: Reader
) -> None:
    posts, faults = read_source(sandbox.SOURCE, PERCEIVED, perceived_world)
    assert faults == []
    counts = Counter(post.source for post in posts)
    assert counts == {"reddit": 60, "youtube": 6, "table": 3, "salicon": 12, "memorability": 9}
    assert all(post.is_synthetic for post in posts)
    assert {post.licence for post in posts} == {"synthetic, CC0"}
    truth = json.loads((perceived_world / "truth.json").read_text())
    assert set(truth) == {post.id for post in posts}
    for post in posts:
        if post.source in ("salicon", "memorability"):
            assert post.media_path is not None
            assert media.measure(Path(post.media_path), "image").width == 128
        if post.source == "salicon":
            assert sum(post.saliency_tiles or ()) == pytest.approx(1)
            assert {"figure"} < set(post.saliency_objects or ())
        if post.source == "memorability":
            assert (post.recall is not None, post.recall_delay_s) == (True, sandbox.RECALL_DELAY_S)


def test_they_change_no_other_file(perceived_world: Path, tmp_path: Path) -> None:
    sandbox.fetch(TINY, tmp_path)
    without, found = bytes_of(tmp_path), bytes_of(perceived_world)
    added = {name for name in found if name.startswith(("perceptual/", "memory/"))}
    assert set(found) == set(without) | added
    assert {name for name in without if without[name] != found[name]} == {"truth.json"}
    assert len(added) == 12 + 2 + 9 + 1
    facts, more = (json.loads((place / "truth.json").read_text()) for place in (tmp_path, perceived_world))
    assert facts.items() <= more.items()


def test_they_are_the_same_every_time(perceived_world: Path, tmp_path: Path) -> None:
    canvas = Canvas(PERCEIVED.seed)
    sandbox._write_perceptual(PERCEIVED, tmp_path / "perceptual", canvas, {})
    sandbox._write_memory(PERCEIVED, tmp_path / "memory", canvas, {})
    first, second = bytes_of(perceived_world), bytes_of(tmp_path)
    lists = {
        "perceptual/" + sandbox.FIXATIONS,
        "perceptual/" + sandbox.INSTANCES,
        "memory/splits/train_1.txt",
    }
    assert set(second) == lists
    assert {name: first[name] for name in lists} == second
    assert len(canvas.images) == 21


def test_observers_differ_and_stay_within_the_picture(perceived_world: Path) -> None:
    document = json.loads((perceived_world / "perceptual" / sandbox.FIXATIONS).read_text())
    assert document["type"] == "fixations"
    paths = [tuple(map(tuple, annotation["fixations"])) for annotation in document["annotations"]]
    assert len(paths) == len(set(paths)) == 12 * 60
    points = np.array([point for path in paths for point in path])
    assert (points.min(), points.max()) == (1, 128)


# ---- dirt --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[dict], dict[str, list[dict]], Canvas]:
    """Submissions, comments by post, and what would be drawn, of a world large enough to count rare things
    in."""
    folder = tmp_path_factory.mktemp("many")
    config = sandbox.Config(images=6000, videos=0, page_posts=0)
    canvas = Canvas(config.seed)
    sandbox._write_reddit(config, folder, canvas, {})
    submissions = [json.loads(raw or b"") for _, raw in json_lines.lines(folder / "RS_2020-06.zst")]
    comments: dict[str, list[dict]] = {}
    for _, raw in json_lines.lines(folder / "RC_2020-06.zst"):
        record = json.loads(raw or b"")
        comments.setdefault(record["link_id"].removeprefix("t3_"), []).append(record)
    return submissions, comments, canvas


def test_dirt_has_its_rates(many: tuple[list[dict], dict[str, list[dict]], Canvas]) -> None:
    submissions, comments, canvas = many
    total = len(submissions)
    drawn = {Path(path).stem for path, *_ in canvas.images}
    reposts = {Path(path).stem for path, *_ in canvas.near_copies}
    bodies = {post: [record["body"] for record in own] for post, own in comments.items()}
    found = {
        "deleted": sum(record["removed_by_category"] == "deleted" for record in submissions),
        "nsfw": sum(record["over_18"] for record in submissions),
        "bot_post": sum(record["author"] == "AutoModerator" for record in submissions),
        "repost": len(reposts),
        "missing": total - len(drawn | reposts),
        "corrupt": sum(is_corrupt for *_, is_corrupt in canvas.images),
        "bot_comment": sum(words.BOT in texts for texts in bodies.values()),
        "deleted_comment": sum("[deleted]" in texts for texts in bodies.values()),
        "repeated_comment": sum(f"{texts[0]}!" in texts for texts in bodies.values()),
        "foreign_comment": sum(any(text in words.FOREIGN for text in texts) for texts in bodies.values()),
        "spam_comment": sum(any(text in words.SPAM for text in texts) for texts in bodies.values()),
    }
    assert set(found) == set(sandbox.RATES)
    for name, count in found.items():
        rate = sandbox.RATES[name]
        # four standard deviations: one in ten thousand worlds, and the seed is fixed
        assert count / total == pytest.approx(rate, abs=4 * (rate * (1 - rate) / total) ** 0.5), name


def test_dirt_says_nothing_of_the_content(
    many: tuple[list[dict], dict[str, list[dict]], Canvas],
) -> None:
    _, _, canvas = many
    contents = Counter(content.emotion for _, content, _, is_corrupt in canvas.images if is_corrupt)
    assert max(contents.values()) < 0.4 * sum(contents.values())


def test_channels_and_ages_differ_and_drive_the_counts(posts: list[Post]) -> None:
    scores = {name: [] for name in ("pics", "itookapicture")}
    for post in posts:
        if post.source == "reddit":
            scores[str(post.channel)].append(abs(post.score or 0))
    assert np.median(scores["pics"]) > 5 * np.median(scores["itookapicture"])


def test_reposts_are_near_copies_of_their_originals(
    many: tuple[list[dict], dict[str, list[dict]], Canvas], tmp_path: Path
) -> None:
    _, _, canvas = many
    originals = {seed: content for _, content, seed, _ in canvas.images}
    distances = []
    for number, (_, content, seed) in enumerate(canvas.near_copies[:60]):
        assert originals[seed] == content
        one, other = tmp_path / f"{number}.jpg", tmp_path / f"{number}_repost.jpg"
        writers.save_image(str(one), content, seed)
        writers.save_near_copy(str(other), content, seed)
        assert hashlib.sha256(one.read_bytes()).digest() != hashlib.sha256(other.read_bytes()).digest()
        hashes = [int(media.measure(path, "image").dhash, 16) for path in (one, other)]
        distances.append((hashes[0] ^ hashes[1]).bit_count())
    # what the near-duplicate filter takes for a copy; as in the wild, it does not see every one
    assert np.mean(np.array(distances) <= 4) > 0.8
    assert max(distances) <= 12
