"""Makes docs/scaling.md: what was measured here, carried to 730 thousand and to 100 million posts.

    python docs/scaling.py            writes it
    python docs/scaling.py --check    fails where it is not what this file says

Every number is one of MEASURED, one of ASSUMED, or arithmetic on these; the page marks which. Operations come
from forecast.py, which counts them on the real shapes without weights.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from behavior_llava import forecast
from behavior_llava.core.config import load
from behavior_llava.forecast import GPU_UTILIZATION, GPUS, Load
from behavior_llava.models.llama_vid import LlamaVidConfig, LlamaVidForConditionalGeneration
from behavior_llava.pipeline import RunConfig

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "scaling.md"


@dataclass(frozen=True)
class Number:
    """A value and where it comes from."""

    value: float
    told: str
    source: str


MEASURED = {
    "posts": Number(
        4230,
        "posts a second, parsed, joined with five comments each, and through all text filters, on 2 cores",
        "`python benchmarks/filters.py`, a million posts",
    ),
    "growth": Number(0.79, "times the time a post takes, when there are ten times as many", "the same"),
    "picture": Number(
        2468,
        "pictures a second, decoded, hashed and measured as collect does it, on 2 cores",
        "`python benchmarks/decode.py`",
    ),
    "clip": Number(0.178, "seconds for 8 frames of a video of 600, 640x360, on 2 cores", "the same"),
    "memory": Number(2.7, "GiB at the peak for a million posts, 2 of them a dump's own window", "filters.py"),
}
"""Of benchmarks/README.md; the machines are told there."""

ASSUMED = {
    "picture_mb": Number(0.4, "MB a picture as platforms serve it", "ours"),
    "clip_mb": Number(12.0, "MB a video of a minute or two at 480p", "ours"),
    "frame_mb": Number(0.06, "MB a frame kept at 448 pixels, JPEG of quality 92", "ours"),
    "long_clip": Number(
        10.0, "times the work of the measured clip for a video in which scenes are looked for", "ours"
    ),
    "share_of_videos": Number(330 / 730, "of the posts are videos", "BLIFT, arXiv:2405.00942"),
    "download_mb_s": Number(1000.0, "MB a second from platforms, for all machines together", "ours"),
    "text_tokens": Number(500, "tokens of text a row", "forecast.py, for the paper's template"),
    "caption_tokens": Number(60, "tokens written for a caption", "ours"),
    "caption_prompt": Number(
        616, "tokens of a picture and the question, for captions", "LLaVA-1.5's 576, and 40"
    ),
    "caption_parameters": Number(13, "billion parameters of who writes captions", "ours"),
    "scenes": Number(5, "scenes a video, each with a kept frame and a caption", "ours"),
    "train_share": Number(0.8, "of the posts train, none filtered out", "configs' default splits"),
}


# ---- the shapes of the three recipes -----------------------------------------------------------------------


def _network(config: Any, kind: Any) -> Any:
    with torch.device("meta"):
        return kind._from_config(config)


def _llama_vid() -> Any:
    text = LlamaConfig(
        hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40
    )
    return _network(
        LlamaVidConfig(text_config=text.to_dict(), compress_type="mean"), LlamaVidForConditionalGeneration
    )


def _onevision() -> Any:
    # transformers' defaults are the 7B's sizes, but for these of its Qwen2
    text = {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_000,
    }
    return _network(LlavaOnevisionConfig(text_config=text), LlavaOnevisionForConditionalGeneration)


def _smolvlm() -> Any:
    text = {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49_280,
    }
    vision = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 512,
        "patch_size": 16,
    }
    return _network(
        SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=4), SmolVLMForConditionalGeneration
    )


@dataclass(frozen=True)
class Recipe:
    """A shipped config for GPUs.

    Attributes:
        tokens, patches: of a picture and of a video's frame. LLaMA-VID: two tokens each (arXiv:2311.17043);
            OneVision: 196 a frame, and a picture of five tiles of 729 (arXiv:2408.03326); SmolVLM: 64 a tile,
            17 tiles a picture (arXiv:2504.05299).
        card: what it was written for; count: how many of it.
    """

    config: str
    network: Any
    tokens: tuple[int, int]
    patches: tuple[int, int]
    card: str
    count: int


RECIPES = (
    Recipe("paper_13b", _llama_vid, (2, 2), (256, 256), "A100-80GB", 8),
    Recipe("onevision_7b", _onevision, (3700, 196), (3645, 729), "A100-80GB", 8),
    Recipe("smolvlm_256m", _smolvlm, (1100, 64), (17_408, 1024), "L4", 1),
)


@cache
def gpu_hours(recipe: Recipe) -> tuple[float, float]:
    """(GPU-hours an arm for every million posts, operations a row in the mean)."""
    config = load(RunConfig, ROOT / "configs" / f"{recipe.config}.yaml")
    train = config.training.train
    shape = forecast.shape_of(recipe.network(), train)
    recomputes = bool(train.arguments.get("activation_checkpointing", False))
    text, videos = int(ASSUMED["text_tokens"].value), ASSUMED["share_of_videos"].value
    frames = config.build.max_scenes
    rows = (
        Load(text, recipe.tokens[0], recipe.patches[0]),
        Load(text, frames * recipe.tokens[1], frames * recipe.patches[1]),
    )
    picture, video = (forecast.row_operations(shape, row, recomputes=recomputes) for row in rows)
    mean = (1 - videos) * picture + videos * video
    card = GPUS[recipe.card]
    assert card.tflops is not None
    per_second = card.tflops * 1e12 * GPU_UTILIZATION
    # instruction rows are taken to cost as much
    learned = 1e6 * ASSUMED["train_share"].value * train.epochs * (1 + config.training.ratio)
    return mean * learned / per_second / 3600, mean


def caption_hours(posts: float) -> float:
    """GPU-hours on an A100 for captions, one a picture and one a scene of a video."""
    videos = ASSUMED["share_of_videos"].value
    scenes = posts * ((1 - videos) + ASSUMED["scenes"].value * videos)
    tokens = ASSUMED["caption_prompt"].value + ASSUMED["caption_tokens"].value
    operations = 2e9 * ASSUMED["caption_parameters"].value * tokens
    tflops = GPUS["A100-80GB"].tflops
    assert tflops is not None
    return scenes * operations / (tflops * 1e12 * GPU_UTILIZATION) / 3600


# ---- the machines' side ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """What so many posts take."""

    posts: float

    @property
    def text_core_hours(self) -> float:
        """Parse, join, text filters; at the measured rate of a million, which rose from a tenth of it."""
        return 2 * self.posts / MEASURED["posts"].value / 3600

    @property
    def media_core_hours(self) -> float:
        """Pictures at the measured rate; videos as so many measured clips."""
        videos = ASSUMED["share_of_videos"].value
        pictures = (1 - videos) * self.posts / MEASURED["picture"].value
        films = videos * self.posts * MEASURED["clip"].value * ASSUMED["long_clip"].value
        return 2 * (pictures + films) / 3600

    @property
    def media_tb(self) -> float:
        """Media as they were fetched."""
        videos = ASSUMED["share_of_videos"].value
        each = (1 - videos) * ASSUMED["picture_mb"].value + videos * ASSUMED["clip_mb"].value
        return self.posts * each / 1e6

    @property
    def frames_tb(self) -> float:
        """Frames that are kept of the videos, one a scene."""
        frames = self.posts * ASSUMED["share_of_videos"].value * ASSUMED["scenes"].value
        return frames * ASSUMED["frame_mb"].value / 1e6

    @property
    def download_hours(self) -> float:
        """Fetching the media."""
        return self.media_tb * 1e6 / ASSUMED["download_mb_s"].value / 3600


SCALES = (Scale(730_000), Scale(100_000_000))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n\n"


def amount(value: float) -> str:
    """Two significant digits, with thousands apart."""
    if value == 0:
        return "0"
    digits = max(0, 1 - int(f"{value:e}".split("e")[1]))
    return f"{round(value, digits):,.{digits}f}" if value < 10 else f"{float(f'{value:.2g}'):,.0f}"


BREAKS = """## What breaks first, and what is done about it

