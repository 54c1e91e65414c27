"""One request to an OpenAI-compatible endpoint: sent, waited for, sent again, and what it said read strictly.

A body goes in; the answer's bytes come out, or a Refusal, or an EndpointError. Nothing here takes longer than
it is allowed to, whatever the other side does. Key, prompt and the endpoint's own words stand in no message
and no log. Called by remote.py alone.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
import httpx2

from behavior_llava.core.errors import UserError

MAX_ANSWER_BYTES = 8 * 2**20
"""Far more than any model writes in one answer, or tells of the log-probabilities of one prompt."""
MAX_WAIT_S = 120.0
"""An endpoint that asks (Retry-After) to be left alone for longer ends the run: the next one continues."""
FIRST_WAIT_S = 0.5

FILTERED = frozenset({"content_filter", "content_policy_violation", "image_content_policy_violation"})
BAD_IMAGE = frozenset(
    {
        "empty_image_file",
        "image_file_too_large",
        "image_parse_error",
        "image_too_large",
        "image_too_small",
        "invalid_base64_image",
        "invalid_image",
        "invalid_image_format",
        "invalid_image_mode",
        "unsupported_image_media_type",
    }
)
UNSUPPORTED = frozenset({"unknown_parameter", "unsupported_parameter", "unsupported_value"})
TOO_LONG = "context_length_exceeded"
NO_QUOTA = "insufficient_quota"
LASTING = frozenset({NO_QUOTA, "invalid_api_key", "model_not_found"})
_CODES = FILTERED | BAD_IMAGE | UNSUPPORTED | LASTING | {TOO_LONG}
"""What an endpoint may say of an error in a message of ours; its own words may hold the prompt or the key.

Source: https://platform.openai.com/docs/guides/error-codes, and the codes of a failed response in
https://platform.openai.com/docs/api-reference/responses/object
"""
_PARAMETERS = frozenset(
    {
        "add_generation_prompt",
        "continue_final_message",
        "input_text",
        "input_tokens",
        "max_completion_tokens",
        "max_tokens",
        "prompt_logprobs",
        "seed",
        "temperature",
    }
)
"""What an error may be said to be about: what we send, and how vLLM names a prompt that is too long.

Source: VLLMValidationError in https://github.com/vllm-project/vllm/blob/main/vllm/renderers/params.py
"""


class EndpointError(UserError):
    """What ends a call; `finished` holds what was answered before, by the example's place in the call."""

    def __init__(self, found: str, *, where: object = None, remedy: str | None = None) -> None:
        super().__init__(found, where=where, remedy=remedy)
        self.finished: Mapping[int, Any] = {}


class Refusal(Exception):
    """An answer with a status that is neither 200 nor of a fault that may pass.

    Attributes:
        code: the word by which the error is known; None where it is not one of ours.
        parameter: what it is about; None where that is nothing we know.
    """

    def __init__(self, status: int, code: str | None, parameter: str | None) -> None:
        super().__init__(status, code, parameter)
        self.status, self.code, self.parameter = status, code, parameter

    @property
    def told(self) -> str:
        """The status and the word, for a message."""
        return f"(status {self.status}{f', {self.code}' if self.code else ''})"


