"""Which layers had LoRA in which training, and the resulting loss: the cells of a study, or a table kept of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autolora.configs.errors import UserError
from autolora.engine import ranks
from autolora.engine.run.contents import read_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.held_out import held_out_loss
from benchmarks.kept import Layout, digest

OF_RUN = ["task", "settings", "seed", "draw", "loss"]
"""The columns of a table before those of the layers. `settings`: a digest of all in which trainings may not differ.
`loss`: nats a label, at a fitted temperature."""
LAYOUT = Layout(OF_RUN, texts={"task", "settings"}, further="one for each layer")
HEAD = -1
"""The value of the column `draw` for a training of the head alone, in which no layer had LoRA."""
_VARY = ("method", "seed", "lora.draw")
"""The settings in which the trainings may differ."""
_OF_LORA = ("lora.cap", "lora.budget", "lora.draw_seed")
"""The settings that the head alone does not read, in which it may differ from the other trainings."""


@dataclass(frozen=True)
class Allocations:
    """Trainings at ranks 0 and 1. An *allocation* is a choice of layers that have rank 1.

    `table`: a row for each training, with the columns of OF_RUN and one for each layer: 1 if it had LoRA.
    `head`: seed -> the loss of the head alone. `settings`: those of the study's cells; empty if a table was read.
    """

    table: pd.DataFrame
    head: dict[int, float]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """The names of the layers."""
        return [str(name) for name in self.table.columns if name not in OF_RUN]

    @cached_property
    def losses(self) -> pd.DataFrame:
        """The loss of each allocation [allocations, seeds] less the mean of its seed, as seeds differ in more than
        places; NaN where an allocation was not trained at a seed."""
        found = self.table.assign(loss=self.table["loss"] - self.table.groupby("seed")["loss"].transform("mean"))
        return found.pivot_table(index=self.layers, columns="seed", values="loss", aggfunc="mean")

    @property
    def chosen(self) -> np.ndarray:
        """Which layers had LoRA [allocations, layers], as numbers 0 and 1."""
        return np.array(self.losses.index.to_list(), dtype=float)

    @property
    def mean(self) -> np.ndarray:
        """The mean of each allocation's losses over its seeds [allocations]."""
        found: np.ndarray = self.losses.mean(axis=1).to_numpy()
        return found

    @property
    def gain(self) -> float | None:
        """What LoRA at these places gains over the head alone: the mean over the seeds that also trained the head
        alone."""
        means = self.table.groupby("seed")["loss"].mean()
        gains = [self.head[seed] - loss for seed, loss in means.items() if seed in self.head]
        return float(np.mean(gains)) if gains else None


def of_study(root: Path) -> Allocations:
    """The finished cells of a study with method lora_random at --lora.cap 1, and of method head, if it has any.

    Raises UserError for a folder without such cells, for a cell whose files are damaged or do not fit, and for cells
    that differ in more than seed and places.
    """
    rows, head, settings = [], {}, dict[str, Any]()
    for path in sorted(root.glob("cells/*/metrics.json")):
        folder = RunFolder(path.parent)
        result = read_result(path)
        own = {"task": result["task"]} | result["settings"]
        own = {key: own[key] for key in own if result["method"] != "head" or key not in _OF_LORA}
        _refuse_other(settings, own, path)
        settings = own | settings
        loss, seed = held_out_loss(folder), result["seed"]
        if result["method"] == "head":
            head[seed] = loss
            continue
        record = ranks.load(folder.ranks)
        if record.rule != "random" or max(layer.rank for layer in record.layers) > 1:
            raise UserError(f"{folder.ranks}: its ranks are not random ranks of 0 and 1; --lora.cap 1 makes such")
        row = {"task": result["task"], "settings": "", "seed": seed, "draw": own.get("lora.draw", 0), "loss": loss}
        rows.append(row | record.ranks)
        if rows[-1].keys() != rows[0].keys():
            raise UserError(f"{folder.ranks}: its layers are not those of the other cells")
    if not rows:
        raise UserError(f"{root}: it has no finished run of method lora_random; the study's command trains them")
    same = {key: value for key, value in settings.items() if key not in _VARY}
    table = pd.DataFrame(rows).assign(settings=digest(same, 12))
    return Allocations(_in_order(table), head, settings)


def _refuse_other(settings: Mapping[str, Any], own: Mapping[str, Any], path: Path) -> None:
    """Raises UserError if a cell's `own` settings differ from those of the cells before it in more than seed and
    places, such as in the task."""
    for key, value in own.items():
        if key in settings and key not in _VARY and settings[key] != value:
            raise UserError(
                f"{path}: its {key} is {value!r}, that of the first cell {settings[key]!r}; allowed: trainings that "
                f"differ in seed and places alone"
            )


def read_table(path: Path) -> Allocations:
    """The trainings in a CSV file that `write_table` wrote. Raises UserError, naming the file, if it is not such a
    table."""
    table = LAYOUT.read(path)
    alone = table[table["draw"] == HEAD]
    head = {int(seed): float(loss) for seed, loss in zip(alone["seed"], alone["loss"], strict=True)}
    return Allocations(_in_order(table.drop(index=alone.index)), head)


def write_table(found: Allocations, path: Path) -> None:
    """Writes the trainings as a CSV file that `read_table` reads."""
    same = found.table[["task", "settings"]].iloc[0].to_dict() | {"draw": HEAD} | dict.fromkeys(found.layers, 0)
    alone = [same | {"seed": seed, "loss": loss} for seed, loss in sorted(found.head.items())]
    LAYOUT.write(pd.concat([pd.DataFrame(alone, columns=list(found.table.columns)), found.table]), path)


def joined(parts: Sequence[Allocations]) -> Allocations:
    """All of these trainings; if one stands in several parts, the last of them counts.

    Raises UserError if the parts are not of the same layers, tasks or settings, or if one draw at one seed is of two
    allocations.
    """
    if any(part.layers != parts[0].layers for part in parts):
        raise UserError("--study, --table: their trainings are not of the same layers")
    table = pd.concat([part.table for part in parts])
    if len(tasks := table["task"].unique()) > 1:
        raise UserError(f"--study, --table: their trainings are of different tasks: {', '.join(map(str, tasks))}")
    if table["settings"].nunique() > 1:
        raise UserError(
            "--study, --table: their trainings were made under different settings; give each study a table of its own"
        )
    kept = table.drop_duplicates(["seed", "draw", *parts[0].layers], keep="last")
    if len(twice := kept[kept.duplicated(["seed", "draw"])]):
        seed, draw = twice[["seed", "draw"]].iloc[0]
        raise UserError(
            f"--study, --table: draw {draw} of seed {seed} has LoRA in other layers in one than in the other"
        )
    head = {seed: loss for part in parts for seed, loss in part.head.items()}
    return Allocations(_in_order(kept), head, parts[-1].settings)


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["seed", "draw"], ignore_index=True)
