"""Appeal of generated pictures: how much a crowd likes what five generators drew.

benchmark: AVT-AI-Images; `all_ratings.csv` (image_key, db, appeal_mean), pictures `images/<image_key>.png` or
    `.jpg`
paper: Goering et al., Analysis of Appeal for Realistic AI-Generated Photos, IEEE Access 2023; files:
    https://github.com/Telecommunication-Telemedia-Assessment/avt_ai_images
license: GPL-3.0 (the repository, data included)
splits: none official; ours: a fifth is test, told by a hash of the key; "all" has every generated picture,
    for a test of models that saw none of them
metric: Spearman's rho between prediction and mean vote, over all generators together; within each it is to be
    computed from the predictions, whose ids begin with the generator
published: nothing
protocol: Not among the paper's benchmarks. Asked as the votes on photos are (tasks/photo_appeal.py), of
    pictures that nobody took and that have no likes: what a model learned from likes of photos is out of its
    domain here. Votes are of 1 to 5. The list also has pictures of the authors (`own`), found the most
    realistic by far; they are no generated ones and are left out.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

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
)
from behavior_llava.evaluation.tasks import photo_appeal

SPLITS = (*OWN_SPLITS, "all")
FILE, OWN = "all_ratings.csv", "own"
SUFFIXES = ("png", "jpg")

OBTAIN = (
    "get https://github.com/Telecommunication-Telemedia-Assessment/avt_ai_images and give the folder that "
    "holds all_ratings.csv (of its evaluation/) and images/"
)
LICENSE = "GPL-3.0"


def load(folder: Path, split: str) -> list[Sample]:
    """The generated pictures of the list that are in `split`, in its order; the label is the mean vote.

    Raises:
        UserError: the list is absent or malformed, or a vote lies outside 1 to 5.
    """
    known_split(split, SPLITS)
    path = folder / FILE
    samples = []
    for where, row in read_table(path, ("image_key", "db", "appeal_mean"), OBTAIN):
        key = safe_name(row["image_key"], where, depth=2)
        if row["db"] == OWN:
            continue
        samples.append(
            Sample(
                id=":".join(key.parts),
                label=photo_appeal.vote(row["appeal_mean"], where, column="appeal_mean"),
                media_path=_picture(folder / "images", key),
                media_kind="image",
            )
        )
    found = distinct(samples, path)
    return found if split == "all" else own_split(found, split)


def _picture(folder: Path, key: PurePosixPath) -> str | None:
    # suffixes are added, not put in place of one: a key may hold a dot
    paths = (folder / key.parent / f"{key.name}.{suffix}" for suffix in SUFFIXES)
    return next((found for path in paths if (found := media_file(path)) is not None), None)


def _list(votes: str) -> dict[str, str]:
    return {FILE: f"image_key,db,appeal_mean\ncraiyon/p09,craiyon,{votes}\n"}


TASKS = (
    Task(
        name="ai_image_appeal",
        benchmark="AVT-AI-Images",
        metric="spearman",
        modality="image",
        splits=SPLITS,
        load=load,
        question=photo_appeal.QUESTION,
        labels=(),
        answers="number",
        scale=photo_appeal.SCALE,
        answer=number_words(photo_appeal.SCALE),
        parse=one_number(photo_appeal.SCALE),
        best=1.0,
        chance=0.0,
        examples=((_list("3.0"), "50"), (_list("1"), "00")),
        protocol="ours",
        format="ours",
        obtain=OBTAIN,
        license=LICENSE,
        scoring="expectation",
    ),
)
