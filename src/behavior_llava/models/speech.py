"""Speech to text by a recognizer of transformers: Whisper, or any other model of its pipeline.

Sound goes in as core/media.py reads it, the words that are said come out. Called by data/describing.py for
videos without a subtitle file.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError

CHUNK_S = 30.0
"""Whisper's window (arXiv:2212.04356, section 2.2); longer sound is heard in overlapping pieces of it."""
SILENCE = 1e-3
"""Sound that never leaves this (-60 dB of full scale) says nothing: recognizers make up words for it."""


class SpeechConfig(Config):
    """What is said in videos, in words.

    Attributes:
        model: a folder, or a name on the hub, e.g. "openai/whisper-small".
        language: its code, e.g. "en", for a model of many languages; null: the model finds out.
        max_s: of each video so much is heard, in seconds.
        device: "auto", "cpu", "cuda" or "cuda:1".
    """

    model: str = Field(min_length=1)
    language: str | None = None
    # paper, BLIFT step 4: longer videos are dropped
    max_s: float = Field(default=500.0, gt=0, le=86_400)
    device: str = "auto"


def check(name: str, language: str | None = None) -> None:
    """Refuses a name or folder of which there is no recognizer, without reading weights.

    Args:
        name: of the model. language: the code it is to be told; None for none.

    Raises:
        UserError: no such model, a model of another kind, no safetensors in a folder, or a language it does
            not know.
    """
    from transformers import MODEL_FOR_CTC_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING, MODEL_FOR_TDT_MAPPING

    kind = type(_configured(name))
    kinds = (MODEL_FOR_CTC_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING, MODEL_FOR_TDT_MAPPING)
    if not any(kind in known for known in kinds):
        raise _no_recognizer(name, f"its kind is {kind.model_type}")
    if Path(name).is_dir() and not any(Path(name).glob("*.safetensors")):
        raise _no_recognizer(name, "it holds no safetensors weights")
    if language is not None:
        _check_language(name, language, _generating(name))


def _generating(name: str) -> Any:
    """How a model writes; None where nothing says it."""
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(name)
    except (OSError, ValueError):
        return None


def _check_language(name: str, language: str, generating: Any) -> None:
    known = getattr(generating, "lang_to_id", None) or {}
    if f"<|{language}|>" not in known:
        codes = ", ".join(sorted(mark.strip("<|>") for mark in known))
        raise UserError(
            f"does not know the language {language!r}; it knows {codes or 'no codes of languages'}",
            where=name,
            remedy="give one of these codes, or language: null",
        )


def _configured(name: str) -> Any:
    """The config of a model folder or of a name on the hub."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _no_recognizer(name, str(error)) from error


def _no_recognizer(name: str, reason: str) -> UserError:
    first = (reason.splitlines() or ["?"])[0].rstrip(".")
    return UserError(
        f"cannot be loaded as a speech recognizer ({first})",
        where=name,
        remedy="give a model folder or the name of one on the hub, with safetensors weights",
    )


class Recognizer:
    """A speech recognizer, in fp32 on CPU and bf16 on GPU; greedy or by beams, so the same sound gives the
    same words.

    Nothing is read before it is asked for: processes that read what was heard need the identity alone, and
    the model is loaded when there is something to hear.
    """

    def __init__(self, config: SpeechConfig) -> None:
        self.config = config

    @cached_property
    def identity(self) -> str:
        """Which weights these are, for the keys of caches; no weights are loaded for it.

        Raises:
            UserError: no such model, a folder without safetensors, or a hub that tells no commit.
        """
        from behavior_llava.models import auto

        folder = Path(self.config.model)
        if folder.is_dir():
            return auto.weights_hash(folder)
        return f"{self.config.model}@{self._commit}"

    @cached_property
    def _commit(self) -> str | None:
        """Of the hub's repository, settled once: what is loaded later is of it, too; None for a folder."""
        if Path(self.config.model).is_dir():
            return None
        commit = getattr(_configured(self.config.model), "_commit_hash", None)
        if commit is None:
            raise UserError(
                "does not tell which commit it is of",
                where=self.config.model,
                remedy="give a model folder or the name of one on the hub",
            )
        return commit

    @cached_property
    def _pipeline(self) -> Any:
        import torch
        from safetensors import SafetensorError
        from transformers import pipeline

        from behavior_llava.models import auto

        device = auto.pick_device(self.config.device)
        try:
            return pipeline(
                "automatic-speech-recognition",
                model=self.config.model,
                revision=self._commit,
                device=device,
                dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
                chunk_length_s=CHUNK_S,
                ignore_warning=True,
            )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise _no_recognizer(self.config.model, str(error)) from error

    @cached_property
    def _words(self) -> dict[str, Any]:
        """How the model is told the language."""
        language = self.config.language
        if language is None:
            return {}
        _check_language(self.config.model, language, self._pipeline.model.generation_config)
        return {"generate_kwargs": {"language": language, "task": "transcribe"}}

    @property
    def rate(self) -> int:
        """Samples a second of the sound it hears."""
        return int(self._pipeline.feature_extractor.sampling_rate)

    def transcribe(self, audio: np.ndarray) -> str | None:
        """What is said, on one line; None where nothing is.

        Args:
            audio: mono samples [T] in -1..1, `rate` a second.

        Raises:
            UserError: no such model, no recognizer, no safetensors, a language it does not know, or a GPU
                asked for where there is none.
        """
        words = self._words
        if not len(audio) or np.abs(audio).max() < SILENCE:
            return None
        heard = self._pipeline({"raw": audio, "sampling_rate": self.rate}, **words)
        return " ".join(heard["text"].split()) or None
