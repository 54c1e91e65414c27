"""What every model must hold, whatever its architecture: the same answers however it is loaded and batched.

`model` is each architecture in turn, with random weights, and the tiny LLaVA of the quickstart.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.video_utils import VideoMetadata

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore, MediaFault, sha256
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import auto
from behavior_llava.training.batching import Collator

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel

IGNORED = -100


@pytest.fixture(scope="module")
def shapes(media: dict[str, Media], tmp_path_factory: pytest.TempPathFactory) -> list[Media]:
    """Pictures of all forms, and the clip by one, two and three frames at uneven times."""
    folder = tmp_path_factory.mktemp("shapes")
    found = []
    for width, height in ((160, 40), (30, 170), (1, 1), (5, 200)):
        path = folder / f"{width}x{height}.png"
        with Image.open(media["a"].path) as picture:
            picture.resize((width, height)).save(path)
        found.append(Media(str(path), "image", sha256(path)))
    clip = media["clip"]
    return [*found, *(replace(clip, times_s=times) for times in ((0.5,), (0.25, 1.75), (0.0, 0.5, 1.75)))]


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
    model: VisionLanguageModel, tmp_path: Path, rows: list[Example]
) -> None:
    model.save(tmp_path / "again")
    again = auto.load(str(tmp_path / "again"), model.store, device="cpu")
    for first, second in zip(logits(model, rows), logits(again, rows), strict=True):
        assert torch.equal(first, second)
    assert auto.weights_hash(tmp_path / "again") == auto.weights_hash(Path(model.network.name_or_path))


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
    model: VisionLanguageModel, rows: list[Example]
) -> None:
    together = logits(model, rows)
    for row, expected in zip(rows, together, strict=True):
        torch.testing.assert_close(logits(model, [row])[0], expected, atol=1e-4, rtol=1e-4)
    for expected, found in zip(together, reversed(logits(model, rows[::-1])), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_rows_of_text_alone_change_nothing_for_the_others(
    model: VisionLanguageModel, rows: list[Example]
) -> None:
    text = replace(rows[2], prompt="it was a good day " * 5)
    alone = logits(model, [rows[0], rows[3]])
    mixed = logits(model, [text, rows[0], text, rows[3]])
    for expected, found in zip(alone, (mixed[1], mixed[3]), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_generation_does_not_depend_on_the_batch(model: VisionLanguageModel, rows: list[Example]) -> None:
    together = model.generate(rows, max_new_tokens=12)
    assert [model.generate([row], max_new_tokens=12)[0] for row in rows] == together
    assert model.generate(rows[::-1], max_new_tokens=12) == together[::-1]
    assert len(set(together)) == len(rows)
    for text, row in zip(together, rows, strict=True):
        # a random model may well say a word
        assert " " not in row.prompt or row.prompt not in text
        assert not any(token in text for token in model.tokenizer.all_special_tokens)


def test_generation_shows_only_what_the_model_wrote(model: VisionLanguageModel, rows: list[Example]) -> None:
    batch = model.inputs(rows[:1], supervise=False)
    start = batch["input_ids"].shape[1]
    ends = model.network.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    with torch.inference_mode():
        for _ in range(4):
            out = model.network(**batch)
            token = out.logits[:, -1:].argmax(-1)
            for key, value in batch.items():
                if key == "mm_token_type_ids":
                    batch[key] = torch.cat([value, torch.zeros_like(token)], 1)
            batch["input_ids"] = torch.cat([batch["input_ids"], token], 1)
            batch["attention_mask"] = torch.ones_like(batch["input_ids"])
            if int(token) in ends:
                break
    expected = model.tokenizer.decode(batch["input_ids"][0, start:], skip_special_tokens=True)
    assert model.generate(rows[:1], max_new_tokens=4) == [expected.strip()]


def test_sampling_follows_its_seed(model: VisionLanguageModel, rows: list[Example]) -> None:
    def sampled(seed: int) -> list[str]:
        return model.generate(rows, max_new_tokens=8, seed=seed, temperature=1.0)

    assert sampled(0) == sampled(0)
    assert sampled(0) != sampled(1)


def test_the_picture_and_its_place_change_the_output(
    model: VisionLanguageModel, media: dict[str, Media], rows: list[Example]
) -> None:
    last = [
        logits(model, [replace(rows[0], media=item)])[0][-1]
        for item in (*(media[name] for name in "abcd"), None)
    ]
    for number, one in enumerate(last):
        for other in last[:number]:
            assert (one - other).abs().max() > 0.05
    clip = media["clip"]
    backwards = replace(rows[1], media=replace(clip, times_s=clip.times_s[::-1]))
    assert (logits(model, [rows[1]])[0][-1] - logits(model, [backwards])[0][-1]).abs().max() > 0.05


def test_a_picture_that_is_gone_is_a_fault_not_a_blank(
    model: VisionLanguageModel, rows: list[Example], tmp_path: Path
) -> None:
    gone = replace(rows[0], media=Media(str(tmp_path / "gone.png"), "image", "ab" * 32))
    with pytest.raises(MediaFault, match="media_missing"):
        model.generate([rows[0], gone], max_new_tokens=2)


# ---- words and labels --------------------------------------------------------------------------------------


def test_the_text_is_that_of_the_processors_own_template(
    model: VisionLanguageModel, rows: list[Example]
) -> None:
    for row in rows:
        images, videos = model.num_placeholders(row)
        shown = [{"type": "image"}] * images + [{"type": "video"}] * videos
        user = {"role": "user", "content": [*shown, {"type": "text", "text": row.prompt}]}
        answer = {"role": "assistant", "content": [{"type": "text", "text": row.completion}]}
        template = model.processor.apply_chat_template
        prefix = model.prefix(row.prompt, images, videos)
        assert prefix == template([user], add_generation_prompt=True)
        assert row.completion is not None
        whole = prefix + model.answer_text(row.completion)
        own = template([user, answer])
        if model.network.config.model_type == "llava_onevision":
            assert own == whole.replace("assistant\n", "assistant \n")
        else:
            assert own == whole
        settings: dict[str, Any] = {}
        if row.media and images:
            settings = {"images": model.store.frames(row.media)}
        elif row.media:
            times = VideoMetadata(
                2000, 1000.0, frames_indices=[round(1000 * time) for time in row.media.times_s]
            )
            frames = [model.store.frames(row.media)]
            settings = {"videos": frames}
            if hasattr(model.processor, "video_processor"):
                settings |= {"video_metadata": [times], "do_sample_frames": False}
        if model.tokenizer.bos_token and whole.startswith(model.tokenizer.bos_token):
            settings["add_special_tokens"] = False
        wanted = model.processor(text=[whole], **settings, return_tensors="pt")
        found = model.inputs([row], supervise=True)
        found.pop("labels")
        assert found.keys() == wanted.keys()
        for key, value in found.items():
            assert torch.equal(value, wanted[key]), key
        shares = torch.isin(found["input_ids"], torch.tensor(sorted(model.media_token_ids)))
        assert bool(shares.any()) == (row.media is not None)


def test_the_tiny_model_sees_four_tokens_a_picture(tiny: VisionLanguageModel, rows: list[Example]) -> None:
    for row in rows:
        ids = tiny.inputs([row], supervise=True)["input_ids"]
        assert int((ids == tiny.image_token_id).sum()) == 4 * tiny.num_images(row)


def test_labels_are_the_answer_and_the_end_of_the_turn(
    model: VisionLanguageModel, rows: list[Example]
) -> None:
    batch = model.inputs(rows, supervise=True)
    for ids, labels, mask, row in zip(
        batch["input_ids"], batch["labels"], batch["attention_mask"], rows, strict=True
    ):
        supervised = labels != IGNORED
        assert torch.equal(ids[supervised], labels[supervised])
        assert row.completion is not None
        said = model.tokenizer.decode(labels[supervised])
        assert said == model.answer_text(row.completion)
        assert said.strip().removesuffix(model.tokenizer.eos_token).strip() == row.completion.strip()
        assert model.tokenizer.eos_token in said
        assert not supervised[mask == 0].any()
        places = supervised.nonzero()[:, 0]
        assert int(places[-1] - places[0]) + 1 == len(places)
        assert int(places[-1]) + 1 == int(mask.sum())
        shown = torch.isin(ids, torch.tensor(sorted(model.media_token_ids)))
        assert (labels[shown] == IGNORED).all()


def test_an_answers_tokens_begin_where_the_generation_begins(
    model: VisionLanguageModel, rows: list[Example]
) -> None:
    for row in rows:
        assert row.completion is not None
        before = model.inputs([replace(row, completion=None)], supervise=False)["input_ids"][0].tolist()
        whole = model.inputs([row], supervise=True)["input_ids"][0].tolist()
        assert whole == before + model.completion_ids(row.completion, end=True)
        assert model.tokenizer.eos_token_id in model.completion_ids(row.completion, end=True)
        begun = model.completion_ids(row.completion, end=False)
        assert model.tokenizer.eos_token_id not in begun
        assert model.tokenizer.decode(begun).strip() == row.completion.strip()
        assert model.tokenizer.decode(begun).endswith(row.completion)


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


def test_a_template_that_changes_answers_is_refused(
    tiny: VisionLanguageModel, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tiny.processor.chat_template.replace("{{ part['text'] }}", "{{ part['text'] | trim }}")
    assert template != tiny.processor.chat_template
    monkeypatch.setattr(tiny.processor, "chat_template", template)
    fresh = auto.VisionLanguageModel(tiny.network, tiny.processor, tiny.store)
    fresh.inputs(rows[:3], supervise=True)
    with pytest.raises(UserError, match="changes the answer ' anger'"):
        fresh.inputs(rows, supervise=True)


def test_an_answer_that_repeats_the_templates_words_ends_where_it_ends(model: VisionLanguageModel) -> None:
    for answer in ("assistant", "ASSISTANT:", "a", "user", "Assistant: a", "INST"):
        begun = model.completion_ids(answer, end=False)
        assert model.tokenizer.decode(begun).strip() == answer
        assert model.completion_ids(answer, end=True)[: len(begun) - 1] == begun[:-1]


def test_no_text_may_hold_a_media_placeholder(model: VisionLanguageModel, rows: list[Example]) -> None:
    assert model.tokenizer.convert_ids_to_tokens(model.image_token_id) in model.media_tokens
    for token in model.media_tokens:
        told = "2: holds the media placeholder .* in its text"
        for supervise in (True, False):
            with pytest.raises(UserError, match=told):
                model.inputs([rows[0], replace(rows[1], prompt=f"see {token}?")], supervise=supervise)
        with pytest.raises(UserError, match=told):
            model.inputs([rows[0], replace(rows[1], completion=token)], supervise=True)
        model.inputs([replace(rows[0], completion=token)], supervise=False)


# ---- conversations of several rounds -----------------------------------------------------------------------

EARLIER = (("what do viewers feel", "joy"), ("describe\nit", "a red sky\nit was good"))


def talks(media: dict[str, Media]) -> list[Example]:
    """Two earlier rounds about a picture, one about a video, two of text alone, and no earlier round."""
    return [
        Example("1", "was it a good day", "a happy day", media["a"], earlier=EARLIER),
        Example("2", "and now", "joy", media["clip"], earlier=EARLIER[1:]),
        Example("3", "and now", "anger", None, earlier=EARLIER),
        Example("4", "describe", "sadness", media["b"]),
    ]


def messages_of(row: Example, shown: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    said = []
    for question, answer in (*row.earlier, (row.prompt, row.completion)):
        said.append({"role": "user", "content": [*shown, {"type": "text", "text": question}]})
        said.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        shown = ()
    return said


def runs_of(labels: torch.Tensor) -> list[torch.Tensor]:
    """The stretches of supervised tokens."""
    places = (labels != IGNORED).nonzero()[:, 0].tolist()
    starts = [place for place in places if place - 1 not in places]
    return [
        labels[start : next(n for n in range(start, len(labels) + 1) if n not in places)] for start in starts
    ]


def test_every_answer_of_a_conversation_is_learned_and_no_question(
    model: VisionLanguageModel, media: dict[str, Media]
) -> None:
    rows = talks(media)
    batch = model.inputs(rows, supervise=True)
    for row, ids, labels, mask in zip(
        rows, batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
    ):
        assert row.completion is not None
        answers = [*(answer for _, answer in row.earlier), row.completion]
        found = runs_of(labels)
        # as each answer alone is learned behind the template's opening: to the token
        assert [run.tolist() for run in found] == [
            model.completion_ids(answer, end=True) for answer in answers
        ]
        assert torch.equal(ids[labels != IGNORED], labels[labels != IGNORED])
        assert model.num_supervised(row) == int((labels != IGNORED).sum())
        length = int(mask.sum())
        assert labels[length - 1] != IGNORED
        alone = model.inputs([row], supervise=True)
        assert torch.equal(alone["labels"][0], labels[:length])
        # the text is the template's own, media in the first question
        images, videos = model.num_placeholders(row)
        whole = model.processor.apply_chat_template(
            messages_of(row, [{"type": "image"}] * images + [{"type": "video"}] * videos), tokenize=False
        )
        said = model.prefix(row.prompt, images, videos, row.earlier) + model.answer_text(row.completion)
        if model.network.config.model_type == "llava_onevision":
            whole = "assistant\n".join(whole.rsplit("assistant \n", 1))
        assert said == whole
        # behind the media, the tokens are those of the text
        text = model.text_ids(row)
        at = next(n for n in range(len(text)) if not model.media_token_ids & set(text[n:]))
        assert ids[:length].tolist()[at - len(text) :] == text[at:]


def test_a_conversation_is_continued_from_all_of_it(
    model: VisionLanguageModel, media: dict[str, Media]
) -> None:
    row = talks(media)[0]
    assert row.completion is not None
    before = model.inputs([replace(row, completion=None)], supervise=False)["input_ids"][0].tolist()
    whole = model.inputs([row], supervise=True)["input_ids"][0].tolist()
    assert whole == before + model.completion_ids(row.completion, end=True)
    single = replace(row, earlier=())
    assert (logits(model, [row])[0][-1] - logits(model, [single])[0][-1]).abs().max() > 0.01
    batch = model.inputs([row], supervise=True)
    labels = batch.pop("labels")
    with torch.inference_mode():
        out = model.network(**batch, labels=labels)
    shares = out.logits[0].double().log_softmax(-1)
    places = (labels[0] != IGNORED).nonzero()[:, 0]
    naive = -shares[places - 1, labels[0][places]].mean()
    assert float(out.loss) == pytest.approx(float(naive), abs=1e-5)


def test_llama_vids_question_is_that_of_the_first_round(
    loaded: dict[str, VisionLanguageModel], media: dict[str, Media]
) -> None:
    model = loaded["llama_vid"]
    row = talks(media)[0]
    first = model.inputs([row], supervise=True)["qformer_input_ids"]
    assert torch.equal(first, model.processor.questions([EARLIER[0][0]])["qformer_input_ids"])
    assert len(first) == 1


@pytest.mark.parametrize("place", [0, 1])
def test_a_placeholder_in_an_earlier_round_is_refused(
    tiny: VisionLanguageModel, media: dict[str, Media], place: int
) -> None:
    row = talks(media)[0]
    said = list(EARLIER[1])
    said[place] += " <image>"
    wrong = replace(row, earlier=(EARLIER[0], (said[0], said[1])))
    for supervise in (True, False):
        with pytest.raises(UserError, match="1: holds the media placeholder <image>"):
            tiny.inputs([wrong], supervise=supervise)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda text: text.replace("part['text']", "(part['text'] | replace('joy', 'x'))"),
            "changes or drops",
        ),
        (lambda text: "{% set messages = messages[-2:] %}" + text, "otherwise than the last one"),
        (
            lambda text: text.replace("'</s>'", "('</s>' if loop.last else ' ')"),
            "otherwise than the last one",
        ),
        (
            lambda text: text.replace("{{ part['text'] }}", "{{ part['text'] | upper }}"),
            "writes an answer elsewhere|otherwise than the last one|changes",
        ),
    ],
)
def test_a_template_that_does_not_keep_earlier_answers_is_refused(
    folders: dict[str, Path], media: dict[str, Media], tmp_path: Path, change: Callable[[str], str], told: str
) -> None:
    folder = copied(folders["llava"], tmp_path / "changed")
    file = folder / "chat_template.jinja"
    changed = change(file.read_text())
    assert changed != file.read_text()
    file.write_text(changed)
    model = auto.load(str(folder), FrameStore(tmp_path / "frames"), device="cpu")
    with pytest.raises(UserError, match=told):
        model.inputs([talks(media)[2]], supervise=True)


def test_edges_of_an_earlier_answer() -> None:
    """Of the tokens `ab| c|d |e`, (start, end) is covered by whole ones or refused."""
    text, places = "ab cd e", [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert auto._run(text, places, 0, 2) == (0, 1)
    assert auto._run(text, places, 2, 6) == (1, 3)
    assert auto._run(text, places, 0, 7) == (0, 4)
    # " c" holds the blank at the end of "ab " and begins what follows
    assert auto._run(text, places, 0, 3) == (0, 1)
    assert auto._run(text, places, 3, 6) is None
    assert auto._run(text, places, 2, 5) is None
    assert auto._run(text, places, 1, 2) is None
    assert auto._run(text, places, 2, 3) is None
    assert auto._run(text, places, 2, 2) is None


def test_a_tokenizer_that_tells_no_places_is_refused(
    tiny: VisionLanguageModel, media: dict[str, Media], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tiny.tokenizer), "is_fast", False)
    with pytest.raises(UserError, match="does not tell where tokens stand"):
        tiny.inputs(talks(media)[:1], supervise=True)
    tiny.inputs(talks(media)[3:], supervise=True)


def test_which_tokens_stand_for_media(loaded: dict[str, VisionLanguageModel]) -> None:
    qwen = {"<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"}
    expected = {
        "tiny": {"<image>"},
        "llava": {"<image>"},
        "llava_next": {"<image>"},
        "llava_onevision": {"<image>", "<video>"},
        "qwen2_5_vl": qwen,
        "qwen3_vl": qwen,
        "smolvlm": {"<image>", "<video>", "<fake_token_around_image>", "<global-img>"},
        "llama_vid": {"<image>", "<video>"},
    }
    assert {name: set(model.media_tokens) for name, model in loaded.items()} == expected


# ---- pictures and videos of all forms ----------------------------------------------------------------------


def asked(shapes: Sequence[Media]) -> list[Example]:
    return [Example(str(number), "describe", "joy", item) for number, item in enumerate(shapes)]


def test_pictures_of_all_forms_stand_in_one_batch(model: VisionLanguageModel, shapes: list[Media]) -> None:
    rows = asked(shapes)
    if model.facts.equal_frames:
        rows = rows[:5]
    rows.insert(2, Example("text", "what do viewers feel", "sadness", None))
    together = logits(model, rows)
    for row, expected in zip(rows, together, strict=True):
        torch.testing.assert_close(logits(model, [row])[0], expected, atol=1e-4, rtol=1e-4)
    for expected, found in zip(together, reversed(logits(model, rows[::-1])), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    written = model.generate(rows, max_new_tokens=6)
    assert [model.generate([row], max_new_tokens=6)[0] for row in rows] == written


def test_padding_lies_where_it_is_asked_for(model: VisionLanguageModel, rows: list[Example]) -> None:
    for supervise, edge in ((True, 0), (False, -1)):
        batch = model.inputs(rows, supervise=supervise)
        mask = batch["attention_mask"]
        assert (mask[:, edge] == 1).all()
        assert (mask[:, -1 - edge] == 0).any()
        assert (batch["input_ids"][mask == 0] == model.tokenizer.pad_token_id).all()
        for row, ids, seen in zip(rows, batch["input_ids"], mask.bool(), strict=True):
            alone = model.inputs([row], supervise=supervise)["input_ids"][0]
            assert torch.equal(ids[seen], alone)
            bos = model.tokenizer.bos_token_id
            assert bos is None or int((alone == bos).sum()) == 1


def test_videos_of_uneven_length_in_one_batch(
    loaded: dict[str, VisionLanguageModel], shapes: list[Media]
) -> None:
    with pytest.raises(UserError, match="equally many frames in a batch; 4 has 1, 5 has 2, 6 has 3"):
        loaded["llava_onevision"].inputs(asked(shapes), supervise=True)
    assert sum(model.facts.equal_frames for model in loaded.values()) == 1


def test_processors_are_told_when_frames_are_shown(
    loaded: dict[str, VisionLanguageModel], shapes: list[Media]
) -> None:
    rows = asked(shapes)[-3:]

    def text(name: str, row: Example) -> str:
        return loaded[name].tokenizer.decode(loaded[name].inputs([row], supervise=False)["input_ids"][0])

    # frames at 0.25 and 1.75 s are 1.5 s apart, and two make one step; at 0, 0.5 and 1.75 s the mean is 0.875
    seconds = loaded["qwen2_5_vl"].inputs(rows, supervise=False)["second_per_grid_ts"]
    torch.testing.assert_close(seconds, torch.tensor([2.0, 3.0, 1.75]))
    # the mean of a pair; the last of an odd number is paired with itself
    for row, wanted in zip(rows, (["0.5"], ["1.0"], ["0.2", "1.8"]), strict=True):
        assert re.findall(r"<([\d.]+) seconds>", text("qwen3_vl", row)) == wanted
    for row, wanted in zip(rows, (["00"], ["00", "01"], ["00", "00", "01"]), strict=True):
        said = text("smolvlm", row)
        assert re.findall(r"Frame from 00:(\d\d):", said) == wanted
        assert f"series of {['', 'one', 'two', 'three'][len(wanted)]} frames" in said


def test_rows_joined_equal_what_the_processor_batches(
    loaded: dict[str, VisionLanguageModel], shapes: list[Media]
) -> None:
    """SmolVLM's own batches of pictures are sound; only those with videos are not."""
    model = loaded["smolvlm"]
    rows = [*asked(shapes[:2]), Example("text", "what do viewers feel", "joy", None)]
    texts = [model.prefix(row.prompt, *model.num_placeholders(row)) for row in rows]
    pictures = [model.store.frames(row.media) if row.media else [] for row in rows]
    own = model.processor(
        text=texts,
        images=pictures,
        padding=True,
        padding_side="left",
        return_tensors="pt",
        add_special_tokens=False,
    )
    found = model.inputs(rows, supervise=False)
    assert found.keys() == own.keys()
    for key, value in found.items():
        assert torch.equal(value, own[key]), key


