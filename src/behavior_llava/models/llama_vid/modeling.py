"""LLaMA-VID: every frame becomes one context token, which depends on the question, and few content tokens.

What the processor makes goes in; logits and a loss come out. The question is an input like the pixels. One
medium shown for one question is an insertion: its features take the places of its placeholder tokens, frame
after frame, the context token first. Vision tower, Q-Former and language model are transformers' own.
Source: https://arxiv.org/abs/2311.17043, section 3; https://github.com/dvlab-research/LLaMA-VID.

    B rows · T tokens · F frames · I insertions · G pairs of a frame and a question · N patches of a frame
    D width of vision · H width of language · Q queries · L tokens of a question · n content tokens of a frame
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    GenerationMixin,
    InstructBlipQFormerModel,
    InstructBlipVisionModel,
    LlamaModel,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults

from behavior_llava.models.llama_vid.configuration import LlamaVidConfig

FRAMES_AT_ONCE = 64
"""Frames, or pairs of a frame and a question, that pass the vision part in one call: bounds memory alone."""

INSERTION_INPUTS = ("num_frames", "first_frame", "qformer_input_ids", "qformer_attention_mask")
VISUAL_INPUTS = ("pixel_values", "frame_features", *INSERTION_INPUTS)


class LlamaVidPreTrainedModel(PreTrainedModel):
    """What transformers asks of every model class."""

    config: LlamaVidConfig
    base_model_prefix = "model"
    input_modalities: ClassVar[list[str]] = ["image", "video", "text"]
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = [
        "InstructBlipEncoderLayer",
        "InstructBlipQFormerEmbeddings",
        "InstructBlipQFormerLayer",
        "LlamaDecoderLayer",
    ]
    _skip_keys_device_placement: ClassVar[list[str]] = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LlamaVidModel):
            init.normal_(module.query_tokens, mean=0.0, std=self.config.qformer_config.initializer_range)


def _projector(config: LlamaVidConfig) -> nn.Module:
    width, depth = config.text_config.hidden_size, config.projector_depth
    if depth == 0:
        return nn.Identity()
    first = nn.Linear(config.vision_config.hidden_size, width)
    if config.projector_type == "linear":
        return first
    rest = [layer for _ in range(depth - 1) for layer in (nn.GELU(), nn.Linear(width, width))]
    return nn.Sequential(first, *rest)


class LlamaVidModel(LlamaVidPreTrainedModel):
    """All of LLaMA-VID below the language head."""

    def __init__(self, config: LlamaVidConfig) -> None:
        super().__init__(config)
        vision, qformer, text = config.vision_config, config.qformer_config, config.text_config
        self.vision_tower = InstructBlipVisionModel(vision)
        # the last block's output is used as it is
        self.vision_tower.add_module("post_layernorm", nn.Identity())
        self.qformer_layernorm = nn.LayerNorm(vision.hidden_size, eps=1e-5)
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, qformer.hidden_size))
        self.qformer = InstructBlipQFormerModel(qformer)
        self.context_query_projector = nn.Linear(qformer.hidden_size, vision.hidden_size)
        self.context_key_projector = nn.Linear(vision.hidden_size, vision.hidden_size)
        self.context_value_projector = nn.Linear(vision.hidden_size, text.hidden_size)
        self.multi_modal_projector = _projector(config)
        self.language_model = LlamaModel(text)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's word embeddings."""
        return self.language_model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Puts other word embeddings in the language model."""
        self.language_model.set_input_embeddings(value)

    # ---- from frames to features ----

    def encode_frames(self, pixel_values: Tensor) -> Tensor:
        """The vision tower's tokens of frames [F, 3, S, S]: [F, 1+N, D], the class token first.

        Raises:
            ValueError: the frames have another size than the model.
        """
        size = self.config.vision_config.image_size
        if pixel_values.ndim != 4 or tuple(pixel_values.shape[1:]) != (3, size, size):
            raise ValueError(
                f"pixel_values have shape {tuple(pixel_values.shape)}, expected (frames, 3, {size}, {size})"
            )
        # a frozen tower keeps nothing for a backward pass: no parameter asks for it
        encoded = [
            self.vision_tower(pixel_values=frames).last_hidden_state
            for frames in pixel_values.split(FRAMES_AT_ONCE)
        ]
        return torch.cat(encoded)

    def content_tokens(self, patches: Tensor) -> Tensor:
        """What is in frames, whatever the question: patches [F, N, D], without class token, to [F, n, H]."""
        cells, side = self.config.cells, self.config.side
        if cells is not None:
            grid = patches.transpose(1, 2).unflatten(2, (side, side))
            patches = functional.avg_pool2d(grid, side // cells).flatten(2).transpose(1, 2)
        return self.multi_modal_projector(patches)

    def text_queries(self, encoded: Tensor, question_ids: Tensor, question_mask: Tensor) -> Tensor:
        """What the Q-Former asks each frame for its question: [G, Q, D].

        Args:
            encoded: tokens of the frames, [G, 1+N, D]; long-video features come without the class token.
            question_ids: [G, L].
            question_mask: [G, L], 1 for a token, 0 for padding.
        """
        queries = self.query_tokens.expand(len(encoded), -1, -1)
        seen = question_mask.new_ones(queries.shape[:2])
        out = self.qformer(
            input_ids=question_ids,
            attention_mask=torch.cat([seen, question_mask], dim=1),
            query_embeds=queries,
            encoder_hidden_states=self.qformer_layernorm(encoded),
        )
        return self.context_query_projector(out.last_hidden_state[:, : queries.shape[1]])

    def context_token(self, text_queries: Tensor, patches: Tensor) -> Tensor:
        """What of frames matters for a question: queries [G, Q, D] over patches [G, N, D] give [G, 1, H].

        The queries attend to the raw patches; the mean of what they find is projected.
        """
        keys = self.context_key_projector(patches)
        found = functional.scaled_dot_product_attention(text_queries, keys, patches)
        return self.context_value_projector(found.mean(1, keepdim=True))

    def get_image_features(
        self,
        *,
        pixel_values: Tensor | None = None,
        frame_features: Tensor | None = None,
        num_frames: Tensor,
        first_frame: Tensor,
        qformer_input_ids: Tensor,
        qformer_attention_mask: Tensor,
    ) -> list[Tensor]:
        """The features of every insertion, [num_frames * (1+n), H] each; arguments as in `forward`.

        Raises:
            ValueError: the inputs do not fit each other or the model.
        """
        if (pixel_values is None) == (frame_features is None):
            raise ValueError("give either pixel_values or frame_features")
        if pixel_values is not None:
            encoded = self.encode_frames(pixel_values)
            patches = encoded[:, 1:]
        else:
            assert frame_features is not None
            expected = (self.config.num_patches, self.config.vision_config.hidden_size)
            if frame_features.ndim != 3 or tuple(frame_features.shape[1:]) != expected:
                raise ValueError(
                    f"frame_features have shape {tuple(frame_features.shape)}, expected (frames, "
                    f"{expected[0]}, {expected[1]}): features of patches, without the class token"
                )
            encoded = patches = frame_features.to(self.qformer_layernorm.weight.dtype)
        counts = self._counts(
            num_frames, first_frame, qformer_input_ids, qformer_attention_mask, len(encoded)
        )
        device = encoded.device
        frame_G = torch.cat(
            [
                torch.arange(first, first + count)
                for first, count in zip(first_frame.tolist(), counts, strict=True)
            ]
        ).to(device)
        question_G = torch.repeat_interleave(
            torch.arange(len(counts), device=device), torch.tensor(counts, device=device)
        )
        context = []
        for frames, questions in zip(
            frame_G.split(FRAMES_AT_ONCE), question_G.split(FRAMES_AT_ONCE), strict=True
        ):
            queries = self.text_queries(
                encoded[frames], qformer_input_ids[questions], qformer_attention_mask[questions]
            )
            context.append(self.context_token(queries, patches[frames]))
        content = self.content_tokens(patches)
        tokens = torch.cat([torch.cat(context), content[frame_G]], dim=1)
        return [features.flatten(0, 1) for features in tokens.split(counts)]

    def _counts(
        self, num_frames: Tensor, first_frame: Tensor, ids: Tensor, mask: Tensor, frames: int
    ) -> list[int]:
        counts, firsts = num_frames.tolist(), first_frame.tolist()
        if not len(counts) == len(firsts) == len(ids) == len(mask):
            raise ValueError(
                f"{len(counts)} num_frames, {len(firsts)} first_frame, {len(ids)} qformer_input_ids and "
                f"{len(mask)} qformer_attention_mask: one of each is needed for every insertion"
            )
        if not counts:
            raise ValueError("frames are given, but no insertion asks for them")
        for number, (first, count) in enumerate(zip(firsts, counts, strict=True)):
            if count < 1 or first < 0 or first + count > frames:
                raise ValueError(
                    f"insertion {number} asks for {count} frames from frame {first} on, of {frames} frames"
                )
        return counts

    # ---- from features to the sequence ----

    def _check_places(self, is_placeholder: Tensor, features: list[Tensor]) -> None:
        """Refuses features that do not fill the placeholders, row by row: an insertion lies in one row."""
        places = is_placeholder.sum(1).tolist()
        sizes = [len(item) for item in features]
        if sum(places) != sum(sizes):
            raise ValueError(
                f"{sum(places)} placeholder tokens in input_ids but {sum(sizes)} features of "
                f"{len(sizes)} insertions"
            )
        upcoming = iter(sizes)
        for row, count in enumerate(places):
            left = count
            while left > 0:
                left -= next(upcoming)
            if left < 0:
                raise ValueError(
                    f"row {row} has {count} placeholder tokens, which {count - left} features do not fill: "
                    "an insertion must lie in one row"
                )

    @merge_with_config_defaults
    @can_return_tuple
    def forward(  # noqa: PLR0913 - transformers passes every input by its name
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        frame_features: Tensor | None = None,
        num_frames: Tensor | None = None,
        first_frame: Tensor | None = None,
        qformer_input_ids: Tensor | None = None,
        qformer_attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """The language model's states over text and features.

        Args:
            input_ids: [B, T], with one image_token_id for every feature.
            attention_mask: [B, T] or what LlamaModel takes; None where nothing is masked or rows are packed.
            position_ids: [B, T]; that they start again within a row tells packed rows apart.
            inputs_embeds: [B, T, H] in place of input_ids, features already in their places.
            pixel_values: [F, 3, S, S], the frames of all media, each medium once.
            frame_features: [F, N, D] in place of pixel_values: the tower's output without class tokens.
            num_frames: [I], frames of each insertion; insertions in the order of their placeholders.
            first_frame: [I], where an insertion's frames begin.
            qformer_input_ids: [I, L], each insertion's question.
            qformer_attention_mask: [I, L], 1 for a token, 0 for padding.

        Raises:
            ValueError: the features are not as many as the placeholders, or inputs are missing.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        insertions = {
            "num_frames": num_frames,
            "first_frame": first_frame,
            "qformer_input_ids": qformer_input_ids,
            "qformer_attention_mask": qformer_attention_mask,
        }
        given = {name: value for name, value in insertions.items() if value is not None}
        has_frames = pixel_values is not None or frame_features is not None
        if (has_frames and len(given) < len(insertions)) or (given and not has_frames):
            raise ValueError(
                f"pixel_values or frame_features come together with {', '.join(insertions)}; given: "
                f"{', '.join([*['frames'] * has_frames, *given])}"
            )
        if inputs_embeds is not None and has_frames:
            raise ValueError("frames need input_ids, whose placeholders say where their features go")
        if input_ids is not None:
            is_placeholder = input_ids == self.config.image_token_id
            words = self.get_input_embeddings()(input_ids.masked_fill(is_placeholder, 0))
            features = []
            if has_frames:
                features = self.get_image_features(
                    pixel_values=pixel_values, frame_features=frame_features, **given
                )
            self._check_places(is_placeholder, features)
            inputs_embeds = words
            if features:
                inputs_embeds = words.masked_scatter(
                    is_placeholder.unsqueeze(-1), torch.cat(features).to(words)
                )
        return self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )


