"""Dense captioning: an image described in detail, graded by a judge model for three things apart.

benchmark: Image dense captioning. The paper names no data set, so the layout is ours: pictures in `images/`
    and lists `{train,test}.json` of rows {"image": file, "caption": text}, the caption left out where there
    is none; without any list, all pictures in `images/` are the test split
paper: Behavior-LLaVA, https://arxiv.org/abs/2405.00942 (its appendix has the judge's prompts)
license: that of the pictures put there
splits: as put there
metric: mean grade of a judge, 1 to 10, of correctness, detail and quality, each asked apart; a reply that
    cannot be read is 0
published: none that is comparable; the paper has 7.3 correctness, 8.1 detail, 7.9 quality (Behavior-LLaVA,
    zero-shot) and 7.4, 7.6, 7.2 (its base), on unnamed pictures and by GPT-4V
protocol: As the paper's: no references, the judge sees the picture and what was written (judge.py). Pictures,
    question and the form of the judge's reply are ours. A caption in a list is what a model may be shown or
    trained on, and is not compared. There is no truth to release, and a label of None would mean that it is
    kept back: the label is the same word everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    AbsentFileError,
    distinct,
    free_text,
    known_split,
    media_file,
    read_json,
    safe_name,
)

SPLITS = ("train", "test")
LABEL = "described"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""Of pictures, where there is no list."""

OBTAIN = (
    "put pictures into images/, and lists train.json and test.json beside it where captions are known: "
    "https://arxiv.org/abs/2405.00942 names no data set"
)
LICENSE = "that of the pictures put there"

_ROW = 'expected {"image": file} or {"image": file, "caption": text}'


def load(folder: Path, split: str) -> list[Sample]:
    """The rows of `<split>.json`, in its order; `fields` has `caption` where there is one.

    Without any list the test split is all pictures in `images/` by name.

    Raises:
        UserError: a file or the folder is absent, or a row is malformed.
    """
    known_split(split, SPLITS)
    path = folder / f"{split}.json"
    if split == "test" and not any((folder / f"{name}.json").is_file() for name in SPLITS):
        return _pictures(folder / "images")
    rows = read_json(path, OBTAIN)
    if not isinstance(rows, list) or not rows:
        raise UserError("expected a list of rows", where=path, remedy=_ROW)
    samples = [_sample(folder, row, f"{path} row {number}") for number, row in enumerate(rows, 1)]
    return distinct(samples, path)


def _pictures(images: Path) -> list[Sample]:
    if not images.is_dir():
        raise AbsentFileError("the layout has this folder, but it is not there", where=images, remedy=OBTAIN)
    found = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError("the folder holds no pictures", where=images, remedy=OBTAIN)
    return [
        Sample(id=path.name, label=LABEL, media_path=media_file(path), media_kind="image") for path in found
    ]


def _sample(folder: Path, row: Any, where: str) -> Sample:
    image, caption = (row.get("image"), row.get("caption")) if isinstance(row, dict) else (None, None)
    has_caption = isinstance(caption, str) and free_text(caption) is not None
    if not isinstance(image, str) or not (caption is None or has_caption):
        raise UserError(f"found {row!r}", where=where, remedy=_ROW)
    return Sample(
        id=image,
        label=LABEL,
        media_path=media_file(folder / "images" / safe_name(image, where)),
        media_kind="image",
        fields={} if caption is None else {"caption": caption},
    )


def answer(sample: Sample) -> str:
    """The caption of the list.

    Raises:
        ValueError: the sample has none.
    """
    if "caption" not in sample.fields:
        raise ValueError(f"sample {sample.id} has no caption to answer with")
    return sample.fields["caption"]


TASKS = tuple(
    Task(
        name=f"dense_caption_{criterion}",
        benchmark="Dense captioning",
        metric="judge_grade",
        modality="image",
        splits=SPLITS,
        load=load,
        question="What does this image show, described in every detail?",
        labels=(),
        answers="text",
        answer=answer,
        parse=free_text,
        scoring="judge",
        judged=f"caption_{criterion}",
        best=10.0,
        chance=None,
        examples=(
            (
                {"test.json": '[{"image": "a.jpg", "caption": "A red cup on a table."}]'},
                "A red cup on a table.",
            ),
            ({"test.json": '[{"image": "b.png", "caption": "Two dogs."}, {"image": "c.png"}]'}, "Two dogs."),
        ),
        obtain=OBTAIN,
        license=LICENSE,
        protocol="ours",
        format="ours",
        paper=True,
    )
    for criterion in ("correctness", "detail", "quality")
)
