"""Files made to harm: each has its reason or its right pixels, quickly, in bounded memory, and takes at most
a process along; what took one along is remembered.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import re
import resource
import signal
import socket
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from behavior_llava.core import media
from behavior_llava.core import workers as processes
from behavior_llava.core.media import MediaFault
from behavior_llava.core.workers import Workers

HALVES = ((220, 20, 20), (20, 20, 220))


def halves(width: int = 96, height: int = 64) -> Image.Image:
    """Left red, right blue."""
    image = Image.new("RGB", (width, height), HALVES[0])
    image.paste(HALVES[1], (width // 2, 0, width, height))
    return image


def blobs(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def outcome(path: Path, kind: str = "image") -> str:
    """The reason, or "fine"."""
    try:
        media.measure(path, kind)  # pyright: ignore[reportArgumentType]
    except MediaFault as fault:
        return fault.reason
    return "fine"


def told(result: object) -> object:
    return result.reason if isinstance(result, MediaFault) else result


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Nothing hostile may take long, whatever it says of itself."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 30


# ---- pictures that are too large ---------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def save_png_of_zeros(path: Path, side: int, depth: int, color: int, row_bytes: int) -> None:
    """A whole and valid PNG, row by row."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(b"\0" * (row_bytes + 1) * 500) for _ in range(side // 500)] + [packer.flush()]
    header = struct.pack(">IIBBBBB", side, side, depth, color, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"".join(parts)) + chunk(b"IEND", b"")
    )


def test_a_whole_picture_of_50_000_by_50_000_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    save_png_of_zeros(path, 50_000, 1, 0, 6250)
    assert path.stat().st_size < 2**22
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert outcome(path) == "image_too_large"
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def gif(width: int, height: int) -> bytes:
    content = io.BytesIO()
    halves().save(content, "GIF")
    whole = bytearray(content.getvalue())
    whole[6:10] = struct.pack("<HH", width, height)
    return bytes(whole)


def webp_on_a_huge_canvas() -> bytes:
    content = io.BytesIO()
    halves().save(content, "WEBP", save_all=True, append_images=[blobs(96, 64)], lossless=True)
    whole = bytearray(content.getvalue())
    place = whole.index(b"VP8X") + 12
    whole[place : place + 6] = (16_382).to_bytes(3, "little") * 2
    return bytes(whole)


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


def jpeg(width: int, height: int) -> bytes:
    content = io.BytesIO()
    halves().save(content, "JPEG")
    whole = bytearray(content.getvalue())
    place = whole.index(b"\xff\xc0") + 5
    whole[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(whole)


@pytest.mark.parametrize(
    ("name", "content", "reasons"),
    [
        ("gif", lambda: gif(65_535, 65_535), {"image_too_large"}),
        ("webp", webp_on_a_huge_canvas, {"image_too_large"}),
        ("bmp", lambda: bmp(50_000, 50_000), {"image_too_large"}),
        ("jpeg", lambda: jpeg(65_000, 65_000), {"image_too_large"}),
        # a header that exaggerates, though within what is allowed: the rest is missing. A JPEG that says it
        # ends is gray from there on, for every viewer
        ("jpeg within", lambda: jpeg(7000, 7000), {"fine"}),
        ("bmp within", lambda: bmp(7000, 7000), {"image_broken"}),
    ],
)
def test_other_formats_of_exaggerated_size(
    tmp_path: Path, name: str, content: Callable[[], bytes], reasons: set[str]
) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content())
    assert outcome(path) in reasons, name


def test_pixels_in_comments_are_no_bomb_either(tmp_path: Path) -> None:
    path, content = tmp_path / "x.png", io.BytesIO()
    halves().save(content, "PNG")
    whole = content.getvalue()
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 2**28, 9))
    path.write_bytes(whole[:33] + text + whole[33:])
    assert outcome(path) in ("fine", "image_broken")


def test_animations_are_their_first_frame(tmp_path: Path) -> None:
    rest = [Image.new("P", (96, 64), number % 250) for number in range(2000)]
    halves().save(tmp_path / "x.gif", save_all=True, append_images=rest, duration=10)
    halves().save(
        tmp_path / "x.webp", save_all=True, append_images=[blobs(96, 64, n) for n in range(60)], lossless=True
    )
    for name in ("x.gif", "x.webp"):
        start = time.process_time()
        found = media.measure(tmp_path / name, "image")
        assert time.process_time() - start < 1
        assert (found.width, found.height) == (96, 64)
        assert media.open_image(tmp_path / name).getpixel((5, 5)) == pytest.approx(HALVES[0], abs=8)


