"""Shot2Story20K, audio: what is heard in a shot, in a sentence.

benchmark: Shot2Story20K; `20k_{train,val,test}.json`, shots in `videos/<video_names>`
paper: Han et al., https://arxiv.org/abs/2312.10300
license: annotations CC BY-NC-SA 4.0; the films are YouTube's
splits: train, val, test of about 20,000 films, a row a shot
metric: ROUGE-L, which needs neither Java nor a corpus and is 1 for the reference itself; also BLEU-4, CIDEr,
    and METEOR where the extra `captions` is installed
published: none that is certain to be the same. The paper prints BLEU 19.0, ROUGE 25.1, METEOR 39.3 with three
    demonstrations (Behavior-LLaVA; its base 15.1, 18.3, 30.7), where the last two are very likely exchanged
protocol: "Audio summarization" is no task of Shot2Story's; a baseline of the paper's table is its captioning
    of single shots' narration, so the reference is `audio_captions` of a shot. Shots whose narration is empty
    have none and are left out. What speech recognition heard stands before the question. The paper shows
    three demonstrations (a setting of the evaluator) and does not say how they are chosen; the question is
    ours.
"""

from __future__ import annotations

from pathlib import Path

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import distinct, free_text, label_words, video_file
from behavior_llava.evaluation.shot2story import ALSO, LICENSE, OBTAIN, SPLITS, films, heard


def load(folder: Path, split: str) -> list[Sample]:
    """The narrated shots of the split's films, in order; the label is the narration.

    Raises:
        UserError: the list is absent, a row is malformed, or no shot is narrated.
    """
    samples = [
        Sample(
            id=shot.video,
            label=shot.narration,
            media_path=video_file(folder / "videos", shot.video),
            media_kind="video",
            cluster=film.video,
            fields=heard(shot.said),
        )
        for film in films(folder, split)
        for shot in film.shots
        if free_text(shot.narration) is not None
    ]
    path = folder / f"20k_{split}.json"
    if not samples:
        raise UserError("no shot has an audio caption", where=path, remedy="use the official list")
    return distinct(samples, path)


TASKS = (
    Task(
        name="shot2story_audio",
        benchmark="Shot2Story20K audio",
        metric="rouge_l",
        also=ALSO,
        modality="audio",
        splits=SPLITS,
        load=load,
        question="What is heard in this shot, in one sentence?",
        labels=(),
        answers="text",
        answer=label_words,
        parse=free_text,
        scoring="generate",
        best=1.0,
        chance=None,
        examples=(
            (
                {
                    "20k_test.json": '[{"video": "v.mp4", "whole_caption": "A cook.", '
                    '"whole_ASR": "Now salt.", "video_names": ["v_0_9.mp4"], "ASR": ["Now salt."], '
                    '"audio_captions": ["A man asks for salt."]}]'
                },
                "A man asks for salt.",
            ),
            (
                {
                    "20k_test.json": '[{"video": "w.mp4", "whole_caption": "A sea.", "whole_ASR": "Look.", '
                    '"video_names": ["w_0_9.mp4", "w_9_20.mp4"], "ASR": ["", "Look."], '
                    '"audio_captions": ["", "A girl calls."]}]'
                },
                "A girl calls.",
            ),
        ),
        protocol="paper",
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
    ),
)
