"""Ranks that no search found: one for all layers, another run's shuffled over the layers, random ones."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from engine.ranks import LayerRank, RankRecord, count_parameters

UNIFORM, SHUFFLED, RANDOM, GRID = "uniform", "shuffled", "random", "grid"


def uniform(names: Sequence[str], rank: int, k: int) -> RankRecord:
    """`rank` in every layer; k is the search's, so that the scale lora_alpha / k is the search's too."""
    return RankRecord(k, tuple(LayerRank(name, rank) for name in names), rule=UNIFORM)


def by_target(names: Sequence[str], rank: Mapping[str, int], k: int) -> RankRecord:
    """The rank of its target module in every layer; `rank`: target (a name or its ending) -> rank. k as in `uniform`.

    A layer that two targets match has the rank of the longer one.
    """
    targets = sorted(rank, key=len, reverse=True)
    layers = tuple(
        LayerRank(name, next(rank[t] for t in targets if name == t or name.endswith(f".{t}"))) for name in names
    )
    return RankRecord(k, layers, rule=GRID)


def shuffled(record: RankRecord, sizes: Mapping[str, int], seed: int) -> RankRecord:
    """The ranks of `record` permuted over its layers by seed: other than they were, unless all are equal.

    `sizes`: name -> numbers in one rank-1 component. Where they differ, so does the parameter count: the note says it.
    """
    before = [layer.rank for layer in record.layers]
    generator = np.random.default_rng(seed)
    after = generator.permutation(before).tolist()
    while after == before and len(set(before)) > 1:
        after = generator.permutation(before).tolist()
    layers = tuple(LayerRank(layer.name, rank) for layer, rank in zip(record.layers, after, strict=True))
    made = RankRecord(record.k, layers, rule=SHUFFLED)
    notes = []
    if after == before:
        notes.append("all ranks are equal: shuffling changes nothing")
    wanted, found = count_parameters(record.kept, sizes), count_parameters(made.kept, sizes)
    if wanted != found:
        notes.append(f"layers differ in shape: {found} LoRA parameters, {wanted} before shuffling")
    return dataclasses.replace(made, note="; ".join(notes) or None)


def random_ranks(names: Sequence[str], sizes: Mapping[str, int], budget: int, k: int, seed: int) -> RankRecord:
    """Ranks drawn by seed from 0..k (higher where the budget needs it), then moved one by one to `budget` parameters.

    Where all layers have one shape, a budget that uniform ranks can meet is met exactly; else within the smallest
    component's numbers, and never above the budget. `sizes`: name -> numbers in one rank-1 component.
    """
    generator = np.random.default_rng(seed)
    size = np.array([sizes[name] for name in names])
    cap = max(k, -(-budget // int(size.sum())))
    ranks = generator.integers(0, cap + 1, len(names))
    while ranks @ size > budget:
        ranks[generator.choice(np.flatnonzero(ranks > 0))] -= 1
    while len(free := np.flatnonzero((ranks < cap) & (size <= budget - ranks @ size))):
        ranks[generator.choice(free)] += 1
    layers = tuple(LayerRank(name, int(rank)) for name, rank in zip(names, ranks, strict=True))
    made = RankRecord(k, layers, rule=RANDOM)
    missed = budget - count_parameters(made.kept, sizes)
    return dataclasses.replace(made, note=f"{missed} LoRA parameters below the budget" if missed else None)