# ---- what is no picture, and no file -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>',
        b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        b"<!doctype html><title>Not found</title>",
        b"\0" * 5000,
        b"\xff\xd8\xff\xe0" + b"\0" * 40,
        b"GIF89a",
        b"RIFF\x24\0\0\0WEBPVP8 ",
    ],
)
def test_other_files_called_picture_or_video(tmp_path: Path, content: bytes) -> None:
    for name, kind in (("x.jpg", "image"), ("x.mp4", "video")):
        (tmp_path / name).write_bytes(content)
        assert outcome(tmp_path / name, kind) == f"{kind}_broken"


def test_a_tiff_called_jpg_is_not_opened(tmp_path: Path) -> None:
    halves().save(tmp_path / "x.jpg", "TIFF")
    assert outcome(tmp_path / "x.jpg") == "image_broken"


def test_only_regular_files_are_opened_and_none_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "pipe.jpg")
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "none")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s.jpg"))
    names = ["pipe.jpg", "link.jpg", "nowhere.jpg", "device.jpg", "folder.jpg", "s.jpg"]
    for name in names:
        for kind in ("image", "video"):
            assert outcome(tmp_path / name, kind) in ("media_missing", "media_unreadable"), name
        for read in (media.open_image, media.sha256, lambda path: media.decode_frames(path, [0.0])):
            with pytest.raises(MediaFault, match=r"media_(missing|unreadable)"):
                read(tmp_path / name)
    server.close()
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    assert outcome(tmp_path / "circle.jpg") == "media_unreadable"
    # a link to a file is that file: folders of links are common
    halves().save(tmp_path / "real.png")
    (tmp_path / "good.jpg").symlink_to(tmp_path / "real.png")
    assert media.measure(tmp_path / "good.jpg", "image") == media.measure(tmp_path / "real.png", "image")


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, video = tmp_path / "x.png", save_video(tmp_path / "x.mp4")
    halves().save(picture)
    dhash, frame = media._decode_image, media._Video.frame

    def grown(path: Path) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    def decode_image(*arguments: Any) -> Any:
        grown(picture)
        return dhash(*arguments)

    def decode_frame(*arguments: Any) -> Any:
        grown(video)
        return frame(*arguments)

    monkeypatch.setattr(media, "_decode_image", decode_image)
    monkeypatch.setattr(media._Video, "frame", decode_frame)
    assert outcome(picture) == "media_changed"
    assert outcome(video, "video") == "media_changed"


def test_a_file_that_is_replaced_while_it_is_read_is_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = save_video(tmp_path / "x.mp4"), save_video(tmp_path / "y.mp4", frames=20)
    expected, frame = media.measure(path, "video"), media._Video.frame

    def decode_frame(*arguments: Any) -> Any:
        if other.exists():
            other.replace(path)
        return frame(*arguments)

    monkeypatch.setattr(media._Video, "frame", decode_frame)
    assert media.measure(path, "video") == expected
    assert not other.exists()


# ---- what a viewer sees ------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_pictures_are_turned_as_the_camera_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    path, exif = tmp_path / f"x.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    blobs(320, 160).save(path, exif=exif)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert media.open_image(path).tobytes() == expected.tobytes()
    found = media.measure(path, "image")
    assert (found.width, found.height) == expected.size
    upright = tmp_path / "upright.png"
    expected.save(upright)
    distance = int(found.dhash, 16) ^ int(media.measure(upright, "image").dhash, 16)
    assert distance.bit_count() <= 2  # a JPEG was scaled on the way


def test_a_square_picture_is_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    halves(64, 64).save(tmp_path / "x.jpg", exif=exif, quality=95)
    # turned clockwise: what was left is on top
    assert media.open_image(tmp_path / "x.jpg").getpixel((50, 5)) == pytest.approx(HALVES[0], abs=20)


def test_broken_notes_do_not_make_a_picture_unreadable(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        halves().save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + rng.bytes(5 * number))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in a worker
            assert outcome(tmp_path / "x.jpg") == "fine"


