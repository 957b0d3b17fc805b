"""The page's numbers are the search's: ends kept, ranks by the run's rule, packing within its error."""

import base64

import numpy as np
import pytest
import torch

from autolora.engine.report.curves import MOST_COLUMNS, MOST_POINTS, SearchCurves, curves_of, packed, stretches
from autolora.engine.search.trajectory import Trajectory


def history() -> Trajectory:
    made = Trajectory(["0.query", "0.value"])
    made.add(0, torch.tensor([[0.5, 0.5], [0.5, 0.5]]), torch.zeros(2, 2))
    made.add(10, torch.tensor([[0.9, 0.1], [0.5, 0.5]]), torch.tensor([[3.0, 2.0], [1.0, 0.5]]))
    return made


def test_ranks_follow_the_rule_of_the_run() -> None:
    by_threshold = curves_of(history(), "softmax")
    assert by_threshold.ranks is not None
    assert by_threshold.ranks.tolist() == [[2, 2], [1, 2]]
    assert by_threshold.bounds is not None
    assert by_threshold.bounds.tolist() == [0.5, 0.5]
    by_another_rule = curves_of(history(), None)
    assert by_another_rule.ranks is None
    assert by_another_rule.bounds is None
    assert by_another_rule.steps.tolist() == by_threshold.steps.tolist()


def test_long_searches_keep_their_ends() -> None:
    made = Trajectory(["0.query"])
    for step in range(3 * MOST_POINTS):
        made.add(step, torch.full((1, 2), float(step)), torch.zeros(1, 2))
    curves = curves_of(made, None)
    assert len(curves.steps) == MOST_POINTS
    assert curves.steps[-1] == curves.alpha[-1, 0, 0] == 3 * MOST_POINTS - 1


def of_ranks(ranks: list[list[int]], steps: list[int]) -> SearchCurves:
    empty = np.zeros((len(steps), len(ranks[0]), 1))
    names = [f"{i}.query" for i in range(len(ranks[0]))]
    return SearchCurves(names, np.array(steps), empty, empty, np.array(ranks), None)


def test_stretches_tell_when_a_rank_changed() -> None:
    found = stretches(of_ranks([[2, 1], [2, 3], [4, 3]], [0, 10, 25]))
    assert found == [(0, 0, 17.5, 2), (0, 17.5, 25, 4), (1, 0, 5, 1), (1, 5, 25, 3)]
    assert stretches(of_ranks([[5]], [0])) == [(0, 0, 1, 5)]


def test_stretches_are_not_too_many_for_a_page() -> None:
    points = 5000
    found = stretches(of_ranks([[i % 2] for i in range(points)], list(range(points))))
    assert len(found) <= MOST_COLUMNS


@pytest.mark.parametrize(
    "values", [np.array([0.25, 0.25]), np.array([-3.0, 0.0, 1e-3, 7.0]), np.array([1.0, np.nan, np.inf])]
)
def test_packing_keeps_numbers_within_its_error(values: np.ndarray) -> None:
    out = packed(values)
    codes = np.frombuffer(base64.b64decode(out["data"]), "<u2")
    back = out["low"] + codes * (out["high"] - out["low"]) / 65535
    wanted = np.where(np.isfinite(values), values, 0)
    assert np.abs(back - wanted).max() <= (np.ptp(wanted) / 65535) * 0.51
