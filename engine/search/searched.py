"""A search as values: how it is made, and what it leaves.

No module of Betty is needed here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from autolora.configs.measure import RuleConfig
from autolora.configs.search import Constraint, HypergradientConfig, SearchConfig
from autolora.configs.training import LoraSettings
from autolora.engine.disk.files import read_json, replacing, write_json
from autolora.engine.disk.tables import read_parquet, write_parquet
from autolora.engine.measure.bases import plain_basis
from autolora.engine.ranks.record import kept_components
from autolora.problems.gates import Gates
from autolora.problems.models.attach import ADAPTER, attach_components, factors
from autolora.problems.models.load import BaseModel
from autolora.problems.tasks.scoring import Scoring

NUMBERS = ("alpha", "contribution", "singular_values")
_PARTS = ("alpha", "contribution")


@dataclass(frozen=True)
class Algorithm:
    """How a search is made: the sections of its settings, and its seed.

    `rule`: the one that will choose the ranks, as that of the paper may end the search early.
    `recompute`: whether blocks keep no activations.
    """

    lora: LoraSettings
    search: SearchConfig
    hypergradient: HypergradientConfig
    rule: RuleConfig
    seed: int = 0
    recompute: bool = False


@dataclass
class Trajectory:
    """The logged points of a search: `steps` [points], `alpha` and `contribution` [points][layers,
    k]."""

    names: Sequence[str]
    steps: list[int] = field(default_factory=list)
    alpha: list[Tensor] = field(default_factory=list)
    contribution: list[Tensor] = field(default_factory=list)

    def add(self, step: int, alpha: Tensor, contribution: Tensor) -> None:
        """Adds one point. alpha, contribution [layers, k]."""
        self.steps.append(step)
        self.alpha.append(alpha.clone())  # without a constraint it is beta itself, which moves on
        self.contribution.append(contribution)

    def ranks(self, constraint: Constraint, points: Sequence[int]) -> Tensor:
        """Every layer's rank by threshold at the points with these indices [points, layers]."""
        return torch.stack([kept_components(self.alpha[i], constraint) for i in points]).sum(2)

    def write(self, path: Path) -> None:
        """Writes parquet, a row for each point, layer and component (counted from 0)."""
        places = [self.steps, self.names, range(self.alpha[0].shape[1])]
        index = pd.MultiIndex.from_product(places, names=["step", "layer", "component"])
        columns = {
            name: torch.stack(getattr(self, name)).flatten().double().numpy() for name in _PARTS
        }
        write_parquet(path, pd.DataFrame(columns, index).reset_index())

    @classmethod
    def read(cls, path: Path) -> Self:
        """The trajectory in a parquet file. Raises UserError if the file is damaged."""
        way_out = "remove the file, and the report is drawn without its curves"
        table = read_parquet(path, way_out, ["layer", "step", *_PARTS])
        steps = table["step"].unique().tolist()
        names = table["layer"].unique().tolist()
        shape = (len(steps), len(names), -1)
        alpha, contribution = [
            list(torch.tensor(table[name].to_numpy(np.float32)).view(shape)) for name in _PARTS
        ]
        return cls(names, steps, alpha, contribution)


@dataclass(frozen=True)
class Searched:
    """A finished search.

    `weights`: the trained weights by their names in the model with LoRA, each layer in its singular
    basis, where all gates count as 1. `numbers`: alpha and contribution belong to the components of
    the search, singular_values to those of the singular basis [layers, k]. `trajectory` None: its
    file is gone. `sizes`: layer -> LoRA parameters of one component. `cost`: steps, seconds,
    passes, why it ended, and its peak of memory. `peft`: the fields of PEFT's configuration that
    only a loaded base model gives.
    """

    weights: Mapping[str, Tensor]
    numbers: Mapping[str, Tensor]
    trajectory: Trajectory | None
    sizes: Mapping[str, int]
    cost: Mapping[str, Any]
    peft: Mapping[str, Any]

    def save(self, root: Path) -> None:
        """Writes trajectory.parquet, weights.safetensors, components.safetensors and, last,
        summary.json into search/."""
        folder = root / "search"
        if self.trajectory is not None:
            self.trajectory.write(folder / "trajectory.parquet")
        for name, tensors in (
            ("weights.safetensors", self.weights),
            ("components.safetensors", self.numbers),
        ):
            with replacing(folder / name) as place:
                save_file(dict(tensors), place)
        write_json(
            folder / "summary.json",
            {
                "steps": self.cost["steps"],
                "seconds": self.cost["seconds"],
                "parameters_per_rank": dict(self.sizes),
                **self.cost,
                "peft": dict(self.peft),
            },
        )

    @classmethod
    def load(cls, root: Path) -> Self:
        """Reads what `save` has written."""
        folder = root / "search"
        summary = read_json(folder / "summary.json")
        sizes = summary.pop("parameters_per_rank")
        peft = summary.pop("peft", {})
        history = folder / "trajectory.parquet"
        return cls(
            load_file(folder / "weights.safetensors"),
            load_file(folder / "components.safetensors"),
            Trajectory.read(history) if history.exists() else None,
            sizes,
            summary,
            peft,
        )

    @property
    def trains_head(self) -> bool:
        """Whether anything but LoRA was trained."""
        return any(".lora_" not in name for name in self.weights)

    @torch.no_grad()
    def model(self, base: BaseModel, lora: LoraSettings, scoring: Scoring) -> PeftModel:
        """The searched model on a base model that was borrowed for it."""
        model = attach_components(base.model, lora, scoring.peft_type, base.trained_whole)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(self.weights[name])
        return model


@torch.no_grad()
def to_singular_basis(gates: Gates, values: Tensor) -> Tensor:
    """Rewrites B and A of each layer so that B diag(gates) A = U S V^T becomes B = U sqrt(S), A =
    sqrt(S) V^T.

    `values` [layers, k]: the gates of the search; afterwards all gates count as 1. The model's
    outputs stay the same, up to rounding. The loss does not determine the searched components: a
    factor can move from a gate to its A or B, and B R with R^-1 A gives the same update for every
    invertible R. The singular basis removes both freedoms. Component j of a layer becomes the j-th
    singular direction of its update.

    Returns the singular values of each layer's update, LoRA's scale included, in falling order
    [layers, k]; on the CPU.
    """
    found = []
    for layer, gate in zip(gates.layers.values(), values.detach().cpu().double(), strict=True):
        a, b = factors(layer)
        basis = plain_basis(a, b.cpu().double() * gate)
        b.copy_(basis.b)
        a.copy_(basis.a)
        found.append(basis.size * layer.scaling[ADAPTER])
    return torch.stack(found)
