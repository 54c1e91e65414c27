"""Every config in configs/ is valid, and the three for models that come trained take two steps, tiny.

The three are loaded as they stand; --set replaces what no test has: sources by a small sandbox, the model and
who writes captions by tiny random ones of the same architecture. Everything else is the config's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.architectures import build

from behavior_llava import ablation
from behavior_llava.core.config import load
from behavior_llava.core.media import FrameStore
from behavior_llava.models import auto
from behavior_llava.pipeline import RunConfig, run
from behavior_llava.training.trainer import arguments, loss_curve

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

TRAINED = {"paper_13b": "llama_vid", "onevision_7b": "llava_onevision", "smolvlm_256m": "smolvlm"}
"""Config -> the architecture it names; each is tried."""

SANDBOX = (
    "[{kind: sandbox, settings: {seed: 3, images: 24, videos: 12, page_posts: 0, instruction_images: 16, "
    "instruction_videos: 4, instruction_texts: 8, benchmark_train: 16, benchmark_test: 16}}]"
)


def test_every_config_is_valid(tmp_path: Path) -> None:
    grids = 0
    for path in CONFIGS:
        if ablation.is_grid(path):
            grid = load(ablation.AblationConfig, path)
            name, runs = grid.name, list(grid.variants().values())
            grids += 1
        else:
            run = load(RunConfig, path)
            name, runs = run.name, [run]
        assert name == path.stem
        command = path.read_text(encoding="utf-8").splitlines()[0].split()
        assert command[:2] == ["#", "behavior-llava"]
        assert command[-1] == f"configs/{path.name}"
        for config in runs:
            for settings in (config.base.train, config.training.train, config.evaluate.finetune.train):
                arguments(settings, tmp_path, seed=0, on_cpu=True)
    assert (len(CONFIGS), grids) == (20, 6)


def test_what_goes_on_from_smol_has_its_world_base_and_training() -> None:
    """Otherwise its models could not be lent, and a difference would be of two things."""
    smol = load(RunConfig, ROOT / "configs" / "smol.yaml")
    texts = load(ablation.AblationConfig, ROOT / "configs" / "real_texts.yaml").variants()
    others = {"finetune": load(RunConfig, ROOT / "configs" / "smol_finetune.yaml"), **texts}
    assert len(others) == 3
    grid = load(ablation.AblationConfig, ROOT / "configs" / "smol_ablations.yaml")
    varied = {"kinds": set(), "signal 50 %": {"collect"}, "signal 0 %": {"collect"}}
    varied["unfiltered"] = {"build", "training"}
    variants = grid.variants()
    assert set(variants) == set(varied)
    longer = smol.training.train.model_copy(update={"max_tokens": 96})
    assert variants["unfiltered"].training == smol.training.model_copy(update={"train": longer})
    for name, config in (others | variants).items():
        for part in {"model", "collect", "build", "base", "training"} - varied.get(name, set()):
            assert getattr(config, part) == getattr(smol, part), (name, part)
    assert all(config.evaluate == smol.evaluate for config in variants.values())
    photos = load(ablation.AblationConfig, ROOT / "configs" / "real_photos.yaml").variants()
    assert len(photos) == 20
    assert all(config.base.train == smol.base.train for config in photos.values())
    assert all(config.build.max_scenes == smol.build.max_scenes for config in photos.values())


def test_the_mixtures_take_the_same_number_of_rows() -> None:
    """Behavior rows times one and the ratio, over the epochs."""
    grid = load(ablation.AblationConfig, ROOT / "configs" / "ablation_mixture.yaml")
    trained = {name: run.training for name, run in grid.variants().items()}
    assert {name: one.ratio for name, one in trained.items()} == {"1:1": 1, "1:2": 2, "2:1": 0.5, "1:10": 10}
    for one in trained.values():
        assert one.train.epochs * (1 + one.ratio) == pytest.approx(4, rel=1e-3)


def test_the_paper_recipe_has_the_papers_values() -> None:
    """Read against arXiv:2405.00942 (ratio, epochs, what is frozen) and LLaMA-VID's stage 2, 13B."""
    config = load(RunConfig, ROOT / "configs" / "paper_13b.yaml")
    told = config.training.train.arguments
    assert (config.training.ratio, config.training.train.epochs) == (1.0, 2.2)
    assert config.training.train.freeze == ("vision_tower",)
    assert (told["learning_rate"], told["weight_decay"], told["warmup_steps"]) == (2e-5, 0.0, 0.03)
    rows = 8 * told["per_device_train_batch_size"] * told["gradient_accumulation_steps"]
    assert rows == 32
    assert config.arms == ("base", "content_only", "shuffled", "behavior")


def test_the_paper_filters_are_the_defaults_written_out() -> None:
    """The same filters in the same order; a default that changes shows here."""
    from behavior_llava.data import blift, funnel

    config = load(RunConfig, ROOT / "configs" / "paper_13b.yaml")
    for source, entries in config.build.filters.items():
        ours, defaults = (
            [(entry[0], entry[1]) for entry in (blift.named(item, "build.filters") for item in items)]
            for items in (entries, blift.DEFAULT_FILTERS[source])
        )
        assert [name for name, _ in ours] == [name for name, _ in defaults]
        assert funnel.ready(ours) == funnel.ready(defaults)
    assert set(config.build.filters) == {"reddit", "youtube"}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_two_steps_of_its_architecture(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    build(TRAINED[name], start)
    small = {
        "collect.sources": SANDBOX,
        "collect.max_fault_rate": 0.1,  # so small a world has one broken picture in fifty
        "base.instruction": "null",
        "evaluate.benchmarks": "null",
        "evaluate.finetune.tasks": "[]",
        "model": start,
        "device": "cpu",
        "arms": "[base, content_matched, behavior]",
        "build.captions.tokens": 8,
        "build.captions.tag_tokens": 8,
        "training.train.arguments.max_steps": 2,
        "training.train.arguments.logging_steps": 1,
    }
    if load(RunConfig, ROOT / "configs" / f"{name}.yaml").build.captions.model is not None:
        small["build.captions.model"] = tiny_folder
    small["build.speech"] = "null"
    config = load(
        RunConfig, ROOT / "configs" / f"{name}.yaml", [f"{key}={value}" for key, value in small.items()]
    )
    work = run(config, tmp_path / "run", until="train")
    trained = tmp_path / "run" / "train" / "seed0" / "behavior"
    curve = loss_curve(trained)
    assert [step for step, _ in curve] == [1, 2]
    assert all(loss > 0 for _, loss in curve)
    kinds = [row.item.post.media_kind for row in work.rows(0, "train")]
    assert {"image", "video"} <= set(kinds)
    before, after = (_weights(place, tmp_path) for place in (start, trained / "model"))
    assert before.keys() == after.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    still = {key for key in before if any(part in key for part in config.training.train.freeze)}
    assert still
    assert not still & changed
    learning = {key for key in before if key.endswith(("q_proj.weight", "down_proj.weight"))} - still
    assert learning
    assert learning <= changed


def _weights(folder: Path, tmp_path: Path) -> dict[str, torch.Tensor]:
    model: Any = auto.load(str(folder), FrameStore(tmp_path / "frames"), device="cpu")
    return {key: value.clone() for key, value in model.network.named_parameters()}
