"""The demo as visitors use it: two real servers, one with tiny models on disk, one before a served model."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect
from tests.served import Server, reply

from behavior_llava.core.schema import Media
from behavior_llava.data import manner

pytestmark = pytest.mark.slow  # two servers, and a browser that waits for models

HOSTILE = (
    '<img src=x onerror="document.title=`taken`"> ![p](https://e.example/p.png) [l](https://e.example) $x^2$'
)
HOSTILE += " ${document.title=`taken`} {{constructor}} <b>bold</b>"


@dataclass
class Running:
    """A server of the demo."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    temp: Path
    store: Path

    def files(self) -> list[Path]:
        """What lies in its private folder of visitors' files."""
        return [
            path
            for path in self.temp.rglob("*")
            if path.is_file() and path.name != "lock" and path.stat().st_size
        ]

    def stored(self) -> list[Path]:
        return sorted(path for path in self.store.rglob("*") if path.is_file())


def begun(folder: Path, *target: str, queue: int = 20) -> Running:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    temp, store, log = folder / "temp", folder / "store", folder / "log"
    temp.mkdir()
    limits = ["--max-mb", "1", "--max-seconds", "5", "--per-minute", "200", "--max-new-tokens", "12"]
    limits += ["--store", str(store), "--queue", str(queue)]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "behavior_llava", "serve", *target, "--port", str(port), *limits],
            stdout=file,
            stderr=file,
            env={**os.environ, "TMPDIR": str(temp), "CUDA_VISIBLE_DEVICES": ""},
        )
    return Running(f"http://127.0.0.1:{port}", process, log, temp, store)


def ready(running: Running) -> None:
    until = time.monotonic() + 120
    while b"The demo is at" not in running.log.read_bytes():
        assert running.process.poll() is None, running.log.read_text()
        assert time.monotonic() < until, running.log.read_text()
        time.sleep(0.1)


def ended(running: Running) -> None:
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0, running.log.read_text()
    assert list(running.temp.glob("behavior-llava-serve-*")) == []


@pytest.fixture(scope="module")
def answering() -> Iterator[Server]:
    """The model behind the endpoint; a test says what it answers."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, answering: Server
) -> Iterator[tuple[Running, Running]]:
    """A run's three models on disk, and an endpoint; both begin at once, to save time."""
    run = tmp_path_factory.mktemp("run")
    for place in ("base/seed0", "train/seed0/content_only", "train/seed0/behavior"):
        shutil.copytree(tiny_folder, run / place / "model")
    manner.write(run / "train/seed0/behavior/model", manner.usual())
    (run / "config.yaml").write_text("name: small\nmodel: tiny\nseeds: [0]\n")
    begun_local = begun(tmp_path_factory.mktemp("local"), str(run))
    taught = tmp_path_factory.mktemp("taught")
    kinds = ("likes", "comments", "replay", "retention", "reactions", "shares")
    manner.write(taught, manner.usual().model_copy(update={"kinds": kinds}))
    begun_remote = begun(
        tmp_path_factory.mktemp("remote"),
        *("--endpoint", answering.url, "--model", "served-model", "--taught", str(taught)),
    )
    both = (begun_local, begun_remote)
    try:
        for one in both:
            ready(one)
        yield both
        for one in both:
            ended(one)
    finally:
        for one in both:
            if one.process.poll() is None:
                one.process.kill()


@pytest.fixture
def local(servers: tuple[Running, Running]) -> Running:
    return servers[0]


@pytest.fixture
def remote(servers: tuple[Running, Running], answering: Server) -> Running:
    answering.asked.clear()
    answering.script = lambda number, asked: said("A cat.") if asked.get("stream") else reply("A cat.")
    return servers[1]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "holiday photo.png"
    pixels = np.random.default_rng(3).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(pixels).resize((60, 60), Image.Resampling.NEAREST).save(path)
    return path


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def said(text: str) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, event(text, "stop") + DONE


def opened(page: Page, running: Running, *, accept: bool = True) -> Page:
    page.goto(running.url)
    expect(page.get_by_role("heading", name="Terms of use")).to_be_visible(timeout=20_000)
    if accept:
        page.get_by_label("I have read these terms").check()
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_label("Your question")).to_be_visible()
    return page


