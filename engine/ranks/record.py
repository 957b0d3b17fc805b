"""The record of the ranks, ranks.json: all that the retraining needs from the search."""

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from autolora.configs.errors import UserError
from autolora.configs.places import portable_name
from autolora.configs.schema import WithLora
from autolora.configs.search import Constraint
from autolora.engine.disk.files import load_json, write_json
from autolora.engine.measure import evidence
from autolora.engine.measure.evidence import SEEN, Evidence

OF_RUN = ("lora_alpha", "scale", "base_model", "revision")
"""The fields that a run adds to the record of its ranks, for other trainers."""
BY_CURVE = "curve"
"""The rule of a record whose layers all have one rank, which the rank curve calls enough."""

_STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")


@dataclasses.dataclass(frozen=True)
class LayerRank:
    """One layer: its name in the base model and its rank; the other fields may be empty.

    alpha and contribution [k] belong to the components of the search. singular_values, share and share_standard_error
    [k] belong to the singular components of the same update, the largest singular value first. Shares are in nats per
    label of D_val. `decided`: whether the rank by threshold was steady at the end of the search; None under other
    rules.
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
    """The standard error of layer_share divided by the sum of all layers' shares; None if that is not above 0."""
    decided: bool | None = None

    __pydantic_config__ = _STRICT

    @property
    def seen(self) -> bool:
        """Whether the layer's share is above noise; False if none was measured."""
        share, error = self.layer_share, self.layer_share_standard_error
        return share is not None and error is not None and share > SEEN * error

    def part_error(self, total: float) -> float:
        """The standard error of layer_share / `total`, the sum of all layers' shares; if it is not recorded, that of
        the share in units of the total, which is too large where rows raise all shares alike."""
        if self.layer_part_standard_error is not None:
            return self.layer_part_standard_error
        return (self.layer_share_standard_error or 0.0) / total


@dataclasses.dataclass(frozen=True)
class RankRecord:
    """The content of ranks.json.

    `k`: the components of each layer in the search. `threshold`: lambda; None if it differs by layer (constraint none)
    or if the rule uses no threshold. `budget`: in LoRA parameters; None if there was no budget. `tolerance`: the part
    of the gain that the sufficient rank may lose.
    """

    k: Annotated[int, Field(ge=1)]
    layers: Annotated[tuple[LayerRank, ...], Field(min_length=1)]
    constraint: Constraint = "softmax"
    rule: str = "threshold"
    threshold: Annotated[float | None, Field(alias="lambda")] = None
    budget: int | None = None
    lora_parameters: int | None = None
    note: str | None = None
    """What a reader must know about how the ranks were made."""
    evidence: Evidence | None = None
    tolerance: float = 0.05
    lora_alpha: float | None = None
    """The search multiplies each component by lora_alpha / k. None in a record written by hand."""
    scale: str | None = None
    """The value of retrain.scale: which scale the retraining has instead."""
    base_model: str | None = None
    """Name of the base model on the hub or in a package; None for a local folder."""
    revision: str | None = None

    __pydantic_config__ = _STRICT

    @property
    def mean_rank(self) -> float:
        """Mean over the layers."""
        return sum(layer.rank for layer in self.layers) / len(self.layers)

    @property
    def searched(self) -> bool:
        """Whether a search chose the ranks from k components of each layer; False for ranks of any other method, and
        for those that were written by hand."""
        return any(layer.alpha for layer in self.layers)

    @property
    def mean_in_words(self) -> str:
        """The mean over the layers, as `mean_in_words` has it."""
        return mean_in_words([layer.rank for layer in self.layers], self.k if self.searched else None)

    @property
    def mean_kept_rank(self) -> float:
        """Mean over the layers that keep any component."""
        return sum(self.kept.values()) / len(self.kept)

    @property
    def ranks(self) -> dict[str, int]:
        """Name -> rank of every layer."""
        return {layer.name: layer.rank for layer in self.layers}

    @property
    def all_equal(self) -> bool:
        """Whether every layer has the same rank."""
        return len({layer.rank for layer in self.layers}) == 1

    @property
    def undecided(self) -> list[bool]:
        """For each layer whether its rank is undecided; False for every layer unless a threshold chose the ranks."""
        return [layer.decided is False for layer in self.layers]

    @property
    def kept(self) -> dict[str, int]:
        """Name -> rank of the layers that keep any component."""
        return {layer.name: layer.rank for layer in self.layers if layer.rank > 0}


def mean_in_words(ranks: Sequence[int], k: int | None) -> str:
    """The mean of ranks, as `2.67 of k = 8`. `k`: the components of each layer from which a search chose them; None
    for ranks that no search chose, which have no k to be compared with."""
    return f"{sum(ranks) / len(ranks):.2f}" + ("" if k is None else f" of k = {k}")


