"""The tower's lessons: which words count, that it learns them from pixels, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media
from behavior_llava.models.auto import VisionLanguageModel, load
from behavior_llava.training import tower
from behavior_llava.training.trainer import TrainConfig

COLORS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220)}


def pictures(folder: Path, count: int = 60) -> list[Example]:
    """Plain colored pictures, each described and asked about; one video and one text among them."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        name = list(COLORS)[number % 3]
        path = folder / f"{number}.png"
        pixels = np.clip(np.array(COLORS[name]) + rng.normal(0, 12, (40, 40, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        media = Media(str(path), "image", "")
        rows.append(Example(f"i{number}", "describe", f"Scene 1: a {name} one.", media))
        rows.append(Example(f"q{number}", "which", "paint" if number < 2 else "", media))
    rows.append(Example("v", "describe", "a purple one", Media("clip.mp4", "video", "", (0.5,))))
    rows.append(Example("t", "say", "a yellow one"))
    return rows


@pytest.fixture
def model(tiny_folder: Path, tmp_path: Path) -> VisionLanguageModel:
    return load(str(tiny_folder), FrameStore(tmp_path / "frames"), device="cpu")


def test_words_of_few_pictures_or_of_most_are_left_out(tmp_path: Path) -> None:
    found, vocabulary = tower.bags(pictures(tmp_path / "media"))
    # "scene" and "one" are said of all, "paint" of two, "purple" of a video, "a" is one letter
    assert vocabulary == ("blue", "green", "red")
    assert len(found) == 60
    assert [words for _, words in found[:4]] == [(2,), (1,), (0,), (2,)]
    assert tower.bags([]) == ([], ())


@pytest.mark.slow
def test_it_learns_to_tell_pictures_apart_and_changes_the_tower_alone(
    model: VisionLanguageModel, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    config = TrainConfig(
        epochs=10, arguments={"learning_rate": 3e-3, "per_device_train_batch_size": 12, "logging_steps": 5}
    )
    told = tower.pretrain(model, pictures(tmp_path / "media"), config, tmp_path / "work", seed=0)
    assert (told["tower_pictures"], told["tower_words"]) == (60, 3)
    # three words at one half each are 3 * ln 2 nats, at their frequency of a third 1.91
    assert told["tower_loss"] < 1.0
    changed = {
        name for name, value in model.network.state_dict().items() if not torch.equal(before[name], value)
    }
    assert changed
    assert all("vision_tower" in name for name in changed)
    assert not model.network.training


def test_the_same_seed_gives_the_same_tower(tiny_folder: Path, tmp_path: Path) -> None:
    rows = pictures(tmp_path / "media")
    config = TrainConfig(epochs=1, arguments={"per_device_train_batch_size": 12, "logging_steps": 1})
    states = []
    for number, seed in enumerate((0, 0, 1)):
        one = load(str(tiny_folder), FrameStore(tmp_path / "frames"), device="cpu")
        tower.pretrain(one, rows, config, tmp_path / f"work{number}", seed=seed)
        states.append(torch.cat([value.flatten() for value in one.network.state_dict().values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_rows_without_a_common_word_teach_nothing_and_say_so(
    model: VisionLanguageModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = pictures(tmp_path / "media", count=6)
    told = tower.pretrain(model, rows, TrainConfig(epochs=1), tmp_path / "work", seed=0)
    assert "the vision tower stays random" in caplog.text
    assert told == {"tower_pictures": 6, "tower_words": 0, "tower_loss": None}


def test_settings_of_language_models_are_refused(model: VisionLanguageModel, tmp_path: Path) -> None:
    rows = pictures(tmp_path / "media")
    with pytest.raises(UserError, match="freeze, pack_tokens and cache_features mean nothing here"):
        tower.pretrain(model, rows, TrainConfig(epochs=1, pack_tokens=8), tmp_path / "work", seed=0)


def test_a_picture_that_is_gone_stops_it(model: VisionLanguageModel, tmp_path: Path) -> None:
    rows = pictures(tmp_path / "media")
    (tmp_path / "media" / "7.png").unlink()
    with pytest.raises(UserError, match=r"media_missing.*7\.png"):
        tower.pretrain(model, rows, TrainConfig(epochs=1), tmp_path / "work", seed=0)
