"""Labels scored through a server whose log-probabilities come from a table, so that every sum can be made by
hand; a server that gives none, or some that cannot be, gives no score.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.served import Server, reply

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore, MediaFault
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import remote, remote_wire
from behavior_llava.models.remote import RemoteConfig, RemoteModel

PROMPT = "which-feeling"
EXAMPLE = Example("row", PROMPT, None)
START, IMAGE, USER, ANSWER = 1, 2, 3, 4
"""Tokens of the fake server's chat template."""

TABLE = {
    ("joy",): math.log(0.5),
    ("very",): math.log(0.25),
    ("very", " sad"): math.log(0.8),
    ("very", " sad", "dened"): math.log(0.1),
    ("very", " glad"): math.log(0.1),
    ("fear",): -7.5,
}
"""The beginning of an answer -> the log-probability of its last token."""
IDS = {piece: 100 + number for number, piece in enumerate(["joy", "very", " sad", "dened", " glad", "fear"])}

Entry = dict[str, Any] | None


def pieces(label: str) -> list[str]:
    """The label in the fake tokenizer's tokens."""
    found = re.findall("|".join(sorted(IDS, key=len, reverse=True)), label)
    assert "".join(found) == label
    return found


def entry(number: int, log_prob: float, text: str) -> Entry:
    return {str(number): {"logprob": log_prob, "rank": 1, "decoded_token": text}}


class Vllm:
    """Answers as vLLM does to prompt_logprobs=0; `change` may then lie."""

    def __init__(
        self, change: Callable[[list[Entry], str | None], Any] = lambda entries, label: entries
    ) -> None:
        self.change = change

    def __call__(self, number: int, asked: dict[str, Any]) -> Any:
        user, *label = asked["messages"]
        assert asked["prompt_logprobs"] == 0
        assert asked["max_tokens"] == 1
        is_open = bool(label)
        assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (is_open, not is_open)
        images = 0 if isinstance(user["content"], str) else len(user["content"]) - 1
        entries: list[Entry] = [None]
        entries += [entry(IMAGE, -3.0, "<image>")] * 4 * images
        entries += [entry(USER, -2.0, "user"), entry(ANSWER, -0.1, "answer:")]
        if is_open:
            assert label[0]["role"] == "assistant"
            said = pieces(label[0]["content"])
            for end, piece in enumerate(said, 1):
                # as a tokenizer of words gives it: the blank before it is lost
                entries.append(entry(IDS[piece], TABLE[tuple(said[:end])], piece.strip()))
        found = self.change(entries, label[0]["content"] if label else None)
        if isinstance(found, tuple):
            return found
        usage = {"prompt_tokens": len(found), "completion_tokens": 1} if isinstance(found, list) else None
        return reply("x", prompt_logprobs=found, usage=usage)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote_wire, "FIRST_WAIT_S", 0.01)
    running = Server()
    running.script = Vllm()
    yield running
    running.close()


@pytest.fixture
def model(server: Server, tmp_path: Path) -> RemoteModel:
    config = RemoteConfig(url=server.url, model="eyes", retries=1, timeout_s=5.0, concurrency=3)
    return RemoteModel(config, FrameStore(tmp_path / "frames"))


