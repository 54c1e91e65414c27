"""Converting original LLaMA-VID checkpoints made here: every layout they come in, and what must be refused.

The checkpoints have the original's names and tiny sizes. That the numbers are right is shown in tests/golden.
"""

from __future__ import annotations

import json
import pickle
import random
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor
from typer.testing import CliRunner

from behavior_llava.cli import app
from behavior_llava.core.errors import UserError
from behavior_llava.models.llama_vid import LlamaVidForConditionalGeneration, convert
from behavior_llava.models.llama_vid.convert import Published, our_name, resized

VISION, QUERY, LANGUAGE, BLOCKS, LAYERS, QLAYERS = 12, 8, 16, 2, 2, 3
SIZES = Published(vision_heads=2, vision_layers=BLOCKS, qformer_heads=2, qformer_layers=QLAYERS)
TOWER = "model.vision_tower.vision_tower."
LETTERS = "abcdefghij"
WORDS = 3 + 256 + len(LETTERS)


# ---- checkpoints made in code ------------------------------------------------------------------------------


def tower(blocks: int, side: int, seed: int = 1) -> dict[str, Tensor]:
    """The vision file's tensors, without prefix."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, VISION),
        "pos_embed": (1, side * side + 1, VISION),
        "patch_embed.proj.weight": (VISION, 3, 2, 2),
        "patch_embed.proj.bias": (VISION,),
    }
    for number in range(blocks):
        at = f"blocks.{number}."
        shapes |= {
            at + "norm1.weight": (VISION,),
            at + "norm1.bias": (VISION,),
            at + "norm2.weight": (VISION,),
            at + "norm2.bias": (VISION,),
            at + "attn.qkv.weight": (3 * VISION, VISION),
            at + "attn.q_bias": (VISION,),
            at + "attn.v_bias": (VISION,),
            at + "attn.proj.weight": (VISION, VISION),
            at + "attn.proj.bias": (VISION,),
            at + "mlp.fc1.weight": (20, VISION),
            at + "mlp.fc1.bias": (20,),
            at + "mlp.fc2.weight": (VISION, 20),
            at + "mlp.fc2.bias": (VISION,),
        }
    return drawn(shapes, seed)


def language() -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (WORDS, LANGUAGE),
        "lm_head.weight": (WORDS, LANGUAGE),
        "model.norm.weight": (LANGUAGE,),
    }
    for number in range(LAYERS):
        at = f"model.layers.{number}."
        shapes |= {f"{at}self_attn.{part}_proj.weight": (LANGUAGE, LANGUAGE) for part in "qkvo"}
        shapes |= {f"{at}mlp.{part}_proj.weight": (24, LANGUAGE) for part in ("gate", "up")}
        shapes |= {
            at + "mlp.down_proj.weight": (LANGUAGE, 24),
            at + "input_layernorm.weight": (LANGUAGE,),
            at + "post_attention_layernorm.weight": (LANGUAGE,),
            at + "self_attn.rotary_emb.inv_freq": (4,),
        }
    return drawn(shapes, 2)


def adapter() -> dict[str, Tensor]:
    """What stage 1 saves: the Q-Former and the projectors."""

    def linear(name: str, into: int, out: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (into, out), f"{name}.bias": (into,)}

    def norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (size,), f"{name}.bias": (size,)}

    bert = "model.vlm_att_encoder.bert."
    shapes: dict[str, tuple[int, ...]] = {
        "model.vlm_att_query": (1, 3, QUERY),
        bert + "embeddings.word_embeddings.weight": (16, QUERY),
        bert + "embeddings.position_embeddings.weight": (10, QUERY),
        **norm(bert + "embeddings.LayerNorm", QUERY),
        **linear("model.mm_projector.0", LANGUAGE, VISION),
        **linear("model.mm_projector.2", LANGUAGE, LANGUAGE),
        **linear("model.vlm_att_projector", VISION, QUERY),
        **linear("model.vlm_att_key_projector", VISION, VISION),
        **linear("model.vlm_att_val_projector", LANGUAGE, VISION),
        **norm("model.vlm_att_ln", VISION),
    }
    for number in range(QLAYERS):
        at = f"{bert}encoder.layer.{number}."
        for which in ("attention", "crossattention")[: 1 if number % 2 else 2]:
            width = VISION if which == "crossattention" else QUERY
            shapes |= linear(f"{at}{which}.self.query", QUERY, QUERY)
            shapes |= linear(f"{at}{which}.self.key", QUERY, width)
            shapes |= linear(f"{at}{which}.self.value", QUERY, width)
            shapes |= linear(f"{at}{which}.output.dense", QUERY, QUERY)
            shapes |= norm(f"{at}{which}.output.LayerNorm", QUERY)
        for suffix in ("", "_query"):
            shapes |= linear(f"{at}intermediate{suffix}.dense", 14, QUERY)
            shapes |= linear(f"{at}output{suffix}.dense", QUERY, 14)
            shapes |= norm(f"{at}output{suffix}.LayerNorm", QUERY)
    return drawn(shapes, 3)


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def whole(*, with_tower: bool = True) -> dict[str, Tensor]:
    """A full checkpoint's state dict, buffers included."""
    positions = {"model.vlm_att_encoder.bert.embeddings.position_ids": torch.arange(10)[None]}
    held = {TOWER + name: value for name, value in tower(BLOCKS, 2).items()} if with_tower else {}
    return language() | adapter() | positions | held


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "model_type": "llava",
        "architectures": ["LlavaLlamaAttForCausalLM"],
        "bert_type": "qformer_pretrain",
        "compress_type": "mean",
        "hidden_act": "silu",
        "hidden_size": LANGUAGE,
        "intermediate_size": 24,
        "max_position_embeddings": 64,
        "mm_projector_type": "mlp2x_gelu",
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_hidden_layers": LAYERS,
        "vocab_size": WORDS,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "image_processor": "./llamavid/processor/clip-patch14-4",
        "image_aspect_ratio": "pad",
    } | changes


