"""alpha and contribution of every component over the search: in memory, in the checkpoint, as a parquet file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from configs.errors import UserError
from configs.schema import Constraint
from engine.disk.files import read_parquet, write_parquet
from engine.ranks.rules import kept_components


@dataclass
class Trajectory:
    """Logged points: `steps` [points], `alpha` and `contribution` [points][layers, k]."""

    names: Sequence[str]
    steps: list[int] = field(default_factory=list)
    alpha: list[np.ndarray] = field(default_factory=list)
    contribution: list[np.ndarray] = field(default_factory=list)

    def add(self, step: int, alpha: Tensor, contribution: Tensor) -> None:
        """Adds one point. alpha, contribution [layers, k]."""
        self.steps.append(step)
        self.alpha.append(alpha.numpy().astype(np.float32))
        self.contribution.append(contribution.numpy().astype(np.float32))

    def ranks(self, constraint: Constraint, points: Sequence[int]) -> np.ndarray:
        """Every layer's rank by threshold at these of the points [points, layers]."""
        kept = [kept_components(torch.from_numpy(self.alpha[i]), constraint) for i in points]
        found: np.ndarray = torch.stack(kept).sum(dim=2).numpy()
        return found

    def tensors(self) -> dict[str, Tensor]:
        """The points as tensors for the checkpoint."""
        return {
            "steps": torch.tensor(self.steps),
            "alpha": torch.from_numpy(np.stack(self.alpha)),
            "contribution": torch.from_numpy(np.stack(self.contribution)),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Replaces the points by those of a checkpoint."""
        self.steps = tensors["steps"].tolist()
        self.alpha = list(tensors["alpha"].numpy())
        self.contribution = list(tensors["contribution"].numpy())

    def write(self, path: Path) -> None:
        """Parquet with a row per point, layer and component: step, layer, component, alpha, contribution."""
        points, layers, k = len(self.steps), len(self.names), self.alpha[0].shape[1]
        frame = pd.DataFrame(
            {
                "step": np.repeat(np.asarray(self.steps, dtype=np.int64), layers * k),
                "layer": np.tile(np.repeat(np.asarray(self.names, dtype=object), k), points),
                "component": np.tile(np.arange(k, dtype=np.int64), points * layers),
                "alpha": np.stack(self.alpha).reshape(-1).astype(np.float64),
                "contribution": np.stack(self.contribution).reshape(-1).astype(np.float64),
            }
        )
        write_parquet(path, frame)


def read(path: Path) -> Trajectory:
    """The trajectory in a parquet file. Raises UserError that names the file when it is damaged."""
    way_out = "remove the file, and the report is drawn without its curves"
    frame = read_parquet(path, way_out, texts=["layer"], numbers=["step", "component", "alpha", "contribution"])
    names = list(dict.fromkeys(frame["layer"]))
    try:
        steps = [int(step) for step in frame["step"].drop_duplicates()]
        shape = (len(steps), len(names), int(frame["component"].max()) + 1)
        alpha, contribution = (
            list(frame[name].to_numpy(np.float32).reshape(shape)) for name in ("alpha", "contribution")
        )
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: rows are missing or doubled; {way_out}") from error
    return Trajectory(names, steps, alpha, contribution)
