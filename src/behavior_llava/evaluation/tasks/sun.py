"""SUN memorability: how memorable an image of a scene is.

benchmark: SUN; `splits/{train,test}_{1..25}.txt` with lines "<file>.jpg <score>", images in `images/`
paper: Isola et al., CVPR 2011, http://web.mit.edu/phillipi/Public/WhatMakesAnImageMemorable
license: none stated
splits: 25 times half and half of 2,222 images
metric: Spearman's rho between prediction and score; officially the mean over the 25 splits
published: 0.13 (Behavior-LLaVA, zero-shot), 0.05 (its base)
protocol: The release is Matlab's; the lists read are AMNet's, in LaMem's format and without validation parts.
    The paper does not say which split it uses: the first one is trained on and tested here. Scores are said
    as LaMem's are, and the question is ours.
"""

from __future__ import annotations

from pathlib import Path

from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import known_split, number_words, one_number, score_list

SPLITS = tuple(f"{part}_{number}" for number in range(1, 26) for part in ("train", "test"))

OBTAIN = (
    "get the SUN memorability package through https://github.com/ok1zjf/AMNet and give the folder that holds "
    "splits and images"
)
LICENSE = "none stated"


def load(folder: Path, split: str) -> list[Sample]:
    """The rows of `splits/<split>.txt`, in its order; the label is the score, 0..1.

    Raises:
        UserError: the file is absent, or a row is malformed or has a score outside 0..1.
    """
    known_split(split, SPLITS)
    return score_list(folder, split, OBTAIN)


TASKS = (
    Task(
        name="sun",
        benchmark="SUN",
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
            ({"splits/test_1.txt": "sun_aaakbzrpnlbwlkuo.jpg 0.862000\n"}, "85"),
            ({"splits/test_1.txt": "sun_aabolasekpqvbqfw.jpg 0.4\n"}, "40"),
        ),
        protocol="paper",
        format="third_party",
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), memorability table, zero-shot.
        published=0.13,
        scoring="expectation",
        test_split="test_1",
        train_split="train_1",
    ),
)
