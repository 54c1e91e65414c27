"""Our LLaMA-VID against what the original computed: every text, label, picture and tensor.

The golden folder (its README says what is in it) is converted and every tensor of every case is compared;
then our processor makes every recorded conversation, question and picture again. Sizes, settings, cases and
counts are read from the folder, so another folder made with another seed, other sizes or another
compress_type is checked by the same code: `pytest tests/golden/test_llama_vid.py --golden FOLDER`. The
folder's ids hold -200 for each insertion; how they become our inputs is written here, apart from the
processor. The numbers reached are logged: `-o log_cli=true -o log_cli_level=INFO`.
"""

from __future__ import annotations

import json
import logging
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText

from behavior_llava.models.llama_vid import LlamaVidForConditionalGeneration
from behavior_llava.models.llama_vid.conversation import (
    IMAGE,
    MOVIE_CLOSING,
    MOVIE_OPENING,
    VIDEO,
    Dialogue,
    Round,
    caption_dialogue,
    instruction_dialogue,
    movie_dialogue,
    movie_prompt,
    rounds_of,
)
from behavior_llava.models.llama_vid.convert import Published, Report, convert, our_name
from behavior_llava.models.llama_vid.processing import LlamaVidProcessor, processor_from_original

log = logging.getLogger(__name__)

INTERMEDIATE, LOGITS, LOSS = 5e-5, 1e-4, 1e-5
"""Absolute, in fp32; processors sum in other orders: 2.8e-5 was seen on one, 2e-5 held on others."""
NEAR = 1e-6
"""Ten roundings of fp32: numbers of 10 and more are recorded no better than to 2e-5 (measured in float64)."""
GRADIENT = 2e-6
"""Largest absolute difference of a gradient whose norms are 0.03 to 5; norms agree to 1e-5 of themselves."""

PLACEHOLDER, IGNORED = -200, -100


# ---- the folder --------------------------------------------------------------------------------------------


@dataclass
class Folder:
    """A golden folder and the models converted from it, by image size and rope scaling."""

    path: Path
    room: Path
    models: dict[tuple[int | None, str | None], LlamaVidForConditionalGeneration] = field(
        default_factory=dict
    )
    report: Report | None = None

    @property
    def told(self) -> dict[str, Any]:
        return json.loads((self.path / "cases.json").read_text())

    @property
    def sizes(self) -> dict[str, Any]:
        return json.loads((self.path / "tiny_sizes.json").read_text())

    def model(
        self, image_size: int | None = None, rope: str | None = None
    ) -> LlamaVidForConditionalGeneration:
        key = (image_size, rope)
        if key not in self.models:
            source = self.room / f"source-{len(self.models)}"
            shutil.copytree(self.path, source, ignore=shutil.ignore_patterns("case_*"))
            if rope is not None:
                config = json.loads((source / "config.json").read_text())
                kind, factor = rope.split(":")
                config["rope_scaling"] = {"type": kind, "factor": float(factor)}
                (source / "config.json").chmod(0o644)
                (source / "config.json").write_text(json.dumps(config))
            vision, qformer = self.sizes["vision"], self.sizes["qformer"]
            report = convert(
                source,
                self.room / f"model-{len(self.models)}",
                tokenizer=source / "llm_tokenizer",
                qformer_tokenizer=source / "qformer_tokenizer",
                image_size=image_size,
                sizes=Published(
                    vision["num_heads"],
                    vision["depth"],
                    qformer["num_attention_heads"],
                    qformer["num_hidden_layers"],
                ),
            )
            self.report = self.report or report
            loaded, info = AutoModelForImageTextToText.from_pretrained(
                self.room / f"model-{len(self.models)}", output_loading_info=True
            )
            assert not any(info.values()), info
            self.models[key] = loaded.eval()
        return self.models[key]


