"""The texts LLaMA-VID was trained on and is asked with: rounds of question and answer in, a `Dialogue` out.

A Dialogue is a text with placeholders, the places of the answers in it, and the Q-Former's questions; the
processor makes token ids and labels of it. The chat template writes the same text for transformers' callers,
and `questions_of` reads the questions back out of such a text.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from behavior_llava.core.errors import UserError

Span = tuple[int, int]

IMAGE = "<image>"
"""Stands for a still, and for each token of a medium once the processor has expanded it."""
VIDEO = "<video>"
"""Stands for a video. As long as IMAGE, so that places in a text hold when the one is put for the other."""

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
"""What every conversation opens with.
Source: https://github.com/dvlab-research/LLaMA-VID, llamavid/conversation.py, vicuna_v1 and imgsp_v1.
"""
_USER, _ASSISTANT, _END = "USER:", "ASSISTANT:", "</s>"

_CONTROL = (IMAGE, VIDEO, "<s>", _END, "<unk>")

MOVIE_OPENING = "Below is a movie. Memorize the content and answer my question after watching this movie."
MOVIE_CLOSING = "Now the movie end."
"""Around a long video at inference. Source: as SYSTEM, llamavid/serve/run_llamavid_movie.py."""


def _written(marks: Sequence[str]) -> str:
    """Jinja filters that keep the marks of the protocol in somebody's words from acting as such."""
    return "".join(f" | replace({json.dumps(mark)}, {json.dumps(_broken(mark))})" for mark in marks)


def _broken(mark: str) -> str:
    return f"{mark[:-1]} {mark[-1]}"


def plain(text: str, *, is_answer: bool = False) -> str:
    """The text with a space inside every mark of the protocol ("</s>" becomes "</s >").

    Without it a user's words could end the turn, show a medium that is not there, or speak as the assistant.
    An answer may say "ASSISTANT:", since the first one in a round ends the question.
    """
    for mark in _CONTROL if is_answer else (*_CONTROL, _ASSISTANT):
        text = text.replace(mark, _broken(mark))
    return text


CHAT_TEMPLATE = (
    f"{{{{- {json.dumps(SYSTEM + ' ')} -}}}}"
    """
{%- for message in messages -%}
    {%- if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
        {{- raise_exception('LLaMA-VID takes turns of user and assistant, the user first') -}}
    {%- endif -%}
    {%- set turn = namespace(media='', words='') -%}
    {%- if message['content'] is string -%}
        {%- set turn.words = message['content'] -%}
    {%- else -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'text' -%}
                {%- set turn.words = turn.words + part['text'] -%}
            {%- elif part['type'] in ('image', 'video') and message['role'] == 'user' -%}
                {%- set turn.media = turn.media + '<' + part['type'] + '>\\n' -%}
            {%- else -%}
                {{- raise_exception('LLaMA-VID takes texts, and images and videos of the user') -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if message['role'] == 'user' -%}
        {{- 'USER: ' + turn.media + (turn.words"""
    + _written((*_CONTROL, _ASSISTANT))
    + """) -}}
    {%- else -%}
        {{- ' ASSISTANT: ' + (turn.words"""
    + _written(_CONTROL)
    + """) + '</s>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- ' ASSISTANT:' -}}
{%- endif -%}
"""
)
"""Writes media before the words of their turn; `plain` is done to all words."""


# ---- rounds ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """A question, in which `IMAGE` may stand for the medium, and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Dialogue:
    """A text to be tokenized.

    Attributes:
        text: with one placeholder a medium, or one for every token of a movie.
        supervised: where in the text the answers are, in order; empty where there is none yet.
        questions: what the user asks, one a round, in the words the Q-Former is given.
        qformer_prompts: the question of each medium that is shown; one for a whole movie.
    """

    text: str
    supervised: tuple[Span, ...]
    questions: tuple[str, ...]
    qformer_prompts: tuple[str, ...]


def rounds_of(turns: Sequence[Mapping[str, str]]) -> list[Round]:
    """Rounds of a conversation in LLaVA's layout: {"from": "human" or "gpt", "value": text} in turn.

    Raises:
        UserError: turns are missing or not in turn.
    """
    if not turns or len(turns) % 2:
        raise UserError(f"{len(turns)} turns", remedy="give a human and a gpt turn for every round")
    for number, turn in enumerate(turns):
        expected = "human" if number % 2 == 0 else "gpt"
        if turn.get("from") != expected or not isinstance(turn.get("value"), str):
            raise UserError(f"turn {number + 1} is not one of {expected!r} with a text as its value")
    return [
        Round(question["value"], answer["value"])
        for question, answer in zip(turns[::2], turns[1::2], strict=True)
    ]


def caption_dialogue(rounds: Sequence[Round], *, medium: Literal["image", "video"] = "image") -> Dialogue:
    """Stage 1: the medium, its caption, a line break. Only the Q-Former reads the question.

    Raises:
        UserError: not one round with one placeholder.
    """
    if len(rounds) != 1 or rounds[0].question.count(IMAGE) != 1:
        raise UserError(
            f"{len(rounds)} rounds, {sum(one.question.count(IMAGE) for one in rounds)} placeholders",
            remedy=f'give one round with one "{IMAGE}" for stage 1',
        )
    placeholder = f"<{medium}>"
    text = placeholder + plain(rounds[0].answer, is_answer=True) + "\n"
    asked = (_for_qformer(rounds[0].question),)
    return Dialogue(text, ((len(placeholder), len(text)),), asked, asked)


