"""Trainings at the same rank in every layer, and searches that say which rank is enough; from studies or a table."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from autolora.configs.errors import UserError
from autolora.engine import ranks
from autolora.engine.run.contents import read_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.held_out import held_out_loss
from benchmarks.enough.settings import digest_of
from benchmarks.kept import Layout, refuse_mixed

COLUMNS = ["task", "seed", "method", "rank", "loss", "parameters", "settings"]
"""The columns of a table of trainings.

`rank`: 0 for the head alone; of a search the rank that it calls enough, or nothing if its LoRA has learned nothing.
`loss`: nats a label on held-out rows, at a fitted temperature; of a search, that of the retraining at its ranks.
`parameters`: of LoRA. `settings`: a digest of all in which the trainings of a task may not differ; empty if it is not
known."""
LAYOUT = Layout(COLUMNS, texts={"task", "method", "settings"}, perhaps={"rank", "settings"})
METHODS = ("head", "lora", "autolora")


def of_study(root: Path) -> pd.DataFrame:
    """The finished cells of a study with the methods head, lora and autolora. The folder's name stands for the task.

    Raises UserError for a folder without such cells, and for a cell whose files are damaged or do not fit.
    """
    rows = []
    for path in sorted(root.glob("cells/*/metrics.json")):
        folder = RunFolder(path.parent)
        result = read_result(path)
        method = result["method"]
        if method not in METHODS:
            continue
        rank: int | None = 0
        if method == "autolora":
            record = ranks.load(folder.ranks)
            if record.evidence is None:
                raise UserError(f"{folder.ranks}: its search has measured no curve; --answer.rows measures it")
            rank = record.evidence.sufficient_rank(record.tolerance)
        elif method == "lora":
            rank = result["settings"]["lora.r"]
        found = [root.name, result["seed"], method, rank, held_out_loss(folder), result["lora_parameters"]]
        rows.append([*found, digest_of(result)])
    if not rows:
        raise UserError(f"{root}: it has no finished run of the methods {', '.join(METHODS)}; the study's command "
                        f"trains them")  # fmt: skip
    return _in_order(pd.DataFrame(rows, columns=COLUMNS))


def read_table(path: Path) -> pd.DataFrame:
    """The trainings in a CSV file that `write_table` wrote. Raises UserError, naming the file, if it is not such a
    table."""
    table = LAYOUT.read(path)
    if not set(table["method"]) <= set(METHODS):
        raise UserError(f"{path}: allowed methods: {', '.join(METHODS)}")
    if table["rank"].dropna().mod(1).ne(0).any():
        raise UserError(f"{path}: in the column rank, every row must have a whole number or nothing")
    return table


write_table = LAYOUT.write


def joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All of these trainings; if one stands in several parts, the last of them counts. Raises UserError if those of a
    task differ in more than seed, method and rank. An empty digest is not compared."""
    table = pd.concat(parts, ignore_index=True)
    # A search is the same training even if it now calls another rank enough, so its rank is not compared here.
    uniform = table["rank"].where(table["method"] == "lora", 0)
    again = table.assign(uniform=uniform).duplicated(["task", "seed", "method", "uniform"], keep="last")
    found = _in_order(table[~again])
    named = found.assign(at=(" at rank " + found["rank"].astype(str)).where(found["method"] == "lora", ""))
    words = "settings, rows or base models; allowed: trainings that differ in seed, method and rank alone"
    refuse_mixed(named, ["task"], "settings", "{method}{at}, seed {seed}", words)
    return found


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    ranked = table.astype({"rank": "Int64"})
    return ranked.sort_values(["task", "seed", "method", "rank"], ignore_index=True, kind="stable")
