"""What a run would read, train and score, and about what it would take: the command line's --dry-run.

Numbers come from finished stages where there are any, else from the config; what neither tells is called
unknown. Time is the floating point operations of training and evaluation over the speed of a matrix product
measured here and now, so it is an order of magnitude. With a named GPU, the training of a model that comes
trained is forecast for so many of it: tokens, operations, memory, hours, and what to do where it doesn't fit.
"""

from __future__ import annotations

import itertools
import json
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import MANIFEST
from behavior_llava.core.media import FrameStore, sha256
from behavior_llava.core.progress import console
from behavior_llava.core.schema import Example, Media, Task
from behavior_llava.data import arms, instruction
from behavior_llava.data.collect import source_of
from behavior_llava.evaluation import benchmarks, evaluator
from behavior_llava.models import auto
from behavior_llava.pipeline import VERBS, RunConfig
from behavior_llava.training.base import BUILT
from behavior_llava.training.trainer import TrainConfig

TOKENS_A_ROW = {"short": 80, "paper": 500}
"""With the media's. Measured on the sandbox with its own tokenizer (short), and estimated from the paper's
template of some ten scenes."""
INSTRUCTION_TOKENS = 45
"""Measured on the sandbox's instruction data."""
QUESTION_TOKENS = 40
"""A benchmark's question with its media and labels, on the sandbox."""
UTILIZATION = 0.4
"""Share of the matrix peak. The quickstart reached 0.48 on two cores; what is left is room for reading."""
MEDIA_BYTES = 30_000
"""A picture or film of the sandbox, on disk."""
SMOL_PARAMETERS = 139_600_000
"""Of the model `smol`: 134.5 million of SmolLM2, 3.4 of the tower, the rest the projector's."""
BYTES_A_PARAMETER = 16
"""Weights, gradient and AdamW's two moments in fp32."""


@dataclass(frozen=True)
class Size:
    """A model's size; None where its files are not at hand."""

    parameters: int | None


def show(
    config: RunConfig, folder: Path, *, until: str, limit: int | None, gpu: str | None = None, gpus: int = 1
) -> None:
    """Prints the forecast; writes nothing.

    Args:
        gpu: a name in GPUS to forecast the training for; files that are not there yet are then no fault.
        gpus: how many of it.

    Raises:
        UserError: a source's settings or files are wrong: found before anything runs; no GPU of that name is
            known.
    """
    card = None if gpu is None else gpu_named(gpu)
    console.print(
        f"[bold]{config.name}[/bold] in {folder}, up to {until}; nothing is written now", soft_wrap=True
    )
    posts = _sources(config, folder, limit, is_planned=card is not None)
    verbs = VERBS[: VERBS.index(until) + 1]
    size = _size(config)
    trained = [name for name in config.arms if arms.arm(name, config.build.kinds, where="arms").is_trained]
    operations: float | None = 0.0
    if "train" in verbs and card is not None:
        _on_gpus(config, card, gpus, posts, len(trained) * len(config.seeds))
    elif "train" in verbs:
        operations = _training(config, posts, size, trained, limit)
    if "evaluate" in verbs:
        asked = _evaluation(config, limit, size)
        operations = None if operations is None or asked is None else operations + asked
    if "train" in verbs and card is None:
        _cost(config, posts, size, operations, len(trained))
    finished = sorted(path.parent.relative_to(folder).as_posix() for path in folder.glob(f"**/{MANIFEST}"))
    console.print(f"finished already, if nothing changed: {', '.join(finished) or 'nothing'}", soft_wrap=True)


