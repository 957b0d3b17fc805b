"""Check, before the weights of the base model are loaded, whether they fit into memory."""

from typing import Any

import torch

from configs.errors import UserError
from configs.schema import RunConfig
from engine.run.free import GIB, free
from problems.machine.compute import Compute
from problems.models.precision import count_parameters

_IN_4BIT = 0.55
"""Bytes of one weight in nf4, with its scales. It is used for all weights, though modules in NOT_IN_4BIT need more."""


def refuse_large_weights(config: RunConfig, auto_class: Any, dtype: torch.dtype, compute: Compute) -> None:
    """Raises UserError if the base model's frozen weights alone need more memory than is free.

    The number of weights is computed from the model's configuration; no weight is read. `ignore_memory_estimate`
    switches this check off.
    """
    if config.ignore_memory_estimate or compute.device.type not in ("cpu", "cuda"):
        return
    size = _IN_4BIT if config.model.load_in_4bit else dtype.itemsize
    count = count_parameters(config, auto_class)
    needed, left = count * size, free(compute)
    if needed <= left:
        return
    smaller = [f"--model.dtype bf16 ({count * 2 / GIB:.1f} GiB)"] if size > 2 else []
    if size > 1 and compute.device.type == "cuda":
        smaller += [f"--model.load_in_4bit true ({count * _IN_4BIT / GIB:.1f} GiB)"]
    saving = ", ".join([*smaller, "a smaller model"])
    raise UserError(
        f"--model.name: the weights of {config.model.name} need {needed / GIB:.1f} GiB, and {left / GIB:.1f} GiB are "
        f"free; what helps: {saving}; --ignore_memory_estimate true tries anyway"
    )
