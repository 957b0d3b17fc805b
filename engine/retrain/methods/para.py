"""PARA (Kumaravelu et al., arXiv 2604.27796): train uniform LoRA, then drop all singular values below a threshold that
all layers share. There is no search, and nothing is trained after the cut."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from autolora.configs import schema
from autolora.engine import ranks
from autolora.engine.export.outputs import save_all
from autolora.engine.ranks import LayerRank, RankRecord, controls
from autolora.engine.retrain.methods.base import Method, Prepared, budget_of, layer_sizes
from autolora.engine.retrain.methods.lora import K_BLAME, as_plain_lora, lora_at
from autolora.engine.run.context import Context
from autolora.engine.search.found import to_singular_basis
from autolora.problems.gates import Gates, factors
from autolora.problems.models.attach import ADAPTER, lora_layers
from autolora.problems.models.layers import lora_layers_of
from autolora.problems.models.load import BaseModel
from autolora.problems.models.parts import layout

log = logging.getLogger("autolora")


class Para(Method):
    """LoRA of rank k in every layer, cut to a budget after the training and before the evaluation."""

    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """Attaches LoRA at rank k, as method lora does. Raises UserError if one component of a layer exceeds the
        budget."""
        lora = run.adapted.lora
        names, sizes = lora_layers_of(base.model, lora), layer_sizes(base.model)
        own = [sizes[name] for name in names]
        budget = budget_of(lora, own, least=max(own))
        prepared = lora_at(controls.uniform(names, lora.k, lora.k), K_BLAME, base, run)
        assert isinstance(prepared.model, PeftModel)
        cut = Truncation(prepared.model, lora.target_modules, sizes, budget)
        return dataclasses.replace(prepared, record=None, finish=cut)

    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """Writes ranks.json and the model as plain LoRA at the remaining ranks, which computes the same function."""
        cut, config = prepared.finish, run.adapted
        assert isinstance(cut, Truncation)
        layers = lora_layers(cut.model)
        before = layout(dict.fromkeys(cut.ranks, config.lora.k))
        left = tuple(LayerRank(*item) for item in cut.ranks.items())
        record = RankRecord(config.lora.k, left, rule=schema.Para.recorded_rule)
        plain, record = as_plain_lora(cut.model, record, run)
        after = layout(record.kept)
        with torch.no_grad():
            for name, layer in lora_layers(plain).items():
                a, b = factors(layer)
                scale = layers[name].scaling[ADAPTER] / layer.scaling[ADAPTER]
                own_a, own_b = factors(layers[name])
                for group in (group for group, place in after.items() if place.layer == name):
                    start = before[group].components.start
                    source = slice(start, start + record.kept[group])
                    a[after[group].components] = own_a[source].to(a)
                    b[:, after[group].components] = own_b[:, source].to(b) * scale
        ranks.save(record, run.folder.ranks)
        save_all(plain, run.tokenizer, run.folder, config, run.ends)
        return record


class Truncation:
    """Called after the training: puts each LoRA update into its singular basis, and zeroes what is below the
    threshold.

    Attribute `ranks`: group -> how many of its components are left after the call.
    """

    def __init__(self, model: PeftModel, targets: Sequence[str], sizes: dict[str, int], budget: int) -> None:
        self.model = model
        self.targets = targets
        self.sizes = sizes
        self.budget = budget
        self.ranks: dict[str, int] = {}

    @torch.no_grad()
    def __call__(self) -> None:
        """Cuts the model; changes nothing if a weight is not finite, about which the evaluation raises an error."""
        gates = Gates(self.model, self.targets)
        gates.remove()  # only the names and places of the groups are needed
        self.ranks = dict.fromkeys(gates.names, gates.k)
        weights: list[Any] = [weight for layer in gates.layers.values() for weight in factors(layer)]
        if not all(bool(torch.isfinite(weight).all()) for weight in weights):
            return
        found = to_singular_basis(gates, torch.ones(len(gates.names), gates.k))
        kept = above_one_threshold(found, [self.sizes[name] for name in gates.names], self.budget)
        self.ranks = dict(zip(gates.names, kept.sum(dim=1).tolist(), strict=True))
        for name, rank in self.ranks.items():
            place = gates.groups[name]
            a, b = factors(gates.layers[place.layer])
            dropped = slice(place.components.start + rank, place.components.stop)
            a[dropped] = 0
            b[:, dropped] = 0
        least = float(found[kept].min())
        log.info(
            "para: kept %d of %d components; the smallest kept singular value is %.3g", kept.sum(), kept.numel(), least
        )


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