def _sources(config: RunConfig, folder: Path, limit: int | None, *, is_planned: bool) -> int | None:
    """Prints what is read; returns the number of posts, None where it is not known.

    Args:
        is_planned: files may still be missing.
    """
    table = Table("source", "from", "posts", "on disk", title="read")
    total: int | None = 0
    for entry in config.collect.sources:
        settings = source_of(entry)[1]
        paths = [value for _, value in settings if isinstance(value, Path)]
        absent = [path for path in paths if is_planned and not path.exists()]
        files = [file for path in paths if path not in absent for file in _files(path)]
        count = _declared(settings)
        named = [value for name, value in settings if name in ("path", "media", "hub") and value is not None]
        table.add_row(
            entry.kind,
            "made by the run" if count is not None else ", ".join(map(str, named)),
            "unknown" if count is None else f"{count:,}",
            "not there yet"
            if absent
            else "unknown"
            if not files
            else _bytes(sum(file.stat().st_size for file in files)),
        )
        total = None if total is None or count is None else total + count
    console.print(table)
    manifest = folder / "collect" / MANIFEST
    if manifest.exists():
        total = json.loads(manifest.read_text(encoding="utf-8"))["posts"]
        console.print(f"collected before: {total:,} posts")
    if limit is not None and total is not None:
        total = min(total, 3 * limit)
    return total


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise UserError("no such file or folder", where=path, remedy="check the path in the config")
    yield from [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())


def _declared(settings: Any) -> int | None:
    """The posts that a source's settings ask it to make; None where it makes none."""
    names = ("images", "videos", "page_posts")
    return sum(getattr(settings, name) for name in names) if hasattr(settings, names[0]) else None


