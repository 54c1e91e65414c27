"""The sizes and settings of a LLaMA-VID model.

Read from config.json or built by `convert.py` and tests; checked once, here, so that the model and the
processor can rely on every value. Vision tower and Q-Former are those of InstructBLIP, the language model is
LLaMA: their own configs hold their sizes.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import (
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    LlamaConfig,
    PreTrainedConfig,
)


@strict
class LlamaVidConfig(PreTrainedConfig):
    """A vision tower, a Q-Former that reads the question, and a language model.

    Attributes:
        compress_type: how the patches of a frame become its content tokens: None keeps them all, "mean" makes
            one of them, "grid:g" averages square cells, g along a side.
        projector_type: from vision to language width: "linear", "mlp{k}x_gelu" (k linears) or "identity".
        num_query_tokens: learned queries of the Q-Former.
        image_token_id: the placeholder of one feature. Above the vocabulary, so that it has no embedding and
            can't be generated; None stands for the first id above.
        vision_config: initializer_range is 1e-10 unless given, too small for a model trained from random
            weights.
    """

    model_type = "llama_vid"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "vision_config": InstructBlipVisionConfig,
        "qformer_config": InstructBlipQFormerConfig,
        "text_config": LlamaConfig,
    }

    vision_config: Any = None
    qformer_config: Any = None
    text_config: Any = None
    compress_type: str | None = None
    projector_type: str = "mlp2x_gelu"
    num_query_tokens: int = 32
    image_token_id: int | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Builds the parts' configs and checks how they fit together.

        Raises:
            ValueError: a setting is unknown or two of them do not fit.
        """
        super().__post_init__(**kwargs)
        if self.image_token_id is None:
            self.image_token_id = self.text_config.vocab_size
        self._check_sizes()
        _ = self.num_content_tokens, self.projector_depth

    def _check_sizes(self) -> None:
        vision, qformer, text = self.vision_config, self.qformer_config, self.text_config
        if self.image_token_id < text.vocab_size:
            raise ValueError(
                f"image_token_id {self.image_token_id} is a word of the vocabulary of {text.vocab_size}; "
                "it must lie above, so that it can't be generated"
            )
        if vision.image_size % vision.patch_size:
            raise ValueError(
                f"image_size {vision.image_size} is no multiple of patch_size {vision.patch_size}"
            )
        if qformer.encoder_hidden_size != vision.hidden_size:
            raise ValueError(
                f"the Q-Former reads features of width {qformer.encoder_hidden_size}, the vision tower's are "
                f"{vision.hidden_size} wide"
            )
        if self.projector_type == "identity" and vision.hidden_size != text.hidden_size:
            raise ValueError(
                f"projector_type 'identity' needs equal widths, not {vision.hidden_size} and "
                f"{text.hidden_size}"
            )

    @property
    def side(self) -> int:
        """Patches along one side of a frame."""
        return self.vision_config.image_size // self.vision_config.patch_size

    @property
    def num_patches(self) -> int:
        """Patches of a frame; the class token is not one of them."""
        return self.side**2

    @property
    def cells(self) -> int | None:
        """Cells along one side that a frame's patches are averaged over; None where all patches are kept.

        Where g does not divide the side, a cell is side // g patches wide, as in the original: there may be
        more than g of them, and patches behind the last whole one do not count (16 patches
        a side and grid:5 give 5 cells of 3, 24 give 6 of 4).

        Raises:
            ValueError: compress_type is unknown or asks for more cells than there are patches.
        """
        if self.compress_type is None:
            return None
        if self.compress_type == "mean":
            return 1
        found = re.fullmatch(r"grid:([1-9][0-9]*)", self.compress_type)
        if found is None or int(found[1]) < 2:
            raise ValueError(
                f"compress_type {self.compress_type!r} is unknown: use null, 'mean' or 'grid:g' with g >= 2"
            )
        width = self.side // int(found[1])
        if not width:
            raise ValueError(
                f"compress_type {self.compress_type!r} asks for more cells than "
                f"{self.side}x{self.side} patches"
            )
        return self.side // width

    @property
    def num_content_tokens(self) -> int:
        """Content tokens of a frame."""
        return self.num_patches if self.cells is None else self.cells**2

    @property
    def num_tokens_per_frame(self) -> int:
        """Tokens of a frame in the language model's sequence: its context token and its content tokens."""
        return 1 + self.num_content_tokens

    @property
    def projector_depth(self) -> int:
        """Linear layers of the projector.

        Raises:
            ValueError: projector_type is unknown.
        """
        if self.projector_type in ("identity", "linear"):
            return int(self.projector_type == "linear")
        found = re.fullmatch(r"mlp([1-9][0-9]*)x_gelu", self.projector_type)
        if found is None:
            raise ValueError(
                f"projector_type {self.projector_type!r} is unknown: use 'linear', 'mlp{{k}}x_gelu' or "
                "'identity'"
            )
        return int(found[1])
