"""The dry run tells what will happen and writes nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.architectures import ARCHITECTURES, build
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from behavior_llava import cli, forecast
from behavior_llava.core.config import load
from behavior_llava.core.errors import UserError
from behavior_llava.core.progress import console
from behavior_llava.forecast import Load, Part, Shape
from behavior_llava.pipeline import RunConfig
from behavior_llava.training import lora, precision
from behavior_llava.training.lora import LoraConfig
from behavior_llava.training.trainer import TrainConfig, freeze

ROOT = Path(__file__).parents[2]


def test_quickstart_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    config = load(RunConfig, ROOT / "configs" / "quickstart.yaml")
    with console.capture() as captured:
        forecast.show(config, tmp_path / "run", until="report", limit=None)
    told = " ".join(captured.get().split())
    assert "6,800" in told  # 5,000 images, 1,600 videos, 200 rows of the page
    assert "rows of the base stage: 14,400" in told  # 2 x (4,500 images + 1,200 videos) + 3,000 texts
    assert "at most 21,760" in told  # 0.8 x 6,800 posts, 2 epochs, as many instruction rows
    assert "memory: about 3 GiB" in told
    assert "of training and evaluation on this machine" in told
    for word in (
        "emoset",
        "ekman6",
        "lvu_scene",
        "lamem",
        "imdb",
        "finetuned 10%",
        "memory: about",
        "disk: about",
    ):
        assert word in told
    assert not (tmp_path / "run").exists()


def test_what_is_not_known_is_called_unknown(tmp_path: Path) -> None:
    """One's own table and a model on a hub: neither posts nor parameters are known before they are read."""
    (tmp_path / "posts.csv").write_text("a,b\n1,x.jpg\n")
    (tmp_path / "instruction.json").write_text(
        '[{"id": 1, "conversations": [{"from": "human", "value": "say"}, {"from": "gpt", "value": "no"}]}]'
    )
    columns = "{id: a, media_path: b}"
    source = f"[{{kind: table, settings: {{path: {tmp_path / 'posts.csv'}, columns: {columns}}}}}]"
    changes = [
        f"collect.sources={source}",
        f"base.instruction={tmp_path / 'instruction.json'}",
        f"evaluate.benchmarks={tmp_path}",
        "model=somebody/some-model",
    ]
    config = load(RunConfig, ROOT / "configs" / "quickstart.yaml", changes)
    with console.capture() as captured:
        forecast.show(config, tmp_path / "run", until="report", limit=None)
    told = " ".join(captured.get().split())
    assert "train: 0 base model(s) and 3 arm stage(s)" in told
    assert "rows of an arm stage: unknown until collect has run" in told
    assert "time, memory and disk: unknown" in told
    assert "GFLOP/s" not in told


def test_only_the_stages_of_the_verb_are_told(tmp_path: Path) -> None:
    config = load(RunConfig, ROOT / "configs" / "quickstart.yaml")
    with console.capture() as captured:
        forecast.show(config, tmp_path, until="collect", limit=None)
    assert "emoset" not in captured.get()
    assert "train:" not in captured.get()


def test_a_missing_file_is_found_before_anything_runs(tmp_path: Path) -> None:
    columns = "{id: a, media_path: b}"
    source = f"[{{kind: table, settings: {{path: {tmp_path / 'nothing.csv'}, columns: {columns}}}}}]"
    config = load(RunConfig, ROOT / "configs" / "quickstart.yaml", [f"collect.sources={source}"])
    with pytest.raises(UserError, match=r"nothing\.csv"):
        forecast.show(config, tmp_path, until="collect", limit=None)


# ---- a named GPU -------------------------------------------------------------------------------------------

STAGES = {
    "llama_vid": TrainConfig(epochs=1, freeze=("vision_tower",)),
    "llava_onevision": TrainConfig(epochs=1, freeze=("vision_tower",), lora=LoraConfig(rank=4, alpha=8)),
    "smolvlm": TrainConfig(epochs=1, freeze=("vision_model",)),
    "qwen3_vl": TrainConfig(epochs=1),
}
SHAPE = Shape(
    parameters=1_000,
    learned=600,
    adapters=0,
    copied=0,
    language=Part(600, 500),
    between=Part(100, 100),
    tower=Part(200),
    width=8,
    layers=4,
    vocabulary=50,
)


def test_operations_by_hand() -> None:
    """A product of n numbers costs 2n a position: forward, to the inputs, to the weights, forward again."""
    frozen, learning, adapted = Part(100), Part(100, 100), Part(100, 0, 10)
    assert frozen.operations(has_gradient=False, recomputes=False) == 200
    assert frozen.operations(has_gradient=True, recomputes=False) == 400
    assert learning.operations(has_gradient=True, recomputes=False) == 600
    assert learning.operations(has_gradient=True, recomputes=True) == 800
    assert adapted.operations(has_gradient=True, recomputes=False) == 400 + 60
    assert adapted.operations(has_gradient=True, recomputes=True) == 600 + 80
    row = Load(text=10, media=5, patches=20)
    # 15 tokens x (4 x 600 + 2 x 500), 20 patches x (6 x 100), and the frozen tower forward only
    assert forecast.row_operations(SHAPE, row, recomputes=False) == 15 * 3_400 + 20 * 600 + 20 * 400
    assert forecast.row_operations(SHAPE, row, recomputes=True) == 15 * 4_600 + 20 * 600 + 20 * 400


