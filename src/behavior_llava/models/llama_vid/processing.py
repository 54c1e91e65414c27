"""LLaMA-VID's processor: texts with placeholders, stills, videos and questions in; the model's inputs out.

One row of `num_frames`, `first_frame` and the `qformer_*` inputs is one INSERTION: a medium shown for one
question. Called through AutoProcessor, as transformers' own; `processor_from_original` is for the conversion.
    B texts · T tokens · I insertions · F frames of all media · S pixels a side · L word pieces of a question
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_utils import load_image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from behavior_llava.core.errors import UserError
from behavior_llava.models.llama_vid.conversation import (
    CHAT_TEMPLATE,
    IMAGE,
    VIDEO,
    Dialogue,
    Span,
    questions_of,
)
from behavior_llava.models.llama_vid.tokenizers import (
    MAX_QUESTION_TOKENS,
    language_tokenizer,
    question_tokenizer,
    tokenize_pieces,
)

IGNORED = -100
"""The label of a token that is not supervised (torch.nn.CrossEntropyLoss, ignore_index)."""

_PLACEHOLDER = re.compile(f"{IMAGE}|{VIDEO}")


def processor_from_original(
    llm_tokenizer: Path,
    qformer_tokenizer: Path,
    *,
    image_size: int,
    image_aspect_ratio: str,
    num_tokens_per_frame: int,
    image_token_id: int,
) -> LlamaVidProcessor:
    """The processor of a published checkpoint.

    Args:
        llm_tokenizer: a folder with tokenizer.model or tokenizer.json, and tokenizer_config.json.
        qformer_tokenizer: a folder with the vocab.txt of bert-base-uncased.
        image_size: pixels a side.
        image_aspect_ratio: "pad" (stills become squares on a plain ground) or "square" (cropped).
        num_tokens_per_frame: one context token and the content tokens.
        image_token_id: the number of the language model's own tokens, since "<image>" is added to them.

    Raises:
        UserError: a folder is not a tokenizer's, or does not fit the model.
    """
    if image_aspect_ratio not in ("pad", "square"):
        raise UserError(
            f"image_aspect_ratio {image_aspect_ratio!r}", remedy='LLaMA-VID knows "pad" and "square"'
        )
    return LlamaVidProcessor(
        CLIPImageProcessorPil(
            size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
        ),
        language_tokenizer(llm_tokenizer, image_token_id=image_token_id),
        question_tokenizer(qformer_tokenizer),
        num_tokens_per_frame=num_tokens_per_frame,
        image_aspect_ratio=image_aspect_ratio,
    )


@dataclass
class _Shown:
    """The media of a batch, each kept once, and the insertions that show them."""

    pictures: list[Image.Image] = field(default_factory=list)
    first_frame: list[int] = field(default_factory=list)
    num_frames: list[int] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    places: dict[int, tuple[int, int]] = field(default_factory=dict)


class LlamaVidProcessor(ProcessorMixin):
    """CLIP's picture preprocessing, the language model's and the Q-Former's tokenizer.

    Args:
        image_processor: CLIP's. Its settings are kept, but it resizes with PIL: torchvision's bicubic, which
            AutoImageProcessor loads whatever was saved, gives other pixels (by 0.015, one step of 255).
        num_tokens_per_frame: how many "<image>" tokens stand for a frame.
        image_aspect_ratio: "pad" makes stills squares, "square" crops them. Video frames are always cropped.
        chat_template: the text of training where none is given.
    """

    qformer_tokenizer: Any

    def __init__(
        self,
        image_processor: Any,
        tokenizer: Any,
        qformer_tokenizer: Any,
        num_tokens_per_frame: int = 2,
        image_aspect_ratio: str = "pad",
        chat_template: str | None = None,
    ) -> None:
        if image_aspect_ratio not in ("pad", "square"):
            raise ValueError(f'image_aspect_ratio is "pad" or "square", not {image_aspect_ratio!r}')
        if num_tokens_per_frame < 2:
            raise ValueError("a frame has a context token and at least one content token")
        if IMAGE not in tokenizer.get_added_vocab():
            raise ValueError(f'the tokenizer has no token "{IMAGE}"')
        self.num_tokens_per_frame = num_tokens_per_frame
        self.image_aspect_ratio = image_aspect_ratio
        self.image_token = IMAGE
        self.video_token = VIDEO
        self.image_token_id: int = tokenizer.convert_tokens_to_ids(IMAGE)
        if not isinstance(image_processor, CLIPImageProcessorPil):
            image_processor = CLIPImageProcessorPil.from_dict(image_processor.to_dict())
        super().__init__(
            image_processor, tokenizer, qformer_tokenizer, chat_template=chat_template or CHAT_TEMPLATE
        )

    @property
    def model_input_names(self) -> list[str]:
        """All names `__call__` may give the model."""
        return [
            "input_ids",
            "attention_mask",
            "pixel_values",
            "frame_features",
            "num_frames",
            "first_frame",
            "qformer_input_ids",
            "qformer_attention_mask",
        ]

    def __call__(  # noqa: PLR0913 - transformers passes every input by its name  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        images: Any = None,
        text: str | Dialogue | Sequence[str] | Sequence[Dialogue] | None = None,
        videos: Any = None,
        audio: None = None,
        *,
        frame_features: Sequence[torch.Tensor | None] | None = None,
        features_have_cls: bool = False,
        qformer_prompts: Sequence[Sequence[str]] | None = None,
        padding: bool | Literal["longest"] = False,
        padding_side: Literal["left", "right"] | None = None,
        add_special_tokens: bool = True,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Model inputs of a batch of texts.

        Each "<image>" in a text shows the next still, each "<video>" the next video. Where the same object is
        given for several placeholders (rounds about one medium) its frames are in pixel_values once. Nothing
        is ever cut off.

        Args:
            images: stills (PIL, uint8 HWC arrays, paths) in the order of the placeholders, for all texts in
                one list or a list for every text.
            text: texts of the chat template; or Dialogues, which bring their questions, and `labels` with it.
            videos: as `images`, each a sequence of frames (PIL, or a uint8 array THWC).
            audio: not taken.
            frame_features: instead of pixels, the tower's output [T, N, D] of one movie for every text with
                placeholders, None for the others; the text has `num_tokens_per_frame` placeholders a frame.
            features_have_cls: leave the first of the N tokens out.
            qformer_prompts: for every text the question of each placeholder (of the movie). Where they are
                left out, they are the user's words in the turn where the placeholder stands.

        Returns:
            input_ids and attention_mask [B, T]; with media pixel_values [F, 3, S, S] or frame_features
            [F, N, D], num_frames and first_frame [I], qformer_input_ids and qformer_attention_mask [I, L].

        Raises:
            ValueError: media, placeholders and questions do not go together.
        """
        if audio is not None:
            raise ValueError("LLaMA-VID hears nothing: leave audio out")
        texts, spans, prompts = _unpacked(text, qformer_prompts)
        if frame_features is not None:
            if images is not None or videos is not None:
                raise ValueError("give pixels or frame_features, not both")
            shown = self._movies(texts, frame_features, prompts)
            repeats = [[1] * one.count(IMAGE) for one in texts]
        else:
            shown, repeats = self._shown(texts, images, videos, prompts)
        rows = []
        labels: list[list[int]] = []
        for one, spanned, counts in zip(texts, spans or [None] * len(texts), repeats, strict=True):
            # of equal length, so that the spans still hold
            ids, places = tokenize_pieces(
                one.replace(VIDEO, IMAGE),
                self.tokenizer,
                image_token_id=self.image_token_id,
                with_bos=add_special_tokens,
            )
            rows.append(self._expanded(ids, ids, counts))
            if spanned is not None:
                labels.append(self._expanded(ids, _labels(ids, places, spanned), counts))
        data: dict[str, Any] = _padded(
            rows,
            labels if spans else None,
            pad_token_id=self.tokenizer.pad_token_id,
            side=(padding_side or self.tokenizer.padding_side) if padding else None,
        )
        if shown.prompts:
            data |= self._media(shown, frame_features, features_have_cls=features_have_cls)
        return BatchFeature(data, tensor_type=return_tensors)

    def questions(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """qformer_input_ids and qformer_attention_mask [I, L] of questions."""
        encoded = self.qformer_tokenizer(
            list(prompts),
            padding="longest",
            truncation=True,
            max_length=MAX_QUESTION_TOKENS,
            return_tensors="pt",
        )
        return {
            "qformer_input_ids": encoded["input_ids"],
            "qformer_attention_mask": encoded["attention_mask"],
        }

    def still(self, picture: Any) -> Image.Image:
        """A still before it is resized: on a plain square where the setting says so."""
        image = _picture(picture)
        if self.image_aspect_ratio == "square":
            return image
        side = max(image.size)
        ground = tuple(int(255 * mean) for mean in self.image_processor.image_mean)
        square = Image.new("RGB", (side, side), ground)
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return square

    # ---- media ----

    def _shown(
        self, texts: list[str], images: Any, videos: Any, prompts: list[list[str] | None]
    ) -> tuple[_Shown, list[list[int]]]:
        """The media in the order of the placeholders, and for each placeholder how many tokens it becomes."""
        stills = _by_text(_nested_stills(images), [one.count(IMAGE) for one in texts], IMAGE)
        clips = _by_text(_nested_videos(videos), [one.count(VIDEO) for one in texts], VIDEO)
        shown = _Shown()
        repeats = []
        for number, (one, given) in enumerate(zip(texts, prompts, strict=True)):
            waiting = {IMAGE: iter(stills[number]), VIDEO: iter(clips[number])}
            counts = []
            for placeholder in _PLACEHOLDER.findall(one):
                medium = next(waiting[placeholder])
                if id(medium) not in shown.places:
                    frames = [self.still(medium)] if placeholder == IMAGE else _frames(medium)
                    shown.places[id(medium)] = (len(shown.pictures), len(frames))
                    shown.pictures += frames
                first, length = shown.places[id(medium)]
                shown.first_frame.append(first)
                shown.num_frames.append(length)
                counts.append(length * self.num_tokens_per_frame)
            repeats.append(counts)
            shown.prompts += _asked(one, given, len(counts), number)
        return shown, repeats

    def _movies(
        self,
        texts: list[str],
        features: Sequence[torch.Tensor | None],
        prompts: list[list[str] | None],
    ) -> _Shown:
        if len(features) != len(texts):
            raise ValueError(
                f"{len(features)} frame_features for {len(texts)} texts: give one or None for each"
            )
        shown = _Shown()
        start = 0
        for number, (one, movie, given) in enumerate(zip(texts, features, prompts, strict=True)):
            length = 0 if movie is None else len(movie)
            if VIDEO in one or one.count(IMAGE) != length * self.num_tokens_per_frame:
                raise ValueError(
                    f"text {number}: {one.count(IMAGE)} placeholders for {length} frames, "
                    f"{self.num_tokens_per_frame} expected a frame"
                )
            if movie is None:
                continue
            if given is None:
                raise ValueError(f"text {number}: a movie's question cannot be read: give qformer_prompts")
            shown.prompts += _asked(one, given, 1, number)
            shown.first_frame.append(start)
            shown.num_frames.append(length)
            start += length
        return shown

    def _media(
        self, shown: _Shown, features: Sequence[torch.Tensor | None] | None, *, features_have_cls: bool
    ) -> dict[str, Any]:
        media: dict[str, Any] = {}
        if features is not None:
            every = torch.cat([movie for movie in features if movie is not None])
            media["frame_features"] = every[:, 1:] if features_have_cls else every
        else:
            media["pixel_values"] = self.image_processor(shown.pictures, return_tensors="pt")["pixel_values"]
        media["num_frames"] = torch.tensor(shown.num_frames)
        media["first_frame"] = torch.tensor(shown.first_frame)
        return media | self.questions(shown.prompts)

    def _expanded(self, ids: list[int], values: list[int], counts: list[int]) -> list[int]:
        """`values`, each as often as its token stands in the model's input."""
        numbers = iter(counts)
        expanded = []
        for token, value in zip(ids, values, strict=True):
            expanded += [value] * next(numbers) if token == self.image_token_id else [value]
        return expanded


def _unpacked(
    text: Any, qformer_prompts: Sequence[Sequence[str]] | None
) -> tuple[list[str], list[tuple[Span, ...]], list[list[str] | None]]:
    """Texts, the supervised places of all (or none), and the questions that are given for each."""
    rows: list[Any] = [text] if isinstance(text, str | Dialogue) else list(text or ())
    dialogues = [one for one in rows if isinstance(one, Dialogue)]
    if not rows or (dialogues and len(dialogues) != len(rows)):
        raise ValueError("text: give texts, or Dialogues, at least one")
    if qformer_prompts is not None:
        if dialogues:
            raise ValueError("qformer_prompts: Dialogues bring their own")
        if isinstance(qformer_prompts, str) or any(isinstance(one, str) for one in qformer_prompts):
            raise ValueError("qformer_prompts: give a list of questions for every text")
        if len(qformer_prompts) != len(rows):
            raise ValueError(f"{len(qformer_prompts)} lists of qformer_prompts for {len(rows)} texts")
        return rows, [], [list(one) for one in qformer_prompts]
    if not dialogues:
        return rows, [], [None] * len(rows)
    is_answered = {bool(one.supervised) for one in dialogues}
    if len(is_answered) > 1:
        raise ValueError("text: Dialogues with and without answers in one batch")
    return (
        [one.text for one in dialogues],
        [one.supervised for one in dialogues] if is_answered == {True} else [],
        [list(one.qformer_prompts) for one in dialogues],
    )


def _asked(text: str, given: list[str] | None, expected: int, number: int) -> list[str]:
    if given is not None:
        if len(given) != expected:
            raise ValueError(f"text {number}: {len(given)} qformer_prompts for {expected} placeholders")
        return given
    return questions_of(text) if expected else []


def _labels(ids: list[int], places: list[Span], supervised: tuple[Span, ...]) -> list[int]:
    labels = []
    for token, (start, end) in zip(ids, places, strict=True):
        touched = [span for span in supervised if start < span[1] and span[0] < end]
        if touched and (start < touched[0][0] or touched[0][1] < end):
            raise ValueError(f"a token at character {start} reaches over the edge of an answer")
        labels.append(token if touched else IGNORED)
    return labels


def _padded(
    rows: list[list[int]], labels: list[list[int]] | None, *, pad_token_id: int, side: str | None
) -> dict[str, Any]:
    """Rows of one length; the mask comes from lengths, since a text may hold the padding token itself."""
    width = max(map(len, rows)) if side else 0

    def filled(row: list[int], filler: int) -> list[int]:
        rest = [filler] * (width - len(row))
        return rest + row if side == "left" else row + rest

    batch = {
        "input_ids": [filled(row, pad_token_id) for row in rows],
        "attention_mask": [filled([1] * len(row), 0) for row in rows],
    }
    if labels is not None:
        batch["labels"] = [filled(row, IGNORED) for row in labels]
    return batch


# ---- media as they are given -------------------------------------------------------------------------------


def _picture(picture: Any) -> Image.Image:
    if isinstance(picture, str | Path):
        return load_image(str(picture)).convert("RGB")
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"a picture is PIL, a path, or uint8 HWC, not {array.dtype} {array.shape}")
    return Image.fromarray(array)


