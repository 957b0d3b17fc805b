"""What the finished trainings of a verdict have shown: losses of the same rows, pair by pair."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from autolora.configs.errors import UserError
from autolora.engine.disk.tables import read_parquet
from autolora.engine.measure.shares import ratio_error
from autolora.engine.run.contents import data_of_ranks, read_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.resuming import Outdated
from autolora.engine.run.same_data import differ
from autolora.engine.study.cells import Cell
from autolora.engine.verdict.arms import LEARNED, SHUFFLED, Arms
from autolora.engine.verdict.judge import Pairs

COLUMNS = ("loss", "weight", "source")
AGAIN = "--overwrite trains every pair again"


@dataclass(frozen=True)
class Shown:
    """The finished pairs of learned and shuffled ranks; another arm may have fewer of them.

    `losses`: arm -> the loss of each row in each pair [pairs, rows], summed over its labels. `weights` [rows]: how
    many labels a row has. `sources` [rows]: a number that is the same for all rows made from one input. `head`: the
    losses of the head alone [seeds, rows]. `scores` and `parameters`: arm -> the task's metric and the LoRA parameters
    in each pair. `commits`: that of this program at which each training was made (None: not known).
    """

    losses: dict[str, np.ndarray]
    weights: np.ndarray
    sources: np.ndarray
    head: np.ndarray
    scores: dict[str, list[float]]
    parameters: dict[str, list[int]]
    metric: str
    commits: tuple[str | None, ...] = ()

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return len(self.losses[LEARNED])

    @property
    def complete(self) -> int:
        """How many pairs have trained every arm."""
        return min(map(len, self.losses.values()))

    @property
    def source_count(self) -> int:
        """How many sources the rows have; if all have one, each row counts as a source, as in their standard error."""
        count = len(np.unique(self.sources))
        return count if count > 1 else len(self.sources)

    def means(self, arm: str, count: int | None = None) -> np.ndarray:
        """The mean loss of an arm in each pair [pairs], nats per label."""
        found: np.ndarray = self.losses[arm][:count].sum(axis=1) / self.weights.sum()
        return found

    def against(self, arm: str, count: int | None = None) -> Pairs:
        """The first `count` pairs of the learned ranks and another arm."""
        other = self.losses[arm][:count]
        rows = other - self.losses[LEARNED][: len(other)]
        gain = self._gain(len(other))
        return Pairs(rows.sum(axis=1) / self.weights.sum(), self._row_error(rows.mean(axis=0)), *gain)

    def pairs(self, count: int | None = None) -> Pairs:
        """The first `count` pairs (all unless given) of the learned ranks and their shuffle."""
        return self.against(SHUFFLED, count)

    def _gain(self, count: int) -> tuple[float, float]:
        """What LoRA at the learned ranks gains over the head alone, and the gain's standard error over rows and seeds.

        It compares the means over the seeds of the first `count` pairs and over those of the head; a base model
        without a head has one run.
        """
        learned = self.losses[LEARNED][:count]
        rows = self.head.mean(axis=0) - learned.mean(axis=0)
        seeds = [_seed_error(losses.sum(axis=1) / self.weights.sum()) for losses in (learned, self.head)]
        return float(rows.sum() / self.weights.sum()), math.hypot(self._row_error(rows), *seeds)

    def _row_error(self, rows: np.ndarray) -> float:
        """The standard error of the mean over rows; rows of one source are not independent, and count as one draw."""
        return float(ratio_error(torch.tensor(rows), torch.tensor(self.weights), self.sources))


def _seed_error(means: np.ndarray) -> float:
    """The standard error over seeds of the mean of these losses [seeds]; 0 for one seed, which shows no spread."""
    return float(means.std(ddof=1)) / len(means) ** 0.5 if len(means) > 1 else 0.0


def shown(arms: Arms) -> Shown | None:
    """What the pairs show; None until the first pair and a training of the head are finished.

    Raises UserError that names the file if one is damaged, if two trainings were judged on different rows, or if
    trainings and search did not all begin from the same rows and weights of the base model.
    """
    heads = [cell for cell in arms.heads() if cell.finished]
    pairs = [arms.pair(number) for number in range(1, arms.plan.most + 1)]
    done = {arm: list(itertools.takewhile(lambda cell: cell.finished, (pair[arm] for pair in pairs)))
            for arm in arms.names}  # fmt: skip
    count = min(len(done[LEARNED]), len(done[SHUFFLED]))
    if not count or not heads:
        return None
    done = {arm: cells[:count] for arm, cells in done.items()}
    results = {arm: [read_result(cell.folder.metrics) for cell in cells] for arm, cells in done.items()}
    every = [*heads, *(cell for cells in done.values() for cell in cells)]
    _refuse_other_origin(arms, every)
    losses, weights, sources = _losses(every)
    places = np.cumsum([len(heads), *map(len, done.values())])
    metric = next(iter(results[LEARNED][0]["metrics"]))
    return Shown(
        dict(zip(done, np.split(losses, places[:-1])[1:], strict=True)), weights, sources, losses[: len(heads)],
        {arm: [result["metrics"][metric] for result in found] for arm, found in results.items()},
        {arm: [result["lora_parameters"] for result in found] for arm, found in results.items()},
        metric, tuple(read_result(cell.folder.metrics).get("commit") for cell in every),
    )  # fmt: skip


def _refuse_other_origin(arms: Arms, cells: Sequence[Cell]) -> None:
    """Raises Outdated if the base model changed between the search and one of these trainings, or base model or rows
    between two of them: a hub's main branch moves on, and a file may be edited."""
    results = [read_result(cell.folder.metrics) for cell in cells]
    searched = data_of_ranks(RunFolder(arms.folder.root.parent)).get("weights")
    for cell, result in zip(cells, results, strict=True):
        if result.get("base_weights") not in (None, searched or results[0].get("base_weights")):
            raise Outdated(f"--model.name: {cell.config.model.name} no longer has the weights of the search; "
                           f"{cell.folder.root} began from others; bring the old ones back, or {AGAIN}")  # fmt: skip
        if differ(results[0].get("data") or {}, result.get("data") or {}):
            raise Outdated(f"--task: the rows have changed since {cells[0].folder.root} was trained; "
                           f"{cell.folder.root} began with others; bring the old ones back, or {AGAIN}")  # fmt: skip


def _losses(cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The losses [cells, rows] of these trainings on the rows that judge, and the rows' weights and sources [rows]."""
    tables = []
    for cell in cells:
        path = cell.folder.row_losses
        tables.append(read_parquet(path, f"remove {cell.folder.root} to train it again", numbers=COLUMNS))
        if not np.array_equal(tables[-1]["weight"], tables[0]["weight"]):
            raise UserError(f"{path}: its rows are not those of the other trainings; {AGAIN}")
        if not np.isfinite(tables[-1]["loss"]).all():
            raise UserError(f"{path}: holds losses that are not finite; remove {cell.folder.root} to train it again, "
                            f"at a lower --retrain.learning_rate if they stay so")  # fmt: skip
    losses = np.stack([table["loss"].to_numpy() for table in tables])
    return losses, tables[0]["weight"].to_numpy(), tables[0]["source"].to_numpy()
