"""What places explain, on losses that follow from planted effects."""

import itertools

import numpy as np
import pytest

from benchmarks.places.effects import agreement, descriptions, effects, explained
from tests.helpers.allocations import LAYERS, planted

OF_ONE_TYPE = np.array([0.02 if name.endswith("value") else 0.0 for name in LAYERS])
OF_TWO_LAYERS = np.where(np.isin(np.arange(len(LAYERS)), [4, 9]), 0.05, 0.0)


def test_the_description_explains_what_was_planted_and_no_coarser_one_does() -> None:
    by_type = {one.described_by: one.r2 for one in explained(planted(OF_ONE_TYPE, noise=0.001, trainings=30))}
    assert by_type["how many layers"] < 0.5
    assert by_type["and of which module type"] > 0.85
    by_layer = {one.described_by: one.r2 for one in explained(planted(OF_TWO_LAYERS, noise=0.001, trainings=30))}
    assert by_layer["and in which block"] < 0.8
    assert by_layer["and exactly which layers"] > 0.95


def test_losses_of_noise_are_explained_by_nothing() -> None:
    for one in explained(planted(np.zeros(len(LAYERS)), noise=0.01)):
        assert one.r2 < 0.1
        assert one.spread == pytest.approx(max(one.r2, 0) ** 0.5 * 0.01, rel=0.4, abs=1e-12)


def test_seeds_that_differ_in_all_losses_alike_are_no_effect_of_places() -> None:
    found = planted(OF_TWO_LAYERS)
    assert np.ptp(found.table["loss"]) > 1
    assert np.ptp(found.centred) < 0.2
    assert found.gain == pytest.approx(0.05 * found.chosen[:, [4, 9]].sum(axis=1).mean())


def test_effects_are_those_of_the_layers() -> None:
    worth = effects(planted(OF_TWO_LAYERS))
    assert worth[[4, 9]] == pytest.approx(0.05, rel=0.1)
    assert np.abs(np.delete(worth, [4, 9])).max() < 0.005


def test_a_score_that_is_right_agrees_and_its_opposite_does_not() -> None:
    planted_effects = np.linspace(0.0, 0.05, len(LAYERS))
    found = planted(planted_effects)
    assert agreement(planted_effects, found) == pytest.approx((1.0, 1.0), abs=0.05)
    assert agreement(-planted_effects, found) == pytest.approx((-1.0, -1.0), abs=0.05)
    of_layers, of_trainings = agreement(np.ones(len(LAYERS)), found)
    assert of_layers is None  # it tells no layer from another, but more layers lower the loss
    assert of_trainings is not None
    assert of_trainings > 0.5


def test_each_description_holds_the_one_before() -> None:
    made = list(descriptions(planted(OF_ONE_TYPE)).values())
    assert [numbers.shape[1] for numbers in made] == [1, 1 + 3, 1 + 3 + 4, 1 + 3 + 4 + 12]
    for coarse, fine in itertools.pairwise(made):
        assert np.array_equal(fine[:, : coarse.shape[1]], coarse)