class LlamaVidForConditionalGeneration(LlamaVidPreTrainedModel, GenerationMixin):
    """LLaMA-VID with its language head."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "lm_head.weight": "model.language_model.embed_tokens.weight"
    }

    def __init__(self, config: LlamaVidConfig) -> None:
        super().__init__(config)
        self.model = LlamaVidModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's word embeddings."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Puts other word embeddings in the language model."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language head."""
        return self.lm_head

    @can_return_tuple
    def forward(  # noqa: PLR0913 - transformers passes every input by its name
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        frame_features: Tensor | None = None,
        num_frames: Tensor | None = None,
        first_frame: Tensor | None = None,
        qformer_input_ids: Tensor | None = None,
        qformer_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, vocabulary] and, with labels, the mean loss; other arguments as in `LlamaVidModel`.

        Args:
            labels: [B, T], -100 where nothing is supervised.
            logits_to_keep: only the last so many places, or those of a tensor; 0 for all.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            frame_features=frame_features,
            num_frames=num_frames,
            first_frame=first_frame,
            qformer_input_ids=qformer_input_ids,
            qformer_attention_mask=qformer_attention_mask,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    # ---- generation ----

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *, is_first_iteration: bool | None = False, **kwargs: Any
    ) -> dict[str, Any]:
        """The inputs of one step: with a cache, frames and questions go into the first one only."""
        inputs = super().prepare_inputs_for_generation(  # pyright: ignore[reportAttributeAccessIssue]
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            for name in VISUAL_INPUTS:
                inputs.pop(name, None)
        return inputs

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Tensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[Tensor | None, dict[str, Any]]:
        """Every row `expand_size` times, for beams or several answers; all of its copies share its frames."""
        visual = {name: model_kwargs.pop(name) for name in VISUAL_INPUTS if name in model_kwargs}
        if expand_size > 1 and input_ids is not None and visual.get("num_frames") is not None:
            sizes = (visual["num_frames"] * self.config.num_tokens_per_frame).cpu()
            places = (input_ids == self.config.image_token_id).sum(1).cpu()
            # the row of each insertion: the first whose placeholders reach as far as the insertion's
            row_I = torch.searchsorted(places.cumsum(0), sizes.cumsum(0))
            copies = [
                insertion
                for row in range(len(input_ids))
                for _ in range(expand_size)
                for insertion in (row_I == row).nonzero().flatten().tolist()
            ]
            for name in INSERTION_INPUTS:
                visual[name] = visual[name][copies]
        expanded, model_kwargs = super()._expand_inputs_for_generation(  # pyright: ignore[reportAttributeAccessIssue]
            expand_size, is_encoder_decoder, input_ids, **model_kwargs
        )
        return expanded, model_kwargs | visual
