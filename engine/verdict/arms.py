"""The trainings of a verdict: each is a cell, as of a study, of which only the numbers are kept."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.layers import given, settled
from autolora.configs.schema import RunConfig, Searching
from autolora.configs.tasks import OF_TOKENS, Chat
from autolora.engine import ranks
from autolora.engine.disk.files import read_json
from autolora.engine.ranks import RankRecord, count_parameters
from autolora.engine.retrain.controls import can_be_shuffled
from autolora.engine.store.folder import RunFolder
from autolora.engine.study.cells import Cell
from autolora.engine.verdict.judge import PLANS, Plan
from autolora.problems.machine.draws import seed_of

LEARNED = "learned"
SHUFFLED = "shuffled"
HEAD = "head"
_METHODS = {
    LEARNED: "lora_ranks",
    SHUFFLED: "lora_shuffled",
    "uniform": "lora",
    "random": "lora_random",
    HEAD: "head",
}
SEEDS = 2
"""LoRA's gain compares the learned ranks with the head alone, which is trained at this many
seeds."""


@dataclasses.dataclass(frozen=True)
class Arms:
    """What the verdict of a run compares.

    `record`: the run's learned ranks; `sizes`: layer name -> LoRA parameters of rank 1; `rate`: the
    learning rate of all trainings.
    """

    config: Searching
    folder: RunFolder
    record: RankRecord
    sizes: Mapping[str, int]
    rate: float

    @property
    def names(self) -> list[str]:
        """The arms of a pair, trained at one seed: learned, shuffled, and what verdict.arms
        adds."""
        return [LEARNED, SHUFFLED, *dict.fromkeys(self.config.verdict.arms)]

    @property
    def plan(self) -> Plan:
        """At how many pairs the verdict may end, and how sure it must then be."""
        return PLANS[self.config.verdict.pairs]

    @property
    def ranks(self) -> Path:
        """The learned ranks as they were when the first pair began."""
        return self.folder.verdict / "ranks.json"

    @property
    def parameters(self) -> int:
        """LoRA parameters of the learned ranks."""
        return count_parameters(self.record.kept, self.sizes)

    @property
    def uniform_rank(self) -> int:
        """The rank (at least 1) that, in every layer, takes about as many parameters in all as the
        learned ranks."""
        return max(1, math.floor(self.parameters / sum(self.sizes.values()) + 0.5))

    def pair(self, number: int) -> dict[str, Cell]:
        """The trainings of a pair, by name; pairs are counted from 1."""
        return {name: self._cell(f"pair-{number:02d}-{name}", name, number) for name in self.names}

    def heads(self) -> list[Cell]:
        """The trainings of the head alone; without a head, one run that evaluates the base
        model."""
        cells = [self._cell(f"head-{number}", HEAD, number) for number in range(1, SEEDS + 1)]
        return cells[:1] if cells[0].config.evaluates_base else cells

    def _cell(self, name: str, arm: str, number: int) -> Cell:
        """The run of an arm at the seed of a pair, on the rows of the search's seed. Its paths
        begin at its own folder, so that a run that was moved can resume."""
        own = self.config
        verdict = self.config.verdict
        kept = {
            key: one
            for key, one in given(own).items()
            if key in ("model", "task", "lora", "retrain")
        }
        # What an arm's method lacks is left out.
        more: dict[str, Any] = {
            "task": {"seed": own.data_seed, "unused_rows": verdict.rows, "samples": 0},
            "lora": {
                "k": self.record.k,
                "ranks_from": "{runs}/../ranks.json",
                "r": self.uniform_rank,
            },
            "retrain": {
                "learning_rate": self.rate,
                "init": "{runs}/../.."
                if own.retrain.start == "search" and arm != HEAD
                else "scratch",
            },
            "export": {"padded": False},
        }
        if isinstance(own.task, Chat):  # decoding would take longer than training
            more["task"]["metrics"] = list(OF_TOKENS)
        last = {
            "name": name,
            "runs_folder": str(self.folder.verdict / "cells"),
            "method": _METHODS[arm],
            "seed": seed_of_pair(own.seed, number),
            "precision": own.precision,
            "device": own.device,
            "tracking": {"wandb": "disabled"},
        }
        return Cell({"arm": arm, "pair": number}, settled([kept, more], last).config)


def seed_of_pair(seed: int, number: int) -> int:
    """The seed of a pair's trainings, from the run's seed and the number of the pair: 0 to 2^31 -
    1.

    Verdicts at other seeds of the run train at other seeds, so that one repeats the other.
    """
    return seed_of(seed, "pair", number) % 2**31


def rate_of(config: RunConfig, folder: RunFolder) -> float:
    """The learning rate at which every arm is trained: that of the run's retraining. Raises
    UserError where the retraining has yet to choose one of these."""
    rates = config.retrain.rates
    rate = read_json(folder.metrics).get("learning_rate") if len(rates) > 1 else rates[0]
    if rate is None:
        raise UserError(
            "--retrain.learning_rate: a verdict trains at one, and the retraining of "
            f"{folder.root} has not chosen among {rates}; give one, or run --stage all first"
        )
    return float(rate)


def arms_of(config: Searching, folder: RunFolder) -> Arms:
    """The arms that are compared. Raises UserError for ranks that no verdict can judge. Layers of
    the search that the record does not list have rank 0."""
    record = ranks.load(folder.ranks)
    sizes = folder.parameters_per_rank
    if not record.kept or not record.kept.keys() <= sizes.keys():
        raise UserError(
            f"{folder.ranks}: a verdict needs a rank above 0, and layers that the run has searched"
        )
    dropped = tuple(ranks.LayerRank(name, 0) for name in sizes if name not in record.ranks)
    record = dataclasses.replace(record, layers=record.layers + dropped)
    if not can_be_shuffled(record, sizes):
        raise UserError(
            f"{folder.ranks}: layers of one size have equal ranks, so that a shuffle changes "
            "nothing; choose by cost alone"
        )
    return Arms(config, folder, record, sizes, rate_of(config, folder))
