"""Refuse to compare finished work of a study that does not belong together: made from other rows or other weights of
the base model, or at ranks that the cell they were taken from no longer has."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.choose.reuse import source_of
from autolora.engine.disk.files import read_json
from autolora.engine.retrain.components import components_digest
from autolora.engine.retrain.same_ranks import what_counts
from autolora.engine.retrain.sources import named_ranks, ranks_from
from autolora.engine.run.contents import read_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.resuming import Settings
from autolora.engine.study.cells import Cell

_READ = Settings(
    (
        "task.type", "task.path", "task.data_files", "task.train_split", "task.revision", "task.glue", "task.format",
        "task.configuration", "task.validation_path", "task.test_path",
        "task.evaluation_split", "task.text_columns", "task.label_column", "task.kind",
    ),
    marks=(),
)  # fmt: skip
"""The keys that decide which rows a task reads, before it draws, cuts or divides any."""

Made = tuple[Path, RunConfig, Mapping[str, Any]]
"""A finished cell, or the comparison of hypergradients: its path, its settings, and what it was made from."""


def refuse_mixed(cells: Sequence[Cell], probe: Made | None) -> None:
    """Raises UserError, which names two cells, or a cell and the comparison, if the data or the base model changed
    between them: a file was edited, or a hub's main branch moved on."""
    finished = [(cell.folder.root, cell.config, _made_from(cell)) for cell in cells if cell.finished]
    first: dict[str, Made] = {}
    for made in [*finished, *([probe] if probe and probe[2] else [])]:
        root, config, data = made
        for what, alike, parts in _compared(config):
            other, _, then = first.setdefault(alike, made)
            if any(then[part] != data[part] for part in parts & then.keys() & data.keys()):
                raise UserError(
                    f"{what} when {other} was made than when {root} was; bring back what one of the two was made "
                    f"with, and remove what was made with the other"
                )


def _made_from(cell: Cell) -> dict[str, Any]:
    """The digests of the rows that a finished cell was made from, and of its base model."""
    result = read_result(cell.folder.metrics)
    weights = result.get("base_weights")
    return (result.get("data") or {}) | ({} if weights is None else {"weights": weights})


def _compared(config: RunConfig) -> Iterator[tuple[str, str, set[str]]]:
    """What must not change: in words, a text that is equal for works that must have it alike, and the parts of the
    fingerprint. The sample task writes its rows by seed."""
    task, model, seed = config.task, config.model, config.data_seed
    path = f"--task.path: {task.files.get('path', task.type)}"
    source = repr((_READ.of(config), seed if task.type == "sample" else None))
    yield f"{path} held other rows", f"source {source}", {"source", "classes"}
    rows = {"classes", "training", "evaluation", "evaluation_rows", "unused"}
    yield f"{path} gave other rows", f"rows {(task, seed, model.name, model.revision)!r}", rows
    base = (model.name, model.revision, task.type, model.dtype == "nf4")
    yield f"--model.name: {model.name} had other weights", f"weights {base!r}", {"weights"}


def refuse_old_ranks(cells: Sequence[Cell]) -> None:
    """Raises UserError for a finished cell that was trained at the ranks of a run, or took over its search, or started
    from its components, if that run has others now."""
    for cell in cells:
        if cell.finished and (other := _outdated(cell)):
            key, source = other
            raise UserError(f"--{key}: {source} has changed since {cell.folder.root} was made from it; remove "
                            f"{cell.folder.root} to train it again")  # fmt: skip


def _outdated(cell: Cell) -> tuple[str, Path] | None:
    """The key and the source of a finished cell that has changed since."""
    config, result = cell.config, read_result(cell.folder.metrics)
    source = ranks_from(config) if named_ranks(config) else None
    searched, components = source_of(config), components_digest(config)
    if source and source.exists() and result.get("source_ranks") not in (None, what_counts(ranks.load(source))):
        return "lora.ranks_from", source
    if components is not None and result.get("source_components") not in (None, components):
        return "retrain.init", Path(str(config.retrain.start))
    if searched is not None and _other_search(searched, cell.folder):
        return "answer.from", searched.root
    return None


def _other_search(one: RunFolder, other: RunFolder) -> bool:
    """Whether two searches can be read and differ in more than what they cost, and from which run a copy was taken."""
    beside = ("seconds", "peak_memory_mib", "taken_from")
    with suppress(UserError):
        first, second = (
            {key: value for key, value in read_json(folder.search_summary).items() if key not in beside}
            for folder in (one, other)
        )
        return bool(first and second) and first != second
    return False
