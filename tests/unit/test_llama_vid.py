"""LLaMA-VID on random weights: against a naive version written from the paper's description, and by itself.

The naive version loops over frames, patches, heads and tokens and knows nothing of the model's code. Both run
in float64: features agree to 1e-9, logits to 3e-5, since transformers' LLaMA computes norms and angles in
float32. What the original computed is in tests/golden.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText

from behavior_llava.models.llama_vid import LlamaVidConfig, LlamaVidForConditionalGeneration, modeling

VOCABULARY = 50
EXACT, ROUNDED = 1e-9, 3e-5


def configure(**changes: Any) -> LlamaVidConfig:
    """A tiny model's config; sizes of the parts as vision_*, qformer_* and text_*."""
    sizes: dict[str, dict[str, Any]] = {
        "vision": {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 20,
            "patch_size": 2,
            "image_size": 8,
        },
        "qformer": {
            "vocab_size": 30,
            "hidden_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 12,
            "max_position_embeddings": 20,
            "encoder_hidden_size": 24,
        },
        "text": {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 28,
            "max_position_embeddings": 256,
            "rms_norm_eps": 1e-5,
            "pad_token_id": 0,
        },
    }
    settings: dict[str, Any] = {"compress_type": "mean", "num_query_tokens": 3}
    for name, value in changes.items():
        part, _, rest = name.partition("_")
        if part in sizes:
            sizes[part][rest] = value
        else:
            settings[name] = value
    if "hidden_size" in sizes["vision"]:
        sizes["qformer"]["encoder_hidden_size"] = sizes["vision"]["hidden_size"]
    return LlamaVidConfig(**{f"{part}_config": values for part, values in sizes.items()}, **settings)


def build(config: LlamaVidConfig, seed: int = 0) -> LlamaVidForConditionalGeneration:
    """A model in float64 whose every parameter matters."""
    model = LlamaVidForConditionalGeneration(config).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            is_scale = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(1 + 0.2 * noise if is_scale else 0.3 * noise)
    return model


@pytest.fixture(scope="module")
def model() -> LlamaVidForConditionalGeneration:
    """To be read only."""
    return build(configure())


# ---- the naive version -------------------------------------------------------------------------------------


