"""In which precision a model learns: weights that learn in fp32, frozen ones as they were loaded.

On a GPU a model is loaded in bf16, whose numbers lie about 1/256 apart: an update of a hundredth of a percent
would round to nothing, step after step. So what learns is raised to fp32 before training, with its gradients
and AdamW's moments, and the forward pass computes in bf16 by autocast. A saved model has the types it was
loaded with again. Called by trainer.py and tower.py.

FSDP2 asks for one type among the parameters of a unit that learn, which they have here, and lets frozen ones
differ (torch.distributed.fsdp, `_init_mp_dtypes`); accelerate's bf16 policy adds up gradients in bf16 there.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


def types_of(network: torch.nn.Module) -> dict[str, torch.dtype]:
    """The type of every parameter."""
    return {name: parameter.dtype for name, parameter in network.named_parameters()}


def computes_in_bf16(network: torch.nn.Module) -> bool:
    """Whether it was loaded to compute in bf16: any of its parameters is."""
    return any(parameter.dtype == torch.bfloat16 for parameter in network.parameters())


def raise_what_learns(network: torch.nn.Module) -> None:
    """Parameters with a gradient become fp32; tied ones stay tied, frozen ones are not touched."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def restore(network: torch.nn.Module, types: Mapping[str, torch.dtype]) -> None:
    """The parameters in the types of `types_of` again; the one rounding of what was learned."""
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.to(types[name])