def _size(config: RunConfig) -> Size:
    if config.model == "tiny":
        tiny = config.base.tiny
        # attention and a gated MLP of three times the width; in the tower a plain one of twice the width
        layer, seeing = 13 * tiny.hidden_size**2, 8 * tiny.hidden_size**2
        patch = 3 * tiny.patch_size**2 * tiny.hidden_size
        language = tiny.num_layers * layer + tiny.vocab_size * tiny.hidden_size
        return Size(language + tiny.num_vision_layers * seeing + patch)
    if config.model == "smol":
        return Size(SMOL_PARAMETERS)
    folder = Path(config.model)
    if folder.is_dir():
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        return Size(weights // 2)
    return Size(None)


def _instruction_rows(config: RunConfig, limit: int | None) -> int | None:
    """Rows of the instruction data; None where they are not known before the run."""
    path = config.base.instruction
    if path is not None:
        return len(instruction.read(path))
    for entry in config.collect.sources:
        if entry.kind == "sandbox":
            settings: Any = source_of(entry)[1]
            media = settings.instruction_images + settings.instruction_videos
            rows = 2 * media + settings.instruction_texts
            return rows if limit is None else min(rows, 8 * limit)
    return None


def _training(
    config: RunConfig, posts: int | None, size: Size, trained: list[str], limit: int | None
) -> float | None:
    """Prints what is trained; returns its operations, None where they cannot be told."""
    stages, told = len(trained) * len(config.seeds), config.training
    based = len(config.seeds) if config.model in BUILT else 0
    console.print(
        f"train: {based} base model(s) and {stages} arm stage(s): {', '.join(trained)} "
        f"x seeds {list(config.seeds)}",
        soft_wrap=True,
    )
    rows = _instruction_rows(config, limit)
    tokens: float | None = 0.0
    if based:
        if rows is None:
            tokens = None
        else:
            console.print(f"rows of the base stage: {rows:,}, {config.base.train.epochs:g} epochs")
            tokens = based * rows * config.base.train.epochs * INSTRUCTION_TOKENS
    if posts is None:
        console.print("rows of an arm stage: unknown until collect has run", soft_wrap=True)
        return None
    own = 0.8 * posts * told.train.epochs
    console.print(
        f"rows of an arm stage: at most {round(own * (1 + told.ratio)):,} (80 % of the posts, "
        f"{told.train.epochs:g} epochs, 1:{told.ratio:g} with instruction data)"
    )
    if size.parameters is None:
        console.print(f"model {config.model}: its size is known once it is downloaded", soft_wrap=True)
    if size.parameters is None or tokens is None:
        return None
    a_row = TOKENS_A_ROW.get(config.build.template, TOKENS_A_ROW["paper"])
    tokens += stages * own * (a_row + told.ratio * INSTRUCTION_TOKENS)
    return 6 * size.parameters * tokens


def _evaluation(config: RunConfig, limit: int | None, size: Size) -> float | None:
    """Prints what is scored; returns its operations, None where they cannot be told."""
    settings, known = config.evaluate, config.evaluate.known()
    table = Table("task", "samples", "settings", "metric", "modality", title="score")
    cells = len(config.arms) * len(config.seeds)
    tokens: float | None = 0.0
    for name in settings.tasks:
        task = known[name]
        asked = settings.asked(task)
        tuned = settings.finetune.fractions if name in settings.finetune.tasks else ()
        samples = _samples(config, task, limit)
        table.add_row(
            name,
            "unknown" if samples is None else f"{samples:,}",
            "\n".join([*asked, *(f"finetuned {fraction:.0%}" for fraction in tuned)]),
            task.metric,
            task.modality,
        )
        if tokens is None or samples is None:
            tokens = None
            continue
        written = sum(setting != "zero_shot" for setting in asked) * (
            QUESTION_TOKENS + settings.context_tokens
        )
        others = settings.calibration_samples + 1 if evaluator.has_priors(task) else 0
        tokens += cells * (samples + others) * ((len(asked) + len(tuned)) * QUESTION_TOKENS + written)
        # a learned token costs three times one that is read; the labels are about as many as the samples
        tokens += cells * 3 * sum(tuned) * samples * settings.finetune.train.epochs * QUESTION_TOKENS
    console.print(table)
    console.print(f"by {len(config.arms)} arm(s) x {len(config.seeds)} seed(s)")
    return None if tokens is None or size.parameters is None else 2 * size.parameters * tokens


def _samples(config: RunConfig, task: Task, limit: int | None) -> int | None:
    """Samples of a task's test split; None where its list is not there yet."""
    settings = config.evaluate
    count: int | None = None
    if settings.benchmarks is not None:
        place = settings.benchmarks / benchmarks.folder_name(task)
        count = len(task.load(place, task.test_split)) if place.is_dir() else None
    else:
        made = [source_of(entry)[1] for entry in config.collect.sources if entry.kind == "sandbox"]
        count = made[0].benchmark_test if made else None
    most = [value for value in (limit, settings.limit, count) if value is not None]
    return None if count is None else min(most)


def _cost(
    config: RunConfig, posts: int | None, size: Size, operations: float | None, num_trained: int
) -> None:
    """Prints time, memory and disk."""
    if operations is None or size.parameters is None or posts is None:
        console.print("time, memory and disk: unknown, for the reasons above")
        return
    speed = _matmul_flops()
    console.print(
        f"operations: {operations:.1e}; here {speed / 1e9:.0f} GFLOP/s at best, so about "
        f"{_time(operations / (speed * UTILIZATION))} of training and evaluation on this machine",
        soft_wrap=True,
    )
    memory = config.side_by_side * (BYTES_A_PARAMETER * size.parameters + 2**30) + 2**30
    models = num_trained * len(config.seeds) + (2 * len(config.seeds) if config.model in BUILT else 0)
    tuned = config.evaluate.finetune
    models += len(config.arms) * len(config.seeds) * len(tuned.tasks) * len(tuned.fractions)
    disk = 4 * size.parameters * models + 20_000 * posts + MEDIA_BYTES * _media_made(config)
    console.print(
        f"memory: about {_bytes(memory)}; disk: about {_bytes(disk)} "
        f"({models} models of {_bytes(4 * size.parameters)}, media and frames)",
        soft_wrap=True,
    )


def _media_made(config: RunConfig) -> int:
    """Pictures and films the sandbox will draw: posts, instruction data, and five benchmarks' splits."""
    made = 0
    for entry in config.collect.sources:
        if entry.kind == "sandbox":
            settings: Any = source_of(entry)[1]
            a_benchmark = settings.benchmark_train * 7 // 6 + settings.benchmark_test
            made += _declared(settings) + settings.instruction_images + settings.instruction_videos
            made += 4 * a_benchmark
    return made


def _matmul_flops() -> float:
    """Floating point operations a second of an fp32 matrix product, the best of a few."""
    import torch

    side, best = 1024, 0.0
    matrix = torch.ones(side, side)
    for _ in range(5):
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# ---- a named GPU -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gpu:
    """What a GPU can do.

    Attributes:
        tflops: dense bf16 matrix products with fp32 sums, in 1e12 operations a second; None where its matrix
            units have no bf16.
        memory_gb: of 2**30 bytes.
    """

    tflops: float | None
    memory_gb: int


GPUS: dict[str, Gpu] = {
    "A100-40GB": Gpu(312, 40),
    "A100-80GB": Gpu(312, 80),
    "H100-80GB": Gpu(989.4, 80),
    "H200-141GB": Gpu(989.4, 141),
    "L4": Gpu(121, 24),
    "L40S": Gpu(362.05, 48),
    "RTX-3090": Gpu(71, 24),
    "RTX-4090": Gpu(165.2, 24),
    "T4": Gpu(None, 16),
}
"""Sources, all of nvidia.com. A100: datasheet "NVIDIA A100 Tensor Core GPU", BFLOAT16 Tensor Core. H100 and
H200: their datasheets, SXM; the 1,979 there are with sparsity, dense is half. L4: datasheet, half of the 242
with sparsity. L40S: datasheet, BFLOAT16 362.05 (733 with sparsity). RTX 3090: whitepaper "NVIDIA Ampere GA102
GPU Architecture", BF16 with FP32 accumulate. RTX 4090: whitepaper "NVIDIA Ada GPU Architecture", that row.
T4: datasheet; Turing has fp16 alone, and bf16 is emulated there."""

GPU_UTILIZATION = 0.35
"""Share of a GPU's peak that training reaches; assumed. PaLM's reached 0.46 (arXiv:2204.02311, table 3);
small batches, rows of unequal length and reading media cost."""
USABLE = 0.92
"""Share of a GPU's memory for the training; assumed. The rest is CUDA's own and gaps between allocations."""
BYTES_A_TOKEN_LAYER = 34
"""Bytes kept for one token in one layer, for each number of its width, without attention's matrix. Source:
arXiv:2205.05198, section 4.1, equation 1; a gated MLP is about the same."""
BYTES_A_LOGIT = 10
"""bf16, its fp32 copy and the gradient of that."""
PICTURE = (1024, 768)
"""Pixels of the picture that a processor's tokens are counted on."""
_TOWER = re.compile(r"(^|\.)(vision_tower|vision_model|visual)\.")
_MOST_GPUS = 1024


def gpu_named(name: str) -> Gpu:
    """The GPU of a name, in any case.

    Raises:
        UserError: none is known by it.
    """
    for known, card in GPUS.items():
        if known.lower() == name.lower():
            return card
    raise UserError(f"no GPU called {name!r} is known", where="--gpu", remedy=f"there are: {', '.join(GPUS)}")


@dataclass(frozen=True)
class Part:
    """Matrices that the same number of positions pass through.

    Attributes:
        matrices: their numbers; learned: of these, how many learn; adapters: numbers of LoRA beside them.
    """

    matrices: int = 0
    learned: int = 0
    adapters: int = 0

    def operations(self, *, has_gradient: bool, recomputes: bool) -> int:
        """Of one position, forward and backward, 2 a number and product.

        Args:
            has_gradient: something that learns stands in this part or before it, so that the gradient passes
                through the frozen matrices too.
            recomputes: the forward pass is done again in the backward one.
        """
        forward = 2 * (self.matrices + self.adapters)
        if not has_gradient:
            return forward
        weights = 2 * (self.learned + self.adapters)
        return (3 if recomputes else 2) * forward + weights


@dataclass(frozen=True)
class Shape:
    """What training a model costs depends on.

    Attributes:
        parameters: all of the model, without adapters. learned: of these, how many learn. adapters: LoRA's.
        copied: numbers that peft keeps twice, because they learn beside the adapters.
        language: which every token passes. between: projector and Q-Former. tower: both of them every patch.
        width, layers, vocabulary: of the language model.
    """

    parameters: int
    learned: int
    adapters: int
    copied: int
    language: Part
    between: Part
    tower: Part
    width: int
    layers: int
    vocabulary: int


def shape_of(network: Any, train: TrainConfig) -> Shape:
    """The shape of a network, which may lie on the meta device, under a training stage's settings."""
    import torch

    frozen, adapted = train.freeze, train.lora

    def is_whole(name: str) -> bool:
        return adapted is None or any(f".{part}." in f".{name}" for part in adapted.whole)

    def learns(name: str) -> bool:
        return is_whole(name) and not any(re.search(pattern, name) for pattern in frozen)

    text = network.config.get_text_config()
    named = {name: value.numel() for name, value in network.named_parameters()}
    parts = {"language": Part(), "between": Part(), "tower": Part()}
    heads = {id(network.get_output_embeddings())}
    inside = {id(module) for module in network.get_decoder().modules()} | heads
    for name, module in network.named_modules():
        if not isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.Conv3d):
            continue
        place = "language" if id(module) in inside else "tower" if _TOWER.search(f"{name}.") else "between"
        size, part, beside = module.weight.numel(), parts[place], 0
        if adapted is not None and re.fullmatch(adapted.targets, name):
            beside = adapted.rank * (module.weight.shape[0] + module.weight[0].numel())
        learned = size if learns(f"{name}.weight") else 0
        parts[place] = Part(part.matrices + size, part.learned + learned, part.adapters + beside)
    learned = sum(size for name, size in named.items() if learns(name))
    return Shape(
        parameters=sum(named.values()),
        learned=learned,
        adapters=sum(part.adapters for part in parts.values()),
        copied=0 if adapted is None else sum(size for name, size in named.items() if is_whole(name)),
        width=text.hidden_size,
        layers=text.num_hidden_layers,
        vocabulary=text.vocab_size,
        **parts,
    )


