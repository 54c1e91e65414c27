"""Any image-text-to-text model of transformers, behind the few calls the rest of the project makes.

An `Example` goes in; token ids, pixels, labels or text come out, through the model's own processor and chat
template. A video is shown as its frames, as several images. Nothing here knows a task, a behaviour or an arm.

    B examples in a batch · T tokens · K labels
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media

log = logging.getLogger(__name__)

IGNORED = -100
"""The label of a token that is not supervised (torch.nn.CrossEntropyLoss, ignore_index)."""


def pick_device(name: str) -> torch.device:
    """The device of a name: "auto", "cpu", "cuda" or "cuda:1".

    Raises:
        UserError: a GPU is asked for where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"device {name!r} asked for, but torch sees no GPU here",
            where="device",
            remedy="set device: cpu or device: auto",
        )
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


def check(name: str) -> None:
    """Refuses what `load` would refuse, without reading weights.

    Raises:
        UserError: no such model, no processor, or a folder without weights.
    """
    try:
        AutoConfig.from_pretrained(name)
        AutoProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _not_a_model(name, error) from error
    if Path(name).is_dir() and not any(Path(name).glob("*.safetensors")):
        raise UserError(
            "holds no safetensors weights",
            where=name,
            remedy="give a model folder or the name of one on the hub",
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
        UserError: no such model, weights missing or left over, or a GPU asked for where there is none.
    """
    place = pick_device(device)
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    try:
        processor = AutoProcessor.from_pretrained(name)
        loaded: Any = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, output_loading_info=True)
        network, info = loaded
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_a_model(name, error) from error
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
    _prefixes: dict[tuple[str, int], str] = field(default_factory=dict)

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.network.device

    @property
    def image_token_id(self) -> int:
        """The token that stands for visual features; never supervised."""
        return int(self.network.config.image_token_id)

    @cached_property
    def image_side(self) -> int:
        """Pixels an image is worth decoding to: twice what the processor resizes to."""
        size = self.processor.image_processor.size
        sides = [value for value in dict(size).values() if isinstance(value, int)]
        return 2 * max(sides, default=448)

    # ---- text ----

    def prefix(self, prompt: str, num_images: int) -> str:
        """The conversation up to where the answer starts, by the processor's own chat template."""
        key = (prompt, num_images)
        if key not in self._prefixes:
            if len(self._prefixes) > 10_000:
                self._prefixes.clear()
            self._prefixes[key] = self._chat(prompt, None, num_images)
        return self._prefixes[key]

    def _chat(self, prompt: str, completion: str | None, num_images: int) -> str:
        content = [{"type": "image"}] * num_images + [{"type": "text", "text": prompt}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if completion is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": completion}]})
        return self.processor.apply_chat_template(
            messages, add_generation_prompt=completion is None, tokenize=False
        )

    @cached_property
    def _opening(self) -> str:
        return self._chat("?", None, 0)

    @cached_property
    def _opening_ids(self) -> list[int]:
        return self.tokenizer(self._opening, add_special_tokens=False).input_ids

    def answer_text(self, completion: str) -> str:
        """What the template writes after the prefix for this answer, up to and including the end of the turn.

        Raises:
            UserError: the template does not write an answer after its own generation prompt.
        """
        opening, whole = self._opening, self._chat("?", completion, 0)
        if not whole.startswith(opening):
            raise UserError(
                "the chat template writes an answer elsewhere than after its generation prompt",
                where=type(self.processor).__name__,
                remedy="use a processor whose template supports training",
            )
        return whole[len(opening) :]

    def completion_ids(self, completion: str, *, end: bool) -> list[int]:
        """The tokens of an answer as they follow the prefix; `end` adds the end of the turn.

        Tokenized behind the template's own opening, so that the first token is the one the model meets in
        training.
        """
        key = (completion, end)
        if key not in self._ids:
            opening = self._opening
            text = self.answer_text(completion)
            if not end:
                text = text[: text.index(completion) + len(completion)]
            before = self._opening_ids
            both = self.tokenizer(opening + text, add_special_tokens=False).input_ids
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

    def num_images(self, example: Example) -> int:
        """How many pictures the example shows."""
        if example.media is None:
            return 0
        return 1 if example.media.kind == "image" else len(example.media.times_s)

    # ---- tensors ----

    def pixels(self, media: Sequence[Media]) -> torch.Tensor:
        """What the vision tower is shown of images and videos: pixel_values, an entry a picture, on the CPU.

        Raises:
            MediaFault: a file is gone or broken.
        """
        pictures = [picture for item in media for picture in self.store.frames(item, side=self.image_side)]
        return self.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]

    def inputs(self, examples: Sequence[Example], *, supervise: bool) -> dict[str, torch.Tensor]:
        """Model inputs for a batch, on the CPU.

        With `supervise`, completions are included, padding is on the right and `labels` [B, T] holds the
        completion's tokens, IGNORED elsewhere. Without, only prompts, padding on the left.

        Raises:
            MediaFault: an example's media is gone or broken.
            UserError: a row has no supervised token or its tokens are not those of the template.
        """
        pictures: list[Image.Image] = []
        texts = []
        for example in examples:
            if example.media is not None:
                pictures += self.store.frames(example.media, side=self.image_side)
            text = self.prefix(example.prompt, self.num_images(example))
            if supervise:
                assert example.completion is not None
                text += self.answer_text(example.completion)
            texts.append(text)
        bos = self.tokenizer.bos_token
        batch = self.processor(
            text=texts,
            images=pictures or None,
            padding=True,
            padding_side="right" if supervise else "left",
            return_tensors="pt",
            add_special_tokens=not (bos and texts[0].startswith(bos)),
        )
        batch = {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}
        if supervise:
            batch["labels"] = self._labels(examples, batch)
        return batch

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
        if (labels == self.image_token_id).any():
            raise UserError(
                "a media token would be supervised",
                where=examples[0].id,
                remedy="remove the image placeholder from the text",
            )
        return labels

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
        """One answer an example, without the prompt and special tokens; greedy unless `temperature` > 0."""
        if seed is not None:
            torch.manual_seed(seed)
        batch = {key: value.to(self.device) for key, value in self.inputs(examples, supervise=False).items()}
        sampling = (
            {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        )
        ids = self.network.generate(
            **batch, max_new_tokens=max_new_tokens, pad_token_id=self.tokenizer.pad_token_id, **sampling
        )
        return [
            text.strip()
            for text in self.tokenizer.batch_decode(
                ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
            )
        ]

    def save(self, folder: Path) -> None:
        """Weights as safetensors and the processor, as save_pretrained writes them."""
        self.network.save_pretrained(folder)
        self.processor.save_pretrained(folder)
