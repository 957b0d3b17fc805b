"""The trainings of a verdict: each is an ordinary run, of which only the numbers are kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.layers import given, settled
from autolora.configs.schema import RunConfig, Searching
from autolora.configs.tasks import OF_TOKENS, Generation
from autolora.engine.disk.files import remove
from autolora.engine.ranks import RankRecord, count_parameters
from autolora.engine.ranks.controls import can_be_shuffled
from autolora.engine.run.contents import read_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.cells import Cell
from autolora.engine.verdict.folder import VerdictFolder
from autolora.engine.verdict.judge import PLANS, Plan
from autolora.problems.machine.draws import seed_of

LEARNED, SHUFFLED, HEAD = "learned", "shuffled", "head"
_METHODS = {
    LEARNED: "lora_ranks", SHUFFLED: "lora_shuffled", "uniform": "lora", "random": "lora_random", HEAD: "head",
}  # fmt: skip
_RANKS = f"{{runs}}/../{VerdictFolder.ranks.relative}"
"""The path of the learned ranks, relative to a training's runs_folder: a run that was moved can resume."""
_RUN = "{runs}/../.."
"""The run itself, likewise: its searched components are those that every arm starts from by `retrain.init: search`."""
SEEDS = 2
"""LoRA's gain compares the learned ranks with the head alone, which is trained at this many seeds."""


@dataclass(frozen=True)
class Arms:
    """What the verdict of a run compares.

    `record`: the run's learned ranks; `sizes`: layer name -> LoRA parameters of rank 1; `rate`: the learning rate of
    all trainings; `largest`: layer name -> the largest rank that it can have; None if every layer can have every rank
    of the record.
    """

    config: Searching
    folder: VerdictFolder
    record: RankRecord
    sizes: Mapping[str, int]
    rate: float
    largest: Mapping[str, int] | None = None

    @property
    def names(self) -> list[str]:
        """The arms of a pair, trained at one seed: learned, shuffled, and what verdict.arms adds."""
        return [LEARNED, SHUFFLED, *dict.fromkeys(self.config.verdict.arms)]

    @property
    def plan(self) -> Plan:
        """At how many pairs the verdict may end."""
        return PLANS[self.config.verdict.pairs]

    @property
    def parameters(self) -> int:
        """LoRA parameters of the learned ranks."""
        return count_parameters(self.record.kept, self.sizes)

    @property
    def uniform_rank(self) -> int:
        """The rank (at least 1) that, in every layer, takes about as many parameters in all as the learned ranks."""
        return max(1, math.floor(self.parameters / sum(self.sizes.values()) + 0.5))

    @property
    def shuffle_changes(self) -> bool:
        """Whether a shuffle can change the ranks."""
        return can_be_shuffled(self.record, self.sizes, self.config.verdict.shuffle, self.largest)

    def pair(self, number: int) -> dict[str, Cell]:
        """The trainings of a pair, by name; pairs are counted from 1."""
        return {name: self._cell(f"pair-{number:02d}-{name}", name, number) for name in self.names}

    def heads(self) -> list[Cell]:
        """The trainings of the head alone; without a head, one run that evaluates the base model."""
        first = self._cell("head-1", HEAD, 1)
        if first.config.evaluates_base:
            return [first]
        return [first, *(self._cell(f"head-{number}", HEAD, number) for number in range(2, SEEDS + 1))]

    def _cell(self, name: str, arm: str, number: int) -> Cell:
        """The run of an arm at the seed of a pair, on the rows of the search's seed."""
        own, verdict = self.config, self.config.verdict
        kept: dict[str, Any] = {
            section: given(own)[section] for section in ("model", "task", "lora", "retrain") if section in given(own)
        }
        # What an arm's method lacks is left out.
        more: dict[str, dict[str, Any]] = {
            "task": {"seed": own.data_seed, "unused_rows": verdict.rows, "samples": 0},
            "lora": {"k": self.record.k, "ranks_from": _RANKS, "shuffle": verdict.shuffle, "r": self.uniform_rank},
            "retrain": {
                "row_losses": True, "learning_rate": self.rate,
                "init": _RUN if own.retrain.start == "search" and arm != HEAD else "scratch",
            },
        }  # fmt: skip
        if isinstance(own.task, Generation):  # decoding would take longer than training
            more["task"]["metrics"] = list(OF_TOKENS)
        last = {
            "name": name, "runs_folder": str(self.folder.cells), "method": _METHODS[arm],
            "seed": seed_of_pair(own.seed, number), "precision": own.precision, "device": own.device,
            "tracking": {"wandb": "disabled"},
        }  # fmt: skip
        config = settled([kept, more], last).config
        return Cell({"arm": arm, "pair": number}, config)


def seed_of_pair(seed: int, number: int) -> int:
    """The seed of a pair's trainings, from the run's seed and the number of the pair: 0 to 2^31 - 1.

    Verdicts at other seeds of the run train at other seeds, so that one repeats the other.
    """
    return seed_of(seed, "pair", number) % 2**31


def rate_of(config: RunConfig, folder: RunFolder) -> float:
    """The learning rate at which every arm is trained: that of the run's retraining.

    Raises UserError where the retraining has yet to choose one.
    """
    rates = config.retrain.rates
    if len(rates) < 2:
        return rates[0]
    result = read_result(folder.metrics)
    chosen = result.get("learning_rate")
    tried = result.get("learning_rates_tried") or [chosen]
    if chosen is not None and set(tried) != set(rates):
        raise UserError(
            f"--retrain.learning_rate: {rates} is not allowed, as the retraining of {folder.root} chose among "
            f"{tried}; allowed: the same, or the one to train at"
        )
    if chosen is None:
        raise UserError(
            "--retrain.learning_rate: a verdict trains at one learning rate, and the retraining, which chooses it, "
            "has not finished; run --stage retrain first, or give one"
        )
    return float(chosen)


def forget_models(cells: list[Cell]) -> None:
    """Deletes the exported models of finished trainings, and keeps their numbers."""
    for cell in cells:
        if cell.folder.metrics.exists():
            for path in (cell.folder.adapter, cell.folder.padded, cell.folder.merged, cell.folder.lora_config):
                remove(path)
