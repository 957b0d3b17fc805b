"""Ranks that no search of this run found: another run's, shuffled, and random ones."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from autolora.engine.ranks.record import LayerRank, RankRecord

Shapes = Mapping[str, tuple[int, int]]
"""Layer -> (outputs, inputs). A component has outputs + inputs parameters; no rank exceeds the
smaller of the two."""


def record_of(ranks: Mapping[str, int], k: int, rule: str, note: str | None = None) -> RankRecord:
    """The record of ranks that a method has made. `k`: from which the scale of the update follows,
    as after a search."""
    return RankRecord(k, tuple(LayerRank(*item) for item in ranks.items()), rule=rule, note=note)


def _of_one_size(record: RankRecord, sizes: Mapping[str, int]) -> Any:
    """The ranks in groups of layers of one size."""
    ranks = pd.Series(record.ranks)
    return ranks.groupby(ranks.index.map(sizes), sort=False)


def can_be_shuffled(record: RankRecord, sizes: Mapping[str, int]) -> bool:
    """Whether a shuffle among layers of one size can change a rank."""
    return bool((_of_one_size(record, sizes).nunique() > 1).any())


def shuffled(record: RankRecord, sizes: Mapping[str, int], seed: int) -> RankRecord:
    """The ranks of `record`, permuted at random among layers whose components have equally many
    parameters (`sizes`), so that their number stays; at least one rank changes. If none can change,
    the note of the result says so."""
    after = record.ranks
    generator = np.random.default_rng((seed, 0))
    changes = can_be_shuffled(record, sizes)
    while changes and after == record.ranks:
        after = _of_one_size(record, sizes).transform(generator.permutation).to_dict()
    note = None if changes else "shuffling changes nothing: no ranks can be exchanged"
    return record_of(after, record.k, "lora_shuffled", note)


def random_ranks(shapes: Shapes, budget: int, k: int, seed: int) -> RankRecord:
    """Ranks of these layers drawn from 0 to k, or to the average rank that `budget` parameters make
    if that is higher, then changed one by one to fit the budget.

    The ranks never exceed the budget, nor what a layer can have. If all layers have the same shape
    and the budget is that of uniform ranks, they meet it exactly. Otherwise what is left is less
    than one component of any layer that is not yet at its highest rank.
    """
    size = np.array([sum(shape) for shape in shapes.values()])
    generator = np.random.default_rng((seed, 0))
    most = max(k, math.ceil(budget / size.sum()))
    cap = np.array([min(most, *shape) for shape in shapes.values()])
    ranks = np.minimum(generator.integers(0, most + 1, len(shapes)), cap)
    while ranks @ size > budget:
        ranks[generator.choice(np.flatnonzero(ranks > 0))] -= 1
    while len(free := np.flatnonzero((ranks < cap) & (size <= budget - ranks @ size))):
        ranks[generator.choice(free)] += 1
    return record_of(dict(zip(shapes, ranks.tolist(), strict=True)), k, "lora_random")
