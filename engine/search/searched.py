"""A search as values: how it is made, and what it leaves.

No module of Betty is needed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from autolora.configs.measure import RuleConfig
from autolora.configs.search import HypergradientConfig, SearchConfig
from autolora.configs.training import LoraSettings
from autolora.engine.cut.basis import plain_basis
from autolora.engine.disk.files import read_json, replacing, write_json
from autolora.engine.search import trajectory
from autolora.engine.search.trajectory import Trajectory
from autolora.problems.gates import Gates
from autolora.problems.models.attach import ADAPTER, attach_components, factors
from autolora.problems.models.load import BaseModel
from autolora.problems.tasks.scoring import Scoring

NUMBERS = ("alpha", "contribution", "singular_values")


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
            trajectory.read(history) if history.exists() else None,
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
