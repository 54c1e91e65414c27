"""Media files to what a model and the verbaliser see of them: hash, scenes, colors, and the frames in the
store.

One pass a file, in a process that can be killed; kept on disk, so that every stage, arm and seed reads the
same. Called by the base stage, the build stage and the evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from behavior_llava.core import chunks, media
from behavior_llava.core.manifest import fingerprint
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Media, MediaKind
from behavior_llava.core.workers import Workers
from behavior_llava.data import scenes
from behavior_llava.data.scenes import Colors, Scene

_SCENE = pa.struct(
    [
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("time_s", pa.float64()),
        ("foreground", pa.list_(pa.string())),
        ("background", pa.list_(pa.string())),
        ("tone", pa.string()),
    ]
)
VIEWS = pa.schema(
    [
        ("path", pa.string()),
        ("kind", pa.string()),
        ("sha256", pa.string()),
        ("scenes", pa.list_(_SCENE)),
        ("fault", pa.string()),
    ]
)
"""One row a media item, in the order asked for; `fault` is null where it could be read, `kind` where there is
no media."""


@dataclass(frozen=True, slots=True)
class View:
    """What is seen of one media item.

    Attributes:
        scenes: one of an image, at least one of a video.
    """

    path: str
    kind: MediaKind
    sha256: str
    scenes: tuple[Scene, ...]

    def media(self) -> Media:
        """The item as a model is shown it: a video by the middle frame of each scene."""
        times = tuple(scene.time_s for scene in self.scenes) if self.kind == "video" else ()
        return Media(self.path, self.kind, self.sha256, times)

    def frames(self) -> list[Media]:
        """One Media a scene, to be looked at alone."""
        if self.kind == "image":
            return [self.media()]
        return [Media(self.path, "video", self.sha256, (scene.time_s,)) for scene in self.scenes]


def view_file(path: str, kind: MediaKind, max_scenes: int, frames: str) -> tuple[str, tuple[Scene, ...]]:
    """Hash and scenes of a file; a video's frames go to the store.

    Raises:
        MediaFault: with the reason.
    """
    looked = scenes.look(path, kind, max_scenes)
    digest = media.sha256(Path(path))
    if kind == "video":
        times = tuple(scene.time_s for scene in looked.scenes)
        media.FrameStore(Path(frames)).put(
            Media(path, kind, digest, times), media.decode_frames(Path(path), times)
        )
    return digest, looked.scenes


@dataclass(frozen=True)
class Viewer:
    """Looks at media files and remembers what it saw.

    Attributes:
        folder: of the remembered views; frames: of the frame store.
        max_scenes: of a video.
    """

    folder: Path
    frames: Path
    max_scenes: int = 3
    processes: int = 2
    timeout_s: float = 60.0

    def views(
        self, items: Sequence[tuple[str | None, str | None]], *, label: str
    ) -> Iterator[View | str | None]:
        """For every (path, kind): a View, the reason there is none, or None for an item without media (no
        kind).
        """
        place = self.folder / fingerprint([self.max_scenes, *items])
        with (
            progress(label, len(items)) as advance,
            Workers(
                view_file,
                processes=self.processes,
                timeout_s=self.timeout_s,
                quarantine=self.folder / "quarantine.jsonl",
            ) as workers,
        ):
            chunks.write(place, items, lambda chunk: self._rows(chunk, workers), done=advance)
        for row in chunks.stream(place):
            yield row["fault"] or (None if row["kind"] is None else _view(row))

    def _rows(self, items: list[tuple[str | None, str | None]], workers: Workers) -> pa.Table:
        jobs = [(path, kind, self.max_scenes, str(self.frames)) for path, kind in items if path is not None]
        results = workers.map(jobs)
        rows: list[dict[str, Any]] = []
        for path, kind in items:
            row: dict[str, Any] = {"path": path, "kind": kind}
            if path is None:
                row["fault"] = None if kind is None else "media_missing"
            else:
                result = next(results)
                if isinstance(result, media.MediaFault):
                    row["fault"] = result.reason
                else:
                    row["sha256"], row["scenes"] = result[0], [_scene_row(scene) for scene in result[1]]
            rows.append(row)
        return pa.Table.from_pylist(rows, schema=VIEWS)


def _scene_row(scene: Scene) -> dict[str, Any]:
    colors = scene.colors
    return {
        "start_s": scene.start_s,
        "end_s": scene.end_s,
        "time_s": scene.time_s,
        "foreground": list(colors.foreground),
        "background": list(colors.background),
        "tone": colors.tone,
    }


def _view(row: dict[str, Any]) -> View:
    found = tuple(
        Scene(
            item["start_s"],
            item["end_s"],
            item["time_s"],
            Colors(tuple(item["foreground"]), tuple(item["background"]), item["tone"]),
        )
        for item in row["scenes"]
    )
    return View(row["path"], row["kind"], row["sha256"], found)
