"""Each half of the rows is judged by what the other half chose; errors are by row."""

from typing import Any

import numpy as np
import pytest
import torch

from autolora.engine.measure.evidence import CurvePoint
from autolora.engine.measure.judged import Judged, calibrated, crossed, kept
from autolora.engine.measure.likelihood import Categorical
from tests.helpers.evidence import evidence_of


class Recorded:
    """A likelihood whose temperature is the mean statistic of the rows that chose it, and whose loss adds it."""

    def fitted(self, statistics: torch.Tensor, weights: torch.Tensor) -> float:
        return float(statistics.sum() / weights.sum())

    def losses(self, statistics: torch.Tensor, temperature: float, weights: torch.Tensor) -> torch.Tensor:
        return statistics[:, 0] + 100 * temperature


def test_a_half_never_meets_its_own_choice() -> None:
    first = np.array([True, True, False, False])
    of_first, of_second = (
        torch.tensor([[float(x)] for x in values], dtype=torch.float64) for values in ((1, 3, 5, 7), (10, 30, 50, 70))
    )
    likelihood: Any = Recorded()
    judged = crossed(likelihood, (of_first, of_second), torch.ones(4, dtype=torch.float64), first)
    # Rows 2 and 3 have the statistics of the first half's choice, at its temperature, the mean of 1 and 3.
    # Rows 0 and 1 have those of the second half's, at the mean of 50 and 70.
    assert judged.losses.tolist() == [10 + 6000, 30 + 6000, 5 + 200, 7 + 200]
    assert judged.temperature == pytest.approx((2 * 60) ** 0.5)


def test_the_part_that_is_kept_and_its_error_are_those_of_many_samples() -> None:
    generator = np.random.default_rng(0)
    parts, errors = [], []
    for _ in range(300):
        base = generator.normal(1.0, 0.5, 200)
        gained, lost = generator.normal(0.4, 0.3, 200), generator.normal(0.1, 0.2, 200)
        weights = torch.ones(200, dtype=torch.float64)
        whole, head, cut = (
            Judged(torch.from_numpy(losses), weights, 1.0) for losses in (base, base + gained, base + lost)
        )
        part, error = kept(cut, whole, head)
        parts.append(part)
        errors.append(error)
    assert np.mean(parts) == pytest.approx(0.75, abs=0.02)
    assert np.mean(errors) == pytest.approx(np.std(parts), rel=0.15)


def test_the_error_of_the_part_that_is_kept_counts_what_is_not_sure_of_the_gain() -> None:
    """Rows that lose half of what they gain, whatever they gain: the part is surely a half."""
    generator, weights = np.random.default_rng(0), torch.ones(50, dtype=torch.float64)
    whole, gained = generator.normal(1.0, 0.1, 50), generator.normal(0.4, 0.3, 50)
    of_whole, head, half = (
        Judged(torch.from_numpy(losses), weights, 1.0) for losses in (whole, whole + gained, whole + gained / 2)
    )
    assert kept(half, of_whole, head) == pytest.approx((0.5, 0.0), abs=1e-12)
    assert half.above(of_whole)[1] > 0.01


def test_a_rank_that_loses_just_more_than_is_allowed_is_seldom_called_enough() -> None:
    """The gain, here of ten standard errors, was taken as exact: 37 % of such ranks were called enough, not 5 %."""
    generator, weights = np.random.default_rng(0), torch.ones(100, dtype=torch.float64)
    called = 0
    for _ in range(400):
        gained = generator.normal(1.0, 1.0, 100)
        lost = 0.0501 + generator.normal(0.0, 0.01, 100)
        whole, head, cut = (Judged(torch.from_numpy(losses), weights, 1.0) for losses in (0 * lost, gained, lost))
        gain, error = head.above(whole)
        curve = tuple(
            CurvePoint(rank, at.loss, at.above(whole)[1], 1.0, *kept(at, whole, head))
            for rank, at in ((1, cut), (8, whole))
        )
        evidence = evidence_of(loss=0.0, gain=gain, gain_standard_error=error, rank_curve=curve)
        called += evidence.sufficient_rank(0.05) == 1
    assert called / 400 < 0.1


def test_a_row_of_many_labels_weighs_more() -> None:
    weights = torch.tensor([1.0, 9.0], dtype=torch.float64)
    low = Judged(torch.tensor([1.0, 9.0], dtype=torch.float64), weights, 1.0)
    high = Judged(torch.tensor([2.0, 9.0], dtype=torch.float64), weights, 1.0)
    assert low.loss == 1.0
    assert high.above(low)[0] == pytest.approx(0.1)


def test_the_calibrated_loss_does_not_see_over_confidence() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 3000)
    scores = generator.normal(0, 1, (3000, 3)) + 2 * np.eye(3)[labels]
    likelihood = Categorical()

    def judged(scores: np.ndarray) -> Judged | None:
        told = torch.from_numpy(labels[: len(scores)])
        statistics, weights = likelihood.statistics(torch.from_numpy(scores).float(), told)
        return calibrated(likelihood, statistics.double(), weights.double(), np.arange(len(scores)))

    known, sure = judged(scores), judged(6 * scores)
    assert known is not None
    assert sure is not None
    assert sure.loss == pytest.approx(known.loss, abs=0.005)
    assert known.loss < np.log(3)
    assert judged(scores[:1]) is None


def test_held_out_rows_of_one_source_do_not_choose_their_own_temperature() -> None:
    """Even and odd rows were the halves, so that a copy of a text chose the temperature of the other copy."""
    likelihood: Any = Recorded()
    statistics = torch.tensor([[1.0], [1.0], [5.0], [5.0], [3.0]], dtype=torch.float64)
    judged = calibrated(likelihood, statistics, torch.ones(5, dtype=torch.float64), np.array([0, 0, 1, 1, 2]))
    assert judged is not None
    of_other = [500, 500, 100 * 5 / 3, 100 * 5 / 3, 500]
    assert judged.losses.tolist() == pytest.approx([a + b for a, b in zip([1, 1, 5, 5, 3], of_other, strict=True)])
    without_label = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    assert calibrated(likelihood, statistics, without_label, np.array([0, 0, 1, 1, 2])) is None
