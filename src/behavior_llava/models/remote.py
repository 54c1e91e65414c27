"""A model behind an OpenAI-compatible endpoint: vLLM, SGLang or a provider.

The same Examples go in and the same texts come out as in auto.py, in the same order. The key is read from the
environment; it, the prompts and what the endpoint says in its own words stand in no message and no log.
Called where captions, tags or judgments are asked of a server.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import random
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore, MediaFault
from behavior_llava.core.schema import Example

MAX_ANSWER_BYTES = 8 * 2**20
"""Far more than any model writes in one answer."""
MAX_WAIT_S = 120.0
"""An endpoint that asks (Retry-After) to be left alone for longer ends the run: the next one continues."""
FIRST_WAIT_S = 0.5
JPEG_QUALITY = 90

REFUSED = "refused_by_endpoint"
"""The reason of an example that the endpoint's own filter, or its model's refusal, left without an answer."""
_FILTERED = frozenset({"content_filter", "content_policy_violation"})
_CODES = _FILTERED | {
    "context_length_exceeded",
    "insufficient_quota",
    "invalid_api_key",
    "invalid_image",
    "model_not_found",
    "unsupported_parameter",
    "unsupported_value",
}
"""What an endpoint may say of an error in a message of ours; its own words may hold the prompt or the key.

