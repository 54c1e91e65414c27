"""A small sandbox world, fetched once for all tests that read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from behavior_llava.data.sources import sandbox


@pytest.fixture(scope="session")
def world_config() -> sandbox.Config:
    """Sizes at which every kind of file and some of every kind of dirt is written."""
    return sandbox.Config(
        images=400,
        videos=24,
        page_posts=12,
        instruction_images=24,
        instruction_videos=4,
        instruction_texts=40,
        benchmark_train=24,
        benchmark_test=24,
    )


@pytest.fixture(scope="session")
def world(world_config: sandbox.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fetched world; to be read only."""
    folder = tmp_path_factory.mktemp("world") / "0"
    folder.mkdir()
    sandbox.fetch(world_config, folder)
    return folder
