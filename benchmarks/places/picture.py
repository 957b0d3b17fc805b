"""What LoRA in each layer is worth beside the others, as a map: blocks of the model across, projections down."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autolora.engine.ranks.grid import grid_of
from autolora.engine.report.figures import plt, save_figure


def draw_effects(layers: Sequence[str], effects: np.ndarray, path: Path) -> None:
    """Draws the effects. Blue: LoRA in the layer lowers the loss more than in the layers it displaces; red: less."""
    grid = grid_of(layers)
    values = np.full((len(grid.projections), len(grid.blocks)), np.nan)
    for (column, row), effect in zip(grid.cells, effects, strict=True):
        values[row, column] = effect
    size = (2.6 + 0.62 * len(grid.blocks), 1.4 + 0.4 * len(grid.projections))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    limit = float(np.nanmax(np.abs(values))) or 1.0
    image = axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(len(grid.blocks)), grid.blocks)
    axes.set_yticks(range(len(grid.projections)), grid.projections)
    axes.set_xlabel("block")
    axes.set_title(
        "by how many nats LoRA in a layer lowers the loss\nmore than LoRA in the layers that it displaces", fontsize=9
    )
    figure.colorbar(image, ax=axes)
    save_figure(figure, path)
