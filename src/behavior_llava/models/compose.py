"""A vision tower and a causal language model of transformers, joined by a fresh projector into a LLaVA.

Two model folders or names in; a folder out that `auto.load` reads, with a processor and a chat template.
Tower and language model are taken over bit by bit; only the projector has to be trained (Liu et al. 2023,
https://arxiv.org/abs/2304.08485, section 4.2: first the projector alone). Called by `behavior-llava compose`.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AddedToken,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionModel,
    EfficientNetModel,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    SiglipVisionModel,
)

from behavior_llava.core.errors import UserError

log = logging.getLogger(__name__)

IMAGE_TOKEN = "<image>"

PLAIN_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{ 'USER: ' }}{%- else -%}{{ 'ASSISTANT: ' }}{%- endif -%}"
    "{%- for part in message['content'] if part['type'] == 'image' -%}{{ '<image>\n' }}{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}"
    "{%- if message['role'] == 'user' -%}{{ ' ' }}{%- else -%}{{ eos_token }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
)
"""LLaVA-1.5's words, for a language model that brings none (llava-hf/llava-1.5-7b-hf, chat_template)."""

FLATTEN = (
    "{%- set flat = namespace(messages=[]) -%}"
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}"
    "{%- set flat.messages = flat.messages + [message] -%}"
    "{%- else -%}"
    "{%- set said = namespace(text='') -%}"
    "{%- for part in message['content'] if part['type'] == 'image' -%}"
    "{%- set said.text = said.text + '<image>\n' -%}{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}"
    "{%- set said.text = said.text + part['text'] -%}{%- endfor -%}"
    "{%- set flat.messages = flat.messages + [{'role': message['role'], 'content': said.text}] -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- set messages = flat.messages -%}"
)
"""Set before a language model's own template: parts become the one string it expects."""


@dataclass(frozen=True)
class Tower:
    """How a kind of vision tower is read and used.

    Attributes:
        network: its class in transformers.
        not_vision: how names of weights begin that lie in the same checkpoint but are no part of the tower.
        select: LLaVA's vision_feature_select_strategy.
        num_extra: tokens the tower puts before its patches.
        stride: pixels of a side of what becomes a token, where the config does not say `patch_size`: the
            tower is convolutional, and its last map [B, C, H, W] becomes B x H*W tokens of C channels.
    """

    network: Any
    not_vision: tuple[str, ...]
    select: Literal["default", "full"]
    num_extra: int
    stride: int | None = None

    def patch(self, tower: Any) -> int:
        """Pixels of a side of what becomes a token."""
        return int(tower.config.patch_size) if self.stride is None else self.stride


_CLIP = Tower(
    CLIPVisionModel,
    # position_ids were saved by older versions of transformers and say nothing
    ("text_model.", "logit_scale", "text_projection.", "visual_projection.", "embeddings.position_ids"),
    "default",
    1,
)
_SIGLIP = Tower(
    SiglipVisionModel, ("text_model.", "logit_scale", "logit_bias", "embeddings.position_ids"), "full", 0
)
_EFFICIENTNET = Tower(EfficientNetModel, ("classifier.",), "full", 0, stride=32)
TOWERS = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "efficientnet": _EFFICIENTNET,
}
"""By `model_type`. CLIP puts a class token before its patches, which LLaVA leaves out; SigLIP has none.
EfficientNet goes under the roof of FastVLM, which is LLaVA for convolutional towers.
"""


def compose(
    vision: str,
    language: str,
    out: Path,
    *,
    select_layer: int | None = None,
    chat_template: str | None = None,
    seed: int = 0,
) -> dict[str, int | str]:
    """Writes a LLaVA made of both to `out`, in fp32, whole or not at all.

    Args:
        vision: folder or name of a CLIP or SigLIP model, whole or its tower alone, or of an EfficientNet.
        language: folder or name of a causal language model.
        out: must not exist yet.
        select_layer: which of the tower's hidden states becomes the picture's tokens; -1 is the last. None is
            the last but one, and the last of a convolutional tower, which has no other.
        chat_template: takes the place of the language model's own.
        seed: of the projector's weights.

    Returns:
        What was joined: model types, image tokens a picture, vocabulary, number of weights in the projector.

    Raises:
        UserError: no such model, one of another kind or quantized, weights missing or left over, or a
            language model that LLaVA would compute otherwise.
    """
    if out.exists():
        raise UserError("exists already", where=out, remedy="name a new folder or remove it")
    tower, kind, select_layer, image_processor = _load_tower(vision, select_layer)
    model, tokenizer = _load_language(language)
    _add_image_token(model, tokenizer)
    network = _joined(tower, kind, model, tokenizer, select_layer=select_layer, seed=seed)
    _check_same(network, model, language)
    processor = LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=kind.patch(tower),
        vision_feature_select_strategy=kind.select,
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=kind.num_extra,
        chat_template=_chat_template(tokenizer, language) if chat_template is None else chat_template,
    )
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    network.save_pretrained(part)
    processor.save_pretrained(part)
    part.replace(out)
    return {
        "vision": tower.config.model_type,
        "language": model.config.model_type,
        "image_tokens": network.config.image_seq_length,
        "vocabulary": len(tokenizer),
        "projector_weights": sum(value.numel() for value in network.model.multi_modal_projector.parameters()),
    }


