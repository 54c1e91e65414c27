"""The demo without its page: uploads, what is refused, what is told of predictions, which models exist."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from tests.served import Server, reply
from typer.testing import CliRunner

from behavior_llava import cli, serving
from behavior_llava.core import media as media_module
from behavior_llava.core.errors import UserError
from behavior_llava.core.media import MediaFault
from behavior_llava.core.schema import Media
from behavior_llava.data import manner
from behavior_llava.data.viewing import View
from behavior_llava.models.remote import RemoteConfig
from behavior_llava.serving import app, pictures, targets, uploads
from behavior_llava.serving.audience import Audience, Counts
from behavior_llava.serving.demo import STOPPED, Demo
from behavior_llava.serving.dialogues import Dialogues
from behavior_llava.serving.sessions import Key, Sessions
from behavior_llava.serving.targets import Models
from behavior_llava.serving.uploads import Door, Refused

KEY = Key("cookie", "tab")
ADDRESS = "127.0.0.1"
HOSTILE = "<img src=x onerror=alert(1)> {{ 7 * 7 }} ${1}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def door(**limits: float) -> Door:
    settings = {"max_bytes": 2**20, "max_seconds": 10.0, **limits}
    return Door(**settings, max_scenes=3, rule="thirty_degrees")  # type: ignore[arg-type]


def demo_of(target: targets.Target, folder: Path, *, is_storing: bool = False) -> Demo:
    (folder / "sessions").mkdir()
    dialogues = Dialogues(folder / "store") if is_storing else None
    if dialogues is not None:
        dialogues.open()
    demo = Demo(Models(target, device="cpu"), Sessions(folder / "sessions"), door(), dialogues, 8)
    demo.sessions.accept(KEY, ADDRESS)
    return demo


def served(server: Server, folder: Path, *, is_storing: bool = False) -> Demo:
    config = RemoteConfig(url=server.url, model="m", retries=0, timeout_s=10)
    return demo_of(targets.of_endpoint(config), folder, is_storing=is_storing)


def sse(*texts: str) -> bytes:
    lines = [f'data: {{"choices": [{{"delta": {{"content": "{text}"}}}}]}}\n\n' for text in texts]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


# ---- uploads -----------------------------------------------------------------------------------------------


def test_an_upload_is_seen_and_deleted(tmp_path: Path, media: dict[str, Media]) -> None:
    for name, kind in (("a", "image"), ("clip", "video")):
        folder = tmp_path / name
        folder.mkdir()
        file = tmp_path / "upload"
        shutil.copy(media[name].path, file)
        view = door().look(file, folder)
        assert view.kind == kind
        assert not file.exists()
        files = uploads.shown_files(view, folder)
        assert len(files) == len(view.scenes) >= 1
        assert all(path.is_relative_to(folder) for path in files)


def test_the_copy_holds_no_notes_about_place_and_camera(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "at home"
    Image.new("RGB", (40, 30), "red").save(tmp_path / "upload", "JPEG", exif=exif, comment=b"secret")
    assert b"at home" in (tmp_path / "upload").read_bytes()
    assert uploads.admit(str(tmp_path / "upload"), str(tmp_path / "copy")) == ("image", None)
    content = (tmp_path / "copy").read_bytes()
    assert b"at home" not in content
    assert b"secret" not in content


def test_what_is_too_large_too_long_or_nothing_is_refused(tmp_path: Path, media: dict[str, Media]) -> None:
    cases = {
        "This file is larger than we take.": (media["clip"].path, door(max_bytes=10)),
        "This video is longer than the 1 seconds we take.": (media["clip"].path, door(max_seconds=1.0)),
        "This file is not an image or video we can read.": (__file__, door()),
    }
    for sentence, (path, limited) in cases.items():
        shutil.copy(path, tmp_path / "upload")
        with pytest.raises(Refused) as caught:
            limited.look(tmp_path / "upload", tmp_path)
        assert str(caught.value) == sentence
        assert not (tmp_path / "upload").exists()


def test_every_reason_has_a_sentence_without_our_words() -> None:
    source = Path(media_module.__file__).read_text()
    reasons = [line.split('"')[1] for line in source.splitlines() if 'MediaFault("' in line]
    assert len(reasons) > 10
    for reason in [*reasons, "decoder_timeout", "decoder_crashed", "something new"]:
        sentence = uploads.sentence_of(MediaFault(reason))
        assert "_" not in sentence
        assert sentence.endswith(".")


def sent(demo: Demo, file: str, copy: Path) -> Path:
    """A file of this visitor's that has come."""
    shutil.copy(file, copy)
    demo.sessions.note_upload(KEY.visitor, copy)
    return copy


