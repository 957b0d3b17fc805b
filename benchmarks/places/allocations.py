"""Which layers had LoRA in which training, and the resulting loss: the cells of a study, or a table kept of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from configs.errors import UserError
from engine import ranks
from engine.run.contents import read_result
from engine.run.folder import RunFolder
from engine.study.held_out import held_out_loss

OF_RUN = ["seed", "draw", "loss"]
"""The columns of a table before those of the layers. `loss`: nats a label, at a fitted temperature."""
HEAD = -1
"""The value of the column `draw` for a training of the head alone, in which no layer had LoRA."""


@dataclass(frozen=True)
class Allocations:
    """Trainings at ranks 0 and 1.

    `table`: a row for each training, with the columns seed, draw, loss and one for each layer: 1 if it had LoRA.
    `head`: seed -> the loss of the head alone.
    """

    table: pd.DataFrame
    head: dict[int, float]

    @property
    def layers(self) -> list[str]:
        """The names of the layers."""
        return [str(name) for name in self.table.columns if name not in OF_RUN]

    @property
    def chosen(self) -> np.ndarray:
        """Which layers had LoRA [trainings, layers], as numbers 0 and 1."""
        found: np.ndarray = self.table[self.layers].to_numpy(dtype=float)
        return found

    @property
    def centred(self) -> np.ndarray:
        """The loss of each training less the mean of its seed [trainings]: the seeds differ in more than places."""
        losses = self.table["loss"]
        found: np.ndarray = (losses - losses.groupby(self.table["seed"]).transform("mean")).to_numpy()
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

    Raises UserError for a folder without such cells, and for a cell whose files are damaged or do not fit.
    """
    rows, head = [], {}
    for path in sorted(root.glob("cells/*/metrics.json")):
        folder = RunFolder(path.parent)
        result = read_result(path, "settings", "seed")
        loss, seed = held_out_loss(folder), result["seed"]
        if result["method"] == "head":
            head[seed] = loss
            continue
        record = ranks.load(folder.ranks)
        if record.rule != "random" or max(layer.rank for layer in record.layers) > 1:
            raise UserError(f"{folder.ranks}: its ranks are not random ranks of 0 and 1; --lora.cap 1 makes such")
        draw = result["settings"].get("lora.draw", 0)
        rows.append({"seed": seed, "draw": draw, "loss": loss} | {layer.name: layer.rank for layer in record.layers})
    if not rows:
        raise UserError(f"{root}: it has no finished run of method lora_random; the study's command trains them")
    return Allocations(_in_order(pd.DataFrame(rows)), head)


def read_table(path: Path) -> Allocations:
    """The trainings in a CSV file that `write_table` wrote. Raises UserError, naming the file, if it is not such a
    table."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a CSV file: {error}") from error
    if list(table.columns[: len(OF_RUN)]) != OF_RUN or len(table.columns) == len(OF_RUN):
        raise UserError(f"{path}: it must have the columns {', '.join(OF_RUN)} and one for each layer")
    if not all(map(pd.api.types.is_numeric_dtype, table.dtypes)) or table.isna().any(axis=None):
        raise UserError(f"{path}: every value must be a number")
    alone = table[table["draw"] == HEAD]
    head = {int(seed): float(loss) for seed, loss in zip(alone["seed"], alone["loss"], strict=True)}
    return Allocations(_in_order(table.drop(index=alone.index)), head)


def write_table(found: Allocations, path: Path) -> None:
    """Writes the trainings as a CSV file that `read_table` reads. Creates the folder."""
    none = dict.fromkeys(found.layers, 0)
    alone = [{"seed": seed, "draw": HEAD, "loss": loss} | none for seed, loss in sorted(found.head.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat([pd.DataFrame(alone), found.table]).to_csv(path, index=False, float_format="%.6f")


def joined(parts: Sequence[Allocations]) -> Allocations:
    """All of these trainings; if one stands in several parts, the last of them counts.

    Raises UserError if the parts are not of the same layers.
    """
    if any(part.layers != parts[0].layers for part in parts):
        raise UserError("--study, --table: their trainings are not of the same layers")
    table = pd.concat([part.table for part in parts]).drop_duplicates(["seed", "draw"], keep="last")
    return Allocations(_in_order(table), {seed: loss for part in parts for seed, loss in part.head.items()})


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["seed", "draw"], ignore_index=True)
