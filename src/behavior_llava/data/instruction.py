"""The base stage's instruction data: LLaVA's `conversations` or TRL's `messages` to Examples.

A file is a JSON list or, where its name ends in .jsonl, one row a line; it is read row by row. A conversation
of several rounds becomes one Example whose `earlier` holds all rounds but the last. A system message is put
before the first question, since not every model's template has a place for one. Called by training/base.py
and forecast.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, TextIO

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Example, Media, MediaKind
from behavior_llava.data.raw_values import file_inside

_KINDS: tuple[MediaKind, ...] = ("image", "video")
_PLACEHOLDERS = ("<image>", "<video>")
_ROLES = {
    "conversations": {"human": "user", "gpt": "assistant", "system": "system"},
    "messages": {"user": "user", "assistant": "assistant", "system": "system"},
}
"""What the layouts call who speaks."""
_BLANKS = " \t\r\n"
_CHUNK = 1 << 20
"""Characters read at a time."""
_FORM = "give LLaVA JSON (conversations) or messages: a list, or one row a line in a .jsonl file"


def read(path: Path) -> list[Example]:
    """The rows of an instruction file, as `rows` reads them.

    Raises:
        UserError: as `rows`.
    """
    return list(rows(path))


def rows(path: Path) -> Iterator[Example]:
    """The rows of an instruction file, one at a time; media are found beside it, their times and hashes are
    left to be measured.

    Raises:
        UserError: no such file, not one of the formats, a conversation that is not questions and answers in
            turn, media elsewhere than in the first question, or a media file that is not there; with the row.
    """
    for number, (place, row) in enumerate(_raw(path)):
        yield _example(row, number, path, f"{path}: {place}")


def _raw(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows as they are written, each with its place in the file."""
    is_empty = True
    try:
        with path.open(encoding="utf-8") as file:
            for placed in _lines(file) if path.suffix == ".jsonl" else _items(file):
                is_empty = False
                yield placed
    except FileNotFoundError:
        raise UserError(
            "no such instruction file",
            where=path,
            remedy="give LLaVA JSON, or set base.instruction to null for the sandbox's",
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"is not JSON ({error})", where=path, remedy=_FORM) from error
    if is_empty:
        raise UserError("holds no list of conversations", where=path, remedy=_FORM)


def _lines(file: TextIO) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        yield f"line {number}", row


def _items(file: TextIO) -> Iterator[tuple[str, Any]]:
    """The items of a JSON list, decoded as they are read; nothing where it is JSON of another kind."""
    stream = _Stream(file)
    if stream.mark() != "[":
        json.loads(stream.rest())
        return
    stream.skip()
    number = 0
    while number or stream.mark() != "]":
        yield f"row {number}", stream.value(f"row {number}")
        mark = stream.mark()
        if mark == "]":
            break
        if mark != ",":
            raise ValueError(f"row {number}: neither a comma nor the list's end behind it")
        stream.skip()
        number += 1
    stream.skip()
    if stream.mark():
        raise ValueError("something stands behind the list's end")


class _Stream:
    """JSON text that is read on as it is needed."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._text, self._at = file, "", 0
        self._decoder = JSONDecoder()

    def _more(self) -> bool:
        """Reads on: by more where a value is long, so that it is not decoded too often."""
        fresh = self._file.read(max(_CHUNK, len(self._text) - self._at))
        if not fresh:
            return False
        self._text, self._at = self._text[self._at :] + fresh, 0
        return True

    def mark(self) -> str:
        """The next character that is no blank; "" at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANKS:
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def skip(self) -> None:
        """Goes behind that character."""
        self._at += 1

    def value(self, place: str) -> Any:
        """The value that begins at the next character."""
        self.mark()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except JSONDecodeError as error:
                if not self._more():
                    raise ValueError(f"{place}: {error.msg}") from error
                continue
            if end == len(self._text) and self._more():
                continue  # a number may go on behind what was read
            self._at = end
            return value

    def rest(self) -> str:
        """All that is left."""
        return self._text[self._at :] + self._file.read()


Shown = list[tuple[MediaKind, Any]]
"""Media, each with what stands for its file name; None where the name stands elsewhere in the row."""


def _example(row: Any, number: int, path: Path, where: str) -> Example:
    rounds, shown = _rounds(row, where)
    files = _files(row, shown, where)
    if len(files) > 1:
        found = "an image and a video" if len({kind for kind, _ in files}) > 1 else f"{len(files)} media"
        raise UserError(f"has {found}", where=where, remedy="give one file a row")
    media = _media(files[0][1], files[0][0], path, where) if files else None
    for place, (question, _) in enumerate(rounds, 1):
        if any(placeholder in question for placeholder in _PLACEHOLDERS):
            if media is None:
                raise _no_file(where)
            if place > 1:
                raise _misplaced(f"question {place}", where)
    (question, answer), *others = rounds
    for placeholder in _PLACEHOLDERS:
        question = question.replace(placeholder, "")
    rounds = [(question.strip(), answer), *((question.strip(), answer) for question, answer in others)]
    return Example(str(row.get("id", number)), *rounds[-1], media, earlier=tuple(rounds[:-1]))


