"""An original LLaMA-VID checkpoint as a folder that transformers' Auto classes read.

The original's shards, plain config.json, separate vision file and two tokenizers go in; safetensors, config
and processor come out, tensor by tensor, so that memory holds one shard. Every name is accounted for: what is
left out is reported by name, anything unknown or missing stops the conversion before a file is written.
Called by `behavior-llava convert llama-vid`.
"""

from __future__ import annotations

import json
import logging
import pickle
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import (
    GenerationConfig,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    LlamaConfig,
)

from behavior_llava.core.errors import UserError
from behavior_llava.models.llama_vid.configuration import LlamaVidConfig
from behavior_llava.models.llama_vid.modeling import LlamaVidForConditionalGeneration
from behavior_llava.models.llama_vid.processing import LlamaVidProcessor, processor_from_original

log = logging.getLogger(__name__)

SHARD_BYTES = 4 * 1024**3
"""Bytes of weights in one file at most, unless one tensor is larger."""

TOWER = "model.vision_tower.vision_tower."
QFORMER = "model.vlm_att_encoder.bert."
VISION_FILES = ("eva_vit_g.pth", "eva_vit_g.safetensors")
ADAPTER_FILE = "mm_projector.bin"

RENAMED = (
    (r"model\.(embed_tokens|layers|norm)\.", r"model.language_model.\1."),
    (r"model\.mm_projector\.", "model.multi_modal_projector."),
    (r"model\.vlm_att_query$", "model.query_tokens"),
    (r"model\.vlm_att_ln\.", "model.qformer_layernorm."),
    (r"model\.vlm_att_projector\.", "model.context_query_projector."),
    (r"model\.vlm_att_key_projector\.", "model.context_key_projector."),
    (r"model\.vlm_att_val_projector\.", "model.context_value_projector."),
    (re.escape(QFORMER) + r"embeddings\.LayerNorm\.", "model.qformer.embeddings.layernorm."),
    (re.escape(QFORMER) + r"(.*\.(?:cross)?attention)\.self\.", r"model.qformer.\1.attention."),
    (re.escape(QFORMER), "model.qformer."),
    (re.escape(TOWER) + r"cls_token$", "model.vision_tower.embeddings.class_embedding"),
    (re.escape(TOWER) + r"pos_embed$", "model.vision_tower.embeddings.position_embedding"),
    (re.escape(TOWER) + r"patch_embed\.proj\.", "model.vision_tower.embeddings.patch_embedding."),
    (re.escape(TOWER) + r"blocks\.(\d+)\.norm", r"model.vision_tower.encoder.layers.\1.layer_norm"),
    (
        re.escape(TOWER) + r"blocks\.(\d+)\.attn\.proj\.",
        r"model.vision_tower.encoder.layers.\1.self_attn.projection.",
    ),
    (
        re.escape(TOWER) + r"blocks\.(\d+)\.attn\.qkv\.",
        r"model.vision_tower.encoder.layers.\1.self_attn.qkv.",
    ),
    (re.escape(TOWER) + r"blocks\.(\d+)\.mlp\.", r"model.vision_tower.encoder.layers.\1.mlp."),
)
"""Names of the original and ours; the first that matches from the start is taken, other names stay."""

NEEDED = ("num_attention_heads", "max_position_embeddings", "rms_norm_eps")
"""What config.json must say of the language model: a default in its place would change the numbers."""

BUFFERS = (
    r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq|" + re.escape(QFORMER) + r"embeddings\.position_ids"
)
AFTER_LAST_BLOCK = re.escape(TOWER) + r"(norm|fc_norm|head)\.(weight|bias)"


@dataclass(frozen=True)
class Published:
    """Sizes of the published models that tensors do not tell: heads, and depths, or a lost layer went unseen.

    Source: `create_eva_vit_g`, https://github.com/salesforce/LAVIS/blob/main/lavis/models/eva_vit.py (39
    blocks, 16 heads of 88); BERT-base, https://arxiv.org/abs/1810.04805, section 3 (12 layers, 12 heads).
    """

    vision_heads: int = 16
    vision_layers: int = 39
    qformer_heads: int = 12
    qformer_layers: int = 12


