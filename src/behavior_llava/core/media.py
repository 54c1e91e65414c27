"""Files from outside to pixels: hostile until decoded, decoded once.

`measure` and `decode_frames` open what people and platforms left on disk; whatever goes wrong becomes a
`MediaFault` with a fixed reason; workers.py runs them where a decoder may hang or crash. `FrameStore` keeps a
video's sampled frames as JPEG files, keyed by the media's hash, the times, the size and the quality, for
every arm, epoch and evaluation to read. Pictures are read from their own files.

Pixels are those a viewer sees: turned upright as the file says (EXIF, a video's display matrix), transparent
parts on white, 16 bits a channel as 8, of an animation the first frame. Color profiles are not applied.

Called by data/collect.py (measure), data/scenes.py (frames) and the models (pixels).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import secrets
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import av.container
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from PIL import Image

from behavior_llava.core.schema import Media, MediaKind

MAX_PIXELS = 64_000_000
"""Pictures beyond this are refused before they are decoded: 8000 x 8000 is more than any platform serves."""
MAX_BYTES = 4 * 2**30
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
VIDEO_FORMATS = "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif"
"""Containers, as FFmpeg names them; none of them leads to another file."""
FRAME_SIDE = 448
"""Longest side of a stored frame: no model of ours looks at a video frame more closely."""
FRAME_QUALITY = 92
"""Of a stored frame's JPEG. Part of its name, as FRAME_SIDE is: frames of other settings are other files."""
LEFT_S = 3600.0
"""A part that was not finished for so long never will be: its writer was killed."""
HASH_SIDE = 64
"""A JPEG is decoded at no less than this for its dhash, which looks at 9 x 8 cells."""
READ_WHOLE_BYTES = 32 * 2**20
"""Pictures up to this size are read once, for the hash and the pixels."""
NEAR_S = 1.0
"""Decoding on is cheaper than a seek over so short a gap, where the container has no index to tell."""
_SAME_S = 1e-6
"""Times this close are one: they were fractions once."""

OUT_OF_MEMORY = "decoder_out_of_memory"

# EXIF tag 0x0112, Source: CIPA DC-008 (Exif 2.32), 4.6.4 A
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset(_UPRIGHT[number] for number in (5, 6, 7, 8))
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


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


# ---- files -------------------------------------------------------------------------------------------------


def _opened(path: Path) -> io.BufferedReader:
    """The file for reading, if it is a regular one (or a link to one); MediaFault media_missing or
    media_unreadable (no permission, a circle of links).
    """
    try:
        # without O_NONBLOCK a pipe would keep us waiting for its writer for ever
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise MediaFault("media_missing") from None
    except OSError:
        raise MediaFault("media_unreadable") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise MediaFault("media_missing")
    return open(number, "rb")  # noqa: PTH123 - by its number: the name may mean another file by now


