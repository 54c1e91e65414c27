"""Photos that were liked and voted on: the source and the task share their halves, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Fault, Post
from behavior_llava.data.sources import sophoappeal
from behavior_llava.data.sources.sophoappeal import Config, half, rows_of
from behavior_llava.evaluation.tasks import avt_ai_images, photo_appeal

HEAD = "image,source,likes,views,crowd_mos\n"


def listed(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "behaviour.csv").write_text(text, encoding="utf-8")
    return folder


def photos(folder: Path, *, count: int = 24) -> Path:
    """As many photos, by turns of two platforms; every fourth without votes."""
    rows = [
        f"images/{number:02d}.jpg,{('a', 'b')[number % 2]},{number},{100 + number},"
        f"{'' if number % 4 == 3 else 1 + number / 10}\n"
        for number in range(count)
    ]
    folder = listed(folder, HEAD + "".join(rows))
    (folder / "images").mkdir()
    for number in range(count):
        (folder / "images" / f"{number:02d}.jpg").write_bytes(b"x")
    return folder


def posts(folder: Path, split: int | None) -> list[Post | Fault]:
    config = Config(path=folder, split=split)
    (part,) = sophoappeal.parts(config, folder)
    return list(sophoappeal.read(config, part))


def test_no_photo_is_learned_from_and_asked_about(tmp_path: Path) -> None:
    folder = photos(tmp_path / "p")
    seen = set()
    for split in (1, 2, 20):
        learned = {Path(str(post.media_path)).stem for post in posts(folder, split) if isinstance(post, Post)}
        tested = {sample.id for sample in photo_appeal.load(folder, f"test_{split}")}
        trained = {sample.id for sample in photo_appeal.load(folder, f"train_{split}")}
        assert len(learned) == 12
        assert len(tested) + len(trained) == 18
        assert not tested & trained
        assert not learned & {id.partition(":")[2] for id in tested}
        assert {id.partition(":")[2] for id in trained} <= learned
        seen.add(frozenset(learned))
    assert len(seen) == 3
    assert len(posts(folder, None)) == 24


def test_halves_are_of_every_platform_and_of_nothing_random(tmp_path: Path) -> None:
    rows = rows_of(photos(tmp_path / "p"))
    train, test = (half(rows, 7, of=of) for of in ("train", "test"))
    assert sorted(row["source"] for row in train) == ["a"] * 6 + ["b"] * 6
    assert sorted(row["image"] for row in [*train, *test]) == sorted(row["image"] for row in rows)
    assert half(list(reversed(rows)), 7, of="test") == list(reversed(test))


def test_a_vote_is_never_part_of_a_post(tmp_path: Path) -> None:
    folder = listed(tmp_path / "p", f"{HEAD}images/a.jpg,x,5,9,4.4321\n")
    (post,) = posts(folder, None)
    assert isinstance(post, Post)
    assert (post.num_likes, post.num_views, post.channel, post.media_path) == (5, 9, "x", None)
    assert "4.43" not in repr(post)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("../a.jpg,x,1,2,3", "media_outside"),
        ("/etc/a.jpg,x,1,2,3", "media_outside"),
        ("a.jpg,,1,2,3", "id_missing"),
        ("a.exe,x,1,2,3", "not_media"),
        ("a.jpg,x,-4,2,3", "not_a_number"),
        ("a.jpg,x,1e999,2,3", "not_a_number"),
    ],
)
def test_hostile_rows_are_faults(row: str, reason: str, tmp_path: Path) -> None:
    (found,) = posts(listed(tmp_path / "p", f"{HEAD}{row}\n"), None)
    assert isinstance(found, Fault)
    assert (found.reason, found.where) == (reason, "behaviour.csv, photo 1")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,likes\na.jpg,1\n", "has no column crowd_mos, source, views"),
        (f"{HEAD}a.jpg,x,1,2,3\na.jpg,y,1,2,3\n", "'a.jpg' is listed twice"),
        ("", "has no column"),
    ],
)
def test_lists_that_are_none_are_refused(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        posts(listed(tmp_path / "p", text), None)
    with pytest.raises(UserError, match="no such list"):
        posts(tmp_path / "absent", None)


@pytest.mark.parametrize("vote", ["0.5", "5.1", "nan", "many"])
def test_votes_off_the_scale_are_refused(vote: str, tmp_path: Path) -> None:
    folder = listed(tmp_path / "p", f"{HEAD}i/a.jpg,x,1,2,{vote}\ni/b.jpg,x,1,2,{vote}\n")
    with pytest.raises(UserError, match="expected a mean vote from 1 to 5"):
        photo_appeal.load(folder, "test_1")


def test_the_real_list(shared: Path) -> None:
    folder = shared / "behaviour" / "data" / "images_sophoappeal_tiles"
    found = posts(folder, None)
    assert len(found) == 357
    assert all(isinstance(post, Post) and post.media_path for post in found)
    for split in range(1, 21):
        voted = [photo_appeal.load(folder, f"{part}_{split}") for part in ("train", "test")]
        assert list(map(len, voted)) == [164, 164]
    by_platform = [sample.id.partition(":")[0] for part in voted for sample in part]
    assert sorted((by_platform.count(name), name) for name in set(by_platform)) == [
        (138, "500px_cc0"),
        (190, "pixabay_first50k"),
    ]


def generated(folder: Path, rows: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "all_ratings.csv").write_text(f"image_key,db,appeal_mean\n{rows}", encoding="utf-8")
    return folder


def test_generated_pictures_are_known_by_their_generator(tmp_path: Path) -> None:
    folder = generated(tmp_path / "p", "a/p.1,a,1.5\nown/p.1,own,4\nb/p.1,b,5\n")  # nobody generated "own"
    (folder / "images" / "a").mkdir(parents=True)
    (folder / "images" / "a" / "p.1.png").write_bytes(b"x")
    (folder / "images" / "a" / "p.jpg").write_bytes(b"x")  # of another key
    first, second = avt_ai_images.load(folder, "all")
    assert (first.id, first.label, second.id, second.label) == ("a:p.1", 1.5, "b:p.1", 5.0)
    assert (first.media_path, second.media_path) == (str(folder / "images" / "a" / "p.1.png"), None)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a/p01,a,5.5", "found appeal_mean '5.5'"),
        ("a/p01,a,", "found appeal_mean ''"),
        ("p01,a,3", "'p01' is no path of 2 parts"),
        ("../../p01,a,3", "p01"),
        ("a/p01,a,3\na/p01,a,3", "'a:p01' is listed twice"),
    ],
)
def test_generated_pictures_off_the_list_are_refused(row: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        avt_ai_images.load(generated(tmp_path / "p", f"{row}\n"), "all")


def test_the_real_generated_pictures(shared: Path) -> None:
    found = avt_ai_images.load(shared / "behaviour" / "data" / "images_avt_ai", "all")
    assert len(found) == 135
    assert [sample.id for sample in found if sample.media_path is None] == ["midjourney:p25"]
    assert sorted({sample.id.partition(":")[0] for sample in found}) == [
        *("craiyon", "dall-e", "glide", "midjourney", "stable_diffusion")
    ]
