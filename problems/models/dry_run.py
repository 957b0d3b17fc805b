"""What a loaded model can do, found before the training: which layers the rows pass through, and
whether the longest batch fits into memory."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from autolora.problems.batches import local_parts
from autolora.problems.machine.compute import Compute, holds_bf16, same_random_numbers
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.models.layers import is_matrix
from autolora.problems.models.snapshot import Snapshot
from autolora.problems.rows import Rows

log = logging.getLogger("autolora.inputs")


def mark_unreached(model: nn.Module, run: Callable[[], Any]) -> None:
    """Calls `run`, which sends a batch through the model, in evaluation mode without gradients;
    returns its result.

    Linear layers that were not called get the attribute `reached` = False: their weights are read
    past LoRA (nn.MultiheadAttention, the fast path of torch's encoder layer, Mamba), or the rows do
    not pass through them, as through a tower for images. A layer in an expert counts as reached, as
    the batch may have no token for it.
    """
    layers: dict[str, Any] = {
        name: module for name, module in model.named_modules() if is_matrix(module)
    }
    called: set[str] = set()
    before = Snapshot(model)
    for name, layer in layers.items():
        # Not a hook: a module with hooks never takes the fast path.
        layer.forward = partial(_called, called, name, layer.forward)
    model.eval()
    # Where some weights are in bf16, a script's head may be in fp32.
    autocast = torch.autocast(
        next(model.parameters()).device.type, torch.bfloat16, enabled=holds_bf16(model)
    )
    try:
        with torch.no_grad(), autocast:
            run()
    finally:
        before.restore()
    unreached = [name for name in layers if name not in called and "experts" not in name.split(".")]
    for name in unreached:
        layers[name].reached = False
    if unreached:
        log.info(
            "%d linear layers, such as %s, get no LoRA, as the rows do not pass through them",
            len(unreached),
            unreached[0],
        )


def try_longest_batch(
    model: nn.Module,
    rows: Rows,
    size: int,
    loss: Callable[[dict[str, Any]], Tensor],
    compute: Compute,
    processes: Processes = ALONE,
) -> None:
    """Sends the `size` longest rows once forward and backward, and leaves model and random numbers
    as they were.

    The device refuses an allocation here as it would hours later. No process waits for another
    one."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    longest = np.argsort(-rows.lengths, kind="stable")[:size].tolist()
    before = Snapshot(model)
    with same_random_numbers(compute.device):
        (own,), _ = local_parts(rows, longest, size, processes)
        batch = send_to_device(rows.collate(own), compute.device)
        with compute.autocast():
            value = loss(batch)
        # .grad stays None, so that no step sees this batch
        torch.autograd.grad(value, trained, allow_unused=True)
    before.restore()


def _called(
    called: set[str], name: str, forward: Callable[..., Any], *inputs: Any, **options: Any
) -> Any:
    called.add(name)
    return forward(*inputs, **options)