# ---- the two models ----------------------------------------------------------------------------------------


def _config(name: str) -> Any:
    path = Path(name)
    if path.suffix == ".gguf" or (path.is_dir() and any(path.glob("*.gguf")) and not _has_config(path)):
        raise UserError(
            "is a GGUF file, whose weights are quantized for inference",
            where=name,
            remedy="give the original model in safetensors",
        )
    if (path / "adapter_config.json").exists():
        raise UserError("is an adapter, not a whole model", where=name, remedy="merge it into its base first")
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, error) from error
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(
            "is quantized, and quantized weights cannot be trained",
            where=name,
            remedy="give the original model, or write it anew without quantization_config",
        )
    return config


def _has_config(path: Path) -> bool:
    return (path / "config.json").exists()


def _not_loaded(name: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0].rstrip(".")
    return UserError(
        f"cannot be loaded ({reason})", where=name, remedy="give a model folder or the name of one on the hub"
    )


def _weights(network: Any, name: str, allowed: tuple[str, ...] = ()) -> Any:
    """The model of that class with every weight of its file accounted for; fp32, on the CPU."""
    try:
        model, info = network.from_pretrained(
            name,
            dtype=torch.float32,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_loaded(name, error) from error
    wrong = {
        "missing": sorted(info.get("missing_keys") or ()),
        "left over": sorted(
            key
            for key in info.get("unexpected_keys") or ()
            if not key.removeprefix("vision_model.").startswith(allowed)
        )
        if allowed
        else sorted(info.get("unexpected_keys") or ()),
        "of another shape": sorted(map(str, info.get("mismatched_keys") or ())),
    }
    told = "; ".join(f"{what}: {', '.join(keys[:5])}" for what, keys in wrong.items() if keys)
    if told:
        raise UserError(
            f"weights do not fit the architecture ({told})", where=name, remedy="use a complete checkpoint"
        )
    return model.eval()


def _load_tower(name: str, select_layer: int | None) -> tuple[Any, Tower, int, Any]:
    config = _config(name)
    kind = TOWERS.get(config.model_type)
    if kind is None:
        raise UserError(
            f"is a {config.model_type}, no vision tower LLaVA can use",
            where=name,
            remedy=f"give one of {', '.join(TOWERS)}",
        )
    tower = _weights(kind.network, name, kind.not_vision)
    if kind.stride is None:
        select_layer = -2 if select_layer is None else select_layer
        layers = tower.config.num_hidden_layers
        # hidden states are the embeddings and the output of every layer
        if not -(layers + 1) <= select_layer <= layers:
            raise UserError(
                f"has {layers} layers, and no hidden state {select_layer}",
                where=name,
                remedy=f"select a layer from {-(layers + 1)} to {layers}",
            )
    elif select_layer not in (None, -1) or tower.config.image_size % kind.stride:
        raise UserError(
            f"is convolutional: its last map, {kind.stride} pixels a token, is what can be used",
            where=name,
            remedy=f"select layer -1, and give it an image_size that {kind.stride} divides",
        )
    else:
        select_layer = -1
    try:
        image_processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, error) from error
    made = image_processor(_gray(), return_tensors="pt")["pixel_values"]
    side = tower.config.image_size
    if tuple(made.shape) != (1, 3, side, side):
        raise UserError(
            f"its image processor makes {list(made.shape)} where the tower takes {[1, 3, side, side]}",
            where=name,
            remedy="correct its preprocessor_config.json",
        )
    return tower, kind, select_layer, image_processor


def _gray() -> Image.Image:
    return Image.new("RGB", (97, 61), "gray")


