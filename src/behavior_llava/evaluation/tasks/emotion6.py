"""Emotion6: which of six emotions an image evokes.

benchmark: Emotion6; `ground_truth.txt` with the share of votes for every image, separated by tabs; images in
    `images/<keyword>/<number>.jpg`
paper: Peng et al., CVPR 2015, http://chenlab.ece.cornell.edu/downloads.html
license: academic research only; the photographs remain their owners'
splits: none is published for its 1,980 images; ours: a fifth is test, told by a hash of the file's name
metric: top-1 accuracy over 6 classes, chance 16.67 %
published: 49.71 % (Behavior-LLaVA, zero-shot), 40.37 % (its base)
protocol: The paper does not say what the label is: a chance of 16.67 % only says that neutral is none.
    `emotion6` has the emotion with the largest share of votes, neutral apart, for that is what viewers felt;
    images where two share that place are left out. `emotion6_keyword` has the word the image was searched
    with, which is its folder. The paper scores the next token over the label words; its question and its
    split are not printed, so the question is ours, and the usual random fifth is tested: which one,
    `own_split` in benchmarks.py says.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    OWN_SPLITS,
    distinct,
    known_split,
    label_words,
    media_file,
    one_label,
    own_split,
    read_table,
    safe_name,
    unit_score,
)

# Source: the benchmark's readme, the columns of ground_truth.txt; neutral comes after them.
LABELS = ("anger", "disgust", "fear", "joy", "sadness", "surprise")

OBTAIN = (
    "get Emotion6 at http://chenlab.ece.cornell.edu/downloads.html and give the folder that holds "
    "ground_truth.txt and images"
)
LICENSE = "academic research only; the photographs remain their owners'"

_COLUMNS = ("valence", "arousal", *LABELS, "neutral")


def load(folder: Path, split: str, *, label: Literal["votes", "keyword"]) -> list[Sample]:
    """The images of `split` in the list's order; by votes, without those that no one emotion leads.

    Raises:
        UserError: the file is absent or has other columns, or a row is malformed.
    """
    known_split(split, OWN_SPLITS)
    path = folder / "ground_truth.txt"
    rows = read_table(path, (), OBTAIN, delimiter="\t")
    named, *columns = rows[0][1]
    if len(columns) != len(_COLUMNS) or not all(
        word in column.casefold() for word, column in zip(_COLUMNS, columns, strict=True)
    ):
        raise UserError(
            f"the columns are {', '.join((named, *columns))}",
            where=path,
            remedy=f"expected the file's name, {', '.join(_COLUMNS)}",
        )
    samples = []
    for where, row in rows:
        name = safe_name(row[named], where, depth=2)
        keyword = str(name.parent)
        if keyword not in LABELS:
            raise UserError(
                f"unknown keyword {keyword!r}", where=where, remedy=f"expected one of {', '.join(LABELS)}"
            )
        shares = [unit_score(row[column], where) for column in columns[2:-1]]
        leader = LABELS[shares.index(max(shares))] if shares.count(max(shares)) == 1 else None
        samples.append(
            Sample(
                id=str(name),
                label=leader if label == "votes" else keyword,
                media_path=media_file(folder / "images" / name),
                media_kind="image",
            )
        )
    return own_split([sample for sample in distinct(samples, path) if sample.label is not None], split)


def _list(row: str) -> dict[str, str]:
    return {"ground_truth.txt": "\t".join(("filename", *_COLUMNS)) + f"\n{row}\n"}


# By the hash of their names these are of test.
_JOY = _list("anger/3.jpg\t4.5\t5.1\t0.1\t0\t0.1\t0.4\t0\t0\t0.4")
_FEAR = _list("sadness/6.jpg\t2.5\t4.1\t0\t0\t0.533333\t0\t0.466667\t0\t0")


def _task(
    name: str, label: Literal["votes", "keyword"], completions: tuple[str, str], published: float | None
) -> Task:
    return Task(
        name=name,
        benchmark="Emotion6",
        metric="accuracy",
        modality="image",
        splits=OWN_SPLITS,
        load=partial(load, label=label),
        question="What emotion do viewers feel?",
        labels=LABELS,
        answer=label_words,
        parse=one_label(LABELS),
        best=1.0,
        chance=1 / 6,
        examples=tuple(zip((_JOY, _FEAR), completions, strict=True)),
        protocol="ours",
        obtain=OBTAIN,
        license=LICENSE,
        paper=published is not None,
        published=published,
    )


TASKS = (
    # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), image emotion table, zero-shot, 49.71 %.
    _task("emotion6", "votes", ("joy", "fear"), 0.4971),
    _task("emotion6_keyword", "keyword", ("anger", "sadness"), None),
)
