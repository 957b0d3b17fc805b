"""The cells of a study: an ordinary run for every combination of its axes and variants."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.layers import flat, given, keys, settled, tree_of
from autolora.configs.schema import RunConfig
from autolora.configs.study import StudyConfig
from autolora.engine import ranks
from autolora.engine.run.contents import read_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.combinations import combinations, named_values
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.held_out import held_out_loss
from autolora.engine.study.names import cell_name, cell_names
from autolora.engine.study.values import means, word

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
    """Every combination of the axes' values. Raises UserError for wrong settings in study."""
    study, tracking = config.studied, config.tracking
    _check_axes(study)
    if tracking.wandb != "disabled":
        tracking = tracking.model_copy(update={"group": tracking.group or config.name})
    placed = config.model_copy(update={"runs_folder": str(folder.cells), "study": None, "tracking": tracking})
    usual = {key: value for key, value in flat(given(placed)).items() if key not in study.axes}
    lower = [tree_of(study.others), tree_of(usual)]
    cells = []
    planned = list(combinations(study))
    for values, name in zip(planned, cell_names(planned), strict=True):
        axes, named = _of_axes(study, values), named_settings(study, values)
        try:
            # The named settings may belong to the values, as columns to a path; a method may lack some of them.
            of_cell = settled([*lower, tree_of(axes | named)], tree_of(axes)).config
        except UserError as error:
            raise UserError(f"cell {name}: {error}") from error
        cells.append(Cell(values, of_cell.model_copy(update={"name": name})))
    _refuse_unread(study, cells)
    if not cells:
        raise UserError("--study.exclude: leaves out every cell of the study; allowed: entries that keep at least one")
    names = [cell.config.name for cell in cells]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"--study: two cells would be named {twice[0]}; change a value or the name of a variant")
    return cells


def _check_axes(study: StudyConfig) -> None:
    """Raises UserError for wrong settings in study."""
    for axis, values in study.axes.items():
        if not values:
            raise UserError(f"--study.axes: {axis} has no values; give a list of one or more")
        settings = [key for named in values.values() for key in named] if isinstance(values, dict) else []
        own = [key for key in (axis, *settings) if key in _OWN or key.startswith("study.")]
        again = [key for key in settings if key in study.axes]
        if own or again:
            why = "the study names and places its cells" if own else "it is an axis, which gives its values"
            raise UserError(f"--study.axes: {(own or again)[0]!r} is not allowed in {axis}, as {why}")
    if unknown := [axis for entry in study.exclude for axis in entry if axis not in study.axes]:
        raise UserError(f"--study.exclude: {unknown[0]!r} is no axis; there are: {', '.join(study.axes)}")


def tell_unknown_values(study: StudyConfig) -> None:
    """Warns of values in study.exclude that their axis lacks. This is no error: --study.axes may have narrowed the
    axis, say to one method."""
    for axis, named in (item for entry in study.exclude for item in entry.items()):
        known = study.values[axis]
        elsewhere = [one for one in named_values(named, known) if not any(means(value, one) for value in known)]
        if elsewhere:
            values = ", ".join(map(word, elsewhere))
            log.warning("--study.exclude: the axis %s has no value %s; naming it has no effect", axis, values)


def _of_axes(study: StudyConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a cell that are its values on axes. A name alone, such as that of a variant, is none."""
    return {axis: value for axis, value in values.items() if axis in keys() or not _named(study, axis)}


def named_settings(study: StudyConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the names of a cell's values stand for.

    Raises UserError if they give one key two values: the cell's name would tell one that it does not have."""
    settings: dict[str, Any] = {}
    for axis, value in values.items():
        named = _named(study, axis)
        for key, one in named[value].items() if named else ():
            if settings.setdefault(key, one) != one:
                raise UserError(
                    f"--study.axes: {key} of {axis} {word(value)} already has another value in the cell "
                    f"{cell_name(values)}, from another axis; set it in one of these places"
                )
    return settings


def _refuse_unread(study: StudyConfig, cells: Sequence[Cell]) -> None:
    """Raises UserError for a named setting that none of its cells reads: the other methods of an axis may lack it."""
    left = {(axis, name, key) for axis in study.axes for name, more in _named(study, axis).items() for key in more}
    for cell in cells if left else ():
        read = flat(cell.config.model_dump()).keys()
        left -= {(axis, cell.values[axis], key) for axis, _, key in left if key in read}
    named = {(axis, value) for cell in cells for axis, value in cell.values.items() if _named(study, axis)}
    for axis, name, key in sorted(left, key=str):
        if (axis, name) in named:
            raise UserError(f"--study.axes: no cell of {axis} {word(name)} has the key {key}")


def _named(study: StudyConfig, axis: str) -> dict[Any, dict[str, Any]]:
    """The named settings of an axis; none for a list of values."""
    found = study.axes[axis]
    return found if isinstance(found, dict) else {}


def damage(cell: Cell) -> str:
    """Says in one line what is damaged in a finished cell; "" if all files that the study reads are intact."""
    try:
        read_result(cell.folder.metrics)
        if cell.folder.ranks.exists():
            ranks.load(cell.folder.ranks)
        elif cell.config.has_lora:
            raise UserError(f"{cell.folder.ranks}: does not exist")
        if cell.folder.row_losses.exists():
            held_out_loss(cell.folder)
    except UserError as error:
        return f"{cell.config.name}: {error}; to train the cell again, remove {cell.folder.root}"
    return ""
