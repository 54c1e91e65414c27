"""How alike two pictures are: equal to cutting and scaling one by one, and far apart where it should be."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from behavior_llava.core.media import sha256
from behavior_llava.core.schema import Media
from behavior_llava.data import copies


def picture(seed: int, side: int = copies.SIDE) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (13, 13), dtype=np.uint8))
    return coarse.resize((side, side), Image.Resampling.BICUBIC)


def naive(part: np.ndarray, whole: np.ndarray) -> float:
    """The best correlation over all cuts, each made by Pillow."""

    def normed(values: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        size = (copies.DETAIL_SIDE, copies.DETAIL_SIDE)
        small = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR, box)).ravel()
        small = small - small.mean()
        return small / np.linalg.norm(small)

    side, cuts = copies.SIDE, [copies.MARGIN * step for step in range(copies.STEPS + 1)]
    target = normed(part, (0, 0, side, side))
    boxes = [
        (left, top, side - right, side - bottom)
        for left, top, right, bottom in itertools.product(cuts, repeat=4)
    ]
    assert len(boxes) == 256
    return float(max(target @ normed(whole, box) for box in boxes))


def details(picture: Image.Image) -> np.ndarray:
    gray = np.asarray(picture, np.float32)
    return gray - np.asarray(ndimage.gaussian_filter(gray, copies.SIDE / 8), np.float32)


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    copies._KNOWN.clear()


def alike(one: Image.Image, two: Image.Image) -> float:
    return copies.likeness(one, [copies.shown(two)])[0]


@pytest.mark.parametrize("seed", range(4))
def test_all_cuts_at_once_equal_each_by_itself(seed: int) -> None:
    first, other = picture(seed), picture(seed + 100)
    cut = first.crop((3, 0, 90, 93)).resize((copies.SIDE,) * 2)
    for one, two in ((first, other), (cut, first)):
        expected = max(naive(details(one), details(two)), naive(details(two), details(one)))
        assert alike(one, two) == pytest.approx(expected, abs=1e-4)
        assert alike(two, one) == pytest.approx(expected, abs=1e-4)
    assert alike(cut, first) > 0.95
    assert alike(first, other) < 0.6
    together = copies.likeness(first, [copies.shown(one) for one in (other, cut, first)])
    assert together == pytest.approx([alike(first, one) for one in (other, cut, first)], abs=1e-6)


def test_nothing_is_like_nothing() -> None:
    flat = Image.new("L", (copies.SIDE,) * 2)
    assert alike(flat, flat) == 0.0
    assert alike(flat, picture(1)) == 0.0
    assert alike(picture(1), flat) == 0.0


def test_pictures_are_kept_from_call_to_call_but_not_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_MOST_KNOWN", 2)
    media = []
    for seed in range(4):
        path = tmp_path / f"{seed}.png"
        picture(seed).save(path)
        media.append(Media(str(path), "image", sha256(path)))
    opened: list[str] = []
    whole = copies._pictures
    monkeypatch.setattr(
        copies, "_pictures", lambda item, *more: opened.append(item.path) or whole(item, *more)
    )
    ours, *others = media
    pair = [(0, 0, False)]
    first = copies.compare(ours, [(one, pair) for one in others])
    assert len(copies._KNOWN) == 2
    again = copies.compare(ours, [(others[2], pair)])
    assert again[0] == pytest.approx(first[2], abs=1e-6)
    assert [Path(path).stem for path in opened] == ["0", "1", "2", "3", "0"]


def test_a_file_that_is_gone_leaves_the_others(tmp_path: Path) -> None:
    media = []
    for name, seed in (("ours", 1), ("same", 1), ("gone", 2), ("other", 3), ("changed", 4)):
        path = tmp_path / f"{name}.png"
        picture(seed).save(path)
        media.append(Media(str(path), "image", sha256(path)))
    ours, same, gone, other, changed = media
    Path(gone.path).unlink()
    picture(5).save(changed.path)
    pairs = [(0, 0, False), (0, 0, True)]
    found = copies.compare(ours, [(item, pairs) for item in (same, gone, other, changed)])
    assert found[1] == "media_missing"
    assert found[3] == "media_changed"
    assert isinstance(found[0], list)
    assert isinstance(found[2], list)
    assert found[0][0] == pytest.approx(1.0, abs=1e-5)
    assert max(found[0][1], *found[2]) < 0.7