def refused(model: RemoteModel, labels: list[str] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        model.label_log_probs([EXAMPLE], labels or ["joy", "very sad"])
    assert PROMPT not in str(caught.value)
    return str(caught.value)


# ---- what is right -----------------------------------------------------------------------------------------


def test_a_label_is_as_likely_as_its_tokens_one_after_the_other(server: Server, model: RemoteModel) -> None:
    """Labels that share tokens, or begin one another, are scored as any."""
    labels = ["joy", "very sad", "very saddened", "very glad", "fear"]
    found = model.label_log_probs([EXAMPLE], labels)
    wanted = [
        math.log(0.5),
        math.log(0.25 * 0.8),
        math.log(0.25 * 0.8 * 0.1),
        math.log(0.25 * 0.1),
        -7.5,
    ]
    assert found == [pytest.approx(wanted, abs=1e-12)]
    assert len(server.asked) == 6
    assert model.usage.answers == 6
    assert model.usage.completion_tokens == 6


def test_labels_and_examples_keep_their_order_and_pictures_come_first(
    server: Server, model: RemoteModel, media: dict[str, Media]
) -> None:
    vllm = Vllm()

    def slow(number: int, asked: dict[str, Any]) -> Any:
        server.stop.wait(0.03 if number % 2 else 0.01)
        return vllm(number, asked)

    server.script = slow
    labels = ["fear", "joy"]
    examples = [EXAMPLE, Example("clip", PROMPT, None, media["clip"])] * 3
    assert model.label_log_probs(examples, labels) == [pytest.approx([-7.5, math.log(0.5)])] * 6
    assert len(server.asked) == 18
    assert 2 <= server.most_under_way <= 3
    shown = [asked["messages"][0]["content"] for asked in server.asked]
    assert sum(not isinstance(content, str) for content in shown) == 9
    assert all([part["type"] for part in content][-1] == "text" for content in shown if content != PROMPT)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["joy", "fear", "very glad", "very sad", "very saddened"]), min_size=1, unique=True
    )
)
def test_the_score_of_a_label_does_not_depend_on_the_others(labels: list[str]) -> None:
    """Through the reading alone; no server."""
    model = RemoteModel(RemoteConfig(url="http://h/v1", model="m"), FrameStore(Path()))
    vllm = Vllm()

    def tokens(label: str | None) -> list[Any]:
        messages = [{"role": "user", "content": PROMPT}]
        messages += [] if label is None else [{"role": "assistant", "content": label}]
        is_open = label is not None
        body = {"messages": messages, "prompt_logprobs": 0, "max_tokens": 1}
        answer = vllm(0, {**body, "continue_final_message": is_open, "add_generation_prompt": not is_open})
        scored = json.loads(json.dumps(answer))["prompt_logprobs"]
        parsed = model._parsed(remote._Scored, json.dumps({"prompt_logprobs": scored}).encode())
        return [model._token(place, found) for place, found in enumerate(parsed.prompt_logprobs or [])]

    found = [model._label_tokens(tokens(None), tokens(label), label) for label in labels]
    model._check_sums(found)
    for label, said in zip(labels, found, strict=True):
        naive = sum(TABLE[tuple(pieces(label)[:end])] for end in range(1, len(pieces(label)) + 1))
        assert sum(token.log_prob for token in said) == pytest.approx(naive, abs=1e-12)


def test_a_letter_cut_into_tokens_can_not_be_read_back_and_is_taken(
    server: Server, model: RemoteModel
) -> None:
    def cut(entries: list[Entry], label: str | None) -> list[Entry]:
        return (
            entries if label is None else [*entries[:-1], entry(7, -1.0, "\ufffd"), entry(8, -2.0, "\ufffd")]
        )

    server.script = Vllm(cut)
    assert model.label_log_probs([EXAMPLE], ["joy"]) == [[-3.0]]


# ---- what gives no score -----------------------------------------------------------------------------------


def test_an_endpoint_that_ignores_the_question_gives_no_score(server: Server, model: RemoteModel) -> None:
    server.script = lambda number, asked: reply("joy", usage={"prompt_tokens": 9, "completion_tokens": 1})
    told = refused(model)
    assert "gives no log-probabilities of given text; label scoring needs" in told
    assert "serve the model with vLLM, or score it locally" in told
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "requests"),
    [
        (400, {"error": {"param": "prompt_logprobs"}}, 1),
        (400, {"error": {"param": "prompt_logprobs", "code": "unknown_parameter"}}, 1),
        # without a word of ours the example may be the cause: a plain question is asked too
        (422, {}, 2),
        (400, [], 2),
    ],
)
def test_an_endpoint_that_denies_the_question_gives_no_score(
    server: Server, model: RemoteModel, status: int, body: Any, requests: int
) -> None:
    server.script = lambda number, asked: (status, {}, body)
    told = refused(model)
    assert f"refuses to give log-probabilities (status {status}" in told
    assert "label scoring needs" in told
    assert len(server.asked) == requests


def test_an_endpoint_that_wants_another_name_for_the_limit_says_so(
    server: Server, model: RemoteModel
) -> None:
    error = {"code": "unsupported_parameter", "param": "max_tokens"}
    server.script = lambda number, asked: (400, {}, {"error": error})
    assert "set max_tokens_name to max_completion_tokens" in refused(model)


def put(place: int, found: Any) -> Callable[[list[Entry], str | None], list[Any]]:
    """Another entry at this place of an answer about a label."""

    def change(entries: list[Entry], label: str | None) -> list[Any]:
        if label is not None:
            entries[place] = found
        return entries

    return change


