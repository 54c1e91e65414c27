"""How fast media become pixels: ours beside what a good user of Pillow and PyAV writes, and what is possible.

    python benchmarks/decode.py [--json] [--rounds 10] [--images 400]

Pictures: JPEG files of 640 x 480 with photo-like texture; the job is SHA-256, dhash and a picture of 224 x
224 for a model. Videos: 8 of the 600 frames of one of 640 x 360 (H.264, libx264's default groups of
pictures). All of it is made on the spot and lies in the page cache. Results are compared, not only times:
hashes have to be equal, and frames pixel by pixel.
"""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import tempfile
from fractions import Fraction
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
from common import Report, arguments, in_turns, ratio
from numpy.typing import NDArray
from PIL import Image

from behavior_llava.core import media
from behavior_llava.core.workers import Workers

SIDE = 224
"""What the vision towers look at."""
PROCESSES = 2
NUM_FRAMES, NUM_WANTED, FPS = 600, 8, 25
TIMES_S = [NUM_FRAMES / FPS * (number + 0.5) / NUM_WANTED for number in range(NUM_WANTED)]


# ---- material ----------------------------------------------------------------------------------------------


def texture(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Noise of all scales, coarse ones stronger, as in photographs."""
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(8):
        cells = rng.normal(0, 1, ((height >> octave) + 2, (width >> octave) + 2, 3)).astype(np.float32)
        layers = [
            Image.fromarray(cells[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            for channel in range(3)
        ]
        total += np.stack([np.asarray(layer) for layer in layers], -1) * 1.8**octave
    total += total.mean(-1, keepdims=True)  # most of what changes is brightness
    return np.clip(128 + 60 * total / total.std(), 0, 255).astype(np.uint8)


def save_pictures(folder: Path, count: int) -> list[Path]:
    """So many different JPEG files."""
    rng = np.random.default_rng(0)
    fields = [texture(rng, 1280, 960) for _ in range(4)]
    paths = []
    for number in range(count):
        left, top = rng.integers(0, 640), rng.integers(0, 480)
        pixels = fields[number % len(fields)][top : top + 480, left : left + 640]
        paths.append(folder / f"{number:04d}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=85)
    return paths


def save_video(path: Path) -> None:
    """A textured background moving one way, a patch of another texture moving the other, and grain."""
    rng = np.random.default_rng(0)
    field, grain = texture(rng, 1280, 720), rng.normal(0, 4, (16, 360, 640, 1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number in range(NUM_FRAMES):
            x, y = number % 640, (number // 2) % 360
            pixels = field[y : y + 360, x : x + 640].astype(np.float32)
            pixels[100:220, 600 - x : 720 - x] = field[:120, :120][:, : max(0, 640 - (600 - x))]
            pixels += grain[number % 16]
            frame = av.VideoFrame.from_ndarray(np.clip(pixels, 0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


# ---- pictures ----------------------------------------------------------------------------------------------


def ours(path: Path) -> tuple[str, str, int]:
    """The job through our own functions; the last number stands for the small picture."""
    image = media.open_image(path, side=SIDE)
    small = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return media.sha256(path), media.dhash(image), small.getpixel((SIDE // 2, SIDE // 2))[0]


def _pillow(path: Path, *, is_draft: bool) -> tuple[str, str, int]:
    with Image.open(path) as opened:
        if is_draft:
            opened.draft("RGB", (SIDE, SIDE))
        image = opened.convert("RGB")
    small = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    gray = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    bits = np.packbits((gray[:, 1:] > gray[:, :-1]).ravel()).tobytes().hex()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest, bits, small.getpixel((SIDE // 2, SIDE // 2))[0]


def pillow_draft(path: Path) -> tuple[str, str, int]:
    """The job as a good user of Pillow writes it."""
    return _pillow(path, is_draft=True)


def pillow_full(path: Path) -> tuple[str, str, int]:
    """The job without draft mode."""
    return _pillow(path, is_draft=False)


_HELD: list[bytes] = []


def hold(contents: list[bytes]) -> None:
    """Gives a process the files' bytes before the clock runs."""
    _HELD[:] = contents


def decode_held(number: int) -> None:
    """libjpeg-turbo alone, at the same scale: what no program that looks at the pictures can undercut."""
    image = Image.open(io.BytesIO(_HELD[number]))
    image.draft("RGB", (SIDE, SIDE))
    image.load()


def read_only(path: Path) -> int:
    """What bringing the bytes costs."""
    return len(path.read_bytes())


def pictures(report: Report, folder: Path, count: int, rounds: int) -> None:
    """Adds the rows and results of pictures."""
    paths = save_pictures(folder, count)
    contents = [path.read_bytes() for path in paths]
    size = sum(map(len, contents))
    jobs = [(path,) for path in paths]
    spawn = multiprocessing.get_context("spawn")
    with (
        Workers(ours, processes=PROCESSES) as our_workers,
        Workers(media.measure, processes=PROCESSES) as measurers,
        spawn.Pool(PROCESSES) as pool,
        # processes of their own: what they hold changes where memory is taken from, and so the speed
        spawn.Pool(PROCESSES, hold, (contents,)) as holders,
    ):
        ways = {
            "ours (Workers, 2 processes)": lambda: list(our_workers.map(jobs)),
            "Pillow draft (Pool, 2 processes)": lambda: pool.map(pillow_draft, paths, chunksize=8),
            "collect: measure, no 224 picture (Workers, 2 processes)": lambda: list(
                measurers.map((path, "image") for path in paths)
            ),
            "naive: Pillow, whole size, 1 process": lambda: [pillow_full(path) for path in paths],
            "floor: libjpeg-turbo alone, 2 processes": lambda: holders.map(
                decode_held, range(count), chunksize=8
            ),
            "floor: reading the bytes, 1 process": lambda: [read_only(path) for path in paths],
        }
        found = {name: way() for name, way in ways.items()}  # also starts all processes
        mine, theirs, measured, *_ = found.values()
        assert mine == theirs
        assert [item.sha256 for item in measured] == [item[0] for item in mine]
        seconds = in_turns(ways, rounds)
    best = {name: min(taken) for name, taken in seconds.items()}
    plain = seconds["Pillow draft (Pool, 2 processes)"]
    for name, taken in seconds.items():
        report.rows.append(
            {
                "what": name,
                "unit": "pictures/s",
                "best": round(count / best[name]),
                "median": round(count / median(taken)),
                "rate_by_yardstick": round(ratio(plain, taken), 2),
                "MB_per_s": round(size / best[name] / 1e6),
            }
        )
    names = list(seconds)
    report.results |= {
        "image_ratio_vs_pil_draft": round(ratio(plain, seconds[names[0]]), 3),
        "measure_ratio_vs_pil_draft": round(ratio(plain, seconds[names[2]]), 3),
        "image_ratio_vs_naive": round(ratio(seconds[names[3]], seconds[names[0]]), 2),
        "image_ratio_vs_floor": round(ratio(seconds[names[4]], seconds[names[0]]), 3),
        "images": count,
        "image_bytes": size,
    }
    report.notes.append(
        "pictures: rates, higher is better; the yardstick is Pillow draft in 2 processes; hashes equal"
    )


# ---- videos ------------------------------------------------------------------------------------------------


def pyav_seek(path: Path, thread_type: str) -> list[Image.Image]:
    """Seek to every time and decode forward, as PyAV's documentation does it."""
    images = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = thread_type
        for time_s in TIMES_S:
            container.seek(int(time_s / stream.time_base), stream=stream)
            shown = None
            for frame in container.decode(stream):
                if frame.time > time_s + 1e-6:
                    break
                shown = frame
            images.append(shown.to_image())
    return images


def pyav_whole(path: Path) -> list[Image.Image]:
    """Decodes all frames and keeps the wanted."""
    images: list[Image.Image] = []
    shown = None
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            while len(images) < len(TIMES_S) and frame.time > TIMES_S[len(images)] + 1e-6:
                images.append(shown.to_image())
            shown = frame
    while len(images) < len(TIMES_S):
        images.append(shown.to_image())
    return images


def videos(report: Report, folder: Path, rounds: int) -> None:
    """Adds the rows and results of videos."""
    path = folder / "video.mp4"
    save_video(path)
    ways = {
        "ours (decode_frames, thread type SLICE)": lambda: media.decode_frames(path, TIMES_S),
        "PyAV seek and decode, SLICE": lambda: pyav_seek(path, "SLICE"),
        "PyAV seek and decode, AUTO": lambda: pyav_seek(path, "AUTO"),
        "naive: PyAV, every frame": lambda: pyav_whole(path),
    }
    first, *others = ([np.asarray(image) for image in way()] for way in ways.values())
    assert len(first) == NUM_WANTED
    for other in others:
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(first, other, strict=True))
    seconds = in_turns(ways, rounds)
    names = list(seconds)
    yardstick = min(names[1:3], key=lambda name: median(seconds[name]))
    for name, taken in seconds.items():
        report.rows.append(
            {
                "what": name,
                "unit": f"ms for {NUM_WANTED} of {NUM_FRAMES} frames",
                "best": round(1000 * min(taken)),
                "median": round(1000 * median(taken)),
                "rate_by_yardstick": round(ratio(seconds[yardstick], taken), 2),
                "MB_per_s": None,
            }
        )
    report.results |= {
        "video_ratio_vs_pyav": round(ratio(seconds[names[0]], seconds[yardstick]), 3),
        "video_ratio_vs_pyav_slice": round(ratio(seconds[names[0]], seconds[names[1]]), 3),
        "video_ratio_vs_pyav_auto": round(ratio(seconds[names[0]], seconds[names[2]]), 3),
        "video_ratio_vs_naive": round(ratio(seconds[names[0]], seconds[names[3]]), 3),
        "video_bytes": path.stat().st_size,
        "frames_equal": True,
    }
    report.notes.append(
        f"video: times, lower is better, one process; the yardstick is {yardstick}, the faster of two; "
        "all pixels equal"
    )


def main() -> None:
    """Measures and tells."""
    options = arguments(__doc__ or "", rounds=10, images=400)
    report = Report("decode")
    with tempfile.TemporaryDirectory() as folder:
        pictures(report, Path(folder), options.images, options.rounds)
        videos(report, Path(folder), options.rounds)
    report.tell(as_json=options.json)


if __name__ == "__main__":
    main()
