"""The cells of a study: every combination of its axes and variants, each an ordinary run; which reads which."""

import dataclasses
import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from configs.errors import UserError
from configs.rules import evaluates_base
from configs.schema import RunConfig, StudyConfig
from configs.values import with_values
from engine import ranks
from engine.answer.again import source_of
from engine.retrain.owners import READ_RANKS
from engine.retrain.sources import ranks_from
from engine.run.contents import read_result
from engine.run.folder import RunFolder
from engine.study.folder import StudyFolder
from engine.study.words import means, word

VARIANT = "variant"
RESULT_KEYS = (
    "task", "method", "metrics", "lora_parameters", "trainable_parameters", "learning_rate", "seconds", "steps",
)  # fmt: skip
"""The keys of metrics.json that make a row of results.parquet."""
_OWN = ("name", "runs_folder")

log = logging.getLogger("autolora")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study: its place on the axes and its configuration."""

    values: Mapping[str, Any]
    config: RunConfig

    @property
    def folder(self) -> RunFolder:
        """Where its results lie."""
        return RunFolder.of(self.config)


def expand(config: RunConfig, folder: StudyFolder) -> list[Cell]:
    """Every combination of the axes' values and the variants. Raises UserError for what is not allowed."""
    axes = _axes(config.study)
    tracking = dataclasses.replace(config.tracking, group=config.tracking.group or config.name)
    placed = dataclasses.replace(config, runs_folder=str(folder.cells), study=StudyConfig(), tracking=tracking)
    cells = []
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        named = dataclasses.replace(placed, name=cell_name(values))
        cells.append(Cell(values, with_values(named, _settings(config.study, values))))
    names = [cell.config.name for cell in cells]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"--study: two cells would be named {twice[0]}; give the values names that differ more")
    return cells


def _axes(study: StudyConfig) -> dict[str, list[Any]]:
    """The axes and their values, variants the last. Raises UserError for what is not allowed."""
    axes: dict[str, list[Any]] = dict(study.axes)
    empty = [key for key, values in axes.items() if not values]
    if empty:
        raise UserError(f"--study.axes: {empty[0]} has no values; give a list of one or more")
    if VARIANT in axes:
        raise UserError(f"--study.axes: {VARIANT!r} is not allowed; named settings go into study.variants")
    if study.variants:
        axes[VARIANT] = list(study.variants)
    _refuse_own_keys(study)
    _refuse_axes_again(study)
    for axis, places in study.where.items():
        if axis not in axes:
            raise UserError(f"--study.where: {axis!r} is no axis; there are: {', '.join(axes)}")
        elsewhere = [place for place in places if not any(means(value, place) for value in axes[axis])]
        if elsewhere:  # no error: --study.axes may have narrowed the axis, as to one method first
            log.warning("--study.where: %s has no value %s here; unused", axis, ", ".join(map(word, elsewhere)))
    return axes


def _refuse_own_keys(study: StudyConfig) -> None:
    """Raises UserError for keys that a study itself sets in its cells."""
    more = [settings for places in study.where.values() for settings in places.values()]
    for field, keys in (("axes", [study.axes]), ("variants", study.variants.values()), ("where", more)):
        own = [key for one in keys for key in one if key in _OWN or key.startswith("study.")]
        if own:
            raise UserError(
                f"--study.{field}: {own[0]!r} is not allowed, as the study names and places its cells; allowed: "
                f"the keys of a run but {', '.join(_OWN)} and study"
            )


def _refuse_axes_again(study: StudyConfig) -> None:
    """Raises UserError for a variant or a place that sets the key of an axis: the cells would be named, and stand in
    the tables, by values that they do not have."""
    more = [settings for places in study.where.values() for settings in places.values()]
    for field, settings in (("variants", study.variants.values()), ("where", more)):
        again = [key for one in settings for key in one if key in study.axes]
        if again:
            raise UserError(
                f"--study.{field}: {again[0]} is an axis, which gives its values; leave it out of one of them"
            )


def _settings(study: StudyConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell sets: its place on the axes, its variant, and what holds where it lies."""
    settings = {key: value for key, value in values.items() if key != VARIANT}
    settings |= study.variants.get(values.get(VARIANT, ""), {})
    for axis, places in study.where.items():
        for place, more in places.items():
            if means(values[axis], place):
                settings |= more
    return settings


def damage(cell: Cell) -> str:
    """What is damaged in a finished cell, in one line; "" where all that the study reads of it is whole."""
    try:
        read_result(cell.folder.metrics, *RESULT_KEYS)
        if cell.folder.ranks.exists():
            ranks.load(cell.folder.ranks)
    except UserError as error:
        return f"{cell.config.name}: {error}"
    return ""


def with_chosen_rate(cell: Cell, cells: Sequence[Cell]) -> Cell:
    """The cell at the learning rate that its first seed chose; the first seed's own cell as it is.

    Raises UserError when the first seed has not finished, unless this cell has: it keeps the rate that it ran at.
    """
    if not cell.config.retrain.learning_rates or evaluates_base(cell.config):
        return cell
    if (first := _first_seed_of(cell, cells)) is cell:
        return cell
    rate = next((rate for found in (first, cell) if (rate := _rate(found)) is not None), None)
    if rate is None:
        raise UserError(
            f"--study.sweep_once: the learning rate is what cell {first.config.name} chooses, which has not finished, "
            f"or whose metrics.json is damaged"
        )
    values = {"retrain.learning_rate": rate, "retrain.learning_rates": []}
    return Cell(cell.values, with_values(cell.config, values))


def _rate(cell: Cell) -> float | None:
    """The learning rate of a finished cell; None where it has not finished or its metrics.json is damaged."""
    try:
        return read_result(cell.folder.metrics).get("learning_rate")
    except UserError:
        return None


def _first_seed_of(cell: Cell, cells: Sequence[Cell]) -> Cell:
    """The first cell at this one's place on all axes but the seed that chooses from the same rates: study.where may
    give a seed others, or none."""

    def place(of: Cell) -> tuple[dict[str, Any], list[float]]:
        return {axis: of.values[axis] for axis in of.values if axis != "seed"}, of.config.retrain.learning_rates

    return next(other for other in cells if place(other) == place(cell))


def reads(cell: Cell, cells: Sequence[Cell], *, sweep_once: bool) -> list[Cell]:
    """The other cells whose files this one needs: the ranks of a control, a search that is answered again, the
    learning rate of a first seed."""
    needed = []
    if sweep_once and cell.config.retrain.learning_rates:
        needed.append(_first_seed_of(cell, cells))
    if cell.config.lora.ranks_from is not None and cell.config.method in READ_RANKS:
        source = ranks_from(cell.config).absolute()
        needed += [other for other in cells if other.folder.root.absolute() in source.parents]
    searched = source_of(cell.config)
    if searched is not None:
        needed += [other for other in cells if other.folder.root.absolute() == searched.root.absolute()]
    return [other for other in needed if other is not cell]


def cell_name(values: Mapping[str, Any]) -> str:
    """`type-darts_seed-0`: a folder name that says where the cell lies; whole keys where two end alike."""
    last = [key.split(".")[-1] for key in values]
    keys = [key if last.count(short) > 1 else short for key, short in zip(values, last, strict=True)]
    parts = [f"{key}-{word(value).strip('[]')}" for key, value in zip(keys, values.values(), strict=True)]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(parts)).strip("-_.")[:100]
