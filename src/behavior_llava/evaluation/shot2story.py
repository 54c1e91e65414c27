"""The lists of Shot2Story20K, which two benchmarks of the paper read: what is heard, and what happens.

In: `20k_{train,val,test}.json`, lists of films with their shots. Out: the same, checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from behavior_llava.core.errors import UserError
from behavior_llava.evaluation.benchmarks import free_text, known_split, read_json, safe_name
from behavior_llava.evaluation.text_metrics import has_meteor

SPLITS = ("train", "val", "test")

OBTAIN = (
    "get 20k_train.json, 20k_val.json and 20k_test.json through https://github.com/bytedance/Shot2Story and "
    "give the folder that holds them, with the films and the shots cut from them in videos/ beside"
)
LICENSE = "annotations CC BY-NC-SA 4.0; the films are YouTube's"

ALSO = ("bleu_4", "cider", *(("meteor",) if has_meteor() else ()))
"""What is measured beside ROUGE-L; METEOR where the extra `captions` is installed."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One shot of a film.

    Attributes:
        video: name of its file.
        said: what speech recognition heard in it; empty for nothing.
        narration: people's words for what is heard; empty where nothing is.
    """

    video: str
    said: str
    narration: str


@dataclass(frozen=True, slots=True)
class Film:
    """One row of a list.

    Attributes:
        where: file and row, for messages.
        said: what speech recognition heard in the whole film.
        summary: people's words for what happens in it.
    """

    where: str
    video: str
    said: str
    summary: str
    shots: tuple[Shot, ...]


def films(folder: Path, split: str) -> list[Film]:
    """The rows of `20k_<split>.json`, in its order.

    Raises:
        UserError: the file is absent, or a row is malformed.
    """
    known_split(split, SPLITS)
    path = folder / f"20k_{split}.json"
    rows = read_json(path, OBTAIN)
    if not isinstance(rows, list) or not rows:
        raise UserError("expected a list of rows", where=path, remedy=OBTAIN)
    return [_film(row, f"{path} row {number}") for number, row in enumerate(rows, 1)]


def _film(row: Any, where: str) -> Film:
    if not isinstance(row, dict):
        raise UserError(f"found {row!r}", where=where, remedy="use the official list")
    video, said, summary = (_text(row, key, where) for key in ("video", "whole_ASR", "whole_caption"))
    if free_text(summary) is None:
        raise UserError("whole_caption is empty", where=where, remedy="use the official list")
    shots = [_texts(row, key, where) for key in ("video_names", "ASR", "audio_captions")]
    if len({len(values) for values in shots}) != 1 or not shots[0]:
        raise UserError(
            f"{len(shots[0])} video_names, {len(shots[1])} ASR and {len(shots[2])} audio_captions",
            where=where,
            remedy="use the official list",
        )
    for name in (video, *shots[0]):
        safe_name(name, where)
    return Film(where, video, said, summary, tuple(Shot(*values) for values in zip(*shots, strict=True)))


def _text(row: dict[str, Any], key: str, where: str) -> str:
    if not isinstance(row.get(key), str):
        raise UserError(f"{key} is {row.get(key)!r}", where=where, remedy="expected a text")
    return row[key].strip()


def _texts(row: dict[str, Any], key: str, where: str) -> list[str]:
    values = row.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{key} is {values!r}", where=where, remedy="expected a list of texts")
    return [value.strip() for value in values]


def heard(said: str) -> dict[str, str]:
    """The fields of a sample: what was said stands before the question; none where nothing was."""
    return {"text": f"Speech: {said}"} if said else {}
