"""Ranks that no search found: the same budget, other places."""

from collections import Counter

import pytest

from autolora.engine.ranks import LayerRank, RankRecord, count_parameters
from autolora.engine.retrain.controls import apportioned, random_ranks, shuffled

NAMES = [f"layer.{i}" for i in range(12)]
ALIKE = dict.fromkeys(NAMES, 64)
MIXED = {name: 64 if i % 2 else 100 for i, name in enumerate(NAMES)}


def square(sizes: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Shapes of which a component has so many parameters."""
    return {name: (size // 2, size - size // 2) for name, size in sizes.items()}


RANKS = [1, 8, 3, 0, 5, 2, 2, 4, 1, 6, 3, 7]
RECORD = RankRecord(8, tuple(LayerRank(n, r, (0.5,), (0.1,)) for n, r in zip(NAMES, RANKS, strict=True)))


@pytest.mark.parametrize("seed", range(5))
def test_shuffling_keeps_the_ranks_and_changes_the_places(seed: int) -> None:
    made = shuffled(RECORD, square(ALIKE), (seed, 0))
    found = [layer.rank for layer in made.layers]
    assert sorted(found) == sorted(RANKS)
    assert found != RANKS
    assert made == shuffled(RECORD, square(ALIKE), (seed, 0))
    assert made.note is None
    assert all(not layer.alpha and not layer.contribution for layer in made.layers)


@pytest.mark.parametrize("draw", range(5))
def test_shuffling_among_layers_of_one_size_keeps_the_count_exactly(draw: int) -> None:
    made = shuffled(RECORD, square(MIXED), (3, draw))
    assert count_parameters(made.kept, MIXED) == count_parameters(RECORD.kept, MIXED)
    for odd in (0, 1):
        assert sorted(x.rank for x in made.layers[odd::2]) == sorted(RANKS[odd::2])
    assert made.note is None
    assert [x.rank for x in made.layers] != [x.rank for x in shuffled(RECORD, square(MIXED), (3, draw + 1)).layers]


def test_shuffling_within_a_type_moves_ranks_between_blocks_alone() -> None:
    kinds = ("query", "output.dense", "attention.output.dense")
    names = [f"bert.layer.{block}.{kind}" for block in range(5) for kind in kinds]
    ranks = [10 * kind + block for block in range(5) for kind in range(3)]
    record = RankRecord(64, tuple(LayerRank(n, r) for n, r in zip(names, ranks, strict=True)))
    made = shuffled(record, square(dict.fromkeys(names, 70)), (0, 0), "type")
    found = [x.rank for x in made.layers]
    assert found != ranks
    assert all(sorted(found[kind::3]) == sorted(ranks[kind::3]) for kind in range(3))
    by_block = {name: 50 + block for block in range(5) for name in names[3 * block : 3 * block + 3]}
    other = shuffled(record, square(by_block), (0, 0), "type")
    now, before = (count_parameters(x.kept, by_block) for x in (other, record))
    assert other.note == f"layers differ in shape: {now} LoRA parameters, {before} before shuffling"


@pytest.mark.parametrize("seed", range(20))
def test_random_ranks_fit_the_narrowest_layer(seed: int) -> None:
    shapes = {"wide": (64, 64), "narrow": (2, 64)}
    wide, narrow = random_ranks(list(shapes), shapes, 8 * 128, 8, (seed, 0)).layers
    assert narrow.rank <= 2
    assert 0 <= 8 * 128 - wide.rank * 128 - narrow.rank * 66 < 128
    wide, narrow = random_ranks(list(shapes), shapes, 8 * 194, 8, (seed, 0)).layers
    assert (wide.rank, narrow.rank) in {(11, 2), (11, 1), (12, 0)}, "the wide layer makes up for the narrow one"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("budget", [1, 12, 42, 48, 96, 120])
def test_random_ranks_meet_the_budget_exactly_where_layers_are_alike(budget: int, seed: int) -> None:
    made = random_ranks(NAMES, square(ALIKE), budget * 64, 8, (seed, 0))
    assert count_parameters(made.kept, ALIKE) == budget * 64
    assert max(layer.rank for layer in made.layers) <= max(8, budget // 12)
    assert made.note is None
    assert made == random_ranks(NAMES, square(ALIKE), budget * 64, 8, (seed, 0))


@pytest.mark.parametrize("seed", range(10))
def test_random_ranks_miss_the_budget_by_less_than_a_component_where_they_differ(seed: int) -> None:
    budget = count_parameters(dict.fromkeys(NAMES, 4), MIXED)
    made = random_ranks(NAMES, square(MIXED), budget, 8, (seed, 0))
    missed = budget - count_parameters(made.kept, MIXED)
    assert 0 <= missed < 64


@pytest.mark.parametrize("highest", [1, 2])
def test_random_ranks_stay_below_the_highest_that_is_asked_for(highest: int) -> None:
    quarter = count_parameters(dict.fromkeys(NAMES, 1), MIXED) // 4
    drawn = [random_ranks(NAMES, square(MIXED), quarter, 8, (seed, 0), highest) for seed in range(50)]
    assert {layer.rank for made in drawn for layer in made.layers} == set(range(highest + 1))
    assert all(quarter - 64 < count_parameters(made.kept, MIXED) <= quarter for made in drawn)
    # every layer has its turn: a regression over such draws tells what each is worth
    assert {layer.name for made in drawn for layer in made.layers if layer.rank} == set(NAMES)
    assert {made.k for made in drawn} == {8}


def test_every_random_rank_from_0_to_the_highest_is_about_equally_frequent() -> None:
    """Components handed out one by one would give most layers about the mean rank."""
    drawn = [random_ranks(NAMES, square(ALIKE), 4 * 12 * 64, 8, (seed, 0)) for seed in range(200)]
    found = Counter(layer.rank for made in drawn for layer in made.layers)
    assert sorted(found) == list(range(9))
    assert all(0.09 < count / (200 * 12) < 0.14 for count in found.values())


def test_ranks_in_proportion_to_weights_go_by_highest_averages() -> None:
    """The usual example of D'Hondt's method; other divisors (1, 3, 5) would give 3, 3, 1 and 1."""
    weights = {"a": 100, "b": 80, "c": 30, "d": 20}
    alike, cap = dict.fromkeys(weights, 10), dict.fromkeys(weights, 8)
    assert apportioned(weights, alike, 80, cap, (0, 0)) == {"a": 4, "b": 3, "c": 1, "d": 0}
    rising = dict(reversed(weights.items()))
    assert apportioned(rising, alike, 80, cap, (0, 0)) == {"a": 4, "b": 3, "c": 1, "d": 0}
