"""Refuse a cell that would read another cell's ranks or search where the study has no such cell, or one without them:
all other cells would be trained before it fails."""

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from autolora.configs.errors import UserError
from autolora.engine.choose.reuse import source_of
from autolora.engine.retrain.components import components_from
from autolora.engine.retrain.sources import named_ranks, ranks_from
from autolora.engine.study.cells import Cell
from autolora.engine.study.folder import StudyFolder

_MOST_NAMES = 3


def refuse_missing_sources(folder: StudyFolder, cells: Sequence[Cell]) -> None:
    """Raises UserError, which names the path and the nearest cells, for the first cell that reads what no cell of the
    study will write. A path outside the study's cells, and one that exists, are left to the cell's own checks, and so
    is a finished cell, which reads nothing any more."""
    known = {str(cell.config.name): cell for cell in cells}
    place = _absolute(folder.cells)
    for cell in cells:
        if cell.folder.metrics.exists() or cell.folder.source_ranks.exists():
            continue
        for key, path in _sources(cell):
            if _absolute(path) != place and _absolute(path).is_relative_to(place) and not path.exists():
                _refuse_missing(key, path, _absolute(path).relative_to(place), cell, known)


def _sources(cell: Cell) -> Iterator[tuple[str, Path]]:
    """Each key by which a cell reads from another run, with the path that it names."""
    config = cell.config
    if named_ranks(config):
        yield "lora.ranks_from", ranks_from(config)
    for key, run in (("answer.from", source_of(config)), ("retrain.init", components_from(config))):
        if run is not None:
            yield key, run.root


def _refuse_missing(key: str, path: Path, inside: Path, cell: Cell, known: dict[str, Cell]) -> None:
    """Raises UserError unless `path`, which is `inside` the folder of the cells, is what one of them will write."""
    source, begins = known.get(inside.parts[0]), f"--{key}: {path}, which the cell {cell.config.name} reads,"
    if source is None:
        others = [name for name in known if name != cell.config.name]
        near = (
            difflib.get_close_matches(inside.parts[0], others, n=_MOST_NAMES)
            or others[:_MOST_NAMES]
            or ["a run outside the study"]
        )
        raise UserError(
            f"{begins} does not exist, and no cell of the study has this name; did you mean {' or '.join(near)}?"
        )
    if source is cell:
        raise UserError(f"{begins} is of this cell itself; give another cell or run")
    method = source.config.method
    if key == "lora.ranks_from" and not source.config.has_lora:
        raise UserError(f"{begins} is of a cell of method {method}, which has no ranks; give a cell that has LoRA")
    if key != "lora.ranks_from" and method != "autolora":
        raise UserError(f"{begins} is of a cell of method {method}, which has no search; give one of method autolora")
    if inside.parts[1:] not in ((), (source.folder.ranks.name,)[: 1 if key == "lora.ranks_from" else 0]):
        raise UserError(f"{begins} is no file that a cell writes for others; give the cell's folder, {path.parent}")


def _absolute(path: Path) -> Path:
    """The path from the root, without `..`; links are not followed, as the folder may not exist yet."""
    return Path(os.path.abspath(path))