def test_how_large_a_picture_is_worth_decoding(loaded: dict[str, VisionLanguageModel]) -> None:
    """Twice the side; of tiles, twice their longest row; of numbers of pixels, twice the root (and a bit)."""
    expected = {"tiny": 64, "llava": 64, "llava_next": 2 * 96, "llava_onevision": 2 * 96, "smolvlm": 2 * 64}
    expected |= {"qwen2_5_vl": 2 * (64 + 1), "qwen3_vl": 2 * (64 + 1), "llama_vid": 64}
    assert {name: model.image_side for name, model in loaded.items()} == expected


def test_large_pictures_are_decoded_small_but_not_too_small(
    model: VisionLanguageModel, media: dict[str, Media], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.jpg"
    with Image.open(media["a"].path) as picture:
        picture.resize((900, 540), Image.Resampling.BICUBIC).save(path, quality=95)
    row = Example("1", "describe", None, Media(str(path), "image", sha256(path)))
    small = model.store.frames(row.media, side=model.image_side)[0]  # type: ignore[arg-type]
    assert model.image_side <= small.height < 540
    found = model.inputs([row], supervise=False)
    monkeypatch.setattr(type(model), "image_side", None)
    whole = model.inputs([row], supervise=False)
    assert torch.equal(found["input_ids"], whole["input_ids"])
    assert found["pixel_values"].shape == whole["pixel_values"].shape
    assert (found["pixel_values"] - whole["pixel_values"]).abs().mean() < 0.05


def test_the_towers_pictures_are_given_only_where_they_are_squares(
    loaded: dict[str, VisionLanguageModel], media: dict[str, Media]
) -> None:
    items = [media["a"], media["clip"]]
    for name, model in loaded.items():
        if name in ("tiny", "llava", "llama_vid"):
            assert model.pixels(items).shape == (3, 3, 32, 32)
        else:
            with pytest.raises(UserError, match="not shown one square a picture"):
                model.pixels(items)


def test_a_picture_no_processor_takes_is_named(
    loaded: dict[str, VisionLanguageModel], tmp_path: Path
) -> None:
    path = tmp_path / "thread.png"
    Image.new("RGB", (2, 900), "red").save(path)
    row = Example("thread", "describe", "joy", Media(str(path), "image", sha256(path)))
    for name in ("qwen2_5_vl", "qwen3_vl"):
        with pytest.raises(UserError, match=r"thread: the processor refuses it .*aspect ratio"):
            loaded[name].inputs([row], supervise=True)


# ---- what a checkpoint may not do --------------------------------------------------------------------------


def test_a_checkpoints_own_taste_in_decoding_does_not_count(
    model: VisionLanguageModel, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def written() -> list[list[str]]:
        greedy = model.generate(rows, max_new_tokens=12)
        return [greedy, model.generate(rows, max_new_tokens=12, seed=0, temperature=1.0)]

    before = written()
    for name, value in {"repetition_penalty": 3.0, "top_k": 1, "top_p": 0.01, "temperature": 0.1}.items():
        monkeypatch.setattr(model.network.generation_config, name, value)
    assert written() == before


def test_only_whole_models_that_can_talk_are_loaded(tiny_folder: Path, tmp_path: Path) -> None:
    def refused(folder: Path) -> str:
        messages = []
        for call in (
            lambda: auto.check(str(folder)),
            lambda: auto.load(str(folder), FrameStore(tmp_path), device="cpu"),
        ):
            with pytest.raises(UserError) as caught:
                call()
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
        return messages[0]

    adapter = copied(tiny_folder, tmp_path / "adapter")
    (adapter / "adapter_config.json").write_text("{}")
    assert "is an adapter, not a whole model; merge it" in refused(adapter)
    silent = copied(tiny_folder, tmp_path / "silent")
    (silent / "chat_template.jinja").unlink()
    assert "no chat template" in refused(silent)
    unpadded = copied(tiny_folder, tmp_path / "unpadded")
    config = json.loads((unpadded / "tokenizer_config.json").read_text())
    config.pop("pad_token")
    (unpadded / "tokenizer_config.json").write_text(json.dumps(config))
    assert "no padding token" in refused(unpadded)


def test_code_and_pickles_in_a_checkpoint_are_left_alone(tiny_folder: Path, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    coded = copied(tiny_folder, tmp_path / "coded")
    (coded / "own.py").write_text(f"open({str(touched)!r}, 'w').close()\nclass Config: ...\n")
    config = json.loads((coded / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (coded / "config.json").write_text(json.dumps(config))
    pickled = copied(tiny_folder, tmp_path / "pickled")
    weights = load_file(pickled / "model.safetensors")
    (pickled / "model.safetensors").unlink()
    torch.save(weights, pickled / "pytorch_model.bin")
    for folder in (coded, pickled):
        with pytest.raises(UserError):
            auto.load(str(folder), FrameStore(tmp_path), device="cpu")
        with pytest.raises(UserError):
            auto.check(str(folder))
    assert not touched.exists()


def test_without_its_weights_it_makes_the_same_batches_elsewhere(
    model: VisionLanguageModel, rows: list[Example]
) -> None:
    """What workers are sent (training/prefetching.py): it goes through a pickle and holds no value."""
    light: VisionLanguageModel = pickle.loads(pickle.dumps(model.without_weights()))
    assert all(weight.is_meta for weight in light.network.parameters())
    assert len(list(light.network.parameters())) == len(list(model.network.parameters()))
    assert light.network.dtype == model.network.dtype
    for examples in (rows[:1], [*rows, rows[0]]):
        here, there = Collator(model)(examples), Collator(light)(examples)
        assert here.keys() == there.keys()
        for name, value in here.items():
            other = there[name]
            assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, name
