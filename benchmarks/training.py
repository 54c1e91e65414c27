"""One media, many questions: training steps of ours beside the strongest loop over rows and TRL's trainer.

    python benchmarks/training.py          # ours and rows; about 10 minutes
    python benchmarks/training.py --trl    # TRL's SFTTrainer too; installs it into a folder of its own
    python benchmarks/training.py --json

A LLaVA whose language part has about 60 M parameters, 576 visual tokens a picture, 4 questions of 30 tokens
with answers of 40 on each; random weights, fp32, AdamW, the tower frozen. All ways learn from the same rows
in the same optimizer steps, each in a process of its own, in turns. Between steps each multiplies matrices:
the peak that utilization is measured against swings by 40 % on shared machines.

rows: what a good user writes by hand: right padding, no mask, causal attention, logits only where supervised.
All ways take the rows of a step four at a time: ours and this loop are faster so than with all at once, and
TRL is given the same.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import numpy as np
import torch
from common import Report, ratio
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import TrainerCallback

from behavior_llava.core.media import FrameStore, sha256
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import auto
from behavior_llava.training import batching, trainer

NUM_QUESTIONS = 4
QUESTION_TOKENS, ANSWER_TOKENS = 30, 40
MEDIA_A_STEP = 4
AT_A_TIME = 4
"""Rows of a micro-batch."""
LEARNING_RATE = 1e-4
TRL = "trl==1.16.0"
PROBE = 1536
"""Side of the matrices multiplied between steps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, no table")
    parser.add_argument("--trl", action="store_true", help="compare with TRL's SFTTrainer too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=4, help="of each way in each round, after one to warm up"
    )
    parser.add_argument("--work", type=Path, help="folder for the model and TRL; kept (default: temporary)")
    parser.add_argument("--way", choices=tuple(WAYS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        sys.stdout.write("\n" + json.dumps(WAYS[given.way](given.work, given.steps)) + "\n")
        return
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        if not (work / "model" / "config.json").exists():
            build(work)
        compare(work, given.rounds, given.steps, with_trl=given.trl).tell(as_json=given.json)


def compare(work: Path, rounds: int, steps: int, *, with_trl: bool) -> Report:
    report = Report("training")
    site = work / "trl"
    if with_trl and not site.exists():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), TRL]
        subprocess.run(command, check=True)
    equal = run(work, "equal", 1, site)
    ways = ["ours", "rows", *(["trl"] if with_trl else [])]
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways if number % 2 == 0 else ways[::-1]:
            found[way].append(run(work, way, steps, site))
    seconds = {way: [median(one["seconds"]) for one in runs] for way, runs in found.items()}
    questions = MEDIA_A_STEP * NUM_QUESTIONS
    peaks = {way: max(one["peak_gib"] for one in runs) for way, runs in found.items()}
    flops = {way: found[way][0]["flops"] for way in ways if found[way][0]["flops"]}
    for way, runs in found.items():
        mfu = [one["flops"] / median(one["seconds"]) / one["matmul"] for one in runs if one["flops"]]
        report.rows.append(
            {
                "way": way,
                "seconds_a_step": round(median(seconds[way]), 2),
                "questions_a_second": round(questions / median(seconds[way]), 2),
                "TFLOP_a_step": round(flops[way] / 1e12, 3) if way in flops else None,
                "utilization": round(median(mfu), 2) if mfu else None,
                "peak_GiB": round(peaks[way], 2),
                "last_loss": round(runs[-1]["losses"][-1], 4),
            }
        )
    arithmetic = flops["rows"] / flops["ours"]
    report.results = {
        "ratio_vs_unpacked": round(ratio(seconds["rows"], seconds["ours"]), 3),
        "ratio_vs_trl": round(ratio(seconds["trl"], seconds["ours"]), 3) if with_trl else None,
        "arithmetic_ratio": round(arithmetic, 3),
        "share_of_arithmetic": round(ratio(seconds["rows"], seconds["ours"]) / arithmetic, 3),
        "mfu": report.rows[0]["utilization"],
        "peak_memory_ratio_vs_trl": round(peaks["ours"] / peaks["trl"], 3) if with_trl else None,
        "gradient_difference": equal["gradients"],
        "loss_difference": equal["loss"],
    }
    report.notes.append(
        f"{equal['parameters'] / 1e6:.0f} M parameters in the language part, "
        f"{equal['visual_tokens']} visual tokens; "
        f"matmul peak {median(one['matmul'] for runs in found.values() for one in runs) / 1e9:.0f} GFLOP/s; "
        "gradient difference: largest, by the largest gradient of that parameter"
    )
    return report


