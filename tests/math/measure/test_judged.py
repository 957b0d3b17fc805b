"""Each fold of the rows is judged by what the other folds chose; errors are by group."""

from typing import Any

import numpy as np
import pytest
import torch

from autolora.engine.measure.judged import Judged, calibrated, cross_fitted, kept, ratio_error


class Recorded:
    """A likelihood whose temperature is the mean statistic of the rows that chose it, and whose loss adds it `times`
    so often."""

    def __init__(self, times: float = 100.0) -> None:
        self.times = times

    def fitted(self, statistics: torch.Tensor, weights: torch.Tensor) -> float:
        return float(statistics.sum() / weights.sum())

    def losses(self, statistics: torch.Tensor, temperature: float, weights: torch.Tensor) -> torch.Tensor:
        return statistics[:, 0] + self.times * temperature


LIKELIHOOD: Any = Recorded()


def column(*values: float) -> torch.Tensor:
    return torch.tensor([[value] for value in values], dtype=torch.float64)


def test_a_fold_never_meets_its_own_temperature() -> None:
    judged = cross_fitted(LIKELIHOOD, [column(1, 3, 5, 7, 9)], torch.ones(5).double(), np.array([0, 0, 1, 1, 2]))
    of_others = [7, 7, 13 / 3, 13 / 3, 4]
    assert judged.losses.tolist() == pytest.approx(
        [x + 100 * t for x, t in zip((1, 3, 5, 7, 9), of_others, strict=True)]
    )
    assert judged.temperature == pytest.approx((7 * 13 / 3 * 4) ** (1 / 3))
    alone = cross_fitted(LIKELIHOOD, [column(1, 3)], torch.ones(2).double(), np.array([0, 0]))
    assert alone.losses.tolist() == [201, 203], "of one group there is nothing else to choose by"


def test_a_fold_never_chooses_its_own_candidate() -> None:
    """On each of two folds the candidate is better that is worse on the others."""
    likelihood: Any = Recorded(times=0.0)
    one, other = column(1, 1, 9, 9, 9), column(9, 9, 1, 1, 9)
    judged = cross_fitted(likelihood, [one, other], torch.ones(5).double(), np.array([0, 0, 1, 1, 2]))
    assert judged.losses[:4].tolist() == [9.0] * 4, "by its own choice each loss would be 1"


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


def test_the_error_of_a_quotient_is_that_of_many_draws() -> None:
    generator = np.random.default_rng(0)
    errors, means = [], []
    for _ in range(400):
        weights = generator.integers(1, 9, 60).astype(float)
        sums = weights * 0.3 + generator.normal(0, 1, 60) * np.sqrt(weights)
        errors.append(float(ratio_error(torch.from_numpy(sums), torch.from_numpy(weights))))
        means.append(sums.sum() / weights.sum())
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)


def test_the_error_of_few_draws_is_that_of_a_sample_of_them_and_a_group_is_one() -> None:
    """Where all draws weigh the same, it is the standard deviation over n - 1, divided by the root of n."""
    values = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    weights = torch.full((3,), 2.0, dtype=torch.float64)
    assert float(ratio_error(2 * values, weights)) == pytest.approx(float(values.std()) / 3**0.5)
    rest = np.array([6.0, 12.0]) - np.array([4.0, 2.0]) * 3.0
    together = np.array([0, 0, 1])
    assert float(ratio_error(2 * values, weights, together)) == pytest.approx(np.sqrt((rest**2).sum() * 2) / 6)
    assert Judged(2 * values, weights, 1.0).loss == 3.0, "per label, not per row"
    difference = Judged(2 * values, weights, 1.0, together).above(Judged(0 * values, weights, 1.0))
    assert difference == pytest.approx((3.0, np.sqrt((rest**2).sum() * 2) / 6))
    assert ratio_error(values[:1], weights[:1]) == float("inf")


def test_held_out_rows_of_one_group_do_not_choose_their_own_temperature() -> None:
    """Even and odd rows were the halves, so that a copy of a text chose the temperature of the other copy."""
    groups, statistics = np.array([0, 0, 1, 1, 2]), column(1, 1, 5, 5, 3)
    judged = calibrated(LIKELIHOOD, statistics, torch.ones(5, dtype=torch.float64), groups)
    assert judged is not None
    of_other = [500, 500, 100 * 5 / 3, 100 * 5 / 3, 500]
    assert judged.losses.tolist() == pytest.approx([a + b for a, b in zip([1, 1, 5, 5, 3], of_other, strict=True)])
    without_label = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    assert calibrated(LIKELIHOOD, statistics, without_label, groups) is None
