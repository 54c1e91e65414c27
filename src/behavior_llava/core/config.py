"""YAML plus --set to a frozen, checked pydantic model, with errors a person can act on.

Every stage's settings are one `Config` at the top of the stage's file; `RunConfig` in stages.py holds them
together.
YAML holds values only: no code paths, no inheritance, no interpolation.
"""

from __future__ import annotations

import copy
import difflib
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from behavior_llava.core.errors import UserError


class Config(BaseModel):
    """The base of every settings model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


C = TypeVar("C", bound=BaseModel)

_SHORT = reprlib.Repr()  # YAML's anchors can make a value larger than any memory
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80


def load(model: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """The config at `path` with "key.subkey=value" overrides applied.

    Raises:
        UserError: no such file, no YAML, an unknown key (with the nearest known one) or a value out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            "no such config file",
            where=path,
            remedy="give the path of a YAML file, e.g. configs/quickstart.yaml",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot be read as a config ({type(error).__name__})",
            where=path,
            remedy="give the path of a YAML file",
        ) from error
    values = _parsed(text, where=path)
    if not isinstance(values, dict):
        raise UserError(
            f"holds {type(values).__name__}, not a mapping of settings",
            where=path,
            remedy="write one setting a line, `key: value`",
        )
    for override in overrides:
        _set(values, override)
    return check(model, values, where=path)


def build(
    model: type[C], values: Mapping[str, Any], overrides: Sequence[str] = (), *, where: object = "--set"
) -> C:
    """A config of given values with "key=value" overrides applied.

    Raises:
        UserError: an unknown key or a value out of range.
    """
    changed = copy.deepcopy(dict(values))
    for override in overrides:
        _set(changed, override)
    return check(model, changed, where=where)


def check(model: type[C], values: Mapping[str, Any], *, where: object) -> C:
    """`values` as a `model`; a UserError that names every wrong key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(
            "; ".join(_complaints(model, error)), where=where, remedy="correct the config or the --set"
        ) from None


def _parsed(text: str, *, where: object) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        raise UserError(
            f"is not valid YAML: {' '.join(str(error).split())}", where=where, remedy="correct that line"
        ) from error


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set takes key=value, not {override!r}", remedy="e.g. --set evaluate.limit=50")
    *path, last = key.split(".")
    place: Any = values
    for part in path:
        if isinstance(place, list):
            place = _item(place, part, override)
        else:
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
        if not isinstance(place, (dict, list)):
            raise UserError(
                f"{part!r} is a single value, it has no {last!r}",
                where=f"--set {override}",
                remedy="name an existing setting",
            )
    value = _parsed(text, where=f"--set {override}")
    if isinstance(place, list):
        _item(place, last, override)
        place[int(last)] = value
    else:
        place[last] = value


def _item(place: list[Any], part: str, override: str) -> Any:
    if not part.isdecimal() or int(part) >= len(place):
        raise UserError(
            f"{part!r} is not a place in a list of {len(place)}",
            where=f"--set {override}",
            remedy="count from 0",
        )
    return place[int(part)]


def _complaints(model: type[BaseModel], error: ValidationError) -> list[str]:
    complaints = []
    for item in error.errors(include_url=False):
        loc = item["loc"]
        place = ".".join(str(part) for part in loc) or "config"
        if item["type"] == "extra_forbidden":
            known = _known_keys(model, loc[:-1])
            near = difflib.get_close_matches(str(loc[-1]), known, n=1)
            hint = (
                f", did you mean {near[0]!r}?"
                if near
                else (f", known are {', '.join(known)}" if known else "")
            )
            complaints.append(f"unknown key {place!r}{hint}")
        elif item["type"] == "missing":
            complaints.append(f"{place!r} is required")
        else:
            complaints.append(f"{place}: {item['msg']} (found {_SHORT.repr(item['input'])})")
    return complaints


def _known_keys(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    current: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        fields = getattr(current, "model_fields", None)
        if not fields or part not in fields:
            continue
        current = _model_in(fields[part].annotation)
    return list(getattr(current, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The settings model inside an annotation such as tuple[Model, ...] or Model | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """What changed from one settings tree to another, as "key: old -> new" lines."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in sorted({*old, *new}):
            lines += differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        return lines
    return [] if old == new else [f"{prefix}: {old!r} -> {new!r}"]