@dataclass(frozen=True)
class Load:
    """One row of training: text and media tokens, and the patches its media are cut into."""

    text: int
    media: int = 0
    patches: int = 0

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.text + self.media


def row_operations(shape: Shape, row: Load, *, recomputes: bool) -> int:
    """Operations of one row, without attention's own products (a fifth more at 7,000 tokens of a 7B)."""
    sees = shape.tower.learned + shape.tower.adapters > 0
    reads = sees or shape.between.learned + shape.between.adapters > 0
    passes = row.tokens * shape.language.operations(has_gradient=True, recomputes=recomputes)
    passes += row.patches * shape.between.operations(has_gradient=reads, recomputes=False)
    return passes + row.patches * shape.tower.operations(has_gradient=sees, recomputes=sees and recomputes)


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU."""

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.activations


def memory(shape: Shape, row: Load, batch: int, *, over: int, recomputes: bool) -> Memory:
    """What a stage needs on each GPU.

    Args:
        row: the longest one.
        batch: rows at a time on each GPU.
        over: GPUs that FSDP divides the model over; 1 for a whole copy on each. What learns is in fp32, with
            its gradients and AdamW's two moments, 16 bytes; what is frozen is in bf16, 2 bytes (see
            training/precision.py). A whole copy keeps what learns in bf16 too, from where the forward pass
            uses it to the backward one; FSDP gathers two layers in bf16.
    """
    tokens, width, layers = batch * row.tokens, shape.width, shape.layers
    held = BYTES_A_TOKEN_LAYER * width * tokens
    activations = held + 2 * width * tokens * layers if recomputes else held * layers
    activations += BYTES_A_LOGIT * shape.vocabulary * batch * row.text
    learns = shape.learned + shape.adapters
    frozen = shape.parameters + shape.copied + shape.adapters - learns
    gathered = 2 * 2 * shape.language.matrices / layers
    return Memory(
        weights=(4 * learns + 2 * frozen) / over + (0 if over == 1 else gathered),
        gradients=4 * learns / over,
        optimizer=8 * learns / over,
        activations=activations + (2 * learns if over == 1 else 0),
    )


def _network(name: str) -> Any:
    """A model without weights; None where its config is not to be had.

    Raises:
        UserError: it is a model of another kind.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from behavior_llava.models import llama_vid  # noqa: F401  # which makes itself known to transformers

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError):
        return None
    try:
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(config)
    except ValueError as error:
        raise UserError(
            f"is no image-text-to-text model ({str(error).splitlines()[0]})",
            where=name,
            remedy="give a model folder or the name of one on the hub",
        ) from error


