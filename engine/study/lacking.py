"""Which cells of a study have no result, and why. Needs no pandas, as --show reads it."""

from collections.abc import Collection, Sequence

from autolora.engine.run.failure import failure_of
from autolora.engine.study.cells import Cell, damage

TITLE = "Without a result"
COLUMNS = ("cell", "why")
"""The title and the columns of the table in which a study's report has these cells."""
NOT_BEGUN = "it has not begun"


def without_result(cells: Sequence[Cell], known: Collection[str]) -> list[tuple[str, str]]:
    """A row for each cell that is not among the `known` ones: its name, and why it has no result. Several cells that
    have not begun share the last row."""
    lacking = [cell for cell in cells if cell.config.name not in known]
    rows = [(str(cell.config.name), _why(cell)) for cell in lacking]
    waiting = [name for name, why in rows if why == NOT_BEGUN]
    if len(waiting) > 1:
        rows = [(name, why) for name, why in rows if why != NOT_BEGUN]
        rows.append((f"{len(waiting)} cells, the first of them {waiting[0]}", "they have not begun"))
    return rows


def _why(cell: Cell) -> str:
    if cell.folder.metrics.exists():
        return damage(cell).removeprefix(f"{cell.config.name}: ") or "it finished after this table was written"
    return failure_of(cell.folder) or ("it is half-done" if cell.folder.begun else NOT_BEGUN)
