"""Every architecture with random weights, built once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.architectures import ARCHITECTURES, build

from behavior_llava.core.media import FrameStore
from behavior_llava.models import auto

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel


@pytest.fixture(scope="session")
def folders(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder an architecture."""
    place = tmp_path_factory.mktemp("architectures")
    for name in ARCHITECTURES:
        build(name, place / name)
    return {"tiny": tiny_folder, **{name: place / name for name in ARCHITECTURES}}


@pytest.fixture(scope="session")
def loaded(
    folders: dict[str, Path], tiny: VisionLanguageModel, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, VisionLanguageModel]:
    """All of them, to be read only."""
    store = FrameStore(tmp_path_factory.mktemp("frames"))
    others = {name: auto.load(str(folders[name]), store, device="cpu") for name in ARCHITECTURES}
    return {"tiny": tiny, **others}


@pytest.fixture(params=["tiny", *ARCHITECTURES])
def model(request: pytest.FixtureRequest, loaded: dict[str, VisionLanguageModel]) -> VisionLanguageModel:
    return loaded[request.param]
