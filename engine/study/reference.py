"""The reference of a study: the row that study.reference names, with which the paired tables and the picture of L_val
compare the others."""

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from autolora.configs.errors import UserError
from autolora.configs.recipe import task_name
from autolora.configs.schema import StudyConfig
from autolora.engine.study.cells import Cell
from autolora.engine.study.combinations import axes_of_study
from autolora.engine.study.paired import named
from autolora.engine.study.results import places, searched_by, tasks_of
from autolora.engine.study.rows import ETA, REFERENCE, TASK, labelled, row_keys
from autolora.engine.study.values import label, means

log = logging.getLogger("autolora")


def refuse_unknown_reference(study: StudyConfig, cells: Sequence[Cell]) -> None:
    """Raises UserError if study.reference names no row of the study; warns if it names the only one."""
    names = _rows(study, cells)["name"].unique()
    if reference_cells(study, cells) and len(names) < 2:
        log.warning("--study.reference: does nothing, as the study has only the row %s", names[0])


def reference_cells(study: StudyConfig, cells: Sequence[Cell]) -> set[str]:
    """The names of the cells in the row that study.reference names; none without it. Raises UserError for a name that
    no row has.

    The row is looked for among all cells, not in the results, as names may be shorter while runs are missing: a type
    has its eta behind it only if the types differ in it.
    """
    if study.reference is None:
        return set()
    rows = _rows(study, cells)
    known = zip(rows["cell"], rows["names"], strict=True)
    found = {cell for cell, names in known if study.reference in names}
    if not found:
        known = zip(rows["cell"], rows["names"], strict=True)
        found = {cell for cell, names in known if any(_same(name, study.reference) for name in names)}
    if not found:
        allowed = ", ".join(map(repr, rows["name"].unique()))
        raise UserError(f"--study.reference: no row of the study is named {study.reference!r}; there are: {allowed}")
    return found


def with_reference(results: pd.DataFrame, cells: set[str]) -> pd.DataFrame:
    """The results with the column REFERENCE, if there are `cells` of a reference."""
    return results.assign(**{REFERENCE: results["cell"].isin(cells)}) if cells else results


def _rows(study: StudyConfig, cells: Sequence[Cell]) -> pd.DataFrame:
    """A line for each cell: `cell`; `name`, that of its row in the paired tables; `names`, a tuple of all by which
    study.reference may name its row."""
    axes = list(axes_of_study(study))
    own = [{"method": cell.config.method, **searched_by(cell), "cell": cell.config.name} for cell in cells]
    runs = pd.DataFrame([{**place, **more} for place, more in zip(places(cells), own, strict=True)])
    runs[TASK] = tasks_of([(task_name(cell.config.task), cell.config.task.path) for cell in cells])
    names = pd.Series(list(zip(*_names(runs, axes), strict=True)), index=runs.index)
    return runs.assign(name=named(runs, axes)[0]["name"], names=names)


def _same(name: str, asked: str) -> bool:
    """Whether two names differ only in how they spell their numbers, as 1e-05 and 0.00001, or in capitals."""
    parts, others = ([part for part in re.split(r"([ ,()\[\]{}]+)", text) if part.strip()] for text in (name, asked))
    return len(parts) == len(others) and all(
        means(one.strip(), other.strip()) for one, other in zip(parts, others, strict=True)
    )


def _names(runs: pd.DataFrame, axes: Sequence[str]) -> Iterator[list[Any]]:
    """For each cell its row's name in the paired tables and in the others, both with and without the eta behind the
    type, and the value alone where rows differ in one axis: 4 for `rank 4`."""
    for table in (runs, runs.drop(columns=ETA)):
        yield named(table, axes)[0]["name"].to_list()
        yield labelled(table, axes)["row"].to_list()
    keys = row_keys(runs, axes)
    if len(keys) == 1:
        yield list(map(label, runs[keys[0]]))
