"""ActivityNet-QA: questions on long videos of what people do.

benchmark: ActivityNet-QA; `{train,val,test}_q.json`, each a list of {video_name, question, question_id}, and
    `{train,val,test}_a.json`, each a list of {answer, type, question_id}
paper: Yu et al., AAAI 2019, https://arxiv.org/abs/1906.02467; files: https://github.com/MILVLG/activitynet-qa
license: MIT and for non-commercial use by its README, Apache-2.0 by its license file
splits: questions train 32,000, val 18,000, test 8,000 on 3,200, 1,800 and 800 videos
metric: share of answers that a judge finds right; also the judge's mean score, 0 to 5, and exact match;
    officially exact match (activitynet_qa_official)
published: 47.5 % right, score 3.3 (Behavior-LLaVA, zero-shot); 47.4 % and 3.3 (its base)
protocol: As msvd_qa's: free answers, of which the first line counts, and a judge; the paper's is
    gpt-3.5-turbo. Officially accuracy is told per type of question too (0 motion, 1 spatial, 2 temporal, 3
    yes or no, 4 color, 5 object, 6 location, 7 number, 8 other): each sample keeps its `type`, but only the
    whole is scored here. Exact match passes over case and what is around an answer. The files ask without a
    "?", which is put behind. A video is looked for as `videos/v_<video_name>.<suffix>`, ActivityNet's name
    for it, or without the "v_".
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample
from behavior_llava.evaluation.benchmarks import distinct, known_split, safe_name, video_file
from behavior_llava.evaluation.video_questions import SPLITS, judged, rows, sample

# Source: https://github.com/MILVLG/activitynet-qa, README, the types 0..8 of a question.
TYPES = range(9)

OBTAIN = (
    "get the folder dataset of https://github.com/MILVLG/activitynet-qa, which holds test_q.json, and put "
    "ActivityNet's videos in videos/ there"
)
LICENSE = "MIT and for non-commercial use by its README, Apache-2.0 by its license file"


def load(folder: Path, split: str) -> list[Sample]:
    """The questions of `<split>_q.json`, in its order; `fields` has `type`, 0 to 8.

    Raises:
        UserError: a file is absent, a row is malformed, or a question has no answer or an answer no question.
    """
    known_split(split, SPLITS)
    asked, answered = folder / f"{split}_q.json", folder / f"{split}_a.json"
    answers = {}
    for where, row in rows(answered, {"answer": str, "type": int, "question_id": str}, OBTAIN):
        if row["type"] not in TYPES:
            raise UserError(f"type is {row['type']}", where=where, remedy="expected 0 to 8")
        if row["question_id"] in answers:
            raise UserError(f"{row['question_id']!r} is answered twice", where=where, remedy=OBTAIN)
        answers[row["question_id"]] = row
    samples = []
    for where, row in rows(asked, {"video_name": str, "question": str, "question_id": str}, OBTAIN):
        name, answer = row["question_id"], answers.get(row["question_id"])
        if answer is None:
            raise UserError(f"{name!r} has no answer in {answered.name}", where=where, remedy=OBTAIN)
        video = str(safe_name(row["video_name"], where))
        videos = folder / "videos"
        found = video_file(videos, f"v_{video}") or video_file(videos, video)
        samples.append(sample(row | answer, name, video, found, type=answer["type"]))
    lonely = answers.keys() - {sample.id for sample in samples}
    if lonely:
        raise UserError(f"{min(lonely)!r} has no question in {asked.name}", where=answered, remedy=OBTAIN)
    return distinct(samples, asked)


def _example(answer: str, kind: int) -> dict[str, str]:
    return {
        "test_q.json": '[{"video_name": "aaaaaaaaaaa", "question": "what is held", "question_id": "v_a_1"}]',
        "test_a.json": f'[{{"answer": "{answer}", "type": {kind}, "question_id": "v_a_1"}}]',
    }


_JUDGED = judged(
    "activitynet_qa",
    "ActivityNet-QA",
    load,
    ((_example("a cup", 5), "a cup"), (_example("2", 7), "2")),
    (OBTAIN, LICENSE),
    # Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), video question answering table, 47.5 %.
    0.475,
)

TASKS = (
    _JUDGED,
    replace(
        _JUDGED,
        name="activitynet_qa_official",
        metric="exact_match",
        also=(),
        scoring="generate",
        judged="",
        protocol="official",
        paper=False,
        published=None,
    ),
)
