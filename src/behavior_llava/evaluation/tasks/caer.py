"""CAER: which of seven emotions the people in a scene of a TV show have.

benchmark: CAER; no list: `CAER/{train,validation,test}/<class>/<number>.avi`, the folder is the label
paper: Lee et al., ICCV 2019, https://caer-dataset.github.io
license: no terms found; the scenes are those of 79 TV shows
splits: 13,201 scenes, train, validation and test about 70, 10 and 20 % (by the paper)
metric: top-1 accuracy over 7 classes, chance 14.29 %
published: 51.0 % (Behavior-LLaVA, zero-shot), 27.2 % (its base)
protocol: The paper says six basic emotions and gives the chance of seven classes, which is what the folders
    are; its question is not printed, so the question is ours, and it is of the people shown, whom the label
    is of. A folder has no order, and one class after the other would make the first n rows one class; so rows
    are ordered by number, classes in alphabetical order. The media are the list: none can be missing from it.
"""

from __future__ import annotations

from pathlib import Path

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    VIDEO_SUFFIXES,
    AbsentFileError,
    distinct,
    known_split,
    label_words,
    media_file,
    one_label,
)

SPLITS = ("train", "validation", "test")

# Source: the folders of https://caer-dataset.github.io.
LABELS = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")

OBTAIN = "get CAER as https://caer-dataset.github.io says and give the folder that holds CAER"
LICENSE = "no terms found; the scenes are those of 79 TV shows"


def load(folder: Path, split: str) -> list[Sample]:
    """The scenes of a split by number; the id is "<class>/<number>".

    Raises:
        UserError: the split's folder is absent, one of its classes is absent or empty, or it has another
            folder or a file that is no video.
    """
    known_split(split, SPLITS)
    base = folder / "CAER" / split
    if not base.is_dir():
        raise AbsentFileError(
            "the official layout has this folder, but it is not there", where=base, remedy=OBTAIN
        )
    found = {path.name for path in base.iterdir() if not path.name.startswith(".")}
    if found != set(LABELS):
        raise UserError(
            f"it holds {', '.join(sorted(found)) or 'nothing'}",
            where=base,
            remedy=f"expected the folders {', '.join(LABELS)}",
        )
    samples = [sample for label in LABELS for sample in _scenes(base / label)]
    samples.sort(key=lambda sample: (sample.id.partition("/")[2], sample.label))
    return distinct(samples, base)


def _scenes(folder: Path) -> list[Sample]:
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    for path in paths:
        if path.suffix.lower().lstrip(".") not in VIDEO_SUFFIXES:
            raise UserError(
                "the file is no video", where=path, remedy=f"expected {', '.join(VIDEO_SUFFIXES)}"
            )
    if not paths:
        raise UserError("the folder holds no videos", where=folder, remedy=OBTAIN)
    return [
        Sample(
            id=f"{folder.name}/{path.stem}",
            label=folder.name,
            media_path=media_file(path),
            media_kind="video",
        )
        for path in paths
    ]


def _files(first: str) -> dict[str, str]:
    """A test split in which a scene of class `first` comes before one of every class."""
    numbered = [(first, 1), *((label, 2) for label in LABELS)]
    return {f"CAER/test/{label}/{number:04d}.avi": "" for label, number in numbered}


TASKS = (
    Task(
        name="caer",
        benchmark="CAER",
        metric="accuracy",
        modality="video",
        splits=SPLITS,
        load=load,
        question="What emotion do the people in this video have?",
        labels=LABELS,
        answer=label_words,
        parse=one_label(LABELS),
        best=1.0,
        chance=1 / 7,
        examples=((_files("Fear"), "Fear"), (_files("Sad"), "Sad")),
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), video emotion table, zero-shot, 51.0 %.
        published=0.51,
    ),
)
