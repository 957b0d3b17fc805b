"""The cells of a study: every combination of its axes and variants, each an ordinary run; which reads which."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.cli import with_values
from configs.errors import UserError
from configs.schema import RunConfig, StudyConfig
from engine.methods import METHODS
from engine.methods.base import ranks_from
from engine.run_folder import RunFolder
from engine.study_folder import StudyFolder
from problems.tasks import make_task

VARIANT = "variant"

log = logging.getLogger("autolora")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study: its place on the axes and its configuration."""

    values: Mapping[str, Any]
    config: RunConfig


def expand(config: RunConfig, folder: StudyFolder) -> list[Cell]:
    """Every combination of the axes' values and the variants. Raises UserError for what is not allowed."""
    axes: dict[str, list[Any]] = dict(config.study.axes)
    empty = [key for key, values in axes.items() if not values]
    if empty:
        raise UserError(f"--study.axes: {empty[0]} has no values; give a list of one or more")
    if VARIANT in axes:
        raise UserError(f"--study.axes: {VARIANT!r} is not allowed; named settings go into study.variants")
    if config.study.variants:
        axes[VARIANT] = list(config.study.variants)
    for axis, places in config.study.where.items():
        if axis not in axes:
            raise UserError(f"--study.where: {axis!r} is no axis; there are: {', '.join(axes)}")
        elsewhere = [place for place in places if not any(_is(value, place) for value in axes[axis])]
        if elsewhere:  # no error: --study.axes may have narrowed the axis, as to one method first
            log.warning("--study.where: %s has no value %s here; unused", axis, ", ".join(elsewhere))
    cells = []
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        placed = dataclasses.replace(
            config, name=cell_name(values), runs_folder=str(folder.cells), study=StudyConfig()
        )
        if placed.tracking.group is None:
            placed = dataclasses.replace(placed, tracking=dataclasses.replace(config.tracking, group=config.name))
        cells.append(Cell(values, with_values(placed, _settings(config.study, values))))
    names = [cell.config.name for cell in cells]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"--study: two cells would be named {twice[0]}; give the values names that differ more")
    return cells


def _settings(study: StudyConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell sets: its place on the axes, its variant, and what holds where it lies."""
    settings = {key: value for key, value in values.items() if key != VARIANT}
    settings |= study.variants.get(values.get(VARIANT, ""), {})
    for axis, places in study.where.items():
        for place, more in places.items():
            if _is(values[axis], place):
                settings |= more
    return settings


def _is(value: Any, place: str) -> bool:
    """Whether a key of study.where, which is text, means this value of an axis."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(place) == value
        except ValueError:
            return False
    return str(value).lower() == place.lower()


def with_chosen_rate(cell: Cell, cells: Sequence[Cell]) -> Cell:
    """The cell at the learning rate that its first seed chose; the first seed's own cell as it is.

    Raises UserError when that one has not finished.
    """
    first = _first_seed_of(cell, cells)
    if first is cell or not cell.config.retrain.learning_rates:
        return cell
    metrics = run_folder_of(first).metrics
    if not metrics.exists():
        raise UserError(f"--study.sweep_once: the learning rate comes from cell {first.config.name}, which failed")
    rate = json.loads(metrics.read_text(encoding="utf-8"))["learning_rate"]
    values = {"retrain.learning_rate": rate, "retrain.learning_rates": []}
    return Cell(cell.values, with_values(cell.config, values))


def _first_seed_of(cell: Cell, cells: Sequence[Cell]) -> Cell:
    place = {key: value for key, value in cell.values.items() if key != "seed"}
    return next(c for c in cells if {key: c.values[key] for key in place} == place)


def reads(cell: Cell, cells: Sequence[Cell], *, sweep_once: bool) -> list[Cell]:
    """The other cells whose files this one needs: the ranks of a control, the learning rate of a first seed."""
    needed = []
    if sweep_once and cell.config.retrain.learning_rates:
        needed.append(_first_seed_of(cell, cells))
    if cell.config.lora.ranks_from is not None and METHODS[cell.config.method].reads_ranks:
        source = ranks_from(cell.config, make_task(cell.config)).absolute()
        needed += [other for other in cells if run_folder_of(other).root.absolute() in source.parents]
    return [other for other in needed if other is not cell]


def run_folder_of(cell: Cell) -> RunFolder:
    """Where a cell's results lie."""
    return RunFolder(Path(cell.config.runs_folder) / str(cell.config.name))


def cell_name(values: Mapping[str, Any]) -> str:
    """`type-darts_seed-0`: a folder name that says where the cell lies."""
    parts = [f"{key.split('.')[-1]}-{value}" for key, value in values.items()]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(parts)).strip("-_.")[:100]
