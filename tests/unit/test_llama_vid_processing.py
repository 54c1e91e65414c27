"""LLaMA-VID's input half on tokenizers made here: batches, placeholders, questions and hostile words."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.models.llama_vid import LlamaVidConfig
from behavior_llava.models.llama_vid.conversation import (
    IMAGE,
    SYSTEM,
    VIDEO,
    Round,
    Subtitle,
    caption_dialogue,
    instruction_dialogue,
    movie_dialogue,
    movie_prompt,
    movie_text,
    plain,
    questions_of,
    rounds_of,
)
from behavior_llava.models.llama_vid.processing import LlamaVidProcessor, processor_from_original
from behavior_llava.models.llama_vid.tokenizers import language_tokenizer, question_tokenizer

IGNORED = -100
SIDE = 28
PER_FRAME = 3
MARKS = [IMAGE, VIDEO, "<s>", "</s>", "<unk>", "ASSISTANT:", "USER:"]


# ---- a processor made in code ------------------------------------------------------------------------------


def write_language_tokenizer(folder: Path) -> int:
    """A byte-fallback BPE in the layout of LLaMA's; returns how many tokens it has."""
    words = (
        f"{SYSTEM} USER: ASSISTANT: what is in the picture a red car dog cat no yes why who there is".split()
    )
    special = ["<unk>", "<s>", "</s>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    raw.train_from_iterator(
        [" ".join(words[start:]) for start in range(len(words))],
        trainers.BpeTrainer(
            vocab_size=420,
            special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
            show_progress=False,
        ),
    )
    model = json.loads(raw.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(model["vocab"], merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.add_special_tokens(special)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": 2048,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer.get_vocab_size()


def write_question_tokenizer(folder: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789?.,!'<>/:_"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text(
        "\n".join(
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
        )
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    folder = tmp_path_factory.mktemp("original")
    vocab_size = write_language_tokenizer(folder / "language")
    write_question_tokenizer(folder / "question")
    return folder / "language", folder / "question", vocab_size


def made(folders: tuple[Path, Path, int], image_aspect_ratio: str = "pad") -> LlamaVidProcessor:
    language, question, vocab_size = folders
    return processor_from_original(
        language,
        question,
        image_size=SIDE,
        image_aspect_ratio=image_aspect_ratio,
        num_tokens_per_frame=PER_FRAME,
        image_token_id=vocab_size,
    )


@pytest.fixture(scope="module")
def processor(folders: tuple[Path, Path, int]) -> LlamaVidProcessor:
    return made(folders)


def picture(number: int, width: int = 20, height: int = 12) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def clip(number: int, length: int) -> list[Image.Image]:
    return [picture(100 * number + frame) for frame in range(length)]


def chat(processor: LlamaVidProcessor, *turns: Any, prompt: bool = True) -> str:
    """A text of the template; a turn is its words, or a list of kinds of media and its words."""
    messages = []
    for number, turn in enumerate(turns):
        *media, words = turn if isinstance(turn, list) else [turn]
        content = [{"type": kind} for kind in media] + [{"type": "text", "text": words}]
        messages.append({"role": ("user", "assistant")[number % 2], "content": content})
    return processor.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)


# ---- batches -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(processor: LlamaVidProcessor) -> list[dict[str, Any]]:
    """A still, text alone, a video, both, and two rounds about one still."""
    same = picture(9)
    return [
        {"text": chat(processor, ["image", "what is in the picture"]), "images": [picture(1)]},
        {"text": chat(processor, "why")},
        {"text": chat(processor, ["video", "who is there?"]), "videos": [clip(1, 3)]},
        {
            "text": chat(processor, ["image", "a"], "no", ["video", "a red dog and a red cat"]),
            "images": [picture(2)],
            "videos": [clip(2, 2)],
        },
        {
            "text": chat(processor, ["image", "who"], "yes", ["image", "why is the car red?"]),
            "images": [same, same],
        },
    ]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_batch_holds_what_each_text_alone_gives(
    processor: LlamaVidProcessor, rows: list[dict[str, Any]], side: str, is_nested: bool
) -> None:
    stills = [row.get("images", []) for row in rows]
    clips = [row.get("videos", []) for row in rows]
    batch = processor(
        text=[row["text"] for row in rows],
        images=stills if is_nested else [one for row in stills for one in row],
        videos=clips if is_nested else [one for row in clips for one in row],
        padding=True,
        padding_side=side,
        return_tensors="pt",
    )
    frames = insertions = 0
    for number, row in enumerate(rows):
        alone = processor(**row, return_tensors="pt")
        is_real = batch["attention_mask"][number].bool()
        length = int(is_real.sum())
        assert bool(is_real[-1 if side == "left" else 0])
        assert torch.equal(batch["input_ids"][number][is_real], alone["input_ids"][0])
        assert torch.equal(is_real, torch.arange(len(is_real)) >= len(is_real) - length) or side == "right"
        assert (batch["input_ids"][number][~is_real] == processor.tokenizer.pad_token_id).all()
        if "images" not in row and "videos" not in row:
            assert set(alone) == {"input_ids", "attention_mask"}
            continue
        more, shown = len(alone["pixel_values"]), len(alone["num_frames"])
        assert torch.equal(batch["pixel_values"][frames : frames + more], alone["pixel_values"])
        here = slice(insertions, insertions + shown)
        assert torch.equal(batch["num_frames"][here], alone["num_frames"])
        assert torch.equal(batch["first_frame"][here], alone["first_frame"] + frames)
        for name in ("qformer_input_ids", "qformer_attention_mask"):
            width = alone[name].shape[1]
            assert torch.equal(batch[name][here, :width], alone[name])
            assert not batch[name][here, width:].any()
        placeholders = int((alone["input_ids"] == processor.image_token_id).sum())
        assert placeholders == PER_FRAME * int(alone["num_frames"].sum())
        frames, insertions = frames + more, insertions + shown
    assert (len(batch["pixel_values"]), len(batch["num_frames"])) == (frames, insertions) == (8, 6)
    assert batch["num_frames"].tolist() == [1, 3, 1, 2, 1, 1]
    assert batch["first_frame"].tolist() == [0, 1, 4, 5, 7, 7]


def test_saved_and_loaded_again_it_is_the_same(
    processor: LlamaVidProcessor, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    processor.save_pretrained(tmp_path)
    assert (tmp_path / "qformer_tokenizer" / "tokenizer.json").is_file()
    LlamaVidConfig().save_pretrained(tmp_path)
    for again in (LlamaVidProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(again) is LlamaVidProcessor
        assert type(again.image_processor) is CLIPImageProcessorPil
        assert again.to_dict() == processor.to_dict()
        assert again.chat_template == processor.chat_template
        assert again.qformer_tokenizer.truncation_side == "left"
        assert again.tokenizer.pad_token_id == processor.tokenizer.pad_token_id == 0
        for row in rows:
            first, second = processor(**row, return_tensors="pt"), again(**row, return_tensors="pt")
            assert set(first) == set(second)
            for name, value in first.items():
                assert torch.equal(value, second[name])


def test_the_template_with_the_media_in_its_messages_is_the_same_call(processor: LlamaVidProcessor) -> None:
    still, video = picture(1), clip(1, 2)
    content = [{"type": "image", "image": still}, {"type": "video", "video": video}]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": "why"}]}]
    got = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    expected = processor(
        text=f"{SYSTEM} USER: {IMAGE}\n{VIDEO}\nwhy ASSISTANT:",
        images=still,
        videos=[video],
        return_tensors="pt",
    )
    assert set(got) == set(expected) <= set(processor.model_input_names)
    for name, value in expected.items():
        assert torch.equal(got[name], value)


def test_the_question_is_kept_nowhere(processor: LlamaVidProcessor, rows: list[dict[str, Any]]) -> None:
    before = processor(**rows[0])
    processor(**rows[2])
    after = processor(**rows[0])
    assert torch.equal(before["qformer_input_ids"], after["qformer_input_ids"])


def test_a_text_with_the_padding_token_is_not_masked_there(processor: LlamaVidProcessor) -> None:
    batch = processor(text=["<unk> a", "a"], padding=True, padding_side="right", return_tensors="pt")
    assert batch["input_ids"][0, 1] == processor.tokenizer.pad_token_id == 0
    assert batch["attention_mask"].sum(1).tolist() == [
        len(processor(text=t)["input_ids"][0]) for t in ("<unk> a", "a")
    ]
    assert batch["attention_mask"][0].all()


# ---- what does not go together -----------------------------------------------------------------------------


def test_media_that_do_not_fit_the_placeholders_are_refused(processor: LlamaVidProcessor) -> None:
    still, both = chat(processor, ["image", "why"]), chat(processor, ["image", "video", "why"])
    with pytest.raises(ValueError, match="stands 1 times in the texts, 0 media"):
        processor(text=still)
    with pytest.raises(ValueError, match="stands 1 times in the texts, 2 media"):
        processor(text=still, images=[picture(1), picture(2)])
    with pytest.raises(ValueError, match="stands 0 times in the texts, 1 media"):
        processor(text=still, images=[picture(1)], videos=[clip(1, 2)])
    with pytest.raises(ValueError, match=r"stands \[1, 1\] times .* \[2, 0\]"):
        processor(text=[still, both], images=[[picture(1), picture(2)], []], videos=[clip(1, 2)])
    with pytest.raises(ValueError, match="list of videos"):
        processor(text=chat(processor, ["video", "why"]), videos=clip(1, 1))
    with pytest.raises(ValueError, match="without frames"):
        processor(text=chat(processor, ["video", "why"]), videos=[[[]]])
    with pytest.raises(ValueError, match="hears nothing"):
        processor(text=still, images=[picture(1)], audio=[1])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="uint8 HWC"):
        processor(text=still, images=[np.zeros((3, 4, 4), np.uint8)])
    with pytest.raises(ValueError, match="at least one"):
        processor(images=[picture(1)])


def test_questions_that_do_not_fit_are_refused(processor: LlamaVidProcessor) -> None:
    still = chat(processor, ["image", "why"])

    def refused(match: str, prompts: Any) -> None:
        with pytest.raises(ValueError, match=match):
            processor(text=[still], images=[picture(1)], qformer_prompts=prompts)

    refused("0 qformer_prompts for 1 placeholders", [[]])
    refused("2 qformer_prompts for 1 placeholders", [["a", "b"]])
    refused("2 lists of qformer_prompts for 1 texts", [["a"], ["b"]])
    refused("a list of questions for every text", ["why"])


@pytest.mark.parametrize(
    "text",
    [
        f"{IMAGE}\nwhy",
        f"USER: {IMAGE}\nwhy ASSISTANT:",
        f"{SYSTEM} USER: {IMAGE}\nwhy",
        f"{SYSTEM} USER: {IMAGE}\nwhy ASSISTANT: no ASSISTANT:",
        f"{SYSTEM} USER: why ASSISTANT: {IMAGE}</s>",
    ],
)
def test_a_text_without_readable_questions_needs_them_given(processor: LlamaVidProcessor, text: str) -> None:
    with pytest.raises(ValueError, match="give qformer_prompts"):
        processor(text=text, images=[picture(1)])
    batch = processor(text=text, images=[picture(1)], qformer_prompts=[["why"]])
    assert torch.equal(batch["qformer_input_ids"], processor.questions(["why"])["qformer_input_ids"])


# ---- questions and hostile words ---------------------------------------------------------------------------


def test_questions_are_those_of_their_turns(processor: LlamaVidProcessor) -> None:
    text = chat(
        processor, "no medium", "yes", ["image", "two\nlines"], "ASSISTANT: no", ["video", "image", "b"]
    )
    assert questions_of(text) == ["two\nlines", "b", "b"]
    assert questions_of(f"{SYSTEM} USER: why?\n{IMAGE} ASSISTANT:") == ["why?"]
    closed = chat(processor, ["image", "a"], "x ASSISTANT: y", ["image", "b"], "ASSISTANT: z", prompt=False)
    assert questions_of(closed) == ["a", "b"]


@given(
    st.lists(st.sampled_from([*MARKS, " ", "\n", "<im", "age>", "</", "s>", "why", "ASSIS", "TANT:", "<"])),
    st.lists(st.sampled_from([*MARKS, " ", "</", "s>", "no", "<vid", "eo>"])),
)
def test_nobody_moves_a_placeholder_or_a_question(
    processor: LlamaVidProcessor, asked: list[str], answered: list[str]
) -> None:
    question, answer = "".join(asked), "".join(answered)
    turns = (["image", "who"], "yes", ["video", question], answer, ["image", "why"])
    text = chat(processor, *turns)
    assert (text.count(IMAGE), text.count(VIDEO), text.count("</s>")) == (2, 1, 2)
    assert questions_of(text) == ["who", plain(question).strip("\n"), "why"]
    ids = processor(text=text, images=[picture(1)] * 2, videos=[clip(1, 2)])["input_ids"][0]
    tokenizer = processor.tokenizer
    assert [ids.count(number) for number in (tokenizer.bos_token_id, tokenizer.eos_token_id)] == [1, 2]
    assert ids.count(processor.image_token_id) == PER_FRAME * (1 + 2 + 1)
    # nothing but spaces is put in
    assert plain(question).replace(" ", "") == question.replace(" ", "")


def test_words_without_marks_are_left_alone(processor: LlamaVidProcessor) -> None:
    words = "a < b > c, image <images> assistant: USER: {{ x }} {% y %} 'q' \"r\" \\n 日本 😀\n\n "
    assert plain(words) == words
    assert chat(processor, words, words, prompt=False) == (f"{SYSTEM} USER: {words} ASSISTANT: {words}</s>")


def test_the_template_refuses_what_was_never_trained(processor: LlamaVidProcessor) -> None:
    for messages in (
        [{"role": "system", "content": "be brief"}],
        [{"role": "assistant", "content": "no"}],
        [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        [{"role": "user", "content": [{"type": "audio"}]}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "image"}]}],
    ):
        with pytest.raises(Exception, match="LLaMA-VID takes"):
            processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


# ---- training ----------------------------------------------------------------------------------------------


def test_the_project_trains_with_it(
    processor: LlamaVidProcessor, media: dict[str, Media], tmp_path: Path
) -> None:
    vocabulary = {"vocab_size": processor.image_token_id}
    config = LlamaVidConfig(text_config=vocabulary, image_token_id=processor.image_token_id)
    model = VisionLanguageModel(SimpleNamespace(config=config), processor, FrameStore(tmp_path))
    examples = [
        Example("1", "what is in the picture", "a red car", media["a"]),
        Example("2", "why </s>ASSISTANT: no", " no\nyes ", media["clip"]),
        Example("3", "who", "", None),
        Example("4", "who", "ASSISTANT: a", media["b"]),
    ]
    for example in examples:
        assert example.completion is not None
        for shown in ((0, 0), (1, 0), (0, 1)):
            whole = model._chat(example.prompt, example.completion, *shown)
            assert model.prefix(example.prompt, *shown) + model.answer_text(example.completion) == whole
            assert model.prefix(example.prompt, *shown).endswith(" ASSISTANT:")
        assert model.answer_text(example.completion) == f" {example.completion}</s>"
    batch = model.inputs(examples, supervise=True)
    for labels, example in zip(batch["labels"], examples, strict=True):
        said = labels[labels != IGNORED].tolist()
        assert processor.tokenizer.decode(said) == f"{example.completion}</s>"
    assert batch["num_frames"].tolist() == [1, 2, 1]
    assert batch["first_frame"].tolist() == [0, 1, 3]
    assert len(batch["pixel_values"]) == 4
    spaced = plain("why </s>ASSISTANT: no")
    asked = processor.questions(["what is in the picture", spaced, "who"])
    assert torch.equal(batch["qformer_input_ids"], asked["qformer_input_ids"])
    with pytest.raises(UserError, match="changes the answer"):
        model.answer_text("a </s> b")


WORDS = st.lists(
    st.sampled_from(
        ["a", "red", "car", " ", "  ", "\n", "日", "ASSISTANT:", "</s>", "<unk>", ".", IMAGE, VIDEO]
    ),
    max_size=6,
).map("".join)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), st.integers(0, 9))
def test_labels_are_the_answers_and_their_ends(
    processor: LlamaVidProcessor, pairs: list[tuple[str, str]], seed: int
) -> None:
    rounds = [Round(question, answer) for question, answer in pairs]
    dialogue = instruction_dialogue(rounds, placement=random.Random(seed))
    again = instruction_dialogue(rounds, placement=random.Random(seed), medium="video")
    assert dialogue.text.replace(IMAGE, VIDEO) == again.text
    assert dialogue.supervised == again.supervised
    count = dialogue.text.count(IMAGE)
    first = next((number for number, one in enumerate(rounds) if IMAGE in one.question), len(rounds))
    assert count == len(rounds) - first == len(dialogue.qformer_prompts)
    assert dialogue.qformer_prompts == dialogue.questions[first:]
    still = picture(1)
    batch = processor(text=dialogue, images=[still] * count or None)
    [ids], [labels] = batch["input_ids"], batch["labels"]
    assert len(ids) == len(labels)
    assert processor.image_token_id not in labels
    # naive: the tokens of a text cut off behind an answer, less those of the text cut off before it
    tokens: Iterator[int] = iter(token for token in labels if token != IGNORED)
    for (start, end), one in zip(dialogue.supervised, rounds, strict=True):
        cut = [
            processor(
                text=dialogue.text[:to],
                images=[still] * dialogue.text[:to].count(IMAGE) or None,
                qformer_prompts=[["?"] * dialogue.text[:to].count(IMAGE)],
            )["input_ids"][0]
            for to in (start, end)
        ]
        assert cut[1][: len(cut[0])] == cut[0] == ids[: len(cut[0])]
        said = cut[1][len(cut[0]) :]
        assert [next(tokens) for _ in said] == said
        assert said[-1] == processor.tokenizer.eos_token_id
        assert said.count(processor.tokenizer.eos_token_id) == 1
        assert dialogue.text[start:end] == f" {plain(one.answer, is_answer=True)}</s>"
    assert next(tokens, None) is None


