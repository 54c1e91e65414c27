"""What the benchmarks of open questions on videos share: their samples, and how they are asked and judged.

In: rows of question, answer and video as a benchmark's file reads them. Out: samples whose question is their
own, and the task as the paper scores it: a model writes an answer, another one judges it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import ASKED, first_line, label_words, read_json

SPLITS = ("train", "val", "test")
ROW = {"id": int, "question": str, "answer": str, "video_id": (int, str)}
"""Of MSVD-QA and MSRVTT-QA, as `rows` takes it. Converted files name a video in place of its number."""


def rows(path: Path, keys: Mapping[str, type | tuple[type, ...]], obtain: str) -> list[tuple[str, Any]]:
    """(place, row) of a JSON list of objects; the place is "<file> row <number>", counted from 1.

    Args:
        keys: what each row has, and of which kind; texts hold something, and True is no number.

    Raises:
        UserError: the file is absent or no list of rows, or a row lacks a key or has another kind of value.
    """
    found = read_json(path, obtain)
    if not isinstance(found, list) or not found:
        raise UserError("expected a list of rows", where=path, remedy=obtain)
    placed = [(f"{path} row {place}", row) for place, row in enumerate(found, 1)]
    for where, row in placed:
        if not isinstance(row, dict):
            raise UserError(f"found {row!r}", where=where, remedy=f"expected an object of {', '.join(keys)}")
        for key, kind in keys.items():
            value = row.get(key)
            is_empty = isinstance(value, str) and not value.strip()
            if not isinstance(value, kind) or isinstance(value, bool) or is_empty:
                raise UserError(
                    f"{key} is {value!r}", where=where, remedy=f"expected an object of {', '.join(keys)}"
                )
    return placed


def sample(row: Mapping[str, Any], id_: str, video: str, path: str | None, **fields: Any) -> Sample:
    """One question on a video; `fields` has what is asked as `asked`, which always ends with one "?"."""
    return Sample(
        id=id_,
        label=row["answer"].strip(),
        media_path=path,
        media_kind="video",
        cluster=video,
        fields={"asked": " ".join(row["question"].split()).rstrip("? ") + "?", **fields},
    )


def judged(
    name: str,
    benchmark: str,
    load: Callable[[Path, str], list[Sample]],
    examples: Sequence[tuple[Any, str]],
    terms: tuple[str, str],
    published: float,
) -> Task:
    """The task as the paper scores it.

    Args:
        terms: how to obtain the benchmark, and its license.
    """
    return Task(
        name=name,
        benchmark=benchmark,
        metric="judge_accuracy",
        also=("judge_score", "exact_match"),
        modality="video",
        splits=SPLITS,
        load=load,
        question=ASKED,
        labels=(),
        answers="text",
        answer=label_words,
        parse=first_line,
        scoring="judge",
        judged="qa",
        best=1.0,
        chance=None,
        examples=examples,
        obtain=terms[0],
        license=terms[1],
        protocol="paper",
        paper=True,
        published=published,
    )
