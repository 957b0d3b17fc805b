"""results.parquet: a row for each finished cell, with its place on the axes and the fields of its metrics.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from autolora.configs.errors import UserError
from autolora.configs.schema import Autolora
from autolora.configs.study import word
from autolora.engine import ranks
from autolora.engine.disk.tables import read_parquet
from autolora.engine.run.records import read_result
from autolora.engine.study.cells import Cell

SEED, TASK = "seed", "task"
SCORE, LOSS = "score", "log_loss"
"""The columns with each task's first metric, and with the log loss at a fitted temperature, nats a label (null: it was
not measured). The loss is that of the evaluation rows; of a cell with retrain.row_losses, of its unused training rows
too."""
LAYERS, RANKS, SHARES = "layers", "ranks", "shares"
"""The columns with the names of the layers with LoRA, and with the rank and the share of each."""
OUTER = "outer_loss"
"""The column with the outer objective, L_val: the loss on D_val of the searched model, before any rank was chosen, at
a fitted temperature, nats a label (null: it was not measured, or the cell copied another cell's search)."""
READ = "rows"
"""The column that is equal for cells whose losses are of the same rows."""
_LEFT_OUT = ("settings", "data", "source_ranks", "trained_ranks", "standard_error", "machine", "versions")
"""Fields of metrics.json that are no columns."""


def collect(cells: Sequence[Cell]) -> tuple[pd.DataFrame, list[str]]:
    """A row for each finished cell, and a line for each whose files are damaged."""
    rows, damaged = [], []
    for cell in cells:
        try:
            rows += [_row(cell)] if cell.finished else []
        except UserError as error:
            damaged.append(f"{cell.name}: {error}; to train the cell again, remove {cell.folder.root}")
    table = pd.DataFrame(rows)
    if rows:  # a task is called like its file, and several files may have one name
        several = table.groupby(TASK)["path"].transform("nunique") > 1
        table.loc[several, TASK] += " (" + table["path"] + ")"
        del table["path"]
    for axis in cells[0].values if rows else ():  # a column of parquet has one type
        if table[axis].dtype == object:
            table[axis] = table[axis].map(str)
    return table, damaged


def _row(cell: Cell) -> dict[str, Any]:
    """The columns of a finished cell; none depends on another cell. Raises UserError that names a damaged file."""
    result, losses = read_result(cell.folder.metrics), cell.folder.row_losses
    fields = pd.json_normalize({key: one for key, one in result.items() if key not in _LEFT_OUT}).to_dict("records")[0]
    read = {part: (result.get("data") or {}).get(part) for part in ("evaluation", "unused")}
    return {
        **{axis: value if type(value) in (int, float) else word(value) for axis, value in cell.values.items()},
        **{str(name).replace("metrics.", "metric."): one for name, one in fields.items()},
        "cell": cell.name,
        "row": cell.row,
        "path": str(cell.config.task.files.get("path")),
        "main_metric": next(iter(result["metrics"])),
        SCORE: next(iter(result["metrics"].values())),
        LOSS: held_out_loss(losses) if losses.exists() else result.get("calibrated_loss"),
        READ: word(read | ({} if losses.exists() else {"unused": None})),
        **_of_layers(cell),
    }


def _of_layers(cell: Cell) -> dict[str, Any]:
    """Ranks and shares of the layers, and L_val of the searched model."""
    config = cell.config
    if not config.has_lora:
        return dict.fromkeys((LAYERS, RANKS, SHARES, OUTER))
    record = ranks.load(cell.folder.ranks)
    shares = [layer.layer_share for layer in record.layers]
    own = isinstance(config, Autolora) and config.answer.from_run is None  # else another cell has measured it
    return {
        LAYERS: [layer.name for layer in record.layers],
        RANKS: [layer.rank for layer in record.layers],
        SHARES: shares if own and None not in shares else None,
        OUTER: record.evidence.loss if own and record.evidence else None,
    }


def held_out_loss(path: Path) -> float:
    """The mean loss in row_losses.parquet, nats per label, at a temperature that was fitted on other rows."""
    table = read_parquet(path, "remove the cell to train it again", numbers=("loss", "weight"))
    return float(table["loss"].sum() / table["weight"].sum())


def with_others(path: Path, others: Sequence[str]) -> pd.DataFrame:
    """results.parquet of this study, and below it those of other studies; of cells of one row, task and seed the first
    counts. Raises UserError that names a damaged file."""
    way_out = "the study's command with --stage report writes it again"
    own, *tables = [read_parquet(Path(one), way_out, texts=(TASK, "row", "cell")) for one in (str(path), *others)]
    for table, other in zip(tables, others, strict=True):  # where its cells lie, for the pictures
        table["cell"] = [str(Path(other).absolute().parent / "cells" / cell) for cell in table["cell"]]
    return pd.concat([own, *tables], ignore_index=True).drop_duplicates([TASK, "row", SEED], ignore_index=True)