def write(folder: Path, tensors: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """A checkpoint folder: two pickled shards with an index, config.json and both tokenizers."""
    tensors = whole() if tensors is None else tensors
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings(**changes)))
    names = sorted(tensors)
    places = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: tensors[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    write_tokenizers(folder)
    return folder


def write_tokenizers(folder: Path) -> None:
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS]
    tokenizer = Tokenizer(
        models.BPE(
            {word: place for place, word in enumerate(vocabulary)}, [], unk_token="<unk>", byte_fallback=True
        )
    )
    tokenizer.add_special_tokens(vocabulary[:3])
    tokenizer.save(str(folder / "tokenizer.json"))
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", **marks}))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]
    (folder / "bert").mkdir()
    (folder / "bert" / "vocab.txt").write_text("\n".join(pieces))


def run(source: Path, out: Path, **options: Any) -> convert.Report:
    return convert.convert(source, out, **{"qformer_tokenizer": source / "bert", "sizes": SIZES, **options})


def load(folder: Path) -> LlamaVidForConditionalGeneration:
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model


# ---- every layout ------------------------------------------------------------------------------------------


def test_shards_become_a_folder_of_transformers(tmp_path: Path) -> None:
    report = run(write(tmp_path / "source"), tmp_path / "out")
    model = load(tmp_path / "out")
    config = model.config
    assert (config.compress_type, config.projector_type, config.num_query_tokens) == ("mean", "mlp2x_gelu", 3)
    assert config.image_token_id == WORDS == config.text_config.vocab_size
    vision, qformer, text = config.vision_config, config.qformer_config, config.text_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.intermediate_size) == (VISION, BLOCKS, 20)
    assert (vision.image_size, vision.patch_size, vision.num_attention_heads) == (4, 2, 2)
    assert (qformer.hidden_size, qformer.num_hidden_layers, qformer.intermediate_size) == (QUERY, QLAYERS, 14)
    assert (qformer.vocab_size, qformer.encoder_hidden_size, qformer.cross_attention_frequency) == (
        16,
        VISION,
        2,
    )
    assert (text.num_hidden_layers, text.num_attention_heads, text.rms_norm_eps) == (LAYERS, 2, 1e-5)
    ours, theirs = model.state_dict(), whole()
    assert report.tensors == len(ours) == len(theirs) - 3 - BLOCKS
    assert report.parameters == sum(value.numel() for value in ours.values())
    assert report.dropped == {
        **{
            f"model.layers.{number}.self_attn.rotary_emb.inv_freq": "a buffer, computed anew"
            for number in (0, 1)
        },
        "model.vlm_att_encoder.bert.embeddings.position_ids": "a buffer, computed anew",
    }
    assert report.vision_source == tmp_path / "source"
    checked = 0
    for name, value in theirs.items():
        if name in report.dropped or name.endswith(("q_bias", "v_bias")):
            continue
        assert torch.equal(ours[our_name(name)], value), name
        checked += 1
    for number in range(BLOCKS):
        at = f"{TOWER}blocks.{number}.attn."
        bias = ours[f"model.vision_tower.encoder.layers.{number}.self_attn.qkv.bias"]
        assert torch.equal(bias[:VISION], theirs[at + "q_bias"])
        assert not bias[VISION:-VISION].any()
        assert torch.equal(bias[-VISION:], theirs[at + "v_bias"])
        checked += 1
    assert checked == report.tensors
    assert model.generation_config.eos_token_id == 2


