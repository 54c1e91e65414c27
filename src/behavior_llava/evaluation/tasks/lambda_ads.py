r"""LAMBDA: how well an advertisement is remembered one to three days later, told in words.

benchmark: LAMBDA; `bs_test_q.json` (question_id, question, video_name) and `bs_test_a.json` (question_id,
    answer)
paper: S I et al., WACV 2025, https://arxiv.org/abs/2309.00378; files:
    https://github.com/behavior-in-the-wild/ad-memorability
license: the repository is MIT, the annotations are CC BY-NC 4.0
splits: test 220 of 2,205 ads; lists of the same form for training are not in the repository, and are read as
    `bs_train_q.json` and `bs_train_a.json` where somebody has them
metric: Spearman's rho between prediction and score; the 220 ads have 19 scores, 82 of them the highest
published: 0.16 (Behavior-LLaVA, zero-shot), 0.05 (its base)
protocol: The release has no media: a question tells the ad scene by scene and ends with a place for features
    of the video, `<image>`, which are not given. So this is a task of text: what the question tells is kept
    word for word, with what it says about the viewers; its last sentence, "Return the long term memorability
    score ...", and the place for the features give way to the question all memorability tasks share. Whether
    the paper's model saw the video is not said. Scores are two digits already and no answer stands in a
    question. `cs_test_*.json` and `lambda_cs_test.json` ask for an ad to be written and are not read.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    known_split,
    number_words,
    one_number,
    read_json,
)

SPLITS = ("train", "test")

OBTAIN = (
    "get bs_test_q.json and bs_test_a.json from data of "
    "https://github.com/behavior-in-the-wild/ad-memorability and give the folder that holds them"
)
LICENSE = "the repository is MIT, the annotations are CC BY-NC 4.0"

# Source: bs_test_q.json, the last sentence of each of its questions; a place for features comes after it.
_LAST = "Return the long term memorability score of the video on a scale of 00 to 99 without any explanation."
_ENDING = re.compile(rf"\s*{re.escape(_LAST)}\s*<image>\s*")
_ANSWER = re.compile(r"[0-9]{2}")


def load(folder: Path, split: str) -> list[Sample]:
    """The ads of `bs_<split>_q.json`, in its order; the label is the score of 0..99 as 0..1.

    Raises:
        UserError: a file is absent, a row is malformed, a question ends otherwise or has no answer, or an
            answer no question.
    """
    known_split(split, SPLITS)
    path = folder / f"bs_{split}_q.json"
    questions = _by_id(path, "question")
    answers_path = folder / f"bs_{split}_a.json"
    answers = _by_id(answers_path, "answer")
    if apart := sorted(questions.keys() ^ answers.keys()):
        raise UserError(
            f"question_id {apart[0]} is in one of the two lists only",
            where=path if apart[0] in questions else answers_path,
            remedy=OBTAIN,
        )
    return [
        Sample(
            id=str(number),
            label=_score(answers[number], f"{answers_path} question_id {number}"),
            fields={"text": _told(question, f"{path} question_id {number}")},
        )
        for number, question in questions.items()
    ]


def _by_id(path: Path, key: str) -> dict[int, str]:
    rows: Any = read_json(path, OBTAIN)
    if not isinstance(rows, list) or not rows:
        raise UserError("expected a list of objects", where=path, remedy=OBTAIN)
    found: dict[int, str] = {}
    for place, row in enumerate(rows, 1):
        number, value = (row.get("question_id"), row.get(key)) if isinstance(row, dict) else (None, None)
        if type(number) is not int or not isinstance(value, str):
            raise UserError(
                f"question_id {number!r} without {key}",
                where=f"{path} row {place}",
                remedy=f"expected a whole number and a text called {key}",
            )
        if number in found:
            raise UserError(f"question_id {number} is listed twice", where=path, remedy=OBTAIN)
        found[number] = value
    return found


def _score(answer: str, where: str) -> float:
    if not _ANSWER.fullmatch(answer):
        raise UserError(f"found {answer!r}", where=where, remedy="expected two digits")
    return int(answer) / 99


def _told(question: str, where: str) -> str:
    """What the question tells of the ad."""
    text, *rest = _ENDING.split(question)
    if rest != [""] or not text.strip():
        raise UserError(
            f"the question ends with {question[-60:]!r}", where=where, remedy="use the official list"
        )
    return text.strip()


def _files(told: str, answer: str) -> dict[str, str]:
    row = {"video_name": "video_scenes/7.npy", "question": f"{told} {_LAST} \n<image>\n", "question_id": 7}
    return {
        "bs_test_q.json": json.dumps([row]),
        "bs_test_a.json": json.dumps([{"answer": answer, "question_id": 7}]),
    }


TASKS = (
    Task(
        name="lambda_ads",
        benchmark="LAMBDA",
        metric="spearman",
        modality="text",
        splits=SPLITS,
        load=load,
        question="How memorable is this, from 00 to 99?",
        labels=(),
        answers="number",
        answer=number_words(),
        parse=one_number(),
        best=1.0,
        chance=0.0,
        examples=(
            (_files("They watch a 31 second advertisement. Scene 1: The scene shows a truck.", "65"), "65"),
            (_files("They watch a 11 second advertisement. Scene 1: The scene shows a cup.", "00"), "00"),
        ),
        protocol="paper",
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), memorability table, zero-shot.
        published=0.16,
        scoring="expectation",
    ),
)
