"""Files from outside to pixels: hostile until decoded, decoded once.

`measure` and `decode_frames` open what people and platforms left on disk; whatever goes wrong becomes a
`MediaFault` with a fixed reason. `Workers` runs them in processes that can be killed, so that a file which
makes a decoder hang costs its time limit and nothing else. `FrameStore` keeps a video's sampled frames as
JPEG files, keyed by the media's hash and the times, for every arm, epoch and evaluation to read.

Called by data/collect.py (measure), data/scenes.py (frames) and the models (pixels).
"""

from __future__ import annotations

import hashlib
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, UnidentifiedImageError

from behavior_llava.core.schema import Media, MediaKind

MAX_PIXELS = 64_000_000
"""Pictures beyond this are refused before they are decoded: 8000 x 8000 is more than any platform serves."""
MAX_BYTES = 4 * 2**30
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
VIDEO_FORMATS = "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif"
"""Containers, as FFmpeg names them; none of them leads to another file."""
FRAME_SIDE = 448
"""Longest side of a stored frame: no model of ours looks at a video frame more closely."""


class MediaFault(Exception):
    """A file that cannot be used; `reason` is a short fixed word and the key of its count."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Measured:
    """What collect records of a media file.

    Attributes:
        dhash: 16 hex digits; of a video, that of its middle frame.
        duration_s: None for an image.
    """

    sha256: str
    dhash: str
    width: int
    height: int
    duration_s: float | None


def sha256(path: Path) -> str:
    """The hash of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_image(path: Path, *, side: int | None = None) -> Image.Image:
    """An image file as RGB pixels.

    Args:
        side: decode a JPEG at the smallest of its scales that still covers this many pixels (much faster);
            None: full size.

    Raises:
        MediaFault: media_missing, image_too_large, image_broken.
    """
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise MediaFault("image_too_large")
            if side is not None:
                image.draft("RGB", (side, side))
            return image.convert("RGB")
    except FileNotFoundError:
        raise MediaFault("media_missing") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise MediaFault("image_too_large") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise MediaFault("image_broken") from error


def dhash(image: Image.Image) -> str:
    """The 64-bit difference hash: does each of 8 x 8 cells get brighter to the right? 16 hex digits.

    Source: https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html
    """
    gray = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    bits = np.packbits((gray[:, 1:] > gray[:, :-1]).ravel())
    return bits.tobytes().hex()


def video_duration_s(container: av.container.InputContainer) -> float:
    """The length of a video; MediaFault video_empty where the file tells none."""
    stream = container.streams.video[0]
    if stream.duration is not None and stream.time_base is not None:
        duration_s = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration_s = container.duration / av.time_base
    else:
        raise MediaFault("video_empty")
    if duration_s <= 0:
        raise MediaFault("video_empty")
    return duration_s


def _open_video(path: Path) -> av.container.InputContainer:
    try:
        # a playlist called "video" must not make the decoder open addresses or other files
        container = av.open(
            str(path), options={"protocol_whitelist": "file", "format_whitelist": VIDEO_FORMATS}
        )
    except FileNotFoundError:
        raise MediaFault("media_missing") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaFault("video_broken") from error
    if not container.streams.video:
        container.close()
        raise MediaFault("video_without_picture")
    stream = container.streams.video[0]
    if stream.width * stream.height > MAX_PIXELS:
        container.close()
        raise MediaFault("image_too_large")
    stream.thread_type = "SLICE"
    return container


def decode_frames(path: Path, times_s: Sequence[float]) -> list[Image.Image]:
    """The frames shown at the given times (ascending, in seconds), as RGB pixels, exactly: seek back, decode
    forward.

    Raises:
        MediaFault: media_missing, video_broken (also where the file ends before the time), video_empty,
            video_without_picture, image_too_large.
    """
    try:
        with _open_video(path) as container:
            stream = container.streams.video[0]
            frames: list[Image.Image] = []
            for time_s in times_s:
                assert stream.time_base is not None
                container.seek(int(time_s / stream.time_base), stream=stream, backward=True)
                frame = _frame_at(container, time_s)
                if frame is None or (frame.time or 0.0) > time_s + 1e-6:
                    # some containers (MPEG-TS) seek too far; then, and before the first frame, from the
                    # beginning
                    with _open_video(path) as again:
                        frame = _frame_at(again, time_s)
                if frame is None:
                    raise MediaFault("video_empty")
                frames.append(frame.to_image())
            return frames
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaFault("video_broken") from error


def _frame_at(container: av.container.InputContainer, time_s: float) -> VideoFrame | None:
    """The last frame not after `time_s` of those that follow, or else the first that follows."""
    stream = container.streams.video[0]
    chosen = None
    for frame in container.decode(stream):
        if (frame.time or 0.0) > time_s + 1e-6:
            return frame if chosen is None else chosen
        chosen = frame
    if chosen is not None and stream.duration is not None and stream.time_base is not None:
        end_s = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
        shown_s = (
            float(chosen.duration * stream.time_base)
            if chosen.duration
            else float(1 / (stream.average_rate or 25))
        )
        if (chosen.time or 0.0) + 1.5 * shown_s < min(time_s, end_s):
            raise MediaFault("video_broken")
    return chosen


