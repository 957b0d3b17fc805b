"""Ranks that no search found: the same budget, other places."""

from collections import Counter

import pytest

from autolora.engine.ranks import LayerRank, RankRecord, count_parameters
from autolora.engine.retrain.controls import random_ranks, shuffled

NAMES = [f"layer.{i}" for i in range(12)]
ALIKE = dict.fromkeys(NAMES, 64)
MIXED = {name: 64 if i % 2 else 100 for i, name in enumerate(NAMES)}


def square(sizes: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Shapes of which a component has so many parameters."""
    return {name: (size // 2, size - size // 2) for name, size in sizes.items()}


RANKS = [1, 8, 3, 0, 5, 2, 2, 4, 1, 6, 3, 7]
RECORD = RankRecord(
    8, tuple(LayerRank(n, r, (0.5,), (0.1,)) for n, r in zip(NAMES, RANKS, strict=True))
)


@pytest.mark.parametrize("seed", range(5))
def test_shuffling_among_layers_of_one_size_keeps_ranks_and_count_and_changes_the_places(
    seed: int,
) -> None:
    made = shuffled(RECORD, MIXED, seed)
    assert count_parameters(made.kept, MIXED) == count_parameters(RECORD.kept, MIXED)
    for odd in (0, 1):
        assert sorted(x.rank for x in made.layers[odd::2]) == sorted(RANKS[odd::2])
    assert [layer.rank for layer in made.layers] != RANKS
    assert made.ranks != shuffled(RECORD, MIXED, seed + 1).ranks
    assert made == shuffled(RECORD, MIXED, seed)
    assert made.note is None
    assert all(not layer.alpha and not layer.contribution for layer in made.layers)


def test_a_shuffle_that_changes_nothing_says_so() -> None:
    record = RankRecord(8, (LayerRank("a", 1), LayerRank("b", 2)))
    made = shuffled(record, {"a": 10, "b": 20}, 0)
    assert made.ranks == record.ranks
    assert made.note is not None


@pytest.mark.parametrize("seed", range(8))
def test_random_ranks_fit_the_narrowest_layer(seed: int) -> None:
    wide, narrow = random_ranks({"wide": (64, 64), "narrow": (2, 64)}, 8 * 128, 8, seed).layers
    assert narrow.rank <= 2
    assert 0 <= 8 * 128 - wide.rank * 128 - narrow.rank * 66 < 128


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("budget", [1, 42, 96, 120])
@pytest.mark.parametrize(("sizes", "left"), [(ALIKE, 0), (MIXED, 63)])
def test_random_ranks_meet_the_budget_or_miss_it_by_less_than_a_component_where_layers_differ(
    sizes: dict[str, int], left: int, budget: int, seed: int
) -> None:
    made = random_ranks(square(sizes), budget * 64, 8, seed)
    assert 0 <= budget * 64 - count_parameters(made.kept, sizes) <= left
    assert max(layer.rank for layer in made.layers) <= max(8, budget // 12)
    assert made.note is None
    assert made == random_ranks(square(sizes), budget * 64, 8, seed)


def test_every_random_rank_from_0_to_the_highest_is_about_equally_frequent() -> None:
    """Components handed out one by one would give most layers about the mean rank."""
    drawn = [random_ranks(square(ALIKE), 4 * 12 * 64, 8, seed) for seed in range(200)]
    found = Counter(layer.rank for made in drawn for layer in made.layers)
    assert sorted(found) == list(range(9))
    assert all(0.09 < count / (200 * 12) < 0.14 for count in found.values())