def test_memory_by_hand() -> None:
    """Of 1,000 numbers 600 learn, at 4 + 4 + 8 bytes, and 400 are frozen, at 2."""
    row = Load(text=10, media=5)
    found = forecast.memory(SHAPE, row, 2, over=1, recomputes=False)
    assert (found.weights, found.gradients, found.optimizer) == (4 * 600 + 2 * 400, 2_400, 4_800)
    # 34 bytes x width 8 x 30 tokens x 4 layers, 10 bytes x 50 words x 20 tokens of text, and a bf16 copy of
    # what learns
    assert found.activations == 34 * 8 * 30 * 4 + 10 * 50 * 20 + 2 * 600
    assert found.total == 10_400 + found.activations
    again = forecast.memory(SHAPE, row, 2, over=1, recomputes=True)
    # one layer whole, and of all four what goes into them, in bf16
    assert again.activations == 34 * 8 * 30 + 2 * 8 * 30 * 4 + 10 * 50 * 20 + 2 * 600
    divided = forecast.memory(SHAPE, row, 2, over=8, recomputes=False)
    assert (divided.gradients, divided.optimizer) == (4 * 600 / 8, 8 * 600 / 8)
    assert divided.weights == (4 * 600 + 2 * 400) / 8 + 2 * 2 * 600 / 4
    assert divided.activations == found.activations - 2 * 600


def test_memory_of_adapters_by_hand() -> None:
    shape = Shape(1_000, 100, 50, 100, Part(600, 0, 50), Part(100, 100), Part(200), 8, 4, 50)
    found = forecast.memory(shape, Load(text=10), 1, over=1, recomputes=False)
    # what learns beside the adapters is kept twice: once frozen, as it was
    assert found.weights == 2 * 1_000 + 4 * (100 + 50)
    assert found.gradients == 4 * (100 + 50)
    assert found.optimizer == 8 * (100 + 50)


def _ready(name: str) -> tuple[Any, Shape, Any]:
    """A network, its shape, and the network as the trainer would train it."""
    network, settings = ARCHITECTURES[name]()[0], STAGES[name]
    shape = forecast.shape_of(network, settings)
    freeze(network, settings.freeze)
    worn = network if settings.lora is None else lora.wear(network, settings.lora, settings.freeze)
    return network, shape, worn


@pytest.mark.parametrize("name", STAGES)
def test_what_learns_is_what_the_trainer_trains(name: str) -> None:
    total = sum(value.numel() for value in ARCHITECTURES[name]()[0].parameters())
    _, shape, worn = _ready(name)
    assert shape.parameters == total
    learning = sum(value.numel() for value in worn.parameters() if value.requires_grad)
    assert shape.learned + shape.adapters == learning
    extra = sum(value.numel() for value in worn.parameters()) - total
    assert shape.copied + shape.adapters == extra


@pytest.mark.parametrize("name", STAGES)
def test_weights_are_as_large_as_the_trainers(name: str) -> None:
    """Of a model loaded in bf16, as a GPU has it, made ready to learn."""
    network, settings = ARCHITECTURES[name]()[0], STAGES[name]
    shape = forecast.shape_of(network, settings)
    network.to(torch.bfloat16)
    freeze(network, settings.freeze)
    worn = network if settings.lora is None else lora.wear(network, settings.lora, settings.freeze)
    precision.raise_what_learns(worn)
    held = sum(value.numel() * value.element_size() for value in worn.parameters())
    assert held == forecast.memory(shape, Load(text=1), 1, over=1, recomputes=False).weights


