"""results.parquet: a row for each finished cell, with its place on the axes and the fields of its metrics.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from autolora.configs.errors import UserError
from autolora.configs.schema import Autolora
from autolora.configs.study import word
from autolora.engine import ranks
from autolora.engine.choose.reuse import source_of
from autolora.engine.disk.tables import read_parquet
from autolora.engine.ranks import RankRecord
from autolora.engine.run.contents import read_result, read_searched
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.cells import Cell
from autolora.engine.study.rows import (
    ETA,
    FORWARD_PASSES,
    LAYERS,
    LOSS,
    OPTIONS,
    OUTER,
    RANKS,
    SCORE,
    SEARCHED_BY,
    SEED,
    SHARES,
    TASK,
)

_LEFT_OUT = ("settings", "data", "source_ranks", "trained_ranks", "standard_error", "machine", "versions")
"""Fields of metrics.json that are no columns."""


def collect(cells: Sequence[Cell]) -> tuple[pd.DataFrame, list[str]]:
    """A row for each finished cell, and a line for each whose files are damaged."""
    rows, damaged, paths = [], [], dict[str, set[str]]()
    for cell in cells:
        try:
            if cell.finished:
                rows.append(_row(cell))
                paths.setdefault(rows[-1][TASK], set()).add(rows[-1]["path"])
        except UserError as error:
            damaged.append(f"{cell.name}: {error}; to train the cell again, remove {cell.folder.root}")
    for row in rows:  # a table is called like its file; several files may have one name
        row[TASK] += f" ({row['path']})" if len(paths[row[TASK]]) > 1 else ""
    table = pd.DataFrame(rows).drop(columns="path", errors="ignore")
    for axis in cells[0].values:  # a column of parquet has one type
        if axis in table and table[axis].dtype == object:
            table[axis] = table[axis].map(str)
    return table, damaged


def _row(cell: Cell) -> dict[str, Any]:
    """The columns of a finished cell; none depends on another cell. Raises UserError that names a damaged file."""
    run, result = cell.folder, read_result(cell.folder.metrics)
    flat = pd.json_normalize(result).to_dict("records")[0]
    fields = {str(name).replace("metrics.", "metric."): one for name, one in flat.items()
              if not str(name).startswith(_LEFT_OUT)}  # fmt: skip
    record = ranks.load(run.ranks) if run.ranks.exists() else None
    if record is None and cell.config.has_lora:
        raise UserError(f"{run.ranks}: does not exist")
    copied = source_of(cell.config) is not None  # with another cell's search its measurements are, too
    searched = {} if copied else read_searched(run.search_summary)
    data = result.get("data") or {}
    return {
        **{axis: value if type(value) in (int, float) else word(value) for axis, value in cell.values.items()},
        **fields,
        "cell": cell.name,
        "row": cell.row,
        "path": str(cell.config.task.files.get("path")),
        "main_metric": next(iter(result["metrics"])),
        SCORE: next(iter(result["metrics"].values())),
        LOSS: held_out_loss(run) if run.row_losses.exists() else result.get("calibrated_loss"),
        "unused_rows": int((data.get("unused") or {}).get("rows", 0)) if run.row_losses.exists() else 0,
        "evaluation": word(data.get("evaluation")),
        "search_seconds": result["seconds"].get("search"),
        "total_seconds": result["seconds"]["total"],
        FORWARD_PASSES: searched.get("passes", {}).get("forward"),
        "search_backward_passes": searched.get("passes", {}).get("backward"),
        "search_memory_mib": searched.get("peak_memory_mib"),
        **_searched_by(cell, copied=copied),
        **_of_layers(record, copied=copied),
    }


def _searched_by(cell: Cell, *, copied: bool) -> dict[str, str | None]:
    """The hypergradient of the cell's own search."""
    if copied or not isinstance(cell.config, Autolora):
        return {SEARCHED_BY: None, OPTIONS: None, ETA: None}
    chosen = vars(cell.config.hypergradient)
    eta = word(chosen["eta"]) if "eta" in chosen else None
    return {SEARCHED_BY: chosen["type"], OPTIONS: word(chosen.get("options", {})), ETA: eta}


def _of_layers(record: RankRecord | None, *, copied: bool) -> dict[str, Any]:
    """Ranks and shares of the layers, and L_val of the searched model."""
    if record is None:
        return dict.fromkeys((LAYERS, RANKS, SHARES, OUTER))
    shares = [layer.layer_share for layer in record.layers]
    measured = not copied and None not in shares
    return {
        LAYERS: [layer.name for layer in record.layers],
        RANKS: [layer.rank for layer in record.layers],
        SHARES: shares if measured else None,
        OUTER: record.evidence.loss if record.evidence is not None and not copied else None,
    }


def held_out_loss(folder: RunFolder) -> float:
    """The mean loss, nats per label, of the evaluation rows and the unused training rows (`task.unused_rows`), at a
    temperature that was fitted on other rows."""
    table = read_parquet(folder.row_losses, f"remove {folder.root} to train it again", numbers=("loss", "weight"))
    return float(table["loss"].sum() / table["weight"].sum())


def with_others(path: Path, others: Sequence[str]) -> pd.DataFrame:
    """results.parquet of this study, and below it those of other studies; of cells of one row, task and seed the first
    counts. Raises UserError that names a damaged file."""
    way_out = "the study's command with --stage report writes it again"
    texts, numbers = (TASK, "row", "method", "main_metric", "cell"), (SCORE, LOSS, "total_seconds")
    own, *tables = [read_parquet(Path(str(one)), way_out, texts=texts, numbers=numbers) for one in (path, *others)]
    for table, other in zip(tables, others, strict=True):  # where its cells lie, for the pictures
        table["cell"] = [str(Path(other).absolute().parent / "cells" / cell) for cell in table["cell"]]
    return pd.concat([own, *tables], ignore_index=True).drop_duplicates([TASK, "row", SEED], ignore_index=True)
