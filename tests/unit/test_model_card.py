"""The model card says what it was told, in a header that a hub reads, and says what is unknown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from behavior_llava.training.model_card import CARD, DataSet, Facts, text, write

FACTS = Facts(
    name="behavior, seed 0",
    arm="behavior",
    base_model="some/base-7B",
    license="apache-2.0",
    data=(
        DataSet("sandbox", 12_345, "ab12", "cc0-1.0", is_synthetic=True),
        DataSet("instr|uction\nmore", None, None),
    ),
    behaviors=("likes", "comments"),
    num_steps=1_200,
    weights_hash="f00d",
    seeds={"order": 7},
    settings={"epochs": 1.0, "arguments": {"learning_rate": 0.001}},
    versions={"torch": "2.14.1"},
)


def header(card: str) -> dict[str, object]:
    before, found, _ = card.split("---\n", 2)
    assert before == ""
    return yaml.safe_load(found)


def test_the_header_is_what_hubs_read() -> None:
    assert header(text(FACTS)) == {
        "base_model": "some/base-7B",
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "license": "apache-2.0",
        "tags": ["behavior-llava", "behavior"],
    }
    assert header(text(replace(FACTS, license=None)))["license"] == "unknown"


def test_the_header_names_only_what_a_hub_can_have() -> None:
    """A data set made here is told in the text: a name in the header would be a link to somebody else's."""
    unnamed = header(text(replace(FACTS, base_model="a small LLaVA trained on the spot")))
    assert "base_model" not in unnamed
    data = (*FACTS.data, DataSet("behavior-in-the-wild/BLIFT", None, None))
    assert header(text(replace(FACTS, data=data)))["datasets"] == ["behavior-in-the-wild/BLIFT"]


def test_every_fact_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, FACTS)
    assert [file.name for file in tmp_path.iterdir()] == [CARD]
    card = path.read_text(encoding="utf-8")
    assert "in the arm `behavior` for 1,200 steps" in card
    assert "| sandbox | 12,345 | ab12 | cc0-1.0 | yes |" in card
    assert "| instr\\|uction more | unknown | unknown | unknown | no |" in card
    assert "Behavior said in its rows: likes, comments." in card
    assert "| order | 7 |" in card
    assert "| torch | 2.14.1 |" in card
    assert "`f00d`" in card
    settings = card.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(settings) == FACTS.settings


def test_synthetic_data_is_named_and_only_it() -> None:
    assert "synthetic data.** " in text(FACTS)
    assert "Synthetic here: sandbox." in text(FACTS)
    real = replace(FACTS, data=(replace(FACTS.data[0], is_synthetic=False),), behaviors=())
    assert "Synthetic here" not in text(real)
    assert "sandbox makes its pictures" not in text(real)
    assert "Behavior said in its rows: none." in text(real)
