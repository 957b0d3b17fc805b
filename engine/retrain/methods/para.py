"""PARA (Kumaravelu et al., arXiv 2604.27796): train uniform LoRA, then drop all singular values below a threshold that
all layers share. There is no search, and nothing is trained after the cut."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor

from autolora.configs import schema
from autolora.engine.ranks import LayerRank, RankRecord, controls
from autolora.engine.retrain.methods.base import Prepared, budget_of, layer_sizes
from autolora.engine.retrain.methods.lora import as_plain_lora, lora_at
from autolora.engine.run.context import Context
from autolora.engine.search.found import to_singular_basis
from autolora.problems.gates import Gates
from autolora.problems.models.attach import ADAPTER
from autolora.problems.models.layers import lora_layers_of
from autolora.problems.models.load import BaseModel

log = logging.getLogger("autolora")


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


@torch.no_grad()
def _cut(model: PeftModel, sizes: Sequence[int], budget: int, run: Context) -> Prepared:
    gates = Gates(model)
    gates.remove()  # only the factors are needed
    found = to_singular_basis(gates, torch.ones(len(gates.names), gates.k))
    kept = above_one_threshold(found, sizes, budget)
    ranks = dict(zip(gates.names, kept.sum(dim=1).tolist(), strict=True))
    log.info(
        "para: kept %d of %d components; the smallest kept singular value is %.3g",
        kept.sum(), kept.numel(), float(found[kept].min()),
    )  # fmt: skip
    updates = {
        name: (a[: ranks[name]], b[:, : ranks[name]] * gates.layers[name].scaling[ADAPTER])
        for name, (a, b) in zip(gates.names, gates.factors(), strict=True)
    }
    left = tuple(LayerRank(*item) for item in ranks.items())
    return as_plain_lora(model, RankRecord(gates.k, left, rule=schema.Para.recorded_rule), updates, run)


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