class Watched(Door):
    """Tells when it looks, and then looks."""

    def look(self, file: Path, folder: Path) -> View:
        self.told()
        return super().look(file, folder)

    def told(self) -> None:
        raise NotImplementedError


def watched(told: Callable[[], None]) -> Door:
    return type("Told", (Watched,), {"told": lambda _: told()})(**vars(door()))


@pytest.mark.parametrize("leaves", [True, False])
def test_what_is_deleted_while_it_is_looked_at_leaves_nothing(
    server: Server, tmp_path: Path, media: dict[str, Media], leaves: bool
) -> None:
    demo = served(server, tmp_path)
    session = demo.sessions.of(KEY)
    demo.door = watched(lambda: demo.sessions.end(KEY) if leaves else demo.delete(KEY))
    with pytest.raises(Refused, match="deleted while it was looked at"):
        demo.upload(KEY, sent(demo, media["clip"].path, tmp_path / "upload"))
    assert session.view is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert session.folder.exists() is not leaves
    if not leaves:  # and the tab goes on
        demo.door = door()
        assert "<img" in demo.upload(KEY, sent(demo, media["clip"].path, tmp_path / "upload"))


def test_an_upload_that_waits_while_its_tab_is_closed_leaves_nothing(
    server: Server, tmp_path: Path, media: dict[str, Media], monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = served(server, tmp_path)
    demo.sessions.accept(Key(KEY.visitor, "other tab"), ADDRESS)  # so that the file stays there
    file = sent(demo, media["clip"].path, tmp_path / "upload")
    session, waits = demo.sessions.of(KEY), threading.Event()
    monkeypatch.setattr(demo.sessions, "of", lambda _: (waits.set(), session)[1])
    with ThreadPoolExecutor(1) as pool:
        with session.looking:
            uploaded = pool.submit(demo.upload, KEY, file)
            assert waits.wait(20)
            demo.sessions.end(KEY)
        with pytest.raises(Refused, match="deleted"):
            uploaded.result(60)
    assert not session.folder.exists()


def test_what_a_refused_file_left_is_deleted(server: Server, tmp_path: Path, media: dict[str, Media]) -> None:
    demo = served(server, tmp_path)
    folder = demo.sessions.of(KEY).folder
    demo.door = watched(lambda: (folder / "picture.jpg").touch())
    with pytest.raises(Refused, match="not an image or video"):
        demo.upload(KEY, sent(demo, __file__, tmp_path / "upload"))
    assert list(folder.iterdir()) == []


def test_two_files_of_one_tab_are_looked_at_one_after_the_other(
    server: Server, tmp_path: Path, media: dict[str, Media]
) -> None:
    demo = served(server, tmp_path)
    order: list[str] = []

    def told() -> None:
        order.append("begun")
        time.sleep(0.3)
        order.append("begins to look")

    demo.door = watched(told)
    files = [sent(demo, media[name].path, tmp_path / name) for name in ("a", "clip")]
    with ThreadPoolExecutor(2) as pool:
        assert all("<img" in html for html in pool.map(lambda file: demo.upload(KEY, file), files))
    assert order == ["begun", "begins to look"] * 2


def test_a_file_that_cannot_be_taken_begins_anew_all_the_same(server: Server, tmp_path: Path) -> None:
    demo = served(server, tmp_path, is_storing=True)
    demo.want_stored(KEY, True)
    with pytest.raises(Refused, match="did not arrive"):
        demo.upload(KEY, tmp_path / "somebody else's")
    assert not demo.sessions.of(KEY).is_stored_wanted  # as the page shows it


# ---- chat --------------------------------------------------------------------------------------------------


def test_a_dialogue_goes_on_and_begins_anew(server: Server, tmp_path: Path) -> None:
    server.script = lambda number, asked: (200, {}, sse("one", " two"))
    demo = served(server, tmp_path)
    shown = list(demo.chat(KEY, "first"))
    assert shown[0] == [("first", "")]
    assert shown[-1] == [("first", "one two")]
    assert list(demo.chat(KEY, "second"))[-1] == [("first", "one two"), ("second", "one two")]
    assert len(server.asked[-1]["messages"]) == 3
    demo.new_dialogue(KEY)
    list(demo.chat(KEY, "third"))
    assert len(server.asked[-1]["messages"]) == 1


def test_what_is_deleted_while_it_is_written_does_not_come_back(server: Server, tmp_path: Path) -> None:
    server.script = lambda number, asked: (200, {}, sse("one", " two", " three"))
    demo = served(server, tmp_path, is_storing=True)
    demo.want_stored(KEY, True)
    answer = demo.chat(KEY, "first")
    next(answer)
    next(answer)
    demo.delete(KEY)
    list(answer)
    assert demo.sessions.of(KEY).rounds == []
    assert list((tmp_path / "store").iterdir()) == []


def test_a_stopped_answer_says_so(server: Server, tmp_path: Path) -> None:
    server.script = lambda number, asked: (200, {"X-Drip": "1"}, sse(*["word"] * 1000))
    demo = served(server, tmp_path)
    shown: list[list[tuple[str, str]]] = []
    for rounds in demo.chat(KEY, "first"):
        shown.append(rounds)
        if rounds[-1][1]:
            demo.stop(KEY)
    assert shown[-1][-1][1].endswith(STOPPED)


def test_questions_that_cannot_be_asked_cost_no_request(server: Server, tmp_path: Path) -> None:
    demo = served(server, tmp_path)
    for question, told in ((" ", "write a question"), ("x" * 2001, "at most 2,000")):
        with pytest.raises(Refused, match=told):
            list(demo.chat(KEY, question))
    with pytest.raises(Refused, match="upload"):
        demo.audience(KEY)
    with pytest.raises(Refused, match="accept the terms"):
        list(demo.chat(Key("cookie", "other"), "hello"))
    assert server.asked == []


def test_a_local_model_refuses_its_own_words_and_what_is_too_long(tmp_path: Path, tiny_folder: Path) -> None:
    demo = demo_of(targets.of(str(tiny_folder)), tmp_path)
    with pytest.raises(Refused, match="keeps for itself"):
        list(demo.chat(KEY, "what is <image> here"))
    demo.sessions.of(KEY).rounds = [("a " * 900, "b " * 900)] * 4
    with pytest.raises(Refused, match="too long"):
        list(demo.chat(KEY, "and now"))


def test_nothing_is_stored_without_a_store_or_an_opt_in(server: Server, tmp_path: Path) -> None:
    server.script = lambda number, asked: (200, {}, sse("one"))
    (tmp_path / "a").mkdir()
    demo = served(server, tmp_path / "a")
    assert demo.want_stored(KEY, True) is None
    list(demo.chat(KEY, "x"))
    assert demo.code(KEY) is None
    (tmp_path / "b").mkdir()
    demo = served(server, tmp_path / "b", is_storing=True)
    list(demo.chat(KEY, "x"))
    assert list((tmp_path / "b" / "store").iterdir()) == []
    code = demo.want_stored(KEY, True)  # says yes to what was said before, too
    assert code
    assert len(list((tmp_path / "b" / "store").iterdir())) == 1
    assert demo.delete_stored(KEY, code)


class Slow(Dialogues):
    """Stands still in the middle of storing."""

    begun, go = threading.Event(), threading.Event()

    def keep(self, code: str, **given: Any) -> None:
        self.begun.set()
        assert self.go.wait(20)
        super().keep(code, **given)


@pytest.mark.parametrize("way", ["untick", "delete", "by its code"])
def test_what_is_deleted_while_it_is_stored_stays_deleted(server: Server, tmp_path: Path, way: str) -> None:
    server.script = lambda number, asked: (200, {}, sse("one"))
    demo = served(server, tmp_path, is_storing=True)
    list(demo.chat(KEY, "first"))
    code = demo.want_stored(KEY, True)
    assert code
    demo.dialogues = slow = Slow(tmp_path / "store")
    slow.begun.clear()
    slow.go.clear()
    deletes = {
        "untick": lambda: demo.want_stored(KEY, False),
        "delete": lambda: demo.delete(KEY),
        "by its code": lambda: demo.delete_stored(KEY, code),
    }
    with ThreadPoolExecutor(2) as pool:
        answered = pool.submit(lambda: list(demo.chat(KEY, "second")))
        assert slow.begun.wait(20)
        deleted = pool.submit(deletes[way])
        wait([deleted], timeout=0.5)  # it has the time, were it not for the lock
        slow.go.set()
        answered.result(20)
        deleted.result(20)
    assert demo.code(KEY) is None
    assert list((tmp_path / "store").iterdir()) == []


def test_a_dialogue_deleted_by_its_code_is_stored_no_more(server: Server, tmp_path: Path) -> None:
    server.script = lambda number, asked: (200, {}, sse("one"))
    demo = served(server, tmp_path, is_storing=True)
    demo.want_stored(KEY, True)
    list(demo.chat(KEY, "first"))
    code = demo.code(KEY)
    assert code
    other = Key("another cookie", "tab")
    demo.sessions.accept(other, ADDRESS)
    assert demo.delete_stored(other, f" {code} ")
    list(demo.chat(KEY, "second"))
    assert demo.code(KEY) is None
    assert list((tmp_path / "store").iterdir()) == []
    assert not demo.delete_stored(other, code)


# ---- predictions -------------------------------------------------------------------------------------------


def nothing_said(**said: object) -> Audience:
    empty = {name: None for name in ("likes", "likes_spread", "replay", "retention", "reactions", "shares")}
    return Audience(
        **{"description": "", "comments": (), "scenes": ((0.0, 1.0), (1.0, 4.0)), "raw": "", **empty, **said}  # type: ignore[arg-type]
    )


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "1.jpg", tmp_path / "2.jpg"]
    for path in found:
        Image.new("RGB", (30, 20), "red").save(path)
    return found


