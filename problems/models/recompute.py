"""Gradient checkpointing: each block stores only its inputs, and is computed again in the backward pass."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from autolora.configs.errors import UserError
from autolora.problems.machine.compute import random_state, replay


def recompute_blocks(model: nn.Module) -> None:
    """Lets every block of `model` drop its activations and compute them again in the backward pass.

    This costs a second forward pass, with the same dropout masks and autocast. transformers' own switch works only in
    training mode, but a search without dropout and the measurement of the shares (engine/measure) run in evaluation
    mode. Without gradients nothing changes. Raises UserError for a model in which transformers marks no blocks.
    """
    blocks = blocks_of(model)
    if not blocks:
        raise UserError(
            "--model.gradient_checkpointing: this model has no blocks that can be computed again; allowed here: false"
        )
    for block in blocks:
        block.forward = _recomputed(block)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks that can be computed again: those that transformers marks."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def without_cache(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inputs of a block with None for every cache: a second pass would write its keys once more, and training
    reads none."""
    named = {name: None if isinstance(value, Cache) else value for name, value in kwargs.items()}
    return tuple(None if isinstance(value, Cache) else value for value in args), named


def _recomputed(block: nn.Module) -> Callable[..., Any]:
    forward: Callable[..., Any] = block.forward

    def contexts() -> Any:
        device = next((p.device for p in block.parameters()), torch.device("cpu"))
        return nullcontext(), replay(random_state(device), device)

    @wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        args, kwargs = without_cache(args, kwargs)
        # The compiler draws the same masks again by itself. torch's own way forgets those of Apple's GPUs, and on CUDA
        # needs a tensor among the positional arguments.
        ours: dict[str, Any] = {"context_fn": contexts, "preserve_rng_state": False}
        masks = {} if torch.compiler.is_compiling() else ours
        return checkpoint(forward, *args, use_reentrant=False, **masks, **kwargs)

    return run
