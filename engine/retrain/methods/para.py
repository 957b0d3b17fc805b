"""PARA (Kumaravelu et al., arXiv 2604.27796): train uniform LoRA, then drop all singular values
below a threshold that all layers share. There is no search, and nothing is trained after the
cut."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from autolora.engine.cut.basis import Gated, parameters_of
from autolora.engine.retrain.methods.lora import cut_to, wide_lora
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.problems.models.load import BaseModel


def prepare(base: BaseModel, run: Context) -> Prepared:
    """LoRA of rank k in every layer, cut to a budget after the training."""
    prepared = wide_lora(base, run)
    model: Any = prepared.model
    gated = Gated(model)
    gated.remove()  # only the factors are needed
    return replace(prepared, finish=lambda: _cut(model, gated, run))


def _cut(model: PeftModel, gated: Gated, run: Context) -> Prepared:
    budget = parameters_of(run.adapted.lora.budget, gated.sizes)
    bases = dict(zip(gated.names, gated.plain(), strict=True))
    # All layers have one scale here, so that it does not change the order.
    kept = above_one_threshold(
        torch.stack([basis.size for basis in bases.values()]), gated.sizes, budget
    )
    ranks = dict(zip(bases, kept.sum(dim=1).tolist(), strict=True))
    return cut_to(model, bases, ranks, run)


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
