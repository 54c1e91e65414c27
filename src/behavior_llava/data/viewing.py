"""Media files to what a model and the verbalizer see of them: hash, scenes, colors, and the frames in the
store.

Files are opened in processes that can be killed. What is seen is kept by the media's hash and the settings,
so that every stage, arm and seed reads the same and equal files are decoded once. Called by the base stage,
the build stage and the evaluation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from behavior_llava.core import media
from behavior_llava.core.cache import Cache, Hashes, file_state
from behavior_llava.core.media import MediaFault
from behavior_llava.core.progress import Advance, progress
from behavior_llava.core.schema import Media, MediaKind
from behavior_llava.core.workers import Workers
from behavior_llava.data import scenes
from behavior_llava.data.scenes import Colors, Scene, SceneLook, SceneRule

CHUNK = 256
"""Items in memory at a time."""
_OF_THE_MEDIA = ("image_", "video_")
"""How the reasons begin that hold for the same bytes anywhere and at any time. Those of limits, of this
machine and of the file's place are found out anew.
"""

Item = tuple[str | None, str | None]
"""Path and kind of a media file; no kind where there is no media to look at."""


@dataclass(frozen=True, slots=True)
class View:
    """What is seen of one media item.

    Attributes:
        scenes: one of an image, at least one of a video.
        num_cuts: 0 for an image.
        duration_s: None for an image.
        width, height: in pixels, turned upright.
    """

    path: str
    kind: MediaKind
    sha256: str
    scenes: tuple[Scene, ...]
    num_cuts: int
    duration_s: float | None
    width: int
    height: int

    def media(self) -> Media:
        """The item as a model is shown it: a video by the middle frame of each scene."""
        times = tuple(scene.time_s for scene in self.scenes) if self.kind == "video" else ()
        return Media(self.path, self.kind, self.sha256, times)

    def frames(self) -> list[Media]:
        """One Media a scene, to be looked at alone."""
        if self.kind == "image":
            return [self.media()]
        return [Media(self.path, "video", self.sha256, (scene.time_s,)) for scene in self.scenes]


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a file of this hash is to be looked at.

    Attributes:
        frames: folder of the frame store.
    """

    kind: MediaKind
    max_scenes: int
    rule: SceneRule
    frames: str
    sha256: str


def view_file(path: str, state: str, wanted: Wanted | None) -> str | SceneLook:
    """The hash of a file, or, where that is known, what is seen of it; a video's frames go to the store.

    Raises:
        MediaFault: with the reason; media_changed where the file is no longer in this state.
    """
    if wanted is None:
        with _unchanged(path, state):
            return media.sha256(Path(path))
    with _unchanged(path, state):
        looked = scenes.look(path, wanted.kind, wanted.max_scenes, wanted.rule)
        times = tuple(scene.time_s for scene in looked.scenes) if wanted.kind == "video" else ()
        frames = media.decode_frames(Path(path), times) if times else []
    media.FrameStore(Path(wanted.frames)).put(Media(path, wanted.kind, wanted.sha256, times), frames)
    return looked


@contextmanager
def _unchanged(path: str, state: str) -> Iterator[None]:
    """What is found out in the block, a fault too, is of the file in this state; else media_changed."""
    try:
        yield
    finally:
        if file_state(path) != state:
            raise MediaFault("media_changed")


@dataclass(frozen=True)
class Viewer:
    """Looks at media files and remembers what it saw; several processes may do so at once.

    Attributes:
        folder: of what is remembered (seen.sqlite); frames: of the frame store.
        max_scenes, rule: of a video.
    """

    folder: Path
    frames: Path
    max_scenes: int = 3
    processes: int = 2
    timeout_s: float = 60.0
    rule: SceneRule = "thirty_degrees"

    def views(self, items: Iterable[Item], *, label: str) -> Iterator[View | str | None]:
        """For every (path, kind), in order: a View, the reason there is none, or None for an item without
        media (no kind).

        Files are looked at as the views are read, a chunk ahead; until the last is read, progress is shown.
        """
        seen = self.folder / "seen.sqlite"
        with ExitStack() as open_while:
            total = len(items) if isinstance(items, Sized) else None
            advance = open_while.enter_context(progress(label, total))
            hashes = open_while.enter_context(Hashes(seen))
            kinds: tuple[MediaKind, ...] = ("image", "video")
            caches: dict[MediaKind, Cache] = {
                kind: open_while.enter_context(
                    Cache(seen, "views", scenes.settings(kind, self.max_scenes, self.rule))
                )
                for kind in kinds
            }
            workers = open_while.enter_context(
                Workers(
                    view_file,
                    processes=self.processes,
                    timeout_s=self.timeout_s,
                    quarantine=self.folder / "quarantine.jsonl",
                )
            )
            looking = _Looking(self, hashes, caches, workers, advance)
            remaining = iter(items)
            while chunk := list(itertools.islice(remaining, CHUNK)):
                yield from looking.views(chunk)


