"""The cells of a study: an ordinary run for every combination of its axes, and what each takes from
its siblings."""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.layers import flat, given, keys, settled, with_values
from autolora.configs.schema import RunConfig
from autolora.configs.study import StudyConfig, word
from autolora.engine.disk.files import read_json
from autolora.engine.store.folder import RunFolder
from autolora.engine.study.folder import StudyFolder

READS = {"measure.from": "", "lora.ranks_from": "/ranks.json", "retrain.init": ""}
"""Key that reads another run -> what follows the other run's folder in its value."""
NOT_ROWS = ("seed", "task.name", "task.path", "task.configuration")
"""Axes whose values make no row of a table: they make its columns, or are averaged over."""
_PLAIN = ("variant", "method", "hypergradient.type", "choose.rule", "model.name")
"""Axes whose values are understood without the name of the axis."""
_LONGEST = 100
"""Letters of a cell's name."""


@dataclass(frozen=True)
class Cell:
    """One run of a study: its place on the axes, its configuration, and the cells whose files it
    reads.

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
        """The row of the study's tables to which it belongs: its values on all axes but seed and
        task."""
        named = {axis: word(value) for axis, value in self.values.items() if axis not in NOT_ROWS}
        parts = (
            text if axis in _PLAIN else f"{axis.rpartition('.')[2]} {text}"
            for axis, text in named.items()
        )
        return ", ".join(parts) or "all"

    def placed(self) -> RunConfig:
        """The configuration to run, at the learning rate that the chooser chose; a finished cell
        whose chooser is gone keeps its own. Raises UserError if no rate is chosen yet."""
        if self.chooser is None:
            return self.config
        results = (read_json(folder.metrics) for folder in (self.chooser, self.folder))
        rate = next((result["learning_rate"] for result in results if result), None)
        if rate is None:
            raise UserError(
                f"--study.rate_from: {self.chooser.root}, which chooses the learning rate, has "
                "not finished"
            )
        return with_values(self.config, {"retrain.learning_rate": rate})


def expand(config: RunConfig, folder: StudyFolder) -> list[Cell]:
    """Every combination of the axes' values, in their order. Raises UserError for wrong settings in
    study."""
    study = config.studied
    if unknown := [
        axis
        for entry in (*study.exclude, study.rate_from)
        for axis in entry
        if axis not in study.axes
    ]:
        raise UserError(f"--study: {unknown[0]!r} is no axis; there are: {', '.join(study.axes)}")
    tracking = config.tracking.model_copy(update={"group": config.tracking.group or config.name})
    usual = config.model_copy(update={"study": None, "tracking": tracking})
    below = {key: value for key, value in flat(given(usual)).items() if key not in study.axes}
    lower = [study.others, below]
    siblings = {word(values): cell_name(values) for values in study.places}
    if len(set(map(str.casefold, siblings.values()))) < len(study.places):
        raise UserError("--study.axes: two cells would have one folder; change a value")
    cells = [_cell(study, values, siblings, lower, folder) for values in study.places]
    for axis, labels in study.axes.items():
        if not isinstance(labels, dict):
            continue
        for label, settings in labels.items():
            if concerned := [cell for cell in cells if cell.values[axis] == label]:
                refuse_unread(f"study.axes, {axis} {label}", settings, concerned)
    return cells


def _cell(
    study: StudyConfig,
    values: dict[str, Any],
    siblings: dict[str, str],
    lower: list[dict[str, Any]],
    folder: StudyFolder,
) -> Cell:
    """The cell at one place. The settings that a value stands for lie below the values themselves:
    a method of one axis may lack what a task of another axis sets."""
    name = siblings[word(values)]
    labels = {a: v for a, v in study.axes.items() if isinstance(v, dict)}
    axes = {axis: value for axis, value in values.items() if axis in keys() or axis not in labels}
    named = dict(axes)
    needs = []
    for axis in labels:
        for key, one in labels[axis][values[axis]].items():
            if named.setdefault(key, one) != one:
                raise UserError(f"--study.axes: the cell {name} has two values of {key}")
    for key, end in READS.items():
        if isinstance(other := named.get(key), dict):
            needs.append(_sibling(values, other, siblings, key))
            named[key] = f"{{runs}}/{needs[-1]}{end}"
    try:
        config = settled([*lower, named], axes).config
    except UserError as error:
        raise UserError(f"cell {name}: {error}") from error
    chooser = None
    if study.rate_from and len(config.retrain.rates) > 1 and not config.evaluates_base:
        first = _sibling(values, study.rate_from, siblings, "study.rate_from")
        if first != name:
            needs.append(first)
            chooser = RunFolder(folder.cells / first)
    placed = config.model_copy(
        update={"name": name, "runs_folder": str(folder.cells), "study": None}
    )
    return Cell(values, placed, tuple(needs), chooser)


def _sibling(
    values: Mapping[str, Any], labels: Mapping[str, Any], siblings: Mapping[str, str], key: str
) -> str:
    """The name of the cell that has these labels, and on all other axes the same values."""
    wanted = word({**values, **labels})
    if wanted not in siblings:
        raise UserError(f"--{key}: the study has no cell {wanted}")
    return siblings[wanted]


def refuse_unread(where: str, asked: Collection[str], cells: Sequence[Cell]) -> None:
    """Raises UserError for a key that none of these cells has: it would do nothing."""
    read = set().union(*(flat(cell.config.model_dump()) for cell in cells)) if asked else set()
    if left := set(asked) - read:
        raise UserError(f"--{min(left)}: no cell of the study has this key ({where})")


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """Each cell after those of them that it needs. Raises UserError for cells that need each
    other."""
    by_name = {cell.name: cell for cell in cells}
    needs = {cell.name: [name for name in cell.needs if name in by_name] for cell in cells}
    try:
        return [by_name[name] for name in TopologicalSorter(needs).static_order()]
    except CycleError as error:
        raise UserError(
            f"--study.axes: the cells {', '.join(error.args[1])} read each other in a circle"
        ) from error


def cell_name(values: Mapping[str, Any]) -> str:
    """A folder name from a cell's values, like `type-darts_seed-0`; it has whole keys if two end in
    the same word. A name that is too long, or has letters that a folder name here lacks, ends in
    digits of a hash of the whole."""
    last = [key.split(".")[-1] for key in values]
    names = [
        key if last.count(short) > 1 else short for key, short in zip(values, last, strict=True)
    ]
    written = "_".join(
        f"{name}-{word(value).strip('[]')}"
        for name, value in zip(names, values.values(), strict=True)
    )
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", written).strip("-_.")
    if written.isascii() and len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 9]}-{hashlib.sha256(written.encode()).hexdigest()[:8]}"
