"""Cuts at known times and colors of pictures, both made here; and files that must not get through."""

from __future__ import annotations

import itertools
import os
import pickle
import time
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from behavior_llava.core.media import MediaFault
from behavior_llava.core.workers import Workers
from behavior_llava.data import scenes

FPS = 8
RED, GREEN, BLUE, GRAY = (200, 30, 30), (20, 140, 50), (30, 60, 210), (128, 128, 128)


def save_video(
    path: Path, shots: list[tuple[tuple[int, int, int], float]], size: int = 128, fps: int = FPS
) -> Path:
    """Shots of one color with a white square in the middle, some noise, and a little movement."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for color, seconds in shots:
            for number in range(round(seconds * fps)):
                picture = np.full((size, size, 3), color, np.float64)
                left = size // 4 + number % 4
                picture[size // 4 : size - size // 4, left : left + size // 2] = 245
                picture += rng.normal(0, 3, (size, size, 1))
                frame = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


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


def test_a_clip_is_looked_at_quickly(tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.mp4", [(RED, 3.0), (GREEN, 3.0), (BLUE, 3.0)])
    scenes.look(str(path), "video", 8)
    times = []
    for _ in range(7):
        start = time.process_time()
        scenes.look(str(path), "video", 8)
        times.append(time.process_time() - start)
    # about 0.04 s alone on a slow machine; the rest is for neighbors
    assert min(times) < 0.25


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
    assert look == scenes.SceneLook((scenes.Scene(0.0, 0.0, 0.0, colors),), 1)


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
