"""Any image-text-to-text model of transformers, behind the few calls the rest of the project makes.

An `Example` goes in; token ids, pixels, labels or text come out, through the model's own processor and chat
template. Where architectures differ, FACTS says how; nothing else here knows one from another, and nothing
knows a task, a behaviour or an arm.

    B examples in a batch · T tokens · K labels
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import logging
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.video_utils import VideoMetadata

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media

log = logging.getLogger(__name__)

IGNORED = -100
"""The label of a token that is not supervised (torch.nn.CrossEntropyLoss, ignore_index)."""


@dataclass(frozen=True)
class Facts:
    """What one architecture does otherwise than LLaVA-1.5.

    Attributes:
        takes_videos: a video goes in as one, with the times of its frames; otherwise as several images.
        equal_frames: all videos of a batch need the same number of frames.
        rows_apart: each row passes the processor alone, and the rows are joined behind it.
        counts_pixels: the image processor's `size` is numbers of pixels, not sides.
        min_frames: a shorter video's last frame is repeated, as the processor itself does to fill up a pair.
        writes_times: how many tokens a video has depends on when its frames are shown.
        media_see_question: what stands for a picture depends on what is asked about it, so that two questions
            cannot share it.
    """

    takes_videos: bool = False
    equal_frames: bool = False
    rows_apart: bool = False
    counts_pixels: bool = False
    min_frames: int = 1
    writes_times: bool = False
    media_see_question: bool = False


FACTS: dict[str, Facts] = {
    # a frame has a quarter of a picture's tokens; a batch's videos are one tensor [B, frames, ...]
    "llava_onevision": Facts(takes_videos=True, equal_frames=True),
    # two frames become one; the seconds between them are in the positions
    "qwen2_5_vl": Facts(takes_videos=True, counts_pixels=True),
    # two frames become one; their time is written before them; a single frame is refused
    "qwen3_vl": Facts(takes_videos=True, counts_pixels=True, min_frames=2, writes_times=True),
    # images and videos share `pixel_values`, so that the one of a batch replaces the other, and the processor
    # writes the number of frames of the batch's longest video into every row
    "smolvlm": Facts(takes_videos=True, rows_apart=True, writes_times=True),
    # two tokens a frame, one of which looks at the frame for what is asked
    "llama_vid": Facts(takes_videos=True, media_see_question=True),
}
"""By `model_type`. A type that is not here is treated like LLaVA-1.5."""

_TICKS_PER_S = 1000
"""Processors are told the times of frames as frame numbers at this rate: as milliseconds."""
_MEDIA_TOKEN = re.compile(r"(image|video|vision)\w*_token(_id|_index)?$")
"""Names under which configs and processors keep the tokens that stand for media or enclose them."""
_AGREED = 8
"""So many counts the processor's formula has to meet before it is trusted, for each number of pictures."""
_ANSWER = "\ufffcanswer\ufffc"
"""An answer no template changes or contains: it tells where answers are written."""
Rounds = tuple[tuple[str, str], ...]
"""The rounds before a prompt, as (question, answer); see Example.earlier."""


