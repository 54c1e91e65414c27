"""Files are looked at once, equal ones too and by several processes; a fault is remembered only where it is
the media's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from behavior_llava.core.cache import Hashes, file_state, forget
from behavior_llava.core.media import FrameStore, MediaFault, decode_frames, sha256
from behavior_llava.core.schema import Media
from behavior_llava.data import scenes, viewing
from behavior_llava.data.viewing import View, Viewer, Wanted

RED, GREEN, BLUE = (200, 30, 30), (20, 140, 50), (30, 60, 210)


def save_image(path: Path, color: tuple[int, int, int] = RED, size: tuple[int, int] = (48, 32)) -> Path:
    Image.new("RGB", size, color).save(path)
    return path


def save_video(path: Path, colors: Iterable[tuple[int, int, int]] = (RED, GREEN, BLUE)) -> Path:
    """A second of each color."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8, options={"preset": "ultrafast"})
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        for color in colors:
            for _ in range(8):
                frame = av.VideoFrame.from_ndarray(np.full((48, 48, 3), color, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def viewer(tmp_path: Path) -> Viewer:
    return Viewer(tmp_path / "seen", tmp_path / "frames", processes=1)


def look(viewer: Viewer, *items: tuple[Path | str | None, str | None]) -> list[View | str | None]:
    found = [(None if path is None else str(path), kind) for path, kind in items]
    return list(viewer.views(found, label="looking"))


def one(viewer: Viewer, path: Path, kind: str = "video") -> View:
    (view,) = look(viewer, (path, kind))
    assert isinstance(view, View), view
    return view


@dataclass
class Jobs:
    """What was done in place of Workers, in this process: the file's name and how it was wanted.

    Attributes:
        before: called with every job before it is done; what it raises is its result.
    """

    done: list[tuple[str, Wanted | None]] = field(default_factory=list)
    before: Callable[[str, Wanted | None], None] = lambda path, wanted: None

    def __call__(self, function: Callable[..., Any], **_: object) -> Jobs:
        self._function = function
        return self

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def map(self, arguments: Iterable[tuple[str, str, Wanted | None]]) -> Iterator[Any]:
        for path, state, wanted in arguments:
            self.done.append((Path(path).name, wanted))
            try:
                self.before(path, wanted)
                yield self._function(path, state, wanted)
            except MediaFault as fault:
                yield fault

    def take(self) -> tuple[list[str], list[str]]:
        """Names of the files hashed and looked at since the last call."""
        hashed = [name for name, wanted in self.done if wanted is None]
        looked = [name for name, wanted in self.done if wanted is not None]
        self.done.clear()
        return hashed, looked


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    found = Jobs()
    monkeypatch.setattr(viewing, "Workers", found)
    return found


# ---- what a view is ----------------------------------------------------------------------------------------


def test_a_view_is_what_a_look_finds(viewer: Viewer, tmp_path: Path) -> None:
    video, image = save_video(tmp_path / "a.mp4"), save_image(tmp_path / "a.png")
    of_video, of_image = look(viewer, (video, "video"), (image, "image"))
    assert isinstance(of_video, View)
    assert isinstance(of_image, View)
    found = scenes.look(str(video), "video", 3)
    assert [scene.time_s for scene in found.scenes] == [0.5, 1.5, 2.5]
    assert of_video == View(str(video), "video", sha256(video), found.scenes, 2, 3.0, 48, 48)
    found = scenes.look(str(image), "image", 3)
    assert of_image == View(str(image), "image", sha256(image), found.scenes, 0, None, 48, 32)
    # and the same once more, now from what is remembered
    assert look(viewer, (video, "video"), (image, "image")) == [of_video, of_image]


def test_the_frames_of_a_video_are_in_the_store(viewer: Viewer, tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.mp4")
    view = one(viewer, path)
    assert view.media() == Media(str(path), "video", view.sha256, (0.5, 1.5, 2.5))
    assert [frame.times_s for frame in view.frames()] == [(0.5,), (1.5,), (2.5,)]
    expected = [np.asarray(frame, np.float64) for frame in decode_frames(path, (0.5, 1.5, 2.5))]
    path.unlink()
    stored = FrameStore(viewer.frames).frames(view.media())
    assert len(stored) == len(list(viewer.frames.rglob("*.jpg"))) == 3
    for frame, pixels in zip(stored, expected, strict=True):
        assert np.abs(np.asarray(frame) - pixels).mean() < 3


def test_an_image_has_no_frames_in_the_store(viewer: Viewer, jobs: Jobs, tmp_path: Path) -> None:
    view = one(viewer, save_image(tmp_path / "a.png"), "image")
    assert view.frames() == [view.media()] == [Media(view.path, "image", view.sha256)]
    assert len(jobs.done) == 2
    assert not list(viewer.frames.rglob("*.jpg"))


def test_one_file_can_be_both_an_image_and_a_video(viewer: Viewer, jobs: Jobs, tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frames = [Image.new("RGB", (48, 48), color) for color in (RED, GREEN)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=1000)
    image, video = look(viewer, (path, "image"), (path, "video"))
    assert isinstance(image, View)
    assert isinstance(video, View)
    assert image.sha256 == video.sha256
    assert (len(image.scenes), len(video.scenes)) == (1, 2)
    assert jobs.take() == (["a.gif"], ["a.gif", "a.gif"])


# ---- once --------------------------------------------------------------------------------------------------


def test_the_second_time_nothing_is_decoded(viewer: Viewer, jobs: Jobs, tmp_path: Path) -> None:
    items = [(save_video(tmp_path / "a.mp4"), "video"), (save_image(tmp_path / "b.png"), "image")]
    first = look(viewer, *items)
    assert jobs.take() == (["a.mp4", "b.png"], ["a.mp4", "b.png"])
    assert look(viewer, *items) == first
    assert look(replace(viewer, timeout_s=5.0, processes=2), *items) == first
    assert jobs.take() == ([], [])


def test_an_unchanged_file_is_not_even_read(viewer: Viewer, tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.png")
    view, found = one(viewer, path, "image"), path.stat()
    path.write_bytes(bytes(found.st_size))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert one(viewer, path, "image") == view


def test_equal_files_are_decoded_once(viewer: Viewer, jobs: Jobs, tmp_path: Path) -> None:
    first = save_video(tmp_path / "a.mp4")
    copies = [Path(shutil.copy(first, tmp_path / f"{name}.mp4")) for name in "bc"]
    found = look(viewer, *((path, "video") for path in (first, *copies)))
    hashed, looked = jobs.take()
    assert (hashed, len(looked)) == (["a.mp4", "b.mp4", "c.mp4"], 1)
    assert len(list(viewer.frames.rglob("*.jpg"))) == 3
    views = [view for view in found if isinstance(view, View)]
    assert [view.path for view in views] == [str(path) for path in (first, *copies)]
    assert len({replace(view, path="") for view in views}) == 1
    # one that comes later, in another call
    view = one(viewer, Path(shutil.copy(first, tmp_path / "d.mp4")))
    assert replace(view, path="") == replace(views[0], path="")
    assert jobs.take() == (["d.mp4"], [])


def test_a_changed_file_is_looked_at_anew(viewer: Viewer, jobs: Jobs, tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.mp4")
    before = one(viewer, path)
    jobs.take()
    save_video(path, [GREEN, RED])
    after = one(viewer, path)
    assert jobs.take() == (["a.mp4"], ["a.mp4"])
    assert (before.sha256 == after.sha256, len(before.scenes), len(after.scenes)) == (False, 3, 2)
    # back again: the bytes are known
    assert one(viewer, save_video(path)) == before
    assert jobs.take() == (["a.mp4"], [])


def test_other_settings_are_other_views(viewer: Viewer, jobs: Jobs, tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.mp4")
    found = {}
    for chosen in ({}, {"max_scenes": 2}, {"rule": "cuts"}):
        found[repr(chosen)] = one(replace(viewer, **chosen), path)
        assert len(jobs.take()[1]) == 1
    assert [len(view.scenes) for view in found.values()] == [3, 2, 3]
    for chosen in ({}, {"max_scenes": 2}, {"rule": "cuts"}):
        assert one(replace(viewer, **chosen), path) == found[repr(chosen)]
    assert jobs.take() == ([], [])


def test_an_image_has_nothing_to_do_with_the_settings_of_videos(
    viewer: Viewer, jobs: Jobs, tmp_path: Path
) -> None:
    path = save_image(tmp_path / "a.png")
    view = one(viewer, path, "image")
    assert len(jobs.take()[1]) == 1
    assert one(replace(viewer, max_scenes=7, rule="cuts"), path, "image") == view
    assert jobs.take() == ([], [])


def test_what_is_forgotten_is_looked_at_anew(viewer: Viewer, jobs: Jobs, tmp_path: Path) -> None:
    first, second = save_image(tmp_path / "a.png"), save_image(tmp_path / "b.png", GREEN)
    items = ((first, "image"), (second, "image"))
    views = look(viewer, *items)
    jobs.take()
    seen = viewer.folder / "seen.sqlite"
    digest, state = sha256(first), file_state(str(first))
    assert state is not None
    assert forget(seen, [digest]) == 1
    with Hashes(seen) as hashes:
        assert hashes.find(state) is None
    assert digest.encode() not in seen.read_bytes()
    assert look(viewer, *items) == views
    assert jobs.take() == (["a.png"], ["a.png"])


# ---- faults ------------------------------------------------------------------------------------------------


def test_a_broken_file_is_broken_wherever_it_lies(viewer: Viewer, jobs: Jobs, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(3000)
    (tmp_path / "a.jpg").write_bytes(noise)
    assert look(viewer, (tmp_path / "a.jpg", "image")) == ["image_broken"]
    assert jobs.take() == (["a.jpg"], ["a.jpg"])
    assert look(viewer, (tmp_path / "a.jpg", "image")) == ["image_broken"]
    assert jobs.take() == ([], [])
    (tmp_path / "b.jpg").write_bytes(noise)
    assert look(viewer, (tmp_path / "b.jpg", "image")) == ["image_broken"]
    assert jobs.take() == (["b.jpg"], [])
    # as a video it was not looked at
    for looked in (["b.jpg"], []):
        assert look(viewer, (tmp_path / "b.jpg", "video")) == ["video_broken"]
        assert jobs.take() == ([], looked)


def test_faults_come_through_processes(viewer: Viewer, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"noise")
    (tmp_path / "empty.png").write_bytes(b"")
    items = [(tmp_path / "a.mp4", "video"), (tmp_path / "empty.png", "image"), (tmp_path, "image")]
    assert look(viewer, *items) == ["video_broken", "image_broken", "media_missing"]


@pytest.mark.parametrize(
    "reason",
    ["decoder_timeout", "decoder_crashed", "decoder_out_of_memory", "decoder_OSError", "media_unreadable"],
)
@pytest.mark.parametrize("is_known", [False, True])
def test_limits_and_places_say_nothing_of_the_media(
    viewer: Viewer, jobs: Jobs, tmp_path: Path, reason: str, is_known: bool
) -> None:
    def fail(_: str, wanted: Wanted | None) -> None:
        if (wanted is not None) == is_known:
            raise MediaFault(reason)

    path = save_image(tmp_path / "a.png")
    jobs.before = fail
    for _ in range(2):
        assert look(viewer, (path, "image")) == [reason]
    jobs.before = lambda path, wanted: None
    jobs.take()
    assert one(viewer, path, "image").width == 48
    assert jobs.take() == ([] if is_known else ["a.png"], ["a.png"])


def test_a_missing_file_is_looked_for_again(viewer: Viewer, jobs: Jobs, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert look(viewer, (path, "image"), ("nul\0", "image")) == ["media_missing", "media_missing"]
    assert jobs.take() == ([], [])
    save_image(path)
    assert one(viewer, path, "image").height == 32
    path.unlink()
    assert look(viewer, (path, "image")) == ["media_missing"]


def test_every_item_has_its_answer_in_order(viewer: Viewer, jobs: Jobs, tmp_path: Path) -> None:
    red, green = save_image(tmp_path / "red.png"), save_image(tmp_path / "green.png", GREEN)
    (tmp_path / "noise.png").write_bytes(b"noise")
    items = [
        (red, "image"),
        (None, None),
        (tmp_path / "none.png", "image"),
        (green, "image"),
        (None, "image"),
        (red, None),
        (tmp_path / "noise.png", "image"),
        (red, "image"),
    ]
    found = look(viewer, *items)
    assert [view.path if isinstance(view, View) else view for view in found] == [
        str(red),
        None,
        "media_missing",
        str(green),
        "media_missing",
        None,
        "image_broken",
        str(red),
    ]
    assert jobs.take()[0] == ["red.png", "green.png", "noise.png"]
    assert look(viewer) == []


# ---- a file that changes meanwhile -------------------------------------------------------------------------


def overwriting(path: Path, content: bytes, *, when_looked_at: bool) -> Callable[[str, Wanted | None], None]:
    """Writes other bytes to a file just before it is hashed or looked at."""

    def write(at: str, wanted: Wanted | None) -> None:
        if at == str(path) and (wanted is not None) == when_looked_at:
            path.write_bytes(content)

    return write


@pytest.mark.parametrize("when_looked_at", [False, True])
@pytest.mark.parametrize("is_broken", [False, True])
def test_what_changes_meanwhile_leaves_nothing_behind(
    viewer: Viewer, jobs: Jobs, tmp_path: Path, when_looked_at: bool, is_broken: bool
) -> None:
    path = save_video(tmp_path / "a.mp4")
    state, content = path.stat(), path.read_bytes()
    other = b"noise" if is_broken else save_video(tmp_path / "other.mp4", [GREEN, RED]).read_bytes()
    jobs.before = overwriting(path, other, when_looked_at=when_looked_at)
    assert look(viewer, (path, "video")) == ["media_changed"]
    assert not list(viewer.frames.rglob("*.jpg"))
    jobs.before = lambda path, wanted: None
    # as it is now
    (after,) = look(viewer, (path, "video"))
    assert after == "video_broken" if is_broken else len(one(viewer, path).scenes) == 2
    # as it was, to the time of its change
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    before = one(viewer, path)
    assert (before.sha256, len(before.scenes)) == (sha256(path), 3)


def test_what_vanishes_meanwhile_has_changed(viewer: Viewer, jobs: Jobs, tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.png")
    jobs.before = lambda at, wanted: Path(at).unlink()
    assert look(viewer, (path, "image")) == ["media_changed"]
    assert look(viewer, (path, "image")) == ["media_missing"]


# ---- many --------------------------------------------------------------------------------------------------


def test_items_are_read_a_chunk_ahead(
    viewer: Viewer, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewing, "CHUNK", 4)
    path = save_image(tmp_path / "a.png")
    num_read = 0

    def items() -> Iterator[tuple[str, str]]:
        nonlocal num_read
        for _ in range(10):
            num_read += 1
            yield str(path), "image"

    views = viewer.views(items(), label="looking")
    assert num_read == 0
    read_before = []
    for view in views:
        assert isinstance(view, View)
        read_before.append(num_read)
    assert read_before == [4] * 4 + [8] * 4 + [10] * 2
    assert jobs.take() == (["a.png"], ["a.png"])


def test_a_reader_that_goes_away_leaves_what_was_seen(viewer: Viewer, tmp_path: Path) -> None:
    items = [(str(save_image(tmp_path / f"{number}.png", (number, 0, 0))), "image") for number in range(3)]
    with closing(viewer.views(items, label="looking")) as views:
        assert isinstance(next(views), View)
    assert forget(viewer.folder / "seen.sqlite", [sha256(Path(path)) for path, _ in items]) == 3


@dataclass
class Shown:
    """What the progress bar was told."""

    totals: list[int | None] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    @contextmanager
    def progress(self, _: str, total: int | None) -> Iterator[Callable[[int], None]]:
        self.totals.append(total)
        self.counts.clear()
        yield self.counts.append


FILES = ("red.png", "same_red.png", "green.png", "noise.png", "none.png", None)


@settings(max_examples=25, deadline=None)
@given(
    items=st.lists(st.tuples(st.sampled_from(FILES), st.sampled_from(["image", "video", None])), max_size=12),
    chunk=st.integers(1, 5),
)
def test_every_item_is_counted_once(
    items: list[tuple[str | None, str | None]], chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("counted")
    save_image(folder / "red.png")
    save_image(folder / "same_red.png")
    save_image(folder / "green.png", GREEN)
    (folder / "noise.png").write_bytes(b"noise")
    asked = [(None if name is None else str(folder / name), kind) for name, kind in items]
    viewer, shown, jobs = Viewer(folder / "seen", folder / "frames"), Shown(), Jobs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viewing, "progress", shown.progress)
        patch.setattr(viewing, "Workers", jobs)
        patch.setattr(viewing, "CHUNK", chunk)
        first = list(viewer.views(iter(asked), label="looking"))
        assert sum(shown.counts) == len(first) == len(asked)
        assert list(viewer.views(asked, label="looking")) == first
        assert sum(shown.counts) == len(asked)
    assert shown.totals == [None, len(asked)]
    assert all(count <= 1 for count in Counter(name for name, wanted in jobs.done if not wanted).values())


# ---- several processes -------------------------------------------------------------------------------------

LOOK = """
import json, os, sys
from dataclasses import asdict
from pathlib import Path
from behavior_llava.data import viewing
from behavior_llava.data.viewing import Viewer

if __name__ == "__main__":
    viewing.CHUNK = 2
    folder = Path(sys.argv[1])
    viewer = Viewer(folder / "seen", folder / "frames", processes=1)
    items = [(path, "video" if path.endswith(".mp4") else "image") for path in sys.argv[3:]]
    found = []
    for view in viewer.views(items, label="looking"):
        found.append(asdict(view))
        if len(found) == int(sys.argv[2]):
            os._exit(9)
    print(json.dumps(found))
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Looks at files in a process of its own, which ends without a word after so many views."""
    script = tmp_path / "look.py"
    script.write_text(LOOK, encoding="utf-8")

    def run(paths: Iterable[Path], *, killed_after: int = -1) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), str(tmp_path), str(killed_after), *map(str, paths)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return run


def test_two_processes_at_once_see_the_same(
    viewer: Viewer, jobs: Jobs, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    paths = [save_image(tmp_path / f"{number}.png", (8 * number, 0, 0)) for number in range(20)]
    paths += [save_video(tmp_path / f"{number}.mp4", [RED, GREEN, BLUE][:number]) for number in (1, 2, 3)]
    running = [start(paths), start(reversed(paths))]
    said = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert len(said[0]) == 23
    assert said[0] == said[1][::-1]
    # and a third, later, finds all there
    kinds = ["video" if path.suffix == ".mp4" else "image" for path in paths]
    views = look(viewer, *zip(paths, kinds, strict=True))
    assert [view.sha256 for view in views if isinstance(view, View)] == [view["sha256"] for view in said[0]]
    assert jobs.take() == ([], [])
    assert len(list(viewer.frames.rglob("*"))) == len(list(viewer.frames.rglob("*.jpg"))) + 6
    assert len(list(viewer.frames.rglob("*.jpg"))) == 1 + 2 + 3


def test_a_killed_process_leaves_what_it_had_seen(
    viewer: Viewer, jobs: Jobs, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    paths = [save_image(tmp_path / f"{number}.png", (40 * number, 0, 0)) for number in range(3)]
    killed = start(paths, killed_after=1)
    assert killed.communicate(timeout=60)[0] == ""
    assert killed.returncode == 9
    views = look(viewer, *((path, "image") for path in paths))
    assert [isinstance(view, View) for view in views] == [True, True, True]
    assert jobs.take() == (["2.png"], ["2.png"])