def _rounds(row: Any, where: str) -> tuple[list[tuple[str, str]], Shown]:
    """(question, answer) of every round, and the media that the first question announces."""
    layouts = [name for name in _ROLES if isinstance(row, Mapping) and name in row]
    if len(layouts) != 1 or not isinstance(row[layouts[0]], list):
        raise _not_rounds("no list of conversations or messages", where)
    said: list[tuple[str, str]] = []
    shown: Shown = []
    for place, turn in enumerate(row[layouts[0]], 1):
        role, text, media = _turn(turn, layouts[0], place, where)
        if media and (role != "user" or any(who == "user" for who, _ in said)):
            raise _misplaced(f"turn {place}", where)
        shown += media
        said.append((role, text))
    system = said.pop(0)[1].strip() if said and said[0][0] == "system" else ""
    if any(placeholder in system for placeholder in _PLACEHOLDERS):
        raise _misplaced("the system message", where)
    roles = [role for role, _ in said]
    if not said or roles != ["user", "assistant"] * (len(said) // 2):
        raise _not_rounds(f"turns of {', '.join(roles) or 'nobody'}", where)
    texts = [text for _, text in said]
    if system:
        texts[0] = f"{system}\n\n{texts[0].strip()}"
    return list(zip(texts[::2], texts[1::2], strict=True)), shown


def _turn(turn: Any, layout: str, place: int, where: str) -> tuple[str, str, Shown]:
    """Who speaks, what is said, and which media are announced in it."""
    who, what = ("from", "value") if layout == "conversations" else ("role", "content")
    if not isinstance(turn, Mapping) or who not in turn or what not in turn:
        raise _not_rounds(f"turn {place} has no {who!r} and {what!r}", where)
    speaker, content = turn[who], turn[what]
    role = _ROLES[layout].get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise _not_rounds(f"turn {place} is by {speaker!r}, not by {', '.join(_ROLES[layout])}", where)
    if isinstance(content, str):
        return role, content, []
    if layout == "conversations" or not isinstance(content, list):
        raise _not_rounds(f"turn {place} says {type(content).__name__}, not a text", where)
    texts: list[str] = []
    shown: Shown = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in _KINDS:
            shown.append((kind, part.get(kind, part.get("path"))))
        else:
            raise _not_rounds(f"turn {place} has a part of type {kind!r}, not text, image or video", where)
    return role, "\n".join(texts), shown


def _files(row: Mapping[str, Any], shown: Shown, where: str) -> Shown:
    """The media of a row, with their file names: named in its question or beside the conversation."""
    beside: Shown = []
    for kind in _KINDS:
        if kind in row:
            beside.append((kind, row[kind]))
        listed = row.get(f"{kind}s")
        if listed is not None and not isinstance(listed, list):
            raise UserError(
                f"{kind}s is {type(listed).__name__}, not a list", where=where, remedy="give one file a row"
            )
        beside.extend((kind, name) for name in listed or ())
    named = [name for _, name in shown if name is not None]
    if beside and named:
        raise UserError("names its media twice", where=where, remedy="name its file in one place")
    if beside and shown and [kind for kind, _ in beside] != [kind for kind, _ in shown]:
        raise UserError(
            f"announces {len(shown)} media and names {len(beside)}, or of another kind",
            where=where,
            remedy="give one file a row",
        )
    if not beside and len(named) < len(shown):
        raise _no_file(where)
    return beside or shown


def _no_file(where: str) -> UserError:
    return UserError("asks about media but names no file", where=where, remedy="give its image or video")


def _misplaced(place: str, where: str) -> UserError:
    return UserError(
        f"shows media in {place}", where=where, remedy="show them in the first question, and nowhere else"
    )


def _not_rounds(found: str, where: str) -> UserError:
    return UserError(
        f"is not questions and answers in turn: {found}",
        where=where,
        remedy="begin with a question of human (user) and let gpt (assistant) answer each",
    )


def _media(name: Any, kind: MediaKind, path: Path, where: str) -> Media:
    if not isinstance(name, str):
        raise UserError(
            f"{kind} is {type(name).__name__}, not one file name", where=where, remedy="give one file a row"
        )
    try:
        file = file_inside(path.parent, name)
    except ValueError as error:
        raise UserError(
            f"{kind} {name!r}: {error}", where=where, remedy="put the media beside the JSON file"
        ) from error
    if file is None:
        raise UserError(
            f"{kind} {name!r} is not there", where=where, remedy="put the media beside the JSON file"
        )
    return Media(str(file), kind, "")