def instruction_dialogue(
    rounds: Sequence[Round], *, placement: random.Random, medium: Literal["image", "video"] = "image"
) -> Dialogue:
    """Stage 2: a conversation about one medium, shown anew in every round, or about none.

    From the first question with a placeholder on, a question without one gets it in front or behind:
    `placement` decides, drawing once for each of them.
    """
    placeholder = f"<{medium}>"
    turns: list[str] = []
    prompts: list[str] = []
    is_shown = False
    for one in rounds:
        words = plain(one.question.replace(IMAGE, ""))
        if IMAGE in one.question:
            is_shown = True
            turns.append(f"{placeholder}\n{words.strip()}")
        elif is_shown:
            turns.append(placement.choice((f"{placeholder}\n{words}", f"{words}\n{placeholder}")))
        else:
            turns.append(words)
        if is_shown:
            prompts.append(_for_qformer(one.question))
    text, supervised = _conversation(turns, [plain(one.answer, is_answer=True) for one in rounds])
    return Dialogue(text, supervised, tuple(_for_qformer(one.question) for one in rounds), tuple(prompts))


def _for_qformer(question: str) -> str:
    """As in training: words on both sides of a line break are joined without a space."""
    return question.replace(IMAGE, "").replace("\n", "")


def _conversation(turns: Sequence[str], answers: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """The rounds as one text, and where the answers with their ends stand in it."""
    text = f"{SYSTEM} "
    supervised = []
    for number, turn in enumerate(turns):
        text += f"{_USER} {turn} {_ASSISTANT}"
        if number < len(answers):
            start = len(text)
            text += f" {answers[number]}{_END}"
            supervised.append((start, len(text)))
    return text, tuple(supervised)


# ---- movies ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subtitle:
    """What is said in a video until a time in seconds."""

    end_s: float
    text: str


def movie_text(frame_times_s: Sequence[float], subtitles: Sequence[Subtitle]) -> str:
    """One placeholder a frame, each followed by the subtitles said with it, joined by spaces.

    A subtitle goes to the last frame before its end, but never before that of the subtitle in front of it;
    one that ends before all frames goes to the first. Frame times are in order.

    Raises:
        UserError: there is no frame.
    """
    if not frame_times_s:
        raise UserError("a movie without frames")
    said: list[list[str]] = [[] for _ in frame_times_s]
    frame = 0
    for subtitle in subtitles:
        while frame + 1 < len(frame_times_s) and frame_times_s[frame + 1] < subtitle.end_s:
            frame += 1
        said[frame].append(plain(subtitle.text))
    return "".join(IMAGE + " ".join(texts) for texts in said)


def movie_dialogue(movie: str, rounds: Sequence[Round], *, num_tokens_per_frame: int) -> Dialogue:
    """Stage 3: a movie's text (`movie_text`) in place of the placeholder of the one question about it.

    Every "..." is left out of the movie's text, as in training.

    Raises:
        UserError: not one round with one placeholder.
    """
    if len(rounds) != 1 or rounds[0].question.count(IMAGE) != 1:
        raise UserError(
            f"{len(rounds)} rounds, {sum(one.question.count(IMAGE) for one in rounds)} placeholders",
            remedy=f'give one round with one "{IMAGE}" for a movie',
        )
    asked = rounds[0].question.replace(IMAGE, "").strip()
    said = [words.replace("...", "") for words in movie.split(IMAGE)]
    shown = (IMAGE * num_tokens_per_frame).join(map(plain, said))
    text, supervised = _conversation([f"{shown}\n{plain(asked)}"], [plain(rounds[0].answer, is_answer=True)])
    return Dialogue(text, supervised, (asked,), (asked,))


def movie_prompt(movie: str, question: str, *, num_tokens_per_frame: int) -> Dialogue:
    """What the model is asked about a movie's text (`movie_text`) at inference, where "..." is kept."""
    shown = (IMAGE * num_tokens_per_frame).join(map(plain, movie.split(IMAGE)))
    text, supervised = _conversation([f"{MOVIE_OPENING}{shown}{MOVIE_CLOSING}\n{plain(question)}"], [])
    return Dialogue(text, supervised, (question,), (question,))


# ---- reading a text back -----------------------------------------------------------------------------------

_PLACEHOLDER = re.compile(f"{IMAGE}|{VIDEO}")


def questions_of(text: str) -> list[str]:
    """The question of each placeholder in a text of the chat template, in their order.

    That is the user's words in the turn where the placeholder stands, as they are (line breaks within stay,
    as at the original's inference).

    Raises:
        ValueError: the text is not one of the template's, or a placeholder stands outside the user's turns.
    """
    opening = f"{SYSTEM} {_USER} "
    if not text.startswith(opening):
        raise _unread("it does not begin as the chat template does")
    questions = []
    rounds = text[len(opening) :].split(f"{_END}{_USER} ")
    for number, one in enumerate(rounds):
        if not _PLACEHOLDER.search(one):
            continue
        turn, mark, answer = one.partition(f" {_ASSISTANT}")
        if not mark:
            raise _unread(f"no {_ASSISTANT!r} in round {number + 1}")
        if _PLACEHOLDER.search(answer):
            raise _unread("a placeholder stands in an answer")
        is_open = number == len(rounds) - 1 and not answer.endswith(_END)
        if is_open and f" {_ASSISTANT}" in answer:
            raise _unread(f"{_ASSISTANT!r} stands twice where the answer is to begin")
        words = _PLACEHOLDER.sub("", turn).strip("\n")
        questions += [words] * len(_PLACEHOLDER.findall(turn))
    return questions


def _unread(reason: str) -> ValueError:
    return ValueError(
        f"the questions for the Q-Former cannot be read from the text ({reason}): give qformer_prompts"
    )
