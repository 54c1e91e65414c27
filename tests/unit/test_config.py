"""Settings files: what is read, what is refused, and what a person is told."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from behavior_llava.core.config import Config, check, differences, load
from behavior_llava.core.errors import UserError


class Inner(Config):
    learning_rate: float = 1.0
    names: tuple[str, ...] = ()


class Entry(Config):
    kind: str
    settings: dict[str, Any] = Field(default_factory=dict)
    inner: Inner = Inner()


class Outer(Config):
    name: str
    seeds: tuple[int, ...] = (0,)
    batch_size: int = Field(default=4, gt=0)
    inner: Inner = Inner()
    maybe: Inner | None = None
    entries: tuple[Entry, ...] = ()
    by_name: dict[str, Inner] = Field(default_factory=dict)


TEXT = """
name: x
inner: {learning_rate: 2.0}
entries:
  - {kind: first, settings: {seed: 7}}
  - kind: second
"""


def read(folder: Path, text: str | bytes, *overrides: str) -> Outer:
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(Outer, path, overrides)


def told(folder: Path, text: str | bytes, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, text, *overrides)
    return str(caught.value)


def test_a_file_and_its_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, TEXT)
    assert config.name == "x"
    assert config.inner == Inner(learning_rate=2.0)
    assert config.batch_size == 4
    assert [entry.kind for entry in config.entries] == ["first", "second"]


# ---- --set
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("name=y", lambda config: config.name == "y"),
        ("inner.learning_rate=0.5", lambda config: config.inner.learning_rate == 0.5),
        ("inner.names=[a, b]", lambda config: config.inner.names == ("a", "b")),
        ("seeds=[1, 2]", lambda config: config.seeds == (1, 2)),
        ("maybe.learning_rate=3", lambda config: config.maybe == Inner(learning_rate=3.0)),
        ("maybe=null", lambda config: config.maybe is None),
        ("entries.1.kind=third", lambda config: [e.kind for e in config.entries] == ["first", "third"]),
        ("entries.0.settings.seed=8", lambda config: config.entries[0].settings == {"seed": 8}),
        ("entries.0={kind: z}", lambda config: config.entries[0] == Entry(kind="z")),
        ("name=a=b", lambda config: config.name == "a=b"),
    ],
)
def test_set_changes_one_value(tmp_path: Path, override: str, found: Any) -> None:
    assert found(read(tmp_path, TEXT, override))


def test_a_later_set_wins(tmp_path: Path) -> None:
    assert read(tmp_path, TEXT, "batch_size=1", "batch_size=2").batch_size == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("name", "key=value"),
        ("=3", "key=value"),
        ("entries.2.kind=x", "'2' is not a place in a list of 2"),
        ("entries.-1.kind=x", "'-1' is not a place in a list of 2"),
        ("entries.x=1", "'x' is not a place in a list of 2"),
        ("entries.²=1", "is not a place in a list of 2"),
        ("name.first=x", "'name' is a single value"),
        ("inner.names=[a", "is not valid YAML"),
        ("batch_size=0", "batch_size"),
    ],
)
def test_set_refuses(tmp_path: Path, override: str, said: str) -> None:
    message = told(tmp_path, TEXT, override)
    assert said in message


# ---- unknown keys and wrong values -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "place", "near"),
    [
        ("batch_sice=1", "batch_sice", "batch_size"),
        ("inner.learning_rat=1", "inner.learning_rat", "learning_rate"),
        ("maybe.name=1", "maybe.name", "names"),
        ("entries.0.setings={}", "entries.0.setings", "settings"),
        ("entries.1.inner.learn_rate=1", "entries.1.inner.learn_rate", "learning_rate"),
        ("by_name.x.nams=[]", "by_name.x.nams", "names"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(
    tmp_path: Path, change: str, place: str, near: str
) -> None:
    message = told(tmp_path, TEXT, change)
    assert f"unknown key {place!r}, did you mean {near!r}?" in message
    assert "config.yaml" in message


def test_an_unknown_key_far_from_any_names_the_known_ones(tmp_path: Path) -> None:
    assert "known are learning_rate, names" in told(tmp_path, TEXT, "inner.qqq=1")


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    message = told(tmp_path, "batch_size: many\nseeds: [1, x]\ninner: {names: 3}\n")
    for part in (
        "'name' is required",
        "batch_size:",
        "found 'many'",
        "seeds.1:",
        "found 'x'",
        "inner.names:",
    ):
        assert part in message


def test_check_names_the_place_it_was_told() -> None:
    with pytest.raises(UserError, match=r"^here: unknown key 'a'"):
        check(Inner, {"a": 1}, where="here")


def test_a_config_does_not_change() -> None:
    config = Outer(name="x")
    with pytest.raises(ValidationError, match="frozen"):
        config.name = "y"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError, match="frozen"):
        config.inner.learning_rate = 0.0  # pyright: ignore[reportAttributeAccessIssue]


# ---- files that are no config ------------------------------------------------------------------------------


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such config file"):
        load(Outer, tmp_path / "none.yaml")
    with pytest.raises(UserError, match="IsADirectoryError"):
        load(Outer, tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name: [x\n", "is not valid YAML"),
        (b"name: x\n\tseeds: 1\n", "is not valid YAML"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "cannot be read as a config"),
        (b"name: \x00", "is not valid YAML"),
        (b"", "holds NoneType"),
        (b"- name: x\n", "holds list"),
        (b"just words", "holds str"),
        (b"[" * 3000, "is not valid YAML"),
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    message = told(tmp_path, content)
    assert said in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir [PLACE]",
        "!!python/name:os.mkdir",
        "!!python/object/new:os.mkdir [PLACE]",
        "!!python/module:os",
    ],
)
def test_python_tags_are_not_followed(tmp_path: Path, value: str) -> None:
    place = tmp_path / "made"
    assert "is not valid YAML" in told(tmp_path, f"name: {value.replace('PLACE', str(place))}\n")
    assert not place.exists()
    assert "is not valid YAML" in told(tmp_path, TEXT, f"name={value.replace('PLACE', str(place))}")
    assert os.listdir(tmp_path) == ["config.yaml"]  # noqa: PTH208


def test_anchors_that_multiply_cost_nothing(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    start = time.process_time()
    message = told(tmp_path, "\n".join([*levels, "name: *a11", "batch_size: *a11"]))
    assert time.process_time() - start < 2
    assert "unknown key 'a0'" in message
    assert "batch_size" in message
    assert len(message) < 10_000


# ---- what changed ------------------------------------------------------------------------------------------


def test_differences_name_the_key_and_both_values() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": None, "same": 1}
    new = {"a": {"b": 2, "c": [1, 3]}, "e": "x", "same": 1}
    assert differences(old, new) == ["a.b: 1 -> 2", "a.c: [1, 2] -> [1, 3]", "e: None -> 'x'"]
    assert differences(old, old) == []
