"""Memento10k: how memorable a video of three seconds is.

benchmark: Memento10k; `memento_{train,val}_data.json`, a list of objects with filename and mem_score, videos
    in `videos/`
paper: Newman et al., ECCV 2020, http://memento.csail.mit.edu
license: non-commercial use without redistribution, on request (the benchmark's page)
splits: train 7,000, val 1,500; the scores of the 1,500 of test are held back, so val is tested here
metric: Spearman's rho between prediction and score
published: 0.12 (Behavior-LLaVA, zero-shot), 0.03 (its base)
protocol: The paper does not say what it tests; with the scores of test held back it can only have been val,
    or part of train. `mem_score` is the share of viewers who knew the video again, corrected for how long ago
    they had seen it; the rate at which it falls (`alpha`) is not read. Scores are said as LaMem's are, and
    the question is ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    distinct,
    known_split,
    number_words,
    one_number,
    read_json,
    safe_name,
    video_file,
)

SPLITS = ("train", "val")

OBTAIN = (
    "ask for Memento10k at http://memento.csail.mit.edu and give the folder that holds "
    "memento_val_data.json, with its videos in videos/ beside it"
)
LICENSE = "non-commercial use without redistribution, on request (the benchmark's page)"


def load(folder: Path, split: str) -> list[Sample]:
    """The rows of `memento_<split>_data.json`, in its order; the label is the score, 0..1.

    Raises:
        UserError: the file is absent, or a row is malformed or has a score outside 0..1.
    """
    known_split(split, SPLITS)
    path = folder / f"memento_{split}_data.json"
    rows = read_json(path, OBTAIN)
    if not isinstance(rows, list) or not rows:
        raise UserError("expected a list of objects", where=path, remedy=OBTAIN)
    samples = [_sample(folder, row, f"{path} row {number}") for number, row in enumerate(rows, 1)]
    return distinct(samples, path)


def _sample(folder: Path, row: Any, where: str) -> Sample:
    name, score = (row.get("filename"), row.get("mem_score")) if isinstance(row, dict) else (None, None)
    is_score = not isinstance(score, bool) and isinstance(score, (int, float)) and 0 <= score <= 1
    if not isinstance(name, str) or score is None or not is_score:
        raise UserError(
            f"found {row!r:.200}",
            where=where,
            remedy="expected a file's name and a score from 0 to 1",
        )
    inside = safe_name(name, where, depth=name.count("/") + 1)
    video = video_file(folder / "videos", inside)
    return Sample(id=name, label=float(score), media_path=video, media_kind="video")


def _files(name: str, score: float) -> dict[str, str]:
    return {"memento_val_data.json": json.dumps([{"filename": name, "mem_score": score, "alpha": -0.0004}])}


TASKS = (
    Task(
        name="memento10k",
        benchmark="Memento10k",
        metric="spearman",
        modality="video",
        splits=SPLITS,
        load=load,
        question="How memorable is this, from 00 to 99?",
        labels=(),
        answers="number",
        answer=number_words(),
        parse=one_number(),
        best=1.0,
        chance=0.0,
        examples=((_files("7.mp4", 0.81), "80"), (_files("skating/8.mp4", 0.09), "09")),
        protocol="paper",
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), memorability table, zero-shot.
        published=0.12,
        scoring="expectation",
        test_split="val",
    ),
)