@dataclass(frozen=True, slots=True)
class _File:
    """One media file in one state."""

    path: str
    kind: MediaKind
    sha256: str
    state: str


@dataclass(frozen=True)
class _Looking:
    """One call of Viewer.views, with all it holds open."""

    viewer: Viewer
    hashes: Hashes
    caches: dict[MediaKind, Cache]
    workers: Workers
    advance: Advance

    def views(self, items: Sequence[Item]) -> list[View | str | None]:
        """Those of one chunk."""
        files = self._files(items)
        looks, num_new = self._looks([file for file in files.values() if isinstance(file, _File)])
        self.advance(len(items) - num_new)
        found: list[View | str | None] = []
        for path, kind in items:
            if kind is None:
                found.append(None)
                continue
            file = "media_missing" if path is None else files[path, kind]
            look = looks[file.sha256, file.kind] if isinstance(file, _File) else file
            if isinstance(file, _File) and isinstance(look, dict):
                found.append(_view(file, look))
            else:
                found.append(str(look))
        return found

    def _files(self, items: Sequence[Item]) -> dict[tuple[str, str], _File | str]:
        """What the files of a chunk are by path and kind, or why one cannot be read; new ones are hashed."""
        wanted = {(path, kind): file_state(path) for path, kind in items if path is not None and kind}
        known = {
            path: None if state is None else self.hashes.find(state) for (path, _), state in wanted.items()
        }
        new = {path: state for (path, _), state in wanted.items() if state is not None and not known[path]}
        reasons: dict[str, str] = {}
        results = self.workers.map((path, state, None) for path, state in new.items())
        for (path, state), result in zip(new.items(), results, strict=True):
            if isinstance(result, MediaFault):
                reasons[path] = result.reason
            else:
                known[path] = result
                self.hashes.keep(state, result)
        found: dict[tuple[str, str], _File | str] = {}
        for (path, kind), state in wanted.items():
            sha256 = known[path]
            if state is None or sha256 is None:
                found[path, kind] = reasons.get(path, "media_missing")
            else:
                found[path, kind] = _File(path, "image" if kind == "image" else "video", sha256, state)
        return found

    def _looks(self, files: Sequence[_File]) -> tuple[dict[tuple[str, str], dict[str, Any] | str], int]:
        """What is seen of files by hash and kind, or why nothing is; and how many had to be looked at."""
        by_media = {(file.sha256, file.kind): file for file in files}
        known = {key: self.caches[file.kind].find(file.sha256) for key, file in by_media.items()}
        new = {key: file for key, file in by_media.items() if known[key] is None}
        found: dict[tuple[str, str], dict[str, Any] | str] = {
            key: facts.get("fault") or facts for key, facts in known.items() if facts is not None
        }
        viewer = self.viewer
        jobs = (
            (
                file.path,
                file.state,
                Wanted(file.kind, viewer.max_scenes, viewer.rule, str(viewer.frames), file.sha256),
            )
            for file in new.values()
        )
        for (key, file), result in zip(new.items(), self.workers.map(jobs), strict=True):
            self.advance(1)
            if not isinstance(result, MediaFault):
                facts = found[key] = asdict(result)
                self.caches[file.kind].keep({file.sha256: facts})
                continue
            found[key] = result.reason
            if result.reason.startswith(_OF_THE_MEDIA):
                self.caches[file.kind].keep({file.sha256: {"fault": result.reason}})
        return found, len(new)


def _view(file: _File, look: dict[str, Any]) -> View:
    found = tuple(
        Scene(
            scene["start_s"],
            scene["end_s"],
            scene["time_s"],
            Colors(
                tuple(scene["colors"]["foreground"]),
                tuple(scene["colors"]["background"]),
                scene["colors"]["tone"],
            ),
        )
        for scene in look["scenes"]
    )
    return View(
        file.path,
        file.kind,
        file.sha256,
        found,
        look["num_cuts"],
        look["duration_s"],
        look["width"],
        look["height"],
    )