JOY = str(IDS["joy"])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (put(-1, entry(100, 0.25, "joy")), "cannot be: one above 0"),
        (put(-1, entry(100, math.nan, "joy")), "cannot be: one that is not finite"),
        (put(-1, entry(100, -math.inf, "joy")), "cannot be: one that is not finite"),
        (put(-1, entry(100, -9999.0, "joy")), "cannot be: one that is not finite"),
        (put(1, entry(USER, 3.0, "user")), "cannot be: one above 0"),
        (put(-1, None), "cannot be: not one, but 0 of a token"),
        (put(-1, {}), "cannot be: not one, but 0 of a token"),
        (
            put(
                -1, {JOY: {"logprob": -1, "decoded_token": "joy"}, "9": {"logprob": -2, "decoded_token": "?"}}
            ),
            "2 of",
        ),
        (put(-1, {JOY: {"logprob": "-1", "decoded_token": "joy"}}), "sends a wrong prompt_logprobs.3"),
        (put(-1, {JOY: {"decoded_token": "joy"}}), "sends a wrong prompt_logprobs.3"),
        (put(-1, {PROMPT: PROMPT}), "sends a wrong prompt_logprobs.3"),
        (put(-1, 7), "sends a wrong prompt_logprobs.3"),
        (put(-2, entry(99, -1.0, "answer:j")), "sees another prompt before the label 'joy'"),
        (put(-1, entry(101, -1.0, "sorrow")), "does not show the label 'joy' as it was given"),
        (lambda entries, label: entries[:-1] if label else entries, "does not show the label 'joy'"),
        (lambda entries, label: [*entries, *([entry(5, -1.0, "<end>")] if label else [])], "does not show"),
        (
            lambda entries, label: (
                [*entries[:3], entry(6, -1.0, "<think>"), *entries[3:]] if label else entries
            ),
            "not show",
        ),
        (lambda entries, label: [], "cannot be: 0 of them for 0 prompt tokens"),
        (lambda entries, label: {"0": {}}, "sends a wrong prompt_logprobs"),
        (
            lambda entries, label: (200, {}, reply("x", prompt_logprobs=entries, usage={"prompt_tokens": 9})),
            "cannot be: 3 of them for 9 prompt tokens",
        ),
        (lambda entries, label: (200, {}, {"error": {"message": PROMPT}}), "gives no log-probabilities"),
    ],
)
def test_log_probabilities_that_cannot_be_give_no_score(
    server: Server, model: RemoteModel, change: Any, found: str
) -> None:
    server.script = Vllm(change)
    assert found in refused(model, ["joy"])


def test_next_tokens_more_likely_than_certain_give_no_score(
    server: Server, model: RemoteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits in place of log-probabilities are found out where they add up to too much."""
    monkeypatch.setitem(TABLE, ("fear",), math.log(0.6))
    assert "add up to more than certainty" in refused(model, ["joy", "fear"])
    monkeypatch.setitem(TABLE, ("fear",), math.log(0.5))
    assert model.label_log_probs([EXAMPLE], ["joy", "fear"]) == [pytest.approx([math.log(0.5)] * 2)]


@pytest.mark.parametrize("labels", [[], [""], ["joy", " "], [" joy"], ["joy\n"], ["joy", "fear", "joy"]])
def test_labels_that_are_none_are_refused_before_anything_is_asked(
    server: Server, model: RemoteModel, labels: list[str]
) -> None:
    with pytest.raises(UserError, match="labels"):
        model.label_log_probs([EXAMPLE], labels)
    assert server.asked == []


def test_what_concerns_an_example_is_said_of_it(server: Server, model: RemoteModel, tmp_path: Path) -> None:
    gone = Example("gone", PROMPT, None, Media(str(tmp_path / "none.png"), "image", "0" * 64))
    with pytest.raises(MediaFault, match="media_missing"):
        model.label_log_probs([EXAMPLE, gone], ["joy"])
    server.script = lambda number, asked: (400, {}, {"error": {"code": "context_length_exceeded"}})
    assert "finds the request too long (status 400, context_length_exceeded), whatever" in refused(model)


def test_a_fault_that_passes_is_asked_again(server: Server, model: RemoteModel) -> None:
    vllm = Vllm()
    server.script = lambda number, asked: (503, {}, {}) if number == 1 else vllm(number, asked)
    assert model.label_log_probs([EXAMPLE], ["joy"]) == [pytest.approx([math.log(0.5)])]
    assert model.usage.lost == 1