def read_sizes(path: Path) -> Published:
    """The sizes in a JSON file: an object with some or all of Published's names.

    Raises:
        UserError: it cannot be read, or holds another name or no whole number.
    """
    told = _json(path)
    known = [one.name for one in fields(Published)]
    wrong = [name for name, value in told.items() if name not in known or type(value) is not int or value < 1]
    if wrong:
        raise UserError(
            f"holds {wrong[0]!r}, which is no size",
            where=path,
            remedy=f"give whole numbers for {', '.join(known)}",
        )
    return Published(**told)


@dataclass(frozen=True)
class Report:
    """What a conversion did.

    Attributes:
        config: of the model written.
        tensors: how many were written.
        parameters: numbers in them.
        dropped: names left out, with the reason.
        vision_source: where the vision tower was read.
        vision_differences: where the checkpoint holds a tower too, its largest difference from the one taken,
            by name; equal tensors are left out.
        interpolated: patches along one side before and after, where the position embedding was resized.
    """

    config: LlamaVidConfig
    tensors: int
    parameters: int
    dropped: Mapping[str, str]
    vision_source: Path
    vision_differences: Mapping[str, float] = field(default_factory=dict)
    interpolated: tuple[int, int] | None = None

    def lines(self) -> Iterator[str]:
        """The report in words, for a log or a terminal."""
        yield f"{self.tensors} tensors, {self.parameters:,} parameters"
        yield f"vision tower from {self.vision_source.name}"
        if self.interpolated:
            yield "position embedding resized from {0}x{0} to {1}x{1} patches".format(*self.interpolated)
        for name, difference in self.vision_differences.items():
            yield f"not as in the checkpoint: {name} (by up to {difference:.3g})"
        for name, reason in self.dropped.items():
            yield f"left out: {name} ({reason})"


# ---- reading -----------------------------------------------------------------------------------------------


