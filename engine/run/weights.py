"""Check, before the weights of the base model are loaded, whether they fit into memory."""

from collections.abc import Iterator
from typing import Any

import torch

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.configs.values import accepted
from autolora.engine.run.free import GIB, free, free_on_host
from autolora.engine.run.savings import options
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.models.precision import count_in_4bit, count_parameters

_IN_4BIT = 0.55
"""Bytes of one weight in nf4, with its scales."""


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
    in_4bit, count = config.model.load_in_4bit, count_parameters(config, auto_class)
    needed = _bytes_in_4bit(config, auto_class, count) if in_4bit else count * dtype.itemsize
    left, where = free(compute, processes.here), "free"
    on_gpu = compute.device.type == "cuda"
    if needed <= left and on_gpu and not in_4bit:
        left, where = free_on_host(processes.here), "free in the machine's memory, into which each process loads them"
    if needed <= left:
        return
    saving = ", ".join([*_helping(config, auto_class, count, needed, on_gpu=on_gpu), "a smaller model"])
    raise UserError(
        f"--model.name: the weights of {config.model.name} need {needed / GIB:.1f} GiB, and {left / GIB:.1f} GiB are "
        f"{where}; what helps: {saving}; --ignore_memory_estimate true tries anyway"
    )


def _helping(config: RunConfig, auto_class: Any, count: int, needed: float, *, on_gpu: bool) -> Iterator[str]:
    """Options that the configuration accepts and under which the weights need less than `needed` bytes; in brackets,
    how much they then need."""
    smaller: list[tuple[dict[str, Any], float]] = []
    if not config.model.load_in_4bit:
        smaller.append(({"model.dtype": "bf16"}, 2.0 * count))
        if on_gpu:
            # 4 bits leave no choice of a dtype.
            dtype_of_4bit = {"model.dtype": "auto"} if config.model.dtype == "bf16" else {}
            in_4bit = {"model.load_in_4bit": True, **dtype_of_4bit}
            smaller.append((in_4bit, _bytes_in_4bit(config, auto_class, count)))
    for one, each in smaller:
        if each < needed and accepted(config, one):
            yield f"{options(one)} ({each / GIB:.1f} GiB)"


def _bytes_in_4bit(config: RunConfig, auto_class: Any, count: int) -> float:
    """Bytes of all `count` weights with model.load_in_4bit; those that it does not quantise are in fp32."""
    packed = count_in_4bit(config, auto_class)
    return packed * _IN_4BIT + (count - packed) * 4
