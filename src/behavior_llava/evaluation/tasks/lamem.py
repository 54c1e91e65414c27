"""LaMem: how memorable an image is.

benchmark: LaMem; `splits/{train,val,test}_{1..5}.txt` with lines "<file>.jpg <score>", images in `images/`
paper: Khosla et al., ICCV 2015, http://memorability.csail.mit.edu
license: academic research and education only (the benchmark's page)
splits: five times train 45,000, val 3,741, test 10,000, of 58,741 images
metric: Spearman's rho between prediction and score; officially the mean over the five splits
published: 0.21 (Behavior-LLaVA, zero-shot), 0.13 (its base)
protocol: The paper does not say which splits it uses, so `lamem` trains on and tests the first one; the other
    four are the tasks `lamem_split_2` to `lamem_split_5`, and the official result is the mean over all five.
    A score of 0..1 is said as two digits, "00".."99". Generated text counts only as two digits: one digit may
    be another scale. The paper's protocol has a softmax over the number tokens only, which is done in
    scoring.py and not here. The question is ours.
"""

from __future__ import annotations

from pathlib import Path

from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import known_split, number_words, one_number, score_list

SPLITS = tuple(f"{part}_{number}" for number in range(1, 6) for part in ("train", "val", "test"))

OBTAIN = (
    "unpack http://memorability.csail.mit.edu/lamem.tar.gz (academic use) and give the folder that holds "
    "splits and images"
)
LICENSE = "academic research and education only (the benchmark's page)"


def load(folder: Path, split: str) -> list[Sample]:
    """The rows of `splits/<split>.txt`, in its order; the label is the score, 0..1.

    Raises:
        UserError: the file is absent, or a row is malformed or has a score outside 0..1.
    """
    known_split(split, SPLITS)
    return score_list(folder, split, OBTAIN)


def _task(number: int) -> Task:
    is_first = number == 1
    return Task(
        name="lamem" if is_first else f"lamem_split_{number}",
        benchmark="LaMem",
        metric="spearman",
        modality="image",
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
            ({f"splits/test_{number}.txt": "00000001.jpg 0.675000\n"}, "67"),
            ({f"splits/test_{number}.txt": "00000002.jpg 1.000000\n"}, "99"),
            ({f"splits/test_{number}.txt": "00000003.jpg 0.050000\n"}, "05"),
        ),
        protocol="paper" if is_first else "official",
        obtain=OBTAIN,
        license=LICENSE,
        paper=is_first,
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), memorability table, zero-shot.
        published=0.21 if is_first else None,
        scoring="expectation",
        test_split=f"test_{number}",
        train_split=f"train_{number}",
    )


TASKS = tuple(_task(number) for number in range(1, 6))
