"""Estimate how much memory a training takes at its peak, and check that this much is free."""

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from configs.errors import UserError
from configs.rules import WITHOUT_HEAD
from engine.run.free import GIB, MIB, free
from engine.run.workbench import Workbench
from problems.data import Data
from problems.machine.compute import Compute, random_state, replay

log = logging.getLogger("autolora")

MARGIN = 1.1
"""The estimate is the computed sum times this factor, as allocators leave gaps."""
_LOSS = 96 * MIB
"""Bytes that a language model's loss takes besides the logits of all tokens."""
FIRST_ORDER, OTHERS = 12, 28
"""Bytes for each trained weight besides the weight itself. FIRST_ORDER, for a retraining and for searches that
evaluate L_tr only at the current W: its gradient and AdamW's two moments. OTHERS, for hypergradients that also
evaluate L_tr at other values of W: in addition W from before the inner step, a direction, and two more copies of W."""


@dataclass(frozen=True)
class Activations:
    """Bytes that torch keeps for the backward pass of a batch.

    `fixed` is the same for a batch of any size (copies of weights in the precision of the arithmetic). For each row,
    `row` is the total, `scores` the part that the logits take, `block` the part that the inputs of one block take.
    `blocks`: how many blocks the model has.
    """

    fixed: float
    row: float
    scores: float
    block: float
    blocks: int

    def of(self, rows: int, *, again: bool) -> float:
        """Bytes at the peak of a batch's backward pass; `again`: whether it recomputes the blocks, one at a time."""
        inside = max(self.row - self.scores, 0.0)
        if again and self.blocks:
            inside = inside / self.blocks + self.blocks * self.block
            fixed = self.fixed / self.blocks
        else:
            fixed = self.fixed
        return fixed + rows * (inside + 2 * self.scores)  # the gradient of the scores is as large as they are


def activations(model: nn.Module, data: Data, compute: Compute) -> Activations:
    """Measures what torch saves for the backward pass of one and of two copies of the longest training row."""
    row = data.train[int(np.argmax(data.train["length"][:]))]
    was_training = model.training
    model.train()
    # The measurement must not change the dropout masks of the training.
    with replay(random_state(compute.device), compute.device):
        (one, scores, hidden), (two, _, _) = (
            _held(model, data.collate([dict(row) for _ in range(n)]), compute) for n in (1, 2)
        )
    model.train(was_training)
    blocks = sum(isinstance(module, GradientCheckpointingLayer) for module in model.modules())
    return Activations(max(2 * one - two, 0.0), two - one, scores, hidden, blocks)


def _held(model: nn.Module, batch: dict[str, Tensor], compute: Compute) -> tuple[float, float, float]:
    """Three sizes in bytes: all that a batch's graph holds without the weights; the logits; one block's inputs."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage()
        if place.data_ptr() not in own:
            held[place.data_ptr()] = place.nbytes()
        # Not the tensor itself: a node that saves its own output would then hold itself, in a circle that no garbage
        # collector sees, and the whole graph, with the weights, would stay in memory.
        return tensor.detach()

    there = {name: values.to(compute.device) for name, values in batch.items()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), compute.autocast():
        output: Any = model(**there)
    logits: Tensor = output.logits
    tokens = there["input_ids"].numel()
    width = getattr(getattr(model, "config", None), "hidden_size", 0)
    size = 2 if compute.bf16 else 4
    return sum(held.values()), float(logits.untyped_storage().nbytes()), float(tokens * width * size)


def check_memory(
    run: Workbench, model: nn.Module, data: Data, rows: int, *, per_weight: int, what: str
) -> None:  # fmt: skip
    """Logs the estimated peak of a training that is about to begin, and what is free, in GiB.

    `rows`: how many rows of `data` go through the model at a time, in all processes together; `per_weight`: bytes for
    each trained weight besides the weight itself. Raises UserError, which names the settings that save most, if the
    training needs more than is free, unless `ignore_memory_estimate` is set.
    """
    config, compute = run.config, run.compute
    if compute.device.type not in ("cpu", "cuda"):  # other devices do not say what is free
        return
    model.to(compute.device)
    rows = math.ceil(rows / run.processes.size)
    held = activations(model, data, compute)
    again = config.model.gradient_checkpointing
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    needed = MARGIN * (held.of(rows, again=again) + per_weight * trained)
    needed += _LOSS if config.task.type in WITHOUT_HEAD else 0
    left = free(compute) / (1 if compute.device.type == "cuda" else run.processes.size)
    resident = _resident(compute)
    if what not in run.told:
        run.told.add(what)
        log.info(
            "memory: about %.1f GiB at the peak of %s, %.1f GiB free", (resident + needed) / GIB, what, left / GIB
        )
    if needed <= left or config.ignore_memory_estimate:
        return
    saving = ", ".join(_savings(run, model, held, rows))
    raise UserError(
        f"--{what_key(what)}.batch_size: {what} needs about {needed / GIB:.1f} GiB beyond what it already uses, "
        f"and {left / GIB:.1f} GiB are free; what saves most: {saving}; --ignore_memory_estimate true tries anyway"
    )


def what_key(what: str) -> str:
    """The section of the configuration with the settings of the training that `what` names."""
    return "search" if what == "the search" else "retrain"


def _savings(run: Workbench, model: nn.Module, held: Activations, rows: int) -> list[str]:
    """The three settings that save most, the largest saving first."""
    config, again = run.config, run.config.model.gradient_checkpointing
    now = held.of(rows, again=again)
    options = {f"--task.max_length {max(4, config.task.max_length // 2)}": now / 2}
    if rows > 1:
        half = "half the batch_size" + (" with twice the gradient_accumulation" if run.processes.size == 1 else "")
        options[half] = now - held.of(rows // 2, again=again)
    if not again:
        options["--model.gradient_checkpointing true"] = now - held.of(rows, again=True)
    frozen = sum(parameter.nbytes for parameter in model.parameters() if not parameter.requires_grad)
    if run.weights_dtype == torch.float32 and config.method not in ("full", "adapter"):
        options["--model.dtype bf16"] = frozen / 2
    return sorted(options, key=lambda name: -options[name])[:3]


def _resident(compute: Compute) -> float:
    """Bytes that this process uses now."""
    if compute.device.type == "cuda":
        return float(torch.cuda.memory_allocated(compute.device))
    return float(psutil.Process().memory_info().rss)
