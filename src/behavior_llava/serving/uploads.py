"""What visitors upload: a private folder, and files that are opened only in processes that can be killed.

An uploaded file goes in, what is seen of it comes out: a re-encoded copy of a picture, or the frames of a
video's scenes. The file itself is deleted then. Called by demo.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from behavior_llava.core import media
from behavior_llava.core.media import FrameStore, MediaFault
from behavior_llava.core.schema import MediaKind
from behavior_llava.core.workers import Workers
from behavior_llava.data.scenes import SceneRule
from behavior_llava.data.viewing import View, Viewer

log = logging.getLogger(__name__)

PREFIX = "behavior-llava-serve-"
_LOCK = "lock"
_NEW_S = 60.0
"""A folder without a lock may be one that is just being made."""
_SIDE = 2048
"""Longest side of a picture's copy: no model here looks more closely."""
_QUALITY = 95
_TIMEOUT_S = 60.0

UNREADABLE = "This file is not an image or video we can read."
_SENTENCES = {
    "image_too_large": "This picture has more pixels than we take.",
    "media_too_large": "This file is larger than we take.",
    "media_empty": "This file is empty.",
    "media_missing": "The file did not arrive. Please upload it again.",
    "media_changed": "The file did not arrive whole. Please upload it again.",
    "video_without_picture": "This video has no picture.",
    "video_empty": "This video has no picture.",
    "video_endless": "This video does not say how long it is.",
    "decoder_timeout": "Reading this file takes too long.",
    "decoder_out_of_memory": "Reading this file takes too much memory.",
    "refused_by_endpoint": "The model's server refuses to answer about this.",
    "image_refused_by_endpoint": "The model's server does not take this picture.",
    "too_long_for_endpoint": "This is too long for the model. Please start a new dialogue.",
    "no_answer_within_tokens": "The model came to no answer.",
    "request_denied_by_endpoint": "The model's server does not take this request.",
}


class Refused(Exception):
    """What a visitor cannot have; its text is a sentence for them, and holds no path and no name of ours."""


def sentence_of(fault: MediaFault) -> str:
    """A fault in words for a visitor."""
    return _SENTENCES.get(fault.reason, UNREADABLE)


# ---- the private folder ------------------------------------------------------------------------------------


@contextlib.contextmanager
def private_folder(within: Path | None = None) -> Iterator[Path]:
    """A new folder that only this user can open, deleted at the end.

    Folders of servers that were killed are deleted first: a living server holds a lock on its own.

    Args:
        within: where it is made; None for the system's temporary folder.
    """
    place = Path(tempfile.gettempdir()) if within is None else within
    _sweep(place)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            remove(folder)


def _sweep(place: Path) -> None:
    for folder in place.glob(f"{PREFIX}*"):
        try:
            found = folder.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            continue  # somebody else's, or a link that leads elsewhere
        try:
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(folder)
        except BlockingIOError:
            continue  # its server lives
        except FileNotFoundError:
            if time.time() - found.st_mtime > _NEW_S:
                remove(folder)


def remove(folder: Path) -> None:
    """Deletes a folder, or a file; what could not be deleted is told in the log."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.unlink(missing_ok=True)
    if folder.exists():
        log.error("uploads that should be gone could not be deleted: %s", folder)


def remove_old(folder: Path, age_s: float) -> None:
    """Deletes files in a folder that nobody has written to for so long, and folders that stay empty.

    Gradio leaves what came of an upload that broke off, and what a form holds beside its files.
    """
    before_s = time.time() - age_s
    for path in sorted(folder.rglob("*"), reverse=True):  # what a folder holds comes before it
        with contextlib.suppress(OSError):  # moved, deleted or filled meanwhile
            found = path.lstat()
            if found.st_mtime > before_s:
                continue
            if not stat.S_ISDIR(found.st_mode):
                remove(path)
            elif not any(path.iterdir()):
                path.rmdir()


# ---- one upload --------------------------------------------------------------------------------------------


def admit(path: str, copy: str) -> tuple[MediaKind, float | None]:
    """What a file is, by its content: a picture, of which a copy is written, or a video and its seconds.

    Runs in a process of its own.

    Raises:
        MediaFault: it is neither, or larger than can be decoded.
    """
    try:
        picture = media.open_image(Path(path), side=_SIDE)
    except MediaFault as fault:
        if fault.reason != "image_broken":
            raise
        return "video", media.measure(Path(path), "video").duration_s
    picture.thumbnail((_SIDE, _SIDE))
    # anew from the pixels alone: notes, comments and profiles in the file stay behind
    pixels = Image.new("RGB", picture.size)
    pixels.paste(picture)
    pixels.save(copy, "JPEG", quality=_QUALITY)
    return "image", None


@dataclass(frozen=True)
class Door:
    """How uploads are looked at, and which are too large.

    Attributes:
        max_seconds: of a video.
        max_scenes, rule: how a video is cut; as the model was taught.
    """

    max_bytes: int
    max_seconds: float
    max_scenes: int
    rule: SceneRule

    def look(self, file: Path, folder: Path) -> View:
        """What is seen of an uploaded file; all that is kept of it lies in `folder`, and the file is deleted.

        Raises:
            Refused: it is too large, too long or cannot be read.
        """
        try:
            return self._look(file, folder)
        except MediaFault as fault:
            raise Refused(sentence_of(fault)) from None
        finally:
            remove(file)

    def _look(self, file: Path, folder: Path) -> View:
        if not file.is_file():
            raise MediaFault("media_missing")
        if file.stat().st_size > self.max_bytes:
            raise MediaFault("media_too_large")
        copy = folder / "picture.jpg"
        with Workers(admit, processes=1, timeout_s=_TIMEOUT_S) as workers:
            (found,) = workers.map([(str(file), str(copy))])
        if isinstance(found, MediaFault):
            raise found
        kind, duration_s = found
        if duration_s is not None and duration_s > self.max_seconds:
            raise Refused(f"This video is longer than the {self.max_seconds:g} seconds we take.")
        viewer = Viewer(
            folder / "seen",
            frame_store(folder).folder,
            max_scenes=self.max_scenes,
            processes=1,
            timeout_s=_TIMEOUT_S,
            rule=self.rule,
        )
        (view,) = viewer.views([(str(copy if kind == "image" else file), kind)], label="an upload")
        if not isinstance(view, View):
            raise MediaFault(view or "media_missing")
        return view


def frame_store(folder: Path) -> FrameStore:
    """The frames of what lies in a visitor's folder."""
    return FrameStore(folder / "frames")


def shown_files(view: View, folder: Path) -> list[Path]:
    """JPEG files of our own making: the picture, or a frame a scene."""
    if view.kind == "image":
        return [Path(view.path)]
    return frame_store(folder).frame_files(view.media())