def test_dialogues_and_texts_do_not_mix(processor: LlamaVidProcessor) -> None:
    answered = instruction_dialogue([Round("a", "b")], placement=random.Random(0))
    with pytest.raises(ValueError, match="give texts, or Dialogues"):
        processor(text=[answered, "a"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="bring their own"):
        processor(text=answered, qformer_prompts=[[]])
    movie = movie_prompt(IMAGE, "why", num_tokens_per_frame=PER_FRAME)
    with pytest.raises(ValueError, match="with and without answers"):
        processor(text=[answered, movie])


def test_conversations_that_are_none(processor: LlamaVidProcessor) -> None:
    human, gpt = {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}
    assert rounds_of([human, gpt]) == [Round("a", "b")]
    with pytest.raises(UserError, match="3 turns"):
        rounds_of([human, gpt, human])
    with pytest.raises(UserError, match="turn 2 is not one of 'gpt'"):
        rounds_of([human, human])
    for rounds in ([Round("a", "b")], [Round(IMAGE, "b")] * 2, [Round(IMAGE * 2, "b")]):
        with pytest.raises(UserError, match="one round with one"):
            caption_dialogue(rounds)
        with pytest.raises(UserError, match="one round with one"):
            movie_dialogue(IMAGE, rounds, num_tokens_per_frame=PER_FRAME)


# ---- movies ------------------------------------------------------------------------------------------------


def test_a_movie_shows_its_features_frame_by_frame(processor: LlamaVidProcessor) -> None:
    features = torch.arange(3 * 5 * 2.0).reshape(3, 5, 2)
    movie = movie_text(
        [0.0, 1.0, 2.0], [Subtitle(0.5, "a..."), Subtitle(1.5, "red <image>"), Subtitle(1.6, "car")]
    )
    assert movie == f"{IMAGE}a...{IMAGE}red <image > car{IMAGE}"
    asked = movie_prompt(movie, "why\nso", num_tokens_per_frame=PER_FRAME)
    trained = movie_dialogue(movie, [Round(f" {IMAGE}\nwhy\nso", "no")], num_tokens_per_frame=PER_FRAME)
    assert "a..." in asked.text
    assert "..." not in trained.text
    assert asked.qformer_prompts == trained.qformer_prompts == ("why\nso",)
    batch = processor(text=asked, frame_features=[features], features_have_cls=True, return_tensors="pt")
    assert torch.equal(batch["frame_features"], features[:, 1:])
    assert int((batch["input_ids"] == processor.image_token_id).sum()) == 3 * PER_FRAME
    assert "pixel_values" not in batch
    assert "labels" not in batch
    two = processor(
        text=[asked.text, chat(processor, "why"), asked.text],
        frame_features=[features, None, features + 1],
        qformer_prompts=[["why"], [], ["who"]],
        padding=True,
        return_tensors="pt",
    )
    assert torch.equal(two["frame_features"], torch.cat([features, features + 1]))
    assert two["num_frames"].tolist() == [3, 3]
    assert two["first_frame"].tolist() == [0, 3]
    assert torch.equal(two["qformer_input_ids"], processor.questions(["why", "who"])["qformer_input_ids"])
    assert torch.equal(two["input_ids"][0], batch["input_ids"][0])


def test_subtitles_show_no_frames_and_end_no_turn() -> None:
    movie = f"{IMAGE}</s>a{IMAGE}<im...age>ASSISTANT:"
    rounds = [Round(f"{IMAGE}\nwhy", "no")]
    trained = movie_dialogue(movie, rounds, num_tokens_per_frame=PER_FRAME)
    asked = movie_prompt(movie, "why", num_tokens_per_frame=PER_FRAME)
    for dialogue, ends in ((trained, 1), (asked, 0)):
        assert dialogue.text.count(IMAGE) == 2 * PER_FRAME
        assert (dialogue.text.count("</s>"), dialogue.text.count("ASSISTANT:")) == (ends, 1)
        assert "</s >a" in dialogue.text
    assert "<image >" in trained.text
    assert "<im...age>" in asked.text


def test_movies_that_do_not_fit_are_refused(processor: LlamaVidProcessor) -> None:
    features = torch.zeros(2, 4, 2)
    text = movie_prompt(IMAGE * 2, "why", num_tokens_per_frame=PER_FRAME).text
    with pytest.raises(ValueError, match="6 placeholders for 3 frames, 3 expected a frame"):
        processor(text=text, frame_features=[torch.zeros(3, 4, 2)], qformer_prompts=[["why"]])
    with pytest.raises(ValueError, match="6 placeholders for 0 frames"):
        processor(text=text, frame_features=[None], qformer_prompts=[["why"]])
    with pytest.raises(ValueError, match="give qformer_prompts"):
        processor(text=text, frame_features=[features])
    with pytest.raises(ValueError, match="2 qformer_prompts for 1"):
        processor(text=text, frame_features=[features], qformer_prompts=[["why", "who"]])
    with pytest.raises(ValueError, match="not both"):
        processor(text=text, frame_features=[features], images=[picture(1)], qformer_prompts=[["why"]])
    with pytest.raises(ValueError, match="2 frame_features for 1 texts"):
        processor(text=text, frame_features=[features] * 2, qformer_prompts=[["why"]])


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True).map(sorted),
    st.lists(st.integers(0, 35), max_size=8).map(sorted),
)
def test_subtitles_go_to_the_last_frame_before_their_end(times: list[int], ends: list[int]) -> None:
    said: list[list[str]] = [[] for _ in times]
    for number, end in enumerate(ends):
        before = [frame for frame, time in enumerate(times) if time < end]
        said[max(before, default=0)].append(f"s{number}")
    expected = "".join(IMAGE + " ".join(texts) for texts in said)
    assert movie_text(times, [Subtitle(end, f"s{number}") for number, end in enumerate(ends)]) == expected