def run(work: Path, way: str, steps: int, site: Path) -> dict[str, Any]:
    """One way in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--work", str(work), "--steps", str(steps)]
    # behind our packages: only what is not there comes from TRL's folder
    environment = os.environ | ({"TRL_SITE": str(site)} if way == "trl" else {})
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ran.returncode:
        sys.stderr.write(ran.stderr)
        raise SystemExit(f"{way} failed")
    return json.loads(ran.stdout.strip().splitlines()[-1])


# ---- material ----------------------------------------------------------------------------------------------


def build(work: Path) -> None:
    """The model, with random weights and a vocabulary of as many words as a real one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    from behavior_llava.models.tiny import CHAT_TEMPLATE

    special = ["<pad>", "<s>", "</s>", "<image>", "<unk>"]
    words = ["USER:", "ASSISTANT:", *(f"w{number}" for number in range(32_000 - 7))]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
        ),
        tokenizer=fast,
        patch_size=14,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    torch.manual_seed(0)
    network = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=256,
                intermediate_size=1024,
                num_hidden_layers=4,
                num_attention_heads=4,
                image_size=336,
                patch_size=14,
            ),
            text_config=LlamaConfig(
                vocab_size=32_000,
                hidden_size=512,
                intermediate_size=1664,
                num_hidden_layers=12,
                num_attention_heads=8,
                num_key_value_heads=8,
                max_position_embeddings=4096,
                tie_word_embeddings=True,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
            ),
            image_token_id=3,  # pyright: ignore[reportCallIssue]
            vision_feature_layer=-2,
            tie_word_embeddings=True,
        )
    )
    network.save_pretrained(work / "model")
    processor.save_pretrained(work / "model")
    rng = np.random.default_rng(0)
    (work / "pictures").mkdir(exist_ok=True)
    for number in range(64):
        coarse = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8))
        coarse.resize((336, 336), Image.Resampling.BICUBIC).save(work / "pictures" / f"{number:02d}.png")


def rows_of(work: Path, steps: int) -> list[Example]:
    """Rows in training order, the questions on one picture beside each other."""
    rng = np.random.default_rng(1)
    pictures = sorted((work / "pictures").iterdir())

    def words(count: int) -> str:
        return " ".join(f"w{number}" for number in rng.integers(0, 31_990, count))

    rows = []
    for number in range(MEDIA_A_STEP * steps):
        picture = pictures[number % len(pictures)]
        media = Media(str(picture), "image", sha256(picture))
        for question in range(NUM_QUESTIONS):
            prompt, answer = words(QUESTION_TOKENS), words(ANSWER_TOKENS)
            rows.append(Example(f"{number}-{question}", prompt, answer, media))
    return rows


def loaded(work: Path) -> auto.VisionLanguageModel:
    model = auto.load(str(work / "model"), FrameStore(work / "frames"), device="cpu")
    trainer.freeze(model.network, ("vision_tower",))
    model.network.train()
    model.network.config.use_cache = False
    return model


# ---- ways --------------------------------------------------------------------------------------------------


class Clock(TrainerCallback):
    """Seconds of each step, and the matrix peak between them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.peaks: list[float] = []
        self._start = 0.0

    def start(self) -> None:
        """A step begins."""
        self._start = time.perf_counter()

    def stop(self) -> None:
        """A step has ended; matrices are multiplied outside its time."""
        self.seconds.append(time.perf_counter() - self._start)
        left = right = torch.ones(PROBE, PROBE)
        start = time.perf_counter()
        for _ in range(3):
            left @ right
        self.peaks.append(3 * 2 * PROBE**3 / (time.perf_counter() - start))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """As transformers.Trainer calls it."""
        self.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """As transformers.Trainer calls it."""
        self.stop()

    def told(self, losses: list[float], flops: int | None) -> dict[str, Any]:
        """All that is measured; the first step warmed up."""
        return {
            "seconds": self.seconds[1:],
            "matmul": median(self.peaks[1:]),
            "losses": losses,
            "flops": flops,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }


def settings(folder: Path) -> Any:
    arguments = {
        "learning_rate": LEARNING_RATE,
        "per_device_train_batch_size": AT_A_TIME,
        "gradient_accumulation_steps": MEDIA_A_STEP * NUM_QUESTIONS // AT_A_TIME,
        "logging_steps": 1,
        "save_steps": 1000,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
    }
    config = trainer.TrainConfig(epochs=1, arguments=arguments)
    return trainer.arguments(config, folder, seed=0, on_cpu=True)


def ours(work: Path, steps: int) -> dict[str, Any]:
    """What behavior_llava.training.trainer.train runs."""
    model, clock = loaded(work), Clock()
    rows = rows_of(work, steps + 1)
    collator = batching.Collator(model)
    with tempfile.TemporaryDirectory() as folder:
        running = trainer.Ordered(
            model=model.network,
            args=settings(Path(folder)),
            train_dataset=trainer.Rows(rows),
            data_collator=collator,
            compute_loss_func=batching.supervised_loss,
            callbacks=[clock],
        )
        running.train()
    losses = [entry["loss"] for entry in running.state.log_history if "loss" in entry]
    told = clock.told(losses, None)
    return told | {"flops": counted(model, collator(rows[: MEDIA_A_STEP * NUM_QUESTIONS]))}


def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


OF_PROCESSOR = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
}
"""torch counts the attention of GPUs only; the processor's has the same shapes in its arguments."""


