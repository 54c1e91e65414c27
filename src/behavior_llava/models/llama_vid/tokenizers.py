"""LLaMA-VID's two tokenizers: folders as they were published go in, tokenizers that survive saving come out.

The language model's is a SentencePiece model that begins every piece of text between placeholders anew; the
Q-Former's is BERT's. Called by the conversion, and by `LlamaVidProcessor` for every text.
"""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

from tokenizers import normalizers, processors
from transformers import BertTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

from behavior_llava.core.errors import UserError
from behavior_llava.models.llama_vid.conversation import IMAGE

log = logging.getLogger(__name__)

MAX_QUESTION_TOKENS = 256
"""Word pieces of a question the Q-Former reads, [CLS] and [SEP] included; the last ones are kept.
Source: https://github.com/dvlab-research/LLaMA-VID, llamavid/model/llamavid_arch.py.
"""


def language_tokenizer(folder: Path, *, image_token_id: int) -> PreTrainedTokenizerFast:
    """The language model's tokenizer with "<image>" added, padding with <unk> as in training.

    Read in the legacy way, as in training: SentencePiece puts a space before every piece of text, also after
    `</s>` and before a space. transformers' own LlamaTokenizer puts none before a space, and forgets `legacy`
    when it is saved; so the result is a plain fast tokenizer.

    Raises:
        UserError: no such tokenizer, a package for reading it is missing, or "<image>" gets another id.
    """
    config_file = folder / "tokenizer_config.json"
    if not config_file.is_file():
        raise UserError("no tokenizer_config.json there", where=folder, remedy="give a tokenizer's folder")
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if not (folder / "tokenizer.json").is_file():
        if not (folder / "tokenizer.model").is_file():
            raise UserError(
                "no tokenizer.model and no tokenizer.json there",
                where=folder,
                remedy="give a tokenizer's folder",
            )
        if importlib.util.find_spec("sentencepiece") is None:
            raise UserError(
                "tokenizer.model cannot be read without the package sentencepiece",
                where=folder,
                remedy="pip install sentencepiece protobuf",
            )
    if config.get("legacy") is False:
        log.warning("%s says legacy: false; it is read in the legacy way", folder)
    read = LlamaTokenizer.from_pretrained(folder, legacy=True)
    backend = read.backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = None  # pyright: ignore[reportAttributeAccessIssue]
    bos_token = str(read.bos_token)
    backend.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{bos_token} $A", special_tokens=[(bos_token, read.bos_token_id)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos_token,
        eos_token=str(read.eos_token),
        unk_token=str(read.unk_token),
        pad_token=str(read.unk_token),
        extra_special_tokens={"image_token": IMAGE},
        clean_up_tokenization_spaces=False,
        model_max_length=read.model_max_length,
        padding_side="right",
    )
    if (found := tokenizer.convert_tokens_to_ids(IMAGE)) != image_token_id:
        raise UserError(
            f'the token "{IMAGE}" gets the id {found}, the model expects {image_token_id}',
            where=folder,
            remedy="give the tokenizer the checkpoint was trained with",
        )
    return tokenizer


def question_tokenizer(folder: Path) -> BertTokenizer:
    """The Q-Former's tokenizer: lower-casing, cut on the left, with the "[DEC]" its embedding has a row for.

    Raises:
        UserError: no vocabulary there.
    """
    if not any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        raise UserError(
            "no vocab.txt there", where=folder, remedy="give the folder of bert-base-uncased's tokenizer"
        )
    tokenizer = BertTokenizer.from_pretrained(
        folder, do_lower_case=True, truncation_side="left", padding_side="right"
    )
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    return tokenizer


def tokenize_pieces(
    text: str, tokenizer: Any, *, image_token_id: int, with_bos: bool
) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids and their places (characters from, to) in a text whose placeholders are all `IMAGE`.

    Each piece between placeholders is tokenized as a text of its own, as in training.
    """
    pieces = text.split(IMAGE)
    written = [piece for piece in pieces if piece]
    encoded = iter(())
    if written:
        batch = tokenizer(written, add_special_tokens=False, return_offsets_mapping=True)
        encoded = zip(batch["input_ids"], batch["offset_mapping"], strict=True)
    ids, places = ([tokenizer.bos_token_id], [(0, 0)]) if with_bos else ([], [])
    position = 0
    for number, piece in enumerate(pieces):
        if number:
            ids.append(image_token_id)
            places.append((position, position + len(IMAGE)))
            position += len(IMAGE)
        if piece:
            piece_ids, piece_places = next(encoded)
            ids += piece_ids
            places += [(position + start, position + end) for start, end in piece_places]
            position += len(piece)
    return ids, places