def test_subtitles_stay_in_their_order() -> None:
    assert movie_text([0, 1, 2], [Subtitle(2.5, "a"), Subtitle(0.5, "b")]) == f"{IMAGE * 3}a b"
    with pytest.raises(UserError, match="without frames"):
        movie_text([], [])


# ---- pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(20, 12), (12, 21), (16, 16), (90, 7)])
def test_stills_are_padded_and_videos_never(
    folders: tuple[Path, Path, int], processor: LlamaVidProcessor, width: int, height: int
) -> None:
    given_ = picture(5, width, height)
    side = max(width, height)
    square = np.full((side, side, 3), (122, 116, 104), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = np.asarray(given_)
    assert np.array_equal(np.asarray(processor.still(given_)), square)

    def pixels(by: LlamaVidProcessor, **shown: Any) -> torch.Tensor:
        text = VIDEO if "videos" in shown else IMAGE
        return by(text=text, qformer_prompts=[["?"]], **shown)["pixel_values"]

    padded = pixels(processor, images=[given_])
    cropped = pixels(made(folders, "square"), images=[given_])
    assert padded.shape == cropped.shape == (1, 3, SIDE, SIDE)
    assert torch.equal(padded, cropped) == (width == height)
    assert torch.equal(padded, pixels(made(folders, "square"), images=[square]))
    video = pixels(processor, videos=[[given_, picture(6, width, height)]])
    assert torch.equal(video[:1], cropped)
    # an array of frames is the list of them
    array = np.stack([np.asarray(given_), np.asarray(picture(6, width, height))])
    assert torch.equal(pixels(processor, videos=[array]), video)
    assert torch.equal(pixels(processor, videos=[[array]]), video)


def test_stills_come_as_files_arrays_and_pictures(processor: LlamaVidProcessor, tmp_path: Path) -> None:
    still = picture(3)
    still.save(tmp_path / "a.png")
    for same in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        np.asarray(still),
        torch.tensor(np.asarray(still)),
    ):
        assert processor.still(same).tobytes() == processor.still(still).tobytes()
    assert processor.still(still.convert("L")).mode == "RGB"


