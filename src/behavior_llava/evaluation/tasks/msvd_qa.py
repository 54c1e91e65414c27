"""MSVD-QA: short questions on short video clips.

benchmark: MSVD-QA; `{train,val,test}_qa.json`, each a list of {answer, id, question, video_id}, and
    `youtube_mapping.txt` with lines "<clip> vid<number>"
paper: Xu et al., ACM Multimedia 2017, https://doi.org/10.1145/3123266.3123427; files:
    https://github.com/xudejing/video-question-answering
license: the code is MIT, none is stated for the data; the clips are YouTube's
splits: questions train 30,933, val 6,415, test 13,157 on 1,970 clips; ids run on over the splits
metric: share of answers that a judge finds right; also the judge's mean score, 0 to 5, and exact match
published: 70.1 % right, score 3.7 (Behavior-LLaVA, zero-shot); 70.0 % and 3.7 (its base)
protocol: That of Video-ChatGPT (https://arxiv.org/abs/2306.05424): a model answers freely, gpt-3.5-turbo
    judges; numbers of another judge are not the published ones. The paper's script asks again until a reply
    can be read and counts yes / (yes + no); here a reply that cannot be read is wrong. The question is the
    sample's own, with a "?" where it has none; what counts as the answer is the first line. A clip is looked
    for in `video/`, as `vid<video_id>` or by the name youtube_mapping.txt has for that; converted files have
    that name as video_id.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample
from behavior_llava.evaluation.benchmarks import distinct, known_split, read_rows, safe_name, video_file
from behavior_llava.evaluation.video_questions import ROW, SPLITS, judged, rows, sample

OBTAIN = (
    "get MSVD-QA as https://github.com/xudejing/video-question-answering says and give the folder that "
    "holds test_qa.json, with the clips in video/"
)
LICENSE = "the code is MIT, none is stated for the data; the clips are YouTube's"


def load(folder: Path, split: str) -> list[Sample]:
    """The questions of `<split>_qa.json`, in its order.

    Raises:
        UserError: the file is absent, or a row or the mapping is malformed.
    """
    known_split(split, SPLITS)
    path = folder / f"{split}_qa.json"
    clips = _clips(folder / "youtube_mapping.txt")
    samples = []
    for where, row in rows(path, ROW, OBTAIN):
        video = row["video_id"]
        name = str(safe_name(f"vid{video}" if isinstance(video, int) else video, where))
        found = video_file(folder / "video", name)
        if found is None and name in clips:
            found = video_file(folder / "video", clips[name])
        samples.append(sample(row, str(row["id"]), str(video), found))
    return distinct(samples, path)


def _clips(path: Path) -> Mapping[str, str]:
    """vid<number> -> the clip's own name and the other way round; nothing where there is no mapping."""
    found: dict[str, str] = {}
    for where, row in read_rows(path, OBTAIN) if path.is_file() else ():
        clip, _, number = row.partition(" ")
        if not number.startswith("vid"):
            raise UserError(f"found {row!r}", where=where, remedy='expected "<clip> vid<number>"')
        names = str(safe_name(clip, where)), str(safe_name(number, where))
        found |= dict(zip(names, reversed(names), strict=True))
    return found


def _example(answer: str) -> dict[str, str]:
    row = f'{{"answer": "{answer}", "id": 37348, "question": "what is sliced?", "video_id": 1301}}'
    return {"test_qa.json": f"[{row}]"}


TASKS = (
    judged(
        "msvd_qa",
        "MSVD-QA",
        load,
        ((_example("onion"), "onion"), (_example(" bread "), "bread")),
        (OBTAIN, LICENSE),
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), video question answering table, 70.1 %.
        0.701,
    ),
)
