"""Common random numbers: two trainings with one seed may differ in their ranks, but draw the same random numbers.

With a single generator, one more row of A would change all that is drawn after it, such as the head's dropout masks.
A comparison of two ranks would then be as noisy as a comparison of two seeds.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn

from autolora.engine.ranks import RankRecord
from autolora.problems.machine.draws import seed_of
from autolora.problems.models.attach import ADAPTER, lora_layers
from autolora.problems.models.parts import layout


@dataclass(frozen=True)
class Moment:
    """Identifies a forward pass: the optimiser steps before it, the earlier batches of its step, and the process."""

    step: int
    batch: int = 0
    process: int = 0


class CommonDropout(nn.Module):
    """Dropout on a layer's LoRA input, whose mask depends on (seed, layer name, moment) alone.

    A layer that a model uses several times in one pass has the same mask each time. Gradient checkpointing computes a
    pass again at the same moment, and so with the same mask.
    """

    def __init__(self, p: float, seed: int, name: str) -> None:
        super().__init__()
        self.p = p
        self.seed = seed
        self.name = name
        self.moment = Moment(0)

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        """x [..., inputs] with about a share p set to 0 and the rest times 1 / (1 - p); x unchanged in evaluation."""
        if not self.training or self.p == 0:
            return x
        at = self.moment
        generator = torch.Generator(x.device).manual_seed(seed_of(self.seed, self.name, at.step, at.batch, at.process))
        mask = torch.empty_like(x).bernoulli_(1 - self.p, generator=generator)
        return x * mask.div_(1 - self.p)


@torch.no_grad()
def start_in_common(model: PeftModel, record: RankRecord, seed: int) -> None:
    """Initialises LoRA from (seed, layer name) alone: A at any rank is the first rows of one matrix, and B is 0. Puts
    CommonDropout in place of PEFT's dropout.

    The rows of A are distributed as PEFT draws them (Kaiming uniform). Each part of a fused layer has its own matrix.
    """
    layers = lora_layers(model)
    for name, place in layout(record.kept).items():
        weight: Any = layers[place.layer].lora_A[ADAPTER].weight
        count, inputs = record.kept[name], weight.shape[1]
        bound = inputs**-0.5
        drawn = np.random.default_rng(seed_of(seed, name)).uniform(-bound, bound, (count, inputs))
        weight[place.components] = torch.from_numpy(drawn).to(weight)
    for name, layer in layers.items():
        dropout = layer.lora_dropout[ADAPTER]
        if isinstance(dropout, nn.Dropout):
            layer.lora_dropout[ADAPTER] = CommonDropout(dropout.p, seed, name)


class CommonMasks:
    """Seeds every forward pass of a training by its moment, so that two trainings with one seed also have the same
    dropout masks in the base model."""

    def __init__(self, model: nn.Module, seed: int, process: int = 0) -> None:
        self.dropouts = [module for module in model.modules() if isinstance(module, CommonDropout)]
        self.seed = seed
        self.process = process
        self._moment = Moment(-1)

    def begin(self, step: int) -> None:
        """Must be called before each forward pass, with the number of optimiser steps taken so far."""
        same = step == self._moment.step
        self._moment = at = Moment(step, self._moment.batch + 1 if same else 0, self.process)
        torch.manual_seed(seed_of(self.seed, "masks", at.step, at.batch, at.process))
        for dropout in self.dropouts:
            dropout.moment = at
