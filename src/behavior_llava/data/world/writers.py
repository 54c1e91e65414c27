"""The world on disk, in the formats real platforms and benchmarks use.

Media files are drawn in worker processes, each from a seed of its own, and written whole or not at all: a
killed run keeps what it has. Lists and dumps are written afterwards, from the same seeds, so a second run
gives the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import zstandard

from behavior_llava.data.world import content as truth
from behavior_llava.data.world.content import Content
from behavior_llava.data.world.drawing import SIZE, draw_image

FPS = 8
AUDIO_RATE = 8000
CORRUPT_BYTES = 300
"""What is left of a file that is to be corrupt: its header and nothing to see."""
SHOT_S = (1.0, 1.25, 1.5)
_AAC = {"aac_coder": "fast"}
_AAC_FRAME = 1024


@dataclass(frozen=True, slots=True)
class Shot:
    """One shot of a video: what it shows and how long."""

    content: Content
    seconds: float


@dataclass(frozen=True, slots=True)
class Film:
    """A video's truth.

    Attributes:
        peak: number of the shot in which the event is seen.
    """

    content: Content
    shots: tuple[Shot, ...]
    peak: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return sum(shot.seconds for shot in self.shots)

    @property
    def peak_0to1(self) -> float:
        """Where the middle of the peak lies on the time line."""
        before = sum(shot.seconds for shot in self.shots[: self.peak])
        return (before + self.shots[self.peak].seconds / 2) / self.duration_s


def draw_film(content: Content, rng: np.random.Generator) -> Film:
    """Three shots of one place; face and event are seen at the peak only."""
    peak = int(rng.integers(3))
    shots = []
    for number in range(3):
        action = str(rng.choice(truth.ACTIONS))
        shots.append(
            Shot(
                truth.at_scene(content, is_peak=number == peak, action=action),
                float(SHOT_S[int(rng.integers(len(SHOT_S)))]),
            )
        )
    return Film(content, tuple(shots), peak)


def save_image(path: str, content: Content, seed: tuple[int, ...], is_corrupt: bool = False) -> None:
    """Draws and writes one JPEG, unless it is there."""
    target = Path(path)
    if target.exists():
        return
    part = target.with_suffix(f".{os.getpid()}.part")
    draw_image(content, np.random.default_rng(seed)).save(part, "JPEG", quality=90)
    _put(part, target, is_corrupt=is_corrupt)


def _put(part: Path, target: Path, *, is_corrupt: bool) -> None:
    """Gives a written file its name; a corrupt one is cut short before, so that a second run finds it as it
    is to be.
    """
    if is_corrupt:
        os.truncate(part, CORRUPT_BYTES)
    part.replace(target)


@cache
def _tones(seconds: tuple[float, ...]) -> tuple[tuple[bytes, int], ...]:
    """A tone a shot as AAC: (packet, start in samples). Films of equal cuts sound the same; encoding is done
    once.
    """
    wave = np.concatenate(
        [
            np.sin(2 * np.pi * (220 + 110 * number) * np.arange(int(length * AUDIO_RATE)) / AUDIO_RATE)
            for number, length in enumerate(seconds)
        ]
    )
    wave = (0.2 * wave).astype(np.float32)[None]
    encoder = av.CodecContext.create("aac", "w")
    encoder.sample_rate, encoder.layout, encoder.format = AUDIO_RATE, "mono", "fltp"  # type: ignore[attr-defined]
    encoder.options = _AAC
    packets = []
    for start in [*range(0, wave.shape[1] - _AAC_FRAME + 1, _AAC_FRAME), None]:
        sound = None
        if start is not None:
            sound = av.AudioFrame.from_ndarray(
                wave[:, start : start + _AAC_FRAME], format="fltp", layout="mono"
            )
            sound.sample_rate, sound.pts, sound.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
        packets += [(bytes(packet), int(packet.pts or 0)) for packet in encoder.encode(sound)]
    return tuple(packets)


def save_video(path: str, film: Film, seed: tuple[int, ...], is_corrupt: bool = False) -> None:
    """Draws and writes one mp4 (H.264 pictures, AAC tones), unless it is there."""
    target = Path(path)
    if target.exists():
        return
    rng = np.random.default_rng(seed)
    part = target.with_suffix(f".{os.getpid()}.part")
    with av.open(str(part), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "20"})
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        audio = container.add_stream("aac", rate=AUDIO_RATE, options=_AAC)
        for number, shot in enumerate(film.shots):
            still = np.asarray(draw_image(shot.content, rng, light=number))
            shaken = np.roll(still, 1, axis=1)
            for tick in range(round(shot.seconds * FPS)):
                frame = av.VideoFrame.from_ndarray(shaken if tick % 2 else still, format="rgb24")
                container.mux(video.encode(frame))
        container.mux(video.encode())
        for data, start in _tones(tuple(shot.seconds for shot in film.shots)):
            packet = av.Packet(data)
            packet.stream, packet.time_base = audio, Fraction(1, AUDIO_RATE)
            packet.pts = packet.dts = start
            packet.duration = _AAC_FRAME
            container.mux(packet)
    _put(part, target, is_corrupt=is_corrupt)


def save_subtitles(path: Path, film: Film, lines: Sequence[str]) -> None:
    """WebVTT beside the video: what is said in it, one cue a shot."""
    cues, start = [], 0.0
    for shot, line in zip(film.shots, lines, strict=False):
        cues.append(f"{_stamp(start)} --> {_stamp(start + shot.seconds)}\n{line}\n")
        start += shot.seconds
    path.write_text("WEBVTT\nKind: captions\nLanguage: en\n\n" + "\n".join(cues), encoding="utf-8")


def _stamp(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"00:{int(minutes):02d}:{rest:06.3f}"


def save_dump(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """A monthly dump: one JSON object a line, zstd with the 2 GiB window of the real ones."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, write_content_size=False)
    part = path.with_suffix(".part")
    with (
        part.open("wb") as file,
        zstandard.ZstdCompressor(compression_params=parameters).stream_writer(file) as writer,
    ):
        for record in records:
            writer.write(json.dumps(record, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    part.replace(path)


def save_json(path: Path, value: Any) -> None:
    """A JSON file, as people's tools write it."""
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def save_near_copy(path: str, content: Content, seed: tuple[int, ...]) -> None:
    """A repost: the picture of this content and seed, a little brighter and compressed more, unless it is
    there.

    Drawn anew, because the original's file may be one that is to be corrupt.
    """
    target = Path(path)
    if target.exists():
        return
    picture = draw_image(content, np.random.default_rng(seed))
    part = target.with_suffix(f".{os.getpid()}.part")
    picture.point([min(255, value + 4) for value in range(256)] * 3).save(part, "JPEG", quality=70)
    part.replace(target)


def copy(source: str, target: str) -> None:
    """The same file under another name, unless it is there."""
    place = Path(target)
    if place.exists():
        return
    part = place.with_suffix(f".{os.getpid()}.part")
    shutil.copyfile(source, part)
    part.replace(place)