def ycck(image: Image.Image) -> bytes:
    """A JPEG as Photoshop writes it: inverted CMYK, its first three channels as luma and chroma."""
    red, green, blue = image.split()
    inverted = [band.point(lambda value: 255 - value) for band in (red, green, blue)]
    # what is stored after the decoder's own step (C = 255 - R of the luma and chroma) is 255 - ink
    stored_rgb = Image.merge("RGB", [band.point(lambda value: value) for band in inverted])
    luma = stored_rgb.convert("YCbCr").split()
    content = io.BytesIO()
    flipped = [band.point(lambda value: 255 - value) for band in luma]
    Image.merge("CMYK", [*flipped, Image.new("L", image.size, 0)]).save(content, "JPEG", quality=100)
    whole = bytearray(content.getvalue())
    whole[whole.index(b"Adobe") + 11] = 2
    return bytes(whole)


def test_pictures_of_other_colors_look_as_they_should(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    halves().convert("CMYK").save(path, quality=100)
    for content in (path.read_bytes(), ycck(halves())):
        path.write_bytes(content)
        image = media.open_image(path)
        assert image.getpixel((10, 10)) == pytest.approx(HALVES[0], abs=12)
        assert image.getpixel((80, 10)) == pytest.approx(HALVES[1], abs=12)
    halves().convert("L").save(path)
    assert media.open_image(path).mode == "RGB"


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    gray = np.full((64, 64), 40_000, np.uint16)
    gray[:, 32:] = 300
    Image.fromarray(gray).save(tmp_path / "x.png")
    image = media.open_image(tmp_path / "x.png")
    assert [image.getpixel(at) for at in ((5, 5), (50, 5))] == [(156,) * 3, (1,) * 3]


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    path, clear = tmp_path / "x.png", halves().convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 10, 10))
    clear.paste((0, 0, 0, 128), (20, 0, 30, 10))
    indexed = Image.new("P", (96, 64), 1)
    indexed.putpalette([9, 9, 9, 0, 200, 0])
    indexed.paste(0, (0, 0, 10, 10))
    gray = Image.new("LA", (96, 64), (77, 255))
    gray.paste((0, 0), (0, 0, 10, 10))
    colors = []
    for image, notes in ((clear, {}), (indexed, {"transparency": 0}), (gray, {})):
        image.save(path, **notes)
        found = media.open_image(path)
        assert found.getpixel((5, 5)) == (255, 255, 255)
        colors.append(found.getpixel((40, 40)))
    assert colors == [HALVES[0], (0, 200, 0), (77, 77, 77)]
    clear.save(path)
    assert media.open_image(path).getpixel((25, 5)) == pytest.approx((127, 127, 127), abs=1)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("GIF", {}),
        ("BMP", {}),
    ],
)
def test_cut_off_pictures_are_found_at_every_scale(
    tmp_path: Path, form: str, options: dict[str, Any], share: float
) -> None:
    path, content = tmp_path / "x.jpg", io.BytesIO()
    blobs(640, 480).save(content, form, **options)
    path.write_bytes(content.getvalue()[: int(share * len(content.getvalue()))])
    assert outcome(path) == "image_broken"
    with pytest.raises(MediaFault, match="image_broken"):
        media.open_image(path, side=100)


def test_the_hash_at_a_smaller_scale_is_that_of_the_picture(tmp_path: Path) -> None:
    for seed in range(10):
        blobs(640, 480, seed).save(tmp_path / "x.jpg", quality=90)
        found = media.measure(tmp_path / "x.jpg", "image")
        assert (found.width, found.height) == (640, 480)
        whole = media.dhash(media.open_image(tmp_path / "x.jpg"))
        assert (int(found.dhash, 16) ^ int(whole, 16)).bit_count() <= 3
        # small pictures are never scaled
        blobs(96, 64, seed).save(tmp_path / "y.jpg")
        assert media.measure(tmp_path / "y.jpg", "image").dhash == media.dhash(
            media.open_image(tmp_path / "y.jpg")
        )


# ---- videos ------------------------------------------------------------------------------------------------