class Naive:
    """LLaMA-VID as it is described, one frame, head and token at a time."""

    def __init__(self, model: LlamaVidForConditionalGeneration) -> None:
        self.config = model.config
        self.weights = {name: value.detach() for name, value in model.state_dict().items()}

    def linear(self, name: str, x: Tensor) -> Tensor:
        bias = self.weights.get(f"{name}.bias", torch.zeros(()))
        return x @ self.weights[f"{name}.weight"].T + bias

    def norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        scaled = centered / (centered.square().mean(-1, keepdim=True) + eps).sqrt()
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    @staticmethod
    def gelu(x: Tensor) -> Tensor:
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    @staticmethod
    def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, added: Tensor | None = None) -> Tensor:
        size = query.shape[1] // heads
        found = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = query[:, part] @ key[:, part].T / math.sqrt(size)
            weights = (scores if added is None else scores + added).exp()
            found.append(weights / weights.sum(1, keepdim=True) @ value[:, part])
        return torch.cat(found, dim=1)

    def tower(self, frame: Tensor) -> Tensor:
        vision, patch = self.config.vision_config, self.config.vision_config.patch_size
        name = "model.vision_tower."
        kernel = self.weights[name + "embeddings.patch_embedding.weight"].flatten(1)
        bias = self.weights[name + "embeddings.patch_embedding.bias"]
        tokens = [self.weights[name + "embeddings.class_embedding"][0, 0]]
        for row in range(0, frame.shape[1], patch):
            for column in range(0, frame.shape[2], patch):
                square = frame[:, row : row + patch, column : column + patch]
                tokens.append(kernel @ square.flatten() + bias)
        x = torch.stack(tokens) + self.weights[name + "embeddings.position_embedding"][0]
        for number in range(vision.num_hidden_layers):
            layer = f"{name}encoder.layers.{number}."
            query, key, value = self.linear(
                layer + "self_attn.qkv", self.norm(layer + "layer_norm1", x, 1e-6)
            ).split(vision.hidden_size, dim=1)
            mixed = self.attend(query, key, value, vision.num_attention_heads)
            x = x + self.linear(layer + "self_attn.projection", mixed)
            inner = self.gelu(self.linear(layer + "mlp.fc1", self.norm(layer + "layer_norm2", x, 1e-6)))
            x = x + self.linear(layer + "mlp.fc2", inner)
        return x

    def queries(self, encoded: Tensor, question: Tensor, mask: Tensor) -> Tensor:
        settings, name = self.config.qformer_config, "model.qformer."
        words = [
            self.weights[name + "embeddings.word_embeddings.weight"][token]
            + self.weights[name + "embeddings.position_embeddings.weight"][place]
            for place, token in enumerate(question.tolist())
        ]
        asked = self.weights["model.query_tokens"][0]
        count, heads = len(asked), settings.num_attention_heads
        x = self.norm(name + "embeddings.layernorm", torch.cat([asked, torch.stack(words)]), 1e-12)
        seen = self.norm("model.qformer_layernorm", encoded, 1e-5)
        hidden = -10000.0 * torch.cat([torch.zeros(count), 1 - mask.double()])

        def block(layer: str, which: str, source: Tensor, target: Tensor, added: Tensor | None) -> Tensor:
            at = f"{layer}{which}."
            parts = [
                self.linear(f"{at}attention.{part}", value)
                for part, value in (("query", target), ("key", source), ("value", source))
            ]
            mixed = self.attend(parts[0], parts[1], parts[2], heads, added)
            return self.norm(at + "output.LayerNorm", self.linear(at + "output.dense", mixed) + target, 1e-12)

        def feed(layer: str, suffix: str, x: Tensor) -> Tensor:
            inner = self.gelu(self.linear(f"{layer}intermediate{suffix}.dense", x))
            out = self.linear(f"{layer}output{suffix}.dense", inner)
            return self.norm(f"{layer}output{suffix}.LayerNorm", out + x, 1e-12)

        for number in range(settings.num_hidden_layers):
            layer = f"{name}encoder.layer.{number}."
            x = block(layer, "attention", x, x, hidden)
            asked, text = x[:count], x[count:]
            if number % settings.cross_attention_frequency == 0:
                asked = block(layer, "crossattention", seen, asked, None)
            x = torch.cat([feed(layer, "_query", asked), feed(layer, "", text)])
        return self.linear("model.context_query_projector", x[:count])

    def content(self, patches: Tensor) -> Tensor:
        side, kind = self.config.side, self.config.compress_type
        cells = {None: side, "mean": 1}.get(kind) or int(kind.split(":")[1])
        size = side // cells
        # every whole square of that size, one beside the other
        starts = [start for start in range(side) if start % size == 0 and start + size <= side]
        found = []
        for row in range(len(starts)):
            for column in range(len(starts)):
                inside = [
                    patches[y * side + x]
                    for y in range(row * size, (row + 1) * size)
                    for x in range(column * size, (column + 1) * size)
                ]
                found.append(torch.stack(inside).mean(0))
        x, name = torch.stack(found), "model.multi_modal_projector"
        if self.config.projector_type == "identity":
            return x
        if self.config.projector_type == "linear":
            return self.linear(name, x)
        for number in range(int(self.config.projector_type[3])):
            x = self.linear(f"{name}.{2 * number}", self.gelu(x) if number else x)
        return x

    def features(self, frames: list[Tensor], question: Tensor, mask: Tensor, *, has_cls: bool) -> Tensor:
        """Of encoded frames: for each the context token, then the content tokens."""
        found = []
        for encoded in frames:
            patches = encoded[1:] if has_cls else encoded
            queries = self.queries(encoded, question, mask)
            keys = self.linear("model.context_key_projector", patches)
            weights = (queries @ keys.T / math.sqrt(patches.shape[1])).exp()
            attended = weights / weights.sum(1, keepdim=True) @ patches
            found.append(self.linear("model.context_value_projector", attended.mean(0))[None])
            found.append(self.content(patches))
        return torch.cat(found)

    def language(self, x: Tensor) -> Tensor:
        """Logits of one sequence of embeddings."""
        text, name = self.config.text_config, "model.language_model."
        size = text.hidden_size // text.num_attention_heads
        factor = (text.rope_parameters or {}).get("factor", 1.0)
        base = (text.rope_parameters or {}).get("rope_theta", 10000.0)

        def rms(at: str, x: Tensor) -> Tensor:
            return (
                x
                / (x.square().mean(-1, keepdim=True) + text.rms_norm_eps).sqrt()
                * self.weights[at + ".weight"]
            )

        def turned(head: Tensor) -> Tensor:
            out = head.clone()
            for place in range(len(head)):
                for pair in range(size // 2):
                    angle = place / factor * base ** (-2 * pair / size)
                    one, two = head[place, pair], head[place, pair + size // 2]
                    out[place, pair] = one * math.cos(angle) - two * math.sin(angle)
                    out[place, pair + size // 2] = two * math.cos(angle) + one * math.sin(angle)
            return out

        later = torch.full((len(x), len(x)), -torch.inf).triu(1)
        for number in range(text.num_hidden_layers):
            at = f"{name}layers.{number}."
            normed = rms(at + "input_layernorm", x)
            query, key, value = (self.linear(f"{at}self_attn.{part}_proj", normed) for part in "qkv")
            heads = []
            for head in range(text.num_attention_heads):
                shared = head // (text.num_attention_heads // text.num_key_value_heads)
                mine, theirs = (
                    slice(head * size, (head + 1) * size),
                    slice(shared * size, (shared + 1) * size),
                )
                heads.append(
                    self.attend(turned(query[:, mine]), turned(key[:, theirs]), value[:, theirs], 1, later)
                )
            x = x + self.linear(at + "self_attn.o_proj", torch.cat(heads, dim=1))
            normed = rms(at + "post_attention_layernorm", x)
            gate = self.linear(at + "mlp.gate_proj", normed)
            inner = gate * torch.sigmoid(gate) * self.linear(at + "mlp.up_proj", normed)
            x = x + self.linear(at + "mlp.down_proj", inner)
        return self.linear("lm_head", rms(name + "norm", x))

    def insertions(self, row: Row) -> list[Tensor]:
        """The features of each insertion of a row."""
        frames = list(row.frames) if row.has_features else [self.tower(frame) for frame in row.frames]
        return [
            self.features(
                frames[first : first + count],
                question,
                torch.ones(len(question)),
                has_cls=not row.has_features,
            )
            for first, count, question in row.insertions
        ]

    def logits(self, row: Row) -> Tensor:
        """Of one row, its features put in the places of its placeholders."""
        embeddings = self.weights["model.language_model.embed_tokens.weight"]
        upcoming = iter(torch.cat(self.insertions(row)))
        return self.language(
            torch.stack(
                [
                    next(upcoming) if token == self.config.image_token_id else embeddings[token]
                    for token in row.tokens
                ]
            )
        )


# ---- rows and batches --------------------------------------------------------------------------------------


class Row:
    """One row without padding: tokens, frames, and (first frame, frames, question) of its insertions."""

    def __init__(
        self,
        tokens: list[int],
        frames: Tensor,
        insertions: list[tuple[int, int, Tensor]],
        *,
        has_features: bool,
    ) -> None:
        self.tokens, self.frames, self.insertions = tokens, frames, insertions
        self.has_features = has_features


def make_row(
    config: LlamaVidConfig,
    seed: int,
    frames: int = 0,
    rounds: int = 1,
    *,
    has_features: bool = False,
    scattered: bool = False,
) -> Row:
    """Random text, frames and questions; `scattered` puts words between the features."""
    generator = torch.Generator().manual_seed(seed)

    def words(low: int, high: int) -> list[int]:
        count = int(torch.randint(low, high, (), generator=generator))
        return torch.randint(1, VOCABULARY, (count,), generator=generator).tolist()

    size, width = config.vision_config.image_size, config.vision_config.hidden_size
    shape = (frames, config.num_patches, width) if has_features else (frames, 3, size, size)
    pixels = torch.randn(shape, generator=generator, dtype=torch.float64)
    tokens = [1, *words(1, 5)]
    insertions = []
    for _ in range(rounds if frames else 0):
        if scattered:
            for _ in range(frames):
                tokens += [config.image_token_id] * config.num_tokens_per_frame + words(0, 3)
        else:
            tokens += [config.image_token_id] * frames * config.num_tokens_per_frame
        tokens += words(2, 5)
        length = int(torch.randint(3, 9, (), generator=generator))
        insertions.append((0, frames, torch.randint(1, 30, (length,), generator=generator)))
    return Row(tokens, pixels, insertions, has_features=has_features)


def batch(rows: list[Row], side: str = "right") -> dict[str, Tensor]:
    """Rows as the processor gives them to the model; the first two tokens of a row are not supervised."""
    width = max(len(row.tokens) for row in rows)

    def padded(values: list[int], fill: int) -> list[int]:
        rest = [fill] * (width - len(values))
        return values + rest if side == "right" else rest + values

    token = VOCABULARY
    inputs = {
        "input_ids": torch.tensor([padded(row.tokens, 0) for row in rows]),
        "attention_mask": torch.tensor([padded([1] * len(row.tokens), 0) for row in rows]),
        "labels": torch.tensor(
            [
                padded([-100, -100] + [-100 if value == token else value for value in row.tokens[2:]], -100)
                for row in rows
            ]
        ),
    }
    first, firsts, counts, questions = 0, [], [], []
    for row in rows:
        for start, count, question in row.insertions:
            firsts.append(first + start)
            counts.append(count)
            questions.append(question)
        first += len(row.frames)
    if not counts:
        return inputs
    longest = max(map(len, questions))
    frames = torch.cat([row.frames for row in rows if len(row.frames)])
    return inputs | {
        "frame_features" if any(row.has_features for row in rows) else "pixel_values": frames,
        "num_frames": torch.tensor(counts),
        "first_frame": torch.tensor(firsts),
        "qformer_input_ids": torch.stack(
            [torch.nn.functional.pad(question, (0, longest - len(question))) for question in questions]
        ),
        "qformer_attention_mask": torch.tensor(
            [[1] * len(question) + [0] * (longest - len(question)) for question in questions]
        ),
    }


def visual(row: Row) -> dict[str, Tensor]:
    return {name: value for name, value in batch([row]).items() if name in modeling.VISUAL_INPUTS}


def some_rows(config: LlamaVidConfig) -> list[Row]:
    """An image, a video, text alone, two rounds on an image, two rounds on a video."""
    return [
        make_row(config, 1, frames=1),
        make_row(config, 2, frames=3),
        make_row(config, 3),
        make_row(config, 4, frames=1, rounds=2),
        make_row(config, 5, frames=2, rounds=2),
    ]


def alone(model: Any, row: Row) -> Tensor:
    with torch.no_grad():
        return model(**batch([row])).logits[0]


# ---- the model computes what is described ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "changes"),
    [
        (1, {"compress_type": "mean"}),
        (2, {"compress_type": None}),
        (3, {"compress_type": "grid:2"}),
        (4, {"compress_type": "grid:4"}),
        (5, {"compress_type": "grid:3", "vision_image_size": 12, "vision_num_hidden_layers": 1}),
        # an odd number of patches: the class token is dropped all the same
        (6, {"compress_type": "grid:3", "vision_image_size": 6}),
        (7, {"compress_type": None, "vision_image_size": 2}),
        # cells that do not fill the side, and more of them than asked for
        (13, {"compress_type": "grid:3"}),
        (14, {"compress_type": "grid:2", "vision_image_size": 10}),
        (8, {"projector_type": "linear", "vision_hidden_size": 12, "num_query_tokens": 1}),
        (9, {"projector_type": "mlp3x_gelu", "qformer_cross_attention_frequency": 3}),
        (10, {"projector_type": "identity", "vision_hidden_size": 32, "vision_num_attention_heads": 4}),
        (11, {"text_rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}}),
        (12, {"qformer_num_hidden_layers": 5, "text_num_key_value_heads": 4, "text_num_hidden_layers": 1}),
    ],
)
def test_equals_the_naive_version(seed: int, changes: dict[str, Any]) -> None:
    config = configure(**changes)
    model = build(config, seed)
    naive = Naive(model)
    for row in (
        make_row(config, seed, frames=2, rounds=2),
        make_row(config, seed + 50, frames=3, has_features=True, scattered=True),
    ):
        with torch.no_grad():
            features = model.model.get_image_features(**visual(row))
        for ours, theirs in zip(features, naive.insertions(row), strict=True):
            assert (ours - theirs).abs().max() < EXACT
        ours, theirs = alone(model, row), naive.logits(row)
        assert ours.shape == (len(row.tokens), VOCABULARY)
        assert (ours - theirs).abs().max() < ROUNDED
        # the answer is not the same whatever comes in
        assert (ours[-1] - ours[-2]).abs().max() > 1e-3


def test_loss_is_the_mean_over_supervised_tokens(model: LlamaVidForConditionalGeneration) -> None:
    inputs = batch(some_rows(model.config))
    with torch.no_grad():
        out = model(**inputs)
    losses = []
    for row, place in (inputs["labels"][:, 1:] != -100).nonzero().tolist():
        logits = out.logits[row, place]
        losses.append(logits.exp().sum().log() - logits[inputs["labels"][row, place + 1]])
    # the loss is computed in float32
    assert abs(float(out.loss) - float(torch.stack(losses).mean())) < 1e-6


def test_features_in_parts_are_the_whole(
    model: LlamaVidForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_row(model.config, seed, frames=seed, rounds=2) for seed in (1, 4, 3)]
    with torch.no_grad():
        whole = model(**batch(rows)).logits
        monkeypatch.setattr(modeling, "FRAMES_AT_ONCE", 3)
        assert (model(**batch(rows)).logits - whole).abs().max() < ROUNDED


def test_a_medium_of_several_rounds_is_encoded_once(model: LlamaVidForConditionalGeneration) -> None:
    seen = []
    handle = model.model.vision_tower.register_forward_hook(
        lambda module, args, kwargs, out: seen.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    try:
        alone(model, make_row(model.config, 1, frames=4, rounds=3))
    finally:
        handle.remove()
    assert seen == [4]


def test_question_moves_the_context_token_alone(model: LlamaVidForConditionalGeneration) -> None:
    one, two = model.model.get_image_features(**visual(make_row(model.config, 1, frames=2, rounds=2)))
    per_frame = model.config.num_tokens_per_frame
    for place in range(len(one)):
        moved = (one[place] - two[place]).abs().max().item()
        assert moved > 1e-3 if place % per_frame == 0 else moved == 0


# ---- batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("compress_type", ["mean", "grid:2"])
def test_neighbours_and_padding_change_nothing(side: str, compress_type: str) -> None:
    model = build(configure(compress_type=compress_type))
    rows = some_rows(model.config)
    expected = [alone(model, row) for row in rows]
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [2, 1], [3, 2]):
        inputs = batch([rows[number] for number in order], side)
        with torch.no_grad():
            logits = model(**inputs).logits
        for place, number in enumerate(order):
            real = logits[place][inputs["attention_mask"][place].bool()]
            assert (real - expected[number]).abs().max() < ROUNDED


def test_long_videos_in_a_batch(model: LlamaVidForConditionalGeneration) -> None:
    rows = [
        make_row(model.config, seed, frames=frames, has_features=True, scattered=True)
        for seed, frames in ((1, 5), (2, 0), (3, 2))
    ]
    expected = [alone(model, row) for row in rows]
    inputs = batch(rows)
    with torch.no_grad():
        logits = model(**inputs).logits
        half = inputs | {"frame_features": inputs["frame_features"].half()}
        stored = model(**half).logits
    for place, row in enumerate(rows):
        assert (logits[place, : len(row.tokens)] - expected[place]).abs().max() < ROUNDED
    assert 0 < (stored - logits).abs().max() < 0.1


@pytest.mark.parametrize("training", [True, False])
def test_text_alone(training: bool) -> None:
    model = build(configure())
    model.train(training)
    rows = [make_row(model.config, seed) for seed in (1, 2)]
    loss = model(**batch(rows)).loss
    loss.backward()
    assert math.isfinite(loss.item())
    assert model.model.language_model.embed_tokens.weight.grad.any()
    assert model.model.query_tokens.grad is None


def test_packed_rows_are_rows_apart(model: LlamaVidForConditionalGeneration) -> None:
    rows = some_rows(model.config)
    expected = torch.cat([alone(model, row) for row in rows])
    inputs = batch(rows)
    lengths = [len(row.tokens) for row in rows]
    packed = {name: value for name, value in inputs.items() if name not in ("attention_mask", "labels")}
    packed["input_ids"] = torch.tensor([[token for row in rows for token in row.tokens]])
    packed["position_ids"] = torch.cat([torch.arange(length) for length in lengths])[None]
    number = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(lengths))
    same = (number[:, None] == number[None]) & torch.ones(len(number), len(number)).tril().bool()
    with torch.no_grad():
        by_positions = model(**packed, use_cache=False).logits[0]
        by_mask = model(**packed, attention_mask=same[None, None], use_cache=False).logits[0]
        mixed = model(**packed, attention_mask=torch.ones_like(packed["input_ids"]), use_cache=False).logits[
            0
        ]
    assert (by_positions - expected).abs().max() < ROUNDED
    assert (by_mask - expected).abs().max() < ROUNDED
    assert (mixed - expected).abs().max() > 1e-3


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_both_attentions(model: LlamaVidForConditionalGeneration, implementation: str) -> None:
    other = build(configure())
    other.set_attn_implementation(implementation)
    assert other.model.qformer.config._attn_implementation == implementation
    inputs = batch(some_rows(model.config))
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        assert (other(**inputs).logits - model(**inputs).logits)[real].abs().max() < ROUNDED


def test_only_some_logits(model: LlamaVidForConditionalGeneration) -> None:
    inputs = batch(some_rows(model.config))
    del inputs["labels"]
    with torch.no_grad():
        whole = model(**inputs).logits
        assert (model(**inputs, logits_to_keep=3).logits - whole[:, -3:]).abs().max() < ROUNDED
        places = torch.tensor([0, 4])
        assert (model(**inputs, logits_to_keep=places).logits - whole[:, places]).abs().max() < ROUNDED


def test_states_of_all_layers(model: LlamaVidForConditionalGeneration) -> None:
    row = make_row(model.config, 1, frames=1)
    with torch.no_grad():
        out = model(**batch([row]), output_hidden_states=True)
    assert len(out.hidden_states) == model.config.text_config.num_hidden_layers + 1
    assert (model.lm_head(out.hidden_states[-1]) - out.logits).abs().max() < ROUNDED


# ---- bad input ---------------------------------------------------------------------------------------------


def _without_a_placeholder(inputs: dict[str, Tensor]) -> None:
    inputs["input_ids"][0, (inputs["input_ids"][0] == VOCABULARY).nonzero()[0]] = 5


def _one_placeholder_more(inputs: dict[str, Tensor]) -> None:
    inputs["input_ids"][0, 0] = VOCABULARY


def _a_placeholder_in_another_row(inputs: dict[str, Tensor]) -> None:
    _without_a_placeholder(inputs)
    inputs["input_ids"][1, 0] = VOCABULARY


def _more_frames_than_given(inputs: dict[str, Tensor]) -> None:
    inputs["first_frame"] += 1


def _no_frame(inputs: dict[str, Tensor]) -> None:
    inputs["num_frames"][0] = 0


def _no_insertions(inputs: dict[str, Tensor]) -> None:
    for name in modeling.INSERTION_INPUTS:
        inputs[name] = inputs[name][:0]


def _no_questions(inputs: dict[str, Tensor]) -> None:
    del inputs["qformer_input_ids"], inputs["qformer_attention_mask"]


def _fewer_questions(inputs: dict[str, Tensor]) -> None:
    inputs["qformer_input_ids"] = inputs["qformer_input_ids"][:1]


def _no_frames_at_all(inputs: dict[str, Tensor]) -> None:
    del inputs["pixel_values"]


def _no_media_at_all(inputs: dict[str, Tensor]) -> None:
    for name in modeling.VISUAL_INPUTS:
        inputs.pop(name, None)


def _two_kinds_of_frames(inputs: dict[str, Tensor]) -> None:
    inputs["frame_features"] = torch.zeros(4, 16, 24).double()


def _larger_frames(inputs: dict[str, Tensor]) -> None:
    inputs["pixel_values"] = torch.zeros(4, 3, 10, 10).double()


def _features_with_a_class_token(inputs: dict[str, Tensor]) -> None:
    del inputs["pixel_values"]
    inputs["frame_features"] = torch.zeros(4, 17, 24).double()


def _embeddings_too(inputs: dict[str, Tensor]) -> None:
    inputs["inputs_embeds"] = torch.zeros(*inputs["input_ids"].shape, 32).double()


def _embeddings_and_frames(inputs: dict[str, Tensor]) -> None:
    _embeddings_too(inputs)
    del inputs["input_ids"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without_a_placeholder, "7 placeholder tokens in input_ids but 8 features"),
        (_one_placeholder_more, "9 placeholder tokens in input_ids but 8 features"),
        (_a_placeholder_in_another_row, "row 0 has 1 placeholder tokens, which 2 features do not fill"),
        (_more_frames_than_given, "insertion 1 asks for 3 frames from frame 2 on, of 4 frames"),
        (_no_frame, "insertion 0 asks for 0 frames"),
        (_no_insertions, "no insertion asks for them"),
        (_no_questions, "given: frames, num_frames, first_frame"),
        (_fewer_questions, "2 num_frames, 2 first_frame, 1 qformer_input_ids and 2"),
        (_no_frames_at_all, "come together"),
        (_no_media_at_all, "8 placeholder tokens in input_ids but 0 features"),
        (_two_kinds_of_frames, "either pixel_values or frame_features"),
        (_larger_frames, r"shape \(4, 3, 10, 10\), expected \(frames, 3, 8, 8\)"),
        (
            _features_with_a_class_token,
            r"shape \(4, 17, 24\), expected \(frames, 16, 24\).*without the class",
        ),
        (_embeddings_too, "either input_ids or inputs_embeds"),
        (_embeddings_and_frames, "frames need input_ids"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    model: LlamaVidForConditionalGeneration, spoil: Any, said: str
) -> None:
    rows = [make_row(model.config, 1, frames=1), make_row(model.config, 2, frames=3)]
    inputs = batch(rows)
    model(**inputs)
    spoil(inputs)
    with pytest.raises(ValueError, match=said):
        model(**inputs)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"compress_type": "grid:5"}, "more cells than 4x4 patches"),
        ({"compress_type": "grid:1"}, "g >= 2"),
        ({"compress_type": "grid:0"}, "unknown"),
        ({"compress_type": "grid:-2"}, "unknown"),
        ({"compress_type": "grid:2x"}, "unknown"),
        ({"compress_type": "Mean"}, "unknown"),
        ({"compress_type": ""}, "unknown"),
        ({"projector_type": "mlp0x_gelu"}, "unknown"),
        ({"projector_type": "mlp2x_relu"}, "unknown"),
        ({"projector_type": "identity"}, "equal widths, not 24 and 32"),
        ({"image_token_id": 49}, "must lie above"),
        ({"vision_image_size": 9}, "no multiple"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        configure(**changes)


def test_widths_of_vision_must_agree() -> None:
    settings = configure().to_dict()
    settings["qformer_config"]["encoder_hidden_size"] = 23
    with pytest.raises(ValueError, match="width 23"):
        LlamaVidConfig(
            **{name: settings[name] for name in ("vision_config", "qformer_config", "text_config")}
        )


@pytest.mark.parametrize(("kind", "count"), [("mean", 1), ("grid:2", 4), ("grid:4", 16), (None, 256)])
def test_content_tokens_of_the_published_settings(kind: str | None, count: int) -> None:
    config = LlamaVidConfig(compress_type=kind)
    assert (config.num_patches, config.num_content_tokens) == (256, count)
    assert config.num_tokens_per_frame == 1 + count
    assert config.image_token_id == 32000


@pytest.mark.parametrize(
    ("pixels", "kind", "count"), [(336, "grid:5", 36), (224, "grid:5", 25), (224, "grid:3", 9)]
)
def test_cells_that_do_not_fill_the_side_are_the_originals(pixels: int, kind: str, count: int) -> None:
    """The counts that the original gave when it was run with these settings."""
    config = LlamaVidConfig(compress_type=kind, vision_config={"image_size": pixels, "patch_size": 14})
    assert config.num_content_tokens == count


# ---- generation --------------------------------------------------------------------------------------------


def greedy(model: Any, row: Row, count: int) -> list[int]:
    """The naive loop: the whole row anew for every token."""
    row = Row(list(row.tokens), row.frames, row.insertions, has_features=row.has_features)
    for _ in range(count):
        row.tokens.append(int(alone(model, row)[-1].argmax()))
    return row.tokens[-count:]


def generate(model: Any, rows: list[Row], **settings: Any) -> list[list[int]]:
    inputs = batch(rows, "left")
    del inputs["labels"]
    out = model.generate(
        **inputs,
        **{"do_sample": False, "max_new_tokens": 6, "eos_token_id": None, "pad_token_id": 0} | settings,
    )
    return out[:, inputs["input_ids"].shape[1] :].tolist()


def test_generation_equals_the_naive_loop(model: LlamaVidForConditionalGeneration) -> None:
    rows = some_rows(model.config)
    expected = [greedy(model, row, 6) for row in rows]
    assert len({tuple(tokens) for tokens in expected}) == len(rows)
    for row, tokens in zip(rows, expected, strict=True):
        assert generate(model, [row]) == [tokens]
        assert generate(model, [row], use_cache=False) == [tokens]
    assert generate(model, rows) == expected
    assert generate(model, rows, use_cache=False) == expected
    assert generate(model, rows[::-1]) == expected[::-1]


def test_long_videos_generate(model: LlamaVidForConditionalGeneration) -> None:
    rows = [
        make_row(model.config, seed, frames=frames, has_features=True, scattered=True)
        for seed, frames in ((1, 5), (2, 2))
    ]
    assert generate(model, rows) == [greedy(model, row, 6) for row in rows]


def test_several_answers_share_their_row_and_frames(model: LlamaVidForConditionalGeneration) -> None:
    rows = some_rows(model.config)
    several = generate(model, rows, num_beams=3, num_return_sequences=2)
    assert len(several) == 2 * len(rows)
    apart = [answer for row in rows for answer in generate(model, [row], num_beams=3, num_return_sequences=2)]
    assert several == apart


def test_copies_of_a_row_are_the_row(model: LlamaVidForConditionalGeneration) -> None:
    rows = some_rows(model.config)
    inputs = batch(rows)
    del inputs["labels"]
    ids, others = model._expand_inputs_for_generation(expand_size=3, **inputs)
    assert len(others["pixel_values"]) == len(inputs["pixel_values"])
    with torch.no_grad():
        logits = model(input_ids=ids, **others).logits
    for number, row in enumerate(rows):
        expected = alone(model, row)
        for copy in range(3):
            found = logits[3 * number + copy, : len(row.tokens)]
            assert (found - expected).abs().max() < ROUNDED


def test_the_vision_part_runs_once(model: LlamaVidForConditionalGeneration) -> None:
    seen = []
    handle = model.model.vision_tower.register_forward_hook(lambda *args: seen.append(1))
    try:
        generate(model, [make_row(model.config, 1, frames=2)])
        assert len(seen) == 1
        generate(model, [make_row(model.config, 1, frames=2)], use_cache=False)
        assert len(seen) == 1 + 6
    finally:
        handle.remove()


# ---- training ----------------------------------------------------------------------------------------------


def gradients(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor | None]:
    model.zero_grad()
    model(**inputs).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    "frozen", ["nothing", "vision_tower", "vision_tower|qformer|query_tokens|language_model"]
)
def test_gradient_checkpointing_changes_nothing(frozen: str) -> None:
    model = build(configure(qformer_hidden_dropout_prob=0.0, qformer_attention_probs_dropout_prob=0.0))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not re.search(frozen, name)
    inputs = batch(some_rows(model.config))
    model.train()
    plain = gradients(model, inputs)
    model.activation_checkpointing_enable()
    again = gradients(model, inputs)
    assert sum(value is not None for value in plain.values()) >= 8
    for name, value in plain.items():
        other = again[name]
        assert (value is None) == (other is None), name
        if value is not None and other is not None:
            # the loss is computed in float32
            assert (value - other).abs().max() < 1e-6, name


def test_a_frozen_tower_keeps_no_graph(model: LlamaVidForConditionalGeneration) -> None:
    other = build(configure())
    frames = make_row(other.config, 1, frames=2).frames
    assert other.model.encode_frames(frames).requires_grad
    with torch.no_grad():
        assert not other.model.encode_frames(frames).requires_grad
    other.model.vision_tower.requires_grad_(False)
    assert not other.model.encode_frames(frames).requires_grad
    inputs = batch(some_rows(other.config))
    frozen, learned = gradients(other, inputs), gradients(build(configure()), inputs)
    for name, value in learned.items():
        if "vision_tower" in name:
            assert frozen[name] is None
            assert value is not None, name
        elif value is not None:
            other_value = frozen[name]
            assert other_value is not None
            assert (value - other_value).abs().max() < 1e-9, name


def test_gradients_are_those_of_the_loss() -> None:
    # by small steps, for one number of every part
    model = build(configure(vision_num_hidden_layers=1, qformer_num_hidden_layers=1))
    inputs = batch([make_row(model.config, 1, frames=2, rounds=2)])
    labels = inputs.pop("labels")

    def loss() -> Tensor:
        logits = model(**inputs).logits[:, :-1]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())

    loss().backward()
    names = (
        "model.vision_tower.embeddings.position_embedding",
        "model.query_tokens",
        "model.qformer.encoder.layer.0.crossattention.attention.value.weight",
        "model.qformer_layernorm.weight",
        "model.context_query_projector.weight",
        "model.context_key_projector.weight",
        "model.context_value_projector.weight",
        "model.multi_modal_projector.0.weight",
    )
    for name in names:
        parameter = model.get_parameter(name)
        assert parameter.grad is not None
        place = tuple(
            int(number) for number in torch.unravel_index(parameter.grad.abs().argmax(), parameter.shape)
        )
        found = []
        with torch.no_grad():
            for step in (1e-3, -1e-3):
                parameter[place] += step
                found.append(float(loss()))
                parameter[place] -= step
        slope = (found[0] - found[1]) / 2e-3
        assert abs(slope - float(parameter.grad[place])) < 1e-3 + 1e-2 * abs(slope), name


