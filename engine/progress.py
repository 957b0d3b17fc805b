"""What the terminal shows: one bar for the search, plain lines where the output is no terminal."""

from __future__ import annotations

import logging
import time
import warnings
from types import TracebackType

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
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


class SearchProgress:
    """The search's bar with both losses and the mean rank; without a terminal a line every tenth of the way."""

    def __init__(self, total: int, done: int) -> None:
        self.total = total
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("search"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("search", total=total, completed=done, text="")

    def __enter__(self) -> SearchProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def step(self, step: int) -> None:
        """Moves the bar."""
        self._bar.update(self._task, completed=step)

    def show(self, step: int, train_loss: float, val_loss: float | None, mean_rank: float) -> None:
        """New numbers."""
        val_text = "-" if val_loss is None else f"{val_loss:.3f}"
        text = f"L_tr {train_loss:.3f}  L_val {val_text}  mean rank {mean_rank:.2f}"
        self._bar.update(self._task, text=text)
        if not console.is_terminal and time.monotonic() - self._last_line > 10:
            self._last_line = time.monotonic()
            log.info("search %d/%d  %s", step, self.total, text)


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
