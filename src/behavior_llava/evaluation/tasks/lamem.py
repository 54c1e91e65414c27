"""LaMem: how memorable an image is.

benchmark: LaMem; `splits/{train,val,test}_{1..5}.txt` with lines "<file>.jpg <score>", images in `images/`
paper: Khosla et al., ICCV 2015, http://memorability.csail.mit.edu
license: academic research and education only (the benchmark's page)
splits: five times train 45,000, val 3,741, test 10,000, of 58,741 images
metric: Spearman's rho between prediction and score; officially the mean over the five splits
published: 0.21 (Behavior-LLaVA, zero-shot), 0.13 (its base)
protocol: The paper does not say which splits it uses, so the first one is trained on and tested; the other
    four have their own names. A score of 0..1 is said as two digits, "00".."99"; the paper gives the digits
    but not the rounding: here round(99 * score), halves up, so that both ends of the scale can be said.
    Generated text counts only as two digits: one digit may be another scale. The paper's protocol has
    a softmax over the number tokens only, which is done in scoring.py and not here. The question is ours.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import distinct, known_split, media_file, read_rows, safe_name

SPLITS = tuple(f"{part}_{number}" for number in range(1, 6) for part in ("train", "val", "test"))

OBTAIN = (
    "unpack http://memorability.csail.mit.edu/lamem.tar.gz (academic use) and give the folder that holds "
    "splits and images"
)
LICENSE = "academic research and education only (the benchmark's page)"

_SCORE = re.compile(r"[01](\.[0-9]+)?")
# A sign, a point or a percent sign around the digits makes another number of them, so they are not stripped.
_TWO_DIGITS = re.compile(r"[\s\"'*(\[]*([0-9]{2})(?:[\s\"'*)\]!]|\.(?![0-9]))*")


def load(folder: Path, split: str) -> list[Sample]:
    """The rows of `splits/<split>.txt`, in its order; the label is the score, 0..1.

    Raises:
        UserError: the file is absent, or a row is malformed or has a score outside 0..1.
    """
    known_split(split, SPLITS)
    path = folder / "splits" / f"{split}.txt"
    samples = []
    for where, row in read_rows(path, OBTAIN):
        name, *scores = row.split()
        if len(scores) != 1 or not _SCORE.fullmatch(scores[0]) or float(scores[0]) > 1:
            raise UserError(f"found {row!r}", where=where, remedy='expected "<file>.jpg <score from 0 to 1>"')
        image = media_file(folder / "images" / safe_name(name, where))
        samples.append(Sample(id=name, label=float(scores[0]), media_path=image, media_kind="image"))
    return distinct(samples, path)


def answer(sample: Sample) -> str:
    """The score in two digits.

    Raises:
        ValueError: the sample's score is not released.
    """
    if sample.label is None:
        raise ValueError(f"sample {sample.id} has no score to answer with")
    return f"{math.floor(99 * sample.label + 0.5):02d}"


def parse(text: str) -> int | None:
    """The number 0..99 of a text which is two digits and nothing else; else None."""
    found = _TWO_DIGITS.fullmatch(text)
    return int(found[1]) if found else None


TASKS = (
    Task(
        name="lamem",
        benchmark="LaMem",
        metric="spearman",
        modality="image",
        splits=SPLITS,
        load=load,
        question="How memorable is this, from 00 to 99?",
        labels=(),
        answers="number",
        answer=answer,
        parse=parse,
        best=1.0,
        chance=0.0,
        examples=(
            ({"splits/test_1.txt": "00000001.jpg 0.675000\n"}, "67"),
            ({"splits/test_1.txt": "00000002.jpg 1.000000\n"}, "99"),
            ({"splits/test_1.txt": "00000003.jpg 0.050000\n"}, "05"),
        ),
        protocol="paper",
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), memorability table, zero-shot.
        published=0.21,
        scoring="expectation",
        test_split="test_1",
        train_split="train_1",
    ),
)
