"""What the finished trainings of a verdict have shown: losses of the same rows, pair by pair."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autolora.configs.errors import UserError
from autolora.engine.disk.tables import read_parquet
from autolora.engine.measure.likelihood import ratio_error
from autolora.engine.run.manifest import Manifest
from autolora.engine.run.records import read_result
from autolora.engine.verdict.arms import AGAIN, HEAD, LEARNED, SHUFFLED, Arms
from autolora.engine.verdict.judge import Pairs


@dataclass(frozen=True)
class Shown:
    """The finished pairs of learned and shuffled ranks; another arm may have fewer of them.

    `losses`: arm -> the loss of each row in each pair [pairs, rows], summed over its labels. `weights` [rows]: how
    many labels a row has. `sources` [rows]: a number that is the same for all rows made from one input. `head`: the
    losses of the head alone [seeds, rows]. `results`: arm -> metrics.json of each pair.
    """

    losses: dict[str, np.ndarray]
    weights: np.ndarray
    sources: np.ndarray
    head: np.ndarray
    results: dict[str, list[dict[str, Any]]]

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return len(self.losses[LEARNED])

    @property
    def complete(self) -> int:
        """How many pairs have trained every arm."""
        return min(map(len, self.losses.values()))

    def means(self, arm: str, count: int | None = None) -> np.ndarray:
        """The mean loss of an arm in each pair [pairs], nats per label."""
        found: np.ndarray = self.losses[arm][:count].sum(axis=1) / self.weights.sum()
        return found

    def pairs(self, count: int | None = None, arm: str = SHUFFLED) -> Pairs:
        """The first `count` pairs (all unless given) of the learned ranks and another arm."""
        other = self.losses[arm][:count]
        rows = other - self.losses[LEARNED][: len(other)]
        return Pairs(rows.sum(axis=1) / self.weights.sum(), self._row_error(rows), *self._gain(len(other)))

    def _gain(self, count: int) -> tuple[float, float]:
        """What LoRA at the learned ranks gains over the head alone, and the gain's standard error over rows and seeds.

        It compares the means over the seeds of the first `count` pairs and over those of the head; a base model
        without a head has one run.
        """
        learned = self.losses[LEARNED][:count]
        rows = self.head.mean(axis=0) - learned.mean(axis=0)
        seeds = [_seed_error(losses.sum(axis=1) / self.weights.sum()) for losses in (learned, self.head)]
        return float(rows.sum() / self.weights.sum()), math.hypot(self._row_error(rows[None]), *seeds)

    def _row_error(self, rows: np.ndarray) -> float:
        """The standard error, over rows, of the mean of [pairs, rows]; rows of one source count as one draw."""
        return float(ratio_error(torch.tensor(rows.mean(axis=0)), torch.tensor(self.weights), self.sources))


def _seed_error(means: np.ndarray) -> float:
    """The standard error over seeds of the mean of these losses [seeds]; 0 for one seed, which shows no spread."""
    return float(means.std(ddof=1)) / len(means) ** 0.5 if len(means) > 1 else 0.0


def shown(arms: Arms) -> Shown | None:
    """What the pairs show; None until the first pair and a training of the head are finished.

    Raises UserError that names the file if one is damaged, or if trainings and search did not all begin from the same
    weights of the base model.
    """
    heads = [cell for cell in arms.heads() if cell.finished]
    pairs = [arms.pair(number) for number in range(1, arms.plan.most + 1)]
    done = {arm: list(itertools.takewhile(lambda cell: cell.finished, (pair[arm] for pair in pairs)))
            for arm in arms.names}  # fmt: skip
    count = min(len(done[LEARNED]), len(done[SHUFFLED]))
    if not count or not heads:
        return None
    done = {HEAD: heads} | {arm: cells[:count] for arm, cells in done.items()}
    results = {arm: [read_result(cell.folder.metrics) for cell in cells] for arm, cells in done.items()}
    _refuse_mixed(arms, list(itertools.chain(*results.values())))
    columns = ("loss", "weight", "source")
    tables = {arm: [read_parquet(cell.folder.row_losses, AGAIN, numbers=columns) for cell in cells]
              for arm, cells in done.items()}  # fmt: skip
    first = tables[HEAD][0]
    losses = {arm: np.array([one["loss"] for one in found]).reshape(-1, len(first)) for arm, found in tables.items()}
    head = losses.pop(HEAD)
    return Shown(losses, first["weight"].to_numpy(), first["source"].to_numpy(), head, results)


def _refuse_mixed(arms: Arms, results: Sequence[Mapping[str, Any]]) -> None:
    """Raises UserError if search and trainings did not all begin from the same weights of the base model: a hub's main
    branch moves on. Rows are compared before the trainings begin."""
    root = arms.folder.root
    searched = Manifest.read(root.parent / "search" / "manifest.json")
    bases = {one.get("base_weights") for one in results} | {searched.inputs.get("base model") if searched else None}
    if len(bases - {None}) > 1:
        raise UserError(f"--model.name: trainings of other weights of the base model are in {root}; bring the old "
                        f"ones back, or {AGAIN}")  # fmt: skip
