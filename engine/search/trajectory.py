"""The logged points of a search (alpha and contribution of every component), and the parquet file that keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from autolora.configs.errors import UserError
from autolora.configs.search import Constraint
from autolora.engine.disk.files import replacing
from autolora.engine.disk.tables import numbers_of, read_columns
from autolora.engine.ranks.threshold import kept_components

if TYPE_CHECKING:  # --show reads this module and must not wait for torch
    from torch import Tensor


@dataclass
class Trajectory:
    """Logged points: `steps` [points], `alpha` and `contribution` [points][layers, k]."""

    names: Sequence[str]
    steps: list[int] = field(default_factory=list)
    alpha: list[np.ndarray] = field(default_factory=list)
    contribution: list[np.ndarray] = field(default_factory=list)

    def add(self, step: int, alpha: "Tensor", contribution: "Tensor") -> None:
        """Adds one point. alpha, contribution [layers, k]."""
        self.steps.append(step)
        self.alpha.append(alpha.numpy().astype(np.float32))
        self.contribution.append(contribution.numpy().astype(np.float32))

    def ranks(self, constraint: Constraint, points: Sequence[int]) -> np.ndarray:
        """Every layer's rank by threshold at the points with these indices [points, layers]."""
        kept = [kept_components(self.alpha[i], constraint) for i in points]
        found: np.ndarray = np.stack(kept).sum(axis=2)
        return found

    def tensors(self) -> "dict[str, Tensor]":
        """The points for a checkpoint."""
        import torch

        return {
            "steps": torch.tensor(self.steps),
            "alpha": torch.from_numpy(np.stack(self.alpha)),
            "contribution": torch.from_numpy(np.stack(self.contribution)),
        }

    def restore(self, tensors: "dict[str, Tensor]") -> None:
        """Replaces the points by those of a checkpoint."""
        self.steps = tensors["steps"].tolist()
        self.alpha, self.contribution = (list(tensors[name].numpy()) for name in ("alpha", "contribution"))

    def write(self, path: Path) -> None:
        """Writes parquet, a row for each point, layer and component: step, layer, component (counted from 0), alpha,
        contribution."""
        points, layers, k = len(self.steps), len(self.names), self.alpha[0].shape[1]
        table = pa.table(
            {
                "step": np.repeat(np.asarray(self.steps, dtype=np.int64), layers * k),
                "layer": pa.array(np.tile(np.repeat(np.asarray(self.names, dtype=object), k), points), pa.string()),
                "component": np.tile(np.arange(k, dtype=np.int64), points * layers),
                "alpha": np.stack(self.alpha).reshape(-1).astype(np.float64),
                "contribution": np.stack(self.contribution).reshape(-1).astype(np.float64),
            }
        )
        with replacing(path) as temporary:
            pq.write_table(table, temporary)


def read(path: Path) -> Trajectory:
    """The trajectory in a parquet file. Raises UserError if the file is damaged."""
    way_out = "remove the file, and the report is drawn without its curves"
    table = read_columns(path, way_out, texts=["layer"], numbers=["step", "component", "alpha", "contribution"])
    names = table["layer"].unique().to_pylist()
    try:
        steps = [int(step) for step in table["step"].unique().to_pylist()]
        shape = (len(steps), len(names), int(max(table["component"].unique().to_pylist())) + 1)
        alpha, contribution = (
            list(numbers_of(table[name]).astype(np.float32).reshape(shape)) for name in ("alpha", "contribution")
        )
    except (ValueError, OverflowError, TypeError, pa.ArrowException) as error:
        raise UserError(f"{path}: rows are missing or doubled; {way_out}") from error
    return Trajectory(names, steps, alpha, contribution)
