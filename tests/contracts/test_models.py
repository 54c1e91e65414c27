"""What every model must hold, shown on the tiny one: the same answers however it is loaded and batched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore, MediaFault
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import auto

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel

IGNORED = -100


@pytest.fixture(scope="module")
def rows(media: dict[str, Media]) -> list[Example]:
    """Two pictures, a video, and text alone; prompts and answers of different lengths."""
    return [
        Example("1", "what do viewers feel", "joy", media["a"]),
        Example(
            "2", "it was a good day: describe the red sky", "a happy blue sky\nit was good", media["clip"]
        ),
        Example("3", "describe", "sadness", None),
        Example("4", "what do viewers feel", " anger", media["b"]),
    ]


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def logits(model: VisionLanguageModel, rows: Sequence[Example]) -> list[torch.Tensor]:
    """Logits of each row's tokens, without padding."""
    batch = model.inputs(rows, supervise=True)
    batch.pop("labels")
    with torch.inference_mode():
        out = model.network(**batch).logits
    return [row[: int(mask.sum())] for row, mask in zip(out, batch["attention_mask"], strict=True)]


# ---- loading -----------------------------------------------------------------------------------------------


def test_saved_and_loaded_again_it_is_the_same(
    tiny: VisionLanguageModel, tmp_path: Path, rows: list[Example]
) -> None:
    tiny.save(tmp_path / "again")
    again = auto.load(str(tmp_path / "again"), tiny.store, device="cpu")
    for first, second in zip(logits(tiny, rows), logits(again, rows), strict=True):
        assert torch.equal(first, second)
    assert auto.weights_hash(tmp_path / "again") == auto.weights_hash(Path(tiny.network.name_or_path))