def _frames(video: Any) -> list[Image.Image]:
    frames = [_picture(frame) for frame in video]
    if not frames:
        raise ValueError("a video without frames")
    return frames


def _is_listed(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _nested_stills(images: Any) -> tuple[list[Any], bool]:
    """Stills, and whether they come in a list for every text."""
    if images is None:
        return [], False
    stills = list(images) if _is_listed(images) else [images]
    return stills, any(map(_is_listed, stills))


def _nested_videos(videos: Any) -> tuple[list[Any], bool]:
    """Videos, and whether they come in a list for every text."""
    if videos is None:
        return [], False
    if not _is_listed(videos) or not all(_is_listed(one) or np.ndim(one) == 4 for one in videos):
        raise ValueError("videos: give a list of videos, each a list of frames or an array THWC")
    is_nested = any(_is_listed(one) and (not one or _is_listed(one[0]) or _is_clip(one[0])) for one in videos)
    return list(videos), is_nested


def _is_clip(value: Any) -> bool:
    return not isinstance(value, Image.Image | str | Path) and np.ndim(value) == 4


def _by_text(given: tuple[list[Any], bool], counts: list[int], placeholder: str) -> list[list[Any]]:
    """For every text the media its placeholders show."""
    media, is_nested = given
    if is_nested:
        if not all(map(_is_listed, media)) or [len(one) for one in media] != counts:
            raise ValueError(
                f'"{placeholder}" stands {counts} times in the texts, but the media given for them are '
                f"{[len(one) if _is_listed(one) else 'not a list' for one in media]}"
            )
        return [list(one) for one in media]
    if len(media) != sum(counts):
        raise ValueError(f'"{placeholder}" stands {sum(counts)} times in the texts, {len(media)} media given')
    waiting = iter(media)
    return [[next(waiting) for _ in range(count)] for count in counts]