def test_the_processor_goes_with_it(tmp_path: Path) -> None:
    run(write(tmp_path / "source", compress_type="grid:2"), tmp_path / "out")
    processor, model = AutoProcessor.from_pretrained(tmp_path / "out"), load(tmp_path / "out")
    assert processor.num_tokens_per_frame == model.config.num_tokens_per_frame == 5
    assert processor.image_token_id == model.config.image_token_id
    assert processor.image_aspect_ratio == "pad"


@pytest.mark.parametrize("layout", ["one bin", "one safetensors", "safetensors shards"])
def test_other_layouts_give_the_same(tmp_path: Path, layout: str) -> None:
    run(write(tmp_path / "source"), tmp_path / "expected")
    other = write(tmp_path / "other")
    tensors = whole()
    for file in [*other.glob("*.bin"), other / "pytorch_model.bin.index.json"]:
        file.unlink()
    if layout == "one bin":
        torch.save(tensors, other / "pytorch_model.bin")
    elif layout == "one safetensors":
        save_file(tensors, other / "model.safetensors")
    else:
        names = sorted(tensors)
        save_file({name: tensors[name] for name in names[:40]}, other / "a.safetensors")
        save_file({name: tensors[name] for name in names[40:]}, other / "b.safetensors")
        places = {name: "a.safetensors" if name in names[:40] else "b.safetensors" for name in names}
        (other / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    run(other, tmp_path / "out")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("expected", "out"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_large_models_are_written_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "source")
    run(source, tmp_path / "one")
    monkeypatch.setattr(convert, "SHARD_BYTES", 20_000)
    run(source, tmp_path / "many")
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert all((tmp_path / "many" / file).stat().st_size < 20_000 + 8_000 for file in files)
    one, many = load(tmp_path / "one").state_dict(), load(tmp_path / "many").state_dict()
    assert all(torch.equal(one[name], many[name]) for name in one)


def test_dtype_is_kept_unless_asked(tmp_path: Path) -> None:
    tensors = {
        name: value.bfloat16() if value.is_floating_point() else value for name, value in whole().items()
    }
    source = write(tmp_path / "source", tensors)
    run(source, tmp_path / "kept")
    assert {value.dtype for value in load_file(tmp_path / "kept" / "model.safetensors").values()} == {
        torch.bfloat16
    }
    assert load(tmp_path / "kept").dtype == torch.bfloat16
    run(source, tmp_path / "asked", dtype=torch.float32)
    asked = load(tmp_path / "asked")
    assert asked.dtype == torch.float32
    assert torch.equal(asked.lm_head.weight, tensors["lm_head.weight"].float())


def test_rope_scaling_of_long_video_checkpoints(tmp_path: Path) -> None:
    source = write(tmp_path / "source", rope_scaling={"type": "linear", "factor": 16.0})
    run(source, tmp_path / "out")
    found = load(tmp_path / "out").config.text_config.rope_parameters
    assert (found["rope_type"], found["factor"]) == ("linear", 16.0)


def test_attention_in_every_layer_of_the_qformer(tmp_path: Path) -> None:
    # depth 1: how often cross-attention comes can't be told and doesn't matter
    one_layer = {
        name: value for name, value in whole().items() if not re.search(r"bert\.encoder\.layer\.[12]\.", name)
    }
    sizes = replace(SIZES, qformer_layers=1)
    run(write(tmp_path / "source", one_layer), tmp_path / "out", sizes=sizes)
    assert load(tmp_path / "out").config.qformer_config.num_hidden_layers == 1


# ---- the vision tower --------------------------------------------------------------------------------------


def test_the_vision_file_is_taken_where_there_is_one(tmp_path: Path) -> None:
    source = write(tmp_path / "source")
    held = tower(BLOCKS + 1, 2) | {"norm.weight": torch.ones(VISION), "norm.bias": torch.ones(VISION)}
    held["blocks.1.mlp.fc1.bias"] += 0.5
    torch.save(held, source / "eva_vit_g.pth")
    report = run(source, tmp_path / "out")
    assert report.vision_source == source / "eva_vit_g.pth"
    assert report.vision_differences == {
        "model.vision_tower.encoder.layers.1.mlp.fc1.bias": pytest.approx(0.5, abs=1e-6)
    }
    left_out = {name for name in held if name.startswith(("blocks.2.", "norm."))}
    assert len(left_out) == 15
    assert left_out == {name for name in report.dropped if not name.startswith("model.")}
    assert any("not as in the checkpoint: model.vision_tower" in line for line in report.lines())
    bias = load(tmp_path / "out").model.vision_tower.encoder.layers[1].mlp.fc1.bias
    assert torch.equal(bias, held["blocks.1.mlp.fc1.bias"])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_checkpoint_without_tower_needs_the_file(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / "source", whole(with_tower=False))
    with pytest.raises(UserError, match=r"holds no model\.vision_tower"):
        run(source, tmp_path / "out")
    file = tmp_path / f"vision{suffix}"
    held = tower(BLOCKS + 2, 2)
    torch.save(held, file) if suffix == ".pth" else save_file(held, file)
    report = run(source, tmp_path / "out", vision=file)
    assert report.vision_source == file
    assert report.config.vision_config.num_hidden_layers == BLOCKS
    assert not report.vision_differences


def test_positions_are_resized_to_the_models_size(tmp_path: Path) -> None:
    source = write(tmp_path / "source", whole(with_tower=False), image_processor="a/clip-patch14-4-8/")
    torch.save(tower(BLOCKS, 2), source / "eva_vit_g.pth")
    report = run(source, tmp_path / "out")
    assert report.interpolated == (2, 4)
    assert any("from 2x2 to 4x4" in line for line in report.lines())
    assert load(tmp_path / "out").model.vision_tower.embeddings.position_embedding.shape == (1, 17, VISION)
    assert run(source, tmp_path / "asked", image_size=12).interpolated == (2, 6)
    same = write(tmp_path / "same", image_processor=None)
    assert run(same, tmp_path / "kept").interpolated is None


def test_resizing_is_bicubic_without_antialias() -> None:
    # by hand: four places on a line, read at (i + 0.5) / 2 - 0.5 with the kernel of a = -0.75, edges repeated
    values = torch.tensor([1.0, 5.0, -2.0, 3.0])
    grid = values[:, None].expand(4, 4)
    positions = torch.cat([torch.tensor([7.0]), grid.flatten()])[None, :, None]
    found = resized(positions, 8)
    assert found.shape == (1, 65, 1)
    assert found[0, 0, 0] == 7
    a = -0.75

    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    for row in range(8):
        place = (row + 0.5) / 2 - 0.5
        expected = sum(kernel(place - near) * float(values[min(max(near, 0), 3)]) for near in range(-3, 7))
        for column in range(8):
            assert abs(float(found[0, 1 + 8 * row + column, 0]) - expected) < 1e-5
    half = resized(positions.half(), 8)
    assert half.dtype == torch.float16
    assert torch.equal(half, resized(positions.half().float(), 8).half())
    assert torch.equal(resized(positions, 4), positions)


# ---- a stage-1 adapter -------------------------------------------------------------------------------------


def test_a_stage_1_adapter_over_its_language_model(tmp_path: Path) -> None:
    base = write(tmp_path / "base", language(), model_type="llama")
    source = tmp_path / "stage1"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(settings(bert_type="qformer_pretrain_freeze")))
    torch.save(adapter(), source / "mm_projector.bin")
    torch.save(tower(BLOCKS, 2), tmp_path / "eva.pth")
    run(write(tmp_path / "full"), tmp_path / "expected")
    options = {"base": base, "vision": tmp_path / "eva.pth", "qformer_tokenizer": base / "bert"}
    run(source, tmp_path / "out", **options)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("expected", "out"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    torch.save(adapter() | {"lm_head.weight": torch.zeros(1)}, source / "mm_projector.bin")
    with pytest.raises(UserError, match=r"holds what the base model holds too: lm_head\.weight"):
        run(source, tmp_path / "again", **options)


# ---- what must be refused ----------------------------------------------------------------------------------


class Evil:
    """Writes a file when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.path, "opened")


@pytest.mark.parametrize("file", ["pytorch_model-00002-of-00002.bin", "eva_vit_g.pth"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, file: str, legacy: bool) -> None:
    source = write(tmp_path / "source")
    mark = tmp_path / "opened"
    held = {"cls_token": torch.zeros(1), "evil": Evil(mark)}
    if legacy:
        (source / file).write_bytes(pickle.dumps(held))
    else:
        torch.save(held, source / file)
    with pytest.raises(UserError, match="cannot be read as weights") as caught:
        run(source, tmp_path / "out")
    assert file in str(caught.value)
    assert not mark.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_truncated_files_are_refused(tmp_path: Path, part: float, suffix: str) -> None:
    source = write(tmp_path / "source")
    for file in [*source.glob("*.bin"), source / "pytorch_model.bin.index.json"]:
        file.unlink()
    path = source / ("pytorch_model.bin" if suffix == ".bin" else "model.safetensors")
    torch.save(whole(), path) if suffix == ".bin" else save_file(whole(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UserError, match="cannot be read as weights"):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_spoiled_bytes_are_refused_or_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    held = {"one": torch.arange(6.0), "two": torch.ones(2, 2)}
    torch.save(held, path) if suffix == ".pth" else save_file(held, path)
    content = path.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(150):
        spoiled = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
        path.write_bytes(bytes(spoiled))
        try:
            read = {name: reader() for name, reader in convert._readers(path).items()}
        except UserError:
            refused += 1
        else:
            assert all(isinstance(value, Tensor) for value in read.values())
    assert refused > 10


@pytest.mark.parametrize(
    "held", [[torch.zeros(1)], {"a": 1}, {1: torch.zeros(1)}, {"model": {"a": [torch.zeros(1)]}}, None]
)
def test_files_of_other_things_are_refused(tmp_path: Path, held: Any) -> None:
    source = write(tmp_path / "source")
    torch.save(held, source / "eva_vit_g.pth")
    with pytest.raises(UserError, match="something else than named tensors"):
        run(source, tmp_path / "out")


@pytest.mark.parametrize("file", ["../shard.bin", "/etc/passwd", "sub/shard.bin", "sub\\shard.bin", "..", ""])
def test_an_index_cannot_leave_its_folder(tmp_path: Path, file: str) -> None:
    source = write(tmp_path / "source")
    torch.save({"lm_head.weight": torch.zeros(WORDS, LANGUAGE)}, tmp_path / "shard.bin")
    path = source / "pytorch_model.bin.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["lm_head.weight"] = file
    path.write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"outside its folder|not there"):
        run(source, tmp_path / "out")


def _index(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        path = source / "pytorch_model.bin.index.json"
        index = json.loads(path.read_text())
        path.write_text(json.dumps(change(index) or index))

    return spoil


def _tensors(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        tensors = whole()
        change(tensors)
        for file in [*source.glob("*.bin"), source / "pytorch_model.bin.index.json"]:
            file.unlink()
        torch.save(tensors, source / "pytorch_model.bin")

    return spoil


def _config(text: str | None = None, **changes: Any) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        (source / "config.json").write_text(json.dumps(settings(**changes)) if text is None else text)

    return spoil


def _drop(name: str) -> Callable[[dict[str, Tensor]], None]:
    def spoil(tensors: dict[str, Tensor]) -> None:
        del tensors[name]

    return spoil


def _drop_all(pattern: str) -> Callable[[dict[str, Tensor]], None]:
    def spoil(tensors: dict[str, Tensor]) -> None:
        names = [name for name in tensors if re.search(pattern, name)]
        assert names
        for name in names:
            del tensors[name]

    return spoil


def _set_nan(tensors: dict[str, Tensor]) -> None:
    tensors["model.vlm_att_key_projector.weight"][3, 4] = float("nan")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda source: (source / "config.json").unlink(), "cannot be read as JSON"),
        (_config("{"), "cannot be read as JSON"),
        (_config("[1]"), "is no JSON object"),
        (_config("\x00\xff"), "cannot be read as JSON"),
        (_config(bert_type=None), "bert_type is None"),
        (_config(bert_type="raw_pretrain"), "bert_type is 'raw_pretrain'"),
        (_config(compress_type="grid:3"), "more cells than 2x2"),
        (_config(compress_type=3), "no usable configuration"),
        (_config(mm_projector_type="mlp2x_relu"), "unknown"),
        (_config(mm_projector_type="linear"), r"missing: model\.multi_modal_projector\.bias"),
        (_config(num_attention_heads="many"), "no usable configuration"),
        (_config(num_attention_heads=3), "no usable configuration"),
        (_config(num_attention_heads=None), "names no num_attention_heads"),
        (_config(rms_norm_eps=None), "names no rms_norm_eps"),
        (_config(rope_scaling="big"), "no usable configuration"),
        (_config(vocab_size=99), "does not fit the tensors: vocab_size 99"),
        (_config(mm_use_im_start_end=True), "mm_use_im_start_end"),
        (_config(image_aspect_ratio="anyres"), "anyres"),
        (_index(lambda index: {"weight_map": [1]}), "no weight_map"),
        (_index(lambda index: {"weight_map": {"a": 1}}), "no weight_map"),
        (
            _index(lambda index: index["weight_map"].update(new="pytorch_model-00001-of-00002.bin")),
            "not hold: new",
        ),
        (
            _index(lambda index: index["weight_map"].update({"lm_head.weight": "gone.bin"})),
            "gone.bin, which is not",
        ),
        (
            _index(lambda index: index["weight_map"].pop("lm_head.weight") and None),
            r"does not list what its shards hold: lm_head\.weight",
        ),
        (_tensors(_drop("lm_head.weight")), r"missing: lm_head\.weight"),
        (_tensors(_drop("model.vlm_att_query")), "holds no model.vlm_att_query"),
        (_tensors(_drop("model.embed_tokens.weight")), "holds no model.embed_tokens"),
        (
            _tensors(_drop(TOWER + "blocks.0.attn.q_bias")),
            r"missing: model\.vision_tower\.encoder\.layers\.0\.self_attn\.qkv\.bias; unknown: .*v_bias",
        ),
        (
            _tensors(
                lambda held: held.update(
                    {"model.vlm_att_bert_proj.weight": torch.zeros(1), "x": torch.ones(1)}
                )
            ),
            r"unknown: model\.vlm_att_bert_proj\.weight, x\)",
        ),
        (
            _tensors(lambda held: held.update({"model.norm.weight": torch.zeros(17)})),
            r"of another size: model\.language_model\.norm\.weight \(17,\) instead of \(16,\)",
        ),
        (_tensors(lambda held: held.update({"model.vlm_att_query": torch.zeros(3)})), "not 3 dimensions"),
        (
            _tensors(lambda held: held.update({TOWER + "pos_embed": torch.zeros(1, 7, VISION)})),
            "7 places, which are no square",
        ),
        (
            _tensors(_drop("model.vlm_att_encoder.bert.encoder.layer.2.crossattention.self.key.bias")),
            r"missing: model\.qformer\.encoder\.layer\.2\.crossattention\.attention\.key\.bias",
        ),
        (
            _tensors(
                lambda held: held.update({"model.norm.weight": torch.ones(LANGUAGE, dtype=torch.int64)})
            ),
            r"not finite numbers: model\.language_model\.norm\.weight",
        ),
        (
            _tensors(lambda held: held.update({"model.query_tokens": torch.zeros(1, 3, QUERY)})),
            r"two tensors would become model\.query_tokens",
        ),
        (
            _tensors(lambda held: held.update({TOWER + "blocks.0.attn.v_bias": torch.zeros(3, VISION)})),
            r"of another size: .*layers\.0\.self_attn\.qkv\.bias \(60,\) instead of \(36,\)",
        ),
        # a whole layer is lost, the last one
        (_tensors(_drop_all(r"blocks\.1\.")), r"missing: model\.vision_tower\.encoder\.layers\.1\."),
        (_tensors(_drop_all(r"bert\.encoder\.layer\.2\.")), r"missing: model\.qformer\.encoder\.layer\.2\."),
        (_tensors(_drop_all(r"model\.layers\.1\.")), "does not fit the tensors: num_hidden_layers 2"),
        (_tensors(_set_nan), r"not finite numbers: model\.context_key_projector\.weight"),
        (
            lambda source: [file.unlink() for file in source.glob("pytorch_model*")],
            "holds no model.safetensors, pytorch_model.bin or index",
        ),
        (
            lambda source: torch.save(
                tower(BLOCKS, 2) | {"rope.freqs": torch.zeros(1)}, source / "eva_vit_g.pth"
            ),
            r"unknown: model\.vision_tower\.vision_tower\.rope\.freqs",
        ),
        (
            lambda source: (source / "bert" / "vocab.txt").write_text(
                "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na"
            ),
            "word pieces",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], Any], said: str
) -> None:
    source = write(tmp_path / "source")
    spoil(source)
    with pytest.raises(UserError, match=said):
        run(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("x")
    with pytest.raises(UserError, match="exists already"):
        run(write(tmp_path / "source"), out)
    assert [path.name for path in out.iterdir()] == ["precious"]


def test_nothing_is_left_of_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    source = write(tmp_path / "source")
    monkeypatch.setattr(convert, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        run(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


# ---- the command -------------------------------------------------------------------------------------------


def test_the_command_converts_with_sizes_of_ones_own(tmp_path: Path) -> None:
    source = write(tmp_path / "source")
    sizes = tmp_path / "sizes.json"
    command = ["convert", "llama-vid", str(source), str(tmp_path / "out")]
    command += ["--qformer-tokenizer", str(source / "bert"), "--sizes", str(sizes), "--dtype", "bfloat16"]
    sizes.write_text(json.dumps(asdict(SIZES)))
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    model = load(tmp_path / "out")
    assert {value.dtype for value in model.state_dict().values()} == {torch.bfloat16}
    for wrong, named in (({"vision_head": 2}, "vision_head"), ({"vision_heads": True}, "vision_heads")):
        sizes.write_text(json.dumps(wrong))
        command[3] = str(tmp_path / named)
        failed = CliRunner().invoke(app, command)
        assert isinstance(failed.exception, UserError)
        assert f"holds {named!r}, which is no size" in str(failed.exception)
        assert not (tmp_path / named).exists()
