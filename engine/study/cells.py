"""The cells of a study: an ordinary run for every combination of its axes, and what each takes from its siblings."""

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.layers import flat, given, keys, settled, tree_of, with_values
from autolora.configs.schema import RunConfig
from autolora.configs.study import StudyConfig, word
from autolora.engine.run.contents import read_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.folder import StudyFolder

READS = {"answer.from": "", "lora.ranks_from": f"/{RunFolder.ranks.relative}", "retrain.init": ""}
"""Key that reads another run -> what follows the other run's folder in its value."""
NOT_ROWS = ("seed", "task.glue", "task.benchmark", "task.name", "task.path")
"""Axes whose values make no row of a table: they make its columns, or are averaged over."""
_PLAIN = ("variant", "method", "hypergradient.type", "answer.rule", "model.name")
"""Axes whose values are understood without the name of the axis."""
_LONGEST = 100
"""Letters of a cell's name."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study: its place on the axes, its configuration, and the cells whose files it reads.

    `chooser`: the run whose chosen learning rate it takes."""

    values: Mapping[str, Any]
    config: RunConfig
    needs: tuple[str, ...] = ()
    chooser: RunFolder | None = None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return str(self.config.name)

    @property
    def folder(self) -> RunFolder:
        """Where its results lie."""
        return RunFolder.of(self.config)

    @property
    def finished(self) -> bool:
        """Whether it has a result."""
        return self.folder.metrics.exists()

    @property
    def row(self) -> str:
        """The row of the study's tables to which it belongs: its values on all axes but seed and task."""
        named = {axis: word(value) for axis, value in self.values.items() if axis not in NOT_ROWS}
        parts = (text if axis in _PLAIN else f"{axis.rpartition('.')[2]} {text}" for axis, text in named.items())
        return ", ".join(parts) or "all"

    def placed(self) -> RunConfig:
        """The configuration to run, at the learning rate that the chooser chose; a finished cell whose chooser is gone
        keeps its own. Raises UserError if no rate is chosen yet."""
        if self.chooser is None:
            return self.config
        results = (read_result(folder.metrics) for folder in (self.chooser, self.folder))
        rate = next((result["learning_rate"] for result in results if result), None)
        if rate is None:
            raise UserError(
                f"--study.rate_from: {self.chooser.root}, which chooses the learning rate, has not finished"
            )
        return with_values(self.config, {"retrain.learning_rate": rate})


def expand(config: RunConfig, folder: StudyFolder) -> list[Cell]:
    """Every combination of the axes' values, in their order. Raises UserError for wrong settings in study."""
    study, tracking = config.studied, config.tracking
    if unknown := [axis for entry in (*study.exclude, study.rate_from) for axis in entry if axis not in study.axes]:
        raise UserError(f"--study: {unknown[0]!r} is no axis; there are: {', '.join(study.axes)}")
    if tracking.wandb != "disabled":
        tracking = tracking.model_copy(update={"group": tracking.group or config.name})
    usual = config.model_copy(update={"study": None, "tracking": tracking})
    below = {key: value for key, value in flat(given(usual)).items() if key not in study.axes}
    lower = [tree_of(study.others), tree_of(below)]
    siblings = {_key(values): name for values, name in zip(study.places, cell_names(study.places), strict=True)}
    if not siblings:
        raise UserError("--study: has no cells; give each axis a value, and keep some in study.exclude")
    if len(set(siblings.values())) < len(study.places):
        raise UserError("--study.axes: two cells would have one name; change a value")
    cells = [_cell(study, values, siblings, lower, folder) for values in study.places]
    _refuse_unread(study, cells)
    return cells if not study.rate_from else [_with_chooser(cell, cells, siblings, study.rate_from) for cell in cells]


def _cell(
    study: StudyConfig, values: dict[str, Any], siblings: dict[str, str], lower: list[dict[str, Any]],
    folder: StudyFolder,
) -> Cell:  # fmt: skip
    """The cell at one place. The settings that a value stands for lie below the values themselves: a method of one
    axis may lack what a task of another axis sets."""
    name = siblings[_key(values)]
    axes = {axis: value for axis, value in values.items() if axis in keys() or isinstance(study.axes[axis], list)}
    named, needs = dict(axes), []
    for axis, value in values.items():
        for key, one in _settings(study, axis, value).items():
            if key in named and named[key] != one:
                raise UserError(f"--study.axes: {key} of {axis} {word(value)} has another value in the cell {name}")
            named[key] = one
    for key, end in READS.items():
        if isinstance(labels := named.get(key), dict):
            needs.append(_sibling(values, labels, siblings, key))
            named[key] = f"{{runs}}/{needs[-1]}{end}"
    try:
        config = settled([*lower, tree_of(named)], tree_of(axes)).config
    except UserError as error:
        raise UserError(f"cell {name}: {error}") from error
    placed = config.model_copy(update={"name": name, "runs_folder": str(folder.cells), "study": None})
    return Cell(values, placed, tuple(needs))


