"""PARA (Kumaravelu et al., arXiv 2604.27796): train uniform LoRA, then drop all singular values
below a threshold that all layers share. There is no search, and nothing is trained after the
cut."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from autolora.configs.training import LoraInBudget
from autolora.engine.measure.bases import parameters_of
from autolora.engine.measure.lora import Lora
from autolora.engine.retrain.methods.lora import PlainLora, cut_to, wide_lora
from autolora.engine.retrain.prepared import Prepared, Training
from autolora.engine.world import World
from autolora.problems.models.load import BaseModel


@dataclass(frozen=True)
class ParaLora:
    """LoRA of rank k in every layer, cut to a budget after the training."""

    lora: LoraInBudget
    form: PlainLora

    def prepare(self, base: BaseModel, training: Training, world: World) -> Prepared:
        """See Method."""
        prepared = wide_lora(self.lora, self.form, base, training)
        model: Any = prepared.model
        return replace(prepared, finish=lambda: self._cut(model, training))

    def _cut(self, model: PeftModel, training: Training) -> Prepared:
        wide = Lora(model)
        budget = parameters_of(self.lora.budget, wide.sizes)
        bases = wide.plain_bases()
        # All layers have one scale here, so that it does not change the order.
        sizes = torch.stack([basis.size for basis in bases])
        kept = above_one_threshold(sizes, wide.sizes, budget)
        return cut_to(wide, bases, kept.sum(dim=1).tolist(), self.lora.k, self.form, training)


def above_one_threshold(values: Tensor, sizes: Sequence[int], budget: int) -> Tensor:
    """The components to keep, boolean [layers, k]: those above the lowest threshold, the same for
    all layers, at which the components fit `budget` LoRA parameters.

    `values` [layers, k], descending in each layer, alone decide the order; the size of a component
    does not count. If values are equal, the component of the earlier layer comes first. `sizes`
    [layers]: parameters of one component.
    """
    order = values.flatten().argsort(descending=True, stable=True)
    costs = torch.tensor(sizes).repeat_interleave(values.shape[1])[order]
    kept = torch.zeros(values.numel(), dtype=torch.bool)
    kept[order[costs.cumsum(0) <= budget]] = True
    return kept.view_as(values)
