"""The record of the ranks, ranks.json: all that the retraining needs from the search. The module
imports no torch."""

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from autolora.configs.errors import UserError
from autolora.configs.locations import portable_name
from autolora.configs.search import Constraint
from autolora.configs.training import ModelConfig, ScaledLora
from autolora.engine.disk.files import load_json, write_json
from autolora.engine.measure.evidence import SEEN, Evidence

BY_HAND = "by hand"
"""The rule of ranks that a user has written."""
NOTHING_LEARNED = "LoRA has not learned anything that shows on D_val"
BY_CURVE = "curve"
"""The rule of a record whose layers all have one rank, which the rank curve calls enough."""
SUM_TO_ONE = {"softmax"}
"""Constraints under which the alphas of a layer sum to 1: each starts at 1/k."""
# A relative tolerance: at the uniform start, rounding may put alpha just below lambda = 1/k, and
# must not drop it.
_ROUNDING = 1e-6

Array = TypeVar("Array", bound=Any)
"""A tensor or an array; a function returns the kind that it is given."""


@dataclasses.dataclass(frozen=True)
class LayerRank:
    """One layer: its name in the base model and its rank; the other fields may be empty.

    alpha and contribution [k] belong to the components of the search. singular_values, share and
    share_standard_error [k] belong to the singular components of the same update, the largest
    singular value first. Shares are in nats per label of D_val. `layer_part_standard_error`: of
    layer_share divided by the sum of all layers' shares; None if that is not above 0.
    """

    name: str
    rank: Annotated[int, Field(ge=0)]
    alpha: tuple[float, ...] = ()
    contribution: tuple[float, ...] = ()
    singular_values: tuple[float, ...] = ()
    share: tuple[float, ...] = ()
    share_standard_error: tuple[float, ...] = ()
    layer_share: float | None = None
    layer_share_standard_error: float | None = None
    layer_part_standard_error: float | None = None

    @property
    def seen(self) -> bool:
        """Whether the layer's share is above noise; False if none was measured."""
        return (self.layer_share or 0.0) > SEEN * (self.layer_share_standard_error or 0.0)


@dataclasses.dataclass(frozen=True)
class RankRecord:
    """The content of ranks.json.

    `k`: the components of each layer in the search. `threshold`: lambda; None if it differs by
    layer (constraint none) or if the rule uses no threshold. `budget`: in LoRA parameters; None if
    there was no budget. `note`: what a reader must know about how the ranks were made. `tolerance`:
    the part of the gain that the sufficient rank may lose. For other trainers: the search
    multiplies each component by `lora_alpha` / k, the retraining has the scale that `scale`
    (retrain.scale) names; `base_model`: its name on the hub or in a package, None for a local
    folder.
    """

    k: Annotated[int, Field(ge=1)]
    layers: Annotated[tuple[LayerRank, ...], Field(min_length=1)]
    constraint: Constraint = "softmax"
    rule: str = "threshold"
    threshold: Annotated[float | None, Field(alias="lambda")] = None
    budget: int | None = None
    lora_parameters: int | None = None
    note: str | None = None
    evidence: Evidence | None = None
    tolerance: float = 0.05
    lora_alpha: float | None = None
    scale: str | None = None
    base_model: str | None = None
    revision: str | None = None

    @property
    def mean_rank(self) -> float:
        """Mean over the layers."""
        return sum(layer.rank for layer in self.layers) / len(self.layers)

    @property
    def mean_kept_rank(self) -> float:
        """Mean over the layers that keep any component."""
        return sum(self.kept.values()) / len(self.kept)

    @property
    def searched(self) -> bool:
        """Whether a search chose the ranks from k components of each layer."""
        return any(layer.alpha for layer in self.layers)

    @property
    def mean_in_words(self) -> str:
        """The mean over the layers, as `2.67 of k = 8`; ranks that no search chose have no k to be
        compared with."""
        return f"{self.mean_rank:.2f}" + (f" of k = {self.k}" if self.searched else "")

    @property
    def ranks(self) -> dict[str, int]:
        """Name -> rank of every layer."""
        return {layer.name: layer.rank for layer in self.layers}

    @property
    def kept(self) -> dict[str, int]:
        """Name -> rank of the layers that keep any component."""
        return {name: rank for name, rank in self.ranks.items() if rank}


