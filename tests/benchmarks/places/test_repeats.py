"""What allocations have in common at two seeds, on losses whose spread from places and from luck is planted."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.places.allocations import Allocations
from benchmarks.places.repeats import FEWEST, MATTERS, Repeats, in_words, repeats
from tests.helpers.allocations import LAYERS, planted

SOME = np.linspace(0.0, 0.05, len(LAYERS))


def of_places(found: Allocations) -> float:
    """The spread of the losses without noise."""
    return float((-found.chosen @ SOME).std(ddof=1))


@pytest.mark.parametrize("seeds", [(1, 2), (1, 2, 3)])
def test_the_spread_from_the_places_is_told_from_the_luck_of_the_seed(seeds: tuple[int, ...]) -> None:
    exact, noise = planted(SOME, allocations=400, seeds=seeds), 0.05
    found = repeats(planted(SOME, noise=noise, allocations=400, seeds=seeds))
    assert found is not None
    truth = of_places(exact)
    assert found.allocations == len(exact.losses)
    assert found.spread == pytest.approx(truth, rel=0.1)
    assert found.interval[0] < truth < found.interval[1]
    assert found.correlation == pytest.approx(truth**2 / (truth**2 + noise**2), abs=0.1)
    assert found.reliability == pytest.approx(truth**2 / (truth**2 + noise**2 / len(seeds)), abs=0.1)


def test_allocations_with_one_seed_lower_the_reliability_of_the_means() -> None:
    """It was that of the allocations with several seeds alone, though the means are of all."""
    three = planted(SOME, noise=0.05, allocations=400, seeds=(1, 2, 3))
    draws = three.table["draw"].unique()[: len(three.losses) // 2]
    some = Allocations(three.table[(three.table["seed"] == 1) | three.table["draw"].isin(draws)], {})
    whole, mixed = repeats(three), repeats(some)
    assert whole is not None
    assert mixed is not None
    expected = mixed.correlation * 1.5 / (1 + 0.5 * mixed.correlation)  # 1 and 3 seeds: the noise of 1.5
    assert mixed.reliability == pytest.approx(expected, abs=0.01)
    assert mixed.reliability < whole.reliability - 0.05


def test_what_two_seeds_have_in_common_is_their_covariance() -> None:
    found = planted(SOME, noise=0.02, allocations=12)
    one, other = found.losses.to_numpy().T
    covariance, variance = float(np.cov(one, other)[0, 1]), float(one.var(ddof=1) + other.var(ddof=1)) / 2
    made = repeats(found)
    assert made is not None
    assert made.spread == pytest.approx(covariance**0.5)
    assert made.correlation == pytest.approx(covariance / variance)
    assert made.reliability == pytest.approx(2 * covariance / (variance + covariance))


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    exact = planted(SOME, allocations=40)
    hits = 0
    for seed in range(100):
        noise = np.random.default_rng(seed).normal(0, 0.05, len(exact.table))
        found = repeats(Allocations(exact.table.assign(loss=exact.table["loss"] + noise), {}))
        assert found is not None
        hits += found.interval[0] <= of_places(exact) <= found.interval[1]
    assert 80 <= hits <= 97


def test_if_places_do_nothing_the_spread_is_small_and_the_words_say_so() -> None:
    found = repeats(planted(np.zeros(len(LAYERS)), noise=0.01, allocations=70))
    assert found is not None
    assert found.spread < 0.005
    assert found.interval[0] == 0
    assert found.reliability < 0.3
    assert "less than 2%, so that choices of layers drawn at random hardly differ" in in_words(found, gain=1.0)


def test_without_repeated_allocations_nothing_is_said_of_places() -> None:
    alone = planted(SOME, noise=0.01, seeds=(1,))
    assert repeats(alone) is None
    assert in_words(None, 0.1).startswith(f"Fewer than {FEWEST} allocations were trained at two seeds")
    assert repeats(planted(SOME, allocations=FEWEST - 1)) is None
    assert repeats(planted(SOME, allocations=FEWEST)) is not None


def test_the_words_tell_more_than_a_part_of_the_gain_from_not_knowing() -> None:
    found = Repeats(70, 0.006, (0.004, 0.008), 0.3, 0.46)
    assert in_words(found, 0.1) == (
        "The places cause a spread of 0.0060 nats (0.0040 to 0.0080), 6.0% of LoRA's gain (4.0% to 8.0%): more than "
        "2%, so that some places are better than others."
    )
    nothing = dataclasses.replace(found, spread=0.0, interval=(0.0, 0.0))
    assert in_words(nothing, 0.1) == (
        "The places cause no spread that these trainings can tell from the luck of the seed."
    ), "an interval of no width would claim that it is known"
    unsure = dataclasses.replace(found, interval=(0.001, 0.008))
    assert in_words(unsure, 0.1).endswith(": these trainings cannot tell whether it is more than 2%.")
    assert (
        in_words(found, None)
        == in_words(found, -0.1)
        == ("The places cause a spread of 0.0060 nats (0.0040 to 0.0080).")
    )


@pytest.mark.parametrize(
    ("allocations", "seeds", "places", "sure"),
    [(47, 3, 0.0, 0.31), (70, 2, 0.0, 0.20), (47, 3, 0.04, 0.59), (70, 2, 0.04, 0.47)],
)
def test_as_many_studies_are_sure_as_docs_places_md_says(
    allocations: int, seeds: int, places: float, sure: float
) -> None:
    """In units of the luck of a seed, 2 % of the gain is 0.29; `places`: the spread of the places, of the gain."""
    generator, limit, hits, studies = np.random.default_rng(3), 0.29, 0, 300
    for _ in range(studies):
        common = places / MATTERS * limit * generator.standard_normal((allocations, 1))
        table = pd.DataFrame(common + generator.standard_normal((allocations, seeds)))
        found = repeats(SimpleNamespace(losses=table))  # type: ignore[arg-type]
        assert found is not None
        low, high = found.interval
        hits += high < limit if places < MATTERS else low > limit
    assert hits / studies == pytest.approx(sure, abs=3 * (sure * (1 - sure) / studies) ** 0.5)
