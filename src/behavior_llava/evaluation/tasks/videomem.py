"""VideoMem: how memorable a video of seven seconds is, minutes and days later.

benchmark: VideoMem; `ground-truth_dev-set.csv`, videos in `videos/`
paper: Cohendet et al., ICCV 2019, https://arxiv.org/abs/1812.01973
license: InterDigital's own, accepted on its download page
splits: 8,000 development videos have released scores; ours of these: a fifth is test, told by a hash of the
    file's name. The scores of the 2,000 test videos were never released
metric: Spearman's rho between prediction and score
published: 0.08 (Behavior-LLaVA, zero-shot), 0.05 (its base)
protocol: The paper says neither which videos it tests nor which of the two scores. Everybody cuts a test
    split from the 8,000: which fifth is ours, `own_split` in benchmarks.py says. `videomem` has the
    short-term score, for which every video has the more answers and which most papers report;
    `videomem_long_term` the other. Scores are said as LaMem's are, and the question is ours.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    OWN_SPLITS,
    distinct,
    known_split,
    number_words,
    one_number,
    own_split,
    read_table,
    safe_name,
    unit_score,
    video_file,
)

OBTAIN = (
    "get VideoMem at https://www.interdigital.com/data_sets/video-memorability-dataset and give the folder "
    "that holds ground-truth_dev-set.csv, with its videos in videos/ beside it"
)
LICENSE = "InterDigital's own, accepted on its download page"


def load(folder: Path, split: str, *, term: Literal["short", "long"]) -> list[Sample]:
    """The rows of the list that are in `split`, in its order; the label is the score of that term, 0..1.

    Raises:
        UserError: the file is absent or lacks a column, or a row is malformed or has a score outside 0..1.
    """
    known_split(split, OWN_SPLITS)
    path = folder / "ground-truth_dev-set.csv"
    column = f"{term}-term_memorability"
    samples = []
    for where, row in read_table(path, ("video", column), OBTAIN):
        name = safe_name(row["video"], where)
        samples.append(
            Sample(
                id=str(name),
                label=unit_score(row[column], where),
                media_path=video_file(folder / "videos", name),
                media_kind="video",
            )
        )
    return own_split(distinct(samples, path), split)


_HEADER = (
    "video,short-term_memorability,nb_short-term_annotations,long-term_memorability,nb_long-term_annotations"
)
# By the hash of their names videos 7 and 12 are of test.
_FILES = tuple(
    {"ground-truth_dev-set.csv": f"{_HEADER}\n{row}\n"}
    for row in ("video7.webm,0.924,34,0.846,13", "video12.webm,0.5,30,0.0,10")
)


def _task(
    name: str, term: Literal["short", "long"], completions: tuple[str, str], published: float | None
) -> Task:
    return Task(
        name=name,
        benchmark="VideoMem",
        metric="spearman",
        modality="video",
        splits=OWN_SPLITS,
        load=partial(load, term=term),
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
    _task("videomem", "short", ("91", "50"), 0.08),
    _task("videomem_long_term", "long", ("84", "00"), None),
)