def media_loads(name: str, network: Any, frames: int) -> list[Load] | None:
    """What a picture and a video of so many frames add to a row, counted by the model's own processor; None
    where that is not to be had.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError):
        return None
    vision = network.config.vision_config
    patch = vision.patch_size**2 * 3 * getattr(vision, "temporal_patch_size", 1)
    with tempfile.TemporaryDirectory() as place:
        model = auto.VisionLanguageModel(network, processor, FrameStore(Path(place) / "frames"))
        bare = model.inputs([Example("bare", "?", None)], supervise=False)["input_ids"].shape[1]
        found = []
        for media in _drawn(Path(place), frames):
            inputs = model.inputs([Example("seen", "?", None, media)], supervise=False)
            pixels = sum(value.numel() for key, value in inputs.items() if key.startswith("pixel_values"))
            found.append(Load(0, inputs["input_ids"].shape[1] - bare, pixels // patch))
    return found


def _drawn(folder: Path, frames: int) -> Iterator[Media]:
    """A picture, and a video of a frame a second."""
    import av
    from PIL import Image

    blank = Image.new("RGB", PICTURE, (90, 140, 200))
    blank.save(folder / "picture.png")
    yield Media(str(folder / "picture.png"), "image", sha256(folder / "picture.png"))
    path = folder / "video.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height = PICTURE
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_image(blank)))
        container.mux(stream.encode())
    yield Media(str(path), "video", sha256(path), tuple(float(second) for second in range(frames)))


def _on_gpus(config: RunConfig, card: Gpu, gpus: int, posts: int | None, stages: int) -> None:
    """Prints what the arms' training takes on so many GPUs."""
    if config.model in BUILT:
        console.print(f"model {config.model}: made on the spot, small enough for any GPU; leave --gpu out")
        return
    network = _network(config.model)
    if network is None:
        console.print(
            f"model {config.model}: its config is not at hand, so tokens, memory and hours are unknown",
            soft_wrap=True,
        )
        return
    train, ratio = config.training.train, config.training.ratio
    shape = shape_of(network, train)
    console.print(
        f"model {config.model}: {shape.parameters / 1e9:.2f} billion parameters, "
        f"{(shape.learned + shape.adapters) / 1e9:.3f} billion learn",
        soft_wrap=True,
    )
    loads = media_loads(config.model, network, config.build.max_scenes)
    if loads is None:
        console.print("its processor is not at hand, so tokens, memory and hours are unknown", soft_wrap=True)
        return
    text = TOKENS_A_ROW.get(config.build.template, TOKENS_A_ROW["paper"])
    rows = [replace(load, text=text) for load in loads]
    recomputes = _recomputes(train)
    worst = max(rows, key=lambda row: row_operations(shape, row, recomputes=recomputes))
    a_row = row_operations(shape, worst, recomputes=recomputes)
    told = " or ".join(f"{row.media:,} of media for {name}" for row, name in zip(rows, _KINDS, strict=True))
    console.print(
        f"tokens of a row: about {text} of text (instruction rows are taken to be as long), {told} "
        f"({config.build.max_scenes} frames); the dearer of the two: {a_row:.2e} operations a row",
        soft_wrap=True,
    )
    _memory_told(shape, max(rows, key=lambda row: row.tokens), train, card, gpus)
    if card.tflops is None:
        console.print("hours: unknown, this GPU's matrix units have no bf16, which would be emulated")
        return
    hours = a_row / (card.tflops * 1e12 * GPU_UTILIZATION * gpus) / 3600
    at = f"at {GPU_UTILIZATION:.0%} of {card.tflops:g} TFLOP/s on each of {gpus} GPU(s)"
    if posts is None:
        each = hours * 100_000 * train.epochs * (1 + ratio)
        console.print(
            f"rows: unknown until collect has run; for every 100,000 posts an arm learns from, with "
            f"{train.epochs:g} epochs and 1:{ratio:g}: at most {each:,.1f} h an arm, {stages * each:,.1f} h "
            f"for {stages} arm stage(s), {at}",
            soft_wrap=True,
        )
        return
    num_rows = round(0.8 * posts * train.epochs * (1 + ratio))
    console.print(
        f"hours: at most {num_rows * hours:,.1f} an arm of {num_rows:,} rows, "
        f"{stages * num_rows * hours:,.1f} for {stages} arm stage(s), {at}; captions and evaluation are not "
        "in it",
        soft_wrap=True,
    )