@pytest.fixture(scope="module")
def folder(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(golden, tmp_path_factory.mktemp("llama_vid"))


# ---- a case as our inputs ----------------------------------------------------------------------------------


@dataclass
class Sample:
    """One row of a case: its frames and its questions.

    Attributes:
        frames: pixels [T, 3, S, S] or features [T, N, D].
        first: where its frames begin among those of the batch.
        ids, mask: of its P questions, [P, L].
    """

    frames: Tensor
    first: int
    ids: Tensor
    mask: Tensor

    def insertion(self, number: int) -> tuple[int, int, Tensor, Tensor]:
        return len(self.frames), self.first, self.ids[number], self.mask[number]


class Case:
    """The tensors of a case, each of which must be used once at least."""

    def __init__(self, path: Path, entry: dict[str, Any]) -> None:
        self.tensors = load_file(path)
        self.entry = entry
        told = {name: (kind, tuple(shape)) for name, (kind, shape) in entry["tensors"].items()}
        held = {
            name: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in self.tensors.items()
        }
        assert held == told
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.read.add(name)
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    @property
    def has_features(self) -> bool:
        return "mid.vision_out" not in self

    @property
    def rope(self) -> str | None:
        found = re.search(r"rope_scaling=\{type:(\w+),factor:([\d.]+)\}", self.entry["note"])
        assert found or "rope" not in self.entry["note"], self.entry["note"]
        return f"{found[1]}:{found[2]}" if found else None

    @property
    def image_size(self) -> int | None:
        if self.has_features:
            return None
        return self.images()[0].shape[-1]

    def images(self) -> list[Tensor]:
        if "in.images" in self:
            return list(self["in.images"])
        return [self[f"in.images.{number}"] for number in range(len(self.entry["prompts"]))]

    def samples(self) -> list[Sample]:
        found, first = [], 0
        for number, frames in enumerate(self.images()):
            if not self.has_features and frames.ndim == 3:
                frames = frames[None]
            ids = self[f"mid.sample{number}.qformer_input_ids"]
            mask = self[f"mid.sample{number}.qformer_text_mask"]
            assert len(ids) == len(self.entry["prompts"][number])
            found.append(Sample(frames, first, ids, mask))
            first += len(frames)
        assert [len(sample.frames) for sample in found] == self.entry["frame_counts"]
        return found

    def visual(self, insertions: list[tuple[int, int, Tensor, Tensor]]) -> dict[str, Tensor]:
        frames = torch.cat([sample.frames for sample in self.samples()])
        width = max(len(ids) for _, _, ids, _ in insertions)
        padded = [
            [torch.nn.functional.pad(row, (0, width - len(row))) for row in rows]
            for rows in ([ids for _, _, ids, _ in insertions], [mask for _, _, _, mask in insertions])
        ]
        return {
            "frame_features" if self.has_features else "pixel_values": frames,
            "num_frames": torch.tensor([count for count, _, _, _ in insertions]),
            "first_frame": torch.tensor([first for _, first, _, _ in insertions]),
            "qformer_input_ids": torch.stack(padded[0]),
            "qformer_attention_mask": torch.stack(padded[1]),
        }

    def inputs(self, name: str, per_frame: int, image_token: int) -> dict[str, Tensor]:
        """The rows of "in." or "gen." ids with every placeholder spread out, padded on the right."""
        ids_BT = self[f"{name}.input_ids"]
        labels_BT = self["in.labels"] if name == "in" else torch.full_like(ids_BT, IGNORED)
        mask_BT = self["in.attention_mask"] if name == "in" else torch.ones_like(ids_BT, dtype=torch.bool)
        rows, insertions = [], []
        for sample, ids, labels, mask in zip(self.samples(), ids_BT, labels_BT, mask_BT, strict=True):
            places = int((ids == PLACEHOLDER).sum())
            size = len(sample.frames) * per_frame
            if self.has_features:
                assert places in (0, size)
                insertions += [sample.insertion(0)] * bool(places)
                size = 1
            else:
                insertions += [sample.insertion(number) for number in range(places)]
            spread = []
            for token, label, real in zip(ids.tolist(), labels.tolist(), mask.tolist(), strict=True):
                hit = token == PLACEHOLDER
                spread += [(image_token, IGNORED, True)] * size if hit else [(token, label, real)]
            rows.append(spread)
        width = max(map(len, rows))
        table = torch.tensor([row + [(0, IGNORED, False)] * (width - len(row)) for row in rows])
        inputs = {
            "input_ids": table[..., 0],
            "labels": table[..., 1],
            "attention_mask": table[..., 2].bool(),
        }
        return inputs | (self.visual(insertions) if insertions else {})


# ---- looking inside ----------------------------------------------------------------------------------------


@contextmanager
def watched(places: dict[str, tuple[torch.nn.Module, str]]) -> Iterator[dict[str, Tensor]]:
    """What goes into ("in") or comes out of ("out") modules, the calls one after another."""
    seen: dict[str, list[Tensor]] = {}

    def note(name: str, which: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            value = out if which == "out" else args[0] if args else kwargs["inputs_embeds"]
            seen.setdefault(name, []).append(value if isinstance(value, Tensor) else value[0])

        return hook

    handles = [
        module.register_forward_hook(note(name, which), with_kwargs=True)
        for name, (module, which) in places.items()
    ]
    found: dict[str, Tensor] = {}
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
        found |= {name: torch.cat(values) for name, values in seen.items()}


def inside(model: LlamaVidForConditionalGeneration) -> dict[str, tuple[torch.nn.Module, str]]:
    parts = model.model
    places = {
        "q_enc": (parts.qformer_layernorm, "out"),
        "q_embed": (parts.qformer.embeddings, "out"),
        "qformer_out": (parts.context_query_projector, "in"),
        "text_q": (parts.context_query_projector, "out"),
        "ctx_key": (parts.context_key_projector, "out"),
        "ctx_pooled": (parts.context_value_projector, "in"),
        "ctx_token": (parts.context_value_projector, "out"),
        "content_pooled": (parts.multi_modal_projector, "in"),
        "content_tokens": (parts.multi_modal_projector, "out"),
    }
    for number, layer in enumerate(parts.qformer.encoder.layer):
        places[f"q_layer{number}"] = (layer, "out")
    return places


# ---- the comparison ----------------------------------------------------------------------------------------


@dataclass
class Reached:
    """The largest differences of a case, by kind, and how many tensors were compared."""

    largest: dict[str, float] = field(default_factory=dict)
    compared: int = 0

    def close(self, kind: str, name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
        """Args: tolerance: absolute; NEAR of a number comes on top."""
        assert ours.shape == theirs.shape, f"{name}: {tuple(ours.shape)}, not {tuple(theirs.shape)}"
        assert theirs.numel(), f"{name} is empty"
        differences = (ours.detach() - theirs).abs()
        difference = float(differences.max())
        is_close = bool((differences <= tolerance + NEAR * theirs.abs()).all())
        assert is_close, f"{name} differs by {difference:.3g}, more than {tolerance:g}"
        self.largest[kind] = max(self.largest.get(kind, 0.0), difference)
        self.compared += 1

    def equal(self, name: str, ours: Tensor, theirs: Tensor) -> None:
        assert torch.equal(ours, theirs), f"{name} differs: {ours.tolist()} instead of {theirs.tolist()}"
        self.compared += 1


@torch.no_grad()
def check_case(folder: Folder, name: str) -> Reached:
    """Compares every tensor of a case; raises AssertionError at the first that differs."""
    case = Case(folder.path / f"case_{name}.safetensors", folder.told["cases"][name])
    model = folder.model(case.image_size, case.rope)
    reached = Reached()
    if "in.vision_pos_embed_interpolated" in case:
        reached.close(
            "position embedding",
            "in.vision_pos_embed_interpolated",
            model.model.vision_tower.embeddings.position_embedding,
            case["in.vision_pos_embed_interpolated"],
            INTERMEDIATE,
        )
    if not case.has_features:
        _check_vision(model, case, reached)
    for number, sample in enumerate(case.samples()):
        _check_sample(model, case, number, sample, reached)
    _check_sequence(model, case, reached)
    if "gen.input_ids" in case:
        _check_generation(model, case, reached)
    unread = set(case.tensors) - case.read
    assert not unread, f"never read: {sorted(unread)}"
    return reached


def _check_vision(model: Any, case: Case, reached: Reached) -> None:
    tower = model.model.vision_tower
    places = {"mid.vision_embed": (tower.embeddings, "out")}
    for number, layer in enumerate(tower.encoder.layers):
        places[f"mid.vision_block{number}"] = (layer, "out")
    with watched(places) as seen:
        out = model.model.encode_frames(torch.cat([sample.frames for sample in case.samples()]))
    for name, value in (seen | {"mid.vision_out": out}).items():
        if name in case:
            reached.close("vision", name, value, case[name], INTERMEDIATE)


def _check_sample(model: Any, case: Case, number: int, sample: Sample, reached: Reached) -> None:
    questions = len(sample.ids)
    with watched(inside(model)) as seen:
        features = model.model.get_image_features(
            **{
                "frame_features" if case.has_features else "pixel_values": sample.frames,
                "num_frames": torch.full((questions,), len(sample.frames)),
                "first_frame": torch.zeros(questions, dtype=torch.long),
                "qformer_input_ids": sample.ids,
                "qformer_attention_mask": sample.mask,
            }
        )
    for name, value in (seen | {"image_features": torch.stack(features)}).items():
        golden = f"mid.sample{number}.{name}"
        if golden in case:
            if name.startswith("content_"):  # ours once a frame, theirs again for every question
                value = value.repeat(questions, 1, 1)
            reached.close("features", golden, value, case[golden], INTERMEDIATE)


def _check_sequence(model: Any, case: Case, reached: Reached) -> None:
    inputs = case.inputs("in", model.config.num_tokens_per_frame, model.config.image_token_id)
    real = inputs["attention_mask"]
    assert real.shape[1] == case.entry["seq_len"]
    reached.equal("mid.attention_mask", real, case["mid.attention_mask"])
    reached.equal("mid.labels", inputs["labels"], case["mid.labels"])
    with watched({"embeds": (model.model.language_model, "in")}) as seen:
        out = model(**inputs, output_hidden_states=True)
    reached.close(
        "inputs_embeds",
        "mid.inputs_embeds",
        seen["embeds"][real],
        case["mid.inputs_embeds"][real],
        INTERMEDIATE,
    )
    for number, states in enumerate(out.hidden_states):
        name = f"mid.llm_hidden{number}"
        if name in case:
            reached.close("llm_hidden", name, states[real], case[name][real], LOGITS)
    reached.close("logits", "out.logits", out.logits[real], case["out.logits"][real], LOGITS)
    reached.close("loss", "out.loss", out.loss, case["out.loss"], LOSS)
    assert abs(case.entry["loss"] - float(out.loss)) <= LOSS


def _check_generation(model: Any, case: Case, reached: Reached) -> None:
    told = case.entry["generation"]
    assert told["prompts"] == case.entry["prompts"]  # the question's ids are recorded for these only
    assert told["new_ids"] == case["gen.new_ids"].tolist()
    inputs = case.inputs("gen", model.config.num_tokens_per_frame, model.config.image_token_id)
    del inputs["labels"]
    for cached in (True, False):
        out = model.generate(
            **inputs,
            max_new_tokens=case["gen.new_ids"].shape[1],
            do_sample=False,
            use_cache=cached,
            output_logits=True,
            return_dict_in_generate=True,
        )
        new = out.sequences[:, inputs["input_ids"].shape[1] :]
        reached.equal("gen.new_ids", new, case["gen.new_ids"])
        reached.close("gen.scores", "gen.scores", torch.stack(out.logits, 1), case["gen.scores"], LOGITS)


# ---- the tests ---------------------------------------------------------------------------------------------


def test_every_case(folder: Folder, record_property: Callable[[str, object], None]) -> None:
    told = folder.told["cases"]
    files = {path.stem.removeprefix("case_") for path in folder.path.glob("case_*.safetensors")}
    assert files == set(told)
    assert len(files) >= 9
    compared = 0
    for name in told:
        reached = check_case(folder, name)
        line = ", ".join(f"{kind} {value:.1e}" for kind, value in reached.largest.items())
        log.info("%s: %d tensors compared: %s", name, reached.compared, line)
        record_property(name, line)
        assert {"features", "inputs_embeds", "logits", "loss"} <= set(reached.largest)
        compared += reached.compared
    assert compared >= sum(
        name.startswith(("mid.", "out.")) and "qformer_input_ids" not in name and "text_mask" not in name
        for entry in told.values()
        for name in entry["tensors"]
    )


def test_single_modules(folder: Folder, record_property: Callable[[str, object], None]) -> None:
    probes = load_file(folder.path / "module_probes.safetensors")
    parts: Any = folder.model().model
    modules = {
        "llm_norm": parts.language_model.norm,
        "qformer_embedding_layernorm": parts.qformer.embeddings.layernorm,
        "vision_block0": parts.vision_tower.encoder.layers[0],
        "vlm_att_ln": parts.qformer_layernorm,
    }
    read: set[str] = set()
    with torch.no_grad():
        for name, module in modules.items():
            reached = Reached()
            reached.close(name, name, module(probes[f"{name}.in"]), probes[f"{name}.out"], INTERMEDIATE)
            read |= {f"{name}.in", f"{name}.out"}
            record_property(name, reached.largest[name])
        for name in {name.split(".")[0] for name in probes if name.startswith("token_generation_")}:
            side = int(name.rsplit("x", 1)[1])
            queries, patches = probes[f"{name}.text_q"], probes[f"{name}.visual"]
            parts = folder.model(side * folder.sizes["vision"]["patch_size"]).model
            ours = torch.cat([parts.context_token(queries, patches), parts.content_tokens(patches)], dim=1)
            reached = Reached()
            reached.close(name, name, ours, probes[f"{name}.out"], INTERMEDIATE)
            record_property(name, reached.largest[name])
            read |= {f"{name}.{part}" for part in ("text_q", "visual", "out")}
    assert read == set(probes)
    assert len(read) >= 11


def test_gradients(folder: Folder, record_property: Callable[[str, object], None]) -> None:
    (path,) = folder.path.glob("grads_*.safetensors")
    name = path.stem.removeprefix("grads_")
    told = folder.told[f"gradients_case_{name}"]
    case = Case(folder.path / f"case_{name}.safetensors", folder.told["cases"][name])
    model = folder.model(case.image_size, case.rope)
    model.requires_grad_(True)
    model.model.vision_tower.requires_grad_(False)
    inputs = case.inputs("in", model.config.num_tokens_per_frame, model.config.image_token_id)
    try:
        loss = model(**inputs).loss
        assert abs(loss.item() - told["loss"]) <= LOSS
        loss.backward()
        ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    finally:
        model.zero_grad()
    reached = Reached()
    full = load_file(path)
    for name, theirs in full.items():
        gradient = ours[our_name(name)]
        assert gradient is not None, name
        reached.close("gradient", name, gradient, theirs, GRADIENT)
    worst = 0.0
    for name, norm in told["grad_norm"].items():
        gradient = ours[our_name(name)]
        if gradient is None:
            assert norm == 0, name
            continue
        difference = abs(float(gradient.norm()) - norm)
        assert difference <= 1e-5 * norm + 1e-7, f"{name}: {float(gradient.norm())} instead of {norm}"
        worst = max(worst, difference / max(norm, 1e-2))
    for name in told["no_grad"]:
        gradient = ours[our_name(name)]
        assert gradient is None or not gradient.any(), name
    named = {our_name(name) for name in [*told["grad_norm"], *told["no_grad"]]}
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learned == named
    assert reached.compared == len(full) >= 13
    log.info(
        "gradients: largest difference %.1e, of norms %.1e of themselves", reached.largest["gradient"], worst
    )
    record_property("gradient", reached.largest["gradient"])
    record_property("gradient norm, relative", worst)


def test_sizes_and_names(folder: Folder) -> None:
    config, sizes, report = folder.model().config, folder.sizes, folder.report
    assert report is not None
    vision, qformer = config.vision_config, config.qformer_config
    for ours, theirs in {
        "hidden_size": "hidden_size",
        "num_hidden_layers": "depth",
        "num_attention_heads": "num_heads",
        "intermediate_size": "mlp_dim",
        "patch_size": "patch_size",
        "image_size": "image_size",
        "layer_norm_eps": "layer_norm_eps",
    }.items():
        assert getattr(vision, ours) == sizes["vision"][theirs], ours
    for name in (
        "attention_probs_dropout_prob",
        "hidden_dropout_prob",
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "layer_norm_eps",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "pad_token_id",
    ):
        assert getattr(qformer, name) == sizes["qformer"][name], name
    extra = sizes["qformer_extra"]
    assert qformer.vocab_size == extra["vocab_size_after_adding_DEC"]
    assert qformer.cross_attention_frequency == extra["cross_attention_freq"]
    assert config.num_query_tokens == extra["num_query"]
    assert config.compress_type == sizes["compress_type"]
    assert config.num_content_tokens == sizes["content_tokens_per_frame_at_56px"]
    # 3 buffers and what the vision file holds beyond the tower are left out by name; two biases become one
    names = set(folder.told["state_dict_keys"])
    left_out = names & set(report.dropped)
    assert all(name.endswith(("inv_freq", "position_ids")) for name in left_out)
    assert left_out
    assert report.tensors == len(names) - len(left_out) - vision.num_hidden_layers
    assert not report.vision_differences


# ---- the comparison itself: it sees what it is for ---------------------------------------------------------


def _changed(folder: Folder, room: Path, case: str, name: str, change: Callable[[Tensor], None]) -> Folder:
    copy = room / "golden"
    copy.mkdir()
    shutil.copy(folder.path / "cases.json", copy)
    tensors = load_file(folder.path / f"case_{case}.safetensors")
    change(tensors[name])
    save_file(tensors, copy / f"case_{case}.safetensors")
    return Folder(copy, room, folder.models)


@pytest.fixture(scope="module")
def generated(folder: Folder) -> str:
    """A case with greedy tokens; its model is converted."""
    name = next(name for name, entry in folder.told["cases"].items() if "generation" in entry)
    check_case(folder, name)
    return name


def _rewrite(copy: Folder, change: Callable[[dict[str, Any]], None]) -> None:
    told = copy.told
    change(told["cases"])
    (copy.path / "cases.json").chmod(0o644)
    (copy.path / "cases.json").write_text(json.dumps(told))


def test_one_logit_changed_by_a_thousandth_is_seen(folder: Folder, generated: str, tmp_path: Path) -> None:
    def change(logits: Tensor) -> None:
        logits[0, logits.shape[1] // 2, logits.shape[2] // 3] += 1e-3

    copy = _changed(folder, tmp_path, generated, "out.logits", change)
    with pytest.raises(AssertionError, match=r"out\.logits differs by (0\.001|0\.0009)"):
        check_case(copy, generated)


def test_one_token_changed_is_seen(folder: Folder, generated: str, tmp_path: Path) -> None:
    def change(tokens: Tensor) -> None:
        tokens[0, 5] = (tokens[0, 5] + 1) % folder.model().config.text_config.vocab_size

    copy = _changed(folder, tmp_path, generated, "gen.new_ids", change)
    changed = load_file(copy.path / f"case_{generated}.safetensors")["gen.new_ids"].tolist()
    _rewrite(copy, lambda cases: cases[generated]["generation"].update(new_ids=changed))
    with pytest.raises(AssertionError, match=r"gen\.new_ids differs"):
        check_case(copy, generated)


def test_a_tensor_nobody_reads_is_seen(folder: Folder, generated: str, tmp_path: Path) -> None:
    copy = _changed(folder, tmp_path, generated, "out.logits", lambda logits: None)
    path = copy.path / f"case_{generated}.safetensors"
    save_file(load_file(path) | {"mid.new": torch.zeros(1)}, path)
    _rewrite(copy, lambda cases: cases[generated]["tensors"].update({"mid.new": ["float32", [1]]}))
    with pytest.raises(AssertionError, match=r"never read: \['mid\.new'\]"):
        check_case(copy, generated)


# ---- inputs ------------------------------------------------------------------------------------------------

RECORDED_PLACEHOLDER = -200
USED_TEMPLATES = {"vicuna_v1", "imgsp_v1"}
UNUSED_TEMPLATES = {"llava_v0", "llava_v1"}
"""In the original's code, but neither trained nor evaluated with: the chat template doesn't write them."""


def read(golden: Path, name: str) -> Any:
    return json.loads((golden / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def processor(golden: Path) -> LlamaVidProcessor:
    config, sizes = read(golden, "config.json"), read(golden, "tiny_sizes.json")
    side = sizes["vision"]["image_size"]
    return processor_from_original(
        golden / "llm_tokenizer",
        golden / "qformer_tokenizer",
        image_size=side,
        image_aspect_ratio=config["image_aspect_ratio"],
        num_tokens_per_frame=1 + sizes[f"content_tokens_per_frame_at_{side}px"],
        image_token_id=config["vocab_size"],
    )


def dialogue_of(record: dict[str, Any], num_tokens_per_frame: int) -> Dialogue:
    if record["kind"] == "stage3_movie":
        # recorded with its placeholders already multiplied
        movie = record["inputs_text"].replace(IMAGE * num_tokens_per_frame, IMAGE)
        rounds = [Round(f"{IMAGE}\n{record['question']}", record["answer"])]
        return movie_dialogue(movie, rounds, num_tokens_per_frame=num_tokens_per_frame)
    rounds = rounds_of(record["conversations"])
    if record["kind"] == "stage1":
        return caption_dialogue(rounds)
    return instruction_dialogue(rounds, placement=random.Random(record["random_seed"]))


def media_of(dialogue: Dialogue, processor: LlamaVidProcessor, record: dict[str, Any]) -> dict[str, Any]:
    placeholders = dialogue.text.count(IMAGE)
    if record["kind"] == "stage3_movie":
        return {"frame_features": [torch.zeros(placeholders // processor.num_tokens_per_frame, 4, 8)]}
    picture = torch.zeros(8, 8, 3, dtype=torch.uint8)
    return {"images": [picture] * placeholders} if placeholders else {}


def expanded(recorded: list[int], values: list[int], count: int, filler: int) -> list[int]:
    out: list[int] = []
    for token, value in zip(recorded, values, strict=True):
        out += [filler] * count if token == RECORDED_PLACEHOLDER else [value]
    return out


def test_every_conversation_has_the_recorded_tokens_labels_and_questions(
    golden: Path, processor: LlamaVidProcessor
) -> None:
    records = read(golden, "preprocess.json")["conversation"]
    seen = []
    for record in records:
        dialogue = dialogue_of(record, processor.num_tokens_per_frame)
        batch = processor(text=dialogue, **media_of(dialogue, processor, record))
        each = 1 if record["kind"] == "stage3_movie" else processor.num_tokens_per_frame
        ids = record["input_ids"]
        assert batch["input_ids"] == [expanded(ids, ids, each, processor.image_token_id)], record
        assert batch["labels"] == [expanded(ids, record["labels"], each, -100)], record
        assert list(dialogue.questions) == record["qformer_prompts"]
        has_medium = record.get("has_image", True)
        assert list(dialogue.qformer_prompts) == (record["qformer_prompts"] if has_medium else [])
        assert ("num_frames" in batch) == has_medium
        seen.append(record["kind"])
    assert len(seen) == len(records) > 0
    assert {"stage1", "stage2_single", "stage2_multi", "stage2_text_only", "stage3_movie"} <= set(seen)


def test_the_chat_template_writes_the_recorded_texts(golden: Path, processor: LlamaVidProcessor) -> None:
    templates = read(golden, "preprocess.json")["templates"]
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Q1"}]},
        {"role": "assistant", "content": "A1"},
        {"role": "user", "content": "Q2"},
    ]
    written = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert USED_TEMPLATES <= set(templates) <= USED_TEMPLATES | UNUSED_TEMPLATES
    for name, text in templates.items():
        assert (written == text) == (name in USED_TEMPLATES), name


def test_every_question_has_the_recorded_word_pieces(golden: Path, processor: LlamaVidProcessor) -> None:
    records = read(golden, "preprocess.json")["qformer_tokenizer"]
    lengths = []
    for record in records:
        got = processor.questions(record["prompts"])
        assert got["qformer_input_ids"].tolist() == record["input_ids"]
        assert got["qformer_attention_mask"].tolist() == record["attention_mask"]
        lengths.append(len(record["input_ids"][0]))
    assert len(lengths) == len(records) > 0
    assert max(lengths) == 256, "no question was cut"
    assert (
        len(processor.qformer_tokenizer)
        == read(golden, "tiny_sizes.json")["qformer_extra"]["vocab_size_after_adding_DEC"]
    )


def test_every_picture_has_the_recorded_pixels(golden: Path, processor: LlamaVidProcessor) -> None:
    tensors = load_file(golden / "image_preprocess.safetensors")
    recorded = {name: value for name, value in tensors.items() if not name.endswith("_uint8")}
    assert {name.rsplit("_", 1)[1] for name in recorded} == {"pad", "crop"}
    for name, pixels in recorded.items():
        subject, how = name.rsplit("_", 1)
        given = tensors[f"{subject}_uint8"]
        cropping = LlamaVidProcessor(
            processor.image_processor,
            processor.tokenizer,
            processor.qformer_tokenizer,
            num_tokens_per_frame=processor.num_tokens_per_frame,
            image_aspect_ratio="pad" if how == "pad" else "square",
        )
        if given.ndim == 4:
            # a video is cropped whatever the setting for stills
            got = processor(text=VIDEO, videos=[given.numpy()], qformer_prompts=[["?"]])["pixel_values"]
        else:
            got = cropping(text=IMAGE, images=given.numpy(), qformer_prompts=[["?"]])["pixel_values"]
        assert torch.equal(got, pixels if given.ndim == 4 else pixels[None]), name
    assert len(recorded) + sum(name.endswith("_uint8") for name in tensors) == len(tensors)


def frames(count: int) -> list[torch.Tensor]:
    return [torch.full((9, 7, 3), number, dtype=torch.uint8) for number in range(count)]


def test_every_question_asked_of_a_case_has_the_recorded_tokens(
    golden: Path, processor: LlamaVidProcessor
) -> None:
    cases = read(golden, "cases.json")["cases"]
    generating = {name: case for name, case in cases.items() if "generation" in case}
    assert generating
    for name, case in generating.items():
        text, [prompts] = case["generation"]["text"], case["generation"]["prompts"]
        recorded = load_file(golden / f"case_{name}.safetensors")
        [ids], [num_frames] = recorded["gen.input_ids"].tolist(), case["frame_counts"]
        if text.count(IMAGE) > 1:
            shown = text.partition(MOVIE_OPENING)[2].partition(MOVIE_CLOSING)[0]
            movie = shown.replace(IMAGE * processor.num_tokens_per_frame, IMAGE)
            dialogue = movie_prompt(movie, prompts[0], num_tokens_per_frame=processor.num_tokens_per_frame)
            assert dialogue.text == text
            batch = processor(text=dialogue, frame_features=[recorded["in.images.0"]], return_tensors="pt")
            assert torch.equal(batch["frame_features"], recorded["in.images.0"])
            each = 1
        else:
            kind = "image" if num_frames == 1 else "video"
            message = {"role": "user", "content": [{"type": kind}, {"type": "text", "text": prompts[0]}]}
            written = processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
            assert written.replace(VIDEO, IMAGE) == text
            media = {"images": frames(1)} if kind == "image" else {"videos": [frames(num_frames)]}
            batch = processor(text=written, return_tensors="pt", **media)
            each = num_frames * processor.num_tokens_per_frame
        assert batch["input_ids"].tolist() == [expanded(ids, ids, each, processor.image_token_id)]
        assert batch["num_frames"].tolist() == [num_frames]
        asked = processor.questions(prompts)
        assert torch.equal(batch["qformer_input_ids"], asked["qformer_input_ids"])
        assert torch.equal(batch["qformer_attention_mask"], asked["qformer_attention_mask"])


def test_the_recorded_inputs_of_every_case_are_made_from_its_text(
    golden: Path, processor: LlamaVidProcessor
) -> None:
    """Ids of the training rows decode to texts of the template; those texts give ids and questions again."""
    cases = read(golden, "cases.json")["cases"]
    compared = 0
    for name in cases:
        recorded = load_file(golden / f"case_{name}.safetensors")
        for row, (ids, mask) in enumerate(
            zip(recorded["in.input_ids"].tolist(), recorded["in.attention_mask"].tolist(), strict=True)
        ):
            kept = [token for token, is_real in zip(ids, mask, strict=True) if is_real]
            pieces: list[list[int]] = [[]]
            for token in kept[1:]:
                if token == RECORDED_PLACEHOLDER:
                    pieces.append([])
                else:
                    pieces[-1].append(token)
            # decoding shows the space that is put before the piece after </s>
            text = IMAGE.join(processor.tokenizer.decode(piece).replace("</s> ", "</s>") for piece in pieces)
            again = processor(
                text=text,
                images=frames(1) * text.count(IMAGE) or None,
                qformer_prompts=[["?"] * text.count(IMAGE)],
            )["input_ids"]
            assert again == [
                expanded(kept, kept, processor.num_tokens_per_frame, processor.image_token_id)
            ], (name, row)
            compared += 1
    assert compared >= len(cases) > 0


def test_saved_and_loaded_again_it_gives_the_recorded_tokens(
    golden: Path, processor: LlamaVidProcessor, tmp_path: Path
) -> None:
    processor.save_pretrained(tmp_path)
    again = LlamaVidProcessor.from_pretrained(tmp_path)
    for record in read(golden, "preprocess.json")["conversation"]:
        dialogue = dialogue_of(record, processor.num_tokens_per_frame)
        media = media_of(dialogue, processor, record)
        first, second = processor(text=dialogue, **media), again(text=dialogue, **media)
        assert first["input_ids"] == second["input_ids"]
        assert first["labels"] == second["labels"]
