"""A model behind an OpenAI-compatible endpoint: vLLM, SGLang or a provider.

The same Examples go in and the same texts come out as in auto.py, in the same order; from vLLM also how
likely given answers are. The key is read from the environment; it, the prompts and what the endpoint says in
its own words stand in no message and no log. Called where captions, tags or judgments are asked of a server.
"""

from __future__ import annotations

import base64
import io
import math
import threading
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import anyio
from anyio.from_thread import start_blocking_portal
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore, MediaFault
from behavior_llava.core.schema import Example
from behavior_llava.models import remote_wire
from behavior_llava.models.remote_wire import Endpoint, EndpointError, Line, Refusal

JPEG_QUALITY = 90

REFUSED = "refused_by_endpoint"
"""The reason of an example that the endpoint's own filter, or its model's refusal, left without an answer."""
TOO_LONG = "too_long_for_endpoint"
IMAGE_REFUSED = "image_refused_by_endpoint"
DENIED = "request_denied_by_endpoint"
"""The endpoint calls the request wrong (status 400 or 422) and gives no reason in a word we know."""
NO_ANSWER = "no_answer_within_tokens"
"""All tokens were spent before anything was said, mostly on thinking."""

_PROBE_SIDE = 224
_WAKE_S = 0.2
_WATCH_S = 0.1
_PROBE_WORDS = "Answer with one word."
_NEEDS_VLLM = (
    "label scoring needs the log-probabilities of given text (prompt_logprobs): serve the model with vLLM, or"
    " score it locally"
)
_SCORING = frozenset({"add_generation_prompt", "continue_final_message", "prompt_logprobs"})
_NO_PROBABILITY = -9999.0
"""What vLLM writes for minus infinity, which JSON has no word for.

Source: clamp_prompt_logprobs in https://github.com/vllm-project/vllm
"""
_SUM_SLACK = 1.05
"""Probabilities of different next tokens may add up to this: half precision rounds, and batches differ."""

T = TypeVar("T")
Content = str | list[dict[str, Any]]
Messages = list[dict[str, Any]]
Ask = Callable[[Line, Messages], Awaitable[T]]


class Prices(Config):
    """What an endpoint takes for a million tokens, in any currency.

    Attributes:
        currency: how the sum is called, as "USD".
    """

    currency: str = Field(min_length=1, max_length=20)
    prompt_per_million: float = Field(ge=0, allow_inf_nan=False)
    completion_per_million: float = Field(ge=0, allow_inf_nan=False)


