"""What every test stands on: no network, no display, few threads, and the two things a machine may lack.

The environment is set before any test module is imported, because the libraries read it at import.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from PIL import Image

from behavior_llava.core.media import FrameStore, sha256
from behavior_llava.core.schema import Media

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel

ROOT = Path(__file__).parents[1]

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "DAFT_PROGRESS_BAR": "0",
    "DAFT_ANALYTICS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "MPLBACKEND": "Agg",
}
# torch takes its number of threads from here; more than two slow tiny models down. Where tests run side by
# side, each process has a core.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes golden files anew; their diff is then read like code."""
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")
    parser.addoption(
        "--golden", type=Path, help="a folder of LLaMA-VID golden data (see tests/golden/test_llama_vid.py)"
    )


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Path:
    """What the original LLaMA-VID computed: --golden FOLDER, or that beside the checkout; skips without."""
    given: Path | None = request.config.getoption("--golden")
    if given is not None:
        if not (given / "cases.json").is_file():
            pytest.fail(f"--golden {given}: no cases.json there")
        return given
    folder = Path(os.environ.get("BEHAVIOR_LLAVA_SHARED", ROOT.parent / "shared")) / "llama_vid" / "golden"
    if not folder.is_dir():
        pytest.skip("no golden data of LLaMA-VID: give --golden FOLDER or put `shared` beside the checkout")
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real samples: BEHAVIOR_LLAVA_SHARED, or `shared` beside the checkout; skips without them."""
    folder = Path(os.environ.get("BEHAVIOR_LLAVA_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(
            "no folder of real samples: set BEHAVIOR_LLAVA_SHARED or put `shared` beside the checkout"
        )
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's executable; without one a test is skipped with the reason, and fails under CI."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    reason = "no chromium on the PATH (Debian: apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


# ---- a model small enough for tests ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA on disk with random weights, large enough that any changed input changes the output."""
    from behavior_llava.models.tiny import TinyConfig, build

    words = (
        "joy anger sadness happy sky red blue it was a good day what do viewers feel describe Joyful".split()
    )
    texts = [f"USER: {first} {second} ASSISTANT: {second}" for first in words for second in words]
    texts += [f"{number:02d}" for number in range(100)] * 5
    config = TinyConfig(
        hidden_size=32,
        num_layers=2,
        num_vision_layers=2,
        num_heads=2,
        image_size=32,
        patch_size=16,
        initializer_range=0.3,
        vocab_size=420,
    )
    folder = tmp_path_factory.mktemp("tiny") / "model"
    build(config, texts, folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Media]:
    """Four pictures, "a" to "d", and a video of two scenes, "clip"."""
    folder = tmp_path_factory.mktemp("media")
    found = {}
    rng = np.random.default_rng(0)
    for name in "abcd":
        path = folder / f"{name}.png"
        pixels = rng.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).resize((48, 48), Image.Resampling.NEAREST).save(path)
        found[name] = Media(str(path), "image", sha256(path))
    path = folder / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        for number in range(16):
            color = (200, 40, 40) if number < 8 else (40, 60, 200)
            frame = av.VideoFrame.from_ndarray(np.full((48, 48, 3), color, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found["clip"] = Media(str(path), "video", sha256(path), (0.5, 1.5))
    return found


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> VisionLanguageModel:
    """The tiny model, loaded; to be read only."""
    from behavior_llava.models.auto import load

    return load(str(tiny_folder), FrameStore(tmp_path_factory.mktemp("frames")), device="cpu")


# ---- a recognizer small enough for tests -------------------------------------------------------------------

_TIMES = [f"<|{number / 50:.2f}|>" for number in range(1501)]
_MARKS = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
_MARKS += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]


@pytest.fixture(scope="session")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper with random weights, which writes whatever it hears as some letters."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    folder = tmp_path_factory.mktemp("whisper") / "model"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate(alphabet)}
    tokenizer = WhisperTokenizer(vocab=vocab, merges=[])
    tokenizer.add_tokens(_MARKS, special_tokens=True)
    tokenizer.add_tokens(_TIMES)
    ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in _MARKS}
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer),
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            num_mel_bins=80,
            init_std=0.5,
            max_target_positions=24,
            pad_token_id=ids["<|endoftext|>"],
            bos_token_id=ids["<|endoftext|>"],
            eos_token_id=ids["<|endoftext|>"],
            decoder_start_token_id=ids["<|startoftranscript|>"],
            begin_suppress_tokens=None,
        )
    )
    for name, value in {
        "_from_model_config": False,
        "is_multilingual": True,
        "lang_to_id": {mark: ids[mark] for mark in ("<|en|>", "<|de|>")},
        "task_to_id": {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        # letters alone, so that what is written can be read
        "suppress_tokens": [
            number
            for letter, number in tokenizer.get_vocab().items()
            if not (len(letter) == 1 and letter.isascii() and letter.isalpha())
            and number != ids["<|endoftext|>"]
        ],
        "max_length": None,
        "max_new_tokens": 12,
    }.items():
        setattr(model.generation_config, name, value)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder
