"""Rows whose media cannot be read: left out the same way every time, counted, and never replaced."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore, sha256
from behavior_llava.core.schema import Example, Media
from behavior_llava.training import readable as module
from behavior_llava.training.readable import Reader, key, media_of, readable


def image(folder: Path, name: str, seed: int = 0) -> Media:
    path = folder / name
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return Media(str(path), "image", sha256(path))


def row(number: int, media: Media | None) -> Example:
    return Example(f"row{number}", "what do viewers feel", "joy", media)


def reader(folder: Path, **settings: Any) -> Reader:
    return Reader(FrameStore(folder / "frames"), folder, processes=1, **settings)


def test_every_fault_has_its_reason_and_the_good_are_kept(media: dict[str, Media], tmp_path: Path) -> None:
    good = image(tmp_path, "good.png")
    torn = image(tmp_path, "torn.png", 1)
    Path(torn.path).write_bytes(Path(torn.path).read_bytes()[:500])
    other = image(tmp_path, "other.png", 2)
    image(tmp_path, "other.png", 3)
    gone = Media(str(tmp_path / "gone.jpg"), "image", "ab" * 32)
    clip, beyond = media["clip"], replace(media["clip"], path=str(tmp_path / "no.mp4"), sha256="cd" * 32)
    items = [good, torn, other, gone, clip, beyond, good]
    found = reader(tmp_path).unreadable(items, label="test")
    assert found == {
        key(torn): "image_broken",
        key(other): "media_changed",
        key(gone): "media_missing",
        key(beyond): "media_missing",
    }
    assert FrameStore(tmp_path / "frames").has(clip)  # decoded once, for training to read


def test_what_is_known_costs_no_decoding(
    media: dict[str, Media], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, good = media["clip"], image(tmp_path, "good.png")
    assert reader(tmp_path).unreadable([clip, good], label="test") == {}

    def refuse(*_: object) -> None:
        raise AssertionError("a process is asked")

    with monkeypatch.context() as patch:
        patch.setattr(module.Workers, "_assign", refuse)
        assert reader(tmp_path).unreadable([clip, good], label="test") == {}
    os.utime(good.path, (1, 1))
    image(tmp_path, "good.png", 9)
    assert reader(tmp_path).unreadable([good], label="test") == {key(good): "media_changed"}


def test_a_hash_that_is_known_is_not_yet_a_picture_that_was_read(tmp_path: Path) -> None:
    """Other stages write down the hash of a file before they try to decode it."""
    path = tmp_path / "x.png"
    path.write_bytes(b"no picture")
    item = Media(str(path), "image", sha256(path))
    with module.Hashes(tmp_path / "seen.sqlite") as hashes:
        state = module.file_state(item.path)
        assert state is not None
        hashes.keep(state, item.sha256)
    assert reader(tmp_path).unreadable([item], label="test") == {key(item): "image_broken"}


def test_a_file_that_ends_its_decoder_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = image(tmp_path, "slow.png")
    monkeypatch.setattr(module, "read_once", time_out)
    limited = reader(tmp_path, timeout_s=1.0)
    assert limited.unreadable([item], label="test") == {key(item): "decoder_timeout"}
    start = time.monotonic()
    assert limited.unreadable([item], label="test") == {key(item): "decoder_timeout"}
    assert time.monotonic() - start < 1
    assert len((tmp_path / "quarantine.jsonl").read_text().splitlines()) == 1


def time_out(path: str, item: Media, frames: str) -> None:
    time.sleep(600)


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
    unreadable = {key(item): reason for item, reason in faults.items()}
    expected = [row(n, item) for n, item in enumerate(media) if item not in faults]
    if media and not expected:
        with pytest.raises(UserError, match=r"no row of data set 'x' is left"):
            readable({"x": Lazy(media)}, unreadable, max_fault_rate=1)
        return
    written = json.loads(json.dumps(unreadable))
    sets, left_out = readable({"x": Lazy(media), "text": [row(0, None)]}, written, max_fault_rate=1)
    kept = sets["x"]
    assert list(sets) == ["x", "text"]
    assert len(sets["text"]) == 1
    assert list(kept) == expected
    assert [kept[number] for number in range(len(kept))] == expected
    assert left_out.rows == Counter(faults[item] for item in media if item in faults)
    assert left_out.media == Counter(faults[item] for item in set(media) if item in faults)
    assert list(media_of(Lazy(media))) == list(dict.fromkeys(item for item in media if item))


def test_the_same_media_are_left_out_of_every_arm(tmp_path: Path) -> None:
    """Arms say other things about the same media; a row is judged by its own media alone."""
    media = [image(tmp_path, f"{n}.png", n) for n in range(60)]
    Path(media[7].path).unlink()
    arms = [[row(1000 * arm + n, item) for n, item in enumerate(media)] for arm in range(3)]
    found = reader(tmp_path).unreadable(media_of(arms[0]), label="test")
    image(tmp_path, "7.png", 7)  # it comes back; the arms that follow go by what was written down
    kept = [[one.media for one in readable({"x": rows}, found)[0]["x"]] for rows in arms]
    assert kept[0] == kept[1] == kept[2] == [item for item in media if item != media[7]]


@pytest.mark.parametrize(("broken", "is_refused"), [(2, False), (3, True)])
def test_more_faults_than_allowed_are_refused(broken: int, is_refused: bool) -> None:
    media = [Media(f"{n}.jpg", "image", f"{n:064d}") for n in range(100)]
    rows = [row(n, item) for n, item in enumerate(media)] + [row(200 + n, None) for n in range(500)]
    faults = {key(item): "image_broken" for item in media[:broken]}
    if is_refused:
        with pytest.raises(UserError, match=r"3 of 100 media cannot be read \(image_broken 3\)"):
            readable({"x": rows[:50], "y": rows[50:]}, faults)
    else:
        kept, _ = readable({"x": rows[:50], "y": rows[50:]}, faults)
        assert [len(kept["x"]), len(kept["y"])] == [48, 550]
        assert kept["y"][:3] == rows[50:53]
    gone = {key(item): "media_missing" for item in media[:50]}
    kept, left_out = readable({"x": rows}, gone)
    assert len(kept["x"]) == 550
    assert list(kept["x"][:2]) == rows[50:52]
    assert left_out.rows == {"media_missing": 50}
