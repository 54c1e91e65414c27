"""A small sandbox world, fetched once for all tests that read it, and a way to read a source in one go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from behavior_llava.core.schema import Comment, Fault, Post, Said, Source
from behavior_llava.data import reading
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


@pytest.fixture(scope="session")
def read_source() -> Callable[..., tuple[list[Post], list[Fault]]]:
    """Reads a source in this process: (source, settings, folder) -> its posts with their comments, and its
    faults. Of two posts with one id the first stays, of two comments the later.
    """

    def read(source: Source, settings: Any, folder: Path) -> tuple[list[Post], list[Fault]]:
        posts: dict[str, Post] = {}
        said: dict[str, dict[str, Comment]] = {}
        faults = []
        for item in reading.all_items(source, settings, folder):
            if isinstance(item, Fault):
                faults.append(item)
            elif isinstance(item, Said):
                said.setdefault(item.post_id, {})[item.comment.id] = item.comment
            else:
                posts.setdefault(item.id, item)
        joined = [
            replace(post, comments=(*post.comments, *said.get(post.id, {}).values()))
            for post in posts.values()
        ]
        return joined, faults

    return read
