"""Shot2Story20K, multi-shot: what happens in a film of several shots, in a paragraph.

benchmark: Shot2Story20K; `20k_{train,val,test}.json`, films in `videos/<video>`
paper: Han et al., https://arxiv.org/abs/2312.10300
license: annotations CC BY-NC-SA 4.0; the films are YouTube's
splits: train, val, test of about 20,000 films
metric: ROUGE-L, which needs neither Java nor a corpus and is 1 for the reference itself; also BLEU-4, CIDEr,
    and METEOR where the extra `captions` is installed. The official ones are these four, by nlg-eval
published: none that is certain to be the same. The paper prints BLEU 10.6, ROUGE 18.3, METEOR 22.7 with three
    demonstrations (Behavior-LLaVA; its base 9.1, 16.5, 20.3), where the last two are very likely exchanged
protocol: The reference is `whole_caption`; what speech recognition heard (`whole_ASR`) stands before the
    question. The paper shows three demonstrations (a setting of the evaluator) and does not say how they are
    chosen; the question is ours. Words are not split as nlg-eval does, see text_metrics.py.
"""

from __future__ import annotations

from pathlib import Path

from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import distinct, free_text, label_words, video_file
from behavior_llava.evaluation.shot2story import ALSO, LICENSE, OBTAIN, SPLITS, films, heard


def load(folder: Path, split: str) -> list[Sample]:
    """The split's films, in order; the label is the summary.

    Raises:
        UserError: the list is absent, or a row is malformed.
    """
    samples = [
        Sample(
            id=film.video,
            label=film.summary,
            media_path=video_file(folder / "videos", film.video),
            media_kind="video",
            fields=heard(film.said),
        )
        for film in films(folder, split)
    ]
    return distinct(samples, folder / f"20k_{split}.json")


TASKS = (
    Task(
        name="shot2story_multishot",
        benchmark="Shot2Story20K multi-shot",
        metric="rouge_l",
        also=ALSO,
        modality="video",
        splits=SPLITS,
        load=load,
        question="What happens in this video, shot by shot, in one paragraph?",
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
                    "20k_test.json": '[{"video": "v.mp4", "whole_caption": "A cook salts a soup.", '
                    '"whole_ASR": "Now salt.", "video_names": ["v_0_9.mp4"], "ASR": ["Now salt."], '
                    '"audio_captions": ["A man asks for salt."]}]'
                },
                "A cook salts a soup.",
            ),
            (
                {
                    "20k_test.json": '[{"video": "w.mp4", "whole_caption": "A girl runs to the sea. ", '
                    '"whole_ASR": "", "video_names": ["w_0_9.mp4"], "ASR": [""], "audio_captions": [""]}]'
                },
                "A girl runs to the sea.",
            ),
        ),
        protocol="paper",
        obtain=OBTAIN,
        license=LICENSE,
        paper=True,
    ),
)
