"""A digest of a base model's weights, which tells whether a model that is loaded later is the same."""

import hashlib
from collections.abc import Sequence

import torch
from torch import nn

from autolora.problems.models.parts import lies_in

_NUMBERS = 64  # how many numbers of each weight are read


def digest_of_weights(model: nn.Module, new: Sequence[str] = ()) -> str:
    """SHA-256 of the names and shapes of all weights, and of some numbers of each, rounded to bf16.

    `new`: modules (names or their endings) that are left out, such as a head with random weights. Numbers spread over
    the whole weight are read, so that it takes a moment even for a large model. They are rounded because a checkpoint
    may be loaded in fp32 on one machine and in bf16 on another.
    """
    found = hashlib.sha256()
    for name, weight in model.named_parameters():
        if any(lies_in(name, module) for module in new):
            continue
        flat = weight.detach().flatten()
        last = len(flat) - 1
        spread = [last * i // (_NUMBERS - 1) for i in range(_NUMBERS)] if last >= 0 else []
        some = flat[torch.tensor(spread, dtype=torch.long, device=flat.device)]
        some = some.to("cpu", torch.bfloat16).view(torch.int16)
        found.update(f"{name} {tuple(weight.shape)}".encode())
        found.update(some.numpy().tobytes())
    return found.hexdigest()
