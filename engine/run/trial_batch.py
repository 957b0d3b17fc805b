"""What does not fit into memory fails before the first step: weights are counted, and the longest batch is tried."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from datasets import Dataset
from torch import Tensor, nn

from autolora.configs.errors import UserError
from autolora.engine.run.given import same_random_numbers
from autolora.engine.run.workbench import Workbench
from autolora.problems.data import own_parts
from autolora.problems.machine.compute import on_device
from autolora.problems.models.bare import Snapshot

_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Inside a container, Linux tells its limit here, in bytes."""


def try_longest_batch(
    run: Workbench, model: nn.Module, rows: Dataset, size: int, loss: Callable[[dict[str, Any]], Tensor]
) -> None:
    """Sends the `size` longest rows once forward and backward, and leaves model and random numbers as they were.

    The device refuses an allocation here as it would hours later. No process waits for another one."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    longest = np.argsort(-np.asarray(rows["length"]), kind="stable")[:size].tolist()
    before = Snapshot(model)
    with same_random_numbers(run.compute.device):
        (own,), _ = own_parts(rows, longest, size, run.processes)
        batch = on_device(run.data.collate(own), run.compute.device)
        with run.compute.autocast():
            found = loss(batch)
        torch.autograd.grad(found, trained, allow_unused=True)  # .grad stays None, so that no step sees this batch
    before.restore()


def refuse_large_weights(needed: int, name: str, device: torch.device) -> None:
    """Raises UserError if the weights of the base model `name` need more bytes than are free on a CPU, where Linux
    would end the program without a word."""
    if device.type != "cpu":
        return
    free = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # no such file, or the word "max"
        free = min(free, int(_LIMIT.read_text(encoding="ascii")))
    if needed > free:
        need, left = (f"{count / 2**30:.1f} GiB" for count in (needed, free))
        raise UserError(
            f"--model.name: the weights of {name} need {need}, and {left} are free; allowed: a smaller "
            f"model, or --model.dtype bf16"
        )