def pick_device(name: str) -> torch.device:
    """The device of a name: "auto", "cpu", "cuda" or "cuda:1"; each process of torchrun has a GPU of its own.

    Raises:
        UserError: a GPU is asked for where there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"device {name!r} asked for, but torch sees no GPU here",
            where="device",
            remedy="set device: cpu or device: auto",
        )
    if name == "cuda" and (rank := os.environ.get("LOCAL_RANK")) is not None:
        name = f"cuda:{rank}"
    try:
        return torch.device(name)
    except RuntimeError:
        raise UserError(
            f"no device called {name!r}", where="device", remedy="use auto, cpu or cuda"
        ) from None


def weights_hash(folder: Path) -> str:
    """A hash of all weights in a model folder: what the journal of an evaluation is keyed by."""
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError("holds no safetensors weights", where=folder, remedy="give a model folder or name")
    for file in files:
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:20]


def on_hub(name: str) -> str:
    """A model of the hub as the name and commit that are loaded now, for the keys of caches.

    Raises:
        UserError: no such model.
    """
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_a_model(name, error) from error
    commit = getattr(config, "_commit_hash", None)
    return name if commit is None else f"{name} at {commit}"


def check(name: str) -> None:
    """Refuses what `load` would refuse, without reading weights.

    Raises:
        UserError: no such model, no processor or chat template, an adapter, or a folder without weights.
    """
    _refuse_adapter(name)
    _register_own()
    try:
        AutoConfig.from_pretrained(name, trust_remote_code=False)
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_a_model(name, error) from error
    _refuse_processor(name, processor)
    if Path(name).is_dir() and not any(Path(name).glob("*.safetensors")):
        raise UserError(
            "holds no safetensors weights",
            where=name,
            remedy="give a model folder or the name of one on the hub",
        )


def _register_own() -> None:
    """Lets transformers know our own architecture, which registers where its package is imported."""
    importlib.import_module("behavior_llava.models.llama_vid")


def _refuse_adapter(name: str) -> None:
    if (Path(name) / "adapter_config.json").exists():
        raise UserError(
            "is an adapter, not a whole model",
            where=name,
            remedy="merge it into its base first (peft: merge_and_unload, then save_pretrained)",
        )


def _refuse_processor(name: str, processor: Any) -> None:
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise UserError(
            f"cannot be loaded as an image-text-to-text model (it has a {type(processor).__name__} alone)",
            where=name,
            remedy="give a model folder or the name of one on the hub",
        )
    if getattr(processor, "chat_template", None) is None:
        raise UserError(
            "its processor has no chat template",
            where=name,
            remedy="use a model tuned for conversation, or add a chat_template.jinja",
        )
    if processor.tokenizer.pad_token_id is None:
        raise UserError(
            "its tokenizer has no padding token",
            where=name,
            remedy="set pad_token in its tokenizer_config.json",
        )


def _not_a_model(name: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0].rstrip(".")
    return UserError(
        f"cannot be loaded as an image-text-to-text model ({reason})",
        where=name,
        remedy="give a model folder or the name of one on the hub",
    )


def load(name: str, store: FrameStore, *, device: str = "auto") -> VisionLanguageModel:
    """A model by folder or hub name, in fp32 on CPU and bf16 on GPU, with every weight accounted for.

    Raises:
        UserError: no such model, an adapter, weights missing or left over, no chat template, or a GPU asked
            for where there is none.
    """
    _refuse_adapter(name)
    _register_own()
    place = pick_device(device)
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=False)
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            name, dtype=dtype, output_loading_info=True, trust_remote_code=False, use_safetensors=True
        )
        network, info = loaded
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_a_model(name, error) from error
    _refuse_processor(name, processor)
    if getattr(network, "_hf_peft_config_loaded", False):
        raise UserError("is an adapter, not a whole model", where=name, remedy="merge it into its base first")
    wrong = {
        key: sorted(info[key])
        for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if info.get(key)
    }
    if wrong:
        told = "; ".join(
            f"{key}: {', '.join(map(str, names[:5]))}{' ...' if len(names) > 5 else ''}"
            for key, names in wrong.items()
        )
        raise UserError(
            f"weights do not fit the architecture ({told})", where=name, remedy="use a complete checkpoint"
        )
    return VisionLanguageModel(network.to(place).eval(), processor, store)


@dataclass
class VisionLanguageModel:
    """A network with its processor.

    Attributes:
        store: where a video's frames come from.
    """

    network: Any
    processor: Any
    store: FrameStore
    _ids: dict[tuple[str, bool], list[int]] = field(default_factory=dict)
    _prefixes: dict[tuple[str, int, int], str] = field(default_factory=dict)
    _spread: dict[Any, int] = field(default_factory=dict)
    _agreed: dict[int, int] = field(default_factory=dict)

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.network.device

    @property
    def facts(self) -> Facts:
        """What this architecture does otherwise than LLaVA-1.5."""
        return FACTS.get(self.network.config.model_type, Facts())

    @property
    def image_token_id(self) -> int:
        """The token that stands for an image's features; never supervised."""
        return int(self.network.config.image_token_id)

    @cached_property
    def media_token_ids(self) -> frozenset[int]:
        """All tokens that stand for media or enclose them; never supervised."""
        config = self.network.config.to_dict()
        told = {
            value for name, value in config.items() if _MEDIA_TOKEN.search(name) and isinstance(value, int)
        }
        known = self.tokenizer.get_vocab()
        return frozenset(told | {known[text] for text in self._processor_tokens if text in known})

    @cached_property
    def media_tokens(self) -> frozenset[str]:
        """The same as text; no prompt and no completion may hold one."""
        told = self.tokenizer.convert_ids_to_tokens(sorted(self.media_token_ids))
        return frozenset(text for text in (*told, *self._processor_tokens) if text)

    @property
    def _processor_tokens(self) -> list[str]:
        return [
            value
            for name, value in vars(self.processor).items()
            if _MEDIA_TOKEN.search(name) and isinstance(value, str)
        ]

    @cached_property
    def image_side(self) -> int:
        """Pixels an image is worth decoding to: twice the longest side its processor may resize it to."""
        processor = self.processor.image_processor
        sides = [value for value in dict(processor.size).values() if isinstance(value, int)]
        if self.facts.counts_pixels:
            sides = [math.isqrt(value) + 1 for value in sides]
        # LLaVA-NeXT and its heirs cut a picture into tiles of `size`
        sides += [side for grid in getattr(processor, "image_grid_pinpoints", None) or () for side in grid]
        return 2 * max(sides, default=448)

    # ---- text ----

    def prefix(self, prompt: str, num_images: int, num_videos: int = 0, earlier: Rounds = ()) -> str:
        """The conversation up to where the last answer starts, by the processor's own chat template."""
        if earlier:  # whole conversations, of which none comes again: not worth the memory
            return self._chat(prompt, None, num_images, num_videos, earlier)
        key = (prompt, num_images, num_videos)
        if key not in self._prefixes:
            if len(self._prefixes) > 10_000:
                self._prefixes.clear()
            self._prefixes[key] = self._chat(prompt, None, num_images, num_videos)
        return self._prefixes[key]

    def _prefix_of(self, example: Example) -> str:
        return self.prefix(example.prompt, *self.num_placeholders(example), earlier=example.earlier)

    def _chat(
        self,
        prompt: str,
        completion: str | None,
        num_images: int = 0,
        num_videos: int = 0,
        earlier: Rounds = (),
    ) -> str:
        """The media stand in the first round."""
        shown = [{"type": "image"}] * num_images + [{"type": "video"}] * num_videos
        messages: list[dict[str, Any]] = []
        for question, answer in (*earlier, (prompt, completion)):
            messages.append({"role": "user", "content": [*shown, {"type": "text", "text": question}]})
            shown = []
            if answer is not None:
                messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return self.processor.apply_chat_template(
            messages, add_generation_prompt=completion is None, tokenize=False
        )

    @cached_property
    def _opening(self) -> str:
        return self._chat("?", None)

    @cached_property
    def _answered(self) -> str:
        return self._chat("?", _ANSWER)

    @cached_property
    def _around_answer(self) -> tuple[str, str]:
        """What the template writes between its generation prompt and an answer, and behind the answer.

        Some templates write other blanks before an answer given than into their generation prompt
        (LLaVA-OneVision has a blank before the line break only there). An answer then follows the generation
        prompt, which is what the model is to continue.
        """
        shown = [(0, 0), (1, 0), *([(0, 1)] if self.facts.takes_videos else [])]
        found = set()
        for media in shown:
            opening = self._chat("?", None, *media)
            before, _, after = self._chat("?", _ANSWER, *media).partition(_ANSWER)
            if before.startswith(opening):
                found.add((before[len(opening) :], after))
            elif before.split() == opening.split():
                found.add(("", after))
            else:
                found.add(None)
        if None in found or len(found) > 1:
            raise UserError(
                "the chat template writes an answer elsewhere than after its generation prompt",
                where=type(self.processor).__name__,
                remedy="use a processor whose template supports training",
            )
        return found.pop()

    @cached_property
    def _opening_ids(self) -> list[int]:
        return self.tokenizer(self._opening, add_special_tokens=False).input_ids

    def answer_text(self, completion: str) -> str:
        """What the template writes after the prefix for this answer, up to and including the end of the turn.

        Raises:
            UserError: the template does not write an answer after its own generation prompt, or changes it.
        """
        before, after = self._around_answer
        if self._chat("?", completion) != self._answered.replace(_ANSWER, completion):
            raise UserError(
                f"the chat template changes the answer {completion[:40]!r}",
                where=type(self.processor).__name__,
                remedy="take the blanks around it away, or words that command the template",
            )
        return before + completion + after

    def completion_ids(self, completion: str, *, end: bool) -> list[int]:
        """The tokens of an answer as they follow the prefix; `end` adds the end of the turn.

        Tokenized behind the template's own opening, so that the first token is the one the model meets in
        training.
        """
        key = (completion, end)
        if key not in self._ids:
            text = self.answer_text(completion)
            if not end:
                text = self._around_answer[0] + completion if completion else ""
            before = self._opening_ids
            both = self.tokenizer(self._opening + text, add_special_tokens=False).input_ids
            if both[: len(before)] != before:
                raise UserError(
                    f"the answer {completion[:40]!r} merges with the prompt's last token",
                    where=type(self.tokenizer).__name__,
                    remedy="report this model; its template cannot be split",
                )
            if len(self._ids) > 100_000:
                self._ids.clear()
            self._ids[key] = both[len(before) :]
        return self._ids[key]

    def text_ids(self, example: Example) -> list[int]:
        """The tokens of prompt and answer, a token for each media placeholder as the template writes it.

        Behind the last placeholder they are those of `inputs`, which spreads the placeholders out.
        """
        text = self._for_tokenizer(self._prefix_of(example) + self.answer_text(example.completion or ""))
        return self.tokenizer(text, add_special_tokens=self._adds_bos(text)).input_ids

    def prompt_ids(self, example: Example) -> list[int]:
        """The same without an answer: up to where it starts."""
        text = self._for_tokenizer(self._prefix_of(example))
        return self.tokenizer(text, add_special_tokens=self._adds_bos(text)).input_ids

    def _for_tokenizer(self, text: str) -> str:
        for word in self._foreign_tokens:
            text = text.replace(word, self.tokenizer.convert_ids_to_tokens(self.image_token_id))
        return text

    @cached_property
    def _foreign_tokens(self) -> list[str]:
        """Words that only the processor knows, for which it writes tokens."""
        known = self.tokenizer.get_vocab()
        return [word for word in self._processor_tokens if word not in known]

    def num_supervised(self, example: Example) -> int:
        """How many tokens of the example are learned: its answer's and those of the earlier answers.

        Raises:
            UserError: as `inputs` does for earlier answers.
        """
        runs = self._earlier_runs(example)[0] if example.earlier else []
        last = self.completion_ids(example.completion or "", end=True)
        return len(last) + sum(end - start for start, end in runs)

    def _earlier_spans(self, example: Example) -> list[tuple[int, int]]:
        """Where the earlier answers stand in the prefix, each with what the template writes between its
        generation prompt and an answer, and with the end of the turn.
        """
        before, after = self._around_answer
        marks = [_ANSWER.replace("answer", f"answer {number}") for number in range(len(example.earlier))]
        marked = tuple((question, mark) for (question, _), mark in zip(example.earlier, marks, strict=True))
        rest = self.prefix(example.prompt, *self.num_placeholders(example), earlier=marked)
        text, spans = "", []
        for (_, answer), mark in zip(example.earlier, marks, strict=True):
            head, found, rest = rest.partition(mark)
            if not found or not head.endswith(before) or not rest.startswith(after):
                raise UserError(
                    "the chat template writes an earlier answer otherwise than the last one",
                    where=f"{type(self.processor).__name__}, {example.id}",
                    remedy="split the conversation into rows of one round, or use another model",
                )
            text += head
            spans.append((len(text) - len(before), len(text) + len(answer) + len(after)))
            text += answer
        if text + rest != self._prefix_of(example):
            raise UserError(
                "the chat template changes or drops an earlier answer",
                where=f"{type(self.processor).__name__}, {example.id}",
                remedy="take the blanks around it away, or words that command the template",
            )
        return spans

    def _earlier_runs(self, example: Example) -> tuple[list[tuple[int, int]], list[int]]:
        """The tokens of the earlier answers as (start, end), and the row's tokens from the first of them on.

        Places are counted from the row's end, where they hold however the media before them are spread out.
        """
        if not self.tokenizer.is_fast:
            raise UserError(
                "its tokenizer does not tell where tokens stand, so that earlier answers cannot be learned",
                where=type(self.tokenizer).__name__,
                remedy="give single rounds, or a model with a fast tokenizer (tokenizer.json)",
            )
        whole = self._prefix_of(example) + self.answer_text(example.completion or "")
        text = self._for_tokenizer(whole)
        moved = len(text) - len(whole)
        told = self.tokenizer(text, add_special_tokens=self._adds_bos(text), return_offsets_mapping=True)
        ids, places = told.input_ids, told.offset_mapping
        runs = []
        for start, end in self._earlier_spans(example):
            run = _run(text, places, start + moved, end + moved)
            if run is None:
                raise UserError(
                    "a token reaches over the edge of an earlier answer",
                    where=example.id,
                    remedy="split the conversation into rows of one round, or use another model",
                )
            runs.append((run[0] - len(ids), run[1] - len(ids)))
        behind = ids[runs[0][0] :]
        if self.media_token_ids & set(behind):
            raise UserError(
                "media stand behind an answer",
                where=example.id,
                remedy="show the media in the first question; remove placeholders from the text",
            )
        return runs, behind

    def _adds_bos(self, text: str) -> bool:
        """Whether the tokenizer is to write the beginning of the text, because the template does not."""
        bos = self.tokenizer.bos_token
        return not (bos and text.startswith(bos))

    def num_images(self, example: Example) -> int:
        """How many pictures the example shows, a video's frames counted."""
        if example.media is None:
            return 0
        return 1 if example.media.kind == "image" else len(example.media.times_s)

    def num_tokens(self, example: Example) -> tuple[int, int]:
        """How many tokens of words and of media stand in the row that `inputs` makes of an example and its
        answer, if it has one. No media are decoded: the sizes of pictures, which stand at the beginning of
        their files, and where FACTS says so the times of frames tell.

        Each size met is counted once, on blank pictures of it, by the processor itself. Where the processor
        or its image processor has a formula for pictures, that is taken once it has agreed with so many
        counts as _AGREED, and never after it has not.

        Raises:
            MediaFault: the example's media is gone or broken.
        """
        if example.earlier:
            words = len(self.text_ids(example))
        else:  # the answer has been tokenized before (`num_supervised`); `inputs` makes sure it ends the row
            text = self._for_tokenizer(self._prefix_of(example))
            words = len(self.tokenizer(text, add_special_tokens=self._adds_bos(text)).input_ids)
            if example.completion is not None:
                words += len(self.completion_ids(example.completion, end=True))
        if example.media is None:
            return words, 0
        return words - sum(self.num_placeholders(example)), self._num_media_tokens(example.media)

    def _num_media_tokens(self, media: Media) -> int:
        sizes, times_s = self.store.sizes(media, side=self.image_side), media.times_s
        key = (media.kind, sizes, times_s if self.facts.writes_times else None)
        if key not in self._spread:
            if len(self._spread) > 100_000:
                self._spread.clear()
            self._spread[key] = self._count_media_tokens(media, sizes)
        return self._spread[key]

    def _count_media_tokens(self, media: Media, sizes: tuple[tuple[int, int], ...]) -> int:
        is_video = bool(self.num_placeholders(Example("", "", None, media))[1])
        agreed = -1 if is_video else self._agreed.setdefault(len(sizes), 0)
        told, forms = (None, None) if agreed < 0 else self._formula(sizes)
        if told is not None and agreed == _AGREED:
            return told
        example = Example("", "?", None, media)
        text = self._for_tokenizer(self._prefix_of(example))
        bare = self.tokenizer(text, add_special_tokens=self._adds_bos(text)).input_ids
        blank = [Image.new("RGB", size) for size in sizes]
        whole = self._processed([example], [self._prefix_of(example)], "left", [blank])["input_ids"].shape[1]
        counted = whole - len(bare) + sum(self.num_placeholders(example))
        if told is not None:
            self._agreed[len(sizes)] = agreed + 1 if told == counted else -1
        elif forms is not None:
            self._spread[forms] = counted
        return counted

    def _formula(self, sizes: tuple[tuple[int, int], ...]) -> tuple[int | None, Any]:
        """What the processor says that pictures of these sizes come to, None where it does not say; else the
        rows and columns they are cut into where the image processor tells them, by which sizes are alike.
        """
        places = [(height, width) for width, height in sizes]
        if hasattr(self.processor, "_get_num_multimodal_tokens"):
            try:
                told = self.processor._get_num_multimodal_tokens(image_sizes=places)
            except TypeError:  # LLaVA's wants a crop size, which the image processor of SigLIP lacks
                return None, None
            return sum(told["num_image_tokens"]), None
        cut = getattr(self.processor.image_processor, "get_number_of_image_patches", None)
        forms = None if cut is None else tuple(cut(*place, {}) for place in places)
        if forms is None or not all(isinstance(form, tuple) for form in forms):
            return None, None
        return self._spread.get(forms), forms

    def num_placeholders(self, example: Example) -> tuple[int, int]:
        """How many images and how many videos the example's text announces."""
        if self.facts.takes_videos and example.media is not None and example.media.kind == "video":
            return 0, 1
        return self.num_images(example), 0

    # ---- tensors ----

    def pixels(self, media: Sequence[Media]) -> torch.Tensor:
        """What the vision tower is shown of images and videos: pixel_values, an entry a picture, on the CPU.

        Raises:
            MediaFault: a file is gone or broken.
            UserError: the processor does not make one square of every picture.
        """
        pictures = [picture for item in media for picture in self.store.frames(item, side=self.image_side)]
        found = self.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
        if found.ndim != 4 or len(found) != len(pictures):
            raise UserError(
                f"the vision tower of {self.network.config.model_type} is not shown one square a picture "
                f"(pixel_values {list(found.shape)} of {len(pictures)})",
                remedy="use a model of LLaVA-1.5's form here",
            )
        return found

    def inputs(self, examples: Sequence[Example], *, supervise: bool) -> dict[str, torch.Tensor]:
        """Model inputs for a batch, on the CPU: all tensors the processor makes.

        With `supervise`, completions are included, padding is on the right and `labels` [B, T] holds the
        tokens of the completion and of the earlier answers, IGNORED elsewhere. Without, the conversation up
        to the last answer, padding on the left.

        Raises:
            MediaFault: an example's media is gone or broken.
            UserError: a row holds a media placeholder in its text, has no supervised token, or its tokens are
                not those of the template; the template writes earlier answers otherwise than the last, or a
                token reaches over their edge; the processor refuses a picture's form.
        """
        texts = []
        for example in examples:
            self._refuse_placeholders(example, supervise=supervise)
            text = self._prefix_of(example)
            if supervise:
                assert example.completion is not None
                text += self.answer_text(example.completion)
            texts.append(text)
        if self.facts.equal_frames:
            self._refuse_unequal(examples)
        side = "right" if supervise else "left"
        if self.facts.rows_apart and len(examples) > 1:
            rows = [
                self._processed([example], [text], side)
                for example, text in zip(examples, texts, strict=True)
            ]
            batch = join(rows, padding_side=side, pad_token_id=self.tokenizer.pad_token_id)
        else:
            batch = self._processed(examples, texts, side)
        if supervise:
            batch["labels"] = self._labels(examples, batch)
        return batch

    def positions(self, batch: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """Position ids of a batch of `inputs` where the architecture counts pictures otherwise than words.

        Returns:
            [3, B, T] for Qwen-VL (time, height, width); None where every token counts one.
        """
        count = getattr(self.network.model, "get_rope_index", None)
        if count is None or "mm_token_type_ids" not in batch:
            return None
        known = inspect.signature(count).parameters
        return count(**{name: value for name, value in batch.items() if name in known})[0]

    def _processed(
        self,
        examples: Sequence[Example],
        texts: list[str],
        side: str,
        shown: Sequence[list[Image.Image]] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Args: shown: the pictures of each example, which all have media; None takes them from the store."""
        images: list[Image.Image] = []
        videos: list[list[Image.Image]] = []
        times: list[VideoMetadata] = []
        for number, example in enumerate(examples):
            if example.media is None:
                continue
            pictures = (
                self.store.frames(example.media, side=self.image_side) if shown is None else shown[number]
            )
            if self.num_placeholders(example)[1]:
                missing = max(0, self.facts.min_frames - len(pictures))
                videos.append(pictures + pictures[-1:] * missing)
                times_s = example.media.times_s
                times.append(_metadata(times_s + times_s[-1:] * missing, pictures[0]))
            else:
                images += pictures
        settings: dict[str, Any] = {"videos": videos} if videos else {}
        if videos and hasattr(self.processor, "video_processor"):
            settings |= {"video_metadata": times, "do_sample_frames": False}
        try:
            batch = self.processor(
                text=texts,
                images=images or None,
                padding=True,
                padding_side=side,
                return_tensors="pt",
                add_special_tokens=self._adds_bos(texts[0]),
                **settings,
            )
        except ValueError as error:
            raise UserError(
                f"the processor refuses it ({str(error).splitlines()[0].rstrip('.')})",
                where=", ".join(example.id for example in examples),
                remedy="look at its media, or use another model",
            ) from error
        return {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}

    def _refuse_placeholders(self, example: Example, *, supervise: bool) -> None:
        """The processor would take it for a picture, and every later picture would move by one."""
        text = example.prompt + "\n" + (example.completion or "" if supervise else "")
        text += "".join(f"\n{question}\n{answer}" for question, answer in example.earlier)
        for token in self.media_tokens:
            if token in text:
                raise UserError(
                    f"holds the media placeholder {token} in its text",
                    where=example.id,
                    remedy="remove it; media are placed by the template",
                )

    def _refuse_unequal(self, examples: Sequence[Example]) -> None:
        frames = {
            example.id: len(example.media.times_s)
            for example in examples
            if example.media is not None and example.media.kind == "video"
        }
        if len(set(frames.values())) > 1:
            told = ", ".join(f"{id} has {count}" for id, count in frames.items())
            raise UserError(
                f"{self.network.config.model_type} takes videos of equally many frames in a batch; {told}",
                remedy="show every video by the same number of frames, or make batches of 1",
            )

    def _labels(self, examples: Sequence[Example], batch: dict[str, torch.Tensor]) -> torch.Tensor:
        ids = batch["input_ids"]
        labels = torch.full_like(ids, IGNORED)
        lengths = batch["attention_mask"].sum(1).tolist()
        for row, (example, length) in enumerate(zip(examples, lengths, strict=True)):
            assert example.completion is not None
            answer = torch.tensor(self.completion_ids(example.completion, end=True))
            if not torch.equal(ids[row, length - len(answer) : length], answer):
                raise UserError(
                    "the row's tokens are not those of its template",
                    where=example.id,
                    remedy="report this model and row",
                )
            labels[row, length - len(answer) : length] = answer
            if example.earlier:
                self._label_earlier(example, ids[row, :length], labels[row, :length])
        if torch.isin(labels, torch.tensor(sorted(self.media_token_ids))).any():
            raise UserError(
                "a media token would be supervised",
                where=examples[0].id,
                remedy="remove the image placeholder from the text",
            )
        return labels

    def _label_earlier(self, example: Example, ids: torch.Tensor, labels: torch.Tensor) -> None:
        runs, behind = self._earlier_runs(example)
        if ids[len(ids) - len(behind) :].tolist() != behind:
            raise UserError(
                "the row's tokens are not those of its template",
                where=example.id,
                remedy="report this model and row",
            )
        for start, end in runs:
            labels[len(ids) + start : len(ids) + end] = ids[len(ids) + start : len(ids) + end]

    # ---- generation ----

    @torch.inference_mode()
    def generate(
        self,
        examples: Sequence[Example],
        *,
        max_new_tokens: int,
        seed: int | None = None,
        temperature: float = 0.0,
    ) -> list[str]:
        """One answer an example, without the prompt and special tokens; greedy unless `temperature` > 0.

        What a checkpoint's generation config says of sampling and of penalties does not count: models are
        compared, and a penalty on tokens that occurred would see the padding.
        """
        if seed is not None:
            torch.manual_seed(seed)
        batch = {key: value.to(self.device) for key, value in self.inputs(examples, supervise=False).items()}
        ids = self.network.generate(**batch, **self.decoding(max_new_tokens, temperature))
        return [
            text.strip()
            for text in self.tokenizer.batch_decode(
                ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
            )
        ]

    def decoding(self, max_new_tokens: int, temperature: float = 0.0) -> dict[str, Any]:
        """How tokens are chosen, as the network's own `generate` takes it; see `generate`."""
        sampling: dict[str, Any] = (
            {"do_sample": True, "temperature": temperature, "top_k": 50, "top_p": 1.0}
            if temperature > 0
            else {"do_sample": False}
        )
        return {
            "max_new_tokens": max_new_tokens,
            "pad_token_id": self.tokenizer.pad_token_id,
            "repetition_penalty": 1.0,
            **sampling,
        }

    def without_weights(self) -> VisionLanguageModel:
        """The same model without values in its weights, for a process that only makes inputs: it can be sent
        there, and takes no memory.
        """
        with torch.device("meta"):
            network = type(self.network)._from_config(
                copy.deepcopy(self.network.config), dtype=self.network.dtype
            )
        return VisionLanguageModel(network, self.processor, self.store)

    def save(self, folder: Path) -> None:
        """Weights as safetensors and the processor, as save_pretrained writes them."""
        self.network.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def _run(text: str, places: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """The tokens of text[start:end], as (first, behind the last), by the places where they stand in the text.

    A token that holds the blanks at the end and begins what follows is not among them.

    Returns:
        None where another token reaches over an edge, or there is none within.
    """
    touched = [number for number, (left, right) in enumerate(places) if left < end and start < right]
    if touched and places[touched[-1]][1] > end and text[places[touched[-1]][0] : end].isspace():
        touched.pop()
    if not touched or places[touched[0]][0] < start or places[touched[-1]][1] > end:
        return None
    return touched[0], touched[-1] + 1


def _metadata(times_s: Sequence[float], picture: Image.Image) -> VideoMetadata:
    """When the frames are shown, as processors of videos want to be told.

    They know frame numbers and a rate; ours are irregular, so the numbers count milliseconds. The length is
    chosen so that the mean rate of the frames comes out (VideoMetadata.sampled_fps, by which Qwen2.5-VL
    places them); the video's own length is not known here.
    """
    ticks = [round(_TICKS_PER_S * time_s) for time_s in times_s]
    span = ticks[-1] - ticks[0]
    # a single frame has no rate, and none is looked at
    step = span / (len(ticks) - 1) if span else _TICKS_PER_S
    return VideoMetadata(
        total_num_frames=round(step * len(ticks)),
        fps=_TICKS_PER_S,
        width=picture.width,
        height=picture.height,
        frames_indices=ticks,
    )


def join(
    rows: Sequence[dict[str, torch.Tensor]], *, padding_side: str, pad_token_id: int
) -> dict[str, torch.Tensor]:
    """Batches of one row as one batch: text padded on its side, all else behind its end, with zeros."""
    size = max(row["input_ids"].shape[1] for row in rows)
    joined = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        have = [
            (number, row[key][0], row["input_ids"].shape[1]) for number, row in enumerate(rows) if key in row
        ]
        first, length = have[0][1], have[0][2]
        if is_text := first.ndim == 1 and len(first) == length:
            shape = [size]
        else:
            shape = [max(sizes) for sizes in zip(*(value.shape for _, value, _ in have), strict=True)]
        filler = pad_token_id if key == "input_ids" else 0
        joined[key] = torch.full((len(rows), *shape), filler, dtype=first.dtype)
        for number, value, _ in have:
            left = size - len(value) if is_text and padding_side == "left" else 0
            place = (number, *(slice(left, left + extent) for extent in value.shape[:1]))
            rest = tuple(slice(extent) for extent in value.shape[1:])
            joined[key][(*place, *rest)] = value
    return joined
