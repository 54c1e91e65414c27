"""A LLaVA small enough to train on two cores: random weights, its tokenizer trained on the spot.

The architecture, processor, chat template and files are those of transformers' LLaVA, so everything that runs
on it runs on a published checkpoint; only the sizes differ. Called by the base stage where a config says
`model: tiny`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from behavior_llava.core.config import Config

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {% else %}ASSISTANT: {% endif %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}"
    "{% if message['role'] == 'user' %} {% else %}</s>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""The words of LLaVA-1.5's template (llava-hf/llava-1.5-7b-hf, chat_template), without its line breaks."""


class TinyConfig(Config):
    """Sizes of the small model."""

    hidden_size: int = 128
    num_layers: int = Field(default=3, description="2 learn to read pictures three times as slowly")
    num_vision_layers: int = 2
    num_heads: int = 4
    image_size: int = 63
    patch_size: int = 21
    initializer_range: float = Field(
        default=0.06, description="0.02 learns three times as slowly at this width"
    )
    vocab_size: int = Field(default=1500, description="at most; a small corpus gives fewer")


def build(config: TinyConfig, texts: Iterable[str], folder: Path, *, seed: int) -> None:
    """Writes a model with random weights and a tokenizer trained on `texts` to `folder`, as save_pretrained
    does.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    special = ["<pad>", "<s>", "</s>", "<image>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
    num_image_tokens = (config.image_size // config.patch_size) ** 2
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": config.image_size},
            crop_size={"height": config.image_size, "width": config.image_size},
            image_mean=[0.5, 0.5, 0.5],
            image_std=[0.25, 0.25, 0.25],
        ),
        tokenizer=fast,
        patch_size=config.patch_size,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    torch.manual_seed(seed)
    network = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=config.hidden_size,
                intermediate_size=2 * config.hidden_size,
                projection_dim=config.hidden_size,
                num_hidden_layers=config.num_vision_layers,
                num_attention_heads=config.num_heads,
                image_size=config.image_size,
                patch_size=config.patch_size,
            ),
            text_config=LlamaConfig(
                vocab_size=len(fast),
                hidden_size=config.hidden_size,
                intermediate_size=3 * config.hidden_size,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                num_key_value_heads=config.num_heads,
                max_position_embeddings=2048,
                tie_word_embeddings=True,
                initializer_range=config.initializer_range,
                pad_token_id=special.index("<pad>"),
                bos_token_id=special.index("<s>"),
                eos_token_id=special.index("</s>"),
            ),
            image_token_id=special.index("<image>"),  # pyright: ignore[reportCallIssue]
            vision_feature_layer=-1,
            image_seq_length=num_image_tokens,
            tie_word_embeddings=True,
        )
    )
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
