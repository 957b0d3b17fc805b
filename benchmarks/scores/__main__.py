"""Measure candidate scores of layers after finished searches: `python -m benchmarks.scores`.

They are scores that the program itself does not have: the shares on D_tr instead of D_val, and at the beginning of the
path. `python -m benchmarks.places --measured` judges them.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from torch import Tensor

from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.engine.run.contents import read_searched
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.same_data import data_change
from autolora.engine.search.found import searched_model
from benchmarks.command import Settings, main, refuse_empty
from benchmarks.places.scores import row_keys
from benchmarks.scores.variants import share_variants

SHOWN = 5
"""How many layers the table names for each score."""


@dataclass(frozen=True)
class ScoresSettings(Settings):
    """What is measured."""

    json: str | None = None
    """File that gets the scores, for `python -m benchmarks.places --measured`."""
    searched: list[str] = field(default_factory=list)
    """Folders of finished searches on the same layers; the scores are their mean."""


def measure_scores(settings: ScoresSettings) -> tuple[dict[str, Any], list[Table]]:
    """The mean of every score over the searches. Raises UserError for a folder without a finished search, and for
    searches of different layers."""
    refuse_empty("searched", settings.searched)
    folders = [RunFolder(Path(name)) for name in settings.searched]
    for folder in folders:
        if not folder.search_summary.exists():
            raise UserError(
                f"--searched: {folder.root} has no finished search; allowed: folders of runs that have one"
            )
    found = [scores_of_search(folder) for folder in folders]
    layers = found[0][0]
    if any(other != layers for other, _ in found):
        raise UserError("--searched: these runs have LoRA in different layers; allowed: runs with the same layers")
    means = {name: np.mean([own[name].numpy() for _, own in found], axis=0) for name in found[0][1]}
    table = Table("score", "layers", title="The layers with the largest scores")
    for name, values in means.items():
        table.add_row(name, ", ".join(layers[i] for i in np.argsort(-values, kind="stable")[:SHOWN]))
    rows = {str(folder.root): row_keys(read_searched(folder.search_summary).get("settings", {})) for folder in folders}
    scores = {name: values.tolist() for name, values in means.items()}
    return {"layers": layers, "scores": scores, "rows": rows}, [table]


def scores_of_search(folder: RunFolder) -> tuple[list[str], dict[str, Tensor]]:
    """The names of the layers, and each score [layers], of one finished search."""
    run = Context(load_config(folder.config), StopRequest(), folder=folder)
    if not run.config.answer.rows:
        raise UserError(f"--searched: {folder.root} has --answer.rows 0; allowed: runs with a larger number")
    _refuse_changes(run)
    _, gates = searched_model(run)
    return gates.names, share_variants(run)


def _refuse_changes(run: Context) -> None:
    """Raises UserError if the rows, or the base model's weights, are no longer those of the search."""
    searched, which = read_searched(run.folder.search_summary).get("data", {}), f"the search in {run.folder.root}"
    if change := data_change(run, searched, f"{which} was done on", evaluated=False):
        raise UserError(f"--searched: {change}; the scores need the rows of the search: bring the old data back")
    run.weights.expect(searched.get("weights"), f"{which} was done with", "bring the old weights back")


if __name__ == "__main__":
    sys.exit(main(ScoresSettings, measure_scores))
