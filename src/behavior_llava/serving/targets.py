"""Which models a target of `serve` has, and loading each when it is first asked.

A target is a run's folder, a model's folder, a hub name, or an endpoint. Called by demo.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.data import manner
from behavior_llava.data.manner import Manner
from behavior_llava.models import auto
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.models.remote import RemoteConfig, RemoteModel
from behavior_llava.training.base import BUILT

log = logging.getLogger(__name__)

COMPARED = ("base", "content_only", "behavior")
"""The arms whose answers stand side by side."""
_CONFIG = "config.yaml"
Model = VisionLanguageModel | RemoteModel


@dataclass(frozen=True)
class Target:
    """What is served.

    Attributes:
        title: how visitors know it; holds no path.
        models: name -> folder, hub name or endpoint.
        chat: the name of the one that chats and predicts.
        manner: how that one was taught to speak of behavior.
    """

    title: str
    models: Mapping[str, str | RemoteConfig]
    chat: str
    manner: Manner

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of the models that can be asked side by side; empty where there is only one."""
        found = tuple(name for name in COMPARED if name in self.models)
        return found if len(found) > 1 else ()

    def size_mb(self, name: str) -> int | None:
        """Megabytes of a model's weights on disk; None where they do not lie in a folder."""
        place = self.models[name]
        if isinstance(place, RemoteConfig) or not Path(place).is_dir():
            return None
        return round(sum(file.stat().st_size for file in Path(place).glob("*.safetensors")) / 1e6)


def of(name: str, *, template: str | None = None) -> Target:
    """The target of a run's folder, a model's folder or a hub name.

    Args:
        template: words in which a model is asked that does not tell its own; None for the run's, or "short".

    Raises:
        UserError: there is no such model, or the run has none that was trained on behavior.
    """
    folder = Path(name)
    if (folder / _CONFIG).is_file():
        return _of_run(folder, template)
    auto.check(name)
    own = manner.read(folder) if folder.is_dir() else None
    # a run's models are all called "model"
    place = folder.resolve() if folder.is_dir() else folder
    title = place.parent.name if place.name == "model" else place.name
    return Target(title, {"model": name}, "model", own or manner.usual(template or "short"))


def of_endpoint(config: RemoteConfig, *, template: str | None = None, taught: Path | None = None) -> Target:
    """The target of a served model.

    Args:
        taught: folder of the same model, which tells how it was taught to speak; None where there is none.

    Raises:
        UserError: the folder does not tell it.
    """
    own = None
    if taught is not None:
        own = manner.read(taught)
        if own is None:
            raise UserError(
                f"holds no {manner.FILE}, which tells how a model was taught to speak of behavior",
                where=taught,
                remedy="give the model's folder as training left it, or leave it out",
            )
    return Target(config.model, {"model": config}, "model", own or manner.usual(template or "short"))


def _of_run(folder: Path, template: str | None) -> Target:
    config = _config(folder)
    seed, base = config["seeds"][0], config["model"]
    trained = folder / "train" / f"seed{seed}"
    places = {arm: trained / arm / "model" for arm in COMPARED[1:]}
    if base in BUILT:
        places["base"] = folder / "base" / f"seed{seed}" / "model"
    found: dict[str, str | RemoteConfig] = {
        arm: str(place) for arm, place in places.items() if any(place.glob("*.safetensors"))
    }
    if base not in BUILT:
        found["base"] = base
    if "behavior" not in found:
        others = sorted(place.parent.name for place in trained.glob("*/model") if place.is_dir())
        raise UserError(
            f"has no trained behavior arm (trained are: {', '.join(others) or 'none'})",
            where=folder,
            remedy="train it (`behavior-llava train CONFIG`), or give the folder of another model",
        )
    for arm in COMPARED:
        if arm not in found:
            log.warning("%s has no %s to compare with", folder, arm)
    for place in found.values():
        auto.check(str(place))
    own = manner.read(places["behavior"])
    if own is None:
        log.warning("the behavior arm does not tell how it was taught to speak; asked in the usual words")
        own = manner.usual(template or config["build"]["template"])
    return Target(config["name"], found, "behavior", own)


def _config(folder: Path) -> dict[str, Any]:
    """What is needed here of the config a run was made with."""
    place = folder / _CONFIG
    try:
        read = yaml.safe_load(place.read_text(encoding="utf-8"))
        found = {
            "name": str(read["name"]),
            "model": str(read.get("model", "tiny")),
            "seeds": [int(seed) for seed in read.get("seeds", (0,))],
            "build": {"template": str((read.get("build") or {}).get("template", "short"))},
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise UserError(
            f"is not the config of a run ({type(error).__name__})",
            where=place,
            remedy="give a folder that `behavior-llava run` made, or a model's folder",
        ) from None
    if not found["seeds"]:
        raise UserError("names no seed", where=place, remedy="give a folder that `behavior-llava run` made")
    return found


class Models:
    """The models of a target, each loaded when it is first asked and then kept.

    Args:
        device: auto, cpu or cuda.
    """

    def __init__(self, target: Target, *, device: str = "auto") -> None:
        self.target, self._device = target, device
        self._loaded: dict[str, VisionLanguageModel] = {}
        self._lock = threading.Lock()

    def get(self, name: str, store: FrameStore) -> Model:
        """A model that looks at the media of one visitor.

        Raises:
            UserError: it cannot be loaded.
        """
        place = self.target.models[name]
        if isinstance(place, RemoteConfig):
            return RemoteModel(place, store)
        with self._lock:
            if name not in self._loaded:
                size = self.target.size_mb(name)
                log.info("loading %s%s", name, "" if size is None else f" ({size:,} MB of weights)")
                self._loaded[name] = auto.load(place, store, device=self._device)
            return replace(self._loaded[name], store=store)

    def to_load_mb(self, names: tuple[str, ...]) -> int:
        """Megabytes of weights that asking these would load."""
        return sum(self.target.size_mb(name) or 0 for name in names if name not in self._loaded)