def _settings(study: StudyConfig, axis: str, value: Any) -> dict[str, Any]:
    """The settings that a value on an axis stands for; none for a value of a list."""
    found = study.axes[axis]
    return found[value] if isinstance(found, dict) else {}


def _key(values: Mapping[str, Any]) -> str:
    return word(dict(values))


def _sibling(values: Mapping[str, Any], labels: Mapping[str, Any], siblings: Mapping[str, str], key: str) -> str:
    """The name of the cell that has these labels, and on all other axes the same values."""
    wanted = {**values, **labels}
    if (name := siblings.get(_key(wanted))) is None:
        near = difflib.get_close_matches(_key(wanted), siblings, n=1, cutoff=0)[0]
        raise UserError(f"--{key}: the study has no cell {_key(wanted)}; the nearest is {near}")
    return name


def _with_chooser(cell: Cell, cells: Sequence[Cell], siblings: Mapping[str, str], labels: Mapping[str, Any]) -> Cell:
    """The cell, which takes the learning rate of the sibling with these labels if it has several to choose from."""
    if len(cell.config.retrain.rates) < 2 or cell.config.evaluates_base:
        return cell
    name = _sibling(cell.values, labels, siblings, "study.rate_from")
    if name == cell.name:
        return cell
    chooser = next(other for other in cells if other.name == name)
    return dataclasses.replace(cell, needs=(*cell.needs, name), chooser=chooser.folder)


def _refuse_unread(study: StudyConfig, cells: Sequence[Cell]) -> None:
    """Raises UserError for a setting of a value on an axis that none of its cells reads: it would do nothing."""
    named = {(axis, word(cell.values[axis])): _settings(study, axis, cell.values[axis]) for cell in cells
             for axis in study.axes}  # fmt: skip
    left = {(*place, key) for place, settings in named.items() for key in settings}
    for cell in cells if left else ():
        read = flat(cell.config.model_dump()).keys()
        left -= {(axis, word(cell.values[axis]), key) for axis, _, key in left if key in read}
    for axis, value, key in sorted(left):
        raise UserError(f"--study.axes: no cell of {axis} {value} has the key {key}")


def in_order(cells: Sequence[Cell]) -> Iterator[Cell]:
    """Each cell after those of them that it needs, else as given. Raises UserError for cells that need each other."""
    waiting = list(cells)
    while waiting:
        names = {cell.name for cell in waiting}
        cell = next((cell for cell in waiting if names.isdisjoint(cell.needs)), None)
        if cell is None:
            raise UserError(f"--study.axes: the cells {', '.join(sorted(names))} read each other in a circle")
        waiting.remove(cell)
        yield cell


def cell_name(values: Mapping[str, Any]) -> str:
    """A folder name from a cell's values, like `type-darts_seed-0`; it has whole keys if two end in the same word.

    A long name is cut. It then ends in digits of a hash of the whole, as does a name from values in other alphabets,
    whose letters a folder name here lacks."""
    written = _written(values)
    if not written.isascii():
        return _marked(_plain(written), written)
    name = _plain(written)
    return name if len(name) <= _LONGEST else _marked(name, name)  # the end that is cut off may hold the seed


def cell_names(places: Sequence[Mapping[str, Any]]) -> list[str]:
    """The name of each cell. Of several that would share one, the first keeps it and the others end in digits of a
    hash of their values: a study to which values are added finds its finished cells. Capitals make no difference, as
    they make none on macOS; equal values keep equal names."""
    names: list[str] = []
    taken: dict[str, str] = {}
    for values in places:
        name, written = cell_name(values), _written(values)
        if taken.setdefault(name.casefold(), written) != written:
            name = _marked(_plain(written), written)
        names.append(name)
    return names


def _written(values: Mapping[str, Any]) -> str:
    """The values after the last words of their keys."""
    last = [key.split(".")[-1] for key in values]
    names = [key if last.count(short) > 1 else short for key, short in zip(values, last, strict=True)]
    return "_".join(f"{name}-{word(value).strip('[]')}" for name, value in zip(names, values.values(), strict=True))


def _plain(written: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", written).strip("-_.")


def _marked(name: str, whole: str) -> str:
    mark = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: _LONGEST - len(mark) - 1]}-{mark}"
