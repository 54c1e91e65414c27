"""Rows whose media cannot be read: left out the same way every time, counted, and never replaced."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import Stage
from behavior_llava.core.media import FrameStore, sha256
from behavior_llava.core.schema import Example, Media
from behavior_llava.core.workers import Workers
from behavior_llava.data import blift, ledger
from behavior_llava.data.viewing import Viewer
from behavior_llava.stages import Run, RunConfig
from behavior_llava.training import readable as module
from behavior_llava.training.readable import LIST, find, listed, mark, readable


def image(folder: Path, name: str, seed: int = 0) -> Media:
    path = folder / name
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return Media(str(path), "image", sha256(path))


def row(number: int, media: Media | None) -> Example:
    return Example(f"row{number}", "what do viewers feel", "joy", media)


def viewer(folder: Path) -> Viewer:
    return Viewer(folder / "seen", folder / "frames", processes=1)


def found(items: Sequence[Media], folder: Path, **settings: Any) -> dict[str, Any]:
    """What `find` tells of rows 0, 1, 2, ... that show the items."""
    shown = ((f"row{number}", item) for number, item in enumerate(items))
    return find(shown, viewer(folder), folder, **{"name": "the test", "max_fault_rate": 1.0, **settings})


def test_every_fault_has_its_reason_and_the_good_are_kept(media: dict[str, Media], tmp_path: Path) -> None:
    good = image(tmp_path, "good.png")
    torn = image(tmp_path, "torn.png", 1)
    Path(torn.path).write_bytes(Path(torn.path).read_bytes()[:500])
    other = image(tmp_path, "other.png", 2)
    image(tmp_path, "other.png", 3)
    gone = Media(str(tmp_path / "gone.jpg"), "image", "ab" * 32)
    clip, beyond = media["clip"], replace(media["clip"], path=str(tmp_path / "no.mp4"), sha256="cd" * 32)
    unhashed = replace(good, sha256="")
    told = found([good, torn, other, gone, clip, beyond, good, torn, unhashed], tmp_path)
    content = told.pop("content")
    assert told == {
        "rows": 9,
        "unreadable": {"image_broken": 2, "media_changed": 1, "media_missing": 2},
    }
    # where they lie does not matter, what they are does
    moved = tmp_path / "moved.png"
    shutil.copy(good.path, moved)
    items = [replace(good, path=str(moved)), torn, other, gone, clip, beyond, good, torn, unhashed]
    assert found(items, tmp_path / "again")["content"] == content
    assert found(items[1:], tmp_path / "again")["content"] != content
    assert found([image(tmp_path, "new.png", 4), *items[1:]], tmp_path / "again")["content"] != content
    assert json.loads((tmp_path / LIST).read_text()) == [
        ["row1", "image", torn.path, "image_broken"],
        ["row2", "image", other.path, "media_changed"],
        ["row3", "image", gone.path, "media_missing"],
        ["row5", "video", beyond.path, "media_missing"],
        ["row7", "image", torn.path, "image_broken"],
    ]
    assert listed(tmp_path) == {
        ("image", torn.path): "image_broken",
        ("image", other.path): "media_changed",
        ("image", gone.path): "media_missing",
        ("video", beyond.path): "media_missing",
    }


def test_what_is_known_costs_no_decoding(
    media: dict[str, Media], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, good = media["clip"], image(tmp_path, "good.png")
    assert found([clip, good], tmp_path)["unreadable"] == {}

    def refuse(*_: object) -> None:
        raise AssertionError("a process is asked")

    with monkeypatch.context() as patch:
        patch.setattr(Workers, "_assign", refuse)
        assert found([clip, good], tmp_path)["unreadable"] == {}
    image(tmp_path, "good.png", 9)
    os.utime(good.path, (1, 1))
    assert found([good], tmp_path)["unreadable"] == {"media_changed": 1}


def test_a_video_whose_frames_are_stored_is_not_needed(media: dict[str, Media], tmp_path: Path) -> None:
    clip = media["clip"]
    FrameStore(tmp_path / "frames").frame_files(clip)
    moved = replace(clip, path=str(tmp_path / "gone.mp4"))
    assert found([moved], tmp_path)["unreadable"] == {}
    # nor is a video without times "stored"
    assert found([replace(moved, times_s=())], tmp_path)["unreadable"] == {"media_missing": 1}


# ---- rows --------------------------------------------------------------------------------------------------


class Lazy(Sequence[Example]):
    """Rows made when they are asked for."""

    def __init__(self, media: Sequence[Media | None]) -> None:
        self._media = media

    def __len__(self) -> int:
        return len(self._media)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        if index >= len(self._media):
            raise IndexError
        return row(index, self._media[index])


ITEMS = [None, *(Media(f"{n}.jpg", "image", f"{n:064d}") for n in range(5))]


@given(
    st.lists(st.sampled_from(ITEMS), max_size=30),
    st.dictionaries(
        st.sampled_from([item for item in ITEMS if item]), st.sampled_from(["image_broken", "x"])
    ),
)
def test_rows_are_those_of_a_naive_filter(media: list[Media | None], faults: dict[Media, str]) -> None:
    unreadable = {(item.kind, item.path): reason for item, reason in faults.items()}
    expected = [row(n, item) for n, item in enumerate(media) if item not in faults]
    if media and not expected:
        with pytest.raises(UserError, match=r"no row of x is left"):
            readable(Lazy(media), unreadable, name="x")
        return
    kept, left_out = readable(Lazy(media), unreadable, name="x")
    assert len(kept) == len(expected)
    assert list(kept) == expected
    assert [kept[number] for number in range(len(kept))] == expected
    if left_out:
        assert list(kept[1:3]) == expected[1:3]
    assert left_out == Counter(faults[item] for item in media if item in faults)


def test_the_same_media_are_left_out_of_every_arm(tmp_path: Path) -> None:
    """Arms say other things about the same media; a row is judged by its own media alone."""
    media = [image(tmp_path, f"{n}.png", n) for n in range(60)]
    Path(media[7].path).unlink()
    found(media, tmp_path)
    image(tmp_path, "7.png", 7)  # it comes back; the arms that follow go by what was written down
    arms = [[row(1000 * arm + n, item) for n, item in enumerate(media)] for arm in range(3)]
    kept = [[one.media for one in readable(rows, listed(tmp_path), name="x")[0]] for rows in arms]
    assert kept[0] == kept[1] == kept[2] == [item for item in media if item != media[7]]
    before = mark(tmp_path)
    found(media, tmp_path)
    assert listed(tmp_path) == {}
    assert mark(tmp_path) != before


@pytest.mark.parametrize(("broken", "is_refused"), [(2, False), (3, True)])
def test_more_faults_than_allowed_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: int, is_refused: bool
) -> None:
    good = image(tmp_path, "good.png")
    paths = [tmp_path / f"torn{number}.png" for number in range(broken)]
    for path in paths:
        path.write_bytes(b"no picture")
    torn = [Media(str(path), "image", "") for path in paths]
    gone = Media(str(tmp_path / "gone.jpg"), "image", "ab" * 32)
    items = [gone] * 12 + torn + [good] * (88 - broken)
    if is_refused:
        with pytest.raises(UserError, match="media of 3 of 100 rows of the test cannot be read") as caught:
            found(items, tmp_path, max_fault_rate=0.02)
        assert "image_broken 3, media_missing 12" in str(caught.value)
        assert "row12, row13, row14" in str(caught.value)
        assert not (tmp_path / LIST).exists()
        return
    with caplog.at_level(logging.WARNING, logger=module.__name__):
        told = found(items, tmp_path, max_fault_rate=0.02)
    assert (told["rows"], told["unreadable"]) == (100, {"image_broken": 2, "media_missing": 12})
    assert "14 of 100 rows" in caplog.text
    assert "row8, row9 and 4 more" in caplog.text


# ---- in a run ----------------------------------------------------------------------------------------------


def test_a_run_trains_without_them_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages as they are, but for what is trained, and what comes before the rows of an arm."""
    data = tmp_path / "data"
    data.mkdir()
    items = [image(data, f"{number}.png", number) for number in range(60)]
    talk = [{"from": "human", "value": "<image>\nwhat"}, {"from": "gpt", "value": "joy"}]
    told = [{"id": f"i{n}", "image": f"{n}.png", "conversations": talk} for n in range(60)]
    told.append({"id": "text", "conversations": [{"from": "human", "value": "x"}, talk[1]]})
    (data / "instruction.json").write_text(json.dumps(told))
    torn = Path(items[7].path)
    whole = torn.read_bytes()
    torn.write_bytes(whole[:500])

    config = RunConfig.model_validate(
        {
            "name": "test",
            "arms": ["base", "behavior"],
            "collect": {"sources": []},
            "build": {"processes": 1},
            "base": {"instruction": str(data / "instruction.json")},
            "evaluate": {"tasks": ["emoset"], "benchmarks": str(data)},
        }
    )
    trained: list[dict[str, list[str]]] = []

    def keep(_: object, start: object, rows: dict[str, Sequence[Example]], *others: object) -> dict[str, Any]:
        trained.append({name: [one.id for one in values] for name, values in rows.items()})
        return {"steps": 1}

    arm = Stage(tmp_path / "run" / "build" / "arm", "arm", {}, {})
    with arm.work():
        rows = [row(number, item) for number, item in enumerate(items) if number != 7]
        blift.save(arm.folder / "examples.parquet", iter(rows))
        (arm.folder / ledger.SAW).write_text("")
    posts = [
        SimpleNamespace(item=SimpleNamespace(post=SimpleNamespace(id=one.id)), media=one.media)
        for one in rows
    ]
    for one in posts:
        one.view = SimpleNamespace(media=lambda media=one.media: media)
    monkeypatch.setattr(Run, "_train", keep)
    monkeypatch.setattr(Run, "_write_card", lambda *_: None)
    monkeypatch.setattr(Run, "base", lambda *_: ("model", "mark"))
    monkeypatch.setattr(Run, "arm", lambda *_: arm)
    monkeypatch.setattr(Run, "captions", lambda *_: arm)
    monkeypatch.setattr(Run, "rows", lambda *_: posts)
    run = Run(config, tmp_path / "run")
    run.instruction_media()
    Path(items[3].path).unlink()  # after the instruction data was looked at, before the posts
    run.find_unreadable()
    image(data, "3.png", 3)
    torn.write_bytes(whole)
    for _ in range(2):
        _, stage = Run(config, tmp_path / "run").trained("behavior", 0)
        assert isinstance(stage, Stage)
        assert stage.manifest()["left_out"] == {
            "behavior": {"media_missing": 1},
            "instruction": {"image_broken": 1},
        }
        (stage.folder / "manifest.json").unlink()
    assert trained[0] == trained[1]
    assert trained[0] == {
        "behavior": [f"row{number}" for number in range(60) if number not in (3, 7)],
        "base_media": [f"i{number}" for number in range(60) if number != 7],
        "base_text": ["text"],
    }