def test_what_is_not_said_is_not_predicted_and_never_0(files: list[Path]) -> None:
    html = pictures.audience(nothing_said(), files, is_video=True)
    assert html.count("not predicted") == 7
    assert "0 %" not in html
    assert html.count("<img") == 2


def test_a_distribution_is_drawn_and_told(files: list[Path]) -> None:
    spread = tuple((value / 100, 0.5 if value in (20, 30) else 0.0) for value in range(101))
    html = pictures.audience(
        nothing_said(likes=("like_rate", 0.25), likes_spread=spread), files, is_video=True
    )
    assert "25.0 % like it" in html
    assert "the middle of what the model holds likely is 20.0 %" in html
    assert "between 20.0 % and 30.0 %" in html
    assert "data:image/svg+xml" in html


def test_what_a_model_says_is_escaped_everywhere(files: list[Path]) -> None:
    counts = Counts("num_reactions", 3.0, ((HOSTILE, 0.5), ("b", 0.5)))
    found = nothing_said(comments=(HOSTILE,), raw=HOSTILE, reactions=counts, shares=counts)
    html = pictures.audience(found, files, is_video=True)
    assert html.count("&lt;img src=x onerror") == 4
    assert "<img src=x" not in html
    # pictures may have any letters
    assert "49" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)


