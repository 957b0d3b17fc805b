"""The trainings of a verdict: each is a cell, as of a study, of which only the numbers are kept."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.layers import given, settled
from autolora.configs.schema import RunConfig, Searching
from autolora.configs.tasks import OF_TOKENS, Chat
from autolora.engine import ranks
from autolora.engine.disk.files import remove
from autolora.engine.disk.paths import At
from autolora.engine.ranks import RankRecord, count_parameters
from autolora.engine.ranks.controls import can_be_shuffled
from autolora.engine.run.contents import parameters_per_rank, read_result, read_searched
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.study.cells import Cell
from autolora.engine.verdict.judge import PLANS, Plan
from autolora.problems.machine.draws import seed_of
from autolora.problems.models.fused import split
from autolora.problems.models.layers import layer_shapes, lora_layers_of

LEARNED, SHUFFLED, HEAD = "learned", "shuffled", "head"
_METHODS = {
    LEARNED: "lora_ranks", SHUFFLED: "lora_shuffled", "uniform": "lora", "random": "lora_random", HEAD: "head",
}  # fmt: skip
SEEDS = 2
"""LoRA's gain compares the learned ranks with the head alone, which is trained at this many seeds."""


@dataclasses.dataclass(frozen=True)
class VerdictFolder:
    """Paths inside runs/<name>/verdict/."""

    root: Any

    ranks = At("ranks.json")
    """The learned ranks as they were when the first pair began."""
    plan = At("plan.json")
    """How many pairs were planned before the first one."""
    data = At("data.json")
    """The fingerprint of the rows that the first pair was trained and judged on."""
    cells = At("cells")


@dataclasses.dataclass(frozen=True)
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
        cells = [self._cell(f"head-{number}", HEAD, number) for number in range(1, SEEDS + 1)]
        return cells[:1] if cells[0].config.evaluates_base else cells

    def every(self) -> list[Cell]:
        """All trainings of the verdict."""
        return [*(cell for number in range(1, self.plan.most + 1) for cell in self.pair(number).values()),
                *self.heads()]  # fmt: skip

    def _cell(self, name: str, arm: str, number: int) -> Cell:
        """The run of an arm at the seed of a pair, on the rows of the search's seed. Its paths begin at its own
        folder, so that a run that was moved can resume."""
        own, verdict = self.config, self.config.verdict
        kept: dict[str, Any] = {
            section: given(own)[section] for section in ("model", "task", "lora", "retrain") if section in given(own)
        }
        learned = f"{{runs}}/../{VerdictFolder.ranks.relative}"
        # What an arm's method lacks is left out.
        more: dict[str, dict[str, Any]] = {
            "task": {"seed": own.data_seed, "unused_rows": verdict.rows, "samples": 0},
            "lora": {"k": self.record.k, "ranks_from": learned, "shuffle": verdict.shuffle, "r": self.uniform_rank},
            "retrain": {
                "row_losses": True, "learning_rate": self.rate,
                "init": "{runs}/../.." if own.retrain.start == "search" and arm != HEAD else "scratch",
            },
        }  # fmt: skip
        if isinstance(own.task, Chat):  # decoding would take longer than training
            more["task"]["metrics"] = list(OF_TOKENS)
        last = {
            "name": name, "runs_folder": str(self.folder.cells), "method": _METHODS[arm],
            "seed": seed_of_pair(own.seed, number), "precision": own.precision, "device": own.device,
            "tracking": {"wandb": "disabled"},
        }  # fmt: skip
        return Cell({"arm": arm, "pair": number}, settled([kept, more], last).config)


def seed_of_pair(seed: int, number: int) -> int:
    """The seed of a pair's trainings, from the run's seed and the number of the pair: 0 to 2^31 - 1.

    Verdicts at other seeds of the run train at other seeds, so that one repeats the other.
    """
    return seed_of(seed, "pair", number) % 2**31


def rate_of(config: RunConfig, folder: RunFolder) -> float:
    """The learning rate at which every arm is trained: that of the run's retraining. Raises UserError where the
    retraining has yet to choose one of these."""
    rates, result = config.retrain.rates, read_result(folder.metrics)
    if len(rates) < 2:
        return rates[0]
    if result.get("learning_rate") is None or set(result.get("learning_rates_tried") or ()) != set(rates):
        raise UserError(f"--retrain.learning_rate: a verdict trains at one, and the retraining of {folder.root} has "
                        f"not chosen among {rates}; give one, or run --stage all first")  # fmt: skip
    return float(result["learning_rate"])


def arms_of(config: Searching, folder: RunFolder, stop: StopRequest) -> Arms:
    """The arms that are compared. Raises UserError for ranks that cannot be trained.

    The layers are those of the search, or those of the record and of lora.target_modules: a record that someone wrote
    by hand may list only those with LoRA."""
    record, known = ranks.load(folder.ranks), parameters_per_rank(folder)
    if not record.kept:
        raise UserError(f"{folder.ranks}: every rank is 0; at least one layer needs a rank of 1 or more")
    names = [layer.name for layer in record.layers]
    searched, largest = read_searched(folder.search_summary).get("settings", {}).get("lora.k", 0), None
    if not set(names) <= set(known) or max(record.kept.values()) > searched:
        model = Context(config, stop, folder=folder).base().model
        split(model, names)
        shapes = layer_shapes(model)
        ranks.check_against(record, shapes, folder.ranks)
        layers = list(known) if set(names) <= set(known) else [*names, *lora_layers_of(model, config.lora)]
        known, largest = ({name: of(shapes[name]) for name in layers} for of in (sum, min))
    dropped = tuple(ranks.LayerRank(name, 0) for name in known if name not in names)
    record = dataclasses.replace(record, layers=record.layers + dropped)
    return Arms(config, VerdictFolder(folder.verdict), record, known, rate_of(config, folder), largest)


def forget_models(cells: Sequence[Cell]) -> None:
    """Deletes the exported models of finished trainings, and keeps their numbers."""
    for run in (cell.folder for cell in cells if cell.finished):
        for path in (run.adapter, run.padded, run.merged, run.lora_config):
            remove(path)
