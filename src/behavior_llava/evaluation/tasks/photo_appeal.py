"""Photo appeal: how much a crowd, asked for its votes, likes a photo.

benchmark: SophoAppeal; its real photos as `behaviour.csv` (image, source, likes, views, crowd_mos) and images
paper: Goering and Raake, the repository's README; files:
    https://github.com/Telecommunication-Telemedia-Assessment/sophoappeal_images
license: images CC0, list GPL-3.0
splits: none official; twenty times half and half of every platform's photos, by a hash (train_1, test_1, ...)
metric: Spearman's rho between prediction and mean vote, over both platforms together; within each it is to be
    computed from the predictions, whose ids begin with the platform
published: nothing
protocol: Not among the paper's benchmarks. The votes (1 to 5, some twenty-five people a photo) are of other
    people than those who liked the photo on its platform, so that a model that learned from likes of one half
    is asked about votes on the other. Likes depend on how many saw a photo; so do no votes.
"""

from __future__ import annotations

from pathlib import Path

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.data.sources import sophoappeal
from behavior_llava.evaluation.benchmarks import (
    known_split,
    media_file,
    number_words,
    one_number,
    read_text,
    safe_name,
)

SPLITS = tuple(
    f"{part}_{number}" for number in range(1, sophoappeal.NUM_SPLITS + 1) for part in ("train", "test")
)
SCALE = (1.0, 5.0)
QUESTION = "How much do people like this, from 00 to 99?"

OBTAIN = (
    "get the real photos of https://github.com/Telecommunication-Telemedia-Assessment/sophoappeal_images and "
    "give the folder that holds behaviour.csv"
)
LICENSE = "images CC0, list GPL-3.0"


def load(folder: Path, split: str) -> list[Sample]:
    """The photos of one half that were voted on, in the list's order; the label is the mean vote as it is.

    Raises:
        UserError: the list is absent or malformed, or a vote lies outside 1 to 5.
    """
    known_split(split, SPLITS)
    part, _, number = split.partition("_")
    path = folder / sophoappeal.FILE
    read_text(path, OBTAIN)  # whose absence is told as every benchmark's
    samples = []
    for row in sophoappeal.half(sophoappeal.rows_of(folder), int(number), of=part):
        if not row["crowd_mos"]:
            continue  # nobody voted
        where = f"{path}: {row['image']}"
        image = media_file(folder / safe_name(row["image"], where, depth=2))
        samples.append(
            Sample(
                id=f"{row['source']}:{Path(row['image']).stem}",
                label=vote(row["crowd_mos"], where, column="crowd_mos"),
                media_path=image,
                media_kind="image",
            )
        )
    return samples


def vote(text: str, where: str, *, column: str) -> float:
    """A mean vote.

    Raises:
        UserError: it is no number of 1 to 5.
    """
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not SCALE[0] <= found <= SCALE[1]:
        raise UserError(f"found {column} {text!r}", where=where, remedy="expected a mean vote from 1 to 5")
    return found


def _list(votes: str) -> dict[str, str]:
    """A list of two photos, both with this vote: one of them is tested in every split."""
    rows = "".join(f"images/{name}.jpg,500px_cc0,52,152,{votes}\n" for name in ("a", "b"))
    return {"behaviour.csv": f"image,source,likes,views,crowd_mos\n{rows}"}


TASKS = (
    Task(
        name="photo_appeal",
        benchmark="SophoAppeal",
        metric="spearman",
        modality="image",
        splits=SPLITS,
        load=load,
        question=QUESTION,
        labels=(),
        answers="number",
        scale=SCALE,
        answer=number_words(SCALE),
        parse=one_number(SCALE),
        best=1.0,
        chance=0.0,
        examples=((_list("3.0"), "50"), (_list("1"), "00")),
        protocol="ours",
        format="ours",
        obtain=OBTAIN,
        license=LICENSE,
        scoring="expectation",
        test_split="test_1",
        train_split="train_1",
    ),
)
