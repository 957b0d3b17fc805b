"""The trajectory of alpha: its points, its file, and what wandb gets of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import entropy
from torch import Tensor

from autolora.configs.search import Constraint
from autolora.engine.disk.tables import read_parquet, write_parquet
from autolora.engine.ranks.record import kept_components
from autolora.engine.tracking.picture import rank_picture
from autolora.engine.world import Tracker
from autolora.problems.models.names import key_names

MOST_PICTURES = 20
"""About this many rank maps are sent to wandb in a search: each is a file, and more would only
crowd its slider."""
_PARTS = ("alpha", "contribution")


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


def read(path: Path) -> Trajectory:
    """The trajectory in a parquet file. Raises UserError if the file is damaged."""
    way_out = "remove the file, and the report is drawn without its curves"
    table = read_parquet(path, way_out, ["layer", "step", *_PARTS])
    steps = table["step"].unique().tolist()
    names = table["layer"].unique().tolist()
    shape = (len(steps), len(names), -1)
    alpha, contribution = [
        list(torch.tensor(table[name].to_numpy(np.float32)).view(shape)) for name in _PARTS
    ]
    return Trajectory(names, steps, alpha, contribution)


def send_point(
    tracker: Tracker, line: Mapping[str, Any], history: Trajectory, ranks: Sequence[int], steps: int
) -> None:
    """Sends a line of metrics.jsonl, the newest point of `history`, and the ranks at that point
    (empty: none), in a search of `steps` steps; docs/run-folder.md describes it for users.
    Components count from 1, as in the paper."""
    if not tracker.alive:
        return
    alpha = history.alpha[-1]
    contribution = history.contribution[-1]
    entropies = entropy(alpha.clip(0).numpy(), axis=1, base=max(2, alpha.shape[1]))
    values: dict[str, Any] = {f"search/{key}": value for key, value in line.items()}
    values["search/mean_entropy"] = float(entropies.mean())
    for index, name in enumerate(key_names(history.names)):
        if ranks:
            values[f"rank/{name}"] = ranks[index]
        values[f"entropy/{name}"] = float(entropies[index])
        for kind, rows in (("alpha", alpha), ("contribution", contribution)):
            values |= {
                f"{kind}/{name}/{j}": value for j, value in enumerate(rows[index].tolist(), start=1)
            }
    period = max(1.0, steps / MOST_PICTURES)
    before, now = [int(step / period) for step in history.steps[-2:]]
    if ranks and now > before:
        values["search/rank_map"] = rank_picture(history.names, ranks, alpha.shape[1])
    tracker.log(values)


def send_curves(tracker: Tracker, history: Trajectory) -> None:
    """Sends a chart of alpha for each layer."""
    if not tracker.alive:
        return
    alpha = torch.stack(history.alpha)
    for index, name in enumerate(key_names(history.names)):
        curves = {f"component {j + 1}": alpha[:, index, j].tolist() for j in range(alpha.shape[2])}
        tracker.lines(f"trajectories/{name}", history.steps, curves)