def thresholds(alpha: Array, constraint: Constraint) -> Array:
    """lambda of each layer [layers, 1]: 1/k for softmax (AutoLoRA section 4.4), 1/2 for sigmoid,
    sum(alpha)/k for none (Table 4). alpha [layers, k]."""
    k = alpha.shape[1]
    found: Array
    if constraint == "none":
        found = alpha.sum(1)[:, None] / k
    else:
        found = 0 * alpha[:, :1] + (1.0 / k if constraint in SUM_TO_ONE else 0.5)
    return found


def kept_components(alpha: Array, constraint: Constraint) -> Array:
    """Which components stay by threshold: alpha_l^j >= lambda_l. Boolean [layers, k]."""
    bound = thresholds(alpha, constraint)
    kept: Array = alpha >= bound - _ROUNDING * abs(bound)
    return kept


def with_scale(record: RankRecord, lora: ScaledLora, scale: str, model: ModelConfig) -> RankRecord:
    """The record with what another trainer needs besides the ranks: the scale, and the base model.
    `scale`: as retrain.scale names it."""
    return dataclasses.replace(
        record,
        lora_alpha=lora.lora_alpha,
        scale=scale,
        base_model=portable_name(model.name),
        revision=model.revision,
    )


def count_parameters(ranks: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """The number of LoRA parameters at these ranks; `sizes`: name -> inputs + outputs of the
    layer."""
    return sum(rank * sizes[name] for name, rank in ranks.items())


_RECORD = TypeAdapter(RankRecord)
_EVIDENCE = TypeAdapter(Evidence)
_LAYERS = TypeAdapter(tuple[LayerRank, ...])


def save(record: RankRecord, path: Path) -> None:
    """Writes ranks.json: the fields of the record and of its evidence side by side; layers without
    empty ones."""
    found = _RECORD.dump_python(record, by_alias=True, exclude={"evidence", "layers", "tolerance"})
    found |= {
        "layers": _LAYERS.dump_python(record.layers, exclude_defaults=True),
        "mean_rank": record.mean_rank,
    }
    if record.evidence is not None:
        enough = record.evidence.sufficient_rank(record.tolerance)
        found |= {"sufficient_rank": enough, "tolerance": record.tolerance}
        found |= _EVIDENCE.dump_python(record.evidence, by_alias=True, exclude_none=True)
    write_json(path, found)


def load(path: Path) -> RankRecord:
    """Reads ranks.json, which a search or a person wrote. Raises UserError that names the file
    and the entry.

    A file written by hand needs only `layers`, each with name and rank; k is then the largest
    rank."""
    raw = load_json(path)
    try:
        record = _RECORD.validate_python(
            {"k": 1, "rule": BY_HAND} | raw if isinstance(raw, dict) else raw
        )
        if (
            "fall" in raw
        ):  # without it the evidence is none, or that of 0.2.0, which is no more read
            record = dataclasses.replace(record, evidence=_EVIDENCE.validate_python(raw))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if len(record.ranks) < len(record.layers):
        raise UserError(f"{path}: a layer is given twice")
    return record if "k" in raw else dataclasses.replace(record, k=max(1, *record.ranks.values()))


def check_against(record: RankRecord, shapes: Mapping[str, tuple[int, int]], path: Path) -> None:
    """Raises UserError for a layer that the model does not have, a rank that is larger than a side
    of the layer, and a record without any rank above 0. `shapes`: name -> (outputs, inputs) of
    every layer that could take LoRA."""
    for name, rank in record.ranks.items():
        if name not in shapes:
            near = difflib.get_close_matches(name, shapes, n=1, cutoff=0.0)
            raise UserError(f"{path}: the model has no layer {name!r}; the nearest is {near[0]!r}")
        if rank > (largest := min(shapes[name])):
            raise UserError(
                f"{path}: rank {rank} of {name!r} is out of range; allowed: 0 to {largest}"
            )
    if not record.kept:
        raise UserError(f"{path}: every rank is 0; at least one layer needs a rank of 1 or more")
