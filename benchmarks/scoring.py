"""Labels as a tree: our scorer beside one full pass a label and lmms-eval's loglikelihood.

    python benchmarks/scoring.py           # ours and the naive way; about 5 minutes
    python benchmarks/scoring.py --lmms    # lmms-eval's HF LLaVA too; installs it into a folder of its own
    python benchmarks/scoring.py --json

The LLaVA of training.py: a language part of about 60 M parameters, 576 visual tokens, random weights, fp32.
One picture, a prompt of 200 tokens and 38 labels of three tokens; five tasks of 38, 30, 12, 8 and 6 labels
with prompts of 60 on one picture; 2 labels. All ways in turns in one process.

naive: a full forward pass for each label, the picture made ready once, logits only where they are looked at.
lmms-eval: its own class and method, on the same weights. Two things of it do not run with transformers 5 and
are replaced (decord, and a call of the processor without pictures); it masks the visual tokens wrongly, so
that it is a peer for time and not for scores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import numpy as np
import torch
from common import Report, in_turns, ratio
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from training import OF_PROCESSOR, build

from behavior_llava.core.media import FrameStore, sha256
from behavior_llava.core.schema import Example, Media
from behavior_llava.evaluation.scoring import Query, Scorer
from behavior_llava.models import auto

LMMS = ("lmms-eval==0.7.3", "loguru", "pytz", "evaluate")
LABEL_TOKENS = 3
TASKS = (38, 30, 12, 8, 6)
PROBE = 1536
TURN_S = 4.0
"""How long each way is timed in a round, at least: a call of ours is half a second."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, no table")
    parser.add_argument("--lmms", action="store_true", help="compare with lmms-eval too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder for model and lmms-eval; kept (default: temporary)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        if not (work / "model" / "config.json").exists():
            build(work)
        compare(work, given.rounds, with_lmms=given.lmms).tell(as_json=given.json)


def compare(work: Path, rounds: int, *, with_lmms: bool) -> Report:
    report = Report("scoring")
    model = auto.load(str(work / "model"), FrameStore(work / "frames"), device="cpu")
    scorer = Scorer(model)
    cases = {
        "38 labels": queries(work, [(38, 200)]),
        "5 tasks": queries(work, [(labels, 60) for labels in TASKS]),
        "2 labels": queries(work, [(2, 200)]),
    }
    peer = lmms(work, cases["38 labels"][0]) if with_lmms else None
    for case, asked in cases.items():
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda asked=asked: scorer.scores(asked),
            "naive": lambda asked=asked: naive(model, asked),
        }
        if peer is not None and case == "38 labels":
            ways["lmms-eval"] = peer
        expected, found = naive(model, asked), scorer.scores(asked)  # which also warms up
        difference = max(
            float(np.abs(one.log_probs - true).max()) for one, true in zip(found, expected, strict=True)
        )
        operations = {way: counted(ways[way]) for way in ("ours", "naive")}
        peaks: list[float] = []
        ways_and_peak = ways | {"matmul": lambda peaks=peaks: peaks.append(matmul())}
        seconds = in_turns(ways_and_peak, rounds, at_least_s=TURN_S)
        peak = float(np.median(peaks))
        for way in ways:
            flops = operations.get(way)
            median = float(np.median(seconds[way]))
            report.rows.append(
                {
                    "case": case,
                    "way": way,
                    "seconds": round(median, 2),
                    "TFLOP": None if flops is None else round(flops / 1e12, 3),
                    "floor_seconds": None if flops is None else round(flops / peak, 2),
                }
            )
        name = case.replace(" ", "_")
        report.results[f"ratio_{name}_vs_naive"] = round(ratio(seconds["naive"], seconds["ours"]), 2)
        report.results[f"arithmetic_{name}"] = round(operations["naive"] / operations["ours"], 2)
        report.results[f"largest_difference_{name}"] = difference
        if "lmms-eval" in ways:
            report.results[f"ratio_{name}_vs_lmms_eval"] = round(
                ratio(seconds["lmms-eval"], seconds["ours"]), 2
            )
    report.notes.append(
        "floor: operations by the peak of matrix products measured in the same turns; difference: of "
        "log-probabilities, in nats"
    )
    return report


