"""Ranks that no search of this run found: uniform, by target module, another run's, another run's shuffled, random."""

import heapq
from collections.abc import Mapping, Sequence

import numpy as np

from autolora.configs.schema import Lora, LoraGrid, LoraRanks, Random, Shuffled
from autolora.engine.ranks.record import LayerRank, RankRecord, count_parameters
from autolora.problems.models.names import matches

_LEAST_WEIGHT = 1e-3
"""Stands in for a weight of 0: such a layer gets components only when no other layer can take more."""

Draw = tuple[int, int]
"""A seed, and the number of the draw made with that seed."""

Shapes = Mapping[str, tuple[int, int]]
"""Layer -> (outputs, inputs). A component has outputs + inputs parameters; no rank exceeds the smaller of the two."""


def _made(k: int, ranks: Mapping[str, int], rule: str, note: str | None = None) -> RankRecord:
    return RankRecord(k, tuple(LayerRank(name, rank) for name, rank in ranks.items()), rule=rule, note=note)


def uniform(names: Sequence[str], rank: int, k: int) -> RankRecord:
    """The same rank in every layer. `k`: lora.k, from which the scale of the update follows, as after a search."""
    return _made(k, dict.fromkeys(names, rank), Lora.recorded_rule)


def by_target(names: Sequence[str], rank: Mapping[str, int], k: int) -> RankRecord:
    """Gives every layer the rank of its target module. `k` as in `uniform`.

    `rank`: target (a name or the end of one) -> rank. If two targets match a layer, the longer one decides.
    """
    targets = sorted(rank, key=len, reverse=True)
    of_layers = {name: next(rank[t] for t in targets if matches(name, t)) for name in names}
    return _made(k, of_layers, LoraGrid.recorded_rule)


def given(record: RankRecord) -> RankRecord:
    """The ranks of another run's record, without what its search measured."""
    return _made(record.k, record.ranks, LoraRanks.recorded_rule)


def alike(
    record: RankRecord, sizes: Mapping[str, int], among: str, largest: Mapping[str, int] | None = None
) -> list[list[str]]:
    """The layers of `record`, in groups within which ranks may be exchanged.

    `among`: "size" groups layers whose components have equally many parameters (`sizes`: layer name -> LoRA parameters
    of one component); "type" groups layers of one module type, whose names differ only in the number of the block.
    `largest`: layer name -> its largest possible rank (None: no layer is too narrow for any rank). Layers too narrow
    for the ranks of others form groups of their own.
    """
    groups: dict[tuple[str | int, int], list[str]] = {}
    highest = max(record.ranks.values())
    for name in record.ranks:
        kind = sizes[name] if among == "size" else ".".join("*" if x.isdigit() else x for x in name.split("."))
        room = highest if largest is None else min(largest[name], highest)
        groups.setdefault((kind, room), []).append(name)
    return list(groups.values())


def can_be_shuffled(
    record: RankRecord, sizes: Mapping[str, int], among: str, largest: Mapping[str, int] | None = None
) -> bool:
    """Whether a shuffle within the groups of `alike` can change a rank."""
    groups = alike(record, sizes, among, largest)
    return any(len({record.ranks[name] for name in group}) > 1 for group in groups)


def shuffled(record: RankRecord, shapes: Shapes, draw: Draw, among: str = "size") -> RankRecord:
    """The ranks of `record`, permuted at random within the groups of `alike`; at least one rank changes.

    `among` as in `alike`. The note of the result says so if nothing can change, or if the parameter count changes,
    because layers of one type differ in size.
    """
    sizes = {name: sum(shape) for name, shape in shapes.items()}
    largest = {name: min(shape) for name, shape in shapes.items()}
    before, generator = record.ranks, np.random.default_rng(draw)
    after, note = dict(before), None
    if not can_be_shuffled(record, sizes, among, largest):
        return _made(record.k, after, Shuffled.recorded_rule, "shuffling changes nothing: no ranks can be exchanged")
    while after == before:
        for group in alike(record, sizes, among, largest):
            ranks = generator.permutation([before[name] for name in group]).tolist()
            after |= dict(zip(group, ranks, strict=True))
    wanted, found = count_parameters(before, sizes), count_parameters(after, sizes)
    if wanted != found:
        note = f"layers differ in shape: {found} LoRA parameters, {wanted} before shuffling"
    return _made(record.k, after, Shuffled.recorded_rule, note)


def random_ranks(
    names: Sequence[str], shapes: Shapes, budget: int, k: int, draw: Draw, highest: int | None = None
) -> RankRecord:
    """Ranks drawn from 0 to `highest`, then changed one by one to fit `budget` parameters.

    The ranks never exceed the budget, nor what a layer can have. If all layers have the same shape and the budget is
    that of uniform ranks, they meet it exactly. Otherwise what is left is less than one component of any layer that is
    not yet at its highest rank. `highest`: if None, k or, if ranks up to k cannot use up the budget, the lowest rank
    that can.
    """
    own = {name: shapes[name] for name in names}
    size, generator = np.array([sum(shape) for shape in own.values()]), np.random.default_rng(draw)
    most = highest or highest_needed(own, budget, k)
    cap = np.array([min(most, *shape) for shape in own.values()])
    ranks = np.minimum(generator.integers(0, most + 1, len(names)), cap)
    while ranks @ size > budget:
        ranks[generator.choice(np.flatnonzero(ranks > 0))] -= 1
    while len(free := np.flatnonzero((ranks < cap) & (size <= budget - ranks @ size))):
        ranks[generator.choice(free)] += 1
    return _made(k, dict(zip(names, ranks.tolist(), strict=True)), Random.recorded_rule)


def highest_needed(shapes: Shapes, budget: int, k: int) -> int:
    """The lowest maximum rank, k or more, with which these layers together can have `budget` parameters. A layer too
    narrow for that rank counts with the largest one it can have.

    If no rank is enough: the largest rank that any of them can have, or k if that is larger.
    """
    largest = max(map(min, shapes.values()))
    most = k
    while most < largest and sum(min(most, *shape) * sum(shape) for shape in shapes.values()) < budget:
        most += 1
    return most


def apportioned(
    weights: Mapping[str, int], sizes: Mapping[str, int], budget: int, cap: Mapping[str, int], draw: Draw
) -> dict[str, int]:
    """Layer -> rank, as nearly proportional to `weights` as `budget` LoRA parameters allow.

    The method is that of highest averages (D'Hondt): each next component goes to the layer whose weight, divided by
    the components that it would then have, is the largest; a layer whose component no longer fits gets no more.
    `draw` decides between equal quotients. `cap`: layer name -> the most components that it may get. `sizes`: layer
    name -> LoRA parameters of one component.
    """
    order = np.random.default_rng(draw).permutation(len(weights)).tolist()
    heap = [(-max(weights[name], _LEAST_WEIGHT), place, name) for place, name in zip(order, weights, strict=True)]
    heapq.heapify(heap)
    ranks = dict.fromkeys(weights, 0)
    while heap:
        _, place, name = heapq.heappop(heap)
        if ranks[name] == cap[name] or sizes[name] > budget:
            continue
        ranks[name] += 1
        budget -= sizes[name]
        heapq.heappush(heap, (-max(weights[name], _LEAST_WEIGHT) / (ranks[name] + 1), place, name))
    return ranks
