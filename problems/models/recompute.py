"""Gradient checkpointing: each block stores only its inputs, and is computed again in the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from autolora.configs.errors import UserError
from autolora.problems.machine.compute import RandomState, random_state, replay

Again = Callable[[], AbstractContextManager[None]]
"""Called in the forward pass; returns the context in which the block is to be computed again."""


def recompute_blocks(model: nn.Module, again: Again = nullcontext) -> None:
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
        block.forward = _recomputed(block, again)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks that can be computed again: those that transformers marks."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def without_cache(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inputs of a block with None for every cache: a second pass would write its keys once more, and training
    reads none."""
    named = {name: None if isinstance(value, Cache) else value for name, value in kwargs.items()}
    return tuple(None if isinstance(value, Cache) else value for value in args), named


def _recomputed(block: nn.Module, again: Again) -> Callable[..., Any]:
    forward: Callable[..., Any] = block.forward

    @wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        args, kwargs = without_cache(args, kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **_contexts(block, again), **kwargs)

    return run


def _contexts(block: nn.Module, again: Again) -> dict[str, Any]:
    """What `checkpoint` is told of the contexts of the two passes; nothing where it needs none."""
    if again is nullcontext and torch.compiler.is_compiling():
        # torch cannot compile a block with a context_fn of its own. The compiler itself draws the same masks again.
        return {}
    device = next((p.device for p in block.parameters()), torch.device("cpu"))
    if not _masks_are_ours(device):
        return {} if again is nullcontext else {"context_fn": lambda: (nullcontext(), again())}
    return {
        "context_fn": lambda: (nullcontext(), _replayed(again(), random_state(device), device)),
        "preserve_rng_state": False,
    }


def _masks_are_ours(device: torch.device) -> bool:
    """Whether this file replays the random state of the first pass. On a CPU torch does it; on mps torch forgets to,
    and on CUDA it replays the state only if a tensor is among the positional arguments of a block."""
    return device.type != "cpu"


@contextmanager
def _replayed(again: AbstractContextManager[None], state: RandomState, device: torch.device) -> Iterator[None]:
    with replay(state, device), again:
        yield