def upload(page: Page, path: Path) -> None:
    page.locator("#upload input[type=file]").set_input_files(path)


def shown(page: Page, path: Path) -> None:
    upload(page, path)
    expect(page.locator("#seen img").first).to_be_visible(timeout=30_000)


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.get_by_role("button", name="Send").click()


def asked_and_answered(page: Page, question: str, answer: str | re.Pattern[str]) -> None:
    ask(page, question)
    expect(page.locator("#dialogue .bot").last).to_contain_text(answer, timeout=20_000)


def request(url: str, body: Any = None, **headers: str) -> tuple[int, str]:
    """Status and content of a request that no page makes."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = {} if body is None or isinstance(body, bytes) else {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data, headers={**kind, **headers}), timeout=10
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def cookie_of(context: BrowserContext) -> str:
    return "; ".join(f"{one['name']}={one['value']}" for one in context.cookies())


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nhello\r\n--x--\r\n',
    {"Content-Type": "multipart/form-data; boundary=x"},
)


# ---- terms -------------------------------------------------------------------------------------------------


def test_terms_refused_nothing_can_be_sent(tab: Page, local: Running) -> None:
    opened(tab, local, accept=False)
    tab.get_by_role("button", name="Start").click()
    expect(tab.get_by_text("accept them with the tick")).to_be_visible()
    assert tab.get_by_label("Your question").count() == 0
    cookie = cookie_of(tab.context)
    assert cookie.startswith("visitor=")
    # nor by those who go round the page
    body, kind = FORM
    assert request(f"{local.url}/gradio_api/upload", body, Cookie=cookie, **kind)[0] == 403
    config = json.loads(request(f"{local.url}/config")[1])
    assert len(config["dependencies"]) >= 10
    kinds = {one["id"]: one["type"] for one in config["components"]}
    refused = 0
    for one in config["dependencies"]:
        if not one["backend_fn"] or any(event == "unload" for _, event in one["targets"]):
            continue
        values = {"checkbox": False, "textbox": "x", "file": None}
        data = [values[kinds[given]] for given in one["inputs"]]
        asked = {"fn_index": one["id"], "data": data, "session_hash": f"s{one['id']}"}
        assert request(f"{local.url}/gradio_api/queue/join", asked, Cookie=cookie)[0] == 200
        told = request(f"{local.url}/gradio_api/queue/data?session_hash=s{one['id']}", Cookie=cookie)[1]
        assert "accept" in told, told
        refused += 1
    assert refused >= 10
    assert local.files() == []


def test_terms_accepted_opens_the_demo_and_only_this_tab(tab: Page, local: Running) -> None:
    opened(tab, local)
    expect(tab.get_by_role("heading", name="Terms of use")).to_be_hidden()
    other = opened(tab.context.new_page(), local, accept=False)
    assert other.get_by_label("Your question").count() == 0


def test_closed_addresses(local: Running) -> None:
    paths = ["info", "openapi.json", "call/x", "api/x", "run/x", "proxy=http://127.0.0.1", "file=/etc/passwd"]
    paths += ["file/etc/passwd", "stream/a/b", "component_server", "app_id", "monitoring", "runs", "user"]
    for path in paths:
        assert request(f"{local.url}/gradio_api/{path}") == (404, "Not here."), path
    for path in ("docs", "redoc", "openapi.json", "monitoring", "file=/etc/passwd", "login"):
        assert request(f"{local.url}/{path}") == (404, "Not here."), path
    assert request(f"{local.url}/gradio_api/call/x", {"data": []})[0] == 404
    assert request(f"{local.url}/gradio_api/queue/join", b"x" * 300_000)[0] == 413


# ---- media -------------------------------------------------------------------------------------------------


def test_image_upload_is_seen_and_chatted_about(tab: Page, local: Running, picture: Path) -> None:
    shown(opened(tab, local), picture)
    expect(tab.locator("#seen img")).to_have_attribute("alt", "Your picture")
    ask(tab, "what do viewers feel")
    expect(tab.get_by_role("button", name="Send")).to_be_enabled()
    expect(tab.locator("#dialogue .bot").last).to_contain_text(re.compile(r"\w+"), timeout=20_000)
    ask(tab, "describe")
    expect(tab.locator("#dialogue .user")).to_have_count(2, timeout=20_000)
    kept = {path.suffix for path in local.files()}
    assert ".jpg" in kept
    assert ".png" not in kept  # what was uploaded is gone, only our copy is there
    private = next(path for path in local.temp.rglob("*") if path.is_dir())
    assert private.stat().st_mode & 0o077 == 0
    tab.close()
    gone(lambda: not [path for path in local.files() if path.suffix == ".jpg"])


def gone(is_gone: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not is_gone():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_video_upload_is_shown_by_its_scenes(tab: Page, remote: Running, media: dict[str, Media]) -> None:
    shown(opened(tab, remote), Path(media["clip"].path))
    expect(tab.locator("#seen figcaption").first).to_contain_text("Scene 1, 0:00.0 to")
    asked_and_answered(tab, "what is it?", "A cat.")
    assert not [path for path in remote.files() if path.suffix == ".mp4"]


def test_hostile_file_gets_a_sentence(
    tab: Page, local: Running, tmp_path: Path, media: dict[str, Media]
) -> None:
    opened(tab, local)
    clip = Path(media["clip"].path).read_bytes()
    hostile = {
        "shell.png": b"#!/bin/sh\necho",
        "list.mp4": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "half.mp4": clip[: len(clip) // 2],
        "<img src=x onerror=alert(1)>.png": b"x",
    }
    for name, content in hostile.items():
        path = tmp_path / name
        path.write_bytes(content)
        upload(tab, path)
        notice = tab.locator("#seen [role=alert]")
        expect(notice).to_have_text("This file is not an image or video we can read.", timeout=30_000)
        expect(tab.locator("#seen img")).to_have_count(0)
        # the next must show a notice of its own
        tab.get_by_role("button", name="Delete dialogue and file").click()
        expect(tab.locator("#seen")).to_contain_text("are deleted")
    text = tab.locator("body").inner_text()
    assert "Traceback" not in text
    assert str(local.temp) not in text
    assert tab.title() != "taken"
    assert local.files() == []


def test_a_file_that_is_too_large_is_refused(tab: Page, local: Running, tmp_path: Path) -> None:
    opened(tab, local)
    path = tmp_path / "large.png"
    path.write_bytes(bytes(2 * 2**20))
    upload(tab, path)
    expect(tab.get_by_text(re.compile("larger than we take|size|too large")).first).to_be_visible()
    assert local.files() == []


# ---- chat --------------------------------------------------------------------------------------------------


def test_streaming_shows_pieces_and_stops(tab: Page, remote: Running, answering: Server) -> None:
    go, left = threading.Event(), threading.Event()

    def answer() -> Generator[bytes, None, None]:
        try:
            yield event("First piece")
            assert go.wait(20)
            for _ in range(2000):
                yield event(" more")
                time.sleep(0.02)
        finally:
            left.set()

    answering.script = lambda number, asked: (200, {}, answer())
    ask(opened(tab, remote), "tell me")
    bot = tab.locator("#dialogue .bot").last
    expect(bot).to_contain_text("First piece")
    expect(bot).not_to_contain_text("more")
    go.set()
    expect(bot).to_contain_text("more more")
    tab.locator("#stop").click()
    expect(bot).to_contain_text("(stopped)")
    assert left.wait(10)
    # what was said goes into the next question
    answering.script = lambda number, asked: said("Second answer.")
    asked_and_answered(tab, "and then?", "Second answer.")
    roles = [message["role"] for message in answering.asked[-1]["messages"]]
    assert roles == ["user", "assistant", "user"]


def test_a_visitor_who_leaves_ends_the_answer(tab: Page, remote: Running, answering: Server) -> None:
    left = threading.Event()

    def answer() -> Generator[bytes, None, None]:
        try:
            while True:
                yield event(" on")
                time.sleep(0.02)
        finally:
            left.set()

    answering.script = lambda number, asked: (200, {}, answer())
    ask(opened(tab, remote), "tell me")
    expect(tab.locator("#dialogue .bot").last).to_contain_text("on on")
    tab.close()
    assert left.wait(20)


def test_what_a_model_writes_is_only_text(tab: Page, remote: Running, answering: Server) -> None:
    answering.script = lambda number, asked: said(HOSTILE)
    asked_and_answered(opened(tab, remote), "be hostile", "onerror=")
    dialogue = tab.locator("#dialogue")
    assert dialogue.locator(".bot").last.inner_text().strip() == HOSTILE
    for tag in (".bot img", ".bot a", ".bot b", ".bot .katex"):
        assert dialogue.locator(tag).count() == 0, tag
    assert tab.title() != "taken"


def test_an_error_shows_no_path_and_no_trace(tab: Page, remote: Running, answering: Server) -> None:
    answering.script = lambda number, asked: (401, {}, b'{"error": {"message": "SECRET /etc/passwd"}}')
    ask(opened(tab, remote), "tell me")
    expect(tab.get_by_text("Something went wrong here.")).to_be_visible(timeout=20_000)
    text = tab.locator("body").inner_text()
    assert "SECRET" not in text
    assert "Traceback" not in text
    assert answering.url not in text
    log = remote.log.read_text()
    assert "EndpointError in the demo" in log
    assert "tell me" not in log
    assert "SECRET" not in log


# ---- audience and comparison -------------------------------------------------------------------------------


def test_audience_tab_shows_all_that_is_said(
    tab: Page, remote: Running, answering: Server, media: dict[str, Media]
) -> None:
    num_scenes = []

    def script(number: int, asked: dict[str, Any]) -> Any:
        count = sum(part["type"] == "image_url" for part in asked["messages"][0]["content"])
        num_scenes.append(count)
        lines = [f"Scene {place}: a field." for place in range(1, count + 1)]
        lines += [">>> BEHAVIOR <<<", "23% of viewers like it."]
        lines += [
            f"{place}. {text}" for place, text in enumerate(["so calm", HOSTILE, "three", "four", "five"], 1)
        ]
        lines += [
            "Replay: " + " ".join(["0.90", "0.25", "0.10"][:count]),
            "Retention: " + " ".join(["1.00", "0.50", "0.20"][:count]),
            "Shared 40 times: 75% email, 25% facebook.",
        ]
        return reply("\n".join(lines))

    answering.script = script
    shown(opened(tab, remote), Path(media["clip"].path))
    tab.get_by_role("tab", name="Audience").click()
    tab.get_by_role("button", name="Predict the audience").click()
    found = tab.locator("#audience")
    expect(found.locator("[data-part=likes]")).to_have_text(
        "23.0 % like it, of those who see it", timeout=20_000
    )
    assert num_scenes
    expect(found.locator("ol li")).to_have_count(5)
    expect(found.locator("ol li").nth(1)).to_contain_text("onerror=")
    for kind in ("replay", "retention"):
        figure = found.locator(f"figure[data-part={kind}]")
        expect(figure.locator("img")).to_be_visible()
        expect(figure).to_contain_text("scene 1: ")
        assert figure.locator("img").evaluate("image => image.naturalWidth") > 100
    expect(found.locator(".bl-shown img")).to_have_count(num_scenes[0])
    expect(found.locator("p[data-part=shares]")).to_contain_text("40")
    expect(found.locator("table")).to_contain_text("75 %")
    # of what it does not say, nothing is made up
    expect(found.locator("p[data-part=reactions]")).to_have_text("not predicted")
    expect(found.locator("[data-part=spread]")).to_contain_text("not predicted")
    assert tab.title() != "taken"
    assert found.locator("li img, li b").count() == 0


def test_compare_tab_asks_three_models(tab: Page, local: Running, picture: Path) -> None:
    shown(opened(tab, local), picture)
    tab.get_by_role("tab", name="Compare").click()
    tab.get_by_label("Question to all").fill("what do viewers feel")
    tab.get_by_role("button", name="Ask all").click()
    for name in ("base", "content_only", "behavior"):
        expect(tab.get_by_label(name, exact=True)).not_to_have_value("", timeout=30_000)


def test_predictions_go_with_their_file(
    tab: Page, local: Running, picture: Path, media: dict[str, Media]
) -> None:
    def predict() -> None:
        tab.get_by_role("tab", name="Compare").click()
        tab.get_by_label("Question to all").fill("what do viewers feel")
        tab.get_by_role("button", name="Ask all").click()
        for name in ("base", "content_only", "behavior"):
            expect(tab.get_by_label(name, exact=True)).not_to_have_value("", timeout=30_000)
        tab.get_by_role("tab", name="Audience").click()
        tab.get_by_role("button", name="Predict the audience").click()
        expect(tab.locator("#audience [data-part=likes]")).to_be_visible(timeout=30_000)

    def nothing_predicted() -> None:
        expect(tab.locator("#audience [data-part]")).to_have_count(0)
        tab.get_by_role("tab", name="Compare").click()
        for name in ("base", "content_only", "behavior"):
            expect(tab.get_by_label(name, exact=True)).to_have_value("")

    shown(opened(tab, local), picture)
    predict()
    upload(tab, Path(media["clip"].path))
    expect(tab.locator("#seen")).to_contain_text("Scene 1", timeout=30_000)
    nothing_predicted()
    predict()
    tab.get_by_role("tab", name="Chat").click()
    tab.get_by_role("button", name="Delete dialogue and file").click()
    expect(tab.locator("#seen")).to_contain_text("are deleted")
    nothing_predicted()


# ---- visitors ----------------------------------------------------------------------------------------------


def test_two_visitors_isolated(
    new_context: Callable[..., BrowserContext], remote: Running, picture: Path, answering: Server
) -> None:
    first, second = new_context(), new_context()
    uploaded: list[str] = []
    tabs: set[str] = set()

    def note(response: Any) -> None:
        if "/upload?" in response.url or response.url.endswith("/upload"):
            uploaded.extend(response.json())

    one, two = first.new_page(), second.new_page()
    one.on("response", note)

    def note_tab(sent: Any) -> None:
        if sent.url.partition("?")[0].endswith("/queue/join"):
            tabs.add(sent.post_data_json["session_hash"])

    one.on("request", note_tab)
    shown(opened(one, remote), picture)
    asked_and_answered(one, "mine alone?", "A cat.")
    opened(two, remote)
    assert "mine alone" not in two.locator("body").inner_text()
    assert two.locator("#seen img").count() == 0
    asked_and_answered(two, "what was asked before?", "A cat.")
    assert len(answering.asked[-1]["messages"]) == 1
    # nor by going round the page: what was uploaded, and what is kept of it, has no address
    assert uploaded
    jpegs = [str(path) for path in remote.files() if path.suffix == ".jpg"]
    assert jpegs
    cookie = cookie_of(second)
    for path in [*uploaded, *jpegs]:
        for place in ("gradio_api/file=", "gradio_api/file", "file="):
            assert request(f"{remote.url}/{place}{urllib.parse.quote(path)}", Cookie=cookie)[0] == 404
    config = json.loads(request(f"{remote.url}/config")[1])
    upload_id = next(
        one["id"] for one in config["dependencies"] if any(name == "upload" for _, name in one["targets"])
    )
    for path in [*uploaded, *jpegs, "http://127.0.0.1:9/x.png"]:
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        asked = {"fn_index": upload_id, "data": [file], "session_hash": "other"}
        assert request(f"{remote.url}/gradio_api/queue/join", asked, Cookie=cookie)[0] == 400
    assert len(tabs) == 1
    # and the other's tab number opens nothing without the other's cookie
    ask_id = next(one["id"] for one in config["dependencies"] if len(one["outputs"]) == 3 and one["inputs"])
    asked = {"fn_index": ask_id, "data": ["and?"], "session_hash": tabs.pop()}
    # a request that was malformed would prove nothing
    assert request(f"{remote.url}/gradio_api/queue/join", asked, Cookie=cookie)[0] == 200
    time.sleep(0.5)
    asked_and_answered(one, "still mine?", "A cat.")
    said_before = [message["content"] for message in answering.asked[-1]["messages"]]
    assert "and?" not in said_before


def test_the_same_file_of_two_visitors_is_two_files(
    new_context: Callable[..., BrowserContext], local: Running
) -> None:
    body, kind = FORM
    first, second = (opened(new_context().new_page(), local) for _ in range(2))
    paths = []
    for page in (first, second):
        status, told = request(f"{local.url}/gradio_api/upload", body, Cookie=cookie_of(page.context), **kind)
        assert status == 200
        paths += [Path(path) for path in json.loads(told)]
    assert len(paths) == 2
    assert all(path.exists() for path in paths)
    first.close()
    gone(lambda: not paths[0].exists())
    assert paths[1].read_bytes() == b"hello"
    second.close()
    gone(lambda: not paths[1].exists())


def test_a_full_queue_is_told(
    new_context: Callable[..., BrowserContext], answering: Server, tmp_path: Path
) -> None:
    """One question is answered, one waits, and the third gets a sentence; then all goes on."""
    narrow = begun(tmp_path, "--endpoint", answering.url, "--model", "served-model", queue=1)
    answering.asked.clear()
    go = threading.Event()

    def answer() -> Generator[bytes, None, None]:
        assert go.wait(60)
        yield event("A cat.", "stop") + DONE

    answering.script = lambda number, asked: (200, {}, answer())
    try:
        ready(narrow)
        first, second, third = (opened(new_context().new_page(), narrow) for _ in range(3))
        ask(first, "one")
        gone(lambda: len(answering.asked) == 1)
        with second.expect_response(re.compile("queue/join")) as joined:
            ask(second, "two")
        assert joined.value.status == 200
        with third.expect_response(re.compile("queue/join")) as refused:
            ask(third, "three")
        assert refused.value.status == 503
        expect(third.get_by_text("currently busy")).to_be_visible()
        go.set()
        for page in (first, second):
            expect(page.locator("#dialogue .bot").last).to_contain_text("A cat.", timeout=20_000)
        asked_and_answered(third, "three", "A cat.")
        ended(narrow)
    finally:
        go.set()
        if narrow.process.poll() is None:
            narrow.process.kill()
            narrow.process.wait()


def test_keyboard_only(tab: Page, remote: Running, picture: Path) -> None:
    opened(tab, remote, accept=False)
    reach(tab, "I have read these terms")
    tab.keyboard.press("Space")
    expect(tab.get_by_label("I have read these terms")).to_be_checked()
    reach(tab, "Start")
    tab.keyboard.press("Enter")
    expect(tab.get_by_label("Your question")).to_be_visible()
    with tab.expect_file_chooser() as choosing:
        reach(tab, "Image or video", "upload")
        tab.keyboard.press("Enter")
    choosing.value.set_files(picture)
    expect(tab.locator("#seen img")).to_be_visible(timeout=30_000)
    reach(tab, "Your question")
    tab.keyboard.type("what is it?")
    reach(tab, "Send")
    tab.keyboard.press("Enter")
    expect(tab.locator("#dialogue .bot").last).to_contain_text("A cat.", timeout=20_000)
    reach(tab, "Audience", backwards=True)
    tab.keyboard.press("Enter")
    reach(tab, "Predict the audience")
    tab.keyboard.press("Enter")
    expect(tab.locator("#audience [data-part=likes]")).to_have_text("not predicted", timeout=20_000)


def reach(page: Page, *names: str, backwards: bool = False) -> None:
    """Tab until what has the focus has one of these names; the page itself, which has all of them, does not
    count."""
    seen = []
    for _ in range(40):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        name = page.evaluate(
            """() => { const at = document.activeElement;
            if (at === null || at === document.body) return '';
            const names = [at.getAttribute('aria-label'), at.labels?.[0]?.innerText, at.innerText];
            return names.filter(Boolean).join(' ') }"""
        )
        seen.append(name)
        if any(one.lower() in name.lower() for one in names):
            return
    raise AssertionError(f"{names} cannot be reached: {seen}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(
    new_context: Callable[..., BrowserContext],
    local: Running,
    picture: Path,
    no_serious_finding: Callable[[Page], None],
    scheme: str,
) -> None:
    tab = new_context(color_scheme=scheme).new_page()
    opened(tab, local, accept=False)
    assert tab.locator("body.dark").count() == (scheme == "dark")
    no_serious_finding(tab)
    tab.get_by_label("I have read these terms").check()
    tab.get_by_role("button", name="Start").click()
    shown(tab, picture)
    ask(tab, "describe")
    expect(tab.locator("#dialogue .bot").last).to_contain_text(re.compile(r"\w+"), timeout=20_000)
    no_serious_finding(tab)
    tab.get_by_role("tab", name="Audience").click()
    tab.get_by_role("button", name="Predict the audience").click()
    expect(tab.locator("#audience [data-part=likes]")).to_be_visible(timeout=30_000)
    no_serious_finding(tab)
    tab.get_by_role("tab", name="Compare").click()
    no_serious_finding(tab)
    # on a phone nothing is wider than the screen
    tab.set_viewport_size({"width": 360, "height": 740})
    for name in ("Chat", "Audience", "Compare"):
        tab.get_by_role("tab", name=name).click()
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360


# ---- storing and deleting ----------------------------------------------------------------------------------


def test_stored_only_on_opt_in(tab: Page, remote: Running, picture: Path) -> None:
    before = remote.stored()
    shown(opened(tab, remote), picture)
    asked_and_answered(tab, "not for you", "A cat.")
    assert remote.stored() == before
    tab.get_by_role("button", name="New dialogue").click()
    expect(tab.locator("#dialogue .bot")).to_have_count(0)
    tab.get_by_label("Store this dialogue").check()
    asked_and_answered(tab, "for everybody", "A cat.")
    expect(tab.locator("#code")).to_contain_text("Keep its code")
    new = [path for path in remote.stored() if path not in before]
    assert sorted(path.name for path in new) == ["1.jpg", "dialogue.json"]
    text = next(path for path in new if path.suffix == ".json").read_text()
    told = json.loads(text)
    assert told["license"] == "CC-BY-4.0"
    assert told["rounds"] == [{"question": "for everybody", "answer": "A cat."}]
    assert set(told) == {"schema", "license", "day", "model", "pictures", "rounds"}
    assert "127.0.0.1" not in text
    code = tab.locator("#code").inner_text().split()[-1]
    assert code not in str(new)
    # taking the tick away takes the dialogue away
    tab.get_by_label("Store this dialogue").uncheck()
    gone(lambda: remote.stored() == before)


def test_delete_deletes(tab: Page, remote: Running, picture: Path) -> None:
    before = remote.stored()
    shown(opened(tab, remote), picture)
    mine = {path for path in remote.files() if path.name == "picture.jpg"}
    assert mine
    tab.get_by_label("Store this dialogue").check()
    asked_and_answered(tab, "delete me", "A cat.")
    gone(lambda: len(remote.stored()) == len(before) + 2)
    tab.get_by_role("button", name="Delete dialogue and file").click()
    expect(tab.locator("#seen")).to_contain_text("Dialogue and file are deleted.")
    assert remote.stored() == before
    assert not mine & set(remote.files())
    expect(tab.locator("#dialogue .bot")).to_have_count(0)
    # a dialogue of an earlier visit goes by its code
    tab.get_by_label("Store this dialogue").check()
    asked_and_answered(tab, "later", "A cat.")
    expect(tab.locator("#code")).to_contain_text("Keep its code")
    code = tab.locator("#code").inner_text().split()[-1]
    assert [path.parent.name for path in remote.stored() if path not in before] == [
        hashlib.sha256(code.encode()).hexdigest()[:40]
    ]
    other = opened(tab.context.new_page(), remote)
    tab.close()
    other.get_by_role("button", name="Delete a dialogue stored earlier").click()
    other.get_by_label("Its code").fill(code)
    other.get_by_role("button", name="Delete it").click()
    expect(other.locator("#earlier-told")).to_contain_text("That dialogue is deleted.")
    assert remote.stored() == before