def counted(model: auto.VisionLanguageModel, batch: dict[str, Any]) -> int:
    """Floating point operations of a step's matrix products and attention, without the optimizer's.

    As torch counts: an attention is all pairs of places, whatever its mask.
    """
    with FlopCounterMode(display=False, custom_mapping=OF_PROCESSOR) as counter:
        batching.loss(model.network, batch).backward()
    return counter.get_total_flops()


def padded(model: auto.VisionLanguageModel, rows: list[Example]) -> dict[str, Any]:
    """The strongest batch of separate rows: padding on the right needs no mask under causal attention."""
    batch = model.inputs(rows, supervise=True)
    del batch["attention_mask"]
    keep = torch.zeros_like(batch["labels"], dtype=torch.bool)
    keep[:, :-1] = batch["labels"][:, 1:] != -100
    return {**batch, "logits_to_keep": keep}


def rows(work: Path, steps: int) -> dict[str, Any]:
    """The loop by hand; a step's loss is the mean over the supervised tokens of all its rows."""
    model, clock = loaded(work), Clock()
    learned = [value for value in model.network.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    size = MEDIA_A_STEP * NUM_QUESTIONS
    examples, losses = rows_of(work, steps + 1), []
    for step in range(steps + 1):
        clock.start()
        of_step = examples[step * size : (step + 1) * size]
        total = 0.0
        for start in range(0, size, AT_A_TIME):
            batch = padded(model, of_step[start : start + AT_A_TIME])
            # all answers are equally long
            loss = batching.loss(model.network, batch) * AT_A_TIME / size
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.stop()
        losses.append(total)
    told = clock.told(losses, None)
    return told | {"flops": counted(model, padded(model, examples[:size]))}


def trl(work: Path, steps: int) -> dict[str, Any]:
    """TRL's SFTTrainer as its documentation shows it for pictures, with the same settings."""
    sys.path.append(os.environ["TRL_SITE"])
    from datasets import Dataset, Features, List, Value
    from datasets import Image as ImageFeature
    from trl import SFTConfig, SFTTrainer

    model, clock = loaded(work), Clock()
    same = settings(work / "unused")
    examples = rows_of(work, steps + 1)
    records = [
        {
            "prompt": [{"role": "user", "content": row.prompt}],
            "completion": [{"role": "assistant", "content": row.completion}],
            "images": [row.media.path] if row.media else [],
        }
        for row in examples
    ]
    said = List({"role": Value("string"), "content": Value("string")})
    features = Features({"prompt": said, "completion": said, "images": List(ImageFeature())})
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            num_train_epochs=1,
            use_cpu=True,
            bf16=False,
            max_length=None,
            completion_only_loss=True,
            gradient_checkpointing=False,
            report_to="none",
            disable_tqdm=True,
            learning_rate=same.learning_rate,
            per_device_train_batch_size=same.per_device_train_batch_size,
            gradient_accumulation_steps=same.gradient_accumulation_steps,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            logging_steps=1,
            save_strategy="no",
            dataloader_pin_memory=False,
            shuffle_dataset=False,
        )

        class InOrder(SFTTrainer):
            _get_train_sampler = trainer.Ordered._get_train_sampler

        running = InOrder(
            model=model.network,
            args=arguments,
            train_dataset=Dataset.from_list(records, features=features),
            processing_class=model.processor,
            callbacks=[clock],
        )
        running.train()
    losses = [entry["loss"] for entry in running.state.log_history if "loss" in entry]
    return clock.told(losses, None)


def equal(work: Path, steps: int) -> dict[str, Any]:
    """How far loss and gradients of one step are from those of the rows by themselves."""
    model = loaded(work)
    model.network.eval()
    examples = rows_of(work, 1)
    found = []
    for batch in (padded(model, examples), batching.Collator(model)(examples)):
        model.network.zero_grad()
        loss = batching.loss(model.network, batch)
        loss.backward()
        gradients = {
            name: value.grad.clone()
            for name, value in model.network.named_parameters()
            if value.grad is not None
        }
        found.append((float(loss.detach()), gradients))
    (first_loss, first), (second_loss, second) = found
    assert first.keys() == second.keys()
    worst = max(float((first[name] - second[name]).abs().max() / first[name].abs().max()) for name in first)
    language = model.network.model.language_model
    ids = model.inputs(examples[:1], supervise=True)["input_ids"]
    return {
        "loss": abs(first_loss - second_loss),
        "gradients": worst,
        "parameters": sum(value.numel() for value in language.parameters()),
        "visual_tokens": int((ids == model.image_token_id).sum()),
    }


WAYS = {
    "ours": ours,
    "rows": rows,
    "trl": trl,
    "equal": equal,
}

if __name__ == "__main__":
    main()
