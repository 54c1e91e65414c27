"""VideoEmotion-8: which of eight emotions a web video evokes.

benchmark: VideoEmotion-8; `classInd.txt`, `trainlist01.txt`, `testlist01.txt`, `ve8_01.json`,
    `video/<class>/<name>.<suffix>`
paper: Jiang, Xu and Xue, AAAI 2014, "Predicting Emotions in User-Generated Videos"
license: none stated; lists from https://github.com/maysonma/VAANet
splits: train 732, test 367 (the one split in use since VAANet)
metric: top-1 accuracy over 8 classes, chance 12.5 %; the most frequent class (Surprise) is 19.1 % of test
published: 41.35 % (Behavior-LLaVA, zero-shot), 29.7 % (its base)
protocol: The paper scores the next token over the label words; its question is not printed, so the question
    is ours. It does not say which split it uses. Officially there are ten random splits of two thirds to one
    third, whose mean is reported; only the first is found as files, in VAANet's repository, and it is what
    later papers report. `ve8_01.json` tells the same by name alone, and one name stands in two classes: so
    the lists are read, and the JSON must only agree with them where it is there.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    class_list,
    known_split,
    label_words,
    one_label,
    read_json,
)

SPLITS = ("train", "test")

# Source: https://github.com/maysonma/VAANet tools/annotations/ve8/classInd.txt.
LABELS = ("Anger", "Anticipation", "Disgust", "Fear", "Joy", "Sadness", "Surprise", "Trust")

OBTAIN = (
    "get the lists from tools/annotations/ve8 of https://github.com/maysonma/VAANet and the videos from the "
    "authors, and give the folder that holds classInd.txt"
)
LICENSE = "none stated; lists from https://github.com/maysonma/VAANet"

_SUBSETS = {"train": "training", "test": "validation"}


def load(folder: Path, split: str) -> list[Sample]:
    """The rows of `<split>list01.txt`, in its order.

    Raises:
        UserError: a file is absent, classInd.txt has other classes, a row is malformed, or ve8_01.json says
            otherwise.
    """
    known_split(split, SPLITS)
    samples = class_list(folder, split, LABELS, OBTAIN)
    path = folder / "ve8_01.json"
    if path.exists():
        _check_agreement(samples, split, path)
    return samples


def _check_agreement(samples: list[Sample], split: str, path: Path) -> None:
    listed = read_json(path, OBTAIN)
    database = listed.get("database") if isinstance(listed, dict) else None
    if not isinstance(database, dict):
        raise UserError("no database in it", where=path, remedy=OBTAIN)
    classes: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        classes[sample.id.partition("/")[2]].add(sample.label)
    for name, labels in classes.items():
        # a name of two classes has one entry, which is of one of them
        if database.get(name) not in [
            {"subset": _SUBSETS[split], "annotations": {"label": label}} for label in labels
        ]:
            raise UserError(
                f"{name!r} is {database.get(name)}",
                where=path,
                remedy=f"{split}list01.txt has it in {split} as {', '.join(sorted(labels))}",
            )


_CLASSES = "".join(f"{number} {label}\n" for number, label in enumerate(LABELS, 1))

TASKS = (
    Task(
        name="videoemotion8",
        benchmark="VideoEmotion-8",
        metric="accuracy",
        modality="video",
        splits=SPLITS,
        load=load,
        question="What emotion do viewers feel?",
        labels=LABELS,
        answer=label_words,
        parse=one_label(LABELS),
        best=1.0,
        chance=1 / 8,
        examples=(
            ({"classInd.txt": _CLASSES, "testlist01.txt": "Trust/88_700\n"}, "Trust"),
            ({"classInd.txt": _CLASSES, "testlist01.txt": "Anticipation/Wedding-1\n"}, "Anticipation"),
        ),
        protocol="paper",
        format="third_party",
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), video emotion table, zero-shot, 41.35 %.
        published=0.4135,
    ),
)
