"""What the terminal shows: log lines of our own, and ranks as a table."""

from __future__ import annotations

import logging
import warnings

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from engine.layer_names import grid_of
from engine.ranks import RankRecord

console = Console()
log = logging.getLogger("autolora")


def quiet_libraries(*, speaks: bool = True) -> None:
    """Our own log lines only; libraries speak up for errors. A process that does not speak shows nothing but those."""
    import datasets
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module=r"(transformers|torch|peft|accelerate|datasets)\b")
    console.quiet = not speaks
    if not log.handlers:
        handler = RichHandler(console=console, show_path=False, show_level=False, show_time=False, markup=False)
        log.addHandler(handler)
        log.setLevel(logging.INFO if speaks else logging.ERROR)
        log.propagate = False


def rank_table(record: RankRecord) -> Table:
    """Ranks as layers x projections, as the paper's Figure 3."""
    layers, projections, grid = rank_grid(record)
    table = Table()
    table.add_column("layer")
    for projection in projections:
        table.add_column(projection, justify="right")
    for layer, row in zip(layers, grid, strict=True):
        table.add_row(layer, *("" if rank is None else str(rank) for rank in row))
    return table


def rank_grid(record: RankRecord) -> tuple[list[str], list[str], list[list[int | None]]]:
    """Rows (blocks of the model), columns (projections) and the ranks between them; None where there is no layer."""
    grid = grid_of([layer.name for layer in record.layers])
    ranks = {place: record.layers[index].rank for place, index in grid.place.items()}
    return grid.blocks, grid.projections, [[ranks.get((b, p)) for p in grid.projections] for b in grid.blocks]