def sha256(path: Path) -> str:
    """The hash of a file's bytes, as 64 hex digits."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- pictures ----------------------------------------------------------------------------------------------


def open_image(path: Path, *, side: int | None = None) -> Image.Image:
    """An image file as RGB pixels, upright and on white.

    Args:
        side: decode a JPEG at the smallest of its scales that still covers this many pixels (much faster);
            None: full size.

    Raises:
        MediaFault: media_missing, image_too_large, image_broken, decoder_out_of_memory.
    """
    with _opened(path) as file:
        return _decode_image(file, side)[0]


def image_size(path: Path, *, side: int | None = None) -> tuple[int, int]:
    """The (width, height) that `open_image` gives, from the beginning of the file alone.

    Raises:
        MediaFault: as `open_image`, where that shows at the beginning.
    """
    with _opened(path) as file, _image(file, side) as image:
        width, height = image.size
        return (height, width) if _turn_of(image) in _SIDEWAYS else (width, height)


def _decode_image(
    file: io.BufferedReader | io.BytesIO, side: int | None
) -> tuple[Image.Image, tuple[int, int]]:
    """The pixels, and the (width, height) of the whole picture as it is seen."""
    with _image(file, None) as image:
        size = image.size
        if side is not None:
            image.draft("RGB", (side, side))
        turn = _turn_of(image)
        pixels = _on_white(image)
    if turn is None:
        return pixels, size
    return pixels.transpose(turn), (size[1], size[0]) if turn in _SIDEWAYS else size


@contextlib.contextmanager
def _image(file: io.BufferedReader | io.BytesIO, side: int | None) -> Iterator[Image.Image]:
    """An image file of which the beginning is read; what goes wrong with it in the block is a MediaFault."""
    try:
        # by an open file, not by its name: Pillow would map some formats into memory, and a file that is cut
        # meanwhile would end the process
        with Image.open(file, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise MediaFault("image_too_large")
            if side is not None:
                image.draft("RGB", (side, side))
            yield image
    except MediaFault:
        raise
    except MemoryError:
        raise MediaFault(OUT_OF_MEMORY) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise MediaFault("image_too_large") from None
    except Exception as error:  # Pillow's readers raise whatever hostile bytes bring about
        raise MediaFault("image_broken") from error


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """How the camera says the picture is to be turned; None where it does not, or nobody can read it."""
    if "exif" not in image.info:
        return None
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - broken notes about a picture do not make it unreadable
        return None


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow would cut 16 bits off at 255 instead of scaling them
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    colored = image if image.mode == "RGBA" else image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(colored, mask=colored)
    return canvas


def dhash(image: Image.Image) -> str:
    """The 64-bit difference hash: does each of 8 x 8 cells get brighter to the right? 16 hex digits.

    Source: https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html
    """
    gray = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    bits = np.packbits((gray[:, 1:] > gray[:, :-1]).ravel())
    return bits.tobytes().hex()


# ---- videos ------------------------------------------------------------------------------------------------


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


def _open_video(source: Path | io.BufferedReader) -> av.container.InputContainer:
    """A video for decoding, from its beginning. Of an open file only one at a time: they share its place."""
    if isinstance(source, Path):
        with _opened(source) as file:
            return _open_video(file)  # FFmpeg has a handle of its own
    source.seek(0)
    # "fd" alone: a playlist called "video" can make the decoder open no address and no other file
    options = {"fd": str(source.fileno()), "protocol_whitelist": "fd", "format_whitelist": VIDEO_FORMATS}
    try:
        container = av.open("fd:", options=options)
    except MemoryError:  # FFmpeg's is one of Python's too
        raise MediaFault(OUT_OF_MEMORY) from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaFault("video_broken") from error
    if not container.streams.video:
        container.close()
        raise MediaFault("video_without_picture")
    stream = container.streams.video[0]
    if stream.codec_context is None:  # pyright: ignore[reportUnnecessaryComparison] - of an unknown codec
        container.close()
        raise MediaFault("video_broken")
    if stream.width * stream.height > MAX_PIXELS:
        container.close()
        raise MediaFault("image_too_large")
    # the pictures inside may be larger than the header says
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    stream.thread_type = "SLICE"
    return container


def decode_frames(path: Path, times_s: Sequence[float]) -> list[Image.Image]:
    """The frames shown at the given times (ascending, in seconds), as RGB pixels, exactly.

    Of every group of pictures only the part up to the last frame wanted is decoded, and that once.

    Raises:
        MediaFault: media_missing, video_broken (also where the file ends before the time), video_empty,
            video_without_picture, image_too_large, decoder_out_of_memory.
    """
    with _opened(path) as file, _Video(file) as video:
        return [video.frame(time_s) for time_s in times_s]


def spread_frames(
    path: Path, *, step_s: float, most: int, numbers: Collection[int] | None = None
) -> Iterator[tuple[float, Image.Image]]:
    """(time, frame) at the middles of equal parts of a video, one a `step_s` and at most so many.

    Args:
        numbers: the parts that are wanted, from 0; None for all.

    Raises:
        MediaFault: as `decode_frames`.
    """
    with _opened(path) as file, _Video(file) as video:
        duration_s = video_duration_s(video.container)
        parts = min(max(math.ceil(duration_s / step_s), 1), most)
        for part in range(parts):
            if numbers is not None and part not in numbers:
                continue
            time_s = video.start_s + duration_s * (part + 0.5) / parts
            yield time_s, video.frame(time_s)


class _Video:
    """One video; `frame` for ascending times decodes no picture twice, and seeks only over key pictures."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._restart()

    def __enter__(self) -> _Video:
        return self

    def __exit__(self, *exception: object) -> None:
        self.container.close()

    @property
    def start_s(self) -> float:
        """When the first frame is shown."""
        return float((self._stream.start_time or 0) * self._tick_s)

    def frame(self, time_s: float) -> Image.Image:
        """The last frame not after `time_s`, or else the first of all."""
        try:
            frame = self._find(time_s)
            pixels = frame.to_image()
            turn = _TURNS.get(frame.rotation % 360)
        except MemoryError:
            raise MediaFault(OUT_OF_MEMORY) from None
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaFault("video_broken") from error
        return pixels if turn is None else pixels.transpose(turn)

    def _find(self, time_s: float) -> VideoFrame:
        if self._shown_s > time_s + _SAME_S or self._is_seek_worthwhile(time_s):
            self._seek(time_s)
        # some containers (MPEG-TS) seek too far: then from ever earlier, at last from the beginning
        back_s = 1.0
        while not self._advance(time_s):
            self._seek(time_s - back_s)
            back_s *= 4
        if self._shown is None:
            raise MediaFault("video_empty")
        if self._next_s == math.inf:
            self._refuse_early_end(self._shown, time_s)
        return self._shown

    def _is_seek_worthwhile(self, time_s: float) -> bool:
        """Whether a key picture lies between what was decoded and the time; both ways lead to the frame."""
        if self._shown is not None and self._next_s > time_s + _SAME_S:
            return False
        entries, ticks = self._stream.index_entries, int(time_s / self._tick_s)
        listed = entries.search_timestamp(ticks, any_frame=True)
        # an index of key pictures alone, or of the parts that were visited, does not know what it leaves out
        if listed >= 0 and ticks - entries[listed].timestamp <= NEAR_S / self._tick_s:
            found = entries.search_timestamp(ticks)
            begun = entries[0].timestamp if self._fed_ticks is None else self._fed_ticks
            return found >= 0 and entries[found].timestamp > begun
        return time_s - max(self._shown_s, self.start_s) > NEAR_S

    def _seek(self, time_s: float) -> None:
        if time_s <= self.start_s:
            self.container.close()
            self._restart()
            return
        self._forget(is_whole=False)
        try:
            self.container.seek(int(time_s / self._tick_s), stream=self._stream, backward=True)
        except av.error.FFmpegError:
            self._coming = iter(())  # not from there; perhaps from earlier

    def _restart(self) -> None:
        self.container = _open_video(self._file)
        self._stream = self.container.streams.video[0]
        self._tick_s = float(self._stream.time_base or 1)
        self._forget(is_whole=True)

    def _forget(self, *, is_whole: bool) -> None:
        self._is_whole = is_whole  # nothing was skipped
        self._coming: Iterator[VideoFrame] = self._decoded()
        self._fed_ticks: int | None = None
        self._shown: VideoFrame | None = None
        self._next: VideoFrame | None = None
        self._shown_s = self._next_s = -math.inf

    def _decoded(self) -> Iterator[VideoFrame]:
        for packet in self.container.demux(self._stream):
            # an index knows key pictures by the one or the other time
            ticks = packet.pts if packet.is_keyframe else packet.dts
            if ticks is not None:
                self._fed_ticks = ticks if self._fed_ticks is None else max(self._fed_ticks, ticks)
            for frame in packet.decode():
                assert isinstance(frame, VideoFrame)
                yield frame

    def _advance(self, time_s: float) -> bool:
        """Goes on until `_shown` is the frame of that time; False where only later frames follow."""
        while self._shown is None or self._next_s <= time_s + _SAME_S:
            if self._next is not None:
                self._shown, self._shown_s, self._next = self._next, self._next_s, None
                if self._shown_s > time_s + _SAME_S:
                    return self._is_whole
            before_s = max(self._shown_s, self.start_s - self._step_s)
            self._next = next(self._coming, None)
            if self._next is None:
                self._next_s = math.inf
                return self._shown is not None or self._is_whole
            self._next_s = before_s + self._step_s if self._next.time is None else self._next.time
        return True

    @property
    def _step_s(self) -> float:
        return float(1 / (self._stream.average_rate or 25))

    def _refuse_early_end(self, last: VideoFrame, time_s: float) -> None:
        """The file says that it goes on behind its last frame: it was cut off, or it lies."""
        lasts_s = last.duration * self._tick_s if last.duration else self._step_s
        end_s = self._shown_s + 1.5 * lasts_s
        if self._stream.duration is not None:
            said_s = self.start_s + self._stream.duration * self._tick_s
            is_short = end_s < min(time_s, said_s)
        else:
            # the length of a container is that of its longest stream: sound may go on over a last picture
            said_s = (self.container.duration or 0) / av.time_base
            is_short = end_s < 0.1 * min(time_s, said_s)
        if is_short:
            raise MediaFault("video_broken")


