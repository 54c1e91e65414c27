"""MediaEval: how memorable a short video of the TRECVid collection is, at once and days later.

benchmark: MediaEval; `2021/trecvid/{train,dev}_scores.csv` and `2020/{scores_v2,dev_scores}.csv`, videos in
    `videos/<video_id>.<suffix>`
paper: Kiziltepe et al., Data in Brief 2021, https://arxiv.org/abs/2112.02303
license: none stated for the scores; the videos are under Creative Commons licences (the task's page)
splits: train 590, dev 410; the scores of the 500 of test are not among the files, so dev is tested here
metric: Spearman's rho between prediction and score, for each kind of score
published: 0.07 (Behavior-LLaVA, zero-shot), 0.02 (its base)
protocol: The paper cites the description of 2021 and says neither which score nor which videos it uses.
    `mediaeval` has the short-term score of 2021 corrected for how long ago the video was seen, as the scores
    of LaMem and Memento10k are. `mediaeval_raw` has it uncorrected, `mediaeval_long_term` the one of days
    later, and `mediaeval_2020`, `mediaeval_2020_long_term` have the two of 2020, of which dev is other videos
    than in 2021 and train is called scores_v2. The files are named as in
    https://github.com/MeMAD-project/media-memorability. Scores are said as LaMem's are, and the question is
    ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    distinct,
    known_split,
    number_words,
    one_number,
    read_table,
    safe_name,
    unit_score,
    video_file,
)

SPLITS = ("train", "dev")

# Source: https://github.com/MeMAD-project/media-memorability PicSOM_prediction/data.
LISTS_2020 = {"train": "2020/scores_v2.csv", "dev": "2020/dev_scores.csv"}
LISTS_2021 = {"train": "2021/trecvid/train_scores.csv", "dev": "2021/trecvid/dev_scores.csv"}

OBTAIN = (
    "get the folders 2020 and 2021 from PicSOM_prediction/data of "
    "https://github.com/MeMAD-project/media-memorability and give the folder that holds them, with the "
    "videos in videos/ beside them"
)
LICENSE = "none stated for the scores; the videos are under Creative Commons licences (the task's page)"


def load(folder: Path, split: str, *, lists: Mapping[str, str], score: str) -> list[Sample]:
    """The rows of a split's list, in its order; the label is the column `score`, 0..1.

    Raises:
        UserError: the file is absent or lacks a column, or a row is malformed or has a score outside 0..1.
    """
    known_split(split, SPLITS)
    path = folder / lists[split]
    samples = []
    for where, row in read_table(path, ("video_id", score), OBTAIN):
        name = safe_name(row["video_id"], where)
        samples.append(
            Sample(
                id=str(name),
                label=unit_score(row[score], where),
                media_path=video_file(folder / "videos", name),
                media_kind="video",
            )
        )
    return distinct(samples, path)


_HEADER_2020 = "video_id,video_url,ann_1,ann_2,part_1_scores,part_2_scores"
_HEADER_2021 = (
    "video_id,video_url,annotations_short_term,annotations_long_term,scores_raw_short_term,"
    "scores_raw_long_term,scores_normalized_short_term,decay_alpha"
)
_URL = "https://mtc.cdn.vine.co/1.mp4"
_FILES_2020 = tuple(
    {"2020/dev_scores.csv": f"{_HEADER_2020}\n{row}\n"}
    for row in (f"34,{_URL},13,7,0.92,0.86", f"57,{_URL},12,9,1.00,0.05")
)
_FILES_2021 = tuple(
    {"2021/trecvid/dev_scores.csv": f"{_HEADER_2021}\n{row}\n"}
    for row in (f"11, {_URL},16,7,0.69,0.57,0.6874999938844716,0.0", f"12, {_URL},17,9,0.76,0.1,0.9,-0.008")
)


def _task(
    name: str, year: int, score: str, completions: tuple[str, str], published: float | None = None
) -> Task:
    return Task(
        name=name,
        benchmark="MediaEval",
        metric="spearman",
        modality="video",
        splits=SPLITS,
        load=partial(load, lists=LISTS_2020 if year == 2020 else LISTS_2021, score=score),
        question="How memorable is this, from 00 to 99?",
        labels=(),
        answers="number",
        answer=number_words(),
        parse=one_number(),
        best=1.0,
        chance=0.0,
        examples=tuple(zip(_FILES_2020 if year == 2020 else _FILES_2021, completions, strict=True)),
        protocol="official" if published is None else "paper",
        format="third_party",
        obtain=OBTAIN,
        license=LICENSE,
        paper=published is not None,
        published=published,
        scoring="expectation",
        test_split="dev",
    )


TASKS = (
    # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), memorability table, zero-shot.
    _task("mediaeval", 2021, "scores_normalized_short_term", ("68", "89"), 0.07),
    _task("mediaeval_raw", 2021, "scores_raw_short_term", ("68", "75")),
    _task("mediaeval_long_term", 2021, "scores_raw_long_term", ("56", "10")),
    _task("mediaeval_2020", 2020, "part_1_scores", ("91", "99")),
    _task("mediaeval_2020_long_term", 2020, "part_2_scores", ("85", "05")),
)
