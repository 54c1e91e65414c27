"""IMDb: whether a film review is positive or negative.

benchmark: Large Movie Review Dataset 1.0; `aclImdb/{train,test}/{pos,neg}/<id>_<rating>.txt`
paper: Maas et al., ACL 2011, https://aclanthology.org/P11-1015
license: free for research with citation
splits: train 25,000, test 25,000, half of each positive (rating 7 to 10), half negative (1 to 4)
metric: accuracy over 2 classes, chance 50 %
published: 84.1 % (Behavior-LLaVA, 0-shot), 80.3 % (its base); 90.2 % and 87.9 % with one demonstration
protocol: The paper prints neither its question nor how it cuts long reviews: the question is ours, the review
    comes before it and is given whole, with its `<br />`. A folder has no order, and one class after the
    other would make the first n rows one class; so rows are ordered by id, negative before positive.
"""

from __future__ import annotations

import re
from pathlib import Path

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    AbsentFileError,
    distinct,
    known_split,
    label_words,
    one_label,
    read_text,
)

SPLITS = ("train", "test")
LABELS = ("negative", "positive")

OBTAIN = (
    "unpack https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz and give the folder that holds "
    "aclImdb"
)
LICENSE = "free for research with citation"

# Source: README of the data set (Maas et al. 2011): negative is at most 4 of 10 stars, positive at least 7.
_FOLDERS = {"negative": ("neg", range(1, 5)), "positive": ("pos", range(7, 11))}
_NAME = re.compile(r"([0-9]+)_([0-9]+)\.txt")


def load(folder: Path, split: str) -> list[Sample]:
    """The reviews of a split by id, negative before positive; `fields` has `text` and `rating` (1..10).

    Raises:
        UserError: a class's folder is absent or empty, or a review's name, rating or text is malformed.
    """
    known_split(split, SPLITS)
    base = folder / "aclImdb" / split
    numbered = [pair for label in LABELS for pair in _reviews(base, label)]
    return [sample for _, sample in sorted(numbered, key=lambda pair: (pair[0], LABELS.index(pair[1].label)))]


def _reviews(base: Path, label: str) -> list[tuple[int, Sample]]:
    name, ratings = _FOLDERS[label]
    folder = base / name
    if not folder.is_dir():
        # One class without the other is a broken split, not an absent one.
        error = UserError if base.is_dir() else AbsentFileError
        raise error("the official layout has this folder, but it is not there", where=folder, remedy=OBTAIN)
    numbered = []
    for path in folder.glob("*.txt"):
        found = _NAME.fullmatch(path.name)
        if not found or int(found[2]) not in ratings:
            raise UserError(
                "the file's name is not that of a review",
                where=path,
                remedy=f"expected <id>_<rating>.txt with a rating of {ratings[0]} to {ratings[-1]}",
            )
        text = read_text(path, OBTAIN)
        if not text.strip():
            raise UserError("the review is empty", where=path, remedy=OBTAIN)
        fields = {"text": text, "rating": int(found[2])}
        numbered.append((int(found[1]), Sample(id=f"{name}/{found[1]}", label=label, fields=fields)))
    if not numbered:
        raise UserError("the folder holds no reviews", where=folder, remedy=OBTAIN)
    distinct([sample for _, sample in numbered], folder)
    return numbered


TASKS = (
    Task(
        name="imdb",
        benchmark="IMDb",
        metric="accuracy",
        modality="text",
        splits=SPLITS,
        load=load,
        question="Is this review positive or negative?",
        labels=LABELS,
        answer=label_words,
        parse=one_label(LABELS),
        best=1.0,
        chance=1 / 2,
        examples=(
            (
                {"aclImdb/test/neg/0_2.txt": "I left early.", "aclImdb/test/pos/0_9.txt": "I stayed."},
                "negative",
            ),
            (
                {"aclImdb/test/neg/8_1.txt": "I left.", "aclImdb/test/pos/7_10.txt": "Twice!<br />"},
                "positive",
            ),
        ),
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), audio and text table, 0-shot, 84.1 %.
        published=0.841,
    ),
)
