"""Streamed answers: what generate gives, in pieces, and stopped where nobody waits."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.served import Server

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore, MediaFault
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import remote_wire
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.models.remote import RemoteConfig, RemoteModel
from behavior_llava.models.streaming import stream


def asked(media: Media | None = None, **more: Any) -> Example:
    return Example(id="x", prompt="what do viewers feel", completion=None, media=media, **more)


# ---- a local model -----------------------------------------------------------------------------------------


def test_pieces_join_to_what_generate_gives(tiny: VisionLanguageModel, media: dict[str, Media]) -> None:
    examples = [
        asked(),
        asked(media["a"]),
        asked(media["clip"]),
        asked(media["a"], earlier=(("describe", "it was a good day"),)),
    ]
    num_pieces = 0
    for example in examples:
        (whole,) = tiny.generate([example], max_new_tokens=24)
        pieces = list(stream(tiny, example, max_new_tokens=24))
        assert "".join(pieces) == whole
        num_pieces += len(pieces)
    assert num_pieces >= 2 * len(examples)


def count_steps(model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    steps: list[int] = []
    forward = model.network.forward

    def counted(*given: Any, **named: Any) -> Any:
        steps.append(1)
        return forward(*given, **named)

    monkeypatch.setattr(model.network, "forward", counted)
    return steps


def test_closing_ends_the_generation(tiny: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = count_steps(tiny, monkeypatch)
    monkeypatch.setattr(tiny.network.generation_config, "eos_token_id", None)
    answer = stream(tiny, asked(), max_new_tokens=3000)
    assert next(answer)
    answer.close()  # type: ignore[attr-defined]
    done = len(steps)
    assert 0 < done < 2900
    assert threading.active_count() == len([one for one in threading.enumerate() if one.name[:6] != "stream"])
    assert len(steps) == done


def test_stop_ends_the_generation(tiny: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = count_steps(tiny, monkeypatch)
    monkeypatch.setattr(tiny.network.generation_config, "eos_token_id", None)
    stop = threading.Event()
    for _ in stream(tiny, asked(), max_new_tokens=3000, stop=stop):
        stop.set()
    assert 0 < len(steps) < 2900


def test_a_broken_medium_is_a_fault(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    with pytest.raises(MediaFault, match="media_missing"):
        list(stream(tiny, asked(Media(str(tmp_path / "gone.png"), "image", "0" * 64)), max_new_tokens=4))


# ---- a served model ----------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def served(server: Server, folder: Path, **settings: Any) -> RemoteModel:
    config = RemoteConfig(url=server.url, model="m", **{"retries": 0, "timeout_s": 20, **settings})
    return RemoteModel(config, FrameStore(folder))


def event(text: str | None, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def test_served_pieces_come_as_they_are_sent(server: Server, tmp_path: Path) -> None:
    body = b": hello\r\n\r\n" + event(" A") + event(" red") + event(None) + event(" cat. ", "stop") + DONE
    server.script = lambda number, asked: (200, {}, body)
    model = served(server, tmp_path)
    example = asked(earlier=(("first?", "one"), ("second?", "two")))
    assert list(stream(model, example, max_new_tokens=9)) == ["A", " red", " cat."]
    (sent,) = server.asked
    assert sent["stream"] is True
    assert sent["max_tokens"] == 9
    assert [(message["role"], message["content"]) for message in sent["messages"]] == [
        ("user", "first?"),
        ("assistant", "one"),
        ("user", "second?"),
        ("assistant", "two"),
        ("user", "what do viewers feel"),
    ]
    assert server.headers[0]["accept"] == "text/event-stream"
    assert model.usage.answers == 1


def test_media_stand_in_the_first_round(server: Server, tmp_path: Path, media: dict[str, Media]) -> None:
    server.script = lambda number, asked: (200, {}, event("A", "stop") + DONE)
    list(stream(served(server, tmp_path), asked(media["a"], earlier=(("q", "a"),)), max_new_tokens=9))
    first, _, last = server.asked[0]["messages"]
    assert [part["type"] for part in first["content"]] == ["image_url", "text"]
    assert first["content"][1]["text"] == "q"
    assert last["content"] == "what do viewers feel"


def test_generate_tells_earlier_rounds_to_an_endpoint(server: Server, tmp_path: Path) -> None:
    served(server, tmp_path).generate([asked(earlier=(("q", "a"),))], max_new_tokens=9)
    assert [message["content"] for message in server.asked[0]["messages"]] == [
        "q",
        "a",
        "what do viewers feel",
    ]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, {}, event("half an answer")), "breaks off"),
        ((200, {}, b'{"choices": []}'), "no events"),
        ((200, {}, b"data: {broken\n\n" + DONE), "something other than JSON"),
        ((200, {}, event("ok") + b'data: {"choices": [{"delta": {"content": 3}}]}\n\n'), "a wrong choices"),
        ((302, {"Location": "http://127.0.0.1:9/v1"}, b""), "redirect"),
        ((401, {}, b'{"error": {"message": "SECRET"}}'), "wants a key"),
        ((500, {}, b"SECRET"), "status 500"),
        ((200, {"X-Reset": "1"}, event("begun") * 400 + DONE), "in the middle of an answer"),
    ],
)
def test_what_is_no_whole_answer_is_an_error(server: Server, tmp_path: Path, answer: Any, told: str) -> None:
    server.script = lambda number, asked: answer
    with pytest.raises(UserError, match=told) as caught:
        list(stream(served(server, tmp_path), asked(), max_new_tokens=9))
    assert "SECRET" not in str(caught.value)
    assert len(server.asked) == 1


def test_it_is_asked_again_only_while_nothing_was_heard(server: Server, tmp_path: Path) -> None:
    whole = (200, {}, event("A", "stop") + DONE)
    server.script = lambda number, asked: (503, {}, b"") if number == 0 else whole
    assert list(stream(served(server, tmp_path, retries=2), asked(), max_new_tokens=9)) == ["A"]
    assert len(server.asked) == 2
    server.script = lambda number, asked: (200, {"X-Reset": "1"}, event("begun") * 400)
    with pytest.raises(UserError, match="in the middle"):
        list(stream(served(server, tmp_path, retries=2), asked(), max_new_tokens=9))
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (event(None, "content_filter") + DONE, "refused_by_endpoint"),
        (event(None, "length") + DONE, "no_answer_within_tokens"),
    ],
)
def test_no_answer_is_a_fault(server: Server, tmp_path: Path, body: bytes, reason: str) -> None:
    server.script = lambda number, asked: (200, {}, body)
    with pytest.raises(MediaFault, match=reason):
        list(stream(served(server, tmp_path), asked(), max_new_tokens=9))


def test_an_endless_answer_is_cut(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_wire, "MAX_ANSWER_BYTES", 2**20)
    server.script = lambda number, asked: (200, {}, event("again and ") * 40_000)
    with pytest.raises(UserError, match="more than 1 MiB"):
        list(stream(served(server, tmp_path), asked(), max_new_tokens=9))


def test_closing_closes_the_connection(server: Server, tmp_path: Path) -> None:
    server.script = lambda number, asked: (200, {"X-Drip": "1"}, event("word") * 100_000 + DONE)
    answer = stream(served(server, tmp_path), asked(), max_new_tokens=9)
    assert next(answer) == "word"
    answer.close()  # type: ignore[attr-defined]  # ends, though the server would go on for days
    assert not [one for one in threading.enumerate() if one.name.startswith("stream")]


def test_the_key_is_in_no_error(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_KEY", "sk-very-secret")
    server.script = lambda number, asked: (401, {}, b'{"error": {"message": "sk-very-secret"}}')
    with pytest.raises(UserError, match="refuses the key in DEMO_KEY") as caught:
        list(stream(served(server, tmp_path, key_env="DEMO_KEY"), asked(), max_new_tokens=9))
    assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
    assert "very-secret" not in str(caught.value)
