"""Features of a frozen tower that are read from disk: the losses are the same, and nothing stale is read."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from tests import architectures

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import auto, features
from behavior_llava.models.features import FrozenFeatures
from behavior_llava.training import batching, trainer
from behavior_llava.training.batching import PICTURES, Collator
from behavior_llava.training.lora import LoraConfig
from behavior_llava.training.trainer import TrainConfig, freeze, loss_curve, train

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel


def rows_of(media: dict[str, Media]) -> list[Example]:
    items = [media["clip"], media["a"], None, media["clip"]]
    words = ["joy", "anger", "a good day", "sadness"]
    return [Example(f"row{n}", "what do viewers feel", words[n], items[n]) for n in range(4)]


def loaded(folder: Path, store: Path) -> VisionLanguageModel:
    model = auto.load(str(folder), FrameStore(store), device="cpu")
    freeze(model.network, ["vision_tower"])
    model.network.train()
    return model


def batch_of(model: VisionLanguageModel, rows: list[Example], *, share: bool = True) -> tuple[Any, list[Any]]:
    """A batch and the names of its pictures."""
    batch = Collator(model, share=share, names_pictures=True)(rows)
    return batch, batch[PICTURES]


def loss(network: Any, batch: dict[str, Any]) -> torch.Tensor:
    """The loss as a step would see it; LLaMA-VID's Q-Former drops values at random, the tower does not."""
    torch.manual_seed(0)
    return batching.loss(network, batch)


def gradients(model: VisionLanguageModel, value: torch.Tensor) -> dict[str, torch.Tensor]:
    model.network.zero_grad()
    value.backward()
    return {
        name: weight.grad.clone()
        for name, weight in model.network.named_parameters()
        if weight.grad is not None
    }


