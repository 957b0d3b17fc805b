"""What places explain, on losses that follow from planted effects."""

import itertools

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from benchmarks.places.allocations import Allocations
from benchmarks.places.effects import descriptions, effects, explained, slopes
from tests.helpers.allocations import LAYERS, planted

OF_ONE_TYPE = np.array([0.02 if name.endswith("value") else 0.0 for name in LAYERS])
OF_TWO_LAYERS = np.where(np.isin(np.arange(len(LAYERS)), [4, 9]), 0.05, 0.0)


def test_the_description_explains_what_was_planted_and_no_coarser_one_does() -> None:
    by_type = {one.described_by: one.r2 for one in explained(planted(OF_ONE_TYPE, noise=0.001))}
    assert by_type["how many layers"] < 0.5
    assert by_type["and of which module type"] > 0.85
    by_layer = {one.described_by: one.r2 for one in explained(planted(OF_TWO_LAYERS, noise=0.001))}
    assert by_layer["and in which block"] < 0.8
    assert by_layer["and exactly which layers"] > 0.95
    assert by_layer["exactly which layers, alone"] > 0.95


def test_losses_of_noise_are_explained_by_nothing() -> None:
    for one in explained(planted(np.zeros(len(LAYERS)), noise=0.01, allocations=60)):
        assert one.r2 < 0.15
        assert one.spread == pytest.approx(max(one.r2, 0) ** 0.5 * 0.01 / 2**0.5, rel=0.4, abs=1e-12)


def test_a_description_that_is_the_same_for_all_allocations_explains_nothing_and_not_less() -> None:
    """What it predicts is the mean of the other losses, with which R2 compares."""
    found = planted(OF_ONE_TYPE, noise=0.01, allocations=60)
    same = Allocations(found.table[found.table[LAYERS].sum(axis=1) == 6], {})
    (how_many, *_) = explained(same)
    assert how_many.r2 == pytest.approx(0, abs=1e-9)


def test_seeds_that_differ_in_all_losses_alike_are_no_effect_of_places() -> None:
    found = planted(OF_TWO_LAYERS)
    assert np.ptp(found.table["loss"]) > 1
    assert np.ptp(found.mean) < 0.2
    assert found.gain == pytest.approx(0.05 * found.chosen[:, [4, 9]].sum(axis=1).mean())


def test_effects_are_those_of_the_layers() -> None:
    worth = effects(planted(OF_TWO_LAYERS))
    assert worth[[4, 9]] == pytest.approx(0.05, rel=0.1)
    assert np.abs(np.delete(worth, [4, 9])).max() < 0.005


def test_slopes_are_those_of_a_ridge_regression() -> None:
    found = planted(OF_ONE_TYPE, noise=0.01)
    several = np.column_stack([found.mean, found.chosen[:, 0]])
    assert np.allclose(slopes(found.chosen, several, 3.0), Ridge(3.0).fit(found.chosen, several).coef_.T)
    assert np.allclose(slopes(found.chosen, found.mean, 3.0), Ridge(3.0).fit(found.chosen, found.mean).coef_)


def test_each_description_but_the_last_holds_the_one_before() -> None:
    *made, last = descriptions(planted(OF_ONE_TYPE)).values()
    assert [numbers.shape[1] for numbers in made] == [1, 1 + 3, 1 + 3 + 4, 1 + 3 + 4 + 12]
    for coarse, fine in itertools.pairwise(made):
        assert np.array_equal(fine[:, : coarse.shape[1]], coarse)
    assert np.array_equal(made[-1][:, 8:], last)
