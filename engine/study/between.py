"""What a cell of a study takes from other cells: their ranks, their search, or the learning rate that one chose."""

from collections.abc import Sequence
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.layers import with_values
from autolora.engine.choose.reuse import source_of
from autolora.engine.retrain.components import components_from
from autolora.engine.retrain.sources import named_ranks, ranks_from
from autolora.engine.run.contents import read_result
from autolora.engine.study.cells import Cell


def with_chosen_rate(cell: Cell, cells: Sequence[Cell]) -> Cell:
    """The cell with the learning rate that the cell of one seed chose; that cell itself is not changed.

    A finished cell keeps the rate that it ran at. Raises UserError if no rate is chosen yet.
    """
    if len(cell.config.retrain.rates) < 2 or cell.config.evaluates_base:
        return cell
    chooses = _chooser(cell, cells)
    if chooses is cell and (_chose(cell) or _rate(cell) is None):
        return cell
    rate = next((rate for found in (chooses, cell) if (rate := _rate(found)) is not None), None)
    if rate is None:
        raise UserError(
            f"--study.sweep_once: cell {chooses.config.name}, which chooses the learning rate, has not finished, or "
            f"its metrics.json is damaged"
        )
    return Cell(cell.values, with_values(cell.config, {"retrain.learning_rate": rate}))


def _rate(cell: Cell) -> float | None:
    """The learning rate of a finished cell; None if it has not finished or its metrics.json is damaged."""
    try:
        return read_result(cell.folder.metrics).get("learning_rate")
    except UserError:
        return None


def _chose(cell: Cell) -> bool:
    """Whether a finished cell chose its rate itself, from all rates that its configuration names."""
    try:
        tried = read_result(cell.folder.metrics).get("learning_rates_tried")
    except UserError:
        return False
    return bool(tried == cell.config.retrain.rates)


def _chooser(cell: Cell, cells: Sequence[Cell]) -> Cell:
    """The cell that chooses the rate for this one, of those that differ from it at most in their seed and choose from
    the same rates: the first that has chosen, else the first that has finished (the one that chose is then no longer
    among the cells), else the first. So the seeds of a study may change.

    The rates are compared because an axis may give one seed other rates, or none.
    """

    def place(of: Cell) -> tuple[dict[str, Any], list[float]]:
        return {axis: of.values[axis] for axis in of.values if axis != "seed"}, of.config.retrain.rates

    alike = [other for other in cells if place(other) == place(cell)]
    chosen = next((other for other in alike if _chose(other)), None)
    return chosen or next((other for other in alike if _rate(other) is not None), alike[0])


def reads(cell: Cell, cells: Sequence[Cell], *, sweep_once: bool) -> list[Cell]:
    """The other cells whose files this one reads: the ranks for a control, the search from which it derives another
    answer or the components that it starts from, or the learning rate that the cell of another seed chose."""
    needed = []
    if sweep_once and len(cell.config.retrain.rates) > 1:
        needed.append(_chooser(cell, cells))
    if named_ranks(cell.config):
        source = ranks_from(cell.config).absolute()
        places = (source, *source.parents)  # the source itself, if it names a folder that is yet to come
        needed += [other for other in cells if other.folder.root.absolute() in places]
    for run in (source_of(cell.config), components_from(cell.config)):
        needed += [other for other in cells if run and other.folder.root.absolute() == run.root.absolute()]
    return [other for other in needed if other is not cell]
