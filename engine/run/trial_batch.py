"""What does not fit into memory fails before the first step: the longest batch is tried."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from torch import Tensor, nn

from autolora.engine.run.context import Context
from autolora.engine.run.script import same_random_numbers
from autolora.problems.data import local_parts
from autolora.problems.models.snapshot import Snapshot


def try_longest_batch(
    run: Context, model: nn.Module, rows: Dataset, size: int, loss: Callable[[dict[str, Any]], Tensor]
) -> None:
    """Sends the `size` longest rows once forward and backward, and leaves model and random numbers as they were.

    The device refuses an allocation here as it would hours later. No process waits for another one."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    longest = np.argsort(-np.asarray(rows["length"]), kind="stable")[:size].tolist()
    before = Snapshot(model)
    with same_random_numbers(run.compute.device):
        (own,), _ = local_parts(rows, longest, size, run.processes)
        batch = send_to_device(run.data.collate(own), run.compute.device)
        with run.compute.autocast():
            found = loss(batch)
        torch.autograd.grad(found, trained, allow_unused=True)  # .grad stays None, so that no step sees this batch
    before.restore()