# ---- tokenizers --------------------------------------------------------------------------------------------


def test_long_questions_lose_their_beginning(processor: LlamaVidProcessor) -> None:
    got = processor.questions(["a " * 300 + "z", "b"])
    ids, mask = got["qformer_input_ids"], got["qformer_attention_mask"]
    tokenizer = processor.qformer_tokenizer
    a, z = tokenizer.convert_tokens_to_ids(["a", "z"])
    assert ids[0].tolist() == [tokenizer.cls_token_id, *[a] * 253, z, tokenizer.sep_token_id]
    assert mask.sum(1).tolist() == [256, 3]
    upper, lower = processor.questions(["WHY?"]), processor.questions(["why?"])
    assert torch.equal(upper["qformer_input_ids"], lower["qformer_input_ids"])
    assert tokenizer.convert_tokens_to_ids("[DEC]") == len(tokenizer) - 1


def test_folders_that_hold_no_tokenizer(
    folders: tuple[Path, Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    language, _, vocab_size = folders
    with pytest.raises(UserError, match=r"no tokenizer_config\.json"):
        language_tokenizer(tmp_path, image_token_id=1)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"no tokenizer\.model"):
        language_tokenizer(tmp_path, image_token_id=1)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="without the package sentencepiece"):
        language_tokenizer(tmp_path, image_token_id=1)
    monkeypatch.undo()
    with pytest.raises(UserError, match=rf"gets the id {vocab_size}, the model expects {vocab_size + 1}"):
        language_tokenizer(language, image_token_id=vocab_size + 1)
    with pytest.raises(UserError, match=r"no vocab\.txt"):
        question_tokenizer(tmp_path)
    with pytest.raises(UserError, match="image_aspect_ratio 'anyres'"):
        made(folders, "anyres")


