"""QVHighlights: when a video shows what a sentence says, and which of it are the highlights.

benchmark: QVHighlights; `highlight_{train,val}_release.jsonl`, `highlight_test_with_gt.jsonl`, clips in
    `videos/<vid>.<suffix>`
paper: Lei et al., NeurIPS 2021, https://arxiv.org/abs/2107.09609; files:
    https://github.com/jayleicn/moment_detr, data/
license: annotations CC BY-NC-SA 4.0; the clips are YouTube's
splits: val 1,550, test 1,542; train about 7,200 (its first 200 rows were read)
metric: moments: mAP, the mean over IoU 0.5, 0.55, ..., 0.95 ("MR-full-mAP"), also mAP and R1 at single ones;
    highlights: mAP of grade 4 ("HL-min-VeryGood"), also Hit1 and the same of grades 3 and 2
published: none that is certain to be the same: the paper prints 33.1 and 32.7 % (Behavior-LLaVA; its base
    30.3 and 32.4), and says neither the split nor whether the model was trained on the benchmark
protocol: The split is test, which papers report and whose truth was released when the official server
    closed; val stays for choosing. The length of the video is told, for a model that sees some frames cannot
    know it. Question and form are ours. Moments: windows in whole seconds, "12-30, 44-50", the surest first;
    true windows are whole seconds, but only ten count, and twelve test queries have more: 0.9974 is the best.
    Highlights: a digit for each 2 seconds, 0 for what nobody finds relevant, else 1 and 1 more for each of
    the three annotators who gives grade 4. They disagree, so nobody can have 1: these digits have 0.6257 on
    test, their mean grade 0.6060, rounded 0.5270.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import distinct, known_split, read_rows, safe_name, video_file
from behavior_llava.evaluation.moments import VERY_GOOD, num_clips

SPLITS = ("train", "val", "test")

# Source: https://github.com/jayleicn/moment_detr, data/.
_FILES = {
    "train": "highlight_train_release.jsonl",
    "val": "highlight_val_release.jsonl",
    "test": "highlight_test_with_gt.jsonl",
}
_ANNOTATORS = 3

OBTAIN = (
    "get data/highlight_*.jsonl from https://github.com/jayleicn/moment_detr and give the folder that holds "
    "them, with the clips in videos/ beside"
)
LICENSE = "annotations CC BY-NC-SA 4.0; the clips are YouTube's"

_AROUND = string.whitespace + "\"'*.;[]()"
_WINDOWS = re.compile(
    r"[0-9]{1,6}\s*[-\u2013]\s*[0-9]{1,6}(?:\s*[,;\n]\s*[0-9]{1,6}\s*[-\u2013]\s*[0-9]{1,6})*"
)
_NUMBER = re.compile(r"[0-9]+")
_DIGITS = re.compile(r"[0-4](?:(?:\s*,\s*|\s+)[0-4])*")


def load(folder: Path, split: str, *, label: Callable[[Mapping[str, Any]], Any]) -> list[Sample]:
    """The queries of a split, in the file's order.

    Args:
        label: row -> what the metric compares with.

    Raises:
        UserError: the file is absent, or a row is malformed.
    """
    known_split(split, SPLITS)
    path = folder / _FILES[split]
    samples = []
    for where, line in read_rows(path, OBTAIN):
        row = _row(line, where)
        samples.append(
            Sample(
                id=str(row["qid"]),
                label=label(row),
                media_path=video_file(folder / "videos", safe_name(row["vid"], where)),
                media_kind="video",
                cluster=row["vid"],
                fields={
                    "text": f"The video lasts {row['duration']} seconds.",
                    "asked": row["query"].strip(),
                },
            )
        )
    return distinct(samples, path)


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"not JSON ({error.msg})", where=where, remedy=OBTAIN) from error
    if not isinstance(row, dict):
        raise UserError(f"found {line[:60]!r}", where=where, remedy="use the official list")
    for name, is_sound in _SOUND.items():
        if name not in row or not is_sound(row):
            raise UserError(f"{name} is {row.get(name)!r}", where=where, remedy="use the official list")
    return row


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _has_windows(row: Mapping[str, Any]) -> bool:
    windows = row["relevant_windows"]
    return (
        isinstance(windows, list)
        and bool(windows)
        and all(isinstance(window, list) and len(window) == 2 for window in windows)
        and all(_is_number(edge) for window in windows for edge in window)
        and all(0 <= start < end <= row["duration"] for start, end in windows)
    )


def _has_clips(row: Mapping[str, Any]) -> bool:
    clips = row["relevant_clip_ids"]
    return (
        isinstance(clips, list)
        and bool(clips)
        and all(type(clip) is int and 0 <= clip < num_clips(row["duration"]) for clip in clips)
        and len(set(clips)) == len(clips)
    )


def _has_grades(row: Mapping[str, Any]) -> bool:
    scores = row["saliency_scores"]
    return (
        isinstance(scores, list)
        and len(scores) == len(row["relevant_clip_ids"])
        and all(isinstance(grades, list) and len(grades) == _ANNOTATORS for grades in scores)
        and all(type(grade) is int and 0 <= grade <= 4 for grades in scores for grade in grades)
    )


# In this order: the later ones rely on the earlier.
_SOUND: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "qid": lambda row: type(row["qid"]) is int,
    "query": lambda row: isinstance(row["query"], str) and bool(row["query"].strip()),
    "vid": lambda row: isinstance(row["vid"], str),
    "duration": lambda row: _is_number(row["duration"]) and row["duration"] > 0,
    "relevant_windows": _has_windows,
    "relevant_clip_ids": _has_clips,
    "saliency_scores": _has_grades,
}


# ---- moments -----------------------------------------------------------------------------------------------


def say_windows(sample: Sample) -> str:
    """The true windows, e.g. "12-30, 44-50", edges rounded to whole seconds; one of no length is one long.

    Raises:
        ValueError: the sample's windows are not released.
    """
    if sample.label is None:
        raise ValueError(f"sample {sample.id} has no windows to answer with")
    edges = [(round(start), max(round(start) + 1, round(end))) for start, end in sample.label]
    return ", ".join(f"{start}-{end}" for start, end in edges)


def read_windows(text: str) -> list[list[float]] | None:
    """[start_s, end_s, score] of every window said, scores falling from 1; None where the text is no list of
    windows, or one does not end after its start.
    """
    bare = text.strip(_AROUND)
    if not _WINDOWS.fullmatch(bare):
        return None
    edges = [float(number) for number in _NUMBER.findall(bare)]
    windows = [[*pair, 1 / place] for place, pair in enumerate(zip(edges[::2], edges[1::2], strict=True), 1)]
    return windows if all(start < end for start, end, _ in windows) else None


# ---- highlights --------------------------------------------------------------------------------------------


def say_digits(sample: Sample) -> str:
    """A digit for each clip: 0 where nobody finds it relevant, else 1 and 1 more for each highest grade.

    Raises:
        ValueError: the sample's grades are not released.
    """
    if sample.label is None:
        raise ValueError(f"sample {sample.id} has no grades to answer with")
    digits = [0] * num_clips(sample.label["duration"])
    for clip, grades in zip(sample.label["clips"], sample.label["scores"], strict=True):
        digits[clip] = (max(grades) > 0) + sum(grade >= VERY_GOOD for grade in grades)
    return " ".join(map(str, digits))


def read_digits(text: str) -> list[int] | None:
    """The digits 0 to 4 of a text that holds nothing else, spaces or commas between them; else None."""
    bare = text.strip(_AROUND)
    return [int(digit) for digit in _NUMBER.findall(bare)] if _DIGITS.fullmatch(bare) else None


def _grades(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"duration": row["duration"], "clips": row["relevant_clip_ids"], "scores": row["saliency_scores"]}


_FIRST = (
    '{"qid": 7, "query": "A cat jumps.", "duration": 8, "vid": "abcdefghijk_60.0_68.0", '
    '"relevant_windows": [[0, 2], [4, 8]], "relevant_clip_ids": [0, 2, 3], '
    '"saliency_scores": [[4, 4, 3], [0, 0, 0], [4, 4, 4]]}\n'
)
_SECOND = (
    '{"qid": 8, "query": "Rain", "duration": 6, "vid": "lmnopqrstuv_0.0_6.0", '
    '"relevant_windows": [[2, 4]], "relevant_clip_ids": [1], "saliency_scores": [[2, 3, 1]]}\n'
)
_TEST = _FILES["test"]

TASKS = (
    Task(
        name="qvhighlights_moment_retrieval",
        benchmark="QVHighlights",
        metric="moment_map",
        also=("moment_map_50", "moment_map_75", "moment_recall_50", "moment_recall_70"),
        modality="video",
        splits=SPLITS,
        load=partial(load, label=lambda row: row["relevant_windows"]),
        question='Which seconds of the video show "{asked}", as start-end, start-end, the surest first?',
        labels=(),
        answers="text",
        answer=say_windows,
        parse=read_windows,
        scoring="generate",
        # Source: the true windows of the test split, in the form above; of more than ten, ten count.
        best=0.9974,
        chance=None,
        examples=(({_TEST: _FIRST}, "0-2, 4-8"), ({_TEST: _SECOND}, "2-4")),
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
    ),
    Task(
        name="qvhighlights_highlight_detection",
        benchmark="QVHighlights",
        metric="highlight_map",
        also=(
            "highlight_hit1",
            "highlight_map_good",
            "highlight_hit1_good",
            "highlight_map_fair",
            "highlight_hit1_fair",
        ),
        modality="video",
        splits=SPLITS,
        load=partial(load, label=_grades),
        question='How well does each 2 seconds of the video show "{asked}", a digit from 0 to 4 for each?',
        labels=(),
        answers="text",
        answer=say_digits,
        parse=read_digits,
        scoring="generate",
        # Source: the annotators' grades of the test split, in the form above; they disagree.
        best=0.6257,
        chance=None,
        examples=(({_TEST: _FIRST}, "3 0 0 4"), ({_TEST: _SECOND}, "0 1 0")),
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
    ),
)
