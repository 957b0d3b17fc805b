"""What the finished trainings of a verdict have shown: losses of the same rows, pair by pair."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
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
    in each pair.
    """

    losses: dict[str, np.ndarray]
    weights: np.ndarray
    sources: np.ndarray
    head: np.ndarray
    scores: dict[str, list[float]]
    parameters: dict[str, list[int]]
    metric: str
    commits: tuple[str | None, ...] = ()
    """The commit of this program at which each training was made (None: not known)."""

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
    trainings and search did not all begin from the same weights of the base model.
    """
    heads = [cell for cell in arms.heads() if cell.folder.metrics.exists()]
    pairs = [arms.pair(number) for number in range(1, arms.plan.most + 1)]
    count = min(_finished(pairs, LEARNED), _finished(pairs, SHUFFLED))
    if not count or not heads:
        return None
    cells = [*heads, *(cell for pair in pairs[:count] for cell in pair.values())]
    _refuse_other_base(arms, cells)
    _refuse_other_data(cells)
    head, weights, sources = _losses(heads)
    commits = (read_result(cell.folder.metrics).get("commit") for cell in cells if cell.folder.metrics.exists())
    found = Shown({}, weights, sources, head, {}, {}, "", tuple(commits))
    for arm in arms.names:
        cells = [pair[arm] for pair in pairs[: min(count, _finished(pairs, arm))]]
        found = _with(found, arm, cells)
    return found


def _finished(pairs: Sequence[Mapping[str, Cell]], arm: str) -> int:
    """How many pairs, counted from the first up to a gap, have trained this arm."""
    done = (pair[arm].folder.metrics.exists() for pair in pairs)
    return sum(1 for _ in itertools.takewhile(bool, done))


def _refuse_other_base(arms: Arms, cells: Sequence[Cell]) -> None:
    """Raises Outdated if the base model changed between the search and one of these trainings, or between two of them:
    a hub's main branch moves on, and a local folder may be trained again."""
    run = RunFolder(arms.folder.root.parent)
    of_ranks = data_of_ranks(run).get("weights")
    first = None if of_ranks is None else (str(of_ranks), f"the search in {run.root} began", "--name for a new search")
    for cell in cells:
        digest = read_result(cell.folder.metrics).get("base_weights")
        if digest is None:  # this training of a further arm is not finished
            continue
        if first is not None and digest != first[0]:
            raise Outdated(
                f"--model.name: {cell.config.model.name} no longer has the weights with which {first[1]}; "
                f"{cell.folder.root} began from others; bring the old weights back, or {first[2]}"
            )
        first = first or (digest, f"{cell.folder.root} was trained", AGAIN)


def _refuse_other_data(cells: Sequence[Cell]) -> None:
    """Raises Outdated if two of these trainings had other rows: a file was edited, or a hub's data set moved on."""
    known = [(cell, data) for cell in cells if (data := read_result(cell.folder.metrics).get("data"))]
    for cell, data in known:
        first, of_first = known[0]
        if differ(of_first, data):
            raise Outdated(
                f"--task: the rows have changed since {first.folder.root} was trained; {cell.folder.root} began with "
                f"others; bring the old rows back and remove that folder, or {AGAIN}"
            )


def _with(found: Shown, arm: str, cells: Sequence[Cell]) -> Shown:
    """`found` with a further arm, whose finished trainings are `cells`."""
    losses, weights, _ = _losses(cells) if cells else (np.empty((0, len(found.weights))), found.weights, None)
    if not np.array_equal(weights, found.weights):
        raise UserError(f"{cells[0].folder.row_losses}: it was evaluated on other rows than the head alone; {AGAIN}")
    results = [read_result(cell.folder.metrics) for cell in cells]
    metric = found.metric or next(iter(results[0]["metrics"]))
    return dataclasses.replace(
        found,
        losses=found.losses | {arm: losses},
        scores=found.scores | {arm: [result["metrics"][metric] for result in results]},
        parameters=found.parameters | {arm: [result["lora_parameters"] for result in results]},
        metric=metric,
    )


def _losses(cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The losses [cells, rows] of these trainings on the rows that judge, and the rows' weights and sources [rows]."""
    tables = []
    for cell in cells:
        path = cell.folder.row_losses
        tables.append(read_parquet(path, f"remove {cell.folder.root} to train it again", numbers=COLUMNS))
        if len(tables[-1]) != len(tables[0]) or not np.array_equal(tables[-1]["weight"], tables[0]["weight"]):
            raise UserError(f"{path}: its rows are not those of the other trainings; {AGAIN}")
        if not np.isfinite(tables[-1]["loss"]).all():
            raise UserError(f"{path}: holds losses that are not finite; remove {cell.folder.root} to train it again, "
                            f"at a lower --retrain.learning_rate if they stay so")  # fmt: skip
    losses = np.stack([table["loss"].to_numpy() for table in tables])
    return losses, tables[0]["weight"].to_numpy(), tables[0]["source"].to_numpy()
