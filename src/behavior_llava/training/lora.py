"""Low-rank adapters (LoRA, arXiv:2106.09685) on a model, by peft: a few weights learn beside the others.

While it trains, a model wears its adapters; saved, they are merged into its weights, so that what comes out
is the plain model that transformers loads, with no word of adapters. Called by trainer.py where a config
says `lora`.
"""

from __future__ import annotations

import re
from typing import Any

from peft import LoraConfig as PeftConfig
from peft import PeftModel, get_peft_model
from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict
from pydantic import Field

from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError


class LoraConfig(Config):
    """Adapters instead of all weights.

    Attributes:
        rank: of the two matrices an adapter is made of.
        alpha: the adapter counts alpha / rank times.
        dropout: share of an adapter's inputs left out while it trains, 0..1.
        targets: which linear layers get one: a regular expression over module names, matched whole.
        whole: parts that learn all their weights beside the adapters, by the last word of their names.
    """

    rank: int = Field(default=64, ge=1)
    alpha: float = Field(default=128.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    whole: tuple[str, ...] = ("multi_modal_projector",)


def wear(network: Any, config: LoraConfig, frozen: tuple[str, ...]) -> PeftModel:
    """The network with fresh adapters; only these and the parts named in `whole` learn.

    Args:
        frozen: regular expressions over parameter names; what they match stays as it is here too.

    Raises:
        UserError: `targets` or `whole` match nothing, or everything they match is frozen.
    """
    modules = dict(network.named_modules())
    missing = [part for part in config.whole if not any(_is_called(name, part) for name in modules)]
    if missing:
        parts = sorted({name.split(".")[-1] for name in modules if name})
        raise UserError(
            f"lora.whole names {missing[0]!r}, which is no part of the model",
            where=type(network).__name__,
            remedy=f"its parts are {', '.join(parts)[:300]}",
        )
    try:
        worn = get_peft_model(
            network,
            PeftConfig(
                r=config.rank,
                lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]  # peft takes floats
                lora_dropout=config.dropout,
                target_modules=config.targets,
                modules_to_save=list(config.whole) or None,
            ),
        )
    except (ValueError, re.error) as error:
        raise UserError(
            f"lora.targets {config.targets!r} cannot be used ({str(error).splitlines()[0]})",
            where=type(network).__name__,
            remedy="give a regular expression over names such as "
            + next((name for name in modules if name.endswith("q_proj")), max(modules, key=len)),
        ) from error
    for name, parameter in worn.named_parameters():
        if any(re.search(pattern, name) for pattern in frozen):
            parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in worn.parameters()):
        raise UserError(
            "everything that lora would train is frozen", where="lora", remedy="take a pattern out of freeze"
        )
    return worn  # pyright: ignore[reportReturnType]  # a PeftMixedModel only where mixed adapters are asked for


def _is_called(module: str, part: str) -> bool:
    return module == part or module.endswith(f".{part}")


def resume(worn: PeftModel, checkpoint: str) -> None:
    """Puts a checkpoint's adapters on.

    Raises:
        UserError: its weights are not those of these adapters.
    """
    weights = load_peft_weights(checkpoint, device="cpu")
    found = set_peft_model_state_dict(worn, weights)
    adapters = [name for name in found.missing_keys if "lora_" in name or "modules_to_save" in name]
    wrong = [*found.unexpected_keys, *adapters]
    if wrong:
        raise UserError(
            f"the checkpoint's weights do not fit ({', '.join(map(str, wrong[:5]))})",
            where=checkpoint,
            remedy="delete it; the stage trains from its start",
        )


def merged(worn: PeftModel) -> Any:
    """The plain network with its adapters merged into its weights.

    Raises:
        UserError: a merged weight is no number.
    """
    try:
        return worn.merge_and_unload(safe_merge=True)  # pyright: ignore[reportCallIssue]  # LoraModel's, by getattr
    except ValueError as error:
        raise UserError(
            f"the adapters cannot be merged ({str(error).splitlines()[0]})",
            remedy="lower the learning rate",
        ) from error
