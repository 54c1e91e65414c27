"""EmoSet: which of eight emotions an image evokes.

benchmark: EmoSet-118K; `info.json`, `{train,val,test}.json`, `image/<emotion>/<id>.jpg`, `annotation/...`
paper: Yang et al., ICCV 2023, https://arxiv.org/abs/2307.07961; files: https://github.com/JingyuanYY/EmoSet
license: the repository is MIT; the images are on the authors' Dropbox and remain their photographers'
splits: 118,102 images, train 80 %, val 5 %, test 15 % (by the paper; the lists are not in the repository)
metric: top-1 accuracy over 8 classes, chance 12.5 %
published: 50.38 % (Behavior-LLaVA, zero-shot), 45.23 % (its base)
protocol: The paper scores the next token over the label words; its question and its split are not printed, so
    the question is ours and the split is test. The annotated attributes (brightness, scene, ...) are not
    read. The README documents rows of four items [emotion, id, image, annotation]; copies in use have three,
    without the id: both are read. The path is the label, so no path may enter a prompt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    distinct,
    known_split,
    label_words,
    media_file,
    one_label,
    read_json,
    safe_name,
)

SPLITS = ("train", "val", "test")

# Source: https://github.com/JingyuanYY/EmoSet info.json, emotion.label2idx, in the order of its ids 0..7.
LABELS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness")

OBTAIN = (
    "get EmoSet-118K as https://github.com/JingyuanYY/EmoSet says and give the folder that holds info.json"
)
LICENSE = "the repository is MIT; the images are on the authors' Dropbox and remain their photographers'"

_ROW = "expected [emotion, id, image, annotation] or [emotion, image, annotation]"


def load(folder: Path, split: str) -> list[Sample]:
    """The rows of `<split>.json`, in its order.

    Raises:
        UserError: a file is absent, info.json has other emotions, or a row is malformed.
    """
    known_split(split, SPLITS)
    _check_ids(folder / "info.json")
    path = folder / f"{split}.json"
    rows = read_json(path, OBTAIN)
    if not isinstance(rows, list) or not rows:
        raise UserError("expected a list of rows", where=path, remedy=_ROW)
    samples = [_sample(folder, row, f"{path} row {number}") for number, row in enumerate(rows, 1)]
    return distinct(samples, path)


def _check_ids(path: Path) -> None:
    info = read_json(path, OBTAIN)
    emotion = info.get("emotion") if isinstance(info, dict) else None
    ids = emotion.get("label2idx") if isinstance(emotion, dict) else None
    if ids != {label: number for number, label in enumerate(LABELS)}:
        raise UserError(
            f"emotion.label2idx is {ids}", where=path, remedy=f"expected the ids 0..7 for {', '.join(LABELS)}"
        )


def _sample(folder: Path, row: Any, where: str) -> Sample:
    if not isinstance(row, list) or len(row) not in (3, 4) or not all(isinstance(item, str) for item in row):
        raise UserError(f"found {row!r}", where=where, remedy=_ROW)
    emotion, image, annotation = row[0], row[-2], row[-1]
    if emotion not in LABELS:
        raise UserError(
            f"unknown emotion {emotion!r}", where=where, remedy=f"expected one of {', '.join(LABELS)}"
        )
    safe_name(annotation, where, depth=3)
    inside = safe_name(image, where, depth=3)
    if inside.parts[:2] != ("image", emotion):
        raise UserError(
            f"the image {image!r} of emotion {emotion!r}",
            where=where,
            remedy=f"expected image/{emotion}/<id>.jpg",
        )
    return Sample(
        id=row[1] if len(row) == 4 else inside.stem,
        label=emotion,
        media_path=media_file(folder / inside),
        media_kind="image",
    )


_INFO = (
    '{"emotion": {"label2idx": {"amusement": 0, "awe": 1, "contentment": 2, "excitement": 3, "anger": 4, '
    '"disgust": 5, "fear": 6, "sadness": 7}}}'
)

TASKS = (
    Task(
        name="emoset",
        benchmark="EmoSet",
        metric="accuracy",
        modality="image",
        splits=SPLITS,
        load=load,
        question="What emotion do viewers feel?",
        labels=LABELS,
        answer=label_words,
        parse=one_label(LABELS),
        best=1.0,
        chance=1 / 8,
        examples=(
            (
                {
                    "info.json": _INFO,
                    "test.json": '[["awe", "awe_7", "image/awe/awe_7.jpg", "annotation/awe/awe_7.json"]]',
                },
                "awe",
            ),
            (
                {
                    "info.json": _INFO,
                    "test.json": '[["sadness", "image/sadness/s_3.jpg", "annotation/sadness/s_3.json"]]',
                },
                "sadness",
            ),
        ),
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), image emotion table, zero-shot, 50.38 %.
        published=0.5038,
    ),
)