def _broken(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
    return UserError(
        f"cannot be read as weights ({reason})", where=path, remedy="get the file again from its publisher"
    )


Reader = Callable[[], Tensor]


def _readers(path: Path) -> dict[str, Reader]:
    """The tensors of a file by name, each read when called.

    Raises:
        UserError: the file is broken, runs code when opened, or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                names = list(file.keys())
            return {name: partial(_one_of_safetensors, path, name) for name in names}
        held = _unpickled(path)
    except (SafetensorError, OSError) as error:
        raise _broken(path, error) from error
    if isinstance(held, dict) and set(held) == {"model"}:
        held = held["model"]
    if not isinstance(held, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in held.items()
    ):
        raise UserError(
            "holds something else than named tensors", where=path, remedy="give a flat state dict"
        )
    return {name: partial(_itself, value) for name, value in held.items()}


def _one_of_safetensors(path: Path, name: str) -> Tensor:
    with safe_open(path, "pt") as file:
        return file.get_tensor(name)


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _unpickled(path: Path) -> Any:
    faults = (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        OverflowError,
    )
    try:
        with warnings.catch_warnings():
            # a file that torch did not write itself is refused or not whatever its protocol
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            # mapped, not read: a shard costs no memory until its tensors are used
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except faults as error:
        raise _broken(path, error) from error


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _json(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read as JSON ({error})", where=path, remedy="give the file") from error
    if not isinstance(held, dict):
        raise UserError("is no JSON object", where=path, remedy="give the checkpoint's own file")
    return held


def _checkpoint(folder: Path) -> dict[str, Reader]:
    """All tensors of a checkpoint folder, of one file or of the shards an index lists."""
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / index).exists():
            return _sharded(folder, folder / index)
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).exists():
            return _readers(folder / name)
    raise UserError(
        "holds no model.safetensors, pytorch_model.bin or index of shards",
        where=folder,
        remedy="give a checkpoint folder",
    )


def _sharded(folder: Path, index: Path) -> dict[str, Reader]:
    places = _json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise UserError("has no weight_map of names to files", where=index, remedy="get the index again")
    for file in sorted(set(places.values())):
        if Path(file).name != file or "\\" in file:
            raise UserError(
                f"lists a file outside its folder: {file!r}",
                where=index,
                remedy="do not trust this checkpoint",
            )
        if not (folder / file).is_file():
            raise UserError(f"lists {file}, which is not there", where=index, remedy="get all shards")
    shards = {file: _readers(folder / file) for file in sorted(set(places.values()))}
    missing = sorted(name for name, file in places.items() if name not in shards[file])
    if missing:
        raise UserError(
            f"lists tensors that its shards do not hold: {', '.join(missing)}",
            where=index,
            remedy="get all shards",
        )
    unlisted = sorted(
        name for file, readers in shards.items() for name in readers if places.get(name) != file
    )
    if unlisted:
        raise UserError(
            f"does not list what its shards hold: {', '.join(unlisted)}",
            where=index,
            remedy="get the index again",
        )
    return {name: shards[file][name] for name, file in places.items()}


# ---- sizes -------------------------------------------------------------------------------------------------


class Shapes:
    """The sizes of named tensors, and what their names tell.

    Args:
        readers: tensors by name.
        where: named in errors.
    """

    def __init__(self, readers: Mapping[str, Reader], where: Path) -> None:
        self._readers, self._where = readers, where

    def of(self, name: str, dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor.

        Raises:
            UserError: it is missing or has another number of dimensions.
        """
        if name not in self._readers:
            raise UserError(
                f"holds no {name}", where=self._where, remedy="give a complete LLaMA-VID checkpoint"
            )
        shape = tuple(self._readers[name]().shape)
        if len(shape) != dimensions:
            raise UserError(
                f"{name} has shape {shape}, not {dimensions} dimensions",
                where=self._where,
                remedy="give a LLaMA-VID checkpoint, with --sizes where they are not the published ones",
            )
        return shape

    def layers(self, pattern: str) -> list[int]:
        """The numbers that a pattern's group finds in the names, in order."""
        found = (re.match(pattern, name) for name in self._readers)
        return sorted({int(match[1]) for match in found if match})


def _text_config(shapes: Shapes, original: Mapping[str, Any], where: Path) -> LlamaConfig:
    vocabulary, width = shapes.of("model.embed_tokens.weight", 2)
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes.of("model.layers.0.mlp.gate_proj.weight", 2)[0],
        "num_hidden_layers": max(shapes.layers(r"model\.layers\.(\d+)\."), default=0) + 1,
    }
    differing = [
        f"{name} {original[name]!r}" for name in sizes if original.get(name, sizes[name]) != sizes[name]
    ]
    if differing:
        raise UserError(
            f"does not fit the tensors: {', '.join(differing)}; they have {sizes}",
            where=where,
            remedy="give the checkpoint's own config.json",
        )
    unnamed = [name for name in NEEDED if original.get(name) is None]
    if unnamed:
        raise UserError(
            f"names no {', '.join(unnamed)}", where=where, remedy="give the checkpoint's own config.json"
        )
    taken = (
        *NEEDED,
        "num_key_value_heads",
        "hidden_act",
        "initializer_range",
        "rope_theta",
        "rope_scaling",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
    )
    return LlamaConfig(
        **sizes,
        **{name: original[name] for name in taken if original.get(name) is not None},
    )


def _image_size(original: Mapping[str, Any], patch: int, grid: int) -> int:
    # the original names its processor's folder by the size, e.g. clip-patch14-224
    found = re.search(r"-(\d+)/?$", str(original.get("image_processor") or ""))
    return int(found[1]) if found else patch * grid


def _grid(positions: int, where: Path) -> int:
    side = round((positions - 1) ** 0.5)
    if side < 1 or side**2 != positions - 1:
        raise UserError(
            f"pos_embed has {positions} places, which are no square and a class token",
            where=where,
            remedy="give an EVA-CLIP vision file",
        )
    return side


