"""Grids of runs: their settings, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from behavior_llava import ablation
from behavior_llava.core.config import check
from behavior_llava.core.errors import UserError

RUN: dict[str, Any] = {
    "arms": ["content_only", "behavior"],
    "collect": {"sources": [{"kind": "sandbox", "settings": {"seed": 3}}]},
    "evaluate": {"tasks": []},
}


def grid(vary: dict[str, Any], **more: Any) -> ablation.AblationConfig:
    return check(ablation.AblationConfig, {"name": "grid", "run": RUN, "vary": vary} | more, where="test")


def test_a_variant_is_the_run_with_what_it_sets_otherwise() -> None:
    found = grid(
        {
            "plain": {},
            "25 %": {"collect.sources.0.settings.signal": 0.25, "training.train.epochs": 3},
            "bare": {"build.filters": {"reddit": ["media_missing"]}},
        }
    ).variants()
    plain, quarter, bare = found.values()
    assert [one.name for one in found.values()] == ["grid, plain", "grid, 25 %", "grid, bare"]
    assert quarter.collect.sources[0].settings == {"seed": 3, "signal": 0.25}
    assert plain.collect.sources[0].settings == {"seed": 3}
    assert (plain.training.train.epochs, quarter.training.train.epochs) == (2, 3)
    assert bare.build.filters == {"reddit": ("media_missing",)}
    same = plain.model_copy(update={"name": ""}).model_dump(exclude={"build"})
    assert bare.model_copy(update={"name": ""}).model_dump(exclude={"build"}) == same


def test_variants_that_are_asked_of_other_samples_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(ablation.pipeline, "run", lambda run, *_, **__: done.append(run.name))
    monkeypatch.setattr(ablation.results, "complete", lambda run, *_, **__: done.append(run.name))
    monkeypatch.setattr(ablation.comparing, "compare", lambda folders, out, _: out / "index.html")
    halves = {f"{n}": {"evaluate.splits": {"sun": [f"train_{n}", f"test_{n}"]}} for n in (1, 2)}
    asked = grid(halves, run=RUN | {"evaluate": {"tasks": ["sun"]}})
    for kept in (None, tmp_path / "kept"):
        assert ablation.run(asked, tmp_path / "halves", kept=kept) == tmp_path / "halves"
        assert ablation.run(grid({"a": {}, "b": {}}), tmp_path / "all", kept=kept).name == "index.html"
    assert done == ["grid, 1", "grid, 2", "grid, a", "grid, b"] * 2
    assert (tmp_path / "halves" / "1" / "journal").resolve() == tmp_path / "halves" / "journal"


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        ({"a": {}, "b": {"training.ration": 1}}, "vary.b"),
        ({"a": {}, "b": {"training.ratio": -1}}, "vary.b"),
        ({"a": {}, "b": {"collect.sources.7.kind": "reddit"}}, "not a place in a list of 1"),
    ],
)
def test_a_setting_that_cannot_be_is_told_with_its_variant(vary: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        grid(vary).variants()


@pytest.mark.parametrize(
    "vary",
    [
        {"one": {}},
        {"../up": {}, "b": {}},
        {"a/b": {}, "b": {}},
        {"": {}, "b": {}},
        {"report": {}, "b": {}},
        {"frames": {}, "b": {}},
        {"1:2": {}, "1to2": {}},
        {"a b": {}, "a_b": {}},
    ],
)
def test_names_that_cannot_be_folders_are_refused(vary: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        grid(vary)


def test_folders_are_called_as_a_person_would() -> None:
    names = ("1:10", "25 %", "unfiltered", "2:1, long")
    assert [ablation.folder_name(name) for name in names] == ["1to10", "25pct", "unfiltered", "2to1_long"]


def test_a_grid_is_told_from_a_run(tmp_path: Path) -> None:
    for name, text, is_one in (
        ("grid", "name: x\nrun: {}\nvary: {}\n", True),
        ("run", "name: x\narms: [base]\n", False),
        ("list", "- vary\n", False),
        ("broken", "vary: [", False),
    ):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        assert ablation.is_grid(path) is is_one
    assert not ablation.is_grid(tmp_path / "none.yaml")


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="no grid wrote"):
        ablation.run(grid({"a": {}, "b": {"training.ratio": 2.0}}), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
