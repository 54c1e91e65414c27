"""Changes of the view and cuts at known times, and colors of pictures, all made here; and files that must not
get through.
"""

from __future__ import annotations

import itertools
import os
import pickle
import struct
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import av
import av.error
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from behavior_llava.core.media import MediaFault, decode_frames
from behavior_llava.core.workers import Workers
from behavior_llava.data import scenes
from behavior_llava.data.world import content as truth
from behavior_llava.data.world import writers

FPS = 8
RED, GREEN, BLUE, GRAY = (200, 30, 30), (20, 140, 50), (30, 60, 210), (128, 128, 128)


def save_frames(path: Path, pictures: Sequence[NDArray[np.uint8]], *, fps: int = FPS, first: int = 0) -> Path:
    """A video of these RGB pictures, the first of them shown at `first` frames from 0."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pictures, first):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def save_video(
    path: Path, shots: list[tuple[tuple[int, int, int], float]], size: int = 128, fps: int = FPS
) -> Path:
    """Shots of one color with a white square in the middle, some noise, and a little movement."""
    rng = np.random.default_rng(0)
    pictures = []
    for color, seconds in shots:
        for number in range(round(seconds * fps)):
            picture = np.full((size, size, 3), color, np.float64)
            left = size // 4 + number % 4
            picture[size // 4 : size - size // 4, left : left + size // 2] = 245
            picture += rng.normal(0, 3, (size, size, 1))
            pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    return save_frames(path, pictures, fps=fps)


def spans(look: scenes.SceneLook) -> list[tuple[float, float]]:
    return [(round(scene.start_s, 3), round(scene.end_s, 3)) for scene in look.scenes]


# ---- cuts --------------------------------------------------------------------------------------------------


def test_cuts_are_found_at_their_times(tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.mp4", [(RED, 1.0), (GREEN, 1.5), (BLUE, 2.0)])
    look = scenes.look(str(path), "video", 10)
    assert spans(look) == [(0.0, 1.0), (1.0, 2.5), (2.5, 4.5)]
    assert [scene.time_s for scene in look.scenes] == pytest.approx([0.5, 1.75, 3.5])
    assert look.num_found == 3
    assert [scene.colors.background for scene in look.scenes] == [("red",), ("green",), ("blue",)]
    assert [scene.colors.foreground for scene in look.scenes] == [("white",)] * 3
    assert [scene.colors.tone for scene in look.scenes] == ["warm", "cool", "cool"]
    assert pickle.loads(pickle.dumps(look)) == look


def test_a_video_without_cuts_is_one_scene(tmp_path: Path) -> None:
    look = scenes.look(str(save_video(tmp_path / "a.mp4", [(RED, 3.0)])), "video", 4)
    assert spans(look) == [(0.0, 3.0)]


def test_a_single_frame_is_a_scene_of_its_length(tmp_path: Path) -> None:
    look = scenes.look(str(save_video(tmp_path / "a.mp4", [(RED, 1 / FPS)])), "video", 4)
    assert spans(look) == [(0.0, 1 / FPS)]


def test_too_many_scenes_are_merged(tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.mp4", [(RED, 1.0), (GREEN, 1.5), (BLUE, 2.0)])
    look = scenes.look(str(path), "video", 2)
    assert spans(look) == [(0.0, 2.5), (2.5, 4.5)]
    assert look.num_found == 3


@given(lengths=st.lists(st.integers(1, 100), min_size=1, max_size=30), max_scenes=st.integers(1, 12))
def test_merging_keeps_the_ends_and_leaves_no_gap(lengths: list[int], max_scenes: int) -> None:
    edges = [0.0, *np.cumsum(lengths).astype(float)]
    found = list(itertools.pairwise(edges))
    merged = scenes.merge(found, max_scenes)
    assert len(merged) == min(len(found), max_scenes)
    assert (merged[0][0], merged[-1][1]) == (0.0, edges[-1])
    assert all(first[1] == second[0] for first, second in itertools.pairwise(merged))
    assert {edge for span in merged for edge in span} <= set(edges)


def test_the_shortest_goes_to_its_shorter_neighbor() -> None:
    assert scenes.merge([(0, 5), (5, 6), (6, 8), (8, 12)], 3) == [(0, 5), (5, 8), (8, 12)]


def test_at_least_one_scene_is_left() -> None:
    with pytest.raises(ValueError, match="max_scenes is 0"):
        scenes.merge([(0, 1)], 0)


def test_memory_for_colors_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_video(tmp_path / "a.mp4", [(RED, 4.0), (GREEN, 4.0), (BLUE, 4.0)])
    monkeypatch.setattr(scenes, "MAX_KEPT", 4)
    watched = scenes._watch(path)
    assert len(watched.kept) <= 4
    look = scenes.look(str(path), "video", 3)
    assert [scene.colors.background for scene in look.scenes] == [("red",), ("green",), ("blue",)]


# ---- views -------------------------------------------------------------------------------------------------

DISTRIBUTIONS = (
    st.lists(st.integers(0, 4), min_size=5, max_size=5).filter(any).map(lambda c: np.array(c) / sum(c))
)


def painting(seed: int) -> NDArray[np.uint8]:
    """A picture of soft spots in many colors."""
    spots = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(spots).resize((64, 64), Image.Resampling.BICUBIC))


def between(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    return scenes.angle_degrees(scenes.view_of(first), scenes.view_of(second))


def restless(picture: NDArray[np.uint8], rng: np.random.Generator, number: int) -> NDArray[np.uint8]:
    """As a camera sees it that is held in the hand: noise, a pixel to the side, the light flickering."""
    shaken = np.roll(picture, number % 2, axis=number // 2 % 2)
    pixels = shaken * (1 + 0.03 * (-1) ** number) + rng.normal(0, 5, picture.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("first", "second", "degrees"),
    [
        ([0.5, 0.25, 0.25], [0.5, 0.25, 0.25], 0),
        ([1, 0], [0, 1], 90),
        ([0.5, 0.5, 0], [0, 0.5, 0.5], 60),  # arccos(sqrt(0.5 * 0.5))
        ([1, 0], [0.5, 0.5], 45),  # arccos(sqrt(0.5))
        ([1, 0], [0.75, 0.25], 30),  # arccos(sqrt(0.75)): a quarter of the picture is new
    ],
)
def test_angles_by_hand(first: list[float], second: list[float], degrees: float) -> None:
    found = scenes.angle_degrees(np.array(first), np.array(second))
    assert found == pytest.approx(degrees, abs=1e-5)


@given(DISTRIBUTIONS, DISTRIBUTIONS, DISTRIBUTIONS)
def test_the_angle_is_a_distance(first: NDArray, second: NDArray, third: NDArray) -> None:
    angle = scenes.angle_degrees
    assert 0 <= angle(first, second) <= 90
    assert angle(first, second) == angle(second, first)
    assert (angle(first, second) < 1e-5) == bool(np.allclose(first, second))
    assert angle(first, third) <= angle(first, second) + angle(second, third) + 1e-5


@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, 2**32 - 1))
def test_a_view_of_any_picture_is_a_distribution(height: int, width: int, seed: int) -> None:
    view = scenes.view_of(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
    assert view.shape == (9 * 125,)
    assert view.min() >= 0
    assert view.sum() == pytest.approx(1, abs=1e-9)


def test_a_view_of_one_color_at_a_level_is_in_one_color() -> None:
    view = scenes.view_of(np.full((60, 60, 3), (255, 0, 0), np.uint8)).reshape(9, -1)
    # the levels of red, green and blue are the digits of a number to the base 5
    assert np.flatnonzero(view.sum(axis=0) > 1e-6).tolist() == [4 * 25]
    assert view[:, 100] == pytest.approx(view[::-1, 100])
    assert view[:, 100].min() > 0.05


def test_noise_shaking_and_flicker_change_no_view() -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):
        picture = painting(seed)
        noisy = np.clip(picture + rng.normal(0, 10, picture.shape), 0, 255).astype(np.uint8)
        brighter = np.clip(picture * 1.03 + 2, 0, 255).astype(np.uint8)
        for changed in (noisy, brighter, np.roll(picture, 1, axis=0), np.roll(picture, 1, axis=1)):
            assert 0 < between(picture, changed) < scenes.MIN_ANGLE_DEGREES / 2
        assert between(picture, restless(picture, rng, 3)) < 20
        assert between(picture, painting(seed + 5)) > scenes.MIN_ANGLE_DEGREES


def test_nothing_jumps_as_a_color_moves() -> None:
    views = [scenes.view_of(np.full((16, 16, 3), value, np.uint8)) for value in range(256)]
    steps = [scenes.angle_degrees(*pair) for pair in itertools.pairwise(views)]
    assert len(steps) == 255
    assert 0 < min(steps)
    assert max(steps) < 4


# ---- the 30-degree rule ------------------------------------------------------------------------------------


def starts(pictures: Sequence[NDArray[np.uint8]], fps: int = FPS) -> list[float]:
    """When the scenes of these pictures begin, in frames."""
    rule = scenes.ThirtyDegrees()
    for number, picture in enumerate(pictures):
        rule.see(number / fps, scenes.view_of(picture))
    rule.end(len(pictures) / fps)
    return [start_s * fps for start_s in rule.starts_s]


def test_a_restless_shot_is_one_scene(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [restless(painting(0), rng, number) for number in range(4 * FPS)]
    assert starts(pictures) == [0]
    look = scenes.look(str(save_frames(tmp_path / "a.mp4", pictures)), "video", 10)
    assert spans(look) == [(0.0, 4.0)]


def test_a_hard_cut_begins_a_scene_at_its_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for cut in (5, 11, 19):
        pictures = [restless(painting(int(number >= cut)), rng, number) for number in range(24)]
        assert starts(pictures) == [0, cut]
        look = scenes.look(str(save_frames(tmp_path / f"{cut}.mp4", pictures)), "video", 10)
        assert spans(look) == [(0.0, cut / FPS), (cut / FPS, 3.0)]


def test_a_slow_pan_is_several_scenes() -> None:
    spots = np.random.default_rng(1).integers(0, 256, (4, 20, 3), np.uint8)
    strip = np.asarray(Image.fromarray(spots).resize((320, 64), Image.Resampling.BICUBIC))
    pictures = [strip[:, left : left + 64] for left in range(256)]
    assert max(itertools.starmap(between, itertools.pairwise(pictures))) < scenes.MIN_ANGLE_DEGREES / 2
    found = starts(pictures, fps=25)
    assert len(found) >= 8
    # 0.3 s are 7.5 frames
    chosen = [pictures[round(start) + 7] for start in found]
    assert all(between(*pair) >= scenes.MIN_ANGLE_DEGREES for pair in itertools.pairwise(chosen))


def faded(num_frames: int) -> list[NDArray[np.uint8]]:
    """Two seconds of one picture, a cross-fade of so many frames, two seconds of another."""
    first, second = painting(1), painting(2)
    steps = np.arange(1, num_frames + 1) / (num_frames + 1)
    fade = [np.round(first * (1 - step) + second * step).astype(np.uint8) for step in steps]
    return [*[first] * 16, *fade, *[second] * 16]


def test_a_quick_cross_fade_is_a_cut() -> None:
    found = starts(faded(4))
    assert len(found) == 2
    assert 16 <= found[1] < 20


def test_the_last_scene_of_a_slow_cross_fade_shows_what_it_comes_to(tmp_path: Path) -> None:
    pictures = faded(16)
    found = starts(pictures)
    assert 2 <= len(found) <= 3
    assert all(16 < start <= 32 for start in found[1:])
    path = save_frames(tmp_path / "a.mp4", pictures)
    look = scenes.look(str(path), "video", 10)
    assert len(look.scenes) == len(found)
    shown = decode_frames(path, [scene.time_s for scene in look.scenes])
    assert between(np.asarray(shown[0]), painting(1)) < 15
    assert between(np.asarray(shown[-1]), painting(2)) < 15


@pytest.mark.parametrize(("frames", "is_scene"), [(1, False), (4, False), (5, True)])
@pytest.mark.parametrize("is_at_end", [False, True])
def test_a_flash_is_no_scene(frames: int, is_scene: bool, is_at_end: bool) -> None:
    flash = [np.full((64, 64, 3), 255, np.uint8)] * frames
    pictures = [painting(0)] * 10 + flash + [painting(0)] * (0 if is_at_end else 10)
    back = [] if is_at_end else [10 + frames]
    assert starts(pictures) == ([0, 10, *back] if is_scene else [0])


TICK_S = scenes.MIN_SCENE_S / 6
VIDEOS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 3), min_size=3, max_size=3).filter(any).map(lambda c: np.array(c) / sum(c)),
        st.integers(1, 9),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=8,
)
"""Runs of one view: the view, how often it is seen, and after how many ticks each."""

Seen = tuple[list[int], list[NDArray], int]


def unrolled(runs: list[tuple[NDArray, int, int]]) -> Seen:
    """The ticks of all views, the views, and the tick of the end."""
    gaps = [gap for _, count, gap in runs for _ in range(count)]
    ticks = np.cumsum([0, *gaps]).tolist()
    return ticks[:-1], [view for view, count, _ in runs for _ in range(count)], ticks[-1]


def found_ticks(seen: Seen) -> list[int]:
    ticks, views, end = seen
    rule = scenes.ThirtyDegrees()
    for tick, view in zip(ticks, views, strict=True):
        rule.see(tick * TICK_S, view)
    rule.end(end * TICK_S)
    found = [round(start_s / TICK_S) for start_s in rule.starts_s]
    assert rule.starts_s == [tick * TICK_S for tick in found]
    return found


def chosen_view(seen: Seen, start: int) -> NDArray:
    """The view shown three ticks, half of the least length, after a scene begins."""
    return [view for tick, view in zip(seen[0], seen[1], strict=True) if tick <= start + 3][-1]


def is_new(seen: Seen, start: int, number: int) -> bool:
    """Whether a view is 30 degrees from the chosen one of the scene that begins at `start`."""
    return scenes.angle_degrees(chosen_view(seen, start), seen[1][number]) >= scenes.MIN_ANGLE_DEGREES


def naive_ticks(seen: Seen) -> list[int]:
    """The rule as it reads: for every view all that follow it are compared."""
    ticks, _, end = seen
    found = [0]
    while True:
        following = (
            tick
            for tick in ticks
            if found[-1] + 6 <= tick <= end - 6
            and all(
                is_new(seen, found[-1], other)
                for other, later in enumerate(ticks)
                if tick <= later < tick + 6
            )
        )
        if (start := next(following, None)) is None:
            return found
        found.append(start)


@given(VIDEOS)
def test_the_rule_equals_its_naive_version(runs: list[tuple[NDArray, int, int]]) -> None:
    seen = unrolled(runs)
    assert found_ticks(seen) == naive_ticks(seen)


@given(VIDEOS)
def test_the_rule_keeps_its_promises(runs: list[tuple[NDArray, int, int]]) -> None:
    seen = unrolled(runs)
    ticks, _, end = seen
    found = found_ticks(seen)
    edges = [*found, end]
    assert found[0] == 0
    assert len(found) == 1 or min(np.diff(edges)) >= 6
    for first, second in itertools.pairwise(found):
        angle = scenes.angle_degrees(chosen_view(seen, first), chosen_view(seen, second))
        assert angle >= scenes.MIN_ANGLE_DEGREES
    for start, stop in itertools.pairwise(edges):
        inside = [number for number, tick in enumerate(ticks) if start + 6 <= tick < stop]
        for differs, group in itertools.groupby(inside, partial(is_new, seen, start)):
            numbers = list(group)
            over = ticks[numbers[-1] + 1] if numbers[-1] + 1 < len(ticks) else end
            assert not differs or over - ticks[numbers[0]] < 6


@pytest.mark.slow
def test_both_rules_find_the_shots_of_the_sandbox(tmp_path: Path) -> None:
    num_agreeing = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        film = writers.draw_film(truth.draw_content(rng, is_filmed=True), rng)
        path = tmp_path / f"{seed}.mp4"
        writers.save_video(str(path), film, (seed,))
        lengths_s = [shot.seconds for shot in film.shots]
        expected = list(itertools.pairwise(np.cumsum([0, *lengths_s]).tolist()))
        assert spans(scenes.look(str(path), "video", 10, "cuts")) == expected
        num_agreeing += spans(scenes.look(str(path), "video", 10)) == expected
    assert num_agreeing >= 18


def test_another_rule_chooses_scenes_and_counts_the_same_cuts(tmp_path: Path) -> None:
    # a pan of four seconds without a cut, then one
    strip = np.concatenate([painting(seed) for seed in range(3)], axis=1)
    pan = [strip[:, left : left + 64] for left in range(0, 128, 2)]
    path = save_frames(tmp_path / "a.mp4", [*pan, *[painting(7)] * 32], fps=16)
    by_angle, by_cuts = (scenes.look(str(path), "video", 10, rule) for rule in ("thirty_degrees", "cuts"))
    assert spans(by_cuts) == [(0.0, 4.0), (4.0, 6.0)]
    assert len(by_angle.scenes) > 2
    assert by_angle.num_cuts == by_cuts.num_cuts == 1
    assert by_angle.duration_s == by_cuts.duration_s == pytest.approx(6.0)


# ---- what is true of the whole -----------------------------------------------------------------------------


def test_cuts_are_counted_whatever_is_merged(tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.mp4", [(RED, 1.0), (GREEN, 1.0), (BLUE, 1.0), (GRAY, 1.0)])
    look = scenes.look(str(path), "video", 1)
    assert (len(look.scenes), look.num_found, look.num_cuts) == (1, 4, 3)
    assert (look.duration_s, look.width, look.height) == (4.0, 128, 128)


def test_times_are_those_of_the_file_and_the_length_is_what_is_shown(tmp_path: Path) -> None:
    pictures = [painting(0)] * FPS + [painting(1)] * FPS
    look = scenes.look(str(save_frames(tmp_path / "a.mkv", pictures, first=3 * FPS)), "video", 4)
    assert spans(look) == [(3.0, 4.0), (4.0, 5.0)]
    assert look.duration_s == pytest.approx(2.0)


def test_an_image_is_as_large_as_it_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter, clockwise
    picture = Image.new("RGB", (300, 200), RED)
    picture.save(tmp_path / "plain.jpg")
    picture.save(tmp_path / "turned.jpg", exif=exif)
    looks = [scenes.look(str(tmp_path / f"{name}.jpg"), "image", 4) for name in ("plain", "turned")]
    assert [(look.width, look.height) for look in looks] == [(300, 200), (200, 300)]
    assert {(look.num_found, look.num_cuts, look.duration_s) for look in looks} == {(1, 0, None)}


def test_a_video_is_as_large_as_it_is_seen(tmp_path: Path) -> None:
    path = save_frames(tmp_path / "a.mp4", [np.full((64, 96, 3), RED, np.uint8)] * FPS)
    plain = scenes.look(str(path), "video", 4)
    told = bytearray(path.read_bytes())
    # ISO/IEC 14496-12, 8.3.2: the matrix of a picture turned by a quarter clockwise
    matrix = struct.pack(">9i", 0, 2**16, 0, -(2**16), 0, 0, 64 << 16, 0, 2**30)
    place = told.index(b"tkhd") + 4 + 40
    told[place : place + len(matrix)] = matrix
    path.write_bytes(told)
    assert (plain.width, plain.height) == (96, 64)
    assert scenes.look(str(path), "video", 4) == replace(plain, width=64, height=96)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (100, 100, "square"),
        (105, 100, "square"),
        (100, 105, "square"),
        (106, 100, "landscape"),
        (100, 106, "portrait"),
        (1, 1, "square"),
        (1, 2, "portrait"),
        (1920, 1080, "landscape"),
    ],
)
def test_orientation(width: int, height: int, expected: str) -> None:
    assert scenes.orientation(width, height) == expected


@pytest.mark.parametrize(
    ("num_cuts", "duration_s", "expected"),
    [
        (0, 1.0, "low"),
        (5, 60.0, "low"),
        (6, 60.0, "medium"),
        (19, 60.0, "medium"),
        (20, 60.0, "high"),
        (1, 10.0, "medium"),
        (1, 10.1, "low"),
        (1, 3.0, "high"),
    ],
)
def test_pace(num_cuts: int, duration_s: float, expected: str) -> None:
    assert scenes.pace(num_cuts, duration_s) == expected


def test_settings_hold_what_a_look_depends_on() -> None:
    def told(kind: str, max_scenes: int, rule: str) -> str:
        return repr(scenes.settings(kind, max_scenes, rule))  # pyright: ignore[reportArgumentType]

    videos = {told("video", number, rule) for number in (2, 3) for rule in ("thirty_degrees", "cuts")}
    images = {told("image", number, rule) for number in (2, 3) for rule in ("thirty_degrees", "cuts")}
    assert (len(videos), len(images), len(videos | images)) == (4, 1, 5)


# ---- files that must not get through -----------------------------------------------------------------------


def reason(path: Path, kind: str = "video") -> str:
    with pytest.raises(MediaFault) as caught:
        scenes.look(str(path), kind, 4)  # pyright: ignore[reportArgumentType]
    return caught.value.reason


def test_missing_and_broken_files_have_their_reasons(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.mp4") == "media_missing"
    assert reason(tmp_path / "none.jpg", "image") == "media_missing"
    (tmp_path / "noise.mp4").write_bytes(os.urandom(5000))
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "noise.jpg").write_bytes(os.urandom(5000))
    assert reason(tmp_path / "noise.mp4") == "video_broken"
    assert reason(tmp_path / "empty.mp4") == "video_broken"
    assert reason(tmp_path / "noise.jpg", "image") == "image_broken"


def test_a_video_cut_off_is_broken(tmp_path: Path) -> None:
    whole = save_video(tmp_path / "a.mp4", [(RED, 3.0)]).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    assert reason(tmp_path / "half.mp4") == "video_broken"


def test_sound_alone_has_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        for start in range(0, 8192, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert reason(path) == "video_without_picture"


def test_an_endless_video_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_video(tmp_path / "a.mp4", [(RED, 3.0)])
    monkeypatch.setattr(scenes, "MAX_FRAMES", 20)
    assert reason(path) == "video_endless"


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert reason(tmp_path / "pipe.mp4") == "media_missing"


def test_too_little_memory_says_nothing_of_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise av.error.MemoryError(12, "Cannot allocate memory")

    path = save_video(tmp_path / "a.mp4", [(RED, 1.0)])
    monkeypatch.setattr(scenes, "_small", full)
    assert reason(path) == "decoder_out_of_memory"


def test_the_length_is_what_is_shown_not_what_the_file_says(tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.mp4", [(RED, 1.0), (GREEN, 1.0)])
    told = bytearray(path.read_bytes())
    place = told.index(b"mvhd") + 4 + 16  # version, flags, two times, timescale; then the duration
    told[place : place + 4] = (10**9).to_bytes(4, "big")
    path.write_bytes(told)
    assert spans(scenes.look(str(path), "video", 4)) == [(0.0, 1.0), (1.0, 2.0)]


def test_works_in_workers(tmp_path: Path) -> None:
    good = save_video(tmp_path / "a.mp4", [(RED, 1.0), (GREEN, 1.0)])
    jobs = [(str(good), "video", 4), (str(tmp_path / "none.mp4"), "video", 4)]
    first, second = Workers(scenes.look, processes=1).map(jobs)
    assert len(first.scenes) == 2
    assert isinstance(second, MediaFault)
    assert second.reason == "media_missing"


# ---- colors ------------------------------------------------------------------------------------------------


def picture(background: tuple[int, int, int], inner: tuple[int, int, int] | None = None) -> np.ndarray:
    pixels = np.full((64, 64, 3), background, np.uint8)
    if inner is not None:
        pixels[20:44, 16:48] = inner
    return pixels


@pytest.mark.parametrize("name", scenes.COLORS)
def test_every_prototype_has_its_name(name: str) -> None:
    for shade in scenes.COLORS[name]:
        colors = scenes.colors_of(picture(shade))
        assert (colors.foreground, colors.background) == ((name,), (name,))


def test_an_image_is_one_scene_without_time(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.kron(picture(GRAY, RED), np.ones((8, 8, 1), np.uint8))).save(path)
    look = scenes.look(str(path), "image", 4)
    colors = scenes.Colors(("red",), ("gray",), "neutral")
    scene = scenes.Scene(0.0, 0.0, 0.0, colors)
    assert look == scenes.SceneLook((scene,), 1, 0, None, 512, 512)


def test_what_does_not_touch_the_border_is_foreground() -> None:
    pixels = picture(BLUE, RED)
    pixels[28:36, 28:36] = BLUE  # the border's color, but shut in
    assert scenes.colors_of(pixels) == scenes.Colors(("red",), ("blue",), "cool")


def test_the_commonest_color_comes_first() -> None:
    pixels = picture(GRAY, RED)
    pixels[20:24, 16:48] = GREEN  # a sixth of the foreground
    pixels[20, 16:20] = (125, 45, 165)  # too little to be named
    assert scenes.colors_of(pixels).foreground == ("red", "green")


@pytest.mark.parametrize(
    ("background", "inner", "tone"),
    [
        (GRAY, None, "neutral"),
        ((0, 0, 0), None, "neutral"),
        ((235, 105, 30), None, "warm"),
        ((245, 230, 130), BLUE, "warm"),
        (BLUE, None, "cool"),
        (GREEN, RED, "cool"),
        (GRAY, (255, 140, 0), "neutral"),
    ],
)
def test_tone(background: tuple[int, int, int], inner: tuple[int, int, int] | None, tone: str) -> None:
    assert scenes.colors_of(picture(background, inner)).tone == tone


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_any_picture_has_colors(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    colors = scenes.colors_of(pixels)
    assert 1 <= len(colors.foreground) <= 3 or height < 2 or width < 2
    assert 1 <= len(colors.background) <= 3