class _Passing(Exception):
    """A fault that may pass: what happened, and for how long the endpoint wants to be left alone."""

    def __init__(self, found: str, wait_s: float = 0.0) -> None:
        super().__init__(found)
        self.found, self.wait_s = found, wait_s


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where requests go, and how patiently.

    Attributes:
        url: of the interface, as `base_url` gives it.
        key_env: the environment variable of the key; None for no key.
        name: how messages call it.
        lost: called for every request that brought no answer.
    """

    url: str
    key_env: str | None
    timeout_s: float
    retries: int
    concurrency: int
    name: str
    lost: Callable[[], None]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Line]:
        """The connections of one call."""
        # its DEBUG lines hold whole headers, and with them the key
        logging.getLogger("httpcore2").setLevel(logging.INFO)
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
        if self.key_env is not None:
            headers["Authorization"] = f"Bearer {key(self.key_env)}"
        limits = httpx2.Limits(max_connections=self.concurrency)
        # no time limit of its own: that starts anew with every byte; Line.ask has one for the whole answer
        async with httpx2.AsyncClient(headers=headers, timeout=None, limits=limits) as client:
            yield Line(self, client, anyio.CapacityLimiter(self.concurrency))

    def error(self, found: str, remedy: str) -> EndpointError:
        """An error of this endpoint."""
        return EndpointError(found, where=self.name, remedy=remedy)

    def lie(self, found: str) -> EndpointError:
        """The error of an endpoint that does not answer as one."""
        return self.error(
            f"does not speak as an OpenAI-compatible endpoint: it sends {found}",
            'give the base of its interface, which mostly ends in "/v1"',
        )


@dataclass(frozen=True)
class Line:
    """An open Endpoint."""

    endpoint: Endpoint
    client: httpx2.AsyncClient
    free: anyio.CapacityLimiter

    async def ask(self, body: dict[str, Any]) -> bytearray:
        """The answer to a chat completion, asked for again while the fault may pass.

        Raises:
            Refusal: a status that will not change.
            EndpointError: no answer came, or none that is one.
        """
        packed = json.dumps(body).encode()
        async with self.free:
            return await self._ask(packed)

    async def listen(self, body: dict[str, Any], hear: Callable[[bytes], None]) -> None:
        """The answer to a chat completion that is streamed: the data of every event, as they come.

        Asked for again only while nothing was heard.

        Raises:
            Refusal: a status that will not change.
            EndpointError: no answer came, none that is one, or one that broke off.
        """
        packed, events = json.dumps({**body, "stream": True}).encode(), _Events(hear)
        async with self.free:
            await self._ask(packed, events)
        if not events.is_done:
            told = "an answer that breaks off" if events.num_heard else "no events, which were asked for"
            raise self.endpoint.lie(told)

    async def _ask(self, body: bytes, events: _Events | None = None) -> bytearray:
        end = self.endpoint
        for tries in range(end.retries + 1):
            try:
                return await self._once(body, events)
            except _Passing as passing:
                fault = passing
                end.lost()
            if events is not None and events.num_heard:
                raise end.error(f"{fault.found}, in the middle of an answer", "ask again")
            if fault.wait_s > MAX_WAIT_S:
                raise end.error(
                    f"{fault.found} and asks to be left alone for {fault.wait_s:.0f} s", "start again then"
                )
            if tries < end.retries:
                backoff_s = FIRST_WAIT_S * 2.0**tries * random.uniform(0.5, 1.5)
                await anyio.sleep(max(fault.wait_s, min(MAX_WAIT_S, backoff_s)))
        raise end.error(
            f"{fault.found} (asked {end.retries + 1}x)",
            "see that the server runs there and keeps up; lower concurrency or raise timeout_s if it is slow",
        )

    async def _once(self, body: bytes, events: _Events | None) -> bytearray:
        end = self.endpoint
        try:
            with anyio.fail_after(end.timeout_s):
                status, wait_s, content = await self._send(body, events)
        except TimeoutError:
            raise _Passing(f"does not answer within {end.timeout_s:g} s") from None
        except httpx2.TransportError as error:
            raise _Passing(f"cannot be reached ({type(error).__name__})") from None
        code, parameter = _error_words(content) if status != 200 else (None, None)
        if code != NO_QUOTA and (status in (408, 429) or status >= 500):
            raise _Passing(f"answers with status {status}", wait_s)
        if status != 200:
            raise Refusal(status, code, parameter)
        return content

    async def _send(self, body: bytes, events: _Events | None) -> tuple[int, float, bytearray]:
        """Status, seconds to wait and content of an answer; of a good one events take what is complete."""
        content, size = bytearray(), 0
        async with self.client.stream(
            "POST",
            f"{self.endpoint.url}/chat/completions",
            content=body,
            headers={} if events is None else {"Accept": "text/event-stream"},
            follow_redirects=False,
        ) as response:
            status = response.status_code
            wait_s = retry_after_s(response.headers.get("retry-after"))
            if status == 200 and (
                response.headers.get("content-encoding", "identity").strip().lower() != "identity"
            ):
                raise self.endpoint.lie("a packed answer, which was not asked for")
            async for chunk in response.aiter_raw():
                content += chunk
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    if status == 200:
                        raise self.endpoint.lie(f"more than {MAX_ANSWER_BYTES // 2**20} MiB")
                    break
                if events is not None and status == 200:
                    events.take(content)
                    if events.is_done:
                        break
        return status, wait_s, content


class _Events:
    """Server-sent events of a streamed answer: one line `data: ...` each, and `[DONE]` at the end.

    Source: https://platform.openai.com/docs/api-reference/chat-streaming
    """

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self._hear = hear
        self.num_heard, self.is_done = 0, False

    def take(self, content: bytearray) -> None:
        """Takes the whole lines off the front of what has come."""
        *lines, rest = bytes(content).split(b"\n")
        content[:] = rest
        for line in lines:
            name, _, data = line.strip().partition(b":")
            if name != b"data" or self.is_done:
                continue  # blank lines, comments that keep the line open, other fields
            if data.strip() == b"[DONE]":
                self.is_done = True
                return
            self.num_heard += 1
            self._hear(data.strip())


async def each(work: Callable[[int], Awaitable[None]], count: int, at_once: int) -> None:
    """Does work(0), work(1), ..., so many at once; the first that fails ends the others."""
    places = iter(range(count))

    async def worker() -> None:
        for place in places:
            await work(place)

    try:
        async with anyio.create_task_group() as group:
            for _ in range(min(at_once, count)):
                group.start_soon(worker)
    except ExceptionGroup as found:
        raise found.exceptions[0] from None


# ---- what is read ------------------------------------------------------------------------------------------


def base_url(text: str) -> str:
    """The address without a slash at its end; never named in a message, since it may hold a password.

    Raises:
        UserError: it is none, or holds more than an address.
    """
    try:
        url = httpx2.URL(text.strip())
    except (httpx2.InvalidURL, ValueError):
        url = None
    if url is None or url.scheme not in ("http", "https") or not url.raw_host:
        raise UserError(
            "is no address of a server", where="url", remedy="write it as http://localhost:8000/v1"
        )
    if url.userinfo or url.query or url.fragment:
        raise UserError(
            "holds more than an address (a user, a password, a query)",
            where="url",
            remedy="put the key into an environment variable and name that in key_env",
        )
    return str(url).rstrip("/")


def key(name: str) -> str:
    """The key in an environment variable.

    Raises:
        UserError: there is none.
    """
    found = os.environ.get(name, "").strip()
    if not found or not found.isascii() or not found.isprintable():
        raise UserError(
            f"the environment variable {name} {'holds no key' if found else 'is not set'}",
            where="key_env",
            remedy=f"set it before the start: export {name}=...",
        )
    return found


def retry_after_s(text: str | None) -> float:
    """Seconds out of a Retry-After header, which holds seconds or a date; 0 where there is none to read."""
    if text is None:
        return 0.0
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text.strip()):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError, TypeError):
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _error_words(content: bytearray) -> tuple[str | None, str | None]:
    """The word by which an error is known, and the parameter it is about; None where we do not know them."""
    try:
        error = json.loads(content)["error"]
        code, parameter = error.get("code"), error.get("param")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None, None
    return (
        code if isinstance(code, str) and code in _CODES else None,
        parameter if isinstance(parameter, str) and parameter in _PARAMETERS else None,
    )