def test_settings_that_make_no_processor(processor: LlamaVidProcessor) -> None:
    parts = (processor.image_processor, processor.tokenizer, processor.qformer_tokenizer)
    with pytest.raises(ValueError, match="context token"):
        LlamaVidProcessor(*parts, num_tokens_per_frame=1)
    with pytest.raises(ValueError, match="image_aspect_ratio"):
        LlamaVidProcessor(*parts, image_aspect_ratio="anyres")
    with pytest.raises(ValueError, match='no token "<image>"'):
        LlamaVidProcessor(parts[0], parts[2], parts[2])


def test_every_piece_begins_anew(processor: LlamaVidProcessor) -> None:
    tokenizer = processor.tokenizer
    space, image = tokenizer.convert_tokens_to_ids("▁"), processor.image_token_id
    text = f"{IMAGE} a</s>a"
    [ids] = processor(text=text, images=[picture(1)], qformer_prompts=[["?"]])["input_ids"]
    a = tokenizer.convert_tokens_to_ids("▁a")
    assert ids == [1, *[image] * PER_FRAME, space, a, 2, a]


def test_a_sentencepiece_model_gives_its_own_ids(tmp_path: Path) -> None:
    """A tokenizer.model as LLaMA's, against the library that it is from."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="the package sentencepiece is not installed")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(
        "\n".join(f"{SYSTEM} USER: what is {number}? ASSISTANT: a red car" for number in range(99))
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(tmp_path / "tokenizer"),
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (tmp_path / "tokenizer_config.json").write_text('{"legacy": null}')
    original = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    tokenizer = language_tokenizer(tmp_path, image_token_id=original.vocab_size())
    rng = random.Random(0)
    parts = [
        "what",
        " is",
        " ",
        "  ",
        "\n",
        "USER:",
        "a",
        "é",
        "日本",
        "😀",
        "▁",
        "7",
        "42",
        "\r\n",
        "\x00",
        "e\u0301",
    ]
    for _ in range(500):
        text = "".join(rng.choices(parts, k=rng.randrange(12)))
        assert tokenizer(text, add_special_tokens=False).input_ids == original.encode(text), text
        assert tokenizer(text).input_ids == [1, *original.encode(text)]
        after = tokenizer(f"a</s>{text}", add_special_tokens=False).input_ids
        assert after == [*original.encode("a"), 2, *original.encode(text)]
