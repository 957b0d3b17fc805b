"""Which cells of a study have no result, and why."""

from collections.abc import Collection, Sequence

import pandas as pd

from engine.run.failure import failure_of
from engine.study.cells import Cell, damage


def without_result(cells: Sequence[Cell], known: Collection[str]) -> pd.DataFrame:
    """A row for each cell that is not among the `known` ones: its name, and why it has no result."""
    lacking = [cell for cell in cells if cell.config.name not in known]
    return pd.DataFrame({"cell": [cell.config.name for cell in lacking], "why": [_why(cell) for cell in lacking]})


def _why(cell: Cell) -> str:
    if cell.folder.metrics.exists():
        return damage(cell).removeprefix(f"{cell.config.name}: ") or "it finished after this table was written"
    return failure_of(cell.folder) or ("it is half-done" if cell.folder.begun else "it has not begun")