Source: https://platform.openai.com/docs/guides/error-codes
"""


class RemoteConfig(Config):
    """Where a model is served and how it is asked.

    Attributes:
        url: the base of its interface, as "http://localhost:8000/v1"; without a user, password or query.
        model: the name it is served under.
        key_env: name of the environment variable that holds the key, never the key itself; null for a server
            that asks for none.
        timeout_s: for one whole answer.
        retries: how often a request is sent again where the fault may pass (busy, broken, too slow).
        concurrency: requests under way at once.
        max_image_side: pixels; larger pictures are made smaller before they are sent. Stored frames of videos
            are never larger than 448.
    """

    url: str = Field(min_length=1)
    model: str = Field(min_length=1)
    key_env: str | None = None
    timeout_s: float = Field(default=120.0, gt=0)
    retries: int = Field(default=5, ge=0)
    concurrency: int = Field(default=8, ge=1, le=512)
    max_image_side: int = Field(default=1024, ge=16)


@dataclass(frozen=True, slots=True)
class Usage:
    """What an endpoint says it has counted.

    Attributes:
        answers: how many were given, also those that were refused.
        unmetered: of these, how many told no counts; where there are any, the sums are too low.
    """

    answers: int = 0
    unmetered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


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


class _Reply(_Strict):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Tokens | None = None


class _Passing(Exception):
    """A fault that may pass: what happened, and for how long the endpoint wants to be left alone."""

    def __init__(self, found: str, wait_s: float = 0.0) -> None:
        super().__init__(found)
        self.found, self.wait_s = found, wait_s


class RemoteModel:
    """A served model, for generation. For one thread; it has threads of its own.

    Args:
        store: where a video's frames come from.

    Raises:
        UserError: the address cannot be one, it holds a user, password or query, or the key's variable is not
            set.
    """

    def __init__(self, config: RemoteConfig, store: FrameStore) -> None:
        self.config, self.store = config, store
        self.usage = Usage()
        self._url = _base(config.url)
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if config.key_env is not None:
            self._headers["Authorization"] = f"Bearer {_key(config.key_env)}"
        self._lock = threading.Lock()
        # its DEBUG lines hold whole headers, and with them the key
        logging.getLogger("httpcore2").setLevel(logging.INFO)

    def identity(self) -> str:
        """Which model this is, for the keys of caches. A server may change what it serves under a name."""
        return f"{self.config.model} at {self._url}"

    def generate(
        self,
        examples: Sequence[Example],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> list[str]:
        """One answer an example, in their order; "" only where the model itself chose to write nothing.

        Raises:
            MediaFault: an example's media is gone or broken.
            UserError: the endpoint cannot be reached, refuses, or does not answer as it should.
        """
        found = self.answers(examples, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        texts = []
        for answer in found:
            if isinstance(answer, MediaFault):
                raise (
                    answer
                    if answer.reason != REFUSED
                    else self._error(
                        "refuses to answer about one of the examples", "leave it out or ask another model"
                    )
                )
            texts.append(answer)
        return texts

    def answers(
        self,
        examples: Sequence[Example],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> list[str | MediaFault]:
        """As `generate`, but what concerns one example alone (its media is broken, or the endpoint refuses to
        speak of it: REFUSED) takes the place of its answer.

        Raises:
            UserError: the endpoint cannot be reached, refuses, or does not answer as it should.
        """
        settings = {"model": self.config.model, "max_tokens": max_new_tokens, "temperature": temperature}
        if seed is not None:
            settings["seed"] = seed
        stopped = threading.Event()
        with (
            httpx2.Client(
                headers=self._headers,
                timeout=self.config.timeout_s,
                limits=httpx2.Limits(max_connections=self.config.concurrency),
            ) as client,
            ThreadPoolExecutor(self.config.concurrency, "remote") as pool,
        ):
            futures = [pool.submit(self._answer, client, example, settings, stopped) for example in examples]
            try:
                for ended in wait(futures, return_when=FIRST_EXCEPTION).done:
                    ended.result()
                return [future.result() for future in futures]
            finally:
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)

    # ---- one example ----

    def _answer(
        self, client: httpx2.Client, example: Example, settings: dict[str, Any], stopped: threading.Event
    ) -> str | MediaFault:
        try:
            body = json.dumps({**settings, "messages": [self._message(example)]}).encode()
            status, content = self._send(client, body, stopped)
            return self._read(content) if status == 200 else self._refusal(status, content)
        except MediaFault as fault:
            return fault

    def _message(self, example: Example) -> dict[str, Any]:
        if example.media is None:
            return {"role": "user", "content": example.prompt}
        side = self.config.max_image_side
        parts: list[dict[str, Any]] = []
        for picture in self.store.frames(example.media, side=side):
            picture.thumbnail((side, side))
            jpeg = io.BytesIO()
            picture.save(jpeg, "JPEG", quality=JPEG_QUALITY)
            data = base64.b64encode(jpeg.getvalue()).decode("ascii")
            parts.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}})
        return {"role": "user", "content": [*parts, {"type": "text", "text": example.prompt}]}

    def _send(
        self, client: httpx2.Client, body: bytes, stopped: threading.Event
    ) -> tuple[int, bytes | bytearray]:
        """Status and body of the answer, sent for again while the fault may pass."""
        for tries in range(self.config.retries + 1):
            try:
                return self._send_once(client, body)
            except _Passing as passing:
                fault = passing
            if fault.wait_s > MAX_WAIT_S:
                raise self._error(
                    f"{fault.found} and asks to be left alone for {fault.wait_s:.0f} s",
                    "start again then",
                )
            backoff_s = FIRST_WAIT_S * 2**tries * random.uniform(0.5, 1.5)
            wait_s = max(fault.wait_s, min(MAX_WAIT_S, backoff_s))
            if tries < self.config.retries and stopped.wait(wait_s):
                raise CancelledError  # another example has ended the call
        raise self._error(
            f"{fault.found} (asked {self.config.retries + 1}x)",
            "see that the server runs there and keeps up; lower concurrency or raise timeout_s if it is slow",
        )

    def _send_once(self, client: httpx2.Client, body: bytes) -> tuple[int, bytes | bytearray]:
        until_s = time.monotonic() + self.config.timeout_s
        content = bytearray()
        try:
            with client.stream(
                "POST",
                f"{self._url}/chat/completions",
                content=body,
                headers={"Content-Type": "application/json"},
            ) as response:
                status = response.status_code
                if status in (408, 429) or status >= 500:
                    wait_s = _retry_after_s(response.headers.get("retry-after"))
                    raise _Passing(f"answers with status {status}", wait_s)
                if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
                    raise self._lie("a packed answer, which was not asked for")
                for chunk in response.iter_raw():
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        raise self._lie(f"more than {MAX_ANSWER_BYTES // 2**20} MiB")
                    if time.monotonic() > until_s:
                        raise httpx2.ReadTimeout("")
        except httpx2.TimeoutException:
            raise _Passing(f"does not answer within {self.config.timeout_s:g} s") from None
        except httpx2.TransportError as error:
            raise _Passing(f"cannot be reached ({type(error).__name__})") from None
        return status, content

    def _read(self, content: bytes | bytearray) -> str:
        """The text of an answer; MediaFault(REFUSED) where the endpoint withholds it."""
        try:
            reply = _Reply.model_validate_json(content)
        except ValidationError as error:
            place = error.errors(include_url=False, include_context=False, include_input=False)[0]
            told = ".".join(map(str, place["loc"]))
            raise self._lie(f"a wrong {told}" if told else "something other than JSON") from None
        self._count(reply.usage)
        choice = reply.choices[0]
        if choice.finish_reason in _FILTERED or choice.message.refusal:
            raise MediaFault(REFUSED)
        text = choice.message.content
        if text is not None and (text.strip() or choice.finish_reason != "length"):
            return text.strip()
        if choice.finish_reason == "length":
            raise self._error(
                "spends all its tokens before it says anything",
                "allow more new tokens, or serve a model that does not think first",
            )
        raise self._lie("a message without text")

    def _count(self, tokens: _Tokens | None) -> None:
        asked, said = (None, None) if tokens is None else (tokens.prompt_tokens, tokens.completion_tokens)
        with self._lock:
            before = self.usage
            self.usage = Usage(
                before.answers + 1,
                before.unmetered + (asked is None or said is None),
                before.prompt_tokens + (asked or 0),
                before.completion_tokens + (said or 0),
            )

    # ---- what is wrong ----

    def _refusal(self, status: int, content: bytes | bytearray) -> MediaFault:
        """The fault of an example that is refused with an error; a UserError for any other status."""
        code = _error_code(content)
        if status == 400 and code in _FILTERED:
            self._count(None)
            return MediaFault(REFUSED)
        if status < 300:
            raise self._lie(f"status {status}")
        if status < 400:
            found, remedy = "answers with a redirect", "give the address it leads to, if you trust it"
            raise self._error(f"{found} (status {status})", remedy)
        if status in (401, 403):
            name = self.config.key_env
            found = "wants a key" if name is None else f"refuses the key in {name}"
            remedy = "name the key's environment variable in key_env" if name is None else "set a valid key"
        elif status == 404:
            found, remedy = "knows no such model or path", f"see what {self._url}/models lists"
        elif status == 413:
            found, remedy = "finds the request too large", "lower max_image_side or show fewer frames"
        else:
            found = "refuses the request"
            remedy = "see that the model takes pictures and so many tokens; the server's log says more"
        raise self._error(f"{found} (status {status}{f', {code}' if code else ''})", remedy)

    def _lie(self, found: str) -> UserError:
        return self._error(
            f"does not speak as an OpenAI-compatible endpoint: it sends {found}",
            'give the base of its interface, which mostly ends in "/v1"',
        )

    def _error(self, found: str, remedy: str) -> UserError:
        return UserError(found, where=self.identity(), remedy=remedy)


def _base(text: str) -> str:
    """The address without a slash at its end; never named in a message, since it may hold a password."""
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


def _key(name: str) -> str:
    key = os.environ.get(name, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise UserError(
            f"the environment variable {name} {'holds no key' if key else 'is not set'}",
            where="key_env",
            remedy=f"set it before the start: export {name}=...",
        )
    return key


def _retry_after_s(text: str | None) -> float:
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


def _error_code(content: bytes | bytearray) -> str | None:
    """The word by which an error is known; None where it is not one of ours."""
    try:
        code = json.loads(content)["error"]["code"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    return code if isinstance(code, str) and code in _CODES else None
