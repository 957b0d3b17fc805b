"""The results of a study's finished cells: results.parquet, a row for each."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from autolora.configs.schema import Autolora
from autolora.engine import ranks
from autolora.engine.choose.reuse import source_of
from autolora.engine.disk.tables import write_parquet
from autolora.engine.ranks import RankRecord
from autolora.engine.run.contents import read_result, read_searched
from autolora.engine.study.agreement import LAYERS, RANKS, shares_of
from autolora.engine.study.cells import Cell, damage
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.held_out import held_out_loss
from autolora.engine.study.rows import (
    APPROXIMATION,
    COMMIT,
    ETA,
    EVALUATED,
    FORWARD_PASSES,
    LOSS,
    OPTIONS,
    OUTER,
    SEARCHED_BY,
    TASK,
    UNUSED,
)
from autolora.engine.study.values import label, word


def finished(cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """The finished cells whose files are intact, and a line for each whose files are damaged."""
    found = [(cell, damage(cell)) for cell in cells if cell.folder.metrics.exists()]
    return [cell for cell, line in found if not line], [line for _, line in found if line]


def write_results(folder: StudyFolder, cells: Sequence[Cell]) -> None:
    """Writes results.parquet; `cells` are finished and intact."""
    write_parquet(folder.results, collect(cells))


def collect(cells: Sequence[Cell]) -> pd.DataFrame:
    """A row for each of the finished cells, at least one: its place on the axes, metrics, ranks, parameters, seconds,
    steps."""
    results = [read_result(cell.folder.metrics) for cell in cells]
    tasks = tasks_of(
        [(result["task"], cell.config.task.files.get("path")) for cell, result in zip(cells, results, strict=True)]
    )
    rows = []
    for cell, result, task, place in zip(cells, results, tasks, places(cells), strict=True):
        rows.append({**place, TASK: task, **_found(cell, result)})
    return pd.DataFrame(rows)


def places(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The value of each of the cells, at least one, on every axis, as the tables hold it."""
    # A parquet column has one type, and must distinguish null from a missing value: it holds text unless all values
    # are numbers.
    values = {axis: [cell.values[axis] for cell in cells] for axis in cells[0].values}
    plain = {axis for axis, known in values.items() if all(type(value) in (int, float) for value in known)}
    return [{axis: value if axis in plain else label(value) for axis, value in cell.values.items()} for cell in cells]


def _found(cell: Cell, result: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a cell fills with what it found; none depends on another cell."""
    run = cell.folder
    on_all_rows = run.row_losses.exists()  # the evaluated and the unused rows
    # Full fine-tuning and bottleneck adapters have no ranks.
    record = ranks.load(run.ranks) if run.ranks.exists() else None
    # A cell that copies another cell's search also copies its measurements, which say nothing new.
    measured = record if source_of(cell.config) is None else None
    return {
        "method": result["method"],
        "main_metric": next(iter(result["metrics"])),
        "score": next(iter(result["metrics"].values())),
        LOSS: held_out_loss(run) if on_all_rows else result.get("calibrated_loss"),
        EVALUATED: result.get("evaluated_rows", 0),
        UNUSED: _unused_rows(result) if on_all_rows else 0,
        **{f"metric.{name}": value for name, value in result["metrics"].items()},
        "mean_rank": record.mean_rank if record else None,
        LAYERS: [layer.name for layer in record.layers] if record else None,
        RANKS: [layer.rank for layer in record.layers] if record else None,
        OUTER: _outer_loss(measured),
        **shares_of(measured),
        **{key: result[key] for key in ("lora_parameters", "trainable_parameters", "learning_rate")},
        "search_seconds": result["seconds"].get("search"),
        "total_seconds": result["seconds"]["total"],
        "search_steps": result["steps"].get("search"),
        **_cost_of_search(cell),
        COMMIT: result.get("commit"),
        **searched_by(cell),
        "cell": cell.config.name,
    }


def tasks_of(named: Sequence[tuple[str, str | None]]) -> list[str]:
    """The name of each task, given with its path. A table is called like its file: where files in several folders have
    one name, the end of the path by which they differ is added."""
    paths: dict[str, set[str]] = {}
    for name, path in named:
        paths.setdefault(name, set()).add(path or "")
    return [name if len(paths[name]) == 1 else f"{name} ({_ends(paths[name])[path or '']})" for name, path in named]


def _ends(paths: Collection[str]) -> dict[str, str]:
    """Each path with as few of its last parts as tell it apart from the others."""
    ends: dict[str, str] = {}
    for count in range(1, max(len(Path(path).parts) for path in paths) + 1):
        ends = {path: "/".join(Path(path).parts[-count:]) for path in paths}
        if len(set(ends.values())) == len(ends):
            break
    return ends


def _unused_rows(result: Mapping[str, Any]) -> int:
    return int(((result.get("data") or {}).get("unused") or {}).get("rows", 0))


def searched_by(cell: Cell) -> dict[str, str | None]:
    """The hypergradient, and its eta, of the cell's search. A cell that copies a search does not read
    hypergradient.type, so that of its source is known only where it is an axis."""
    config = cell.config
    copied = source_of(config) is not None and APPROXIMATION not in cell.values
    if not isinstance(config, Autolora) or copied:
        return {SEARCHED_BY: None, OPTIONS: None, ETA: None}
    chosen = vars(config.hypergradient)
    eta = label(chosen["eta"]) if "eta" in chosen else None
    return {SEARCHED_BY: chosen["type"], OPTIONS: word(chosen.get("options", {})), ETA: eta}


def _cost_of_search(cell: Cell) -> dict[str, float | None]:
    """Passes and peak memory of the cell's own search; null if it copied another cell's search or made none."""
    own = source_of(cell.config) is None
    found = read_searched(cell.folder.search_summary) if own else {}
    passes = found.get("passes", {})
    return {
        FORWARD_PASSES: passes.get("forward"),
        "search_backward_passes": passes.get("backward"),
        "search_memory_mib": found.get("peak_memory_mib"),
    }


def _outer_loss(record: RankRecord | None) -> float | None:
    """The loss on D_val of the searched model; None if it was not measured or nothing was searched."""
    return record.evidence.loss if record is not None and record.evidence is not None else None
