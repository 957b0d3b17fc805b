"""Ranks that no search of this run found: uniform, by target module, another run's, another run's shuffled, random."""

import dataclasses
import heapq
from collections.abc import Mapping, Sequence

import numpy as np

from engine.ranks import LayerRank, RankRecord, count_parameters

UNIFORM, GIVEN, SHUFFLED, RANDOM = "uniform", "given", "shuffled", "random"
GRID, MODULES, OPTUNA = "grid", "modules", "optuna"

_LEAST_WEIGHT = 1e-3
"""Stands in for a weight of 0: such a layer gets components only when no other layer can take more."""

Draw = tuple[int, int]
"""A run's seed, and the number of the draw made with that seed."""


def uniform(names: Sequence[str], rank: int, k: int) -> RankRecord:
    """The same rank in every layer. `k`: lora.k, which gives every component the search's scale lora_alpha / k."""
    return RankRecord(k, tuple(LayerRank(name, rank) for name in names), rule=UNIFORM)


def by_target(names: Sequence[str], rank: Mapping[str, int], k: int) -> RankRecord:
    """Gives every layer the rank of its target module. `k` as in `uniform`.

    `rank`: target (a name or the end of one) -> rank. If two targets match a layer, the longer one decides.
    """
    targets = sorted(rank, key=len, reverse=True)
    layers = tuple(
        LayerRank(name, next(rank[t] for t in targets if name == t or name.endswith(f".{t}"))) for name in names
    )
    return RankRecord(k, layers, rule=GRID)


def given(record: RankRecord) -> RankRecord:
    """The ranks of another run's record, without what its search measured."""
    return RankRecord(record.k, tuple(LayerRank(x.name, x.rank) for x in record.layers), rule=GIVEN)


def alike(record: RankRecord, sizes: Mapping[str, int], among: str) -> list[list[int]]:
    """The indices of the layers of `record`, in groups within which ranks may be exchanged.

    `among`: "size" groups layers whose components have equally many parameters (`sizes`: layer name -> LoRA parameters
    of one component); "type" groups layers of one module type, whose names differ only in the number of the block.
    """
    groups: dict[str | int, list[int]] = {}
    for place, layer in enumerate(record.layers):
        groups.setdefault(sizes[layer.name] if among == "size" else module_type(layer.name), []).append(place)
    return list(groups.values())


def module_type(name: str) -> str:
    """A layer's name without the numbers of its block: `encoder.layer.*.output.dense`."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def can_be_shuffled(record: RankRecord, sizes: Mapping[str, int], among: str) -> bool:
    """Whether a shuffle within the groups of `alike` can change any rank."""
    return any(len({record.layers[place].rank for place in group}) > 1 for group in alike(record, sizes, among))


def shuffled(record: RankRecord, sizes: Mapping[str, int], draw: Draw, among: str = "size") -> RankRecord:
    """The ranks of `record`, permuted at random within the groups of `alike`; at least one rank changes.

    `sizes` and `among` as in `alike`. The note of the result says so if nothing can change, because the layers of each
    group have equal ranks, or if the parameter count changes, because layers of one type differ in size.
    """
    before = [layer.rank for layer in record.layers]
    generator, groups = np.random.default_rng(draw), alike(record, sizes, among)
    possible, after = can_be_shuffled(record, sizes, among), list(before)
    while possible and after == before:
        for group in groups:
            for place, rank in zip(group, generator.permutation([before[i] for i in group]).tolist(), strict=True):
                after[place] = rank
    layers = tuple(LayerRank(layer.name, rank) for layer, rank in zip(record.layers, after, strict=True))
    made = RankRecord(record.k, layers, rule=SHUFFLED)
    notes = []
    if not possible:
        notes.append(f"all layers of one {among} have equal ranks: shuffling changes nothing")
    wanted, found = count_parameters(record.kept, sizes), count_parameters(made.kept, sizes)
    if wanted != found:
        notes.append(f"layers differ in shape: {found} LoRA parameters, {wanted} before shuffling")
    return dataclasses.replace(made, note="; ".join(notes) or None)


def random_ranks(
    names: Sequence[str], sizes: Mapping[str, int], budget: int, k: int, draw: Draw, highest: int | None = None
) -> RankRecord:
    """Ranks drawn from 0 to `highest`, then changed one by one to fit `budget` parameters.

    The ranks never exceed the budget. They meet it exactly if all layers have the same shape and uniform ranks can
    meet it; otherwise they may stay below it by less than the parameters of the smallest component, or by more if
    every layer has the highest rank. `sizes`: layer name -> LoRA parameters of one component. `highest`: if not given,
    k, or more if the budget needs it.
    """
    generator = np.random.default_rng(draw)
    size = np.array([sizes[name] for name in names])
    cap = highest or max(k, -(-budget // int(size.sum())))
    ranks = generator.integers(0, cap + 1, len(names))
    while ranks @ size > budget:
        ranks[generator.choice(np.flatnonzero(ranks > 0))] -= 1
    while len(free := np.flatnonzero((ranks < cap) & (size <= budget - ranks @ size))):
        ranks[generator.choice(free)] += 1
    layers = tuple(LayerRank(name, int(rank)) for name, rank in zip(names, ranks, strict=True))
    made = RankRecord(k, layers, rule=RANDOM)
    missed = budget - count_parameters(made.kept, sizes)
    return dataclasses.replace(made, note=f"{missed} LoRA parameters below the budget" if missed else None)


def apportioned(
    weights: Mapping[str, int], sizes: Mapping[str, int], budget: int, cap: int, draw: Draw
) -> dict[str, int]:
    """Layer -> rank, as nearly proportional to `weights` as `budget` LoRA parameters allow.

    The method is that of highest averages (D'Hondt): each next component goes to the layer whose weight, divided by
    the components that it would then have, is the largest; a layer whose component no longer fits gets no more.
    `draw` decides between equal quotients. No layer gets more than `cap` components. `sizes`: layer name -> LoRA
    parameters of one component.
    """
    order = np.random.default_rng(draw).permutation(len(weights)).tolist()
    heap = [(-max(weights[name], _LEAST_WEIGHT), place, name) for place, name in zip(order, weights, strict=True)]
    heapq.heapify(heap)
    ranks = dict.fromkeys(weights, 0)
    while heap:
        _, place, name = heapq.heappop(heap)
        if ranks[name] == cap or sizes[name] > budget:
            continue
        ranks[name] += 1
        budget -= sizes[name]
        heapq.heappush(heap, (-max(weights[name], _LEAST_WEIGHT) / (ranks[name] + 1), place, name))
    return ranks