def chosen_components(layer: LayerRank, record: RankRecord) -> list[int]:
    """The indices of the singular components that one layer keeps at its rank.

    The rule `shares` keeps the components of the largest share that exceeds its standard error, and then the first
    ones if these are too few. Every other rule keeps the first ones. Raises UserError for a rank above k.
    """
    if layer.rank > record.k:
        raise UserError(
            f"--retrain.init: 'search' is not allowed for {layer.name} at rank {layer.rank}, as the search has only "
            f"{record.k} components of it; allowed here: scratch"
        )
    order = list(range(record.k))
    if record.rule == "shares" and len(layer.share) == record.k:
        errors = layer.share_standard_error or (0.0,) * record.k
        sure = [share > error for share, error in zip(layer.share, errors, strict=True)]
        order.sort(key=lambda j: (not sure[j], -layer.share[j] if sure[j] else j))
    return sorted(order[: layer.rank])


def of_run(record: RankRecord, config: WithLora) -> RankRecord:
    """The record with what another trainer needs besides the ranks: the scale of the run, and its base model."""
    return dataclasses.replace(
        record, lora_alpha=config.lora.lora_alpha, scale=config.retrain.scale,
        base_model=portable_name(config.model.name), revision=config.model.revision,
    )  # fmt: skip


def count_parameters(ranks: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """The number of LoRA parameters at these ranks; `sizes`: name -> inputs + outputs of the layer."""
    return sum(rank * sizes[name] for name, rank in ranks.items())


def counted(record: RankRecord, sizes: Mapping[str, int]) -> RankRecord:
    """The record with the LoRA parameters of its ranks, which may have been edited since the number was written.

    `sizes`: as in `count_parameters`; if it lacks a layer, the number stays as it was written."""
    if not record.kept.keys() <= sizes.keys():
        return record
    return dataclasses.replace(record, lora_parameters=count_parameters(record.kept, sizes))


def save(record: RankRecord, path: Path) -> None:
    """Writes ranks.json."""
    measured = {} if record.evidence is None else evidence.to_json(record.evidence, record.tolerance)
    write_json(
        path,
        {
            "k": record.k,
            "constraint": record.constraint,
            "rule": record.rule,
            "lambda": record.threshold,
            **({} if record.budget is None else {"budget": record.budget}),
            "layers": [_filled(layer) for layer in record.layers],
            "mean_rank": record.mean_rank,
            "lora_parameters": record.lora_parameters,
            **({} if record.lora_alpha is None else {name: getattr(record, name) for name in OF_RUN}),
            **({} if record.note is None else {"note": record.note}),
            **measured,
        },
    )


def _filled(layer: LayerRank) -> dict[str, Any]:
    """The non-empty fields of a layer, and always name, rank, alpha and contribution."""
    always = ("name", "rank", "alpha", "contribution")
    return {key: value for key, value in vars(layer).items() if key in always or value not in ((), None)}


_READER = TypeAdapter(RankRecord)


def load(path: Path) -> RankRecord:
    """Reads ranks.json, which a search or a person wrote. Raises UserError that names the file and the entry.

    A file written by hand needs only `layers`, each with name and rank; k is then the largest rank."""
    raw = load_json(path)
    if not isinstance(raw, dict):
        raise UserError(f"{path}: needs an object with layers, each with name and rank")
    measured = evidence.from_json(raw, str(path))
    found = {key: value for key, value in raw.items() if key not in (*evidence.KEYS, "mean_rank")}
    try:
        # In strict mode pydantic reads tuples and dataclasses from JSON text, but not from Python's lists and dicts.
        record = _READER.validate_json(json.dumps({"k": 1, "rule": "by hand"} | found))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {place}: {first['msg']}, holds {first['input']!r:.60}") from error
    if len(record.ranks) < len(record.layers):
        raise UserError(f"{path}: a layer is given twice")
    if "k" not in raw:
        record = dataclasses.replace(record, k=max(1, *record.ranks.values()))
    if measured is None:
        return record
    return dataclasses.replace(record, evidence=measured[0], tolerance=measured[1])


def check_against(record: RankRecord, shapes: Mapping[str, tuple[int, int]], path: Path) -> None:
    """Raises UserError for a record that does not fit the model.

    Refused are a layer that the model does not have, a rank larger than the layer allows, and a record without any
    rank above 0. `shapes`: name -> (outputs, inputs) of every layer that could take LoRA.
    """
    for layer in record.layers:
        if layer.name not in shapes:
            near = difflib.get_close_matches(layer.name, shapes, n=1, cutoff=0.0)
            raise UserError(f"{path}: the model has no layer {layer.name!r}; the nearest is {near[0]!r}")
        largest = min(shapes[layer.name])
        if layer.rank > largest:
            raise UserError(f"{path}: rank {layer.rank} of {layer.name!r} is out of range; allowed: 0 to {largest}")
    if not record.kept:
        raise UserError(f"{path}: every rank is 0; at least one layer needs a rank of 1 or more")
