"""Gradient checkpointing: each block stores only its inputs, and is computed again in the backward
pass."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from autolora.configs.errors import UserError


def recompute_blocks(model: nn.Module) -> None:
    """Lets every block of `model` drop its activations and compute them again in the backward pass.

    This costs a second forward pass, with the same dropout masks and autocast. transformers' own
    switch, which is taken off, works only in training mode, but a search without dropout and the
    measurement of the shares (engine/measure) run in evaluation mode. Without gradients nothing
    changes. Raises UserError for a model in which transformers marks no blocks.
    """
    blocks = [
        module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)
    ]
    if not blocks:
        raise UserError(
            "--model.gradient_checkpointing: this model has no blocks that can be computed "
            "again; allowed here: false"
        )
    for block in blocks:
        block.gradient_checkpointing = False
        block.forward = _recomputed(block.forward)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        # A second pass would write the keys of a cache once more; training reads none.
        named: dict[str, Any] = {
            name: None if isinstance(value, Cache) else value for name, value in kwargs.items()
        }
        given = [None if isinstance(value, Cache) else value for value in args]
        return checkpoint(forward, *given, use_reentrant=False, **named)

    return run