class RemoteConfig(Config):
    """Where a model is served and how it is asked.

    Attributes:
        url: the base of its interface, as "http://localhost:8000/v1"; without a user, password or query.
        model: the name it is served under.
        key_env: name of the environment variable that holds the key, never the key itself; null for a server
            that asks for none.
        timeout_s: for one whole answer, from the connection to its last byte.
        retries: how often a request is sent again where the fault may pass (busy, broken, too slow).
        concurrency: requests under way at once.
        max_image_side: pixels; larger pictures are made smaller before they are sent. Stored frames of videos
            are never larger than 448.
        max_tokens_name: how the endpoint calls the limit of an answer; newer hosted models only take
            max_completion_tokens.
        leave_out: what is never sent, because the endpoint refuses it. Without temperature, or without seed
            at a temperature above 0, its answers cannot be had again.
        prices: for `Usage.cost`; null where they are unknown or nothing is paid.
    """

    url: str = Field(min_length=1)
    model: str = Field(min_length=1)
    key_env: str | None = None
    timeout_s: float = Field(default=120.0, gt=0)
    retries: int = Field(default=5, ge=0)
    concurrency: int = Field(default=8, ge=1, le=512)
    max_image_side: int = Field(default=1024, ge=16)
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    leave_out: tuple[Literal["temperature", "seed"], ...] = ()
    prices: Prices | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an endpoint says it has counted.

    Attributes:
        answers: how many were given, also those that were refused.
        unmetered: of these, how many told no counts; where there are any, the sums are too low.
        lost: requests that brought no answer (too slow, broken, busy) and may have been counted all the same.
    """

    answers: int = 0
    unmetered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    lost: int = 0
    prices: Prices | None = None

    @property
    def cost(self) -> float | None:
        """Of all that was counted, in the currency of the prices; None without prices or where an answer told
        no counts. What was lost may come on top.
        """
        if self.prices is None or self.unmetered:
            return None
        prompt = self.prompt_tokens * self.prices.prompt_per_million
        return (prompt + self.completion_tokens * self.prices.completion_per_million) / 1e6

    def told(self) -> str:
        """In one line, for a log."""
        parts = [
            f"{self.answers} answers",
            f"{self.prompt_tokens} prompt and {self.completion_tokens} completion tokens",
        ]
        if self.unmetered:
            parts.append(f"{self.unmetered} answers told no counts")
        if self.lost:
            parts.append(f"{self.lost} requests brought no answer")
        if self.prices is not None:
            cost = "unknown" if self.cost is None else f"{self.cost:.4f} {self.prices.currency}"
            parts.append(f"cost {cost}")
        return ", ".join(parts)


class EndpointFault(MediaFault):
    """The endpoint gives no answer about one example.

    Attributes:
        found, remedy: for an error, where nothing can take its place.
    """

    def __init__(self, reason: str, found: str, remedy: str) -> None:
        super().__init__(reason)
        self.found, self.remedy = found, remedy


# ---- the answer's form -------------------------------------------------------------------------------------
# Source: https://platform.openai.com/docs/api-reference/chat/object; what is not named here is not looked at


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Message(_Strict):
    content: str | None
    refusal: str | None = None


class _Choice(_Strict):
    message: _Message
    finish_reason: str | None = None


class _Tokens(_Strict):
    prompt_tokens: NonNegativeInt | None = None
    completion_tokens: NonNegativeInt | None = None


class _Counted(_Strict):
    usage: _Tokens | None = None


class _Reply(_Counted):
    choices: list[_Choice] = Field(min_length=1)


# Source: https://platform.openai.com/docs/api-reference/chat-streaming/streaming


class _Delta(_Strict):
    content: str | None = None
    refusal: str | None = None


class _Addition(_Strict):
    delta: _Delta
    finish_reason: str | None = None


class _Event(_Counted):
    choices: list[_Addition]


# vLLM's addition: of every prompt token {its id: what is known of it}, null for the first.
# Source: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html (extra parameters of chat), and
# ChatCompletionResponse in vllm/entrypoints/openai/chat_completion/protocol.py


class _Given(_Strict):
    logprob: float
    decoded_token: str


class _Scored(_Counted):
    prompt_logprobs: list[dict[str, _Given] | None] | None = None


Form = TypeVar("Form", bound=_Counted)


@dataclass(frozen=True, slots=True)
class _Token:
    """A token of a prompt; of the first nothing is known but that it is there."""

    id: str | None
    log_prob: float
    text: str


class RemoteModel:
    """A served model, for generation and for the scoring of labels. For one thread.

    Requests go to the given address alone, through a proxy where the environment names one (HTTPS_PROXY).

    Args:
        store: where a video's frames come from.

    Raises:
        UserError: the address cannot be one, it holds a user, password or query, or the key's variable is not
            set.
    """

    def __init__(self, config: RemoteConfig, store: FrameStore) -> None:
        self.config, self.store = config, store
        self.usage = Usage(prices=config.prices)
        self._lock = threading.Lock()
        if config.key_env is not None:
            remote_wire.key(config.key_env)
        url = remote_wire.base_url(config.url)
        self._endpoint = Endpoint(
            url=url,
            key_env=config.key_env,
            timeout_s=config.timeout_s,
            retries=config.retries,
            concurrency=config.concurrency,
            name=f"{config.model} at {url}",
            lost=self._lose,
        )

    def identity(self) -> str:
        """Which model this is and how it is shown pictures, for the keys of caches.

        A server may change what it serves under a name; nobody can see that from here.
        """
        parts = [self._endpoint.name, f"JPEG {JPEG_QUALITY} of side {self.config.max_image_side}"]
        parts += [f"without {name}" for name in sorted(self.config.leave_out)]
        return ", ".join(parts)

    def generate(
        self,
        examples: Sequence[Example],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        system: str | None = None,
    ) -> list[str]:
        """One answer an example, in their order; "" only where the model itself chose to write nothing.

        Args:
            system: what the model is told before every question, as a judge is its rules.

        Raises:
            MediaFault: an example's media is gone or broken.
            UserError: the endpoint cannot be reached, refuses, or does not answer as it should.
        """
        found = self.answers(
            examples, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, system=system
        )
        return self._without_faults(found)

    def answers(
        self,
        examples: Sequence[Example],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        system: str | None = None,
    ) -> list[str | MediaFault]:
        """As `generate`, but what concerns one example alone takes the place of its answer: its media is
        broken, or the endpoint says nothing about it (REFUSED, TOO_LONG, IMAGE_REFUSED, DENIED, NO_ANSWER).

        Where a call brings no answer at all, and the endpoint is the cause, it is asked once more, with the
        same settings, about something that cannot be at fault: a small gray picture, or a few words where no
        example has media. If that brings no answer either, the endpoint or a setting is wrong, and that is
        an error; otherwise the examples are.

        Raises:
            EndpointError: a UserError; the endpoint cannot be reached, refuses, or does not answer as it
                should. Its `finished` holds the answers and faults that had come before.
        """
        body = self._body(max_new_tokens, temperature, seed)
        before = [] if system is None else [{"role": "system", "content": system}]

        async def ask(line: Line, messages: Messages) -> str:
            return self._read(await self._sent(line, {**body, "messages": [*before, *messages]}))

        return self._of_every(examples, ask)

    def stream(
        self,
        example: Example,
        *,
        max_new_tokens: int,
        hear: Callable[[str], None],
        is_unwanted: Callable[[], bool],
    ) -> None:
        """One answer, told to `hear` in pieces as they come; greedy.

        Args:
            is_unwanted: looked at every _WATCH_S seconds; once true, the connection is closed and the call
                ends.

        Raises:
            MediaFault: the media is gone or broken, or the endpoint says nothing about this example.
            EndpointError: a UserError; the endpoint cannot be reached, refuses, does not answer as it should
                or breaks off.
        """
        answer = _Streamed(self, hear)

        async def work() -> None:
            async with self._endpoint.opened() as line, anyio.create_task_group() as group:

                async def watch() -> None:
                    while not is_unwanted():
                        await anyio.sleep(_WATCH_S)
                    group.cancel_scope.cancel()

                group.start_soon(watch)
                messages = await anyio.to_thread.run_sync(self._messages, example, abandon_on_cancel=True)
                body = {**self._body(max_new_tokens, 0.0, None), "messages": messages}
                try:
                    await line.listen(body, answer.take)
                except Refusal as refusal:
                    raise self._refused(refusal) from None
                answer.end()
                group.cancel_scope.cancel()

        try:
            anyio.run(work)
        except ExceptionGroup as found:
            raise found.exceptions[0] from None
        finally:
            self._count(answer.usage)

    def _body(self, max_new_tokens: int, temperature: float, seed: int | None) -> dict[str, Any]:
        """What every request for an answer says, but for its messages."""
        settings: dict[str, Any] = {
            self.config.max_tokens_name: max_new_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        return {
            "model": self.config.model,
            **{
                name: value
                for name, value in settings.items()
                if value is not None and name not in self.config.leave_out
            },
        }

    def label_log_probs(self, examples: Sequence[Example], labels: Sequence[str]) -> list[list[float]]:
        """The log-probability (natural) of each label as the beginning of the answer, summed over its tokens.

        Equal to evaluation/scoring.py's up to the server's rounding. Every label is a request of its own, for
        which vLLM reads media and prompt anew; it needs no setting there.

        Raises:
            MediaFault: an example's media is gone or broken.
            UserError: a label is empty or given twice; or the endpoint gives no log-probabilities of given
                text, or none that can be: they are never guessed.
        """
        _check_labels(labels)

        async def ask(line: Line, asked: Messages) -> list[float]:
            prompt = await self._prompt_tokens(line, asked, is_open=False)
            tokens: list[list[_Token]] = [[] for _ in labels]

            async def score(place: int) -> None:
                label = {"role": "assistant", "content": labels[place]}
                whole = await self._prompt_tokens(line, [*asked, label], is_open=True)
                tokens[place] = self._label_tokens(prompt, whole, labels[place])

            await remote_wire.each(score, len(labels), self.config.concurrency)
            self._check_sums(tokens)
            return [math.fsum(token.log_prob for token in found) for found in tokens]

        return self._without_faults(self._of_every(examples, ask))

    # ---- many examples ----

    def _of_every(self, examples: Sequence[Example], ask: Ask[T]) -> list[T | MediaFault]:
        finished: dict[int, T | MediaFault] = {}

        async def work() -> None:
            async with self._endpoint.opened() as line:

                async def one(place: int) -> None:
                    try:
                        # a thread, since decoding a video takes its time; it is left alone by who cannot wait
                        messages = await anyio.to_thread.run_sync(
                            self._messages, examples[place], abandon_on_cancel=True
                        )
                        finished[place] = await ask(line, messages)
                    except MediaFault as fault:
                        finished[place] = fault

                await remote_wire.each(one, len(examples), self.config.concurrency)
                await self._doubt(line, examples, list(finished.values()), ask)

        if not examples:
            return []
        try:
            # a loop of its own: the caller's thread may already run one, as in a notebook
            with start_blocking_portal("asyncio", name="remote") as portal:
                working = portal.start_task_soon(work)
                # Ctrl-C that reaches another thread is heard by this one only when it wakes
                while not wait([working], timeout=_WAKE_S).done:
                    pass
                working.result()
        except EndpointError as error:
            error.finished = dict(finished)
            raise
        return [finished[place] for place in range(len(examples))]

    async def _doubt(
        self, line: Line, examples: Sequence[Example], found: Sequence[Any], ask: Ask[Any]
    ) -> None:
        """Raises where no example is answered and the endpoint or a setting is the cause; see `answers`."""
        faults = [answer for answer in found if isinstance(answer, EndpointFault)]
        if not faults or not all(isinstance(answer, MediaFault) for answer in found):
            return
        prompts = {example.prompt for example in examples}
        words = prompts.pop() if len(prompts) == 1 and len(examples) > 1 else _PROBE_WORDS
        gray = Image.new("RGB", (_PROBE_SIDE, _PROBE_SIDE), (128, 128, 128))
        has_media = any(example.media is not None for example in examples)
        content: Content = [_picture(gray), _words(words)] if has_media else words
        try:
            await ask(line, [{"role": "user", "content": content}])
        except EndpointFault as fault:
            found = f"{fault.found}, whatever it is asked about"
            raise self._endpoint.error(found, fault.remedy) from None

    def _messages(self, example: Example) -> Messages:
        """The conversation; its media stand in the first round."""
        questions = [*(question for question, _ in example.earlier), example.prompt]
        contents: list[Content] = [self._content(example, questions[0]), *questions[1:]]
        messages: Messages = [{"role": "user", "content": contents[0]}]
        for (_, answer), content in zip(example.earlier, contents[1:], strict=True):
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": content}]
        return messages

    def _content(self, example: Example, question: str) -> Content:
        if example.media is None:
            return question
        side = self.config.max_image_side
        pictures = self.store.frames(example.media, side=side)
        for picture in pictures:
            picture.thumbnail((side, side))
        return [*map(_picture, pictures), _words(question)]

    # ---- one request ----

    async def _sent(self, line: Line, body: dict[str, Any]) -> bytearray:
        try:
            return await line.ask(body)
        except Refusal as refusal:
            raise self._refused(refusal) from None

    def _read(self, content: bytes | bytearray) -> str:
        """The text of an answer.

        Raises:
            EndpointFault: there is none.
        """
        reply = self._parsed(_Reply, content)
        self._count(reply.usage)
        choice = reply.choices[0]
        if choice.finish_reason in remote_wire.FILTERED or choice.message.refusal:
            raise _refuses()
        text = choice.message.content
        if text is not None and (text.strip() or choice.finish_reason != "length"):
            return text.strip()
        if choice.finish_reason == "length":
            raise _says_nothing()
        raise self._endpoint.lie("a message without text")

    def _parsed(self, form: type[Form], content: bytes | bytearray) -> Form:
        try:
            reply = form.model_validate_json(content)
        except ValidationError as error:
            place = error.errors(include_url=False, include_context=False, include_input=False)[0]
            steps = place["loc"]
            # what is deeper there are keys of a dict, the endpoint's own words
            told = ".".join(map(str, steps[:2] if steps[:1] == ("prompt_logprobs",) else steps))
            raise self._endpoint.lie(f"a wrong {told}" if told else "something other than JSON") from None
        return reply

    def _count(self, tokens: _Tokens | None) -> None:
        asked, said = (None, None) if tokens is None else (tokens.prompt_tokens, tokens.completion_tokens)
        with self._lock:
            before = self.usage
            self.usage = replace(
                before,
                answers=before.answers + 1,
                unmetered=before.unmetered + (asked is None or said is None),
                prompt_tokens=before.prompt_tokens + (asked or 0),
                completion_tokens=before.completion_tokens + (said or 0),
            )

    def _lose(self) -> None:
        with self._lock:
            self.usage = replace(self.usage, lost=self.usage.lost + 1)

    # ---- given answers ----

    async def _prompt_tokens(
        self, line: Line, messages: list[dict[str, Any]], *, is_open: bool
    ) -> list[_Token]:
        """The tokens of a prompt; `is_open` where its last message is an answer that has not ended."""
        body = {
            "model": self.config.model,
            self.config.max_tokens_name: 1,
            "prompt_logprobs": 0,
            "add_generation_prompt": not is_open,
            "continue_final_message": is_open,
            "messages": messages,
        }
        try:
            content = await line.ask(body)
        except Refusal as refusal:
            found = f"refuses to give log-probabilities {refusal.told}"
            if refusal.parameter in _SCORING:
                raise self._endpoint.error(found, _NEEDS_VLLM) from None
            fault = self._refused(refusal)
            if isinstance(fault, EndpointFault) and fault.reason == DENIED:
                raise EndpointFault(DENIED, found, _NEEDS_VLLM) from None
            raise fault from None
        reply = self._parsed(_Scored, content)
        self._count(reply.usage)
        found, counted = reply.prompt_logprobs, None if reply.usage is None else reply.usage.prompt_tokens
        if found is None:
            raise self._endpoint.error("gives no log-probabilities of given text", _NEEDS_VLLM)
        if len(found) < 2 or (counted is not None and counted != len(found)):
            raise self._wrong(f"{len(found)} of them for {counted} prompt tokens")
        return [self._token(place, entry) for place, entry in enumerate(found)]

    def _token(self, place: int, entry: dict[str, _Given] | None) -> _Token:
        if place == 0 and entry is None:
            return _Token(None, 0.0, "")
        if entry is None or len(entry) != 1:
            raise self._wrong(f"not one, but {len(entry or ())} of a token")
        ((number, given),) = entry.items()
        if not math.isfinite(given.logprob) or given.logprob <= _NO_PROBABILITY:
            raise self._wrong("one that is not finite")
        if given.logprob > 0:
            raise self._wrong("one above 0")
        return _Token(number, given.logprob, given.decoded_token)

    def _label_tokens(self, prompt: list[_Token], whole: list[_Token], label: str) -> list[_Token]:
        """What follows the prompt, checked to be the label and nothing else."""
        remedy = "score it locally, or serve the model with a chat template that only adds the answer"
        if [token.id for token in whole[: len(prompt)]] != [token.id for token in prompt]:
            raise self._endpoint.error(
                f"sees another prompt before the label {label!r}: it is joined with what stands before it, or"
                " the chat template changes that",
                remedy,
            )
        found = whole[len(prompt) :]
        text = "".join(token.text for token in found)
        # a token that is a part of a letter cannot be read alone, and blanks are lost when one is
        if not found or ("\ufffd" not in text and _bare(text) != _bare(label)):
            raise self._endpoint.error(f"does not show the label {label!r} as it was given", remedy)
        return found

    def _check_sums(self, labels: Sequence[Sequence[_Token]]) -> None:
        """Different next tokens at one place cannot be more likely than certain."""
        next_of: dict[tuple[str | None, ...], dict[str | None, float]] = {}
        for tokens in labels:
            ids = tuple(token.id for token in tokens)
            for place, token in enumerate(tokens):
                next_of.setdefault(ids[:place], {}).setdefault(token.id, token.log_prob)
        for following in next_of.values():
            if sum(map(math.exp, following.values())) > _SUM_SLACK:
                raise self._wrong("some that add up to more than certainty")

    def _wrong(self, found: str) -> EndpointError:
        return self._endpoint.error(f"gives log-probabilities that cannot be: {found}", _NEEDS_VLLM)

    # ---- what is wrong ----

    def _without_faults(self, found: Sequence[T | MediaFault]) -> list[T]:
        whole: list[T] = []
        for answer in found:
            if isinstance(answer, EndpointFault):
                raise self._endpoint.error(f"{answer.found}, for one of the examples", answer.remedy)
            if isinstance(answer, MediaFault):
                raise answer
            whole.append(answer)
        return whole

    def _refused(self, refusal: Refusal) -> EndpointError | EndpointFault:
        """The fault of an example whose request is refused; an error where no example is the cause."""
        status, code, parameter, told = refusal.status, refusal.code, refusal.parameter, refusal.told
        if status in (400, 413, 422) and code not in remote_wire.LASTING | remote_wire.UNSUPPORTED:
            self._count(None)
            if code in remote_wire.FILTERED:
                return EndpointFault(
                    REFUSED, f"refuses to answer {told}", "leave it out or ask another model"
                )
            shorter = "lower max_image_side, show fewer frames or allow fewer new tokens"
            if status == 413:
                return EndpointFault(TOO_LONG, f"finds the request too large {told}", shorter)
            is_of_length = parameter in ("input_text", "input_tokens", "max_tokens", "max_completion_tokens")
            if code == remote_wire.TOO_LONG or is_of_length:
                return EndpointFault(TOO_LONG, f"finds the request too long {told}", shorter)
            remedy = "see that the model takes pictures and such settings; the server's log says more"
            if code in remote_wire.BAD_IMAGE:
                return EndpointFault(IMAGE_REFUSED, f"refuses a picture {told}", remedy)
            return EndpointFault(DENIED, f"refuses the request {told}", remedy)
        return self._lasting(refusal)

    def _lasting(self, refusal: Refusal) -> EndpointError:
        status, code, name = refusal.status, refusal.code, self.config.key_env
        if status < 300:
            return self._endpoint.lie(f"status {status}")
        if status < 400:
            found, remedy = "answers with a redirect", "give the address it leads to, if you trust it"
        elif status in (401, 403) or code == "invalid_api_key":
            found = "wants a key" if name is None else f"refuses the key in {name}"
            remedy = "name the key's environment variable in key_env" if name is None else "set a valid key"
        elif status == 404 or code == "model_not_found":
            found, remedy = "knows no such model or path", f"see what {self._endpoint.url}/models lists"
        elif code == remote_wire.NO_QUOTA:
            found, remedy = "has no quota left for this key", "pay, or ask another endpoint; then start again"
        elif code in remote_wire.UNSUPPORTED:
            found = f"does not take {refusal.parameter or 'a parameter'} as it is sent"
            remedy = {
                "max_tokens": "set max_tokens_name to max_completion_tokens",
                "max_completion_tokens": "set max_tokens_name to max_tokens",
                "temperature": "name temperature in leave_out; it is then no longer yours to choose",
                "seed": "name seed in leave_out; sampled answers can then not be had again",
            }.get(
                refusal.parameter or "",
                "see what the model takes: max_tokens_name and leave_out are for this",
            )
        else:
            found, remedy = "refuses the request", "the server's log says more"
        return self._endpoint.error(f"{found} {refusal.told}", remedy)


class _Streamed:
    """An answer that comes in pieces.

    Attributes:
        usage: as the endpoint told it, at the end; None where it did not.
    """

    def __init__(self, model: RemoteModel, hear: Callable[[str], None]) -> None:
        self._model, self._hear = model, hear
        self._has_text, self._finish = False, None
        self.usage: _Tokens | None = None

    def take(self, data: bytes) -> None:
        """An event's data."""
        event = self._model._parsed(_Event, data)
        self.usage = event.usage or self.usage
        for addition in event.choices[:1]:
            self._finish = addition.finish_reason or self._finish
            if addition.delta.refusal or self._finish in remote_wire.FILTERED:
                raise _refuses()
            if addition.delta.content:
                self._has_text = self._has_text or bool(addition.delta.content.strip())
                self._hear(addition.delta.content)

    def end(self) -> None:
        """Raises where nothing was said because the tokens were spent."""
        if not self._has_text and self._finish == "length":
            raise _says_nothing()


def _refuses() -> EndpointFault:
    return EndpointFault(REFUSED, "refuses to answer", "leave it out or ask another model")


def _says_nothing() -> EndpointFault:
    return EndpointFault(
        NO_ANSWER,
        "spends all its tokens before it says anything",
        "allow more new tokens, or serve a model that does not think first",
    )


def _picture(picture: Image.Image) -> dict[str, Any]:
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=JPEG_QUALITY)
    data = base64.b64encode(jpeg.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def _words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _check_labels(labels: Sequence[str]) -> None:
    if not labels or any(not label or label != label.strip() for label in labels):
        raise UserError(
            "an empty label, or one with blanks around it, cannot be scored",
            where="labels",
            remedy="give every label as it would be written",
        )
    if len(set(labels)) < len(labels):
        raise UserError("a label is given twice", where="labels", remedy="give each once")


def _bare(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())
