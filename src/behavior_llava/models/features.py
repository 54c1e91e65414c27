"""What a frozen vision tower makes of a video's frames, kept on disk: computed once, read in later epochs.

The collator names the pictures of a batch (`names`); `FrozenFeatures.shown` is put around the forward pass
that is given these pictures. A file lies beside the frame it was made of, so that a forgotten video takes it
along, and is named by the very pixels the tower is shown and by everything the tower is: other times, another
processor or one changed weight never meet it. Pictures pass the tower as always. Called by
training/batching.py and training/trainer.py.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore, write_whole
from behavior_llava.core.schema import Media

_TYPES = ("llava", "llama_vid")
"""Architectures whose tower is shown one square a picture, in the order of `pixel_values`."""


def names(store: FrameStore, media: Sequence[Media], pixel_values: torch.Tensor) -> list[str | None]:
    """A name for each entry of `pixel_values`; None for a picture, whose features are not kept.

    Needs no network: in a process that makes batches ahead, hashing costs the training step nothing.

    Args:
        media: what the entries show, in their order; a video's frames are its `times_s`.
        pixel_values: [F, 3, H, W], on the CPU.

    Raises:
        UserError: the entries are not one a picture.
    """
    places: list[str | None] = []
    for item in media:
        if item.kind == "image":
            places.append(None)
            continue
        files = [store.file(item.sha256, time_s) for time_s in item.times_s]
        places += [file.with_suffix("").relative_to(store.folder).as_posix() for file in files]
    if pixel_values.ndim != 4 or len(pixel_values) != len(places):
        raise UserError(
            f"features cannot be kept: {len(places)} pictures became pixel_values {list(pixel_values.shape)}",
            where="cache_features",
            remedy="set cache_features to false",
        )
    return [
        place and f"{place}.{_digest(pixels)}" for place, pixels in zip(places, pixel_values, strict=True)
    ]


def _digest(value: torch.Tensor) -> str:
    content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(f"{value.dtype} {list(value.shape)}".encode() + content.tobytes()).hexdigest()[:20]


class FrozenFeatures:
    """The kept features of one frozen tower. Nothing is held in memory beyond the batch at hand, which cannot
    hold more than the tower itself would have made.

    Of LLaVA-1.5 a frame takes 577 x 1024 numbers, 1.2 MB in bf16; they are written as the tower gives them.

    Args:
        network: after freezing, and with its adapters.
        store: of the frames; the features lie beside them.

    Raises:
        UserError: the tower learns, has adapters, draws at random, or its architecture shows it pictures in
            another way.
    """

    def __init__(self, network: Any, store: FrameStore) -> None:
        kind = network.config.model_type
        if kind not in _TYPES:
            raise _refusal(f"the vision tower of {kind} is not shown one square a picture")
        self._layer: int | None = None
        if kind == "llava":
            self._layer = network.config.vision_feature_layer
            if not isinstance(self._layer, int):
                raise _refusal("several layers of the vision tower are read")
        self._tower: torch.nn.Module = network.model.vision_tower
        learned = [name for name, weight in self._tower.named_parameters() if weight.requires_grad]
        if learned:
            raise _refusal(
                f"{len(learned)} parameters of the vision tower learn, {learned[0]} for one",
                "freeze vision_tower, or set cache_features to false",
            )
        if any("lora_" in name for name, _ in self._tower.named_parameters()):
            raise _refusal(
                "the vision tower has adapters",
                "leave it out of lora.targets, or set cache_features to false",
            )
        if _draws(self._tower):
            raise _refusal("the vision tower drops values at random")
        self._store = store
        self._mark = _mark(self._tower, self._layer)
        self.num_read = self.num_computed = 0

    @contextmanager
    def shown(self, names: Sequence[str | None]) -> Iterator[None]:
        """Within the block the tower is shown the pictures of these names, once, in their order.

        Raises:
            ValueError: it was shown more or fewer.
        """
        waiting = list(names)
        compute = self._tower.forward

        def forward(pixel_values: torch.Tensor, **settings: Any) -> Any:
            if len(pixel_values) > len(waiting):
                raise ValueError(f"the tower is shown {len(pixel_values)} pictures of {len(waiting)} named")
            named, waiting[:] = waiting[: len(pixel_values)], waiting[len(pixel_values) :]

            def computed(pixels: torch.Tensor) -> torch.Tensor:
                with torch.no_grad():
                    found = compute(pixels, **settings)
                return found.last_hidden_state if self._layer is None else found.hidden_states[self._layer]

            features = self._features(pixel_values, named, computed)
            if self._layer is None:
                return SimpleNamespace(last_hidden_state=features)
            # whoever reads another layer meets a KeyError
            return SimpleNamespace(hidden_states={self._layer: features})

        self._tower.forward = forward
        try:
            yield
        finally:
            del self._tower.forward
        if waiting:
            raise ValueError(f"the tower was not shown {len(waiting)} of the pictures named")

    def _features(
        self, pixel_values: torch.Tensor, named: Sequence[str | None], computed: Any
    ) -> torch.Tensor:
        found = [None if name is None else self._read(name) for name in named]
        missing = [number for number, one in enumerate(found) if one is None]
        if missing:
            for number, one in zip(missing, computed(pixel_values[missing]), strict=True):
                found[number] = one
                name = named[number]
                if name is not None:
                    self._write(name, one.cpu().contiguous())
        self.num_read += len(named) - len(missing)
        self.num_computed += len(missing)
        return torch.stack([one.to(pixel_values.device) for one in found if one is not None])

    @property
    def _made(self) -> str:
        """What makes the features: the tower, and the type a GPU may be told to reckon in, beside its own."""
        device = next(self._tower.parameters()).device.type
        if not torch.is_autocast_enabled(device):
            return self._mark
        return f"{self._mark}-{torch.get_autocast_dtype(device)}"

    def _file(self, name: str) -> Path:
        return self._store.folder / f"{name}.{self._made}.safetensors"

    def _write(self, name: str, features: torch.Tensor) -> None:
        content = save({"features": features}, {"of": self._seal(name, features)})
        write_whole(self._file(name), content)

    def _read(self, name: str) -> torch.Tensor | None:
        """The features of that name; None where they are not there, or what is there is something else."""
        try:
            with safe_open(self._file(name), framework="pt") as file:
                told, features = (file.metadata() or {}).get("of"), file.get_tensor("features")
        except (OSError, SafetensorError):
            return None  # not there yet, or the disk lost its end: computed again
        return features if told == self._seal(name, features) else None

    def _seal(self, name: str, features: torch.Tensor) -> str:
        """What only the right file holds: its name, what made it, and a checksum."""
        content = features.contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"{name} {self._made} {features.dtype} {list(features.shape)} {zlib.crc32(content.data):08x}"


def _refusal(found: str, remedy: str = "set cache_features to false") -> UserError:
    return UserError(f"features cannot be kept: {found}", where="cache_features", remedy=remedy)


def _draws(tower: torch.nn.Module) -> bool:
    """Whether two passes over one picture may differ while training."""
    settings = getattr(tower, "config", None)
    rates = [module.p for module in tower.modules() if isinstance(module, torch.nn.Dropout)]
    if settings is not None:
        told = settings.to_dict().items()
        rates += [value for key, value in told if "drop" in key and isinstance(value, int | float)]
    return any(rate > 0 for rate in rates)


def _mark(tower: torch.nn.Module, layer: int | None) -> str:
    """A hash of what the features depend on beside the pixels: weights, their type, form, layer read."""
    digest = hashlib.sha256(json.dumps([type(tower).__name__, layer]).encode())
    settings = getattr(tower, "config", None)
    if settings is not None:
        digest.update(json.dumps(settings.to_dict(), sort_keys=True, default=str).encode())
    for name, value in sorted(tower.state_dict().items()):
        digest.update(f"{name} {_digest(value)}".encode())
    return digest.hexdigest()[:20]
