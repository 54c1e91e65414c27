"""The base stage's instruction data: LLaVA JSON (`conversations`) to Examples.

One question and answer a row: a conversation of several rounds gives a row for its first round only when it
has just one; longer ones are refused, since a later round would lose what came before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Example, Media, MediaKind
from behavior_llava.data.raw_values import file_inside

_PLACEHOLDERS = ("<image>", "<video>")


def read(path: Path) -> list[Example]:
    """The rows of a LLaVA JSON file; media are found beside it, their times and hashes are left to be
    measured.

    Raises:
        UserError: no such file, not that format, or a media file that is not there; with the row's id.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            "no such instruction file",
            where=path,
            remedy="give LLaVA JSON, or set base.instruction to null for the sandbox's",
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(
            f"is not JSON ({error})", where=path, remedy="give LLaVA JSON: a list of conversations"
        ) from error
    if not isinstance(rows, list) or not rows:
        raise UserError(
            "holds no list of conversations", where=path, remedy="give LLaVA JSON: a list of conversations"
        )
    return [_example(row, number, path) for number, row in enumerate(rows)]


def _example(row: Any, number: int, path: Path) -> Example:
    where = f"{path}: row {number}"
    try:
        human, answer = row["conversations"]
        if human["from"] != "human" or answer["from"] != "gpt":
            raise KeyError("from")
        question, completion = human["value"], answer["value"]
        if not isinstance(question, str) or not isinstance(completion, str):
            raise TypeError("value")
    except (TypeError, KeyError, ValueError):
        raise UserError(
            "is not one question of a human and one answer of gpt",
            where=where,
            remedy="split longer conversations into rows",
        ) from None
    media = None
    kinds: list[MediaKind] = [kind for kind in ("image", "video") if kind in row]
    if len(kinds) > 1:
        raise UserError("has an image and a video", where=where, remedy="give one file a row")
    if kinds:
        media = _media(row[kinds[0]], kinds[0], path, where)
    elif any(placeholder in question for placeholder in _PLACEHOLDERS):
        raise UserError("asks about media but names no file", where=where, remedy="give its image or video")
    for placeholder in _PLACEHOLDERS:
        question = question.replace(placeholder, "")
    return Example(str(row.get("id", number)), question.strip(), completion, media)


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