def _configuration(
    tensors: Mapping[str, Reader],
    original: Mapping[str, Any],
    where: Path,
    sizes: Published,
    image_size: int | None,
) -> LlamaVidConfig:
    shapes = Shapes(tensors, where)
    width, _, patch, _ = shapes.of(TOWER + "patch_embed.proj.weight", 4)
    grid = _grid(shapes.of(TOWER + "pos_embed", 3)[1], where)
    qformer = QFORMER + "encoder.layer."
    crossing = shapes.layers(re.escape(qformer) + r"(\d+)\.crossattention\.")
    depth = sizes.qformer_layers
    every = crossing[1] if len(crossing) > 1 else depth
    if crossing != list(range(0, depth, every)):
        raise UserError(
            f"the Q-Former has cross-attention in layers {crossing} of {depth}, which is no regular step",
            where=where,
            remedy="give a LLaMA-VID checkpoint, with --sizes where they are not the published ones",
        )
    words, qformer_width = shapes.of(QFORMER + "embeddings.word_embeddings.weight", 2)
    try:
        return LlamaVidConfig(
            vision_config=InstructBlipVisionConfig(
                hidden_size=width,
                intermediate_size=shapes.of(TOWER + "blocks.0.mlp.fc1.weight", 2)[0],
                num_hidden_layers=sizes.vision_layers,
                num_attention_heads=sizes.vision_heads,
                patch_size=patch,
                image_size=image_size or _image_size(original, patch, grid),
                layer_norm_eps=1e-6,
                hidden_act="gelu",
            ),
            qformer_config=InstructBlipQFormerConfig(
                vocab_size=words,
                hidden_size=qformer_width,
                num_hidden_layers=depth,
                num_attention_heads=sizes.qformer_heads,
                intermediate_size=shapes.of(qformer + "0.intermediate.dense.weight", 2)[0],
                max_position_embeddings=shapes.of(QFORMER + "embeddings.position_embeddings.weight", 2)[0],
                encoder_hidden_size=shapes.of(qformer + "0.crossattention.self.key.weight", 2)[1],
                cross_attention_frequency=every,
                layer_norm_eps=1e-12,
                hidden_act="gelu",
            ),
            text_config=_text_config(shapes, original, where),
            num_query_tokens=shapes.of("model.vlm_att_query", 3)[1],
            compress_type=original.get("compress_type"),
            projector_type=original.get("mm_projector_type", "linear"),
            architectures=[LlamaVidForConditionalGeneration.__name__],
        )
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise UserError(
            f"gives no usable configuration ({' '.join(str(error).split()).rstrip('.')})",
            where=where,
            remedy="give the checkpoint's own config.json",
        ) from error


def _check_settings(original: Mapping[str, Any], where: Path) -> None:
    bert_type = original.get("bert_type")
    if not isinstance(bert_type, str) or "qformer" not in bert_type or "pretrain" not in bert_type:
        raise UserError(
            f"bert_type is {bert_type!r}; only the Q-Former with pretrained width is supported",
            where=where,
            remedy="give a LLaMA-VID checkpoint whose bert_type is qformer_pretrain",
        )
    if original.get("mm_use_im_start_end"):
        raise UserError(
            "mm_use_im_start_end is set: marks around pictures are not supported",
            where=where,
            remedy="give a published LLaMA-VID checkpoint; none uses them",
        )


# ---- from their names to ours ------------------------------------------------------------------------------


def our_name(name: str) -> str:
    """The name of an original tensor in our model; one that has no other name keeps its own."""
    for pattern, ours in RENAMED:
        if re.match(pattern, name):
            return re.sub("^" + pattern, ours, name, count=1)
    return name


def _whole_bias(query: Reader, value: Reader) -> Tensor:
    # the key has none: it would cancel in the softmax
    return torch.cat([query().flatten(), torch.zeros_like(query()).flatten(), value().flatten()])


def _resized(positions: Reader, side: int) -> Tensor:
    return resized(positions(), side)


def resized(positions: Tensor, side: int) -> Tensor:
    """A position embedding [1, 1+N, D] for side*side patches: bicubic in fp32, the class token kept."""
    before = round((positions.shape[1] - 1) ** 0.5)
    if before == side:
        return positions
    grid = positions[:, 1:].float().transpose(1, 2).unflatten(2, (before, before))
    grid = functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2).to(positions)], dim=1)