def test_dropout_is_the_qformers_in_training_also_when_frozen() -> None:
    model = build(configure())
    model.requires_grad_(False)
    row = make_row(model.config, 1, frames=2)
    text = make_row(model.config, 2)
    still = alone(model, row)
    assert torch.equal(alone(model, row), still)
    model.train()
    torch.manual_seed(0)
    moved = alone(model, row)
    assert (moved - still).abs().max() > 1e-6
    assert (alone(model, row) - moved).abs().max() > 1e-6
    # nothing else has dropout
    assert torch.equal(alone(model, text), alone(model, text))
    names = {
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout) and module.p
    }
    assert names
    assert all(name.startswith("model.qformer.") for name in names)
    off = build(configure(qformer_hidden_dropout_prob=0.0, qformer_attention_probs_dropout_prob=0.0)).train()
    assert (alone(off, row) - still).abs().max() < ROUNDED


# ---- as a model of transformers ----------------------------------------------------------------------------


def test_saved_and_loaded_by_auto_classes(tmp_path: Path) -> None:
    model = build(configure(compress_type="grid:2", projector_type="mlp3x_gelu")).float()
    model.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is LlamaVidConfig
    assert config.num_content_tokens == 4
    for part in ("vision_config", "qformer_config", "text_config"):
        assert getattr(config, part).to_diff_dict() == getattr(model.config, part).to_diff_dict(), part
    loaded, info = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert type(loaded) is LlamaVidForConditionalGeneration
    saved = load_file(tmp_path / "model.safetensors")
    assert set(saved) == set(loaded.state_dict()) == set(model.state_dict())
    inputs = batch(some_rows(model.config))
    inputs["pixel_values"] = inputs["pixel_values"].float()
    with torch.no_grad():
        assert torch.equal(loaded.eval()(**inputs).logits, model(**inputs).logits)


