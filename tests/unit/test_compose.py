"""A tower and a language model joined: both stay what they were, and what cannot be joined is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.architectures import TEXT, draw, tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    EfficientNetConfig,
    EfficientNetModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipVisionModel,
)
from typer.testing import CliRunner

from behavior_llava.cli import app
from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import auto
from behavior_llava.models.compose import compose
from behavior_llava.training.batching import Collator, loss
from behavior_llava.training.trainer import TrainConfig, freeze, train

CHATML = (
    "{%- if messages[0].role != 'system' -%}{{ '<|im_start|>system\nbe kind<|im_end|>\n' }}{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
"""As text models have it: it adds strings and falls over lists of parts."""
SIDES = {"image_size": 32, "patch_size": 8}
VISION = {**TEXT, "num_hidden_layers": 3}


def _clip(folder: Path) -> None:
    model = CLIPModel(
        CLIPConfig(
            vision_config={**VISION, **SIDES, "projection_dim": 16},
            text_config={**TEXT, "vocab_size": 50, "projection_dim": 16},
            projection_dim=16,
        )
    )
    draw(model, 1)
    model.save_pretrained(folder)
    sides = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=sides).save_pretrained(folder)


def _siglip(folder: Path) -> None:
    model = SiglipModel(
        SiglipConfig(vision_config={**VISION, **SIDES}, text_config={**TEXT, "vocab_size": 50})
    )
    draw(model, 1)
    model.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def _clip_tower(folder: Path) -> None:
    model = CLIPVisionModel(CLIPVisionConfig(**VISION, **SIDES))
    draw(model, 1)
    model.save_pretrained(folder)
    sides = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=sides).save_pretrained(folder)


def _efficientnet(folder: Path) -> None:
    model = EfficientNetModel(
        EfficientNetConfig(image_size=64, width_coefficient=0.025, depth_coefficient=0.3, hidden_dim=32)
    )
    draw(model, 1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
            module.momentum = None  # the statistics become those of this batch: the pictures stay apart
    model.train()(torch.randn(16, 3, 64, 64))
    model.eval().save_pretrained(folder)
    sides = {"height": 64, "width": 64}
    CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=sides).save_pretrained(folder)


VISIONS = {
    "clip": _clip,
    "siglip": _siglip,
    "clip_vision_model": _clip_tower,
    "efficientnet": _efficientnet,
}
NUM_TOKENS = {"clip": 16, "siglip": 16, "clip_vision_model": 16, "efficientnet": 4}


def _language(folder: Path, network: Any, config: Any, *, spare: int, **changes: Any) -> None:
    """`spare` rows of the embeddings belong to no token."""
    is_chat = network is not LlamaForCausalLM
    special = ["<|endoftext|>", "<s>", "<|im_start|>", "<|im_end|>"]
    tokens = tokenizer(
        special,
        pad="<|endoftext|>" if is_chat else None,
        eos="<|im_end|>" if is_chat else "<|endoftext|>",
        bos=None if is_chat else "<s>",
    )
    if is_chat:
        tokens.chat_template = CHATML
    model = network(
        config(
            **TEXT,
            num_key_value_heads=1,
            vocab_size=len(tokens) + spare,
            eos_token_id=tokens.eos_token_id,
            bos_token_id=tokens.bos_token_id,
            pad_token_id=tokens.pad_token_id,
            **changes,
        )
    )
    draw(model, 2)
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)


def _llama(folder: Path) -> None:
    _language(folder, LlamaForCausalLM, LlamaConfig, spare=0)


def _qwen2(folder: Path) -> None:
    _language(folder, Qwen2ForCausalLM, Qwen2Config, spare=5, tie_word_embeddings=True)


def _qwen3(folder: Path) -> None:
    _language(folder, Qwen3ForCausalLM, Qwen3Config, spare=0, tie_word_embeddings=True, head_dim=16)


LANGUAGES = {"llama": _llama, "qwen2": _qwen2, "qwen3": _qwen3}
"""A base model without template and padding token, untied; a chat model with rows to spare; one without."""
PAIRS = [
    ("clip", "llama"),
    ("siglip", "qwen2"),
    ("clip_vision_model", "qwen3"),
    ("siglip", "llama"),
    ("efficientnet", "qwen2"),
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    for name, build in {**VISIONS, **LANGUAGES}.items():
        build(folder / name)
    return folder


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def joined(
    request: pytest.FixtureRequest, parts: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, Path]:
    vision, language = request.param
    out = tmp_path_factory.mktemp("joined") / "model"
    told = compose(str(parts / vision), str(parts / language), out)
    assert told["language"] == language
    assert told["image_tokens"] == NUM_TOKENS[vision]
    assert told["projector_weights"] == 2 * (32 * 32 + 32)
    assert [path.name for path in out.parent.iterdir()] == ["model"]
    return vision, language, out


@pytest.fixture
def model(joined: tuple[str, str, Path], tmp_path: Path) -> auto.VisionLanguageModel:
    auto.check(str(joined[2]))
    return auto.load(str(joined[2]), FrameStore(tmp_path / "frames"), device="cpu")


def rows(media: dict[str, Media]) -> list[Example]:
    return [
        Example("1", "what do viewers feel", "joy", media["a"]),
        Example("2", "it was a good day", "a happy blue sky", media["clip"]),
        Example("3", "describe", "sadness", None),
    ]


# ---- what it is made of stays what it was ------------------------------------------------------------------


@torch.inference_mode()
def test_text_alone_gets_the_language_models_own_logits(
    joined: tuple[str, str, Path], model: auto.VisionLanguageModel, parts: Path
) -> None:
    own = AutoModelForCausalLM.from_pretrained(parts / joined[1], dtype=torch.float32).eval()
    tokens = AutoTokenizer.from_pretrained(parts / joined[1])
    ids = tokens("it was a good day: what do viewers feel", return_tensors="pt").input_ids
    wanted = own(input_ids=ids).logits
    found = model.network(input_ids=ids).logits
    assert ids.shape[1] > 8
    assert model.tokenizer("it was a good day: what do viewers feel").input_ids == ids[0].tolist()
    # a product with one more row may be summed in another order
    torch.testing.assert_close(found[..., : wanted.shape[-1]], wanted, atol=1e-5, rtol=1e-5)
    # a row is added only where none is to spare, and it is no likelier than the average
    rows_more = found.shape[-1] - wanted.shape[-1]
    assert rows_more == (0 if joined[1] == "qwen2" else 1)
    if rows_more:
        torch.testing.assert_close(found[..., -1], wanted.mean(-1), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_picture_gets_the_towers_own_features(
    joined: tuple[str, str, Path], model: auto.VisionLanguageModel, parts: Path, media: dict[str, Media]
) -> None:
    networks = {"siglip": SiglipVisionModel, "efficientnet": EfficientNetModel}
    tower = networks.get(joined[0], CLIPVisionModel).from_pretrained(parts / joined[0], dtype=torch.float32)
    tower.eval()
    pixels = model.pixels([media["a"], media["clip"]])
    if joined[0] == "efficientnet":
        assert pixels.shape == (3, 3, 64, 64)
        features = tower(pixels).last_hidden_state
        assert features.shape == (3, 32, 2, 2)
        # from left to right, then the next line
        wanted = torch.stack([features[:, :, y, x] for y in range(2) for x in range(2)], 1)
    else:
        assert pixels.shape == (3, 3, 32, 32)
        hidden = tower(pixels, output_hidden_states=True).hidden_states[-2]
        wanted = hidden if joined[0] == "siglip" else hidden[:, 1:]
    assert wanted.shape[1] == NUM_TOKENS[joined[0]]
    projected = model.network.model.multi_modal_projector(wanted)
    found = model.network.model.get_image_features(pixels).pooler_output
    for row, expected in zip(found, projected, strict=True):
        assert torch.equal(row, expected)


def test_the_seed_is_of_the_projector_alone(parts: Path, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> dict[str, torch.Tensor]:
        compose(str(parts / "clip"), str(parts / "qwen2"), tmp_path / name, seed=seed)
        return load_file(tmp_path / name / "model.safetensors")

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = weights("a", 0), weights("b", 0), weights("c", 1)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], other[name])}
    assert changed == {name for name in first if "multi_modal_projector" in name}
    assert len(changed) == 4


# ---- words -------------------------------------------------------------------------------------------------


def test_the_template_is_the_language_models_own(
    joined: tuple[str, str, Path], model: auto.VisionLanguageModel
) -> None:
    found = model.prefix("what do viewers feel", 2)
    if joined[1] == "llama":
        assert found == "USER: <image>\n<image>\nwhat do viewers feel ASSISTANT:"
        assert model.answer_text("joy") == " joy<|endoftext|>"
    else:
        assert found == (
            "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\n<image>\n<image>\nwhat do viewers feel"
            "<|im_end|>\n<|im_start|>assistant\n"
        )
        assert model.answer_text("joy") == "joy<|im_end|>\n"


def test_it_batches_and_generates(
    joined: tuple[str, str, Path], model: auto.VisionLanguageModel, media: dict[str, Media]
) -> None:
    batch = model.inputs(rows(media), supervise=True)
    count = NUM_TOKENS[joined[0]]
    assert [int((ids == model.image_token_id).sum()) for ids in batch["input_ids"]] == [count, 2 * count, 0]
    together = model.generate(rows(media), max_new_tokens=6)
    assert [model.generate([row], max_new_tokens=6)[0] for row in rows(media)] == together
    with torch.inference_mode():
        shown, other = (
            model.network(**model.inputs([Example("1", "describe", None, media[name])], supervise=False))
            for name in "ab"
        )
    assert (shown.logits[0, -1] - other.logits[0, -1]).abs().max() > 0.05


def test_the_projector_learns_alone(
    model: auto.VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in model.network.named_parameters()}
    settings = TrainConfig(
        epochs=1,
        freeze=("vision_tower", "language_model", "lm_head")
        if "lm_head.weight" in before
        else ("vision_tower", "language_model"),
        arguments={"learning_rate": 0.01, "per_device_train_batch_size": 3, "warmup_steps": 0},
    )
    assert torch.isfinite(loss(model.network, Collator(model)(rows(media))))
    told = train(model, rows(media), settings, tmp_path / "stage", seed=0, label="test")
    assert told["steps"] == 1
    changed = {
        name for name, value in model.network.named_parameters() if not torch.equal(value, before[name])
    }
    assert changed == {name for name in before if "multi_modal_projector" in name}
    auto.load(str(tmp_path / "stage" / "model"), model.store, device="cpu")


def test_a_frozen_tower_keeps_its_statistics(parts: Path, media: dict[str, Media], tmp_path: Path) -> None:
    """Batch normalization would go by the batch, and learn from it, whenever the Trainer trains."""
    compose(str(parts / "efficientnet"), str(parts / "qwen2"), tmp_path / "model")
    model = auto.load(str(tmp_path / "model"), FrameStore(tmp_path / "frames"), device="cpu")
    tower = model.network.model.vision_tower
    pixels = model.pixels([media["a"], media["clip"]])
    wanted = tower(pixels).last_hidden_state
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    freeze(model.network, ["vision_tower"])
    model.network.train()
    torch.testing.assert_close(tower(pixels).last_hidden_state, wanted, atol=0, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())
    # one that learns does go by the batch
    other = auto.load(str(tmp_path / "model"), FrameStore(tmp_path / "frames"), device="cpu")
    freeze(other.network, ["language_model"])
    other.network.train()
    assert not torch.equal(other.network.model.vision_tower(pixels).last_hidden_state, wanted)


def test_a_template_in_place_of_the_language_models(parts: Path, tmp_path: Path) -> None:
    said = "{%- for message in messages -%}{{ message['role'] }}{%- endfor -%}"
    compose(str(parts / "efficientnet"), str(parts / "qwen2"), tmp_path / "model", chat_template=said)
    assert (tmp_path / "model" / "chat_template.jinja").read_text() == said


# ---- what is refused ---------------------------------------------------------------------------------------


def refused(vision: Path, language: Path, out: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        compose(str(vision), str(language), out, **settings)
    assert list(out.parent.glob(f"{out.name}*")) == ([out] if out.exists() else [])
    return str(caught.value)


def changed_config(folder: Path, to: Path, **values: Any) -> Path:
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, **values}))
    return to


def test_models_of_another_kind(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = refused(parts / "llama", parts / "llama", out)
    assert "is a llama, no vision tower LLaVA can use" in told
    assert "siglip" in told
    assert "cannot be loaded" in refused(parts / "clip", parts / "clip", out)
    assert "cannot be loaded" in refused(parts / "none", parts / "llama", out)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert "GGUF" in refused(parts / "clip", tmp_path / "m.gguf", out)
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "m.gguf").write_bytes(b"GGUF")
    assert "GGUF" in refused(parts / "clip", tmp_path / "gguf", out)
    quantized = changed_config(
        parts / "llama", tmp_path / "q", quantization_config={"quant_method": "bitsandbytes", "bits": 4}
    )
    assert "is quantized" in refused(parts / "clip", quantized, out)
    adapter = Path(shutil.copytree(parts / "llama", tmp_path / "adapter"))
    (adapter / "adapter_config.json").write_text("{}")
    assert "is an adapter" in refused(parts / "clip", adapter, out)


def test_a_convolutional_tower_has_one_map(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = refused(parts / "efficientnet", parts / "llama", out, select_layer=-2)
    assert "is convolutional: its last map, 32 pixels a token" in told
    odd = changed_config(parts / "efficientnet", tmp_path / "odd", image_size=80)
    assert "give it an image_size that 32 divides" in refused(odd, parts / "llama", out)


def test_an_existing_folder_is_never_written_into(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert "exists already" in refused(parts / "clip", parts / "llama", tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("name", "place"), [("clip", 0), ("siglip", 0), ("llama", 1), ("qwen2", 1)])
def test_every_weight_is_accounted_for(parts: Path, tmp_path: Path, name: str, place: int) -> None:
    def told(how: str) -> str:
        folder = Path(shutil.copytree(parts / name, tmp_path / how))
        weights = load_file(folder / "model.safetensors")
        key = next(key for key in sorted(weights) if "layers.0" in key and "text_model" not in key)
        value = weights.pop(key)
        if how == "renamed":
            weights["vision_model.renamed" if place == 0 else "renamed"] = value
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        pair = [parts / "clip", parts / "llama"]
        pair[place] = folder
        return refused(*pair, tmp_path / "out")

    found = told("gone")
    assert "weights do not fit" in found
    assert "missing: " in found
    found = told("renamed")
    assert "left over: " in found
    assert "renamed" in found


def test_language_models_llava_would_compute_otherwise(parts: Path, tmp_path: Path) -> None:
    _language(
        tmp_path / "capped",
        Gemma2ForCausalLM,
        Gemma2Config,
        spare=0,
        final_logit_softcapping=2.0,
        head_dim=16,
    )
    told = refused(parts / "clip", tmp_path / "capped", tmp_path / "out")
    assert "gives other logits than alone" in told
    _language(tmp_path / "biased", PhiForCausalLM, PhiConfig, spare=0)
    assert "output layer LLaVA has not" in refused(parts / "clip", tmp_path / "biased", tmp_path / "out")


def test_layers_and_sizes_that_are_not_there(parts: Path, tmp_path: Path) -> None:
    assert "no hidden state -5" in refused(parts / "clip", parts / "llama", tmp_path / "out", select_layer=-5)
    small = Path(shutil.copytree(parts / "siglip", tmp_path / "small"))
    SiglipImageProcessor(size={"height": 24, "width": 24}).save_pretrained(small)
    told = refused(small, parts / "llama", tmp_path / "out")
    assert "makes [1, 3, 24, 24] where the tower takes [1, 3, 32, 32]" in told


def test_a_template_that_cannot_take_pictures(parts: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(parts / "qwen2", tmp_path / "q"))
    tokens = AutoTokenizer.from_pretrained(folder)
    tokens.chat_template = "{%- if messages[0].name is undefined -%}" + CHATML + "{%- endif -%}"
    tokens.save_pretrained(folder)
    compose(str(parts / "clip"), str(folder), tmp_path / "fine")
    # a template may tell strings from strings it was given: what it sees first must not be lost
    tokens.chat_template = "{{ messages | length }}{{ flat is defined }}" + CHATML
    tokens.save_pretrained(folder)
    assert "cannot be made to take pictures" in refused(parts / "clip", folder, tmp_path / "out")


def test_the_command_composes(parts: Path, tmp_path: Path) -> None:
    command = ["compose", "--vision", str(parts / "siglip"), "--language", str(parts / "qwen2")]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out"), "--seed", "3"])
    assert result.exit_code == 0, result.output
    made = load_file(tmp_path / "out" / "model.safetensors")
    compose(str(parts / "siglip"), str(parts / "qwen2"), tmp_path / "same", seed=3)
    same = load_file(tmp_path / "same" / "model.safetensors")
    assert made.keys() == same.keys()
    assert all(torch.equal(made[name], same[name]) for name in made)