@pytest.fixture(params=["llava", "llama_vid"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> VisionLanguageModel:
    architectures.build(request.param, tmp_path / "model")
    return loaded(tmp_path / "model", tmp_path / "frames")


@pytest.mark.parametrize("share", [True, False])
def test_losses_and_gradients_are_the_same_with_kept_features(
    model: VisionLanguageModel, media: dict[str, Media], share: bool
) -> None:
    batch, names = batch_of(model, rows_of(media), share=share)
    plain = loss(model.network, batch)
    learned = gradients(model, plain)
    kept = FrozenFeatures(model.network, model.store)
    for turn in range(3):
        with kept.shown(names):
            found = loss(model.network, batch)
        assert torch.allclose(found, plain, atol=1e-6, rtol=0), turn
        again = gradients(model, found)
        assert again.keys() == learned.keys()
        assert all(torch.allclose(again[name], learned[name], atol=1e-5) for name in again)
    frames = len([name for name in names if name is not None])
    assert frames == len(names) - 1
    assert kept.num_read == 2 * frames
    assert kept.num_computed == len(names) + 2
    assert torch.equal(loss(model.network, batch), plain)  # the tower is itself again


def test_what_is_read_is_bit_for_bit_what_was_computed(
    model: VisionLanguageModel, media: dict[str, Media]
) -> None:
    row = [Example("r", "what do viewers feel", "joy", media["clip"])]
    batch, names = batch_of(model, row)
    plain = loss(model.network, batch)
    for _ in range(2):
        with FrozenFeatures(model.network, model.store).shown(names):
            assert torch.equal(loss(model.network, batch), plain)


def test_stored_values_are_used_and_lie_with_the_videos_frames(
    model: VisionLanguageModel, media: dict[str, Media]
) -> None:
    batch, names = batch_of(model, rows_of(media))
    kept = FrozenFeatures(model.network, model.store)
    with kept.shown(names):
        plain = loss(model.network, batch)
    files = list(model.store.folder.rglob("*.safetensors"))
    sha256 = media["clip"].sha256
    assert len(files) == 2
    assert {file.parent for file in files} == {model.store.folder / sha256[:2] / sha256}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            value = opened.get_tensor("features") + 1
        name = file.name.removesuffix(f".{kept._made}.safetensors")
        kept._write(next(one for one in names if one and one.endswith(name)), value)
    with kept.shown(names):
        assert not torch.allclose(loss(model.network, batch), plain, atol=1e-6)


def test_half_a_file_or_anothers_is_never_read(model: VisionLanguageModel, media: dict[str, Media]) -> None:
    batch, names = batch_of(model, rows_of(media))
    kept = FrozenFeatures(model.network, model.store)
    with kept.shown(names):
        plain = loss(model.network, batch)
    first, second = sorted(model.store.folder.rglob("*.safetensors"))
    whole = first.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    bare = features.save({"features": torch.zeros(5, 32)})
    wrong = [whole[:0], whole[:7], whole[:-1], flipped, second.read_bytes(), bare, b"\xff" * 200]
    for content in wrong:
        first.write_bytes(content)
        before = kept.num_read
        with kept.shown(names):
            assert torch.allclose(loss(model.network, batch), plain, atol=1e-6)
        assert kept.num_read == before + names.count(names[1])
        assert first.read_bytes() == whole  # it is made anew


def test_another_tower_other_times_and_other_pixels_never_meet_them(
    model: VisionLanguageModel, media: dict[str, Media]
) -> None:
    clip = media["clip"]
    batch, names = batch_of(model, rows_of(media))
    with FrozenFeatures(model.network, model.store).shown(names):
        loss(model.network, batch)
    later = Media(clip.path, "video", clip.sha256, (0.625, 1.625))
    other, other_names = batch_of(model, [Example("r", "what do viewers feel", "joy", later)])
    kept = FrozenFeatures(model.network, model.store)
    with kept.shown(other_names):
        loss(model.network, other)
    brighter = {**batch, "pixel_values": batch["pixel_values"] + 0.01}
    shown = [clip, media["a"]] if len(names) == 3 else [clip, media["a"], clip]
    with kept.shown(features.names(model.store, shown, brighter["pixel_values"])):
        loss(model.network, brighter)
    assert kept.num_read == 0
    with torch.no_grad():
        next(reversed(list(model.network.model.vision_tower.parameters()))).view(-1)[0] += 1e-3
    kept = FrozenFeatures(model.network, model.store)
    plain = loss(model.network, batch)
    with kept.shown(names):
        assert torch.allclose(loss(model.network, batch), plain, atol=1e-6)
    assert kept.num_read == 0


def test_only_a_tower_at_rest_is_kept(model: VisionLanguageModel) -> None:
    freeze(model.network, ["vision_tower.*weight"])
    with pytest.raises(UserError, match="parameters of the vision tower learn"):
        FrozenFeatures(model.network, model.store)
    freeze(model.network, ["vision_tower"])
    model.network.model.vision_tower.config.attention_dropout = 0.1
    with pytest.raises(UserError, match="drops values at random"):
        FrozenFeatures(model.network, model.store)


@pytest.mark.parametrize(
    ("frozen", "told"),
    [((), "parameters of the vision tower learn"), (("vision_tower",), "the vision tower has adapters")],
)
def test_a_tower_with_adapters_is_refused(
    model: VisionLanguageModel, tmp_path: Path, frozen: tuple[str, ...], told: str
) -> None:
    settings = LoraConfig(rank=2, targets=r".*(q_proj|qkv)", whole=())
    config = TrainConfig(epochs=1, lora=settings, freeze=frozen, cache_features=True)
    row = Example("r", "what do viewers feel", "joy")
    with pytest.raises(UserError, match=told):
        train(model, [row], config, tmp_path / "stage", seed=0, label="test")


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_loses_the_same_and_others_read_what_it_kept(
    media: dict[str, Media], tmp_path: Path, num_workers: int
) -> None:
    architectures.build("llava", tmp_path / "model")
    rows = rows_of(media) * 3
    found = {}
    for name, is_cached in (("plain", False), ("first arm", True), ("second arm", True)):
        model = auto.load(str(tmp_path / "model"), FrameStore(tmp_path / "frames"), device="cpu")
        arguments = {
            "learning_rate": 0.01,
            "per_device_train_batch_size": 2,
            "logging_steps": 1,
            "dataloader_num_workers": num_workers,
        }
        config = TrainConfig(
            epochs=1, freeze=("vision_tower",), cache_features=is_cached, arguments=arguments
        )
        folder = tmp_path / name
        found[name] = train(model, rows, config, folder, seed=0, label=name), loss_curve(folder)
    losses = torch.tensor([[value for _, value in curve] for _, curve in found.values()])
    assert losses.shape == (3, 6)
    assert torch.allclose(losses[1:], losses[:1], atol=1e-6, rtol=0)
    assert "features_read" not in found["plain"][0]
    # of 6 batches 3 show the clip and a picture, 3 the clip alone
    assert [found["first arm"][0][f"features_{how}"] for how in ("computed", "read")] == [2 + 3, 2 * 5]
    assert [found["second arm"][0][f"features_{how}"] for how in ("computed", "read")] == [3, 2 * 6]


def test_split_weights_are_refused(tiny: VisionLanguageModel) -> None:
    told = SimpleNamespace(is_fsdp_enabled=True)
    with pytest.raises(UserError, match="split between processes"):
        trainer._frozen_features(tiny, told)  # pyright: ignore[reportArgumentType]


def test_other_architectures_are_refused_with_the_reason(tmp_path: Path) -> None:
    architectures.build("qwen2_5_vl", tmp_path / "model")
    model = auto.load(str(tmp_path / "model"), FrameStore(tmp_path / "frames"), device="cpu")
    with pytest.raises(UserError, match="qwen2_5_vl is not shown one square a picture"):
        FrozenFeatures(model.network, model.store)


def test_pictures_that_do_not_match_their_names_are_refused(
    model: VisionLanguageModel, media: dict[str, Media]
) -> None:
    batch, names = batch_of(model, rows_of(media))
    kept = FrozenFeatures(model.network, model.store)
    for wrong in (names[:-1], [*names, None]):
        with pytest.raises(ValueError, match="the tower"), kept.shown(wrong):
            loss(model.network, batch)
    with pytest.raises(UserError, match="2 pictures became pixel_values"):
        features.names(model.store, [media["clip"]], batch["pixel_values"][:1])
    shutil.rmtree(model.store.folder)
    with kept.shown(names):
        loss(model.network, batch)
    assert kept.num_read == 0
