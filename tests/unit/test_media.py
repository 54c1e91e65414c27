"""Files from outside: each broken one has its reason, each good one its exact pixels, and no decoder takes
the run along."""

from __future__ import annotations

import io
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from behavior_llava.core import media
from behavior_llava.core.media import FrameStore, MediaFault
from behavior_llava.core.schema import Media
from behavior_llava.core.workers import Workers
from behavior_llava.data import measuring, viewing


def picture(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Smooth blobs, which survive recompression."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def numbered(number: int, size: int = 64) -> np.ndarray:
    """A frame from which its number can be read, even after coding: eight bars, black or white."""
    bits = [(number >> bit) & 1 for bit in range(8)]
    return np.repeat(np.repeat(np.array(bits, np.uint8)[None, :] * 255, size, 0), size // 8, 1)


def number_of(image: Image.Image) -> int:
    row = np.asarray(image.convert("L"))[image.height // 2]
    cells = row.reshape(8, -1).mean(1)
    return int(sum(1 << bit for bit, cell in enumerate(cells) if cell > 128))


def save_video(
    path: Path,
    *,
    frames: int = 40,
    codec: str = "libx264",
    start: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    muxing = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            pixels = np.repeat(numbered(number)[..., None], 3, 2)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number + start, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def reason(path: Path, kind: str = "image") -> str:
    with pytest.raises(MediaFault) as caught:
        media.measure(path, kind)  # pyright: ignore[reportArgumentType]
    return caught.value.reason


# ---- hostile pictures --------------------------------------------------------------------------------------


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it holds width x height pixels."""

    def part(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height"), [(8001, 8000), (9500, 9500), (30_000, 30_000), (2**31 - 1, 2**31 - 1)]
)
def test_a_picture_that_would_fill_memory_is_refused_unopened(
    tmp_path: Path, width: int, height: int
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(width, height))
    start = time.process_time()
    assert reason(path) == "image_too_large"
    assert time.process_time() - start < 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in a run, where warnings are no errors
        assert reason(path) == "image_too_large"


def test_broken_pictures_have_their_reasons(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    assert reason(path) == "media_missing"
    assert reason(tmp_path) == "media_missing"
    path.write_bytes(b"")
    assert reason(path) == "media_empty"
    path.write_text("<html>429 Too Many Requests</html>")
    assert reason(path) == "image_broken"
    whole = io.BytesIO()
    picture(200, 200).save(whole, "JPEG")
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    assert reason(path) == "image_broken"
    path.write_bytes(bomb(64, 64)[:-30])
    assert reason(path) == "image_broken"


@pytest.mark.parametrize(
    ("name", "content"),
    [("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), ("PPM", b"P6 1 1 255 abc")],
)
def test_formats_nobody_serves_are_not_opened(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    assert reason(path) == "image_broken", name


def test_too_large_a_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture().save(tmp_path / "x.png")
    monkeypatch.setattr(media, "MAX_BYTES", 10)
    assert reason(tmp_path / "x.png") == "media_too_large"


def test_a_good_picture_is_measured_whatever_its_name_says(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    picture(60, 40).convert("P").save(path, "PNG")
    found = media.measure(path, "image")
    assert (found.width, found.height, found.duration_s) == (60, 40, None)
    assert found.sha256 == media.sha256(path)
    assert len(found.sha256) == 64
    assert media.open_image(path).mode == "RGB"


def test_a_draft_is_smaller_but_covers_what_is_asked_for(tmp_path: Path) -> None:
    picture(1600, 800).save(tmp_path / "x.jpg")
    assert media.open_image(tmp_path / "x.jpg").size == (1600, 800)
    assert media.open_image(tmp_path / "x.jpg", side=100).size == (200, 100)


# ---- perceptual hash ---------------------------------------------------------------------------------------


def test_the_hash_of_hand_made_pictures() -> None:
    rising = np.tile(np.arange(9, dtype=np.uint8) * 20, (8, 1))
    assert media.dhash(Image.fromarray(rising)) == "ff" * 8
    assert media.dhash(Image.fromarray(rising[:, ::-1].copy())) == "00" * 8
    assert media.dhash(Image.new("RGB", (50, 50))) == "00" * 8
    mixed = rising.copy()
    mixed[0] = [9, 9, 10, 5, 6, 5, 6, 5, 6]  # to the right: same, up, down, up, down, up, down, up
    assert media.dhash(Image.fromarray(mixed)) == "55" + "ff" * 7


def test_the_hash_stays_under_recompression_and_tells_pictures_apart() -> None:
    def bits(image: Image.Image) -> int:
        return int(media.dhash(image), 16)

    for seed in range(5):
        original = picture(640, 480, seed)
        worse = io.BytesIO()
        original.resize((320, 240)).save(worse, "JPEG", quality=40)
        assert (bits(original) ^ bits(Image.open(worse))).bit_count() <= 4
        assert (bits(original) ^ bits(picture(640, 480, seed + 50))).bit_count() >= 15


# ---- videos ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "start", "options"),
    [
        ("x.mp4", "libx264", 0, {"g": "12", "bf": "3", "b_strategy": "0"}),
        ("x.mp4", "libx264", 0, {"g": "250", "bf": "0"}),
        ("x.mp4", "libx264", 0, {"x264-params": "open-gop=1:keyint=10:bframes=3:scenecut=0"}),
        ("x.mkv", "libx264", 0, {"g": "12", "bf": "3"}),
        ("x.ts", "libx264", 0, {"g": "12", "bf": "3"}),
        ("x.mp4", "libx264", 25, {"g": "12"}),
        ("x.webm", "libvpx-vp9", 0, {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
        ("x.avi", "mpeg4", 0, {"g": "12", "b": "2M"}),
    ],
)
def test_frames_are_exactly_those_of_a_full_pass(
    tmp_path: Path, name: str, codec: str, start: int, options: dict[str, str]
) -> None:
    path = save_video(tmp_path / name, codec=codec, start=start, options=options)
    with av.open(str(path)) as container:
        shown = [(float(frame.time or 0), number_of(frame.to_image())) for frame in container.decode(video=0)]
    assert [number for _, number in shown] == list(range(40))
    times = [time_s for time_s, _ in shown]
    wanted = times[::7] + [time_s + 0.04 for time_s in times[3::9]] + [times[-1], times[-1] + 0.05]
    expected = [max(number for at, number in shown if at <= time_s + 1e-6) for time_s in wanted]
    assert [number_of(frame) for frame in media.decode_frames(path, wanted)] == expected
    # one at a time gives the same as all together
    assert [number_of(media.decode_frames(path, [time_s])[0]) for time_s in wanted[:4]] == expected[:4]


def test_before_the_beginning_is_the_first_frame(tmp_path: Path) -> None:
    path = save_video(tmp_path / "x.mp4", start=25)
    assert number_of(media.decode_frames(path, [0.0])[0]) == 0


def test_a_video_is_measured_by_its_middle_frame(tmp_path: Path) -> None:
    path = save_video(tmp_path / "x.mp4")
    found = media.measure(path, "video")
    assert (found.width, found.height) == (64, 64)
    assert found.duration_s == pytest.approx(4.0)
    assert found.dhash == media.dhash(media.decode_frames(path, [2.0])[0])


def save_sound(path: Path) -> Path:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        for start in range(0, 8192, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_broken_videos_have_their_reasons(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    assert reason(path, "video") == "media_missing"
    path.write_bytes(b"")
    assert reason(path, "video") == "media_empty"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    assert reason(path, "video") == "video_broken"
    path.write_text("<html>429 Too Many Requests</html>")
    assert reason(path, "video") == "video_broken"
    assert reason(save_sound(tmp_path / "y.mp4"), "video") == "video_without_picture"
    with pytest.raises(MediaFault, match="media_missing"):
        media.decode_frames(tmp_path / "none.mp4", [0.0])


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_a_video_cut_off_gives_no_frame_of_another_time(tmp_path: Path, share: float) -> None:
    """Its index lies in front, so the file opens; what is asked for lies behind the cut."""
    whole = save_video(tmp_path / "x.mp4", options={"g": "40"}).read_bytes()
    start = whole.index(b"mdat")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: start + int(share * (len(whole) - start))])
    last = 0
    with av.open(str(cut)) as container:
        try:
            for frame in container.decode(video=0):
                last = number_of(frame.to_image())
        except av.error.FFmpegError:
            pass
    assert last < 39
    assert number_of(media.decode_frames(cut, [0.1])[0]) == 1
    with pytest.raises(MediaFault, match=r"video_(broken|empty)"):
        media.decode_frames(cut, [3.5])


def test_a_playlist_called_video_opens_nothing_else(tmp_path: Path) -> None:
    save_video(tmp_path / "secret.ts")
    save_video(tmp_path / "secret.mp4")
    for name in ("secret.ts", "secret.mp4", f"file:{tmp_path}/secret.ts", "http://127.0.0.1:9/x.ts"):
        for text in (
            f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{name}\n#EXT-X-ENDLIST\n",
            f"ffconcat version 1.0\nfile '{name}'\n",
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
            '<AdaptationSet mimeType="video/mp4"><Representation id="0">'
            f"<BaseURL>{name}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        ):
            path = tmp_path / "x.mp4"
            path.write_text(text)
            assert reason(path, "video") == "video_broken", text


# ---- frame store -------------------------------------------------------------------------------------------


def test_a_video_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_video(tmp_path / "x.mp4")
    item = Media(str(path), "video", media.sha256(path), (0.5, 2.0))
    decoded = []

    def counted(*arguments: object) -> list[Image.Image]:
        decoded.append(arguments)
        return original(*arguments)  # pyright: ignore[reportArgumentType]

    original = media.decode_frames
    monkeypatch.setattr(media, "decode_frames", counted)
    first = FrameStore(tmp_path / "frames").frames(item)
    path.unlink()
    second = FrameStore(tmp_path / "frames").frames(item)
    assert len(decoded) == 1
    assert [number_of(frame) for frame in first] == [5, 20]
    assert [frame.tobytes() for frame in first] == [frame.tobytes() for frame in second]


def test_frames_of_other_times_and_other_files_are_kept_apart(tmp_path: Path) -> None:
    store, path = FrameStore(tmp_path / "frames"), save_video(tmp_path / "x.mp4")
    other = save_video(tmp_path / "other.mp4", start=10)
    files = store.frame_files(Media(str(path), "video", media.sha256(path), (0.5, 2.0)))
    files += store.frame_files(Media(str(path), "video", media.sha256(path), (0.6, 0.600002)))
    files += store.frame_files(Media(str(other), "video", media.sha256(other), (0.5,)))
    assert len(set(files)) == 5
    assert all(file.is_file() for file in files)


def test_a_store_never_shows_half_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, path = FrameStore(tmp_path / "frames"), save_video(tmp_path / "x.mp4")
    item = Media(str(path), "video", media.sha256(path), (0.5, 2.0))

    def cut_off(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", cut_off)
        with pytest.raises(KeyboardInterrupt):
            store.frame_files(item)
    assert not any(file.suffix == ".jpg" for file in (tmp_path / "frames").rglob("*"))
    assert [number_of(frame) for frame in store.frames(item)] == [5, 20]


def test_one_frame_gone_is_decoded_again(tmp_path: Path) -> None:
    store, path = FrameStore(tmp_path / "frames"), save_video(tmp_path / "x.mp4")
    item = Media(str(path), "video", media.sha256(path), (0.5, 2.0))
    store.frame_files(item)[1].unlink()
    assert [number_of(frame) for frame in store.frames(item)] == [5, 20]


def test_many_threads_may_ask_for_one_video(tmp_path: Path) -> None:
    store, path = FrameStore(tmp_path / "frames"), save_video(tmp_path / "x.mp4")
    item = Media(str(path), "video", media.sha256(path), (0.5, 2.0))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: [number_of(frame) for frame in store.frames(item)], range(8)))
    assert found == [[5, 20]] * 8
    assert not list((tmp_path / "frames").rglob("*.part"))


def test_another_file_in_a_videos_place_is_not_taken_for_it(tmp_path: Path) -> None:
    store, path = FrameStore(tmp_path / "frames"), save_video(tmp_path / "x.mp4")
    item = Media(str(path), "video", media.sha256(path), (0.5,))
    save_video(path, start=10)
    with pytest.raises(MediaFault, match="media_changed"):
        store.frames(item)
    assert not store.has(item)
    assert not list((tmp_path / "frames").rglob("*.*"))


@pytest.mark.parametrize("left", [0, 100, -2])
def test_a_frame_the_disk_lost_is_decoded_again(tmp_path: Path, left: int) -> None:
    store, path = FrameStore(tmp_path / "frames"), save_video(tmp_path / "x.mp4")
    item = Media(str(path), "video", media.sha256(path), (0.5, 2.0))
    whole = [frame.tobytes() for frame in store.frames(item)]
    torn = store.frame_files(item)[1]
    torn.write_bytes(torn.read_bytes()[:left])
    assert [frame.tobytes() for frame in store.frames(item)] == whole
    torn.write_bytes(torn.read_bytes()[:left])
    path.unlink()
    with pytest.raises(MediaFault, match="media_missing"):
        store.frames(item)


def test_frames_of_another_size_are_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, item = FrameStore(tmp_path), Media("", "video", "ab" * 32, (0.0,))
    store.put(item, [picture(640, 480)])
    assert store.has(item)
    monkeypatch.setattr(media, "FRAME_SIDE", 224)
    assert not store.has(item)


_KILLED_WRITER = """
import os, sys
from pathlib import Path
from behavior_llava.core import media
print("ready", flush=True)
number = 0
while True:
    number += 1
    media.write_whole(Path(sys.argv[1]) / "x.jpg", bytes([number % 256]) * 2_000_000)
"""


def test_writers_killed_midway_leave_a_whole_file_and_parts_that_go(tmp_path: Path) -> None:
    for _ in range(6):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", _KILLED_WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        time.sleep(0.05)
        for writer in writers:
            writer.kill()
            writer.communicate()
        if (tmp_path / "x.jpg").exists():
            content = (tmp_path / "x.jpg").read_bytes()
            assert len(content) == 2_000_000
            assert len(set(content)) == 1
    (tmp_path / "x.jpg.0.part").write_bytes(b"half")
    os.utime(tmp_path / "x.jpg.0.part", (0, 0))
    (tmp_path / "y.jpg.1.part").write_bytes(b"of one still writing")
    media.write_whole(tmp_path / "x.jpg", b"whole")
    assert not (tmp_path / "x.jpg.0.part").exists()
    assert (tmp_path / "y.jpg.1.part").exists()


def test_stored_frames_are_small_and_keep_their_shape(tmp_path: Path) -> None:
    store = FrameStore(tmp_path)
    item = Media("", "video", "ab" * 32, (0.0,))
    store.put(item, [picture(1920, 1080)])
    assert store.frames(item)[0].size == (media.FRAME_SIDE, 252)


# ---- processes that can be killed --------------------------------------------------------------------------


def behave(how: str) -> str:
    """What a decoder may do."""
    if how == "hang":
        time.sleep(600)
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "raise":
        raise ZeroDivisionError(how)
    if how == "fault":
        raise MediaFault("video_broken")
    if how == "unsendable":
        return lambda: None  # type: ignore[return-value]
    return f"{how} done"


def outcome(result: object) -> object:
    return result.reason if isinstance(result, MediaFault) else result


@pytest.mark.slow
def test_whatever_a_decoder_does_the_next_file_is_read() -> None:
    jobs = ["a", "hang", "b", "exit", "c", "segfault", "d", "raise", "e", "fault", "f"]
    with Workers(behave, processes=1, timeout_s=2) as workers:
        found = [outcome(result) for result in workers.map((job,) for job in jobs)]
    assert found == [
        "a done",
        "decoder_timeout",
        "b done",
        "decoder_crashed",
        "c done",
        "decoder_crashed",
        "d done",
        "decoder_ZeroDivisionError",
        "e done",
        "video_broken",
        "f done",
    ]


def hang_known(place: str) -> None:
    Path(place).write_text(str(os.getpid()))
    time.sleep(600)


def test_a_process_that_hangs_is_gone_before_the_next_begins(tmp_path: Path) -> None:
    with Workers(hang_known, processes=1, timeout_s=1) as workers:
        assert outcome(next(iter(workers.map([(str(tmp_path / "pid"),)])))) == "decoder_timeout"
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


def slowly(number: int) -> tuple[int, int]:
    time.sleep(0.03 * (number % 3))
    return number, os.getpid()


def test_results_keep_the_order_and_come_from_several_processes() -> None:
    with Workers(slowly, processes=2) as workers:
        found = list(workers.map((number,) for number in range(12)))
    assert [number for number, _ in found] == list(range(12))
    processes = {process for _, process in found}
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_arguments_are_taken_as_they_are_needed() -> None:
    taken = 0

    def endless() -> Iterator[tuple[int]]:
        nonlocal taken
        while True:
            taken += 1
            yield (0,)

    with Workers(slowly, processes=1) as workers:
        results = workers.map(endless())
        next(results)
        assert taken <= 64


def test_processes_end_with_the_block() -> None:
    with Workers(slowly, processes=1) as workers:
        _, process = next(iter(workers.map([(0,)])))
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_result_that_cannot_be_sent_is_a_fault() -> None:
    with Workers(behave, processes=1) as workers:
        found = [outcome(result) for result in workers.map([("unsendable",), ("a",)])]
    assert found[1] == "a done"
    assert str(found[0]).startswith("decoder_")


def test_a_function_that_cannot_be_imported_is_our_fault_not_the_files() -> None:
    def local() -> None:
        pass

    with (
        Workers(local, processes=1) as workers,
        pytest.raises((RuntimeError, AttributeError, pickle.PicklingError)),
    ):
        list(workers.map([()]))


@pytest.mark.parametrize("function", [media.measure, viewing.view_file, behave])
def test_the_functions_given_to_workers_are_importable(function: object) -> None:
    assert pickle.loads(pickle.dumps(function)) is function
    assert measuring.media.measure is media.measure
