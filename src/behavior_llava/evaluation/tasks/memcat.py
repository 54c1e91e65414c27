"""MemCat: how memorable an image of one of five categories is.

benchmark: MemCat; `memcat_image_data.csv`, images in `images/<category>/<subcategory>/` or in `images/`
paper: Goetschalckx and Wagemans, PeerJ 2019, http://gestaltrevision.be/projects/memcat
license: none stated; the images are those of ImageNet, COCO, SUN and Open Images
splits: none is published for its 10,000 images; ours: a fifth (2,018) is test, told by a hash of the file's
    name
metric: Spearman's rho between prediction and score
published: 0.17 (Behavior-LLaVA, zero-shot), 0.11 (its base)
protocol: The list has two scores, the hits alone (mean 0.758) and the hits less the false alarms (mean
    0.693), and the paper does not say which it uses. `memcat` has the second, as is usual;
    `memcat_uncorrected` has the first. The paper speaks of provided splits, but none are: which fifth is
    tested, `own_split` in benchmarks.py says. Scores are said as LaMem's are, and the question is ours.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    OWN_SPLITS,
    distinct,
    known_split,
    media_file,
    number_words,
    one_number,
    own_split,
    read_table,
    safe_name,
    unit_score,
)

CORRECTED, UNCORRECTED = "memorability_w_fa_correction", "memorability_wo_fa_correction"

OBTAIN = (
    "get MemCat at http://gestaltrevision.be/projects/memcat and give the folder that holds "
    "memcat_image_data.csv, with its images in images/ beside it"
)
LICENSE = "none stated; the images are those of ImageNet, COCO, SUN and Open Images"


def load(folder: Path, split: str, *, score: str) -> list[Sample]:
    """The rows of the list that are in `split`, in its order; the label is the column `score`, 0..1.

    Raises:
        UserError: the file is absent or lacks a column, or a row is malformed or has a score outside 0..1.
    """
    known_split(split, OWN_SPLITS)
    path = folder / "memcat_image_data.csv"
    samples = []
    for where, row in read_table(path, ("image_file", "category", "subcategory", score), OBTAIN):
        name = safe_name(row["image_file"], where)
        sorted_in = safe_name(f"{row['category']}/{row['subcategory']}/{name}", where, depth=3)
        images = folder / "images"
        samples.append(
            Sample(
                id=str(name),
                label=unit_score(row[score], where),
                media_path=media_file(images / sorted_in) or media_file(images / name),
                media_kind="image",
                fields={"category": row["category"]},
            )
        )
    return own_split(distinct(samples, path), split)


def _files(name: str, uncorrected: str, corrected: str) -> dict[str, str]:
    columns = ("", "image_file", "category", "subcategory", UNCORRECTED, CORRECTED)
    row = ("1", name, "animal", "bear", uncorrected, corrected)
    lines = [",".join(f'"{value}"' for value in values) for values in (columns, row)]
    return {"memcat_image_data.csv": "\n".join(lines) + "\n"}


# By the hash of their names both are of test.
_FILES = (_files("000000000008.jpg", "0.8", "0.75"), _files("000000000013.jpg", "0.5", "0.1"))


def _task(name: str, score: str, completions: tuple[str, str], published: float | None) -> Task:
    return Task(
        name=name,
        benchmark="MemCat",
        metric="spearman",
        modality="image",
        splits=OWN_SPLITS,
        load=partial(load, score=score),
        question="How memorable is this, from 00 to 99?",
        labels=(),
        answers="number",
        answer=number_words(),
        parse=one_number(),
        best=1.0,
        chance=0.0,
        examples=tuple(zip(_FILES, completions, strict=True)),
        protocol="ours",
        obtain=OBTAIN,
        license=LICENSE,
        paper=published is not None,
        published=published,
        scoring="expectation",
    )


TASKS = (
    # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), memorability table, zero-shot.
    _task("memcat", CORRECTED, ("74", "10"), 0.17),
    _task("memcat_uncorrected", UNCORRECTED, ("79", "50"), None),
)
