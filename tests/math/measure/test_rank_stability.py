"""Ranks by threshold are decided where no alpha comes near lambda any more at the end of the search."""

import numpy as np
import pytest
import torch

from autolora.engine.choose.stability import trust_of
from autolora.engine.search.trajectory import Trajectory


def trajectory_of(alpha: np.ndarray) -> Trajectory:
    """alpha [points, layers, k]."""
    history = Trajectory([f"layer.{i}.query" for i in range(alpha.shape[1])])
    for step, rows in enumerate(alpha):
        history.add(step, torch.from_numpy(rows), torch.from_numpy(rows))
    return history


@pytest.fixture
def alpha() -> np.ndarray:
    """40 points of three layers with two components: far apart; from both at lambda to one; apart by less than two
    standard deviations."""
    noise = np.random.default_rng(0).normal(0, 1, 40)
    firsts = np.stack([0.8 + 0.01 * noise, np.where(np.arange(40) < 36, 0.5, 0.6), 0.5 + 0.02 * np.abs(noise)], axis=1)
    return np.stack([firsts, 1 - firsts], axis=2)


def test_a_layer_is_decided_when_it_is_steady_and_far_from_lambda(alpha: np.ndarray) -> None:
    alpha[-1, 2] = [0.51, 0.49]
    trust = trust_of(trajectory_of(alpha), "softmax")
    assert trust.points == 10
    assert trust.decided == (True, False, False)
    assert trust.changed == 1
    assert "1 of 3 ranks are decided within this search (1 changed in its last quarter)" in trust.words()
    assert "another seed" in trust.words()


def test_the_distance_is_that_of_the_alpha_nearest_to_lambda_in_standard_deviations(alpha: np.ndarray) -> None:
    found = trust_of(trajectory_of(alpha), "softmax")
    expected = np.abs(alpha[-1] - 0.5) / alpha[-10:].astype(np.float32).astype(np.float64).std(axis=0, ddof=1)
    assert found.distance == pytest.approx(expected.min(axis=1), rel=1e-4)
    assert found.distance[0] > found.distance[2]
    assert trust_of(trajectory_of(alpha[:8]), "softmax").distance == ()
    still = trust_of(trajectory_of(np.full((40, 2, 3), 1 / 3, dtype=np.float32)), "softmax")
    assert still.distance == (0.0, 0.0)
    apart = trust_of(trajectory_of(np.tile([[0.75, 0.25]], (40, 1, 1))), "softmax")
    assert apart.distance == (np.inf,)