def _load_language(name: str) -> tuple[Any, Any]:
    _config(name)
    model = _weights(AutoModelForCausalLM, name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, error) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            "its tokenizer has no end token", where=name, remedy="set eos_token in tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        # padding is hidden by the attention mask; which token it is changes nothing
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _add_image_token(model: Any, tokenizer: Any) -> None:
    """Gives "<image>" a number: one the embeddings have to spare, or a new row, the mean of all rows.

    A language model's vocabulary is often padded; such a row is taken as it is. The mean makes the new token
    as unlikely an answer as an average word, where a random row would be anything.
    """
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    before, needed = model.get_input_embeddings().weight.shape[0], len(tokenizer)
    if needed <= before:
        return
    model.resize_token_embeddings(needed, mean_resizing=False)
    with torch.no_grad():
        for part in (model.get_input_embeddings(), model.get_output_embeddings()):
            part.weight[before:] = part.weight[:before].mean(0)


# ---- joined ------------------------------------------------------------------------------------------------


def _joined(
    tower: Any, kind: Tower, model: Any, tokenizer: Any, *, select_layer: int, seed: int
) -> LlavaForConditionalGeneration | FastVlmForConditionalGeneration:
    """The parts themselves under LLaVA's roof, not copies of them."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.bias is not None:
        raise UserError(
            f"{model.config.model_type} has an output layer LLaVA has not",
            where=model.name_or_path,
            remedy="use a language model whose lm_head is a matrix (Llama, Mistral, Qwen, SmolLM, OLMo)",
        )
    is_convolutional = kind.stride is not None
    vision = tower.config
    if is_convolutional:
        vision.hidden_size = vision.hidden_dim  # by which name the projector asks for it
    side = vision.image_size // kind.patch(tower)
    settings: dict[str, Any] = {
        "vision_config": vision,
        "text_config": model.config,
        "image_token_index": tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        "image_seq_length": side * side,
        "vision_feature_layer": select_layer,
        "vision_feature_select_strategy": kind.select,
        "tie_word_embeddings": bool(model.config.tie_word_embeddings),
    }
    with torch.device("meta"):
        network: Any = (
            FastVlmForConditionalGeneration(FastVlmConfig(**settings))
            if is_convolutional
            else LlavaForConditionalGeneration(LlavaConfig(**settings))
        )
    projector = network.model.multi_modal_projector
    projector.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (projector.linear_1, projector.linear_2):
            # as torch.nn.Linear draws, which the original LLaVA leaves it to
            bound = layer.in_features**-0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
    network.model.vision_tower = tower
    network.model.language_model = model.get_decoder()
    network.lm_head = head
    network.generation_config = model.generation_config
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    return network.eval()


@torch.inference_mode()
def _check_same(network: Any, model: Any, name: str) -> None:
    """Refuses a language model that scales, caps or biases its logits: LLaVA does not."""
    ids = torch.arange(min(16, model.get_input_embeddings().weight.shape[0]))[None]
    with torch.random.fork_rng(devices=[]):
        alone, joined = model(input_ids=ids).logits, network(input_ids=ids).logits
    if not torch.equal(alone, joined):
        raise UserError(
            f"{model.config.model_type} inside LLaVA gives other logits than alone "
            f"(by up to {float((alone - joined).abs().max()):.3g})",
            where=name,
            remedy="use a language model whose logits are its lm_head's (Llama, Mistral, Qwen, SmolLM, OLMo)",
        )


# ---- words -------------------------------------------------------------------------------------------------


def _chat_template(tokenizer: Any, name: str) -> str:
    """The language model's own template, made to take pictures; LLaVA-1.5's where it has none."""
    own = tokenizer.chat_template
    if own is None:
        log.info("%s brings no chat template; it gets that of LLaVA-1.5", name)
        return PLAIN_TEMPLATE
    if not isinstance(own, str):
        raise UserError("has several chat templates", where=name, remedy="leave the one for conversations")
    parts = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a fish"}]},
    ]
    plain = [
        {"role": "user", "content": f"{IMAGE_TOKEN}\nwhat is it"},
        {"role": "assistant", "content": "a fish"},
    ]
    template = FLATTEN + own
    for count, generates in ((1, True), (2, False)):
        settings: dict[str, Any] = {"tokenize": False, "add_generation_prompt": generates}
        wanted = tokenizer.apply_chat_template(plain[:count], **settings)
        if tokenizer.apply_chat_template(parts[:count], chat_template=template, **settings) != wanted:
            raise UserError(
                "its chat template cannot be made to take pictures",
                where=name,
                remedy="take chat_template away from its tokenizer; LLaVA-1.5's is used then",
            )
    return template
