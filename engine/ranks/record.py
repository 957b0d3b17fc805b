"""The record of the ranks, ranks.json: all that stage 2 needs of stage 1."""

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from configs.errors import UserError
from engine.disk.files import write_json
from engine.ranks.rules import RankRule, kept_components, largest_components
from problems.models.parts import refuse_overlap


@dataclasses.dataclass(frozen=True)
class LayerRank:
    """One layer: its name in the base model, its rank, and alpha and contribution of its k components (may be
    empty)."""

    name: str
    rank: int
    alpha: tuple[float, ...] = ()
    contribution: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class RankRecord:
    """The content of ranks.json. `threshold` is lambda, None where it differs by layer (constraint none) or does not
    decide (rule budget); `budget` in LoRA parameters."""

    k: int
    layers: tuple[LayerRank, ...]
    constraint: str = "softmax"
    rule: str = "threshold"
    threshold: float | None = None
    budget: int | None = None
    lora_parameters: int | None = None
    note: str | None = None
    """What a reader must know of how the ranks came about."""

    @property
    def mean_rank(self) -> float:
        """Mean over the layers."""
        return sum(layer.rank for layer in self.layers) / len(self.layers)

    @property
    def kept(self) -> dict[str, int]:
        """Name -> rank of the layers that keep any component."""
        return {layer.name: layer.rank for layer in self.layers if layer.rank > 0}


def record_of(alpha: Tensor, contribution: Tensor, rule: RankRule) -> RankRecord:
    """The record of a search. alpha, contribution [layers, k]."""
    kept, bounds = rule.kept(alpha, contribution), rule.bounds(alpha.double())
    layers = tuple(
        LayerRank(name, int(row.sum()), tuple(a.tolist()), tuple(c.tolist()))
        for name, row, a, c in zip(rule.sizes, kept, alpha.double(), contribution.double(), strict=True)
    )
    return RankRecord(
        k=alpha.shape[1],
        layers=layers,
        constraint=rule.constraint,
        rule=rule.name,
        threshold=None if bounds is None or rule.constraint == "none" else float(bounds[0]),
        budget=rule.budget,
        lora_parameters=count_parameters({layer.name: layer.rank for layer in layers}, rule.sizes),
    )


def rule_behind(record: RankRecord, sizes: Mapping[str, int]) -> RankRule | None:
    """The rule that made the record's ranks, to be asked about another alpha; None where it cannot be known.

    `sizes` as in `RankRule`; a budget needs them, a threshold looks at alpha alone.
    """
    known = record.rule == "threshold" or (record.budget is not None and sizes)
    return RankRule(record.constraint, sizes, record.budget) if known else None  # type: ignore[arg-type]


def chosen_components(layer: LayerRank, record: RankRecord) -> Tensor:
    """Which components of one layer the record's rule kept. Boolean [k]; needs the layer's alpha and contribution."""
    if record.rule == "budget":
        return largest_components(torch.tensor(layer.contribution), layer.rank)
    return kept_components(torch.tensor([layer.alpha]), record.constraint)[0]  # type: ignore[arg-type]


def count_parameters(ranks: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """Trainable numbers in LoRA at these ranks; `sizes`: name -> inputs + outputs of the layer."""
    return sum(rank * sizes[name] for name, rank in ranks.items())


def save(record: RankRecord, path: Path) -> None:
    """Writes ranks.json."""
    write_json(
        path,
        {
            "k": record.k,
            "constraint": record.constraint,
            "rule": record.rule,
            "lambda": record.threshold,
            **({} if record.budget is None else {"budget": record.budget}),
            "layers": [dataclasses.asdict(layer) for layer in record.layers],
            "mean_rank": record.mean_rank,
            "lora_parameters": record.lora_parameters,
            **({} if record.note is None else {"note": record.note}),
        },
    )


def check_against(record: RankRecord, shapes: Mapping[str, tuple[int, int]], path: Path) -> None:
    """Raises UserError for a layer that the model has not or that is there whole and by part, a rank that a layer
    cannot have, or no rank above 0.

    `shapes`: name -> (outputs, inputs) of every layer, or part of one, that could take LoRA.
    """
    refuse_overlap([layer.name for layer in record.layers], str(path))
    for layer in record.layers:
        if layer.name not in shapes:
            near = difflib.get_close_matches(layer.name, shapes, n=1, cutoff=0.0)
            raise UserError(f"{path}: the model has no layer {layer.name!r}; the nearest is {near[0]!r}")
        largest = min(shapes[layer.name])
        if layer.rank > largest:
            raise UserError(f"{path}: rank {layer.rank} of {layer.name!r} is out of range; allowed: 0 to {largest}")
    if not record.kept:
        raise UserError(f"{path}: every rank is 0; at least one layer needs a rank of 1 or more")
