"""Persuasion strategies of video advertisements: with what an advertisement wants to persuade.

benchmark: the persuasion strategies of Bhattacharya et al., of which no file is public. A format of ours:
    `persuasion.json` {video id: [strategy, ...]}, `{train,val,test}.txt` with an id a line, and the videos as
    `videos/<id>.<suffix>`
paper: Bhattacharya et al., EMNLP 2023, https://arxiv.org/abs/2305.09758
license: not released ("Dataset coming soon" on the project's page)
splits: 1,002 videos of 2,203; how they are split is not known, so whoever has them brings the lists
metric: top-1 accuracy over 12 strategies; a hit is any of those a video has
published: 13.39 % (Behavior-LLaVA, zero-shot, with the video alone)
protocol: The paper follows its predecessor's (above): the likeliest strategy is right when it is among the
    video's; the top 5 and a mean average precision, which that reports too, are left out. The data set of the
    same name for images (https://github.com/midas-research/persuasion-advertisements) has another vocabulary
    and is not this one. A fine-tuned model learns the first strategy listed. Strategies are one to three
    words long and so compared by the mean of their tokens. The question is ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    distinct,
    known_split,
    one_label,
    read_json,
    read_rows,
    safe_name,
    video_file,
)

SPLITS = ("train", "val", "test")

# Source: Bhattacharya et al. 2023 (https://arxiv.org/abs/2305.09758), the strategies of its video ads.
LABELS = (
    "Social Identity",
    "Concreteness",
    "Anchoring and Comparison",
    "Overcoming Reactance",
    "Reciprocity",
    "Foot-in-the-Door",
    "Authority",
    "Social Impact",
    "Anthropomorphism",
    "Scarcity",
    "Social Proof",
    "Unclear",
)

OBTAIN = (
    "the data set is not released: ask the authors of https://arxiv.org/abs/2305.09758, write "
    "persuasion.json and train.txt, val.txt, test.txt as this task's file says, and give their folder"
)
LICENSE = 'not released ("Dataset coming soon" on the project\'s page)'


def load(folder: Path, split: str) -> list[Sample]:
    """The videos of `<split>.txt`, in its order; the label is the list of the strategies of each.

    Raises:
        UserError: a file is absent or malformed, or a listed video has no, repeated or unknown strategies.
    """
    known_split(split, SPLITS)
    listed, path = folder / f"{split}.txt", folder / "persuasion.json"
    rows = read_rows(listed, OBTAIN)
    strategies = read_json(path, OBTAIN)
    if not isinstance(strategies, dict):
        raise UserError("expected {video id: [strategy, ...]}", where=path, remedy=OBTAIN)
    samples = []
    for where, row in rows:
        name = str(safe_name(row, where))
        if name not in strategies:
            raise UserError(
                f"{name!r} is not in {path.name}", where=where, remedy="take it out or annotate it"
            )
        label = _known(strategies[name], f"{path} {name!r}")
        video = video_file(folder / "videos", name)
        samples.append(Sample(id=name, label=label, media_path=video, media_kind="video"))
    return distinct(samples, listed)


def _known(value: Any, where: str) -> list[str]:
    is_list = isinstance(value, list) and bool(value)
    if not is_list or any(one not in LABELS for one in value) or len(set(value)) < len(value):
        raise UserError(
            f"found {value!r}", where=where, remedy=f"expected a list of some of {', '.join(LABELS)}"
        )
    return value


def answer(sample: Sample) -> str:
    """The first of the video's strategies.

    Raises:
        ValueError: they are not released.
    """
    if sample.label is None:
        raise ValueError(f"sample {sample.id} has no strategy to answer with")
    return sample.label[0]


TASKS = (
    Task(
        name="persuasion",
        benchmark="Persuasion",
        metric="accuracy",
        modality="video",
        splits=SPLITS,
        load=load,
        question="Which persuasion strategy does this advertisement use?",
        labels=LABELS,
        answer=answer,
        parse=one_label(LABELS),
        best=1.0,
        chance=1 / 12,
        examples=(
            ({"test.txt": "a1\n", "persuasion.json": '{"a1": ["Scarcity", "Authority"]}'}, "Scarcity"),
            ({"test.txt": "-b\n", "persuasion.json": '{"-b": ["Foot-in-the-Door"]}'}, "Foot-in-the-Door"),
        ),
        obtain=OBTAIN,
        license=LICENSE,
        protocol="paper",
        format="ours",
        paper=True,
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), advertisement table, zero-shot, 13.39 %.
        published=0.1339,
        scoring="mean",
    ),
)