def test_curves_are_told_scene_by_scene(files: list[Path]) -> None:
    html = pictures.audience(nothing_said(replay=(0.25, 1.0), retention=(1.2, 0.4)), files, is_video=True)
    assert "scene 1: 0.25, scene 2: 1.00" in html
    assert "scene 1: 1.20, scene 2: 0.40" in html
    assert (
        "over the timeline"
        not in pictures.audience(nothing_said(scenes=((0.0, 0.0),)), files[:1], is_video=False).lower()
    )


# ---- targets -----------------------------------------------------------------------------------------------


def run_of(folder: Path, tiny_folder: Path, *places: str, config: str = "name: r\nmodel: tiny\n") -> str:
    folder.mkdir()
    (folder / "config.yaml").write_text(config)
    for place in places:
        shutil.copytree(tiny_folder, folder / place / "model")
    return str(folder)


def test_a_run_chats_by_behavior_and_compares(tmp_path: Path, tiny_folder: Path) -> None:
    config = "name: r\nmodel: tiny\nseeds: [7, 8]\nbuild: {template: lambda}\n"
    places = ("base/seed7", "train/seed7/content_only", "train/seed7/behavior")
    run = run_of(tmp_path / "run", tiny_folder, *places, config=config)
    found = targets.of(run)
    assert found.chat == "behavior"
    assert found.compared == ("base", "content_only", "behavior")
    assert found.manner.template.name == "lambda"
    assert found.title == "r"
    assert all(found.size_mb(name) is not None for name in found.compared)