def measure(path: Path, kind: MediaKind) -> Measured:
    """Hash, perceptual hash, size and length of a media file, by decoding it.

    Raises:
        MediaFault: with the reason.
    """
    with _opened(path) as file:
        before = os.fstat(file.fileno())
        if before.st_size == 0:
            raise MediaFault("media_empty")
        if before.st_size > MAX_BYTES:
            raise MediaFault("media_too_large")
        if kind == "image":
            source = io.BytesIO(file.read()) if before.st_size <= READ_WHOLE_BYTES else file
            image, (width, height) = _decode_image(source, HASH_SIDE)
            duration_s = None
        else:
            source = file
            with _Video(file) as video:
                duration_s = video_duration_s(video.container)
                image = video.frame(video.start_s + duration_s / 2)
            width, height = image.size
        source.seek(0)
        digest = hashlib.file_digest(source, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise MediaFault("media_changed")  # hash and pixels may be of different files
    return Measured(digest, dhash(image), width, height, duration_s)


# ---- frame store -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameStore:
    """Sampled video frames on disk, each file written whole or not at all.

    Pictures are not stored. Decoded at a scale near what a model looks at, one of a platform's usual size
    costs about what a stored copy would, and a second compression would change its pixels.

    Attributes:
        folder: shared by every stage of a run; safe for several processes.
    """

    folder: Path

    def frames(self, media: Media, *, side: int | None = None) -> list[Image.Image]:
        """What a model sees of a media item: the image itself, or a video's frames at `media.times_s`.

        Raises:
            MediaFault: the file is gone, broken or another one since it was collected.
        """
        if media.kind == "image":
            return [open_image(Path(media.path), side=side)]
        try:
            return [open_image(path) for path in self.frame_files(media)]
        except MediaFault as fault:
            if fault.reason not in ("image_broken", "media_missing"):
                raise
            # a disk that lost its power keeps names without contents; the video still has the frame
            self._decode(media)
        return [open_image(path) for path in self.frame_files(media)]

    def sizes(self, media: Media, *, side: int | None = None) -> tuple[tuple[int, int], ...]:
        """The (width, height) of each picture that `frames` gives, without decoding those that are stored.

        Raises:
            MediaFault: as `frames`, where that shows at the beginning of a file.
        """
        if media.kind == "image":
            return (image_size(Path(media.path), side=side),)
        try:
            return tuple(image_size(path) for path in self.frame_files(media))
        except MediaFault as fault:
            if fault.reason not in ("image_broken", "media_missing"):
                raise
        return tuple(picture.size for picture in self.frames(media))

    def has(self, media: Media) -> bool:
        """Whether all frames of a video are stored; never of an image."""
        return media.kind == "video" and all(
            self.file(media.sha256, time_s).exists() for time_s in media.times_s
        )

    def frame_files(self, media: Media) -> list[Path]:
        """The JPEG files of a video's frames, decoded now if they are not there yet.

        Raises:
            MediaFault: as `decode_frames`; media_changed where the file is not the one of the hash any more.
        """
        if not self.has(media):
            self._decode(media)
        return [self.file(media.sha256, time_s) for time_s in media.times_s]

    def _decode(self, media: Media) -> None:
        path = Path(media.path)
        frames = decode_frames(path, media.times_s)
        if sha256(path) != media.sha256:
            raise MediaFault("media_changed")  # another file's frames would be kept under this one's hash
        self.put(media, frames)

    def put(self, media: Media, frames: Sequence[Image.Image]) -> None:
        """Stores the frames of a video at its `times_s`; the caller knows that they are of that hash."""
        for time_s, frame in zip(media.times_s, frames, strict=True):
            small = frame.copy()
            small.thumbnail((FRAME_SIDE, FRAME_SIDE))
            content = io.BytesIO()
            small.save(content, "JPEG", quality=FRAME_QUALITY)
            write_whole(self.file(media.sha256, time_s), content.getvalue())

    def file(self, digest: str, time_s: float) -> Path:
        """Where a frame of the media with this hash lies; what is derived from it lies beside it."""
        # in steps within which `decode_frames` takes two times for one
        name = f"{round(time_s / _SAME_S):012d}.{FRAME_SIDE}q{FRAME_QUALITY}.jpg"
        return self.folder / digest[:2] / digest / name


def write_whole(file: Path, content: bytes) -> None:
    """Puts a file in its place with all of its content or not at all, whoever else writes or is killed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob("*.part"):
        with contextlib.suppress(FileNotFoundError):  # somebody else has removed it, or finished it
            if time.time() - left.stat().st_mtime > LEFT_S:
                left.unlink()
    # by chance, not by a process's number: other machines may write to the same disk
    part = file.with_name(f"{file.name}.{secrets.token_hex(8)}.part")
    try:
        with part.open("wb") as writing:
            writing.write(content)
            writing.flush()
            os.fsync(writing.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


# ---- sound -------------------------------------------------------------------------------------------------

SOUND_SLACK_S = 0.5
"""A track may end so much earlier than its file says: encoders pad, and edit lists cut, by a few frames."""
MAX_SOUND_FRAME_S = 60.0
"""No encoder makes frames this long; one that says so would swell to any size when it is resampled."""


def read_audio(path: Path, *, rate: int = 16_000, max_s: float) -> np.ndarray | None:
    """The first sound track of a video as mono samples [T] in -1..1, float32, at `rate` per second.

    Args:
        max_s: what comes later is not decoded.

    Returns:
        None where the file has no sound track, or an empty one.

    Raises:
        MediaFault: media_missing, media_unreadable, sound_broken (also where the track ends before the file
            says), decoder_out_of_memory.
    """
    try:
        with _opened(path) as file, _open_sound(file) as container:
            if not container.streams.audio:
                return None
            samples = np.concatenate([np.empty(0, np.float32), *_sound(container, rate, max_s)])
    except MemoryError:
        raise MediaFault(OUT_OF_MEMORY) from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaFault("sound_broken") from error
    if not np.isfinite(samples).all():
        raise MediaFault("sound_broken")
    return np.clip(samples[: int(max_s * rate)], -1.0, 1.0) if len(samples) else None


def _open_sound(file: io.BufferedReader) -> av.container.InputContainer:
    # as in _open_video: no address and no other file can be reached
    options = {"fd": str(file.fileno()), "protocol_whitelist": "fd", "format_whitelist": VIDEO_FORMATS}
    return av.open("fd:", options=options)


def _sound(container: av.container.InputContainer, rate: int, max_s: float) -> Iterator[np.ndarray]:
    """Pieces of the track, in order, up to `max_s` or a little further."""
    stream = container.streams.audio[0]
    if stream.codec_context is None:  # pyright: ignore[reportUnnecessaryComparison] - of an unknown codec
        raise MediaFault("sound_broken")
    resampler = av.AudioResampler("fltp", rate=rate)
    num_samples, begins_s, ended_s = 0, None, 0.0
    for frame in container.decode(stream):
        if frame.samples >= MAX_SOUND_FRAME_S * frame.sample_rate:
            raise MediaFault("sound_broken")
        starts_s = ended_s if frame.time is None else frame.time
        begins_s = starts_s if begins_s is None else begins_s
        ended_s = starts_s + frame.samples / frame.sample_rate
        for piece in _mono(resampler.resample(frame), rate):
            num_samples += len(piece)
            yield piece
        if num_samples >= max_s * rate:
            return
    yield from _mono(resampler.resample(None), rate)
    if stream.duration is not None and stream.time_base is not None:
        said_s = min(float(stream.duration * stream.time_base), max_s)
        # other containers only know the length of their longest stream: pictures may go on without sound
        is_exact = "mp4" in container.format.name
        if ended_s - (begins_s or 0.0) < (said_s - SOUND_SLACK_S if is_exact else 0.1 * said_s):
            raise MediaFault("sound_broken")


def _mono(frames: Sequence[AudioFrame | None], rate: int) -> Iterator[np.ndarray]:
    for frame in frames:
        if frame is None:  # the end, where there is nothing to resample
            continue
        if frame.sample_rate != rate or frame.format.name != "fltp":
            raise MediaFault("sound_broken")  # it changes midway, where there was nothing to resample
        # not by FFmpeg, which lets the sum of two loud channels be louder than full scale
        yield frame.to_ndarray().mean(0)
