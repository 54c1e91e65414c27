"""Ekman-6: which of six emotions a web video evokes.

benchmark: Ekman-6; `classInd.txt`, `trainlist01.txt`, `testlist01.txt`, `video/<class>/<name>.<suffix>`
paper: Xu et al., IEEE Transactions on Affective Computing 2016, https://arxiv.org/abs/1511.04798
license: none stated; linked from https://github.com/kittenish/Frame-Transformer-Network
splits: train 819, test 818 (the official half and half)
metric: top-1 accuracy over 6 classes, chance 16.67 %; the most frequent class (surprise) is 22.0 %
published: 49.33 % (Behavior-LLaVA, zero-shot), 37.33 % (its base)
protocol: The paper scores the next token over the label words; its question is not printed, so the question
    is ours. Lists are as VideoEmotion-8's: "class/name id" for training, "class/name" for testing, classes in
    lower case. Videos are found under any of the usual suffixes, for copies differ in it.
"""

from __future__ import annotations

from pathlib import Path

from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import class_list, known_split, label_words, one_label

SPLITS = ("train", "test")

# Source: the benchmark's lists ("anger/1000 1"): alphabetical and numbered from 1, as in VideoEmotion-8.
LABELS = ("anger", "disgust", "fear", "joy", "sadness", "surprise")

OBTAIN = (
    "get Ekman-6 through https://github.com/kittenish/Frame-Transformer-Network and give the folder that "
    "holds classInd.txt"
)
LICENSE = "none stated; linked from https://github.com/kittenish/Frame-Transformer-Network"


def load(folder: Path, split: str) -> list[Sample]:
    """The rows of `<split>list01.txt`, in its order.

    Raises:
        UserError: a file is absent, classInd.txt has other classes, or a row is malformed.
    """
    known_split(split, SPLITS)
    return class_list(folder, split, LABELS, OBTAIN)


_CLASSES = "1 anger\n2 disgust\n3 fear\n4 joy\n5 sadness\n6 surprise\n"

TASKS = (
    Task(
        name="ekman6",
        benchmark="Ekman-6",
        metric="accuracy",
        modality="video",
        splits=SPLITS,
        load=load,
        question="What emotion do viewers feel?",
        labels=LABELS,
        answer=label_words,
        parse=one_label(LABELS),
        best=1.0,
        chance=1 / 6,
        examples=(
            ({"classInd.txt": _CLASSES, "testlist01.txt": "joy/1203\n"}, "joy"),
            ({"classInd.txt": _CLASSES, "testlist01.txt": "surprise/77\n"}, "surprise"),
        ),
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), video emotion table, zero-shot, 49.33 %.
        published=0.4933,
    ),
)
