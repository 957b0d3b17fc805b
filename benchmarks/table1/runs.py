"""The runs of studies such as table1_minilm.yaml, and a CSV file that keeps them: a row for each."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from configs.errors import UserError
from engine.disk.files import replacing
from engine.run.contents import read_result
from engine.run.folder import RunFolder
from engine.study.agreement import RANKS, SHARES
from engine.study.folder import StudyFolder
from engine.study.rows import COMMIT, EVALUATED, LOSS, SCORE, SEED, TASK, UNUSED, read_results

VARIANT = "variant"
"""The column with the line of the table: how the run came to its ranks."""
SETTINGS = "settings"
"""The column with a digest of all in which the runs of a task and variant may not differ; empty if it is not known."""
ROWS = "rows"
"""The column with a digest of the evaluation rows and the base model, which all runs of a task share; empty if it is
not known."""
KEY = [TASK, VARIANT, SEED]
"""The columns that name a run."""
_TEXTS = [TASK, VARIANT, "method", "main_metric", COMMIT, SETTINGS, ROWS]
_NUMBERS = [SEED, LOSS, "lora_parameters"]
_PERHAPS = [SCORE, EVALUATED, UNUSED, "trainable_parameters", "learning_rate", "total_seconds"]
"""Columns of numbers that may be empty."""
_LISTS = [RANKS, SHARES]
"""Columns with a number for each layer, empty for runs that have none. Of shares only those of the run that measured
them are kept."""
COLUMNS = [*KEY, "method", LOSS, "main_metric", SCORE, EVALUATED, UNUSED, "lora_parameters", "trainable_parameters",
           "learning_rate", "total_seconds", COMMIT, SETTINGS, ROWS, *_LISTS]  # fmt: skip
"""The columns of the table; those that results.parquet has, too, are documented in engine/study/rows.py."""
_DIFFER = {
    "seed", "device", "task.path", "model.name", "model.revision", "answer.from_run", "lora.ranks_from",
    "retrain.learning_rate", "retrain.learning_rates",
}  # fmt: skip
"""Keys in which the runs of a task and variant may differ, or that say where rows, weights and ranks lie. The rate at
which a run trained counts, whether its own trials chose it or those of another seed."""


def of_study(root: Path) -> pd.DataFrame:
    """The finished cells of a study that has the axes seed and variant.

    Raises UserError for a folder without results, for a study without these axes, and for damaged files.
    """
    path = StudyFolder(root).results
    if not path.exists():
        raise UserError(f"{path}: does not exist; the study's command with --stage report writes it")
    found = read_results(path)
    if missing := [name for name in (SEED, VARIANT) if name not in found]:
        raise UserError(f"{path}: its study has no axis {missing[0]}; allowed: studies such as table1_minilm.yaml")
    if found.duplicated(KEY).any():
        raise UserError(f"{path}: several runs have one task, variant and seed; allowed: studies with no other axis")
    cells = [RunFolder(root / "cells" / cell) for cell in found["cell"]]
    if gone := [str(cell.root) for cell in cells if not cell.metrics.exists()]:
        raise UserError(f"{path}: it lists {gone[0]}, which has no result; the study's command with --stage report "
                        f"writes it again")  # fmt: skip
    results = [read_result(cell.metrics) for cell in cells]
    found = found.assign(**{SETTINGS: list(map(_settings_of, results)), ROWS: list(map(_rows_of, results))})
    return _in_order(found.reindex(columns=COLUMNS))


def _settings_of(result: Mapping[str, Any]) -> str:
    parts = {key: value for key, value in result["settings"].items() if key not in _DIFFER}
    return _digest(parts | {"rate": result.get("learning_rate")})


def _rows_of(result: Mapping[str, Any]) -> str:
    data = result.get("data") or {}
    return _digest({"base weights": result.get("base_weights"), "evaluation": data.get("evaluation")})


def _digest(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def read_table(path: Path) -> pd.DataFrame:
    """The runs in a CSV file that `write_table` wrote. Raises UserError, which names the file, if it is not one."""
    lists = dict.fromkeys(_LISTS, _numbers)
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(_TEXTS, str), converters=lists)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a CSV file of runs: {error}") from error
    if list(table.columns) != COLUMNS:
        raise UserError(f"{path}: it must have the columns {', '.join(COLUMNS)}")
    numbers = table[[*_NUMBERS, *_PERHAPS]]
    if not all(map(pd.api.types.is_numeric_dtype, numbers.dtypes)) or numbers[_NUMBERS].isna().any(axis=None):
        raise UserError(f"{path}: {', '.join(_NUMBERS)} must be numbers, and {', '.join(_PERHAPS)} numbers or empty")
    return _in_order(table.fillna(dict.fromkeys(_TEXTS, "")))


def _numbers(text: str) -> list[float] | None:
    return [float(part) for part in text.split()] or None


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes the runs as a CSV file that `read_table` reads, atomically. Creates the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = {name: table[name].map(_words) for name in _LISTS}
    with replacing(path) as temporary:  # the runs may have been deleted, so that this is the only copy
        _in_order(table.assign(**words)).to_csv(temporary, index=False, float_format="%.10g")


def _words(values: Sequence[float] | None) -> str:
    return "" if values is None else " ".join(f"{value:.4g}" for value in values)


def joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All of these runs; if one stands in several parts, the last of them counts.

    Raises UserError if runs of a task have other evaluation rows or base models, or runs of a task and variant other
    settings. An empty digest is not compared.
    """
    table = pd.concat(parts, ignore_index=True).drop_duplicates(KEY, keep="last")
    _refuse_mixed(table, [TASK], ROWS, "evaluation rows or base models; allowed: runs of a task on the same rows")
    _refuse_mixed(table, [TASK, VARIANT], SETTINGS, "settings; allowed: runs of a line that differ in the seed alone")
    return _in_order(table)


def _refuse_mixed(table: pd.DataFrame, by: list[str], digest: str, words: str) -> None:
    """Raises UserError, which names two runs, if runs of one group have two digests."""
    known = table[table[digest] != ""]
    for _, rows in known.groupby(by, sort=False):
        if rows[digest].nunique() > 1:
            first, other = rows.iloc[0], rows[rows[digest] != rows[digest].iloc[0]].iloc[0]
            names = [f"{run[VARIANT]}, seed {run[SEED]}" for run in (first, other)]
            raise UserError(f"{first[TASK]}: the runs {names[0]} and {names[1]} have other {words}")


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """By task and seed; tasks and variants stay in the order in which they first appear."""
    tasks, variants = ({name: place for place, name in enumerate(table[key].unique())} for key in (TASK, VARIANT))
    order = table.assign(_task=table[TASK].map(tasks), _variant=table[VARIANT].map(variants))
    ordered = order.sort_values(["_task", SEED, "_variant"], kind="stable", ignore_index=True)
    return ordered.drop(columns=["_task", "_variant"])
