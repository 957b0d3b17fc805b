"""Ranks that no search found: the same budget, other places."""

import pytest

from engine.ranks import LayerRank, RankRecord, count_parameters
from engine.ranks.controls import by_target, random_ranks, shuffled, uniform

NAMES = [f"layer.{i}" for i in range(12)]
ALIKE = dict.fromkeys(NAMES, 64)
MIXED = {name: 64 if i % 2 else 100 for i, name in enumerate(NAMES)}
RANKS = [1, 8, 3, 0, 5, 2, 2, 4, 1, 6, 3, 7]
RECORD = RankRecord(8, tuple(LayerRank(n, r, (0.5,), (0.1,)) for n, r in zip(NAMES, RANKS, strict=True)))


@pytest.mark.parametrize("seed", range(5))
def test_shuffling_keeps_the_ranks_and_changes_the_places(seed: int) -> None:
    made = shuffled(RECORD, ALIKE, seed)
    found = [layer.rank for layer in made.layers]
    assert sorted(found) == sorted(RANKS)
    assert found != RANKS
    assert made == shuffled(RECORD, ALIKE, seed)
    assert made.note is None
    assert all(not layer.alpha and not layer.contribution for layer in made.layers)


def test_shuffling_two_layers_swaps_them_for_every_seed() -> None:
    record = RankRecord(8, RECORD.layers[:2])
    assert [[x.rank for x in shuffled(record, ALIKE, seed).layers] for seed in range(9)] == [[8, 1]] * 9


def test_shuffling_says_where_it_cannot_keep_the_count_or_cannot_differ() -> None:
    made = shuffled(RECORD, MIXED, 0)
    now, before = (count_parameters(x.kept, MIXED) for x in (made, RECORD))
    assert made.note == f"layers differ in shape: {now} LoRA parameters, {before} before shuffling"
    assert shuffled(uniform(NAMES, 4, 8), ALIKE, 0).note == "all ranks are equal: shuffling changes nothing"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("budget", [1, 12, 42, 48, 96, 120])
def test_random_ranks_meet_the_budget_exactly_where_layers_are_alike(budget: int, seed: int) -> None:
    made = random_ranks(NAMES, ALIKE, budget * 64, 8, seed)
    assert count_parameters(made.kept, ALIKE) == budget * 64
    assert max(layer.rank for layer in made.layers) <= max(8, budget // 12)
    assert made.note is None
    assert made == random_ranks(NAMES, ALIKE, budget * 64, 8, seed)


@pytest.mark.parametrize("seed", range(10))
def test_random_ranks_miss_the_budget_by_less_than_a_component_where_they_differ(seed: int) -> None:
    budget = count_parameters(dict.fromkeys(NAMES, 4), MIXED)
    made = random_ranks(NAMES, MIXED, budget, 8, seed)
    missed = budget - count_parameters(made.kept, MIXED)
    assert 0 <= missed < 64
    assert made.note == (f"{missed} LoRA parameters below the budget" if missed else None)


def test_random_ranks_differ_by_seed() -> None:
    assert len({random_ranks(NAMES, ALIKE, 48 * 64, 8, seed) for seed in range(10)}) == 10


def test_ranks_by_target_take_the_longest_matching_target() -> None:
    names = ["layer.0.attention.output.dense", "layer.0.output.dense", "layer.0.query"]
    made = by_target(names, {"dense": 1, "attention.output.dense": 2, "query": 4}, 8)
    assert [layer.rank for layer in made.layers] == [2, 1, 4]
    assert (made.rule, made.k) == ("grid", 8)
