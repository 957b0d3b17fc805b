"""What the finished trainings of a verdict have shown: losses of the same rows, pair by pair."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from configs.errors import UserError
from engine.answer.shares import ratio_error
from engine.disk.files import read_parquet
from engine.run.contents import read_result
from engine.study.cells import Cell
from engine.verdict.arms import LEARNED, SHUFFLED, Arms
from engine.verdict.judge import LOOKS, Pairs

AGAIN = "--overwrite trains every pair again"


@dataclass(frozen=True)
class Shown:
    """The complete pairs. `losses`: arm -> the loss of each row in each pair [pairs, rows], summed over its labels;
    `weights` [rows]; `head`: those of the head alone [seeds, rows]; `scores`: arm -> the task's metric in each
    pair."""

    losses: dict[str, np.ndarray]
    weights: np.ndarray
    head: np.ndarray
    scores: dict[str, list[float]]
    metric: str

    @property
    def count(self) -> int:
        """How many pairs are complete."""
        return len(self.losses[LEARNED])

    def means(self, arm: str, count: int | None = None) -> np.ndarray:
        """The mean loss of an arm in each pair [pairs], nats a label."""
        found: np.ndarray = self.losses[arm][:count].sum(axis=1) / self.weights.sum()
        return found

    def against(self, arm: str, count: int | None = None) -> Pairs:
        """The first `count` pairs of the learned ranks and another arm."""
        learned, other = self.losses[LEARNED][:count], self.losses[arm][:count]
        gain, error = self._gain()
        return Pairs(
            self.means(arm, count) - self.means(LEARNED, count), self._row_error((other - learned).mean(axis=0)),
            gain, error,
        )  # fmt: skip

    def pairs(self, count: int | None = None) -> Pairs:
        """The first `count` pairs (all unless given) of the learned ranks and their shuffle."""
        return self.against(SHUFFLED, count)

    def _gain(self) -> tuple[float, float]:
        """What LoRA at the learned ranks gains over the head alone at the same seeds, and its standard error by
        row."""
        rows = self.head.mean(axis=0) - self.losses[LEARNED][: len(self.head)].mean(axis=0)
        return float(rows.sum() / self.weights.sum()), self._row_error(rows)

    def _row_error(self, rows: np.ndarray) -> float:
        return float(ratio_error(torch.tensor(rows), torch.tensor(self.weights)))


def shown(arms: Arms) -> Shown | None:
    """What the complete pairs show; None before the first of them, or before the head, is finished.

    Raises UserError that names the file when one is damaged, or when two trainings judged other rows.
    """
    heads = [cell for cell in arms.heads() if cell.folder.metrics.exists()]
    pairs = []
    for number in range(1, LOOKS[-1] + 1):
        pair = arms.pair(number)
        if not all(cell.folder.metrics.exists() for cell in pair.values()):
            break
        pairs.append(pair)
    if not pairs or not heads:
        return None
    head, weights = _losses(heads)
    losses, scores, metric = {}, {}, ""
    for arm in arms.names:
        cells = [pair[arm] for pair in pairs]
        losses[arm], others = _losses(cells)
        if not np.array_equal(others, weights):
            raise UserError(f"{cells[0].folder.row_losses}: it judges other rows than the head; {AGAIN}")
        results = [read_result(cell.folder.metrics, "metrics")["metrics"] for cell in cells]
        metric = next(iter(results[0]))
        scores[arm] = [result[metric] for result in results]
    return Shown(losses, weights, head, scores, metric)


def _losses(cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray]:
    """The losses [cells, rows] and the weights [rows] of the rows that trainings judged."""
    tables = []
    for cell in cells:
        path = cell.folder.row_losses
        tables.append(read_parquet(path, f"remove {cell.folder.root} to train it again", numbers=("loss", "weight")))
        if len(tables[-1]) != len(tables[0]) or not np.array_equal(tables[-1]["weight"], tables[0]["weight"]):
            raise UserError(f"{path}: it judges other rows than the other trainings; {AGAIN}")
    return np.stack([table["loss"].to_numpy() for table in tables]), tables[0]["weight"].to_numpy()
