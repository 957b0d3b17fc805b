"""What a cell of a study takes from other cells: their ranks, their search, or the learning rate that one chose."""

from collections.abc import Sequence
from typing import Any

from configs.errors import UserError
from configs.facts import CHOOSING_RANKS, evaluates_base
from configs.values import with_values
from engine.answer.again import source_of
from engine.retrain.components import components_from
from engine.retrain.owners import READ_RANKS
from engine.retrain.sources import ranks_from
from engine.run.contents import read_result
from engine.study.cells import Cell


def with_chosen_rate(cell: Cell, cells: Sequence[Cell]) -> Cell:
    """The cell with the learning rate that the first seed's cell chose; the first seed's cell itself is not changed.

    If only this cell has finished, it keeps the rate that it ran at. Raises UserError if neither has finished.
    """
    if not cell.config.retrain.learning_rates or evaluates_base(cell.config):
        return cell
    if (first := _first_seed_of(cell, cells)) is cell:
        return cell
    rate = next((rate for found in (first, cell) if (rate := _rate(found)) is not None), None)
    if rate is None:
        raise UserError(
            f"--study.sweep_once: cell {first.config.name}, which chooses the learning rate, has not finished, or its "
            f"metrics.json is damaged"
        )
    values: dict[str, Any] = {"retrain.learning_rate": rate, "retrain.learning_rates": []}
    if cell.config.method in CHOOSING_RANKS:  # its trials stay at the rate of the first seed's trials
        values = {"retrain.learning_rates": [rate]}
    return Cell(cell.values, with_values(cell.config, values))


def _rate(cell: Cell) -> float | None:
    """The learning rate of a finished cell; None if it has not finished or its metrics.json is damaged."""
    try:
        return read_result(cell.folder.metrics).get("learning_rate")
    except UserError:
        return None


def _first_seed_of(cell: Cell, cells: Sequence[Cell]) -> Cell:
    """The first cell that differs from this one at most in its seed and chooses from the same rates.

    The rates are compared because study.where may give one seed other rates, or none.
    """

    def place(of: Cell) -> tuple[dict[str, Any], list[float]]:
        return {axis: of.values[axis] for axis in of.values if axis != "seed"}, of.config.retrain.learning_rates

    return next(other for other in cells if place(other) == place(cell))


def reads(cell: Cell, cells: Sequence[Cell], *, sweep_once: bool) -> list[Cell]:
    """The other cells whose files this one reads: the ranks for a control, the search from which it derives another
    answer or the components that it starts from, or the learning rate that the first seed's cell chose."""
    needed = []
    if sweep_once and cell.config.retrain.learning_rates:
        needed.append(_first_seed_of(cell, cells))
    if cell.config.lora.ranks_from is not None and cell.config.method in READ_RANKS:
        source = ranks_from(cell.config).absolute()
        places = (source, *source.parents)  # the source itself, if it names a folder that is yet to come
        needed += [other for other in cells if other.folder.root.absolute() in places]
    for run in (source_of(cell.config), components_from(cell.config)):
        needed += [other for other in cells if run and other.folder.root.absolute() == run.root.absolute()]
    return [other for other in needed if other is not cell]
