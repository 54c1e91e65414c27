"""LLaMA-VID, the paper's base model, under transformers' Auto classes.

Importing this package registers it, so that AutoConfig, AutoModelForImageTextToText and AutoProcessor read
its folders; importing it again changes nothing. `convert.py` writes such a folder from an original
checkpoint.
"""

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from behavior_llava.models.llama_vid.configuration import LlamaVidConfig
from behavior_llava.models.llama_vid.modeling import LlamaVidForConditionalGeneration
from behavior_llava.models.llama_vid.processing import LlamaVidProcessor

AutoConfig.register("llama_vid", LlamaVidConfig, exist_ok=True)
AutoModelForImageTextToText.register(LlamaVidConfig, LlamaVidForConditionalGeneration, exist_ok=True)
AutoProcessor.register(LlamaVidConfig, LlamaVidProcessor, exist_ok=True)

__all__ = ["LlamaVidConfig", "LlamaVidForConditionalGeneration", "LlamaVidProcessor"]
