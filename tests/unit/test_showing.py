"""Rows as `behavior-llava show` prints them: found where they lie, supervised words in color, harmless."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from behavior_llava import showing
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import write_json
from behavior_llava.core.schema import Example, Media
from behavior_llava.data import blift

COMPLETION = "Scene 1: a dog.\n>>> BEHAVIOR <<<\n23% of viewers like it."
ROWS = [
    Example("reddit:a", "Describe it.", COMPLETION, Media("/x/a.jpg", "image", "0" * 64), ("likes",)),
    Example("reddit:b", "\x1b[2JHello\x07", "plain", Media("/x/b.mp4", "video", "1" * 64, (0.5, 1.5))),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for arm in ("behavior", "content_only"):
        for seed in (0, 1):
            folder = tmp_path / f"build/arms/seed{seed}/{arm}"
            folder.mkdir(parents=True)
            write_json(folder / "plan.json", {"config": {"template": {"separator": ">>> BEHAVIOR <<<"}}})
            rows = [Example(f"{row.id}-{arm}-{seed}", row.prompt, row.completion, row.media) for row in ROWS]
            blift.save(folder / "examples.parquet", iter(rows))
    (tmp_path / "config.yaml").write_text("name: made\n", encoding="utf-8")
    return tmp_path


def printed(path: Path, *, arm: str | None = None, ids: tuple[str, ...] = (), limit: int = 9) -> str:
    console = Console(width=200, force_terminal=True, color_system="standard", record=True)
    with console.capture() as captured:
        for panel in showing.panels(path, arm=arm, ids=ids, limit=limit, model=None):
            console.print(panel)
    return captured.get()


def test_a_run_shows_the_behavior_arm_of_its_first_seed(run: Path) -> None:
    text = printed(run)
    assert "reddit:a-behavior-0" in text
    assert "reddit:b-behavior-0" in text
    assert "content_only" not in text
    assert "reddit:a-content_only-0" in printed(run, arm="content_only")


def test_description_and_behavior_have_colors_of_their_own(run: Path) -> None:
    text = printed(run, ids=("reddit:a-behavior-0",))
    assert "\x1b[36mScene 1: a dog." in text  # cyan
    assert "\x1b[32m23% of viewers like it." in text  # green
    assert "\x1b[36mDescribe it." not in text


def test_media_are_named_by_their_file_alone(run: Path) -> None:
    text = printed(run)
    assert "<image: a.jpg>" in text
    assert "<video, 2 frames: b.mp4>" in text
    assert "/x/" not in text


def test_a_text_cannot_command_the_terminal(run: Path) -> None:
    text = printed(run)
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert "Hello" in text


def test_rows_are_found_in_a_folder_and_in_a_file(run: Path) -> None:
    folder = run / "build/arms/seed1/behavior"
    for path in (folder, folder / "examples.parquet"):
        assert "reddit:a-behavior-1" in printed(path)


def test_a_limit_and_ids_choose(run: Path) -> None:
    assert "reddit:b" not in printed(run, limit=1)
    only = printed(run, ids=("reddit:b-behavior-0",))
    assert "reddit:a" not in only
    assert "reddit:b" in only


def test_what_cannot_be_shown_is_said(run: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(UserError, match="no rows of the arm 'shuffled'"):
        printed(run, arm="shuffled")
    with pytest.raises(UserError, match="holds no row of nobody"):
        printed(run, ids=("nobody",))
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(UserError, match="holds no rows"):
        printed(empty)
    broken = empty / "x.parquet"
    broken.write_bytes(b"nothing")
    with pytest.raises(UserError, match="no Parquet file"):
        printed(broken)