def matmul() -> float:
    """Floating point operations a second of a large matrix product."""
    left = torch.ones(PROBE, PROBE)
    start = time.perf_counter()
    for _ in range(6):
        left @ left
    return 6 * 2 * PROBE**3 / (time.perf_counter() - start)


def counted(way: Callable[[], object]) -> int:
    with FlopCounterMode(display=False, custom_mapping=OF_PROCESSOR) as counter:
        way()
    return counter.get_total_flops()


def queries(work: Path, tasks: list[tuple[int, int]]) -> list[Query]:
    """Questions of so many labels and prompt tokens on one picture."""
    rng = np.random.default_rng(2)
    picture = sorted((work / "pictures").iterdir())[0]
    media = Media(str(picture), "image", sha256(picture))

    def words(count: int) -> str:
        return " ".join(f"w{number}" for number in rng.integers(0, 31_990, count))

    return [
        Query(
            Example(f"{labels} labels", words(prompt), None, media),
            tuple(words(LABEL_TOKENS) for _ in range(labels)),
        )
        for labels, prompt in tasks
    ]


@torch.inference_mode()
def naive(model: auto.VisionLanguageModel, asked: list[Query]) -> list[np.ndarray]:
    """A full forward pass for each label of each query."""
    found = []
    for query in asked:
        inputs = model.inputs([query.example], supervise=False)
        prompt = inputs["input_ids"].shape[1]
        scores = []
        for label in query.labels:
            ids = torch.tensor([model.completion_ids(label, end=False)])
            count = ids.shape[1]
            row = inputs | {
                "input_ids": torch.cat([inputs["input_ids"], ids], dim=1),
                "attention_mask": torch.ones(1, prompt + count, dtype=torch.long),
            }
            logits = model.network(**row, logits_to_keep=count + 1, use_cache=False).logits[0, :-1]
            scores.append(float(logits.log_softmax(-1).gather(1, ids.T).double().sum()))
        found.append(np.array(scores))
    return found


def lmms(work: Path, query: Query) -> Callable[[], object]:
    """lmms-eval's `LlavaHf.loglikelihood` over the query's labels."""
    site = work / "lmms"
    if not (site / "evaluate").exists():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), *LMMS]
        subprocess.run(command, check=True)
    # behind our packages: only what is not there comes from this folder
    sys.path.append(str(site))
    decord: Any = types.ModuleType("decord")
    decord.VideoReader = decord.cpu = None
    sys.modules["decord"] = decord
    from lmms_eval.models.simple.llava_hf import LlavaHf

    peer = LlavaHf(
        pretrained=str(work / "model"),
        device="cpu",
        device_map="cpu",
        dtype="float32",
        chat_template=(
            "{% for message in messages %}{% if message.role == 'user' %}USER: {{ message.content }} "
            "{% else %}ASSISTANT: {{ message.content }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
        ),
    )
    whole = peer._image_processor

    def processor(*, text: list[str], images: Any = None, return_tensors: str) -> Any:
        return (whole if images else whole.tokenizer)(
            **({"images": images} if images else {}), text=text, return_tensors=return_tensors
        )

    peer._image_processor = processor
    peer._rank = 1  # whose progress is not shown
    assert query.example.media is not None
    picture = Image.open(query.example.media.path).convert("RGB")
    peer.task_dict = {"task": {"test": {1: None}}}
    requests = [
        types.SimpleNamespace(args=(query.example.prompt, label, lambda _: [picture], 1, "task", "test"))
        for label in query.labels
    ]
    return lambda: peer.loglikelihood(requests)


if __name__ == "__main__":
    main()
