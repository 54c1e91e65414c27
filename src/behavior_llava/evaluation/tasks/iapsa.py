"""IAPSa-8: which of eight emotions a picture of the IAPS evokes.

benchmark: IAPSa-8; no common file: here `labels.csv` with the columns picture and category, pictures in
    `images/<picture>.jpg`
paper: Mikels et al., Behavior Research Methods 2005, https://doi.org/10.3758/BF03192732
license: the IAPS is given to researchers on request and must not be passed on
splits: none is published for its 395 pictures; ours: a fifth is test, told by a hash of the picture's number
metric: top-1 accuracy over 8 classes, chance 12.5 %
published: 57.97 % (Behavior-LLaVA, zero-shot), 43.41 % (its base)
protocol: The paper scores the next token over the label words; its question and its split are not printed,
    five-fold cross-validation is usual. So the question is ours, and one fold is tested: which one,
    `own_split` in benchmarks.py says. The list is to be written by whoever has the pictures, from the
    categories Mikels et al. give for pictures of one category: no file of it is public.
"""

from __future__ import annotations

from pathlib import Path

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
)

# Source: Mikels et al. 2005 (https://doi.org/10.3758/BF03192732), four positive and four negative categories.
LABELS = ("amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness")

OBTAIN = (
    "ask for the IAPS at https://csea.phhp.ufl.edu/media.html, put its pictures into images/ and write "
    "labels.csv (picture,category) beside it, after https://doi.org/10.3758/BF03192732"
)
LICENSE = "the IAPS is given to researchers on request and must not be passed on"


def load(folder: Path, split: str) -> list[Sample]:
    """The rows of `labels.csv` that are in `split`, in its order; the id is the picture's number.

    Raises:
        UserError: the file is absent or has other columns, or a row is malformed.
    """
    known_split(split, OWN_SPLITS)
    path = folder / "labels.csv"
    samples = []
    for where, row in read_table(path, ("picture", "category"), OBTAIN):
        picture, label = row["picture"], row["category"]
        if label not in LABELS:
            raise UserError(
                f"unknown category {label!r}", where=where, remedy=f"expected one of {', '.join(LABELS)}"
            )
        # Numbers may have a point ("2375.1"), which is no suffix.
        image = media_file(folder / "images" / f"{safe_name(picture, where)}.jpg")
        samples.append(Sample(id=picture, label=label, media_path=image, media_kind="image"))
    return own_split(distinct(samples, path), split)


TASKS = (
    Task(
        name="iapsa",
        benchmark="IAPSa-8",
        metric="accuracy",
        modality="image",
        splits=OWN_SPLITS,
        load=load,
        question="What emotion do viewers feel?",
        labels=LABELS,
        answer=label_words,
        parse=one_label(LABELS),
        best=1.0,
        chance=1 / 8,
        # By the hash of their numbers 1010 and 1035 are of test.
        examples=(
            ({"labels.csv": "picture,category\n1010,fear\n"}, "fear"),
            ({"labels.csv": "picture,category\n1035,awe\n"}, "awe"),
        ),
        protocol="ours",
        format="ours",
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), image emotion table, zero-shot, 57.97 %.
        published=0.5797,
    ),
)