def measure(path: Path, kind: MediaKind) -> Measured:
    """Hash, perceptual hash, size and length of a media file, by decoding it.

    Raises:
        MediaFault: with the reason.
    """
    if not path.is_file():
        raise MediaFault("media_missing")
    size = path.stat().st_size
    if size == 0:
        raise MediaFault("media_empty")
    if size > MAX_BYTES:
        raise MediaFault("media_too_large")
    if kind == "image":
        image, duration_s = open_image(path), None
    else:
        try:
            with _open_video(path) as container:
                duration_s = video_duration_s(container)
        except av.error.FFmpegError as error:
            raise MediaFault("video_broken") from error
        image = decode_frames(path, [duration_s / 2])[0]
    return Measured(sha256(path), dhash(image), image.width, image.height, duration_s)


# ---- frame store -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameStore:
    """Sampled video frames on disk, each file written whole or not at all.

    Attributes:
        folder: shared by every stage of a run; safe for several processes.
    """

    folder: Path

    def frames(self, media: Media, *, side: int | None = None) -> list[Image.Image]:
        """What a model sees of a media item: the image itself, or a video's frames at `media.times_s`.

        Raises:
            MediaFault: the file is gone or broken since it was collected.
        """
        if media.kind == "image":
            return [open_image(Path(media.path), side=side)]
        return [open_image(path) for path in self.frame_files(media)]

    def frame_files(self, media: Media) -> list[Path]:
        """The JPEG files of a video's frames, decoded now if they are not there yet."""
        files = [self._file(media.sha256, time_s) for time_s in media.times_s]
        if not all(file.exists() for file in files):
            self.put(media, decode_frames(Path(media.path), media.times_s))
        return files

    def put(self, media: Media, frames: Sequence[Image.Image]) -> None:
        """Stores the frames of a video at its `times_s`."""
        for time_s, frame in zip(media.times_s, frames, strict=True):
            file = self._file(media.sha256, time_s)
            file.parent.mkdir(parents=True, exist_ok=True)
            small = frame.copy()
            small.thumbnail((FRAME_SIDE, FRAME_SIDE))
            part = file.with_suffix(f".{os.getpid()}-{threading.get_native_id()}.part")
            small.save(part, "JPEG", quality=92)
            part.replace(file)

    def _file(self, digest: str, time_s: float) -> Path:
        return self.folder / digest[:2] / digest / f"{round(1000 * time_s):09d}.jpg"


# ---- processes that can be killed --------------------------------------------------------------------------


def _serve(connection: multiprocessing.connection.Connection, function: Callable[..., Any]) -> None:
    connection.send(("ready", None))
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("ok", function(*arguments)))
        except MediaFault as fault:
            connection.send(("fault", fault.reason))
        except Exception as error:  # noqa: BLE001 - a decoder may raise anything; it becomes a counted reason
            connection.send(("fault", f"decoder_{type(error).__name__}"))


class _Worker:
    def __init__(self, function: Callable[..., Any], timeout_s: float) -> None:
        self._function, self._timeout_s = function, timeout_s
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._function), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._connection.recv()
        except EOFError:
            # no fault of a file: the function itself cannot be imported there
            raise RuntimeError(
                f"a worker for {self._function.__name__} ends before it begins; see its trace above"
            ) from None

    def call(self, arguments: tuple[Any, ...]) -> Any:
        """The function's result, or a MediaFault as a value."""
        try:
            self._connection.send(arguments)
            if self._connection.poll(self._timeout_s):
                kind, value = self._connection.recv()
                return MediaFault(value) if kind == "fault" else value
            reason = "decoder_timeout"
        except (EOFError, BrokenPipeError, ConnectionResetError):
            reason = "decoder_crashed"
        self.close()
        self._start()
        return MediaFault(reason)

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


class Workers:
    """Runs one function over many arguments in processes that are killed when they hang or crash.

    A context manager: the processes start with the first call and end with the block.

    Args:
        function: importable by name; raises MediaFault for what it refuses.
        timeout_s: per call; a call beyond it yields MediaFault("decoder_timeout") and a fresh process.
    """

    def __init__(self, function: Callable[..., Any], *, processes: int = 2, timeout_s: float = 60.0) -> None:
        self._function, self._processes, self._timeout_s = function, processes, timeout_s
        self._local = threading.local()
        self._workers: list[_Worker] = []
        self._pool = ThreadPoolExecutor(processes)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def _call(self, item: tuple[Any, ...]) -> Any:
        if not hasattr(self._local, "worker"):
            self._local.worker = _Worker(self._function, self._timeout_s)
            self._workers.append(self._local.worker)
        return self._local.worker.call(item)

    def map(self, arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Results, or MediaFault values, in the order of the arguments; at most a few hundred are held at a
        time.
        """
        waiting: deque[Future[Any]] = deque()
        for item in arguments:
            waiting.append(self._pool.submit(self._call, item))
            if len(waiting) >= 64 * self._processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
