"""Which settings lower the peak memory of a training most: only those that the configuration accepts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from autolora.configs.facts import trains_blocks
from autolora.configs.values import accepted
from autolora.engine.run.activations import Activations
from autolora.engine.run.workbench import Workbench

FIRST_ORDER, OTHERS = 12, 28
"""Bytes for each trained weight besides the weight itself. FIRST_ORDER (a retraining, and a search that takes L_tr
only at the current W): the gradient and AdamW's two moments. OTHERS (hypergradients that take L_tr at other W, too):
in addition W from before the inner step, a direction, and two copies of W."""
TWICE_DIFFERENTIATED = 3
"""How many times as much a pass holds if its gradient is differentiated again: 2.5 for exact, 3.1 for cg (MiniLM)."""
Section = Literal["search", "retrain"]
_SHORTEST = 4
"""The smallest value of task.max_length."""


@dataclass(frozen=True)
class Training:
    """What decides the peak memory of a training.

    `section`: the section of the configuration with its settings, "search" or "retrain".
    `rows` go through the model at a time in each process, the longest of them with `longest` tokens. `again`: whether
    the blocks are computed again in the backward pass. `per_weight`: bytes for each of the `trained` numbers besides
    the number itself. `frozen`: bytes of the weights that are not trained; `copied`: bytes of their fp32 copies.
    `in_fp32`: whether some passes compute in fp32 although `held` was measured in bf16. `second_order`: whether second
    derivatives are taken, for which the gradient's own graph is held, too.
    """

    section: Section
    rows: int
    longest: int
    held: Activations
    again: bool
    per_weight: int
    trained: int
    frozen: int
    copied: int = 0
    in_fp32: bool = False
    second_order: bool = False

    def bytes(self) -> float:
        """Bytes at the peak, besides what the process has when the training begins."""
        times = TWICE_DIFFERENTIATED if self.second_order else 2 if self.in_fp32 else 1
        return self.held.of(self.rows, again=self.again) * times + self.per_weight * self.trained + self.copied


@dataclass(frozen=True)
class Saving:
    """Settings (key -> value) and the bytes that they save."""

    settings: dict[str, Any]
    bytes: float

    @property
    def words(self) -> str:
        """The settings as options of the command line."""
        return options(self.settings)


def options(settings: dict[str, Any]) -> str:
    """Settings (key -> value) as they are written on a command line."""
    return " ".join(f"--{key} {str(value).lower()}" for key, value in settings.items())


def savings(run: Workbench, training: Training) -> list[Saving]:
    """The three changes that save most, the largest saving first; none that `run` would refuse."""
    found = [one for one in _candidates(run, training) if one.bytes > 0 and accepted(run.config, one.settings)]
    return sorted(found, key=lambda one: -one.bytes)[:3]


def _candidates(run: Workbench, training: Training) -> Iterator[Saving]:
    config, held, again = run.config, training.held, training.again
    now = held.of(training.rows, again=again)
    # Halving max_length does nothing where all rows are shorter; what counts is the longest row that there is.
    shorter = max(_SHORTEST, training.longest // 2)
    yield Saving({"task.max_length": shorter}, now - held.of(training.rows * shorter / training.longest, again=again))
    if training.rows > 1:
        settings = _half_batch(run, training.section)
        rows = math.ceil(settings[f"{training.section}.batch_size"] / run.processes.size)
        yield Saving(settings, now - held.of(rows, again=again))
    if held.blocks and not again and trains_blocks(config):
        yield Saving({"model.gradient_checkpointing": True}, now - held.of(training.rows, again=True))
    if run.weights_dtype == torch.float32:
        copies = held.fixed_again if again else held.fixed
        yield Saving({"model.dtype": "bf16"}, training.frozen / 2 + copies)
    if training.section == "search" and training.per_weight > FIRST_ORDER:
        saved = (training.per_weight - FIRST_ORDER) * training.trained
        graphs = (TWICE_DIFFERENTIATED - 1) * now if training.second_order else 0
        yield Saving({"hypergradient.type": "first_order"}, saved + graphs)


def _half_batch(run: Workbench, section: str) -> dict[str, int]:
    """Half the batch, and the accumulation that keeps the size of a step where this is possible."""
    settings = getattr(run.config, section)
    half = settings.batch_size // 2
    batch = {f"{section}.batch_size": half}
    if section == "retrain" and run.processes.size > 1:  # such a retraining accumulates nothing
        return batch
    parts = math.ceil(settings.batch_size / half) * settings.gradient_accumulation
    return {**batch, f"{section}.gradient_accumulation": parts}