@pytest.mark.parametrize("name", STAGES)
def test_operations_are_those_torch_counts(name: str) -> None:
    """The matrix products of one row of text, counted by torch while it learns."""
    _, shape, worn = _ready(name)
    worn.train()
    ids = torch.arange(10, 34)[None]
    counter = FlopCounterMode(display=False)
    with counter:
        worn(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()
    counted = sum(
        count
        for operator, count in counter.get_flop_counts()["Global"].items()
        if str(operator) in ("aten.mm", "aten.addmm")
    )
    told = forecast.row_operations(shape, Load(text=24), recomputes=False)
    assert counted <= told
    assert counted == pytest.approx(told, rel=0.06)


def test_media_are_counted_by_the_models_own_processor(tmp_path: Path) -> None:
    """OneVision's stand-in: 4 x 4 patches a tile of 32 x 32; LLaMA-VID's: two tokens a frame."""
    build("llama_vid", tmp_path / "vid")
    network = ARCHITECTURES["llama_vid"]()[0]
    picture, video = forecast.media_loads(str(tmp_path / "vid"), network, 5) or []
    assert (picture.patches, video.patches) == (16, 5 * 16)
    assert video.media - picture.media == 4 * 2
    build("llava_onevision", tmp_path / "one")
    network = ARCHITECTURES["llava_onevision"]()[0]
    picture, video = forecast.media_loads(str(tmp_path / "one"), network, 5) or []
    assert video.patches == 5 * 16
    assert video.media == 5 * 4 + 1  # a frame's 16 are pooled to 4; one newline
    assert picture.patches % 16 == 0
    assert picture.patches > 16  # the whole and its tiles


def _told(config: str, folder: Path, changes: list[str], **asked: Any) -> str:
    loaded = load(RunConfig, ROOT / "configs" / config, changes)
    with console.capture() as captured:
        forecast.show(loaded, folder, until="train", limit=None, **asked)
    return " ".join(captured.get().split())


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LLaMA-VID 13B's sizes without weights, with the stand-in's processor."""
    from transformers import LlamaConfig

    from behavior_llava.models.llama_vid import LlamaVidConfig

    folder = tmp_path_factory.mktemp("large") / "model"
    build("llama_vid", folder)
    (folder / "model.safetensors").unlink()
    text = LlamaConfig(
        hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40
    )
    LlamaVidConfig(text_config=text.to_dict(), compress_type="mean").save_pretrained(folder)
    return folder


def test_a_13b_model_does_not_fit_one_gpu_and_is_told_what_fits(large: Path, tmp_path: Path) -> None:
    told = _told("paper_13b.yaml", tmp_path / "run", [f"model={large}"], gpu="a100-80gb", gpus=1)
    assert "not there yet" in told
    assert (
        "14." in told.split("billion parameters")[0]
    )  # 13.0 of Vicuna, 1.0 of the tower, 0.2 of the Q-Former
    assert "does not fit" in told
    assert "FSDP" in told
    assert "per_device_train_batch_size" not in told  # fewer rows at a time do not help
    told = _told("paper_13b.yaml", tmp_path / "run", [f"model={large}"], gpu="A100-80GB", gpus=8)
    assert "divided over 8 by FSDP" in told
    assert "does not fit" not in told
    assert "rows: unknown until collect has run; for every 100,000 posts" in told
    assert "at 35% of 312 TFLOP/s on each of 8 GPU(s)" in told
    assert not (tmp_path / "run").exists()


def test_hours_by_hand(large: Path, tmp_path: Path) -> None:
    """1,000 posts: 800 x 2.2 epochs x 2 rows, of the operations told, at 35 % of 312e12 a second, on 4."""
    changes = [
        f"model={large}",
        "collect.sources=[{kind: sandbox, settings: {images: 900, videos: 100, page_posts: 0}}]",
    ]
    told = _told("paper_13b.yaml", tmp_path, changes, gpu="A100-80GB", gpus=4)
    operations = float(told.split(" operations a row")[0].split()[-1])
    hours = operations * 3_520 / (0.35 * 312e12 * 4) / 3600
    assert f"an arm of {3_520:,} rows" in told
    assert float(told.split("hours: at most ")[1].split()[0]) == pytest.approx(hours, abs=0.06)
    # 13e9 numbers x (2 forward + 4 backward + 2 again) x 500 tokens is the most of it
    assert operations == pytest.approx(13e9 * 8 * 500, rel=0.15)


def test_a_gpu_without_bf16_gets_no_hours(large: Path, tmp_path: Path) -> None:
    told = _told("paper_13b.yaml", tmp_path, [f"model={large}"], gpu="T4", gpus=1)
    assert "hours: unknown" in told
    assert "at most" not in told


def test_a_model_that_is_not_at_hand_is_unknown(tmp_path: Path) -> None:
    told = _told("onevision_7b.yaml", tmp_path, ["model=somebody/some-model"], gpu="L40S", gpus=1)
    assert "its config is not at hand, so tokens, memory and hours are unknown" in told
    assert "GiB" not in told


def test_an_unknown_gpu_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no GPU called 'Voodoo2'.*A100-40GB"):
        _told("onevision_7b.yaml", tmp_path, [], gpu="Voodoo2")


def test_a_grid_is_told_variant_by_variant_for_the_gpu(tmp_path: Path) -> None:
    words = [
        "run",
        str(ROOT / "configs" / "ablation_signal.yaml"),
        "--dry-run",
        "--out",
        str(tmp_path / "run"),
    ]
    ended = CliRunner().invoke(cli.app, [*words, "--gpu", "A100-80GB", "--gpus", "2"])
    assert ended.exit_code == 0, ended.output
    told = " ".join(ended.output.split())
    assert re.findall(r"variant (\d+ %)", told) == ["100 %", "50 %", "25 %", "0 %"]
    assert told.count("made on the spot, small enough for any GPU; leave --gpu out") == 4
    assert not (tmp_path / "run").exists()
