"""A served model against a server that can do everything wrong: an answer is the model's own or none, and
neither key nor prompt stands in any message.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from tests.served import Server, reply

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore, MediaFault
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import remote, remote_wire
from behavior_llava.models.remote import RemoteConfig, RemoteModel, Usage
from behavior_llava.models.remote_wire import EndpointError

KEY = "sk-secret-1234567890"
PROMPT = "what-is-to-be-seen-here"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SEEN_KEY", KEY)
    monkeypatch.setattr(remote_wire, "FIRST_WAIT_S", 0.01)
    running = Server()
    yield running
    running.close()


@pytest.fixture
def ask(server: Server, tmp_path: Path) -> Callable[..., RemoteModel]:
    def make(**settings: Any) -> RemoteModel:
        found = {"retries": 2, "timeout_s": 5.0, **settings}
        return RemoteModel(
            RemoteConfig(url=server.url, model="eyes", **found), FrameStore(tmp_path / "frames")
        )

    return make


def texts(count: int) -> list[Example]:
    return [Example(f"row-{number}", f"{PROMPT} {number}", None) for number in range(count)]


def error_of(model: RemoteModel, examples: list[Example] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        model.generate(examples or texts(1), max_new_tokens=5)
    told = str(caught.value)
    assert KEY not in told
    assert PROMPT not in told
    assert caught.value.remedy
    return told


# ---- what is sent ------------------------------------------------------------------------------------------


def test_the_question_goes_out_and_the_answer_comes_back(server: Server, ask: Any) -> None:
    assert ask().generate(texts(1), max_new_tokens=7, temperature=0.5, seed=3) == ["a cat"]
    assert server.paths == ["/v1/chat/completions"]
    assert server.asked == [
        {
            "model": "eyes",
            "max_tokens": 7,
            "temperature": 0.5,
            "seed": 3,
            "messages": [{"role": "user", "content": f"{PROMPT} 0"}],
        }
    ]
    assert "authorization" not in server.headers[0]


def test_pictures_come_before_the_words_small_enough_and_without_their_names(
    server: Server, ask: Any, media: dict[str, Media], tmp_path: Path
) -> None:
    large = tmp_path / "joyful-label.png"
    Image.new("RGB", (300, 200), (10, 200, 30)).save(large)
    shown = [media["clip"], Media(str(large), "image", "f" * 64)]
    examples = [Example(f"joyful-{n}", PROMPT, None, item) for n, item in enumerate(shown)]
    ask(max_image_side=100, concurrency=1).generate(examples, max_new_tokens=5)
    pictures = []
    for asked in server.asked:
        *parts, words = asked["messages"][0]["content"]
        assert words == {"type": "text", "text": PROMPT}
        assert "joyful" not in json.dumps(asked)
        pictures.append([])
        for part in parts:
            head, data = part["image_url"]["url"].split(",")
            assert (part["type"], head) == ("image_url", "data:image/jpeg;base64")
            with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
                assert picture.format == "JPEG"
                pictures[-1].append((picture.size, picture.getpixel((20, 20))))
    (red, blue), (green,) = pictures
    assert red[0] == blue[0] == (48, 48)
    assert green[0] == (100, 67)
    for (_, color), wanted in zip(
        (red, blue, green), ((200, 40, 40), (40, 60, 200), (10, 200, 30)), strict=True
    ):
        assert max(abs(a - b) for a, b in zip(color, wanted, strict=True)) < 30


def test_the_key_is_sent_and_nowhere_else_to_be_found(
    server: Server, ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpcore2").setLevel(logging.DEBUG)
    model = ask(key_env="SEEN_KEY")
    model.generate(texts(2), max_new_tokens=5)
    assert [headers["authorization"] for headers in server.headers] == [f"Bearer {KEY}"] * 2
    assert caplog.records
    assert KEY not in caplog.text
    assert PROMPT not in caplog.text
    assert KEY not in model.identity() + repr(model) + repr(model.config) + repr(model.usage)


@pytest.mark.parametrize("value", [None, "", "  ", "two\nlines", "schlüssel"])
def test_a_key_that_is_none_is_told_before_anything_is_asked(
    server: Server, ask: Any, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("SEEN_KEY") if value is None else monkeypatch.setenv("SEEN_KEY", value)
    with pytest.raises(UserError, match="SEEN_KEY") as caught:
        ask(key_env="SEEN_KEY")
    assert not (value and value.strip()) or value not in str(caught.value)
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://host/v1",
        "http://",
        "http://[::1",
        f"https://me:{KEY}@host/v1",
        f"https://{KEY}@host/v1",
        f"https://host/v1?key={KEY}",
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused_unsaid(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError) as caught:
        RemoteModel(RemoteConfig(url=url, model="m"), FrameStore(tmp_path))
    assert KEY not in str(caught.value)


def test_the_identity_is_of_all_that_an_answer_depends_on_and_of_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(**changes: Any) -> str:
        config = RemoteConfig(**{"url": "http://h/v1", "model": "m", **changes})
        return RemoteModel(config, FrameStore(tmp_path)).identity()

    plain = identity()
    assert plain == identity(url="http://h/v1/") == "m at http://h/v1, JPEG 90 of side 1024"
    assert plain == identity(timeout_s=7, retries=1, concurrency=3, max_tokens_name="max_completion_tokens")
    others = [
        {"url": "http://h/v2"},
        {"model": "n"},
        {"max_image_side": 512},
        {"leave_out": ("seed",)},
        {"leave_out": ("temperature",)},
    ]
    assert len({plain, *(identity(**change) for change in others)}) == 6
    assert identity(leave_out=("seed", "temperature")) == identity(leave_out=("temperature", "seed"))
    monkeypatch.setattr(remote, "JPEG_QUALITY", 80)
    assert identity() != plain


# ---- many at once ------------------------------------------------------------------------------------------


def test_answers_keep_their_order_however_late_they_come(server: Server, ask: Any) -> None:
    def script(number: int, asked: dict[str, Any]) -> Any:
        place = int(asked["messages"][0]["content"].split()[-1])
        time.sleep(0.02 * (5 - place % 6))
        return reply(f"answer {place}")

    server.script = script
    answers = ask(concurrency=6).generate(texts(24), max_new_tokens=5)
    assert answers == [f"answer {number}" for number in range(24)]
    assert 2 <= server.most_under_way <= 6


def test_one_example_that_fails_ends_the_call_soon(server: Server, ask: Any) -> None:
    def script(number: int, asked: dict[str, Any]) -> Any:
        return (401, {}, {}) if number == 3 else (500, {"Retry-After": "60"}, {})

    server.script = script
    start = time.monotonic()
    assert "wants a key" in error_of(ask(concurrency=4), texts(40))
    assert time.monotonic() - start < 5
    assert len(server.asked) < 10


def test_nothing_to_ask_asks_nothing(server: Server, ask: Any) -> None:
    assert ask().generate([], max_new_tokens=5) == []
    assert server.asked == []


def test_tokens_are_summed_and_answers_without_a_count_are_counted(server: Server, ask: Any) -> None:
    told = [{"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}, None, {"prompt_tokens": 5}]
    server.script = lambda number, asked: reply("x", usage=told[number])
    model = ask(concurrency=1)
    model.generate(texts(2), max_new_tokens=5)
    model.generate(texts(1), max_new_tokens=5)
    assert model.usage == Usage(answers=3, unmetered=2, prompt_tokens=15, completion_tokens=2)


PRICES = {"currency": "USD", "prompt_per_million": 2.5, "completion_per_million": 10.0}


def test_the_cost_is_tokens_times_prices_and_unknown_where_counts_are(server: Server, ask: Any) -> None:
    server.script = lambda number, asked: reply(
        "x", usage=None if number == 2 else {"prompt_tokens": 1200, "completion_tokens": 300}
    )
    model, free = ask(concurrency=1, prices=PRICES), ask()
    assert model.usage.cost == 0
    model.generate(texts(2), max_new_tokens=5)
    # 2400 x 2.5 / 1e6 + 600 x 10 / 1e6
    assert model.usage.cost == pytest.approx(0.006 + 0.006)
    assert model.usage.told() == "2 answers, 2400 prompt and 600 completion tokens, cost 0.0120 USD"
    model.generate(texts(1), max_new_tokens=5)
    assert model.usage.cost is None
    assert model.usage.told() == (
        "3 answers, 2400 prompt and 600 completion tokens, 1 answers told no counts, cost unknown"
    )
    free.generate(texts(1), max_new_tokens=5)
    assert free.usage.cost is None
    assert "cost" not in free.usage.told()


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused(price: float) -> None:
    with pytest.raises(ValidationError, match="prompt_per_million"):
        RemoteConfig(url="http://h", model="m", prices={**PRICES, "prompt_per_million": price})  # pyright: ignore[reportArgumentType]


def test_a_judge_is_told_its_rules_before_every_question(server: Server, ask: Any) -> None:
    ask().generate(texts(2), max_new_tokens=5, system="Be strict.", seed=0)
    for asked in server.asked:
        rules, question = asked["messages"]
        assert rules == {"role": "system", "content": "Be strict."}
        assert question["role"] == "user"
        assert (asked["temperature"], asked["seed"]) == (0.0, 0)


# ---- what passes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_asked_again(server: Server, ask: Any, status: int) -> None:
    server.script = lambda number, asked: (status, {}, {}) if number < 2 else reply("at last")
    assert ask().generate(texts(1), max_new_tokens=5) == ["at last"]
    assert len(server.asked) == 3
    assert server.asked[0] == server.asked[2]


def test_a_server_is_left_alone_as_long_as_it_wants(server: Server, ask: Any) -> None:
    server.script = lambda number, asked: (429, {"Retry-After": "1"}, {}) if number == 0 else reply("x")
    start = time.monotonic()
    assert ask().generate(texts(1), max_new_tokens=5) == ["x"]
    assert 1 <= time.monotonic() - start < 3


def test_a_server_that_wants_to_be_left_alone_for_an_hour_ends_the_run(server: Server, ask: Any) -> None:
    server.script = lambda number, asked: (429, {"Retry-After": "3600"}, {})
    start = time.monotonic()
    assert "status 429 and asks to be left alone for 3600 s" in error_of(ask())
    assert time.monotonic() - start < 2
    assert len(server.asked) == 1


def test_errors_without_end_end(server: Server, ask: Any) -> None:
    server.script = lambda number, asked: (500, {}, {"error": {"message": f"{PROMPT} {KEY}"}})
    assert "status 500 (asked 3x)" in error_of(ask(key_env="SEEN_KEY"))
    assert len(server.asked) == 3


def test_a_server_that_stalls_is_left(server: Server, ask: Any) -> None:
    server.script = lambda number, asked: server.stop.wait(20) and reply("late")
    start = time.monotonic()
    assert "does not answer within 0.2 s (asked 2x)" in error_of(ask(timeout_s=0.2, retries=1))
    assert time.monotonic() - start < 3


def test_a_server_that_drips_is_left(server: Server, ask: Any) -> None:
    server.script = lambda number, asked: (200, {"X-Drip": "yes"}, reply("late"))
    start = time.monotonic()
    assert "does not answer within 0.3 s (asked 1x)" in error_of(ask(timeout_s=0.3, retries=0))
    assert time.monotonic() - start < 2


def test_a_server_that_drips_its_headers_is_left(server: Server, ask: Any) -> None:
    """Each byte comes soon enough, the whole answer does not."""
    server.script = lambda number, asked: (200, {"X-Drip-Head": "yes"}, reply("late"))
    start = time.monotonic()
    model = ask(timeout_s=0.3, retries=1)
    assert "does not answer within 0.3 s (asked 2x)" in error_of(model)
    assert time.monotonic() - start < 2
    assert model.usage == Usage(lost=2)


def test_a_server_that_takes_a_connection_and_is_silent_is_left(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time limit holds for connecting and sending too: nobody reads what is sent here."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        model = RemoteModel(
            RemoteConfig(
                url=f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", model="m", timeout_s=0.3, retries=0
            ),
            FrameStore(Path()),
        )
        start = time.monotonic()
        assert "does not answer within 0.3 s" in error_of(model, [Example("long", PROMPT * 500_000, None)])
        assert time.monotonic() - start < 2


def test_a_call_that_is_broken_off_ends_at_once(server: Server, ask: Any) -> None:
    """Ctrl-C, while every request waits; and a time limit of minutes keeps nobody."""
    server.script = lambda number, asked: server.stop.wait(20) and reply("late")
    # a suite that is started in the background has Ctrl-C switched off
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            ask(timeout_s=300.0, concurrency=4).generate(texts(9), max_new_tokens=5)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 3
    timer.join()
    assert len(server.asked) == 4


def test_a_call_works_where_a_loop_runs_already(server: Server, ask: Any) -> None:
    """As in a notebook."""

    async def cell() -> list[str]:
        return ask().generate(texts(2), max_new_tokens=5)

    assert asyncio.run(cell()) == ["a cat", "a cat"]


def test_a_connection_reset_in_the_middle_may_pass(server: Server, ask: Any) -> None:
    server.script = lambda number, asked: (200, {} if number else {"X-Reset": "yes"}, reply("whole"))
    model = ask()
    assert model.generate(texts(1), max_new_tokens=5) == ["whole"]
    assert model.usage == Usage(answers=1, unmetered=1, lost=1)


def test_a_server_that_is_not_there_is_told(server: Server, ask: Any) -> None:
    model = ask()
    server.close()
    told = error_of(model)
    assert "cannot be reached (ConnectError) (asked 3x)" in told
    assert server.url in told


def test_a_body_cut_off_may_pass(server: Server, ask: Any) -> None:
    def script(number: int, asked: dict[str, Any]) -> Any:
        if number:
            return reply("whole")
        return 200, {"Content-Length": "1000", "Connection": "close"}, b'{"choices": ['

    server.script = script
    assert ask(timeout_s=1.0).generate(texts(1), max_new_tokens=5) == ["whole"]


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        (None, 0),
        ("7", 7),
        (" 7 ", 7),
        ("0.25", 0.25),
        ("-1", 0),
        ("nan", 0),
        ("1e9", 0),
        ("soon", 0),
        ("", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Mon, 99 Xyz 9999 99:99:99", 0),
    ],
)
def test_a_wait_is_read_from_what_servers_write(text: str | None, wait_s: float) -> None:
    assert remote_wire.retry_after_s(text) == wait_s


# ---- what does not -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "settings", "found"),
    [
        (401, {}, "wants a key (status 401); name the key's environment variable in key_env"),
        (401, {"key_env": "SEEN_KEY"}, "refuses the key in SEEN_KEY (status 401)"),
        (403, {"key_env": "SEEN_KEY"}, "refuses the key in SEEN_KEY (status 403)"),
        (404, {}, "knows no such model or path (status 404)"),
        (302, {}, "answers with a redirect (status 302)"),
        (307, {}, "answers with a redirect (status 307)"),
        (204, {}, "it sends status 204"),
    ],
)
def test_refusals_are_told_at_once(
    server: Server, ask: Any, status: int, settings: dict[str, Any], found: str
) -> None:
    body = b"" if status == 204 else {"error": {"message": f"{KEY} {PROMPT}", "code": KEY, "type": PROMPT}}
    server.script = lambda number, asked: (status, {"Location": f"{server.url}/elsewhere"}, body)
    assert found in error_of(ask(**settings))
    assert server.paths == ["/v1/chat/completions"]


def test_the_word_for_an_error_is_told_where_it_is_a_known_one(server: Server, ask: Any) -> None:
    server.script = lambda number, asked: (400, {}, {"error": {"code": "context_length_exceeded"}})
    assert "(status 400, context_length_exceeded)" in error_of(ask())


@pytest.mark.parametrize(
    ("status", "error", "found"),
    [
        (400, {"code": "invalid_api_key"}, "wants a key (status 400, invalid_api_key)"),
        (400, {"code": "model_not_found"}, "knows no such model or path (status 400, model_not_found)"),
        (
            429,
            {"code": "insufficient_quota"},
            "has no quota left for this key (status 429, insufficient_quota)",
        ),
        (
            400,
            {"code": "unsupported_parameter", "param": "max_tokens"},
            "does not take max_tokens as it is sent (status 400, unsupported_parameter);"
            " set max_tokens_name to max_completion_tokens",
        ),
        (
            400,
            {"code": "unsupported_value", "param": "temperature"},
            "does not take temperature as it is sent (status 400, unsupported_value);"
            " name temperature in leave_out",
        ),
        (400, {"code": "unsupported_parameter", "param": "seed"}, "name seed in leave_out"),
        (400, {"code": "unsupported_parameter", "param": PROMPT}, "does not take a parameter as it is sent"),
    ],
)
def test_what_no_example_is_the_cause_of_is_an_error_at_once(
    server: Server, ask: Any, status: int, error: dict[str, Any], found: str
) -> None:
    server.script = lambda number, asked: (status, {}, {"error": {"message": KEY, **error}})
    assert found in error_of(ask())
    assert len(server.asked) == 1


def test_what_an_endpoint_refuses_is_named_and_sent_otherwise_only_where_the_config_says_so(
    server: Server, ask: Any
) -> None:
    model = ask(max_tokens_name="max_completion_tokens", leave_out=("temperature", "seed"))
    model.generate(texts(1), max_new_tokens=7, temperature=0.5, seed=3)
    ask(leave_out=("seed",)).generate(texts(1), max_new_tokens=7, seed=3)
    assert [{name for name in asked if name != "messages"} for asked in server.asked] == [
        {"model", "max_completion_tokens"},
        {"model", "max_tokens", "temperature"},
    ]


def deep(levels: int) -> bytes:
    return b'{"choices": ' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", "something other than JSON"),
        (b"<html><body>Welcome</body></html>", "something other than JSON"),
        (b'{"choices": [', "something other than JSON"),
        (b"\xff\xfe\x00", "something other than JSON"),
        (b'{"choices": [{"message": {"content": "\\ud800"}}]}', "something other than JSON"),
        (deep(100_000), "something other than JSON"),
        (deep(100), "a wrong choices.0"),
        (b"[]", "something other than JSON"),
        (b"null", "something other than JSON"),
        ({}, "a wrong choices"),
        ({"choices": []}, "a wrong choices"),
        ({"choices": {}}, "a wrong choices"),
        ({"choices": [None]}, "a wrong choices.0"),
        ({"choices": [{"text": PROMPT}]}, "a wrong choices.0.message"),
        (reply(7), "a wrong choices.0.message.content"),
        (reply([{"type": "text", "text": PROMPT}]), "a wrong choices.0.message.content"),
        ({"choices": [{"message": {"role": "assistant"}}]}, "a wrong choices.0.message.content"),
        (reply(PROMPT, finish_reason=3), "a wrong choices.0.finish_reason"),
        (reply(PROMPT, usage={"prompt_tokens": "7"}), "a wrong usage.prompt_tokens"),
        (reply(PROMPT, usage={"prompt_tokens": -7}), "a wrong usage.prompt_tokens"),
        (reply(None), "a message without text"),
        (reply(None, finish_reason="tool_calls"), "a message without text"),
        (reply(None, finish_reason="length"), "spends all its tokens"),
        (reply("  ", finish_reason="length"), "spends all its tokens"),
        (reply("", finish_reason="content_filter"), "refuses to answer, whatever it is asked about"),
        (reply("the first wor", finish_reason="content_filter"), "refuses to answer, whatever"),
        (reply(None, finish_reason="content_filter"), "refuses to answer, whatever"),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_no_text(
    server: Server, ask: Any, body: Any, found: str
) -> None:
    server.script = lambda number, asked: body
    assert found in error_of(ask())
    # where the example may be at fault, something that cannot be is asked about too
    assert len(server.asked) == (2 if "spends" in found or "whatever" in found else 1)


def test_what_a_model_writes_is_taken_as_it_is_but_for_blanks_around_it(server: Server, ask: Any) -> None:
    written = ["  two\nlines  ", "", "ünï 🐈", "cut o"]
    ends = ["stop", "stop", None, "length"]
    server.script = lambda number, asked: reply(written[number], finish_reason=ends[number])
    assert ask(concurrency=1).generate(texts(4), max_new_tokens=5) == ["two\nlines", "", "ünï 🐈", "cut o"]


def test_an_answer_without_end_is_not_read_to_it(server: Server, ask: Any) -> None:
    server.script = lambda number, asked: reply("x" * (remote_wire.MAX_ANSWER_BYTES + 1))
    assert "more than 8 MiB" in error_of(ask())
    server.script = lambda number, asked: (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b")
    assert "a packed answer" in error_of(ask())


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "message", "content", "finish_reason", "usage", "refusal"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_no_shape_of_json_becomes_anything_but_a_text_or_a_user_error(body: Any) -> None:
    model = RemoteModel(RemoteConfig(url="http://h/v1", model="m"), FrameStore(Path()))
    try:
        text = model._read(json.dumps(body).encode())
    except (UserError, MediaFault):
        return
    assert text == body["choices"][0]["message"]["content"].strip()


# ---- one example alone -------------------------------------------------------------------------------------


def told(answers: Sequence[str | MediaFault]) -> list[str]:
    return [answer.reason if isinstance(answer, MediaFault) else answer for answer in answers]


def test_what_concerns_one_example_takes_the_place_of_its_answer_alone(
    server: Server, ask: Any, tmp_path: Path
) -> None:
    scripted = [
        (reply("fine"), "fine"),
        (reply(None, finish_reason="content_filter"), remote.REFUSED),
        ((400, {}, {"error": {"code": "content_filter"}}), remote.REFUSED),
        ({"choices": [{"message": {"content": None, "refusal": "No"}}]}, remote.REFUSED),
        ((400, {}, {"error": {"code": "context_length_exceeded"}}), remote.TOO_LONG),
        # as vLLM says it
        (
            (400, {}, {"error": {"code": 400, "param": "input_tokens", "type": "BadRequestError"}}),
            remote.TOO_LONG,
        ),
        ((413, {}, b"<html>"), remote.TOO_LONG),
        ((400, {}, {"error": {"code": "invalid_image_format"}}), remote.IMAGE_REFUSED),
        ((400, {}, {"error": {"code": 400, "param": None}}), remote.DENIED),
        ((422, {}, b"[]"), remote.DENIED),
        (reply("  ", finish_reason="length"), remote.NO_ANSWER),
    ]
    server.script = lambda number, asked: scripted[int(asked["messages"][0]["content"].split()[-1])][0]
    gone = Example("gone", PROMPT, None, Media(str(tmp_path / "none.png"), "image", "0" * 64))
    model = ask()
    found = model.answers([*texts(len(scripted)), gone], max_new_tokens=5)
    assert told(found) == [*(wanted for _, wanted in scripted), "media_missing"]
    assert model.usage.answers == len(server.asked) == len(scripted)
    with pytest.raises(MediaFault, match="media_missing"):
        model.generate([gone], max_new_tokens=5)
    with pytest.raises(UserError, match="refuses to answer, for one of the examples; leave it out"):
        model.generate(texts(8), max_new_tokens=5)


TOO_LONG = (400, {}, {"error": {"code": "context_length_exceeded"}})


def test_examples_that_all_fail_are_at_fault_where_a_plain_question_is_answered(
    server: Server, ask: Any
) -> None:
    def script(number: int, asked: dict[str, Any]) -> Any:
        return TOO_LONG if PROMPT in asked["messages"][0]["content"] else reply("yes")

    server.script = script
    for count in (1, 5):
        server.asked.clear()
        found = ask().answers(texts(count), max_new_tokens=5)
        assert told(found) == [remote.TOO_LONG] * count
        assert len(server.asked) == count + 1


def test_pictures_that_all_fail_are_doubted_with_a_plain_one(
    server: Server, ask: Any, media: dict[str, Media]
) -> None:
    examples = [Example(f"{n}", PROMPT, None, media["clip"]) for n in range(2)]
    server.script = lambda number, asked: TOO_LONG if number < 2 else reply("gray")
    assert told(ask().answers(examples, max_new_tokens=5)) == [remote.TOO_LONG] * 2
    picture, words = server.asked[2]["messages"][0]["content"]
    # the same question with the same settings
    assert words == {"type": "text", "text": PROMPT}
    assert server.asked[2] == {**server.asked[0], "messages": server.asked[2]["messages"]}
    data = base64.b64decode(picture["image_url"]["url"].split(",")[1], validate=True)
    with Image.open(io.BytesIO(data)) as shown:
        assert shown.size == (224, 224)
        assert shown.convert("RGB").getextrema() == ((128, 128),) * 3


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (TOO_LONG, "finds the request too long (status 400, context_length_exceeded), whatever it is asked"),
        ((400, {}, b"no"), "refuses the request (status 400), whatever it is asked about"),
        (reply(None, finish_reason="length"), "spends all its tokens before it says anything, whatever"),
        (reply(None, finish_reason="content_filter"), "refuses to answer, whatever it is asked about"),
    ],
)
def test_an_endpoint_that_answers_nothing_at_all_is_an_error(
    server: Server, ask: Any, tmp_path: Path, answer: Any, found: str
) -> None:
    server.script = lambda number, asked: answer
    gone = Example("gone", PROMPT, None, Media(str(tmp_path / "none.png"), "image", "0" * 64))
    with pytest.raises(UserError) as caught:
        ask().answers([*texts(3), gone], max_new_tokens=5)
    assert found in str(caught.value)
    assert len(server.asked) == 4


def test_broken_media_alone_says_nothing_of_the_endpoint(server: Server, ask: Any, tmp_path: Path) -> None:
    gone = Example("gone", PROMPT, None, Media(str(tmp_path / "none.png"), "image", "0" * 64))
    assert told(ask().answers([gone, gone], max_new_tokens=5)) == ["media_missing"] * 2
    assert server.asked == []


def test_what_was_answered_before_a_call_ends_comes_with_its_error(server: Server, ask: Any) -> None:
    server.script = lambda number, asked: [reply("a"), TOO_LONG, reply("c"), (401, {}, {})][number]
    with pytest.raises(EndpointError, match="wants a key") as caught:
        ask(concurrency=1).answers(texts(9), max_new_tokens=5)
    assert list(caught.value.finished) == [0, 1, 2]
    assert told(list(caught.value.finished.values())) == ["a", remote.TOO_LONG, "c"]
    assert len(server.asked) == 4