def test_the_placeholder_is_never_generated(model: LlamaVidForConditionalGeneration) -> None:
    assert model.config.image_token_id == VOCABULARY == model.lm_head.out_features
    assert model.get_input_embeddings().weight.shape[0] == VOCABULARY
    assert model.device == torch.device("cpu")


def test_names_that_configs_freeze_and_lora_rely_on(model: LlamaVidForConditionalGeneration) -> None:
    names = [name for name, _ in model.named_parameters()]
    tops = {".".join(name.split(".")[: 1 if name.startswith("lm_head") else 2]) for name in names}
    assert tops == {
        "lm_head",
        "model.context_key_projector",
        "model.context_query_projector",
        "model.context_value_projector",
        "model.language_model",
        "model.multi_modal_projector",
        "model.qformer",
        "model.qformer_layernorm",
        "model.query_tokens",
        "model.vision_tower",
    }
    modules = [
        name for name, _ in model.named_modules() if re.fullmatch(r".*language_model.*\.(q|k|v|o)_proj", name)
    ]
    assert len(modules) == 4 * model.config.text_config.num_hidden_layers


def test_random_weights_are_drawn_for_every_part() -> None:
    torch.manual_seed(0)
    model = LlamaVidForConditionalGeneration(configure(vision_initializer_range=0.1))
    for name, parameter in model.named_parameters():
        if not name.endswith("bias"):
            assert parameter.abs().max() > 0, name
    assert 0.05 < model.model.vision_tower.embeddings.position_embedding.std() < 0.15
    assert 0.01 < model.model.query_tokens.std() < 0.04