def test_what_a_run_does_not_have_is_not_compared(tmp_path: Path, tiny_folder: Path) -> None:
    config = f"name: r\nmodel: {tiny_folder}\n"
    found = targets.of(run_of(tmp_path / "run", tiny_folder, "train/seed0/behavior", config=config))
    assert found.compared == ("base", "behavior")
    assert targets.of(str(tiny_folder)).compared == ()


def test_a_run_without_a_behavior_arm_is_told(tmp_path: Path, tiny_folder: Path) -> None:
    run = run_of(tmp_path / "run", tiny_folder, "train/seed0/shuffled")
    with pytest.raises(UserError, match=r"no trained behavior arm \(trained are: shuffled\)"):
        targets.of(run)
    with pytest.raises(UserError, match="is not the config of a run"):
        targets.of(run_of(tmp_path / "other", tiny_folder, config="- 1\n"))


def test_models_are_loaded_when_asked_and_once(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = targets.auto.load
    monkeypatch.setattr(
        targets.auto,
        "load",
        lambda place, *more, **named: (loaded.append(place), load(place, *more, **named))[1],
    )
    run = run_of(tmp_path / "run", tiny_folder, "base/seed0", "train/seed0/behavior")
    models = Models(targets.of(run), device="cpu")
    assert loaded == []
    first, second = uploads.frame_store(tmp_path / "1"), uploads.frame_store(tmp_path / "2")
    assert models.get("behavior", first).store == first
    assert models.get("behavior", second).store == second
    assert len(loaded) == 1


def test_a_served_model_may_tell_how_it_was_taught(tmp_path: Path) -> None:
    config = RemoteConfig(url="http://127.0.0.1:9/v1", model="m")
    with pytest.raises(UserError, match="holds no behavior_llava"):
        targets.of_endpoint(config, taught=tmp_path)
    manner.write(tmp_path, manner.usual("lambda"))
    assert targets.of_endpoint(config, taught=tmp_path).manner.template.name == "lambda"


# ---- the command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m"],
        ["--endpoint", "http://127.0.0.1:9/v1"],
        ["x", "--model", "m"],
        ["x", "--taught", "y"],
    ],
)
def test_targets_that_contradict_are_told(arguments: list[str]) -> None:
    assert isinstance(CliRunner().invoke(cli.app, ["serve", *arguments]).exception, UserError)