_KINDS = ("a picture", "a video")


def _recomputes(train: TrainConfig) -> bool:
    told = train.arguments
    return bool(told.get("activation_checkpointing", told.get("gradient_checkpointing", False)))


def _memory_told(shape: Shape, row: Load, train: TrainConfig, card: Gpu, gpus: int) -> None:
    """Prints the memory on each GPU, and what to do where there is too little."""
    batch = int(train.arguments.get("per_device_train_batch_size", 32))
    recomputes, room = _recomputes(train), USABLE * card.memory_gb * 2**30

    def needed(over: int, *, rows: int = batch, recomputes: bool = recomputes) -> Memory:
        return memory(shape, row, rows, over=over, recomputes=recomputes)

    over = 1 if gpus == 1 or needed(1).total <= room else gpus
    found = needed(over)
    way = "a whole copy on each" if over == 1 else f"divided over {over} by FSDP"
    console.print(
        f"memory of each GPU, {way}: about {_bytes(found.total)} of {card.memory_gb} GiB "
        f"(weights {_bytes(found.weights)}, gradients {_bytes(found.gradients)}, optimizer "
        f"{_bytes(found.optimizer)}, activations of {batch} row(s) {_bytes(found.activations)})",
        soft_wrap=True,
    )
    if found.total <= room:
        return
    advice = []
    if not recomputes and needed(over, recomputes=True).total <= room:
        advice.append("set activation_checkpointing: true")
    fitting = next((rows for rows in range(batch - 1, 0, -1) if needed(over, rows=rows).total <= room), None)
    if fitting is not None:
        advice.append(f"set per_device_train_batch_size: {fitting} and more gradient_accumulation_steps")
    many = itertools.takewhile(lambda count: count <= _MOST_GPUS, (2**power for power in itertools.count(1)))
    enough = next((count for count in many if count > gpus and needed(count).total <= room), None)
    if enough is not None:
        advice.append(f"take {enough} GPUs with FSDP")
    if train.lora is None:
        advice.append("train adapters (training.train.lora)")
    advice.append("take a GPU with more memory")
    console.print(f"[bold]does not fit[/bold]: {'; or '.join(advice)}", soft_wrap=True)
