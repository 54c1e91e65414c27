"""Speech to text by a recognizer of transformers: Whisper, or any other model of its pipeline.

Sound goes in as core/media.py reads it, the words that are said come out. Called by data/describing.py for
videos without a subtitle file.
"""

from __future__ import annotations

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


def check(name: str) -> None:
    """Refuses a name or folder of which there is no model, without reading weights.

    Raises:
        UserError: no such model.
    """
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot be loaded as a speech recognizer ({(str(error).splitlines() or ['?'])[0].rstrip('.')})",
            where=name,
            remedy="give a model folder or the name of one on the hub",
        ) from error


class Recognizer:
    """A speech recognizer, in fp32 on CPU and bf16 on GPU; greedy or by beams, so the same sound gives the
    same words.

    Raises:
        UserError: no such model, no recognizer, no safetensors, a language it does not know, or a GPU asked
            for where there is none.
    """

    def __init__(self, config: SpeechConfig) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import pipeline

        from behavior_llava.models import auto

        self.config = config
        device = auto.pick_device(config.device)
        try:
            self._pipeline: Any = pipeline(
                "automatic-speech-recognition",
                model=config.model,
                device=device,
                dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
                chunk_length_s=CHUNK_S,
                ignore_warning=True,
            )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            reason = (str(error).splitlines() or ["?"])[0].rstrip(".")
            raise UserError(
                f"cannot be loaded as a speech recognizer ({reason})",
                where=config.model,
                remedy="give a model folder or the name of one on the hub, with safetensors weights",
            ) from error
        self._words = {} if config.language is None else {"generate_kwargs": self._in(config.language)}
        folder = Path(config.model)
        commit = getattr(self._pipeline.model.config, "_commit_hash", None)
        self.identity = auto.weights_hash(folder) if folder.is_dir() else f"{config.model}@{commit}"
        """Which weights these are, for the keys of caches."""

    @property
    def rate(self) -> int:
        """Samples a second of the sound it hears."""
        return int(self._pipeline.feature_extractor.sampling_rate)

    def transcribe(self, audio: np.ndarray) -> str | None:
        """What is said, on one line; None where nothing is.

        Args:
            audio: mono samples [T] in -1..1, `rate` a second.
        """
        if not len(audio) or np.abs(audio).max() < SILENCE:
            return None
        heard = self._pipeline({"raw": audio, "sampling_rate": self.rate}, **self._words)
        return " ".join(heard["text"].split()) or None

    def _in(self, language: str) -> dict[str, str]:
        """How the model is told a language."""
        known = getattr(self._pipeline.model.generation_config, "lang_to_id", None) or {}
        if f"<|{language}|>" not in known:
            codes = ", ".join(sorted(mark.strip("<|>") for mark in known))
            raise UserError(
                f"does not know the language {language!r}; it knows {codes or 'no codes of languages'}",
                where=self.config.model,
                remedy="give one of these codes, or language: null",
            )
        return {"language": language, "task": "transcribe"}
