"""PARA (Kumaravelu et al., arXiv 2604.27796): train uniform LoRA, then drop all singular values below a threshold that
all layers share. There is no search, and nothing is trained after the cut."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor

from autolora.configs import schema
from autolora.engine.cut.basis import Gated
from autolora.engine.retrain import controls
from autolora.engine.retrain.methods.base import budget_of, layer_sizes
from autolora.engine.retrain.methods.lora import cut_to, lora_at
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.problems.gates import Gates
from autolora.problems.models.layers import lora_layers_of
from autolora.problems.models.load import BaseModel


def prepare(base: BaseModel, run: Context, rows: int) -> Prepared:
    """LoRA of rank k in every layer, cut to a budget after the training. Raises UserError if one component of a layer
    exceeds the budget."""
    lora = run.adapted.lora
    names, sizes = lora_layers_of(base.model, lora), layer_sizes(base.model)
    own = [sizes[name] for name in names]
    budget = budget_of(lora, own, least=max(own))
    prepared = lora_at(controls.uniform(names, lora.k, lora.k), Path("--lora.k"), base, run)
    model = prepared.model
    assert isinstance(model, PeftModel)
    return replace(prepared, record=None, finish=lambda: _cut(model, own, budget, run))


def _cut(model: PeftModel, sizes: Sequence[int], budget: int, run: Context) -> Prepared:
    gates = Gates(model)
    gates.remove()  # only the factors are needed
    bases = dict(zip(gates.names, Gated(model, gates).plain(), strict=True))
    # All layers have one scale here, so that it does not change the order.
    kept = above_one_threshold(torch.stack([basis.size for basis in bases.values()]), sizes, budget)
    ranks = dict(zip(bases, kept.sum(dim=1).tolist(), strict=True))
    return cut_to(model, bases, ranks, schema.Para.recorded_rule, run)


def above_one_threshold(values: Tensor, sizes: Sequence[int], budget: int) -> Tensor:
    """The components to keep, boolean [layers, k]: those above the lowest threshold, the same for all layers, at which
    the components fit `budget` LoRA parameters.

    `values` [layers, k], descending in each layer, alone decide the order; the size of a component does not count. If
    values are equal, the component of the earlier layer comes first. `sizes` [layers]: parameters of one component.
    """
    order = values.flatten().argsort(descending=True, stable=True)
    costs = torch.tensor(sizes).repeat_interleave(values.shape[1])[order]
    kept = torch.zeros(values.numel(), dtype=torch.bool)
    kept[order[costs.cumsum(0) <= budget]] = True
    return kept.view_as(values)
