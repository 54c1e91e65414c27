"""MSRVTT-QA: short questions on web videos.

benchmark: MSRVTT-QA; `{train,val,test}_qa.json`, each a list of {answer, id, question, video_id}, in some
    copies with category_id
paper: Xu et al., ACM Multimedia 2017, https://doi.org/10.1145/3123266.3123427; files:
    https://github.com/xudejing/video-question-answering
license: the code is MIT, none is stated for the data; the videos are YouTube's
splits: questions train 158,581, val 12,278, test 72,821 on 10,000 videos; ids run on over the splits
metric: share of answers that a judge finds right; also the judge's mean score, 0 to 5, and exact match
published: 59.2 % right, score 3.4 (Behavior-LLaVA, zero-shot); 59.0 % and 3.3 (its base)
protocol: As msvd_qa's: free answers, of which the first line counts, and a judge; the paper's is
    gpt-3.5-turbo. The question is the sample's own, with a "?" where it has none. A video is looked for as
    `video/video<video_id>.<suffix>`, the name MSR-VTT gives it.
"""

from __future__ import annotations

from pathlib import Path

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample
from behavior_llava.evaluation.benchmarks import distinct, known_split, safe_name, video_file
from behavior_llava.evaluation.video_questions import ROW, SPLITS, judged, rows, sample

OBTAIN = (
    "get MSRVTT-QA as https://github.com/xudejing/video-question-answering says and give the folder that "
    "holds test_qa.json, with the videos in video/"
)
LICENSE = "the code is MIT, none is stated for the data; the videos are YouTube's"


def load(folder: Path, split: str) -> list[Sample]:
    """The questions of `<split>_qa.json`, in its order; `fields` has `category_id`, None where there is none.

    Raises:
        UserError: the file is absent, or a row is malformed.
    """
    known_split(split, SPLITS)
    path = folder / f"{split}_qa.json"
    samples = []
    for where, row in rows(path, ROW, OBTAIN):
        video, category = row["video_id"], row.get("category_id")
        if category is not None and (not isinstance(category, int) or isinstance(category, bool)):
            raise UserError(f"category_id is {category!r}", where=where, remedy="expected a number")
        name = safe_name(f"video{video}" if isinstance(video, int) else video, where)
        found = video_file(folder / "video", name)
        samples.append(sample(row, str(row["id"]), str(video), found, category_id=category))
    return distinct(samples, path)


def _example(answer: str, more: str = "") -> dict[str, str]:
    row = f'{{"answer": "{answer}", "id": 170859, "question": "what is cooked", "video_id": 7010{more}}}'
    return {"test_qa.json": f"[{row}]"}


TASKS = (
    judged(
        "msrvtt_qa",
        "MSRVTT-QA",
        load,
        ((_example("rice"), "rice"), (_example("soup", ', "category_id": 16'), "soup")),
        (OBTAIN, LICENSE),
        # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), video question answering table, 59.2 %.
        0.592,
    ),
)