def _ours(tensors: Mapping[str, Reader], side: int) -> dict[str, Reader]:
    """The tensors under our names; what has no other name keeps its own.

    Raises:
        UserError: two of them have the same name with us.
    """
    found: dict[str, Reader] = {}
    for name, reader in tensors.items():
        ours = our_name(name)
        values = name.replace(".attn.q_bias", ".attn.v_bias")
        if values != name and values in tensors:
            ours = our_name(name.replace(".attn.q_bias", ".attn.qkv.bias"))
            reader = partial(_whole_bias, reader, tensors[values])
        elif name.endswith(".attn.v_bias") and name.replace(".attn.v_bias", ".attn.q_bias") in tensors:
            continue
        elif name == TOWER + "pos_embed":
            reader = partial(_resized, reader, side)
        if ours in found:
            raise UserError(
                f"two tensors would become {ours}", where=name, remedy="give an original LLaMA-VID checkpoint"
            )
        found[ours] = reader
    return found


@dataclass(frozen=True)
class _Size:
    """A tensor's numbers and their type."""

    numel: int
    dtype: torch.dtype


def _check_complete(found: Mapping[str, Reader], config: LlamaVidConfig, where: Path) -> dict[str, _Size]:
    """Reads every tensor once; gives their sizes where they are just those of the model."""
    with torch.device("meta"):
        expected = LlamaVidForConditionalGeneration(config).state_dict()
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    sizes, shapes, broken = {}, [], []
    for name in expected.keys() & found.keys():
        tensor = found[name]()
        sizes[name] = _Size(tensor.numel(), tensor.dtype)
        if tensor.shape != expected[name].shape:
            shapes.append(f"{name} {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}")
        elif not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            broken.append(name)
    told = [
        f"{what}: {', '.join(sorted(names))}"
        for what, names in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another size", shapes),
            ("not finite numbers", broken),
        )
        if names
    ]
    if told:
        raise UserError(
            f"does not fit a LLaMA-VID model ({'; '.join(told)})",
            where=where,
            remedy="give a complete LLaMA-VID checkpoint and its vision file",
        )
    return sizes


def _differences(taken: Mapping[str, Reader], other: Mapping[str, Reader]) -> dict[str, float]:
    found = {}
    for name in sorted(taken.keys() & other.keys()):
        one, two = taken[name]().float(), other[name]().float()
        if one.shape == two.shape:
            found[name] = float((one - two).abs().max())
        else:
            found[name] = float("inf")
    return {name: difference for name, difference in found.items() if difference}


# ---- the whole way -----------------------------------------------------------------------------------------


def convert(  # noqa: PLR0913 - the parts a checkpoint is published in
    source: Path,
    out: Path,
    *,
    vision: Path | None = None,
    base: Path | None = None,
    tokenizer: Path | None = None,
    qformer_tokenizer: Path | None = None,
    image_size: int | None = None,
    dtype: torch.dtype | None = None,
    sizes: Published | None = None,
) -> Report:
    """Writes a model folder from an original checkpoint; nothing is written unless all of it fits.

    Args:
        source: the checkpoint's folder; with `base`, the folder of a stage-1 adapter (mm_projector.bin).
        out: a new folder.
        vision: the separate vision file; None takes eva_vit_g.pth or .safetensors in `source` where there is
            one, and the checkpoint's own tower otherwise. The original reads its tower from the file always.
        base: the language model's folder that an adapter is put over.
        tokenizer: folder of the language model's tokenizer; None for `base` or `source`.
        qformer_tokenizer: folder of the Q-Former's tokenizer (bert-base-uncased).
        image_size: pixels along a side; None for what the checkpoint says.
        dtype: of all weights; None keeps each tensor's own.
        sizes: what no tensor tells; None for the published models.

    Raises:
        UserError: the input is broken, incomplete, unknown in part or unsafe, or `out` exists.
    """
    if out.exists():
        raise UserError("exists already", where=out, remedy="name a new folder")
    sizes = sizes or Published()
    original = _json(source / "config.json")
    _check_settings(original, source / "config.json")
    tensors = _tensors(source, base)
    tower_in_checkpoint = {name: tensors.pop(name) for name in list(tensors) if name.startswith(TOWER)}
    if vision is None:
        vision = next((source / name for name in VISION_FILES if (source / name).exists()), None)
    tower, dropped = tower_in_checkpoint, {}
    if vision is not None:
        tower = {TOWER + name: reader for name, reader in _readers(vision).items()}
        dropped = _unused(tower, sizes.vision_layers)
    dropped |= {name: "a buffer, computed anew" for name in tensors if re.fullmatch(BUFFERS, name)}
    tensors = {name: reader for name, reader in (tensors | tower).items() if name not in dropped}
    config = _configuration(tensors, original, source, sizes, image_size)
    found = _ours(tensors, config.side)
    read = _check_complete(found, config, source)
    side = _grid(tensors[TOWER + "pos_embed"]().shape[1], source)
    config.dtype = dtype or tensors["model.embed_tokens.weight"]().dtype
    report = Report(
        config=config,
        tensors=len(found),
        parameters=sum(size.numel for size in read.values()),
        dropped={name.removeprefix(TOWER) if name in tower else name: why for name, why in dropped.items()},
        vision_source=vision or source,
        vision_differences=_differences(found, _ours(tower_in_checkpoint, config.side)) if vision else {},
        interpolated=(side, config.side) if side != config.side else None,
    )
    for line in report.lines():
        log.info("%s", line)
    processor = _processor(config, original, tokenizer or base or source, qformer_tokenizer or source)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial_folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        processor.save_pretrained(partial_folder)
        _write(found, read, config, partial_folder, dtype)
        partial_folder.chmod(0o755)
        partial_folder.rename(out)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return report


