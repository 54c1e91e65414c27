"""Every architecture the project answers for, tiny and random: `build(name, folder)` writes one to disk.

Processors and configs are transformers' own; sizes are a few dozen numbers, weights are drawn wide enough
that any changed input changes the output. Tokenizers are trained on the spot, with the special tokens each
processor looks for; chat templates have the form of the published model's, in our own words. Used by the
contract tests of models, packing and scoring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from behavior_llava.models.llama_vid import LlamaVidConfig, LlamaVidForConditionalGeneration
from behavior_llava.models.llama_vid.processing import LlamaVidProcessor

WORDS = "joy anger sadness happy sky red blue it was a good day what do viewers feel describe Joyful".split()
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
HALF = [0.5, 0.5, 0.5]

# ---- tokenizers --------------------------------------------------------------------------------------------


def tokenizer(
    special: Sequence[str], *, pad: str | None, eos: str, bos: str | None = None, **named: str
) -> PreTrainedTokenizerFast:
    """A byte-level BPE of few merges; `named` are the tokens processors ask for by name (image_token ...)."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=380,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([f"{first} {second}" for first in WORDS for second in WORDS], trainer)
    if bos is not None:
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, special.index(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        extra_special_tokens=named,
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def _chatml(**named: str) -> PreTrainedTokenizerFast:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *named.values()]
    return tokenizer(special, pad="<|endoftext|>", eos="<|im_end|>", **named)


def _llama(**named: str) -> PreTrainedTokenizerFast:
    special = ["<unk>", "<s>", "</s>", "<pad>", *named.values()]
    return tokenizer(special, pad="<pad>", eos="</s>", bos="<s>", **named)


# ---- chat templates ----------------------------------------------------------------------------------------

_PARTS = (
    "{%% for part in message['content'] %%}"
    "{%% if part['type'] == 'image' %%}%s{%% elif part['type'] == 'video' %%}%s"
    "{%% elif part['type'] == 'text' %%}{{ part['text'] }}{%% endif %%}{%% endfor %%}"
)

LLAVA = (
    "{% for message in messages %}{{ 'USER: ' if message['role'] == 'user' else 'ASSISTANT: ' }}"
    + _PARTS % ("<image>\n", "")
    + "{{ ' ' if message['role'] == 'user' else '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""LLaVA-1.5: no mark between turns but a blank and the end token."""

LLAVA_NEXT = (
    "{% for message in messages %}{% if message['role'] == 'user' %}[INST] "
    + _PARTS % ("<image>\n", "")
    + " [/INST]{% else %} "
    + _PARTS % ("", "")
    + "</s>{% endif %}{% endfor %}"
)
"""LLaVA-1.6 on Mistral: an empty generation prompt."""

LLAVA_ONEVISION = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% for part in message['content'] if part['type'] != 'text' %}<{{ part['type'] }}>{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\n' + part['text'] }}{% endfor %}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}{% endif %}"
)
"""LLaVA-OneVision: a blank behind the role that its generation prompt has not."""

_QWEN_TURNS = (
    "<|im_start|>{{ message['role'] }}{{ '\n' }}"
    + _PARTS % ("<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>")
    + "<|im_end|>{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}{% endif %}"
)
QWEN2_5_VL = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system{{ '\n' }}You are kind.<|im_end|>{{ '\n' }}{% endif %}" + _QWEN_TURNS
)
"""Qwen2.5-VL: a system prompt nobody asked for."""
QWEN3_VL = "{% for message in messages %}" + _QWEN_TURNS

SMOLVLM = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{{ ':' if message['content'][0]['type'] == 'image' else ': ' }}"
    + _PARTS % ("<image>", "<video>")
    + "<end_of_utterance>{{ '\n' }}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)

# ---- models ------------------------------------------------------------------------------------------------


def _clip() -> CLIPVisionConfig:
    return CLIPVisionConfig(**TEXT, projection_dim=32, image_size=32, patch_size=16)


def _siglip() -> SiglipVisionConfig:
    return SiglipVisionConfig(**TEXT, image_size=32, patch_size=8, vision_use_head=False)


def _text(tokens: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        **TEXT,
        "num_key_value_heads": 1,
        "vocab_size": len(tokens),
        "max_position_embeddings": 4096,
        "pad_token_id": tokens.pad_token_id,
        "bos_token_id": tokens.bos_token_id,
        "eos_token_id": tokens.eos_token_id,
    }


def _llava() -> tuple[Any, Any]:
    tokens = _llama(image_token="<image>")
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokens,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA,
    )
    config = LlavaConfig(
        vision_config=_clip(),
        text_config=LlamaConfig(**_text(tokens)),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
        vision_feature_layer=-1,
    )
    return LlavaForConditionalGeneration(config), processor


