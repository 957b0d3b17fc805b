"""Refuse to compare finished work of a study that does not belong together: made from other rows or other weights of
the base model, or at ranks that the cell they were taken from no longer has."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from autolora.configs.errors import UserError
from autolora.configs.requests import Alike
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.choose.reuse import source_of
from autolora.engine.disk.files import read_json
from autolora.engine.retrain.components import components_digest
from autolora.engine.retrain.same_ranks import what_counts
from autolora.engine.retrain.sources import named_ranks, ranks_from
from autolora.engine.run.contents import read_result
from autolora.engine.run.resuming import Settings
from autolora.engine.run.same_data import differ
from autolora.engine.study.cells import Cell
from autolora.engine.study.comparison import data_of_probe
from autolora.engine.study.folder import AskedOfStudy

_READ = Settings(
    (
        "task.type", "task.path", "task.revision", "task.glue", "task.benchmark", "task.configuration",
        "task.validation_path", "task.test_path",
        "task.evaluation_split", "task.text_columns", "task.label_column", "task.kind",
    ),
    marks=(),
)  # fmt: skip
"""The keys that decide which rows a task reads, before it draws, cuts or divides any."""


class _Made(NamedTuple):
    """A finished cell, or the comparison of hypergradients: its path, its settings, and what it was made from."""

    path: Path
    config: RunConfig
    data: Mapping[str, Any]
    weights: str | None


def refuse_mixed(asked: AskedOfStudy, cells: Sequence[Cell]) -> None:
    """Raises UserError, which names two cells, or a cell and the comparison, if the data or the base model changed
    between them: a file was edited, or a hub's main branch moved on."""
    read: dict[Hashable, _Made] = {}
    rows: dict[Hashable, _Made] = {}
    weights: dict[Hashable, _Made] = {}
    for made in _all_made(asked, cells):
        config, data = made.config, made.data
        path = f"--task.path: {config.task.files.get('path', config.task.type)}"
        if "source" in data:
            first = read.setdefault(_of_source(config), made)
            if any(first.data.get(part) != data.get(part) for part in ("source", "classes")):
                raise _changed(f"{path} held other rows", first, made)
        if data:
            first = rows.setdefault(_of_rows(config), made)
            if differ(first.data, data):
                raise _changed(f"{path} gave other rows", first, made)
        if made.weights is not None:
            first = weights.setdefault(_of_weights(config), made)
            if first.weights != made.weights:
                raise _changed(f"--model.name: {config.model.name} had other weights", first, made)


def alike(cell: Cell, cells: Sequence[Cell]) -> Alike:
    """The finished cells with which an unfinished one must share its data and its base model."""
    config = cell.config
    done = [(other, result) for other, result in _finished(cells) if other is not cell]
    rows = (
        other.folder.root for other, result in done
        if "source" in (result.get("data") or {}) and _of_source(other.config) == _of_source(config)
    )  # fmt: skip
    weights = (
        other.folder.root for other, result in done
        if result.get("base_weights") is not None and _of_weights(other.config) == _of_weights(config)
    )  # fmt: skip
    return Alike(next(rows, None), next(weights, None))


def refuse_old_ranks(cells: Sequence[Cell]) -> None:
    """Raises UserError for a cell that was trained at the ranks of a run, or took over its search, or started from its
    components, if that run has other ranks or another search now. What cannot be read is not compared: the cell that
    it belongs to is reported as damaged."""
    for cell, result in _finished(cells):
        config, folder = cell.config, cell.folder
        then = result.get("source_ranks")
        if then is not None and named_ranks(config):
            source, now = _ranks_of(config)
            if now is not None and then != now:
                raise UserError(f"--lora.ranks_from: {folder.root} was trained at other ranks than {source} holds "
                                f"now; remove {folder.root} to train it at these")  # fmt: skip
        components = result.get("source_components")
        if components is not None and components_digest(config) not in (None, components):
            raise UserError(
                f"--retrain.init: {folder.root} started from other components than {config.retrain.start} "
                f"has now; remove {folder.root} to train it from these"
            )
        searched = source_of(config)
        if searched is not None and _other_search(searched.search_summary, folder.search_summary):
            raise UserError(f"--answer.from: {folder.root} has another search than {searched.root} has now; remove "
                            f"{folder.root} to take over this one")  # fmt: skip


def _ranks_of(config: RunConfig) -> tuple[Path | None, dict[str, Any] | None]:
    """The file from which a control reads its ranks, and those that it holds now; None for what cannot be read."""
    source = None
    with suppress(UserError):
        source = ranks_from(config)
        return source, what_counts(ranks.load(source)) if source.exists() else None
    return source, None


def _other_search(one: Path, other: Path) -> bool:
    """Whether two summaries of searches can be read and differ in more than what the search cost, and from which run a
    copy was taken."""
    beside = ("seconds", "peak_memory_mib", "taken_from")
    with suppress(UserError):
        first, second = ({k: v for k, v in read_json(path).items() if k not in beside} for path in (one, other))
        return bool(first and second) and first != second
    return False


def _finished(cells: Sequence[Cell]) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """The finished cells with their results; those whose metrics.json is damaged are reported elsewhere."""
    for cell in cells:
        with suppress(UserError):
            if result := read_result(cell.folder.metrics):
                yield cell, result


def _all_made(asked: AskedOfStudy, cells: Sequence[Cell]) -> Iterator[_Made]:
    for cell, result in _finished(cells):
        yield _Made(cell.folder.root, cell.config, result.get("data") or {}, result.get("base_weights"))
    if data := data_of_probe(asked.folder):
        yield _Made(asked.folder.probe, asked.config, data, data.get("weights"))


def _of_source(config: RunConfig) -> Hashable:
    """A key that is equal for works that read the same rows, whichever of them they then use.

    The sample task writes its rows by seed, so its key has the seed."""
    return repr((_READ.of(config), config.data_seed if config.task.type == "sample" else None))


def _of_rows(config: RunConfig) -> Hashable:
    """A key that is equal for works whose rows are drawn, cut and tokenised alike."""
    return repr((config.task, config.data_seed, config.model.name, config.model.revision))


def _of_weights(config: RunConfig) -> Hashable:
    """A key that is equal for works that begin from the same weights of the base model."""
    return config.model.name, config.model.revision, config.task.type, config.model.dtype == "nf4"


def _changed(what: str, first: _Made, other: _Made) -> UserError:
    return UserError(
        f"{what} when {first.path} was made than when {other.path} was; bring back what one of the two was made with, "
        f"and remove what was made with the other"
    )
