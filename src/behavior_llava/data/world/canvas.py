"""What is still to be drawn of the sandbox's world; done in worker processes at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from behavior_llava.data.world.content import Content
from behavior_llava.data.world.writers import Film


@dataclass
class Canvas:
    """Images and videos that were ordered.

    Attributes:
        seed: of the world; whatever is drawn follows from it and from a key of its own.
    """

    seed: int
    images: list[tuple[Any, ...]] = field(default_factory=list)
    videos: list[tuple[Any, ...]] = field(default_factory=list)
    near_copies: list[tuple[Any, ...]] = field(default_factory=list)
    copies: list[tuple[Any, ...]] = field(default_factory=list)

    def rng(self, *key: int) -> np.random.Generator:
        """Random numbers of a key."""
        return np.random.default_rng((self.seed, *key))

    def image(self, path: Path, content: Content, *key: int, is_corrupt: bool = False) -> None:
        """Orders an image."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.images.append((str(path), content, (self.seed, *key), is_corrupt))

    def video(self, path: Path, film: Film, *key: int, is_corrupt: bool = False) -> None:
        """Orders a video."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.videos.append((str(path), film, (self.seed, *key), is_corrupt))

    def copy(self, original: Path, path: Path) -> None:
        """Orders a copy of what was ordered."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.copies.append((str(original), str(path)))