def _tensors(source: Path, base: Path | None) -> dict[str, Reader]:
    if base is None:
        return _checkpoint(source)
    language, adapter = _checkpoint(base), _readers(source / ADAPTER_FILE)
    twice = sorted(language.keys() & adapter.keys())
    if twice:
        raise UserError(
            f"holds what the base model holds too: {', '.join(twice)}",
            where=source / ADAPTER_FILE,
            remedy="give a stage-1 adapter and a plain language model",
        )
    return language | adapter


def _unused(tower: Mapping[str, Reader], depth: int) -> dict[str, str]:
    """Names of a vision file that the model does not use, with the reason."""
    found = {}
    for name in tower:
        block = re.match(re.escape(TOWER) + r"blocks\.(\d+)\.", name)
        if block and int(block[1]) >= depth:
            found[name] = f"only the first {depth} blocks are used"
        elif re.fullmatch(AFTER_LAST_BLOCK, name):
            found[name] = "comes after the last block"
    return found


def _write(
    found: Mapping[str, Reader],
    sizes: Mapping[str, _Size],
    config: LlamaVidConfig,
    folder: Path,
    dtype: torch.dtype | None,
) -> None:
    shards: list[list[str]] = [[]]
    size = total = 0
    for name in found:
        count = sizes[name].numel * (dtype or sizes[name].dtype).itemsize
        if shards[-1] and size + count > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += count
        total += count
    places = {}
    for number, names in enumerate(shards, 1):
        file = "model.safetensors"
        if len(shards) > 1:
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        held = {name: found[name]().to(dtype=dtype, copy=True).contiguous() for name in names}
        save_file(held, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        text = json.dumps(index, indent=2)
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    text_config = config.text_config
    GenerationConfig(
        bos_token_id=text_config.bos_token_id,
        eos_token_id=text_config.eos_token_id,
        pad_token_id=text_config.pad_token_id,
    ).save_pretrained(folder)
    config.save_pretrained(folder)


def _processor(
    config: LlamaVidConfig, original: Mapping[str, Any], tokenizer: Path, qformer_tokenizer: Path
) -> LlamaVidProcessor:
    processor = processor_from_original(
        tokenizer,
        qformer_tokenizer,
        image_size=config.vision_config.image_size,
        image_aspect_ratio=original.get("image_aspect_ratio") or "square",
        num_tokens_per_frame=config.num_tokens_per_frame,
        image_token_id=config.text_config.vocab_size,
    )
    words, expected = len(processor.qformer_tokenizer), config.qformer_config.vocab_size
    if words != expected:
        raise UserError(
            f"has {words} word pieces where the Q-Former has {expected}",
            where=qformer_tokenizer,
            remedy="give the tokenizer of bert-base-uncased",
        )
    return processor