def test_the_hash_sees_one_changed_weight(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copied(tiny_folder, tmp_path / "x")
    before = auto.weights_hash(folder)
    change(folder, lambda weights: weights[max(weights)].view(-1)[0].add_(1e-6))
    assert auto.weights_hash(folder) != before
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no safetensors"):
        auto.weights_hash(folder)


def change(folder: Path, how: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    how(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_that_do_not_fit_are_named(tiny_folder: Path, tmp_path: Path) -> None:
    name = next(key for key in load_file(tiny_folder / "model.safetensors") if "linear_1.weight" in key)

    def refusal(how: Callable[[dict[str, torch.Tensor]], Any]) -> str:
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        change(copied(tiny_folder, tmp_path / "x"), how)
        with pytest.raises(UserError, match="weights do not fit the architecture") as caught:
            auto.load(str(tmp_path / "x"), FrameStore(tmp_path), device="cpu")
        return str(caught.value)

    told = refusal(lambda weights: weights.pop(name))
    assert "missing_keys: " in told
    assert "linear_1.weight" in told
    told = refusal(lambda weights: weights.update({"renamed.layer": weights.pop(name)}))
    assert "missing_keys: " in told
    assert "unexpected_keys: renamed.layer" in told
    told = refusal(lambda weights: weights.update({"one.more": torch.zeros(2)}))
    assert "unexpected_keys: one.more" in told


def test_folders_that_hold_no_model(tiny_folder: Path, tmp_path: Path) -> None:
    def refused(folder: Path) -> str:
        with pytest.raises(UserError, match="cannot be loaded as an image-text-to-text model") as caught:
            auto.load(str(folder), FrameStore(tmp_path), device="cpu")
        return str(caught.value)

    (tmp_path / "empty").mkdir()
    assert "empty" in refused(tmp_path / "empty")
    refused(tmp_path / "none")
    no_weights = copied(tiny_folder, tmp_path / "a")
    (no_weights / "model.safetensors").unlink()
    refused(no_weights)
    cut_off = copied(tiny_folder, tmp_path / "b")
    whole = (cut_off / "model.safetensors").read_bytes()
    (cut_off / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(cut_off)
    text_only = copied(tiny_folder, tmp_path / "c")
    config = json.loads((text_only / "config.json").read_text())["text_config"]
    (text_only / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    refused(text_only)


def test_a_gpu_is_never_replaced_by_the_cpu(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:1"):
        with pytest.raises(UserError, match="sees no GPU"):
            auto.load(str(tiny_folder), FrameStore(tiny_folder), device=name)
    with pytest.raises(UserError, match="no device called 'gpu'"):
        auto.pick_device("gpu")
    assert auto.pick_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert auto.pick_device("auto") == torch.device("cuda")


# ---- batches -----------------------------------------------------------------------------------------------


def test_a_batch_of_one_gives_what_a_batch_of_many_gives(
    tiny: VisionLanguageModel, rows: list[Example]
) -> None:
    together = logits(tiny, rows)
    for row, expected in zip(rows, together, strict=True):
        torch.testing.assert_close(logits(tiny, [row])[0], expected, atol=1e-4, rtol=1e-4)
    for expected, found in zip(together, reversed(logits(tiny, rows[::-1])), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_rows_of_text_alone_change_nothing_for_the_others(
    tiny: VisionLanguageModel, rows: list[Example]
) -> None:
    text = replace(rows[2], prompt="it was a good day " * 5)
    alone = logits(tiny, [rows[0], rows[3]])
    mixed = logits(tiny, [text, rows[0], text, rows[3]])
    for expected, found in zip(alone, (mixed[1], mixed[3]), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_generation_does_not_depend_on_the_batch(tiny: VisionLanguageModel, rows: list[Example]) -> None:
    together = tiny.generate(rows, max_new_tokens=12)
    assert [tiny.generate([row], max_new_tokens=12)[0] for row in rows] == together
    assert tiny.generate(rows[::-1], max_new_tokens=12) == together[::-1]
    assert len(set(together)) == len(rows)
    for text, row in zip(together, rows, strict=True):
        assert row.prompt not in text
        assert "</s>" not in text
        assert "<image>" not in text


def test_generation_shows_only_what_the_model_wrote(tiny: VisionLanguageModel, rows: list[Example]) -> None:
    batch = tiny.inputs(rows[:1], supervise=False)
    ids = batch["input_ids"]
    with torch.inference_mode():
        for _ in range(4):
            out = tiny.network(**{**batch, "input_ids": ids, "attention_mask": torch.ones_like(ids)})
            ids = torch.cat([ids, out.logits[:, -1:].argmax(-1)], 1)
    expected = tiny.tokenizer.decode(ids[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    assert tiny.generate(rows[:1], max_new_tokens=4) == [expected.strip()]


def test_sampling_follows_its_seed(tiny: VisionLanguageModel, rows: list[Example]) -> None:
    def sampled(seed: int) -> list[str]:
        return tiny.generate(rows, max_new_tokens=8, seed=seed, temperature=1.0)

    assert sampled(0) == sampled(0)
    assert sampled(0) != sampled(1)


def test_the_picture_and_its_place_change_the_output(
    tiny: VisionLanguageModel, media: dict[str, Media], rows: list[Example]
) -> None:
    last = [
        logits(tiny, [replace(rows[0], media=item)])[0][-1]
        for item in (*(media[name] for name in "abcd"), None)
    ]
    for number, one in enumerate(last):
        for other in last[:number]:
            assert (one - other).abs().max() > 0.05
    clip = media["clip"]
    backwards = replace(rows[1], media=replace(clip, times_s=clip.times_s[::-1]))
    assert (logits(tiny, [rows[1]])[0][-1] - logits(tiny, [backwards])[0][-1]).abs().max() > 0.05


def test_a_picture_that_is_gone_is_a_fault_not_a_blank(
    tiny: VisionLanguageModel, rows: list[Example], tmp_path: Path
) -> None:
    gone = replace(rows[0], media=Media(str(tmp_path / "gone.png"), "image", "ab" * 32))
    with pytest.raises(MediaFault, match="media_missing"):
        tiny.generate([rows[0], gone], max_new_tokens=2)


# ---- words and labels --------------------------------------------------------------------------------------


def test_the_text_is_that_of_the_processors_own_template(
    tiny: VisionLanguageModel, rows: list[Example]
) -> None:
    for row in rows:
        pictures = tiny.num_images(row)
        user = {
            "role": "user",
            "content": [{"type": "image"}] * pictures + [{"type": "text", "text": row.prompt}],
        }
        answer = {"role": "assistant", "content": [{"type": "text", "text": row.completion}]}
        template = tiny.processor.apply_chat_template
        assert tiny.prefix(row.prompt, pictures) == template([user], add_generation_prompt=True)
        assert row.completion is not None
        whole = template([user, answer])
        assert tiny.prefix(row.prompt, pictures) + tiny.answer_text(row.completion) == whole
        ids = tiny.processor(
            text=whole, images=tiny.store.frames(row.media) if row.media else None, return_tensors="pt"
        ).input_ids
        assert torch.equal(tiny.inputs([row], supervise=True)["input_ids"], ids)
        assert int((ids == tiny.image_token_id).sum()) == 4 * pictures


def test_labels_are_the_answer_and_the_end_of_the_turn(
    tiny: VisionLanguageModel, rows: list[Example]
) -> None:
    batch = tiny.inputs(rows, supervise=True)
    for ids, labels, mask, row in zip(
        batch["input_ids"], batch["labels"], batch["attention_mask"], rows, strict=True
    ):
        supervised = labels != IGNORED
        assert torch.equal(ids[supervised], labels[supervised])
        assert tiny.tokenizer.decode(labels[supervised]) == f" {row.completion}</s>"
        assert not supervised[mask == 0].any()
        places = supervised.nonzero()[:, 0]
        assert int(places[-1] - places[0]) + 1 == len(places)
        assert int(places[-1]) + 1 == int(mask.sum())
        assert (labels[ids == tiny.image_token_id] == IGNORED).all()


def test_an_answers_tokens_begin_where_the_generation_begins(
    tiny: VisionLanguageModel, rows: list[Example]
) -> None:
    for row in rows:
        assert row.completion is not None
        before = tiny.inputs([replace(row, completion=None)], supervise=False)["input_ids"][0].tolist()
        whole = tiny.inputs([row], supervise=True)["input_ids"][0].tolist()
        assert whole == before + tiny.completion_ids(row.completion, end=True)
        assert tiny.completion_ids(row.completion, end=True)[-1] == tiny.tokenizer.eos_token_id
        begun = tiny.completion_ids(row.completion, end=False)
        assert tiny.tokenizer.decode(begun) == f" {row.completion}"


def test_a_template_that_writes_the_answer_elsewhere_is_refused(
    tiny: VisionLanguageModel, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tiny.processor.chat_template.replace(
        "ASSISTANT:{% endif %}", "ASSISTANT: (thinking){% endif %}"
    )
    monkeypatch.setattr(tiny.processor, "chat_template", template)
    fresh = auto.VisionLanguageModel(tiny.network, tiny.processor, tiny.store)
    with pytest.raises(UserError, match="writes an answer elsewhere"):
        fresh.inputs(rows, supervise=True)