1. **Fetching media**, before anything is computed: at a rate that platforms allow to few. `collect.download`
   is resumable and polite; who holds the media on a disk or in a bucket needs none of it.
2. **Storing media**: at 100 million posts hundreds of terabytes. Training reads kept frames and pictures, and
   needs no film again.
3. **Finding scenes of videos**: nearly all core-hours. Every file is independent, and what was seen of it is
   remembered by its hash; one machine's processes share the work. Filters run on Ray (`DAFT_RUNNER=ray`);
   looking at media does not yet.
4. **The driver's memory**: four things still grow with the data. Splits and near duplicates hold ids and
   hashes (about 200 bytes a post by their fields: 20 GB at 100 million); instruction rows are held whole; the
   ledger of what an arm saw holds a set of hashes; and the check for test samples in training data, which
   streams, has not been run beyond ten thousand media.
5. **Training**: an honest comparison costs the table's hours once an arm and seed.
   The arms of `configs/ablation_size.yaml`, in a config with one's own sources, show on a part of the data
   what more posts add, before the large run.
"""


def page() -> str:
    """The whole page."""
    return "".join(_parts()).rstrip() + "\n"


def _parts() -> Iterator[str]:
    yield (
        "# Scaling\n\n"
        "Made by `python docs/scaling.py`. What was measured on two cores, what is assumed, and what follows "
        "from them: every number of the later tables is **extrapolated** by multiplication, and has been run "
        "nowhere.\n\n## Measured\n\n"
    )
    yield table(
        ["what", "value", "by"],
        [[one.told, f"{one.value:,g}", one.source] for one in MEASURED.values()],
    )
    yield "## Assumed\n\n"
    yield table(
        ["what", "value", "by"],
        [[one.told, f"{one.value:,.3g}", one.source] for one in ASSUMED.values()],
    )
    yield (
        f"A GPU is taken to reach {GPU_UTILIZATION:.0%} of its bf16 peak in training (forecast.py says why); "
        "two cores' time counts as two core-hours an hour.\n\n## Collect and build (extrapolated)\n\n"
    )
    rows = [
        ("parse, join, text filters, core-hours", [one.text_core_hours for one in SCALES]),
        ("looking at media, core-hours", [one.media_core_hours for one in SCALES]),
        (
            "the same on 100 cores, hours",
            [(one.text_core_hours + one.media_core_hours) / 100 for one in SCALES],
        ),
        ("fetching media, hours", [one.download_hours for one in SCALES]),
        ("media, TB", [one.media_tb for one in SCALES]),
        ("frames kept, TB", [one.frames_tb for one in SCALES]),
        ("captions by a 13B model, A100-hours", [caption_hours(one.posts) for one in SCALES]),
    ]
    yield table(
        ["", *(f"{one.posts:,.0f} posts" for one in SCALES)],
        [[told, *map(amount, values)] for told, values in rows],
    )
    yield (
        "The text side grows slower than the posts (measured: ten times the posts, 7.9 times the time, with "
        "start-up in it); at 100 million the million's rate is used.\n\n"
        "## Train (extrapolated): GPU-hours of one arm and seed\n\n"
    )
    rows = []
    for recipe in RECIPES:
        million, operations = gpu_hours(recipe)
        hours = [million * one.posts / 1e6 for one in SCALES]
        rows.append(
            [
                f"`configs/{recipe.config}.yaml`, {recipe.count} x {recipe.card}",
                f"{operations:.1e}",
                *(amount(value) for value in hours),
                *(amount(value / recipe.count / 24) for value in hours),
            ]
        )
    yield table(
        [
            "recipe",
            "operations a row",
            *(f"GPU-hours, {one.posts:,.0f} posts" for one in SCALES),
            *(f"days on these GPUs, {one.posts:,.0f}" for one in SCALES),
        ],
        rows,
    )
    yield (
        "Attention's own products, captions and evaluation are not in it. An instruction row is taken to "
        "cost as much as a post's, a video to have as many scenes as its config allows. Tokens of a picture "
        f"and of a frame are assumed from what is published of the models ({_tokens()}); with the model at "
        "hand, `run CONFIG --dry-run "
        "--gpu NAME --gpus N` counts them by its processor, and tells the memory on each GPU.\n\n"
    )
    yield BREAKS


def _tokens() -> str:
    told = (f"{one.config} {one.tokens[0]:,} and {one.tokens[1]:,}" for one in RECIPES)
    return "; ".join(told)


def main(arguments: Sequence[str]) -> int:
    """Writes the page, or compares it."""
    text = page()
    if "--check" in arguments:
        is_same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        if not is_same:
            sys.stdout.write("docs/scaling.md is not what docs/scaling.py says: run it\n")
        return 0 if is_same else 1
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} is written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