def test_there_is_no_way_to_share() -> None:
    result = CliRunner().invoke(cli.app, ["serve", "x", "--share"])
    assert result.exit_code == 2
    assert "No such option" in result.output


def test_a_missing_gradio_and_a_taken_port_are_told(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    target = targets.of_endpoint(RemoteConfig(url=server.url, model="m"))
    port = int(server.url.split(":")[2].split("/")[0])
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    with pytest.raises(UserError, match="cannot be listened at"):
        app.serve(target, app.ServeConfig(port=port), told=lambda _: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_SSR_MODE", "GRADIO_SHARE", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")  # put back afterwards
    with pytest.raises(UserError, match=r"pip install 'behavior-llava\[demo\]'"):
        app.serve(target, app.ServeConfig(host="0.0.0.0", port=free_port()), told=lambda _: None)
    assert "without TLS" in caplog.text
    assert "reverse proxy" in caplog.text
    assert list(tmp_path.iterdir()) == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_served_answer_is_read_into_a_prediction(
    server: Server, tmp_path: Path, media: dict[str, Media]
) -> None:
    server.script = lambda number, asked: reply(
        "A field.\n>>> BEHAVIOR <<<\n23% of viewers like it.\n1. calm"
    )
    demo = served(server, tmp_path)
    assert "<img" in demo.upload(KEY, sent(demo, media["a"].path, tmp_path / "upload"))
    html = demo.audience(KEY)
    assert "23.0 % like it" in html
    assert '<li dir="auto">calm</li>' in html


def test_no_audience_is_shown_of_a_file_that_is_gone(
    server: Server, tmp_path: Path, media: dict[str, Media]
) -> None:
    demo = served(server, tmp_path)
    demo.upload(KEY, sent(demo, media["a"].path, tmp_path / "upload"))
    server.script = lambda number, asked: (demo.delete(KEY), reply("23% of viewers like it."))[1]
    with pytest.raises(Refused, match="was deleted"):
        demo.audience(KEY)


def test_no_answers_are_compared_about_a_file_that_is_gone(
    tmp_path: Path, media: dict[str, Media], tiny_folder: Path
) -> None:
    run = run_of(tmp_path / "run", tiny_folder, "base/seed0", "train/seed0/behavior")
    demo = demo_of(targets.of(run), tmp_path)
    demo.upload(KEY, sent(demo, media["a"].path, tmp_path / "upload"))
    answers = demo.compare(KEY, "what do viewers feel")
    next(answers)
    demo.sessions.of(KEY).forget_upload()
    assert list(answers) == []


# ---- the server ----


def test_the_server_sweeps_what_gradio_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a page that is none: what matters is what the server does beside it."""
    ends: list[Callable[..., None]] = []
    monkeypatch.setattr(app.signal, "signal", lambda _, end: ends.append(end))
    monkeypatch.setattr(app, "_SWEEP_S", 0.01)
    monkeypatch.setattr(app, "_prepare_gradio", lambda folder: folder.mkdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    page = SimpleNamespace(
        Limits=lambda *_: None, Page=lambda *_: SimpleNamespace(open=lambda *_: lambda: None)
    )
    monkeypatch.setitem(sys.modules, "behavior_llava.serving.page", page)
    monkeypatch.setattr(serving, "page", page, raising=False)
    left: list[bool] = []

    def told(_: str) -> None:
        (folder,) = tmp_path.glob("*/gradio")
        file = folder / "tmpabc"
        file.touch()
        os.utime(file, (time.time() - 3601,) * 2)

        def wait_and_end() -> None:
            until = time.monotonic() + 5
            while file.exists() and time.monotonic() < until:
                time.sleep(0.01)
            left.append(file.exists())
            ends[0]()

        threading.Thread(target=wait_and_end).start()

    target = targets.of_endpoint(RemoteConfig(url="http://127.0.0.1:9/v1", model="m"))
    app.serve(target, app.ServeConfig(port=free_port()), told=told)
    assert left == [False]
