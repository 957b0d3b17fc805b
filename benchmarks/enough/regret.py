"""What the rank that a search calls enough costs, beside the best rank of the task."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from autolora.configs.errors import UserError

NOTHING_LEARNED = 1
"""The rank that the program retrains at when a search has learned nothing that shows on D_val."""


@dataclass(frozen=True)
class Regret:
    """One task, over the seeds that have a search and a training at every rank.

    `losses`: rank (0: the head alone) -> the loss of each seed [seeds], nats a label. `parameters`: rank -> LoRA
    parameters. `enough`: the rank that the search of each seed calls enough [seeds]; None: it has learned nothing.
    `found`: the loss of each search's own retraining [seeds]; `found_parameters`: its LoRA parameters [seeds].
    """

    task: str
    losses: dict[int, np.ndarray]
    parameters: dict[int, int]
    enough: list[int | None]
    found: np.ndarray
    found_parameters: np.ndarray

    @property
    def best(self) -> int:
        """The rank whose mean loss is the lowest."""
        return min(self.losses, key=lambda rank: float(self.losses[rank].mean()))

    @property
    def gain(self) -> float:
        """The mean loss of the head alone less that of the best rank."""
        return float(self.losses[0].mean() - self.losses[self.best].mean())

    @property
    def taken(self) -> list[int]:
        """For each seed, the rank that its search calls enough; NOTHING_LEARNED if LoRA has learned nothing."""
        return [NOTHING_LEARNED if rank is None else rank for rank in self.enough]

    @property
    def at_enough(self) -> np.ndarray:
        """For each seed, the loss of the training at the rank in `taken` [seeds]."""
        return np.array([self.losses[rank][seed] for seed, rank in enumerate(self.taken)])

    def regrets(self) -> np.ndarray:
        """For each seed: the loss at the rank called enough minus that at the task's best rank, divided by the gain.

        The same seed trains both, so what only the seed causes cancels. NaN where LoRA gains nothing."""
        return self.over_gain(self.at_enough)

    def found_regrets(self) -> np.ndarray:
        """The same for each search's own retraining, at the ranks that its rule chose."""
        return self.over_gain(self.found)

    def regrets_at(self, times: int) -> np.ndarray:
        """The regrets at `times` the rank called enough, or at the largest trained rank if that is lower; only of the
        seeds whose search calls a rank below the largest one enough [at most seeds].

        Raises KeyError if one of these ranks was not trained (`untrained_at`)."""
        at = {rank: self.over_gain(self.losses[rank]) for rank in self.losses}
        return np.array([at[rank][seed] for seed, rank in self._multiples(times)])

    def untrained_at(self, times: int) -> list[int]:
        """The ranks that `regrets_at` needs and that were not trained."""
        return sorted({rank for _, rank in self._multiples(times)} - set(self.losses))

    def _multiples(self, times: int) -> list[tuple[int, int]]:
        """Seeds, with `times` the rank called enough, at most the largest trained rank."""
        largest = max(self.losses)
        named = [(seed, rank) for seed, rank in enumerate(self.enough) if rank is not None and rank < largest]
        return [(seed, min(times * rank, largest)) for seed, rank in named]

    def mean_parameters(self) -> float:
        """The mean over the seeds of the LoRA parameters at the enough rank."""
        return float(np.mean([self.parameters[rank] for rank in self.taken]))

    def over_gain(self, losses: np.ndarray) -> np.ndarray:
        """How much higher these losses [seeds] are than those of the best rank, divided by the gain."""
        over = losses - self.losses[self.best]
        return over / self.gain if self.gain > 0 else np.full_like(over, np.nan)


def regret_of(task: str, table: pd.DataFrame) -> Regret | None:
    """The regret on one task; None if no seed has a search and a training at every rank.

    Raises UserError if nothing was trained at rank 1, or at a rank that a search calls enough.
    """
    uniform = table[table["method"] != "autolora"].pivot_table("loss", "seed", "rank")
    searched = table[table["method"] == "autolora"].set_index("seed")
    complete = uniform.dropna().index.intersection(searched.index)
    if complete.empty or 0 not in uniform.columns or len(uniform.columns) < 2:
        return None
    enough = [None if pd.isna(rank) else int(rank) for rank in searched.loc[complete, "rank"]]
    trained = [int(rank) for rank in uniform.columns]
    for rank in {NOTHING_LEARNED, *filter(None, enough)} - set(trained):
        raise UserError(f"{task}: nothing was trained at rank {rank}; trained: {', '.join(map(str, trained))}")
    parameters = table[table["method"] != "autolora"].groupby("rank")["parameters"].first()
    return Regret(
        task,
        {rank: uniform.loc[complete, rank].to_numpy(dtype=float) for rank in trained},
        dict(zip(map(int, parameters.index), map(int, parameters), strict=True)),
        enough,
        searched.loc[complete, "loss"].to_numpy(dtype=float),
        searched.loc[complete, "parameters"].to_numpy(dtype=float),
    )
