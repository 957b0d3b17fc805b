"""Ranks by threshold are decided where no alpha comes near lambda any more at the end of the search."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from autolora.engine.answer.trust import APART, LEAST_POINTS, trust_of, trust_of_run
from autolora.engine.ranks import RankRecord
from autolora.engine.run.folder import RunFolder
from autolora.engine.search.trajectory import Trajectory
from tests.helpers.rank_records import answered_record


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


def test_a_rank_that_changed_in_the_last_quarter_is_not_decided_however_far_alpha_is_now() -> None:
    alpha = np.tile([0.8, 0.1, 0.1], (40, 1, 1))
    alpha[30] = [0.35, 0.34, 0.31]  # rank 2, at the first of the ten points that count
    trust = trust_of(trajectory_of(alpha), "softmax")
    assert min(trust.distance) > APART
    assert (trust.decided, trust.changed) == ((False,), 1)
    alpha[29:31] = alpha[[30, 29]]  # one point earlier it does not count
    assert trust_of(trajectory_of(alpha), "softmax").decided == (True,)


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


@pytest.mark.parametrize("points", [1, 40])
def test_one_component_a_layer_is_always_decided_but_for_sigmoid(points: int) -> None:
    """With few points it was not, and under none, where lambda is that component's alpha, it never was."""
    one = np.ones((points, 2, 1))
    falling = np.linspace(1, -1, points).reshape(-1, 1, 1) * one
    for trust in trust_of(trajectory_of(one), "softmax"), trust_of(trajectory_of(falling), "none"):
        assert trust.decided == (True, True)
        assert trust.distance == ()
        assert trust.words() == "every rank is 1, as the threshold never drops a layer's only component (lora.k 1)"
    assert trust_of(trajectory_of(0.5 * one), "sigmoid").decided == (False, False)


def test_few_points_decide_nothing(alpha: np.ndarray) -> None:
    trust = trust_of(trajectory_of(alpha[: 4 * LEAST_POINTS - 1]), "softmax")
    assert not any(trust.decided)
    assert trust.words().startswith("nothing is decided yet")


@pytest.mark.parametrize("k", [3, 4, 6])  # 1/3 and 1/6 are no floats
def test_alpha_that_never_moved_decides_nothing(k: int) -> None:
    trust = trust_of(trajectory_of(np.full((40, 2, k), 1 / k, dtype=np.float32)), "softmax")
    assert not any(trust.decided)


def test_the_trust_is_told_of_ranks_by_threshold_only(tmp_path: Path) -> None:
    folder, record = RunFolder(tmp_path), RankRecord(2, answered_record().layers, rule="threshold")
    assert trust_of_run(record, folder) is None, "no search is there"
    history = Trajectory([layer.name for layer in record.layers])
    history.add(0, torch.full((3, 2), 0.5), torch.full((3, 2), 0.5))
    folder.search.mkdir()
    history.write(folder.trajectory)
    found = trust_of_run(record, folder)
    assert found is not None
    assert "nothing is decided yet" in found.words()
    assert trust_of_run(dataclasses.replace(record, rule="shares"), folder) is None
    assert trust_of_run(None, folder) is None
