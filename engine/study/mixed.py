"""Refuse to compare finished cells that do not belong together: trained on other rows, from other weights of the base
model, or at ranks that the cell they were taken from no longer has."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.facts import data_seed
from configs.schema import RunConfig
from engine import ranks
from engine.answer.again import source_of
from engine.disk.files import read_json
from engine.retrain.owners import READ_RANKS
from engine.retrain.same_ranks import what_counts
from engine.retrain.sources import ranks_from
from engine.run.contents import read_result
from engine.run.resuming import Outdated
from engine.study.cells import Cell


def refuse_mixed(cells: Sequence[Cell]) -> None:
    """Raises Outdated, which names two cells, if the data or the base model changed between their trainings: a file
    was edited, or a hub's main branch moved on."""
    rows: dict[Hashable, tuple[Cell, Mapping[str, Any]]] = {}
    weights: dict[Hashable, tuple[Cell, str]] = {}
    for cell, result in _finished(cells):
        config = cell.config
        if (data := result.get("data")) is not None:
            first, then = rows.setdefault(_of_rows(config), (cell, data))
            if any(then[part] != data[part] for part in then.keys() & data.keys() - {"weights"}):
                raise _changed(f"--task.path: {config.task.path or config.task.type} gave other rows", first, cell)
        if (digest := result.get("base_weights")) is not None:
            first, before = weights.setdefault(_of_weights(config), (cell, digest))
            if before != digest:
                raise _changed(f"--model.name: {config.model.name} had other weights", first, cell)


def refuse_old_ranks(cells: Sequence[Cell]) -> None:
    """Raises Outdated for a cell that was trained at the ranks of a run, or took over its search, if that run has
    other ranks or another search now."""
    for cell, result in _finished(cells):
        config, folder = cell.config, cell.folder
        then = result.get("source_ranks")
        if then is not None and config.method in READ_RANKS:
            source = ranks_from(config)
            if source.exists() and then != what_counts(ranks.load(source)):
                raise Outdated(f"--lora.ranks_from: {folder.root} was trained at other ranks than {source} holds now; "
                               f"remove {folder.root} to train it at these")  # fmt: skip
        searched = source_of(config)
        if searched is not None and _differ(searched.search_summary, folder.search_summary):
            raise Outdated(f"--answer.from: {folder.root} has another search than {searched.root} has now; remove "
                           f"{folder.root} to take over this one")  # fmt: skip


def _differ(one: Path, other: Path) -> bool:
    """Whether two JSON files exist and have different content."""
    return one.exists() and other.exists() and read_json(one) != read_json(other)


def _finished(cells: Sequence[Cell]) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """The finished cells with their results; those whose metrics.json is damaged are reported elsewhere."""
    for cell in cells:
        with suppress(UserError):
            if result := read_result(cell.folder.metrics):
                yield cell, result


def _of_rows(config: RunConfig) -> Hashable:
    """Cells for which this is equal have the same rows: what draws, cuts and tokenises them."""
    return repr((config.task, data_seed(config), config.model.name, config.model.revision))


def _of_weights(config: RunConfig) -> Hashable:
    """Cells for which this is equal begin from the same weights of the base model."""
    return config.model.name, config.model.revision, config.task.type, config.model.load_in_4bit


def _changed(what: str, first: Cell, other: Cell) -> Outdated:
    return Outdated(
        f"{what} when {first.folder.root} was trained than when {other.folder.root} was; bring back what one of the "
        f"two was trained with, and remove the cells that were trained with the other"
    )