def _llava_next() -> tuple[Any, Any]:
    tokens = _llama(image_token="<image>")
    grid = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=grid
        ),
        tokenizer=tokens,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_NEXT,
    )
    config = LlavaNextConfig(
        vision_config=_clip(),
        text_config=MistralConfig(**_text(tokens), sliding_window=None),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grid,
        image_seq_length=4,
        vision_feature_layer=-1,
    )
    return LlavaNextForConditionalGeneration(config), processor


def _llava_onevision() -> tuple[Any, Any]:
    tokens = _chatml(image_token="<image>", video_token="<video>")
    size, grid = {"height": 32, "width": 32}, [[32, 32], [32, 64], [64, 32], [64, 64], [32, 96]]
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grid),
        tokenizer=tokens,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=LLAVA_ONEVISION,
    )
    config = LlavaOnevisionConfig(
        vision_config=_siglip(),
        text_config=Qwen2Config(**_text(tokens), tie_word_embeddings=True),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        video_token_index=tokens.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
        tie_word_embeddings=True,
    )
    return LlavaOnevisionForConditionalGeneration(config), processor


_QWEN_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}


def _qwen_ids(tokens: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {f"{name}_id": tokens.convert_tokens_to_ids(text) for name, text in _QWEN_TOKENS.items()}


def _qwen2_5_vl() -> tuple[Any, Any]:
    tokens = _chatml(**_QWEN_TOKENS)
    form = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2}
    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, **form),
        tokenizer=tokens,
        video_processor=Qwen2VLVideoProcessor(size=size, **form),
        chat_template=QWEN2_5_VL,
    )
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 4,
            "window_size": 16,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        text_config={
            **_text(tokens),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
        },
        **_qwen_ids(tokens),
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


def _qwen3_vl() -> tuple[Any, Any]:
    tokens = _chatml(**_QWEN_TOKENS)
    form = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2}
    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, image_mean=HALF, image_std=HALF, **form),
        tokenizer=tokens,
        video_processor=Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=False, **form),
        chat_template=QWEN3_VL,
    )
    config = Qwen3VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 4,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        text_config={
            **_text(tokens),
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [3, 3, 2],
                "mrope_interleaved": True,
            },
        },
        **_qwen_ids(tokens),
    )
    return Qwen3VLForConditionalGeneration(config), processor


def _smolvlm() -> tuple[Any, Any]:
    named = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    places = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *named.values(), *places]
    tokens = tokenizer(special, pad="<|im_end|>", eos="<end_of_utterance>", bos="<|im_start|>", **named)
    sides = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(**sides, image_mean=HALF, image_std=HALF),
        tokenizer=tokens,
        video_processor=SmolVLMVideoProcessor(**sides, image_mean=HALF, image_std=HALF, num_frames=8, fps=1),
        image_seq_len=4,
        chat_template=SMOLVLM,
    )
    config = SmolVLMConfig(
        vision_config={**TEXT, "image_size": 32, "patch_size": 8},
        text_config=LlamaConfig(**_text(tokens)),
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokens.pad_token_id,
    )
    return SmolVLMForConditionalGeneration(config), processor


def _llama_vid() -> tuple[Any, Any]:
    tokens = tokenizer(["<unk>", "<s>", "</s>", "<pad>"], pad="<pad>", eos="</s>", bos="<s>")
    text = _text(tokens)
    # the placeholder lies above the vocabulary
    tokens.add_tokens(["<image>"], special_tokens=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *sorted({word.lower() for word in WORDS})]
    processor = LlamaVidProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokens,
        BertTokenizer(vocab={word: number for number, word in enumerate(words)}),
    )
    config = LlamaVidConfig(
        vision_config={**TEXT, "image_size": 32, "patch_size": 8},
        qformer_config={
            **TEXT,
            "encoder_hidden_size": 32,
            "vocab_size": len(words),
            "cross_attention_frequency": 1,
        },
        text_config=text,
        compress_type="mean",
        num_query_tokens=4,
    )
    return LlamaVidForConditionalGeneration(config), processor


ARCHITECTURES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "smolvlm": _smolvlm,
    "llama_vid": _llama_vid,
}
"""By `model_type`: the network and its processor, before weights are drawn."""


def draw(network: torch.nn.Module, seed: int) -> None:
    """Fills all matrices anew, wide enough to hear every input, and the learned vectors of pictures."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim >= 2:
                fan_in = value.shape[1] if "embed" in name else value[0].numel()
                value.normal_(std=1.6 / fan_in**0.5, generator=random)
            elif "newline" in name or "class_embedding" in name:
                value.normal_(std=0.5, generator=random)


def build(name: str, folder: Path, *, seed: int = 0) -> None:
    """Writes the architecture to a folder, as save_pretrained does."""
    network, processor = ARCHITECTURES[name]()
    draw(network, seed)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
