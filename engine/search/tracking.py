"""What a search sends to its tracker; docs/wandb.md describes it for users. It counts components from 1, as the paper
and the report do."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autolora.engine.ranks.grid import grid_of, key_names, short_names
from autolora.engine.ranks.picture import rank_picture
from autolora.engine.search.trajectory import Trajectory
from autolora.engine.tracking import Tracker

# About this many rank maps are sent in a search: each is a file, and more would only crowd the slider in wandb.
MOST_PICTURES = 20
# With more layers than this there is a chart for each block of the model instead of one for each layer.
MOST_CHARTS = 48


class SearchTracking:
    """Sends each logged point during a search of `steps` steps, and the trajectories when it ends."""

    def __init__(self, tracker: Tracker, steps: int) -> None:
        self.tracker = tracker
        self._every = max(1.0, steps / MOST_PICTURES)
        self._last_picture = -1

    def point(self, line: Mapping[str, Any], history: Trajectory, ranks: Sequence[int]) -> None:
        """Sends a line of metrics.jsonl, the newest point of `history`, and the ranks at that point (empty: none)."""
        if not self.tracker.alive:
            return
        alpha, contribution = history.alpha[-1], history.contribution[-1]
        entropies = entropy(alpha)
        values: dict[str, Any] = {f"search/{key}": value for key, value in line.items()}
        values["search/mean_entropy"] = float(entropies.mean())
        for index, name in enumerate(key_names(history.names)):
            if ranks:
                values[f"rank/{name}"] = ranks[index]
            values[f"entropy/{name}"] = float(entropies[index])
            for kind, rows in (("alpha", alpha), ("contribution", contribution)):
                values |= {f"{kind}/{name}/{j}": value for j, value in enumerate(rows[index].tolist(), start=1)}
        due = int(line["step"] / self._every)
        if ranks and due != self._last_picture:
            self._last_picture = due
            values["search/rank_map"] = rank_picture(history.names, ranks, alpha.shape[1])
        self.tracker.log(values)

    def end(self, history: Trajectory) -> None:
        """Sends a chart of alpha for each layer (for each block, if there are many layers) and one of entropies."""
        if not self.tracker.alive:
            return
        alpha = np.stack(history.alpha)
        for title, curves in alpha_charts(history.names, alpha).items():
            self.tracker.lines(f"trajectories/{title}", history.steps, curves)
        entropies = np.stack([entropy(rows) for rows in alpha])
        curves = {name: entropies[:, index].tolist() for index, name in enumerate(short_names(history.names))}
        self.tracker.lines("trajectories/entropy_of_alpha", history.steps, curves)


def entropy(alpha: np.ndarray) -> np.ndarray:
    """Entropy, divided by ln k, of each layer's alpha [layers, k]: 1 if alpha is uniform, 0 if one component has all.

    Each row is first scaled to a sum of 1. Negative alphas, which constraint none allows, count as 0.
    """
    positive = np.clip(alpha.astype(np.float64), 0.0, None)
    share = positive / np.maximum(positive.sum(axis=1, keepdims=True), 1e-12)
    terms = np.where(share > 0, share * np.log(np.where(share > 0, share, 1.0)), 0.0)
    result: np.ndarray = -terms.sum(axis=1) / np.log(max(2, alpha.shape[1]))
    return result + 0.0


def alpha_charts(names: Sequence[str], alpha: np.ndarray) -> dict[str, dict[str, list[float]]]:
    """The charts of alpha: title -> name of a line -> its values. alpha [points, layers, k]."""
    by_layer = [
        {f"component {j + 1}": alpha[:, i, j].tolist() for j in range(alpha.shape[2])} for i in range(len(names))
    ]
    if len(names) <= MOST_CHARTS:
        return dict(zip(key_names(names), by_layer, strict=True))
    charts: dict[str, dict[str, list[float]]] = {}
    grid = grid_of(names)
    for components, (block, projection) in zip(by_layer, grid.cells, strict=True):
        lines = {f"{grid.projections[projection]} {line}": values for line, values in components.items()}
        charts.setdefault(f"block_{grid.blocks[block]}", {}).update(lines)
    return charts
