"""The runs of studies such as table1_minilm.yaml, and a CSV file that keeps them: a row for each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from autolora.configs.errors import UserError
from autolora.engine.run.contents import read_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.agreement import RANKS, SHARES
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.rows import COMMIT, EVALUATED, LOSS, SCORE, SEED, TASK, UNUSED, read_results
from benchmarks.kept import Layout, digest, refuse_mixed

VARIANT = "variant"
"""The column with the line of the table: how the run came to its ranks."""
SETTINGS = "settings"
"""The column with a digest of all in which the runs of a task and variant may not differ; empty if it is not known."""
ROWS = "rows"
"""The column with two digests, joined by a dot: of the evaluation rows and the base model, which all runs of a task
share; and of the training rows and the unused ones, which the runs of a task and seed share. Either may be missing, if
it is not known."""
KEY = [TASK, VARIANT, SEED]
"""The columns that name a run."""
COLUMNS = [*KEY, "method", LOSS, "main_metric", SCORE, EVALUATED, UNUSED, "lora_parameters", "trainable_parameters",
           "learning_rate", "total_seconds", COMMIT, SETTINGS, ROWS, RANKS, SHARES]  # fmt: skip
"""The columns of the table; those that results.parquet has, too, are documented in engine/study/rows.py. Of shares
only those of the run that measured them are kept."""
LAYOUT = Layout(
    COLUMNS, texts={TASK, VARIANT, "method", "main_metric", COMMIT, SETTINGS, ROWS},
    perhaps=set(COLUMNS) - {*KEY, LOSS, "lora_parameters"}, lists={RANKS, SHARES}, digits="%.10g",
)  # fmt: skip
read_table, write_table = LAYOUT.read, LAYOUT.write
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
    return digest(parts | {"rate": result.get("learning_rate")})


def _rows_of(result: Mapping[str, Any]) -> str:
    data = result.get("data") or {}
    of_task = digest({"base weights": result.get("base_weights"), "evaluation": data.get("evaluation")})
    return f"{of_task}.{digest({name: data.get(name) for name in ('training', 'unused')})}" if data else of_task


def joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All of these runs; if one stands in several parts, the last of them counts.

    Raises UserError if runs of a task have other evaluation rows or base models, runs of a task and seed other
    training rows, other unused rows or other numbers of rows, or runs of a task and variant other settings. An empty
    digest and an unknown number are not compared.
    """
    table = pd.concat(parts, ignore_index=True).drop_duplicates(KEY, keep="last")
    of_task, _, of_seed = (part for _, part in table[ROWS].str.partition(".").items())
    counts = table[EVALUATED].map(_count) + "." + table[UNUSED].map(_count)
    for by, digests, words in (
        ([TASK], of_task, "evaluation rows or base models; allowed: trainings of a task on the same rows"),
        ([TASK, SEED], counts, f"{EVALUATED} or {UNUSED}; allowed: trainings of a seed judged on the same rows"),
        ([TASK, SEED], of_seed, "training rows or unused rows; allowed: trainings of a seed on the same rows"),
        ([TASK, VARIANT], table[SETTINGS], "settings; allowed: trainings of a line that differ in the seed alone"),
    ):
        refuse_mixed(table.assign(digests=digests), by, "digests", "{variant}, seed {seed}", words)
    return _in_order(table)


def _count(rows: float) -> str:
    return "" if pd.isna(rows) else f"{rows:.0f}"


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """By task and seed; tasks and variants stay in the order in which they first appear."""
    tasks, variants = ({name: place for place, name in enumerate(table[key].unique())} for key in (TASK, VARIANT))
    order = table.assign(_task=table[TASK].map(tasks), _variant=table[VARIANT].map(variants))
    ordered = order.sort_values(["_task", SEED, "_variant"], kind="stable", ignore_index=True)
    return ordered.drop(columns=["_task", "_variant"])
