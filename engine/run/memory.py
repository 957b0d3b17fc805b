"""Estimate how much memory a training takes at its peak, and check that this much is free."""

import logging
import math

import psutil
import torch
from torch import nn

from autolora.configs.errors import UserError
from autolora.configs.facts import WITHOUT_HEAD, trains_blocks
from autolora.engine.run.activations import activations
from autolora.engine.run.free import GIB, free
from autolora.engine.run.savings import Section, Training, savings
from autolora.engine.run.workbench import Workbench
from autolora.problems.data import Data
from autolora.problems.machine.compute import Compute
from autolora.problems.tasks.token_loss import chunk

log = logging.getLogger("autolora")

MARGIN = 1.1
"""The estimate is the computed sum times this factor, as allocators leave gaps."""
_LOSS = 3 * 4
"""Bytes that a language model's loss takes, besides the logits of all tokens, for each score of one part: three times
the scores in fp32."""
_WORDS: dict[Section, str] = {"search": "the search", "retrain": "the retraining"}


def check_memory(
    run: Workbench, model: nn.Module, data: Data, rows: int, *, per_weight: int, section: Section,
    second_order: bool = False
) -> None:  # fmt: skip
    """Logs the estimated peak of a training that is about to begin, and what is free, in GiB.

    `rows`: how many rows of `data` go through the model at a time, in all processes together; `per_weight`: bytes for
    each trained weight besides the weight itself; `second_order`: whether second derivatives are taken. Raises
    UserError, which names the settings that save most, if the training needs more than is free. With
    `ignore_memory_estimate` nothing is measured.
    """
    config, compute = run.config, run.compute
    # Only a CPU and CUDA say what is free.
    if config.ignore_memory_estimate or compute.device.type not in ("cpu", "cuda"):
        return
    model.to(compute.device)
    rows = math.ceil(min(rows, len(data.train)) / run.processes.size)
    training = Training(
        section=section, rows=rows, longest=max(data.train["length"][:]), held=activations(model, data, compute, rows),
        again=config.model.gradient_checkpointing and trains_blocks(config), per_weight=per_weight,
        trained=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        frozen=sum(parameter.nbytes for parameter in model.parameters() if not parameter.requires_grad),
        second_order=second_order,
    )  # fmt: skip
    needed = MARGIN * training.bytes() + (_LOSS * chunk(compute.device) if config.task.type in WITHOUT_HEAD else 0)
    left = free(compute, run.processes.here)
    _tell_once(run, section, needed, left)
    if needed <= left:
        return
    found = ", ".join(saving.words for saving in savings(run, training))
    saving = f"; what saves most: {found}" if found else ""
    raise UserError(
        f"--{section}.batch_size: {_WORDS[section]} needs about {needed / GIB:.1f} GiB beyond what it already uses, "
        f"and {left / GIB:.1f} GiB are free{saving}; --ignore_memory_estimate true tries anyway"
    )


def _tell_once(run: Workbench, section: Section, needed: float, left: float) -> None:
    """Logs the bytes of the peak and those that are free, the first time that the run checks this section.

    Of several runs that need the same beyond what the program holds, the first tells it: what it holds, and what is
    free, differs a little from run to run."""
    if section not in run.told:
        run.told.add(section)
        peak, same = _resident(run.compute) + needed, ("memory", section, round(needed / GIB, 1))
        log.info(
            "memory: about %.1f GiB at the peak of %s, %.1f GiB free",
            peak / GIB, _WORDS[section], left / GIB, extra={"once": same},
        )  # fmt: skip


def _resident(compute: Compute) -> float:
    """Bytes that this process uses now."""
    if compute.device.type == "cuda":
        return float(torch.cuda.memory_allocated(compute.device))
    return float(psutil.Process().memory_info().rss)