def save_video(
    path: Path,
    *,
    frames: int = 40,
    ticks: list[int] | None = None,
    size: tuple[int, int] = (96, 64),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
) -> Path:
    """Blobs that get brighter by the frame, ten frames a second where no ticks are given."""
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = "bgr24" if codec == "rawvideo" else "yuv420p"
        if codec != "rawvideo":
            stream.codec_context.time_base = Fraction(1, 10)
        for number, tick in enumerate(ticks or range(frames)):
            pixels = np.full((size[1], size[0], 3), 30 + 4 * number, np.uint8)
            pixels[:, : size[0] // 2] = 30
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def number_of(image: Image.Image) -> int:
    """Which frame of `save_video` it is."""
    right = np.asarray(image.convert("RGB"))[:, image.width // 2 + 4 :]
    return round((float(right.mean()) - 30) / 4)


def patched(path: Path, box: bytes, changes: dict[int, bytes]) -> Path:
    """The file with the bytes behind every box of that name changed, counted from its content's beginning."""
    whole = bytearray(path.read_bytes())
    place = whole.find(box)
    assert place > 0
    while place > 0:
        for offset, content in changes.items():
            whole[place + 4 + offset : place + 4 + offset + len(content)] = content
        place = whole.find(box, place + 4)
    path.write_bytes(whole)
    return path


@pytest.mark.parametrize("side", [60_000, 12_000])
def test_a_video_that_claims_huge_pictures_is_refused(tmp_path: Path, side: int) -> None:
    path = save_video(tmp_path / "x.avi", codec="rawvideo", frames=3)
    # BITMAPINFOHEADER: width and height behind the size of the header and of the chunk
    patched(path, b"strf", {8: struct.pack("<ii", side, side)})
    assert outcome(path, "video") in ("image_too_large", "video_broken")
    path = save_video(tmp_path / "y.mp4")
    patched(path, b"avc1", {24: struct.pack(">HH", side, side)})
    assert outcome(path, "video") in ("image_too_large", "fine")  # its pictures say what they are


def test_huge_pictures_behind_a_modest_header_are_refused(tmp_path: Path) -> None:
    path = save_video(
        tmp_path / "x.mp4", size=(8192, 8192), frames=1, options={"preset": "ultrafast", "threads": "1"}
    )
    patched(path, b"avc1", {24: struct.pack(">HH", 64, 64)})
    assert outcome(path, "video") in ("image_too_large", "video_broken")


def long_video(path: Path, hours: int) -> Path:
    """One group of 30 pictures, one a second, again and again."""
    once = save_video(path.with_name("once.mp4"), frames=30, ticks=[10 * n for n in range(30)])
    with av.open(str(once)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        tick_s = packets[0].time_base
        known = [(packet.pts, packet.dts, packet.is_keyframe, bytes(packet)) for packet in packets]
        for turn in range(120 * hours):
            for pts, dts, is_keyframe, content in known:
                packet = av.Packet(content)
                shift = int(30 * turn / tick_s)
                packet.pts, packet.dts, packet.time_base = pts + shift, dts + shift, tick_s
                packet.stream, packet.is_keyframe = stream, is_keyframe
                container.mux(packet)
    return path


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one with every frame decoded."""
    decoded: list[int] = []
    original = media._Video._decoded

    def decode(video: Any) -> Iterator[Any]:
        for frame in original(video):
            decoded.append(1)
            yield frame

    monkeypatch.setattr(media._Video, "_decoded", decode)
    return decoded


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.ts"])
def test_of_ten_hours_only_what_is_asked_for_is_decoded(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = long_video(tmp_path / name, 10)
    decoded = counted(monkeypatch)
    found = media.measure(path, "video")
    assert found.duration_s == pytest.approx(36_000, abs=5)
    assert len(decoded) < 200
    with av.open(str(path)) as container:
        start_s = float((container.start_time or 0) / 1e6)
    times = [start_s + at for at in (7.5, 3600.5, 3604.5, 18_000.5, 35_990.5)]
    numbers = [number_of(frame) for frame in media.decode_frames(path, times)]
    assert numbers == [7, 0, 4, 0, 20]
    assert len(decoded) < 600


def test_a_video_that_claims_thirty_years_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = counted(monkeypatch)
    path = save_video(tmp_path / "x.mkv")
    whole = path.read_bytes()
    place = whole.index(b"\x44\x89\x88") + 3
    path.write_bytes(whole[:place] + struct.pack(">d", 1e12) + whole[place + 8 :])
    assert outcome(path, "video") == "video_broken"
    path = save_video(tmp_path / "x.mp4")
    for box, offset in ((b"mdhd", 16), (b"mvhd", 16), (b"tkhd", 20)):
        patched(path, box, {offset: struct.pack(">I", 2**32 - 2)})
    assert outcome(path, "video") in ("fine", "video_broken")  # the table of samples knows better
    if outcome(path, "video") == "fine":
        assert media.measure(path, "video").duration_s == pytest.approx(4.0)
    assert len(decoded) < 500


def test_a_video_without_length_is_refused(tmp_path: Path) -> None:
    path = save_video(tmp_path / "x.mp4")
    for box, offset in ((b"mdhd", 16), (b"mvhd", 16), (b"tkhd", 20)):
        patched(path, box, {offset: bytes(4)})
    patched(path, b"stts", {8: bytes(4)})
    assert outcome(path, "video") in ("video_empty", "video_broken")


def test_a_video_of_one_frame_is_read(tmp_path: Path) -> None:
    path = save_video(tmp_path / "x.mp4", frames=1)
    assert media.measure(path, "video").duration_s == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_uneven_times_give_the_frame_that_is_shown(tmp_path: Path, name: str) -> None:
    ticks = [0, 1, 2, 30, 31, 32, 90, 91, 150]
    path = save_video(tmp_path / name, ticks=ticks)
    wanted = [0.05, 0.25, 2.9, 3.0, 3.15, 8.9, 9.05, 14.9, 15.0]
    expected = [max(n for n, tick in enumerate(ticks) if tick / 10 <= at) for at in wanted]
    assert [number_of(frame) for frame in media.decode_frames(path, wanted)] == expected
    assert [number_of(media.decode_frames(path, [at])[0]) for at in wanted] == expected


def test_times_before_zero(tmp_path: Path) -> None:
    path = save_video(
        tmp_path / "x.mp4",
        ticks=[number - 15 for number in range(40)],
        muxing={"avoid_negative_ts": "disabled", "use_editlist": "0"},
        options={"g": "5", "bf": "0"},
    )
    with av.open(str(path)) as container:
        shown = [(frame.time or 0.0, number_of(frame.to_image())) for frame in container.decode(video=0)]
    wanted = [at + 0.02 for at, _ in shown][::4]
    assert len(wanted) >= 6
    expected = [max(number for at, number in shown if at <= time_s) for time_s in wanted]
    assert [number_of(frame) for frame in media.decode_frames(path, wanted)] == expected
    assert outcome(path, "video") == "fine"


@pytest.mark.parametrize("name", ["x.mp4", "x.ts", "x.mkv"])
def test_the_middle_of_a_video_that_does_not_begin_at_zero(tmp_path: Path, name: str) -> None:
    path = save_video(tmp_path / name, ticks=[number + 30 for number in range(40)])
    with av.open(str(path)) as container:
        start_s = float((container.start_time or 0) / 1e6)
    expected = media.dhash(media.decode_frames(path, [start_s + 2.0])[0])
    found = media.measure(path, "video")
    assert found.duration_s is not None
    # Matroska and an edited MP4 count their length from zero
    assert found.duration_s == pytest.approx(4.0, abs=0.2) or found.duration_s == pytest.approx(7.0, abs=0.2)
    if found.duration_s < 5:
        assert found.dhash == expected


def test_a_video_is_turned_as_the_phone_says(tmp_path: Path) -> None:
    path = save_video(tmp_path / "x.mp4")
    plain = media.decode_frames(path, [3.5])[0]
    # ISO/IEC 14496-12, 8.3.2: the matrix of a picture turned by a quarter clockwise
    matrix = struct.pack(">9i", 0, 2**16, 0, -(2**16), 0, 0, 64 << 16, 0, 2**30)
    patched(path, b"tkhd", {40: matrix})
    turned = media.decode_frames(path, [3.5])[0]
    assert turned.tobytes() == plain.transpose(Image.Transpose.ROTATE_270).tobytes()
    found = media.measure(path, "video")
    assert (found.width, found.height) == (64, 96)


ANY_REASON = {
    "image_too_large",
    "video_broken",
    "video_empty",
    "video_without_picture",
    "decoder_timeout",
    "decoder_crashed",
    "decoder_out_of_memory",
}


def test_a_video_with_a_broken_index_has_a_reason_or_pixels(tmp_path: Path) -> None:
    whole = save_video(tmp_path / "x.mp4", options={"g": "5"}).read_bytes()
    rng, paths = np.random.default_rng(0), []
    index = whole.index(b"moov")
    for number in range(60):
        broken = bytearray(whole)
        for place in rng.integers(index, len(whole), 1 + number % 8):
            broken[place] = rng.integers(256)
        paths.append(tmp_path / f"{number}.mp4")
        paths[-1].write_bytes(broken)
    for box in (b"stco", b"stsz", b"stsc", b"stss", b"stts"):
        for count in (0, 1, 2**31, 2**32 - 1):
            paths.append(tmp_path / f"{box.decode()}{count}.mp4")
            paths[-1].write_bytes(whole)
            patched(paths[-1], box, {8 if box == b"stsz" else 4: struct.pack(">I", count)})
    with Workers(media.measure, processes=2, timeout_s=10) as workers:
        found = list(workers.map((path, "video") for path in paths))
    assert len(found) == 80
    reasons = {result.reason for result in found if isinstance(result, MediaFault)}
    assert reasons <= ANY_REASON
    assert sum(isinstance(result, media.Measured) for result in found) >= 5


def test_cut_off_videos_have_reasons_or_pixels(tmp_path: Path) -> None:
    for name in ("x.mkv", "x.ts", "x.avi", "x.webm"):
        codec = {"x.avi": "mpeg4", "x.webm": "libvpx"}.get(name, "libx264")
        whole = save_video(tmp_path / name, codec=codec, options={"g": "5"}).read_bytes()
        for share in (0.02, 0.3, 0.8):
            (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
            assert outcome(tmp_path / name, "video") in ANY_REASON | {"fine"}


def test_a_playlist_reaches_no_address_and_no_other_file(tmp_path: Path) -> None:
    secret = save_video(tmp_path / "secret.ts")
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    address = f"127.0.0.1:{server.getsockname()[1]}"
    names = [
        "secret.ts",
        str(secret),
        f"file:{secret}",
        f"http://{address}/x.ts",
        f"tcp://{address}",
        f"subfile,,start,0,end,0,,:{secret}",
        f"concat:{secret}|{secret}",
    ]
    for name in names:
        for text in (
            f'#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI="{name}"\n#EXTINF:4,\n{name}\n#EXT-X-ENDLIST\n',
            f"ffconcat version 1.0\nfile '{name}'\n",
            f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 9 RTP/AVP 96\na=control:{name}\n",
            f"[playlist]\nFile1={name}\nNumberOfEntries=1\n",
            f'<ASX version="3.0"><Entry><Ref href="{name}"/></Entry></ASX>',
        ):
            (tmp_path / "x.mp4").write_text(text)
            assert outcome(tmp_path / "x.mp4", "video") == "video_broken"
    with pytest.raises(BlockingIOError):
        server.accept()
    server.close()
    # neither can a name be taken for an address
    with pytest.raises(MediaFault, match="media_missing"):
        media.decode_frames(Path(f"tcp:{address}"), [0.0])


# ---- memory ------------------------------------------------------------------------------------------------


def peak_gib(path: Path, kind: str) -> tuple[str, float]:
    """What becomes of a file, and the most memory its process held."""
    found = outcome(path, kind)
    if found == "decoder_out_of_memory":
        raise MediaFault(found)
    # not the rusage of a process: that one begins with its parent's
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return found, int(peak[1]) / 2**20


def swell(gib: float) -> str:
    return f"{len(bytearray(int(gib * 2**30)))}"


needs_account = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="only Linux keeps account of what a process allocates"
)


@needs_account
def test_a_bomb_takes_its_process_and_nothing_else(tmp_path: Path) -> None:
    save_png_of_zeros(tmp_path / "large.png", 8000, 8, 6, 32_000)
    halves().save(tmp_path / "small.png")
    jobs = [(tmp_path / name, "image") for name in ("small.png", "large.png", "small.png")]
    with Workers(peak_gib, processes=1) as workers:
        found = list(workers.map(jobs))
    # the largest picture allowed fits, and its process stays far from the limit
    assert [result[0] for result in found] == ["fine"] * 3
    assert found[1][1] < 1.5
    with Workers(peak_gib, processes=1, memory_gib=0.25) as workers:
        found = [told(result) for result in workers.map(jobs)]
    assert found[1] == "decoder_out_of_memory"
    assert found[0][0] == found[2][0] == "fine"  # pyright: ignore[reportIndexIssue]
    assert found[2][1] < 0.5  # pyright: ignore[reportIndexIssue]


@needs_account
def test_memory_is_counted_from_where_a_process_begins(tmp_path: Path) -> None:
    with Workers(swell, processes=2, memory_gib=0.5) as workers:
        found = [told(result) for result in workers.map([(0.4,), (0.6,), (0.4,), (50.0,)])]
    assert [str(result)[:7] for result in found] == ["4294967", "decoder", "4294967", "decoder"]
    assert {found[1], found[3]} == {"decoder_out_of_memory"}
    with Workers(swell, processes=1, memory_gib=None) as workers:
        assert told(next(workers.map([(2.5,)]))) == str(int(2.5 * 2**30))


@needs_account
def test_large_videos_fit_into_the_default_memory(tmp_path: Path) -> None:
    path = save_video(tmp_path / "x.mp4", size=(3840, 2160), frames=12, options={"preset": "ultrafast"})
    with Workers(peak_gib, processes=1) as workers:
        found, gib = next(workers.map([(path, "video")]))
    assert found == "fine"
    assert gib < 1.5


# ---- processes: batches, blame and order -------------------------------------------------------------------


def behave(how: str, log: str = "") -> str:
    """What a decoder may do; `log` gets a line a call."""
    if log:
        with Path(log).open("a") as file:
            file.write(f"{Path(how).name}\n")
    name = Path(how).stem
    if name == "hang":
        time.sleep(600)
    if name == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if name == "exit":
        os._exit(3)
    if name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "segfault":
        ctypes.string_at(0)
    if name == "full":
        raise MemoryError
    return f"{name} done"


DEADLY = {
    "hang": "decoder_timeout",
    "stop": "decoder_timeout",
    "exit": "decoder_crashed",
    "kill": "decoder_crashed",
    "segfault": "decoder_crashed",
    "full": "decoder_out_of_memory",
}


def expected_of(name: str) -> str:
    return DEADLY.get(name, f"{name} done")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 3])
def test_one_bad_call_of_many_quick_ones_is_blamed_and_the_others_are_not(processes: int) -> None:
    names = [f"g{number}" for number in range(300)]
    for place, name in zip((3, 100, 104, 105, 180, 299), DEADLY, strict=True):
        names[place] = name
    with Workers(behave, processes=processes, timeout_s=1.0) as workers:
        found = [told(result) for result in workers.map((name,) for name in names)]
    assert found == [expected_of(name) for name in names]


def test_quick_calls_travel_together_and_slow_ones_alone() -> None:
    with Workers(os.path.basename, processes=1) as workers:
        sent: list[int] = []
        original = processes._Worker.send

        def send(worker: Any, jobs: Any, **options: Any) -> bool:
            sent.append(len(jobs))
            return original(worker, jobs, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(processes._Worker, "send", send)
            assert len(list(workers.map((f"{number}",) for number in range(2000)))) == 2000
            assert max(sent) > 4
            assert len(sent) < 1000
        sent.clear()
    with Workers(sleep_and_say, processes=1) as workers, pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes._Worker, "send", send)
        assert list(workers.map((number,) for number in range(6))) == list(range(6))
        assert set(sent) == {1}


def sleep_and_say(number: int) -> int:
    time.sleep(0.05)
    return number


_CALLS = 0


def crash_late(number: int) -> int:
    """Harm that shows only in the third call of a process."""
    global _CALLS
    _CALLS += 1
    if _CALLS == 3:
        os._exit(1)
    return number


def test_a_call_is_not_blamed_for_what_an_earlier_one_did() -> None:
    with Workers(crash_late, processes=2) as workers:
        assert list(workers.map((number,) for number in range(9))) == list(range(9))


def echo(content: bytes) -> bytes:
    return content


def test_large_arguments_and_results_do_not_block(tmp_path: Path) -> None:
    contents = [bytes([number]) * (1 if number % 2 else 2**21) for number in range(60)]
    with Workers(echo, processes=2) as workers:
        assert list(workers.map((content,) for content in contents)) == contents


def test_no_more_is_taken_ahead_than_is_said() -> None:
    taken = 0

    def endless() -> Iterator[tuple[str]]:
        nonlocal taken
        while True:
            taken += 1
            yield ("a",)

    with Workers(behave, processes=2) as workers:
        results = workers.map(endless(), ahead=2)
        for number in range(1, 20):
            assert next(results) == "a done"
            assert taken <= number + 4
        results.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_who_stops_reading_may_begin_anew() -> None:
    with Workers(behave, processes=2, timeout_s=20) as workers:
        first = workers.map((f"a{number}",) for number in range(500))
        assert [next(first), next(first)] == ["a0 done", "a1 done"]
        second = workers.map((f"b{number}",) for number in range(300))
        assert next(second) == "b0 done"
        assert next(first) == "a2 done"
        first.close()
        assert list(second) == [f"b{number} done" for number in range(1, 300)]
        assert list(workers.map([("c",)])) == ["c done"]


def test_a_process_killed_from_outside_between_calls_is_made_anew() -> None:
    with Workers(slow_pid, processes=1) as workers:
        (process,) = workers.map([(0,)])
        os.kill(process, signal.SIGKILL)
        (other,) = workers.map([(0,)])
        assert other != process


def slow_pid(number: int) -> int:
    return os.getpid()


# ---- quarantine --------------------------------------------------------------------------------------------


def start(folder: Path, names: list[str], **options: Any) -> tuple[list[object], list[str]]:
    """One run over files of these names: the outcomes, and which were called."""
    log = folder / "log"
    log.write_text("")
    settings = {"processes": 2, "timeout_s": 1.5, "quarantine": folder / "q" / "quarantine.jsonl"} | options
    with Workers(behave, **settings) as workers:
        found = [told(result) for result in workers.map((str(folder / name), str(log)) for name in names)]
    return found, log.read_text().split()


@pytest.fixture
def deadly(tmp_path: Path) -> list[str]:
    names = ["a", *DEADLY, "b"]
    for name in names:
        (tmp_path / name).write_text(name)
    return names


def test_what_ended_a_process_is_not_called_again_on_the_next_start(
    tmp_path: Path, deadly: list[str]
) -> None:
    expected: list[object] = [expected_of(name) for name in deadly]
    found, called = start(tmp_path, deadly)
    assert found == expected
    assert set(called) == set(deadly)
    for options in ({}, {"processes": 1}):
        found, called = start(tmp_path, deadly, **options)
        assert found == expected
        assert sorted(called) == ["a", "b"]
    text = (tmp_path / "q" / "quarantine.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert sorted(row["reason"] for row in rows) == sorted(DEADLY.values())
    assert all(set(row) == {"file", "reason", "timeout_s", "memory_gib"} for row in rows)
    assert not any(part in text for part in [*DEADLY, *tmp_path.parts[1:]] if len(part) > 4)


def test_within_one_start_it_is_called_once_too(tmp_path: Path, deadly: list[str]) -> None:
    with Workers(behave, processes=1, timeout_s=1.0, quarantine=tmp_path / "q") as workers:
        for _ in range(2):
            started = time.monotonic()
            assert told(next(workers.map([(str(tmp_path / "hang"),)]))) == "decoder_timeout"
        assert time.monotonic() - started < 0.5


def test_a_changed_file_and_a_larger_limit_lift_the_quarantine(tmp_path: Path, deadly: list[str]) -> None:
    start(tmp_path, ["exit", "kill"])
    (tmp_path / "exit").write_text("mended")
    assert set(start(tmp_path, ["exit", "kill"])[1]) == {"exit"}
    os.utime(tmp_path / "kill", (1, 1))
    assert set(start(tmp_path, ["exit", "kill"])[1]) == {"kill"}
    assert start(tmp_path, ["exit", "kill"], timeout_s=1.0)[1] == []
    assert set(start(tmp_path, ["exit"], timeout_s=3.0)[1]) == {"exit"}
    assert set(start(tmp_path, ["kill"], memory_gib=3.0)[1]) == {"kill"}
    # the same under another name of the same place
    monkey = pytest.MonkeyPatch()
    monkey.chdir(tmp_path)
    with Workers(behave, quarantine=tmp_path / "q" / "quarantine.jsonl", timeout_s=1.5) as workers:
        assert told(next(workers.map([("exit",)]))) == "decoder_crashed"
    monkey.undo()


def test_a_quarantine_survives_half_a_line(tmp_path: Path, deadly: list[str]) -> None:
    start(tmp_path, ["exit"])
    file = tmp_path / "q" / "quarantine.jsonl"
    with file.open("ab") as opened:
        opened.write(b'{"file": "12\xff')
    found, called = start(tmp_path, ["exit", "kill"])
    assert (found, set(called)) == (["decoder_crashed"] * 2, {"kill"})
    found, called = start(tmp_path, ["exit", "kill"])
    assert (found, called) == (["decoder_crashed"] * 2, [])
    assert len(file.read_bytes().splitlines()) == 3


def test_ordinary_faults_and_missing_files_are_not_quarantined(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("no picture")
    jobs = [(tmp_path / "x.jpg", "image"), (tmp_path / "none.jpg", "image")]
    with Workers(media.measure, quarantine=tmp_path / "q") as workers:
        assert [told(result) for result in workers.map(jobs)] == ["image_broken", "media_missing"]
    assert not (tmp_path / "q").exists()
