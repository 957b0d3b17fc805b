"""What a search sends while it goes: entropies, charts that stay few, pictures that stay few."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from autolora.engine.search.tracking import MOST_CHARTS, MOST_PICTURES, SearchTracking, alpha_charts, entropy
from autolora.engine.search.trajectory import Trajectory


class Kept:
    """A tracker that keeps what it is sent."""

    def __init__(self, alive: bool = True) -> None:
        self.alive = alive
        self.logged: list[dict[str, Any]] = []
        self.charts: dict[str, Any] = {}

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def lines(self, key: str, steps: list[int], curves: dict[str, list[float]]) -> None:
        self.charts[key] = (list(steps), curves)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        ([0.25] * 4, 1.0),
        ([1.0, 0.0, 0.0, 0.0], 0.0),
        ([0.5, 0.5, 0.0, 0.0], math.log(2) / math.log(4)),
        ([0.8, 0.8, 0.8, 0.8], 1.0),  # sigmoid: the sum is not 1
        ([2.0, -1.0, 0.0, 0.0], 0.0),  # none: parts may be negative
        ([0.0, 0.0, 0.0, 0.0], 0.0),
    ],
)
def test_entropy_is_1_when_uniform_and_0_when_decided(alpha: list[float], expected: float) -> None:
    assert entropy(np.array([alpha])) == pytest.approx([expected])


def test_entropy_of_one_component_is_0() -> None:
    assert entropy(np.array([[1.0], [0.3]])).tolist() == [0.0, 0.0]


def search(tracking: SearchTracking, steps: int, every: int, names: list[str]) -> Trajectory:
    history = Trajectory(names)
    torch.manual_seed(0)
    for step in range(0, steps + 1, every):
        history.add(step, torch.rand(len(names), 3), torch.rand(len(names), 3))
        if step:
            tracking.point({"step": step, "train_loss": 0.5}, history, [2] * len(names))
    tracking.end(history)
    return history


@pytest.mark.trains
def test_a_point_has_every_number_of_every_layer() -> None:
    kept = Kept()
    names = ["0.query", "0.value"]
    history = search(SearchTracking(kept, 4), 4, 2, names)  # type: ignore[arg-type]
    values = kept.logged[-1]
    assert values["search/step"] == 4
    for index, name in enumerate(("0_query", "0_value")):
        assert values[f"rank/{name}"] == 2
        assert values[f"entropy/{name}"] == pytest.approx(entropy(history.alpha[-1])[index])
        for j in range(3):
            assert values[f"alpha/{name}/{j + 1}"] == history.alpha[-1][index, j]
            assert values[f"contribution/{name}/{j + 1}"] == history.contribution[-1][index, j]
    assert kept.charts["trajectories/0_value"][0] == [0, 2, 4]
    assert kept.charts["trajectories/0_value"][1]["component 3"] == [float(a[1, 2]) for a in history.alpha]


@pytest.mark.trains
@pytest.mark.parametrize(("steps", "every"), [(3000, 1), (3000, 10), (20, 1), (30, 10)])
def test_pictures_are_few_and_the_last_step_has_one(steps: int, every: int) -> None:
    kept = Kept()
    search(SearchTracking(kept, steps), steps, every, ["0.query"])  # type: ignore[arg-type]
    pictured = [values["search/step"] for values in kept.logged if "search/rank_map" in values]
    assert 1 < len(pictured) <= MOST_PICTURES + 1
    assert pictured[-1] == steps


@pytest.mark.trains
def test_nothing_is_computed_for_a_tracker_that_is_off() -> None:
    kept = Kept(alive=False)
    search(SearchTracking(kept, 4), 4, 2, ["0.query"])  # type: ignore[arg-type]
    assert not kept.logged
    assert not kept.charts


def test_many_layers_share_the_chart_of_their_block() -> None:
    names = [f"model.layers.{i}.{p}" for i in range(16) for p in ("q", "k", "v", "o")]
    assert len(names) > MOST_CHARTS
    charts = alpha_charts(names, np.arange(2 * 64 * 3, dtype=float).reshape(2, 64, 3))
    assert len(charts) == 16
    assert sum(map(len, charts.values())) == 64 * 3, "no line is left out"
    assert charts["block_1"]["k component 3"] == [17.0, 17.0 + 64 * 3]
