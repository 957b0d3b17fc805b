"""The cells of a study: an ordinary run for every combination of its axes and variants."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.facts import WITHOUT_LORA
from autolora.configs.schema import RunConfig, StudyConfig
from autolora.configs.values import with_values
from autolora.engine import ranks
from autolora.engine.run.contents import read_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.combinations import VARIANT, axes_of_study, combinations, named_values
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
    """Every combination of the axes' values and the variants. Raises UserError for wrong settings in study."""
    _check_axes(config.study)
    tracking = config.tracking
    if tracking.wandb != "disabled":
        tracking = dataclasses.replace(tracking, group=tracking.group or config.name)
    placed = dataclasses.replace(config, runs_folder=str(folder.cells), study=StudyConfig(), tracking=tracking)
    cells = []
    planned = list(combinations(config.study))
    for values, name in zip(planned, cell_names(planned), strict=True):
        named = dataclasses.replace(placed, name=name)
        cells.append(Cell(values, with_values(named, own_settings(config.study, values))))
    if not cells:
        raise UserError("--study.exclude: leaves out every cell of the study; allowed: entries that keep at least one")
    names = [cell.config.name for cell in cells]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"--study: two cells would be named {twice[0]}; change a value or the name of a variant")
    return cells


def _check_axes(study: StudyConfig) -> None:
    """Raises UserError for wrong settings in study."""
    empty = [key for key, values in study.axes.items() if not values]
    if empty:
        raise UserError(f"--study.axes: {empty[0]} has no values; give a list of one or more")
    if VARIANT in study.axes:
        raise UserError(f"--study.axes: {VARIANT!r} is not allowed; named settings go into study.variants")
    _refuse_own_keys(study)
    _refuse_axes_again(study)
    for key, named in _places(study).items():
        _refuse_unknown_axes(study, key, [axis for axis, _ in named])


def _places(study: StudyConfig) -> dict[str, list[tuple[str, list[Any]]]]:
    """The axes that study.where and study.exclude name, each with its values there."""
    axes = axes_of_study(study)
    left_out = [item for entry in study.exclude for item in entry.items()]
    return {
        "where": [(axis, list(places)) for axis, places in study.where.items()],
        "exclude": [(axis, named_values(named, axes.get(axis, []))) for axis, named in left_out],
    }


def _refuse_unknown_axes(study: StudyConfig, key: str, named: Sequence[str]) -> None:
    """Raises UserError if study.`key` names an axis that the study lacks."""
    axes = axes_of_study(study)
    if unknown := [axis for axis in named if axis not in axes]:
        raise UserError(f"--study.{key}: {unknown[0]!r} is no axis; there are: {', '.join(axes)}")


def tell_unknown_values(study: StudyConfig) -> None:
    """Warns of values in study.where and study.exclude that their axis lacks. This is no error: --study.axes may have
    narrowed the axis, say to one method."""
    axes = axes_of_study(study)
    for key, named in _places(study).items():
        for axis, places in named:
            elsewhere = [place for place in places if not any(means(value, place) for value in axes[axis])]
            if elsewhere:
                values = ", ".join(map(word, elsewhere))
                log.warning("--study.%s: the axis %s has no value %s; naming it has no effect", key, axis, values)


def _refuse_own_keys(study: StudyConfig) -> None:
    """Raises UserError for keys in axes, variants or where that the study itself sets in its cells."""
    more = [settings for places in study.where.values() for settings in places.values()]
    for field, keys in (("axes", [study.axes]), ("variants", study.variants.values()), ("where", more)):
        own = [key for one in keys for key in one if key in _OWN or key.startswith("study.")]
        if own:
            raise UserError(
                f"--study.{field}: {own[0]!r} is not allowed, as the study names and places its cells; allowed: "
                f"the keys of a run except {', '.join(_OWN)} and study"
            )


def _refuse_axes_again(study: StudyConfig) -> None:
    """Raises UserError if study.variants or study.where sets the key of an axis.

    A cell's name and its row in the tables would show a value that the cell does not have.
    """
    more = [settings for places in study.where.values() for settings in places.values()]
    for field, settings in (("variants", study.variants.values()), ("where", more)):
        again = [key for one in settings for key in one if key in study.axes]
        if again:
            raise UserError(
                f"--study.{field}: {again[0]} is an axis, which gives its values; remove it here or from study.axes"
            )


def own_settings(study: StudyConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the study itself gives a cell: its values on the axes, those of its variant, and those of
    study.where for it.

    Raises UserError if they give one key two values: the cell's name would tell one that it does not have."""
    settings = {key: value for key, value in values.items() if key != VARIANT}
    settings |= study.variants.get(values.get(VARIANT, ""), {})
    for axis, places in study.where.items():
        for place, more in places.items():
            if not means(values[axis], place):
                continue
            again = [key for key in more if key in settings and settings[key] != more[key]]
            if again:
                raise UserError(
                    f"--study.where: {again[0]} of {axis} {word(place)} already has another value in the cell "
                    f"{cell_name(values)}, from its variant or another axis; set it in one of these places"
                )
            settings |= more
    return settings


def damage(cell: Cell) -> str:
    """Says in one line what is damaged in a finished cell; "" if all files that the study reads are intact."""
    try:
        read_result(cell.folder.metrics)
        if cell.folder.ranks.exists():
            ranks.load(cell.folder.ranks)
        elif cell.config.method not in WITHOUT_LORA:
            raise UserError(f"{cell.folder.ranks}: does not exist")
        if cell.folder.row_losses.exists():
            held_out_loss(cell.folder)
    except UserError as error:
        return f"{cell.config.name}: {error}; to train the cell again, remove {cell.folder.root}"
    return ""
