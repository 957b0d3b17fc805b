"""Check, before the weights of the base model are loaded, whether they fit into memory."""

from typing import Any

import torch

from configs.errors import UserError
from configs.schema import RunConfig
from configs.values import accepted
from engine.run.free import GIB, free, free_on_host
from engine.run.savings import options
from problems.machine.compute import Compute
from problems.machine.processes import ALONE, Processes
from problems.models.precision import count_parameters

_IN_4BIT = 0.55
"""Bytes of one weight in nf4, with its scales. It is used for all weights, though modules in NOT_IN_4BIT need more."""


def refuse_large_weights(
    config: RunConfig, auto_class: Any, dtype: torch.dtype, compute: Compute, processes: Processes = ALONE
) -> None:
    """Raises UserError if the base model's frozen weights alone need more memory than is free for this process: each
    of `processes` loads its own copy, first into the machine's memory, also where it goes on to a GPU. Weights in 4
    bits are moved there one by one.

    The number of weights is computed from the model's configuration; no weight is read. `ignore_memory_estimate`
    switches this check off.
    """
    if config.ignore_memory_estimate or compute.device.type not in ("cpu", "cuda"):
        return
    size = _IN_4BIT if config.model.load_in_4bit else dtype.itemsize
    count = count_parameters(config, auto_class)
    needed, left = count * size, free(compute, processes.here)
    where = "free"
    if needed <= left and compute.device.type == "cuda" and not config.model.load_in_4bit:
        left, where = free_on_host(processes.here), "free in the machine's memory, into which each process loads them"
    if needed <= left:
        return
    smaller: list[tuple[dict[str, Any], float]] = [({"model.dtype": "bf16"}, 2.0)] if size > 2 else []
    if size > 1 and compute.device.type == "cuda":
        # 4 bits leave no choice of a dtype.
        dtype_of_4bit = {"model.dtype": "auto"} if config.model.dtype == "bf16" else {}
        smaller.append(({"model.load_in_4bit": True, **dtype_of_4bit}, _IN_4BIT))
    helping = [f"{options(one)} ({count * each / GIB:.1f} GiB)" for one, each in smaller if accepted(config, one)]
    saving = ", ".join([*helping, "a smaller model"])
    raise UserError(
        f"--model.name: the weights of {config.model.name} need {needed / GIB:.1f} GiB, and {left / GIB:.1f} GiB are "
        f"{where}; what helps: {saving}; --ignore_memory_estimate true tries anyway"
    )
