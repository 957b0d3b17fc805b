"""Rows and their groups, their log losses at any temperature, and the errors of what is chosen on
other rows."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from autolora.engine.measure.judged import Judged, calibrated, cross_fitted, kept, ratio_error
from autolora.engine.measure.likelihood import (
    TEMPERATURES,
    Binary,
    Categorical,
    Gaussian,
    Likelihood,
)
from autolora.problems.rows import Rows
from tests.helpers.branches import collate, rows_of

SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=60)


def rows_with(sizes: list[int]) -> Rows:
    """Rows in groups of these sizes."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    nothing: Any = None
    return Rows(nothing, nothing, np.ones(len(groups), dtype=int), groups)


@given(SIZES, st.integers(2, 6))
def test_folds_are_of_whole_groups_and_as_equal_as_groups_allow(
    sizes: list[int], count: int
) -> None:
    rows = rows_with(sizes)
    fold = rows.folds(count)
    assert all(len(set(fold[rows.groups == group])) == 1 for group in range(len(sizes)))
    assert set(fold) == set(range(fold.max() + 1))
    assert fold.max() < count
    borders = np.flatnonzero(np.diff(fold)) + 1
    ends = np.cumsum(sizes)[:-1]
    for place in len(rows) * np.arange(1, count) / count:
        assert np.abs(borders - place).min() == np.abs(ends - place).min()


@given(SIZES, st.integers(1, 16))
def test_draws_hold_every_row_once_and_whole_groups_of_one_fold(
    sizes: list[int], size: int
) -> None:
    rows = rows_with(sizes)
    fold = rows.folds(5)
    draws = rows.draws(fold, size, 20)
    assert sorted(row for draw in draws for row in draw) == list(range(len(rows)))
    for draw in draws:
        groups = rows.groups[draw]
        assert len(set(fold[draw])) == 1
        assert len(draw) == np.isin(rows.groups, groups).sum()
        assert len(draw) <= size or len(set(groups)) == 1


@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 64))
def test_there_are_20_draws_if_there_are_20_groups(groups: int, each: int, size: int) -> None:
    rows = rows_with([each] * groups)
    assert len(rows.draws(rows.folds(5), size, 20)) >= min(20, groups)


def test_rows_of_one_input_are_a_group() -> None:
    """Three annotators of each text made errors too small by the root of three."""
    inputs = torch.zeros(6, 1, 1)
    labels = torch.zeros(6, dtype=torch.long)
    rows = Rows.encoded(rows_of(inputs, labels, list("abcabc")), collate)
    assert rows.group_numbers.tolist() == [0, 1, 2, 0, 1, 2]
    assert rows.group_count == 3
    of_one = Rows.encoded(rows_of(inputs, labels, ["a"] * 6), collate)
    assert of_one.group_numbers.tolist() == list(range(6)), "of one input each row is a group"


def test_rows_are_drawn_by_the_seed_and_those_of_a_group_follow_each_other() -> None:
    groups = [str(number % 10) for number in range(40)]
    table = rows_of(torch.arange(40.0).view(40, 1, 1), torch.zeros(40, dtype=torch.long), groups)
    data = Rows.encoded(table, collate).select(range(5, 40))
    one, again, other = (data.drawn(20, seed) for seed in (0, 0, 1))
    values = [[x[0][0] for x in rows.examples["x"]] for rows in (one, again, other)]
    assert values[0] == values[1] != values[2]
    assert set(values[0]) != set(values[2]), "another seed draws other rows"
    assert len(set(values[0])) == 20
    assert min(values[0]) >= 5
    assert (np.diff(one.group_numbers) >= 0).all()
    assert len(data.drawn(99, 0)) == 35


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    """Over-confident logits [500, 4] of labels that they get right half of the time."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (500,), generator=generator)
    scores = 5 * torch.randn(500, 4, generator=generator)
    scores[torch.arange(500), labels] += 4
    return scores, labels


def test_the_losses_are_those_of_the_logits_at_every_temperature(
    logits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    scores, labels = logits
    likelihood = Categorical()
    statistics, weights = likelihood.statistics(scores, labels)
    assert statistics.shape == (500, len(TEMPERATURES))
    assert weights.eq(1).all()
    for temperature in (0.125, 0.3, 0.77, 1.0, 2.9, 7.3, 15.9):
        expected = cross_entropy(scores.double() / temperature, labels, reduction="none")
        found = likelihood.losses(statistics, temperature, weights)
        # a row; the temperatures between two of the grid
        assert (found - expected).abs().max() < 0.01
        assert found.mean().item() == pytest.approx(expected.mean().item(), abs=2e-4)
        assert likelihood.loss(scores, labels, temperature).item() == pytest.approx(
            expected.sum().item(), rel=1e-5
        )


def test_the_fitted_temperature_is_the_best_one(logits: tuple[torch.Tensor, torch.Tensor]) -> None:
    scores, labels = logits
    likelihood = Categorical()
    statistics, weights = likelihood.statistics(scores, labels)
    best = minimize_scalar(
        lambda log_t: float(cross_entropy(scores.double() / np.exp(log_t), labels)),
        bounds=(-0.7, 2.7),
    )
    fitted = likelihood.fitted(statistics, weights)
    assert fitted == pytest.approx(float(np.exp(best.x)), rel=5e-3)
    assert likelihood.losses(statistics, fitted, weights).mean().item() == pytest.approx(
        best.fun, abs=5e-4
    )
    for scale in (1.0, 1.5):
        scaled = likelihood.statistics(scores * scale / float(np.exp(best.x)), labels)
        assert likelihood.fitted(*scaled) == pytest.approx(scale, rel=5e-3)


def test_a_temperature_below_1_costs_half_a_nat_for_an_octave_and_four_times_as_much_for_two() -> (
    None
):
    """Without a price, rows that are all right ask for a temperature of 0, and one wrong row
    elsewhere decides. Rows whose loss falls by (x + 2)^2 / 2 nats down to x = -2 octaves: with x^2
    / 2 beside it, x = -1 is lowest."""
    octaves = torch.from_numpy(np.log2(TEMPERATURES))
    statistics = ((octaves + 2).square() / 2).unsqueeze(0)
    assert Categorical().fitted(statistics, torch.ones(1)) == pytest.approx(0.5, rel=1e-6)
    above = ((octaves - 2).square() / 2).unsqueeze(0)
    assert Categorical().fitted(above, torch.ones(1)) == pytest.approx(4.0, rel=1e-6), (
        "above 1 there is no price"
    )


def test_at_a_temperature_of_the_grid_the_losses_are_exact(
    logits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    likelihood = Categorical()
    statistics, weights = likelihood.statistics(*logits)
    for temperature in (0.01, 0.77, 99.0):
        near = likelihood.exact(temperature)
        assert near in TEMPERATURES
        expected = cross_entropy(logits[0].double() / near, logits[1], reduction="none")
        torch.testing.assert_close(
            likelihood.losses(statistics, near, weights), expected, atol=1e-4, rtol=1e-5
        )
    assert Gaussian().exact(0.123) == 0.123


def test_a_number_has_the_log_loss_of_a_normal_error_whose_variance_is_fitted() -> None:
    generator = torch.Generator().manual_seed(2)
    labels = torch.randn(200, generator=generator)
    outputs = (labels + 0.3 * torch.randn(200, generator=generator)).unsqueeze(1)
    likelihood = Gaussian()
    statistics, weights = likelihood.statistics(outputs, labels)
    variance = likelihood.fitted(statistics, weights)
    assert variance == pytest.approx(
        float((outputs[:, 0] - labels).double().square().mean()), rel=1e-6
    )
    normal = torch.distributions.Normal(outputs[:, 0].double(), variance**0.5)
    expected = -normal.log_prob(labels.double())
    assert torch.allclose(likelihood.losses(statistics, variance, weights), expected, atol=1e-5)
    assert likelihood.loss(outputs, labels, variance).item() == pytest.approx(
        float(expected.sum()), rel=1e-4
    )


@pytest.mark.parametrize("factor", [0.9, 1.05, 1.3, 2.0])
def test_another_scale_of_a_language_models_scores_does_not_change_the_loss(factor: float) -> None:
    """Few temperatures and parabolas between them changed it by up to 0.02 nats, so that two models
    were compared mostly by where their temperatures fell."""
    generator = torch.Generator().manual_seed(4)
    frequency = -2.5 * torch.arange(1, 4_001).log()
    scores = frequency + 2.5 * torch.randn(1, 600, 4_000, generator=generator)
    labels = torch.multinomial((0.95 * scores[0]).softmax(dim=1), 1, generator=generator)[:, 0]
    labels = torch.cat([torch.zeros(1, dtype=torch.long), labels[:-1]]).unsqueeze(0)
    likelihood = Categorical(shifted=True)
    statistics, weights = likelihood.statistics(factor * scores, labels)
    fitted = likelihood.fitted(statistics, weights)
    found = float(likelihood.losses(statistics, fitted, weights).sum() / weights.sum())
    exact = float(cross_entropy(factor * scores[0, :-1].double() / fitted, labels[0, 1:]))
    best = minimize_scalar(
        lambda log_t: float(cross_entropy(scores[0, :-1].double() / np.exp(log_t), labels[0, 1:])),
        bounds=(-0.7, 1.4),
    )
    assert found == pytest.approx(exact, abs=2e-4)
    assert found == pytest.approx(best.fun, abs=2e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_diverged_has_losses_that_are_no_numbers(
    logits: tuple[torch.Tensor, torch.Tensor], value: float
) -> None:
    scores, labels = logits
    scores[3, 0] = value
    likelihood = Categorical()
    statistics, weights = likelihood.statistics(scores, labels)
    fitted = likelihood.fitted(statistics, weights)
    assert not np.isfinite(float(likelihood.losses(statistics, fitted, weights).sum()))
    outputs = scores[:, :1]
    fitted = Gaussian().fitted(*Gaussian().statistics(outputs, labels))
    assert not np.isfinite(fitted)


@pytest.mark.parametrize("scale", [0.01, 60.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_vocabulary_is_exact_to_float_rounding_whatever_part_is_taken_at_a_time(
    scale: float, dtype: torch.dtype
) -> None:
    """Among them a token far ahead, one that is hardly possible and one that is not; a part ends
    inside of a row."""
    generator = torch.Generator().manual_seed(3)
    scores = (scale * torch.randn(2, 9, 40_000, generator=generator)).to(dtype)
    labels = torch.randint(40_000, (2, 9), generator=generator)
    labels[0, 3] = -100
    scores[0, 0, labels[0, 1]] = 500
    scores[1, 2, labels[1, 3]] = -500
    scores[1, 4, :20_000] = -torch.inf
    labels[1, 5] = 32_000
    kept = scores.clone()
    likelihood = Categorical(shifted=True)
    statistics, weights = likelihood.statistics(scores, labels)
    assert torch.equal(scores, kept)
    assert weights.tolist() == [7, 8]
    for place, temperature in enumerate(likelihood.grid):
        flat = cross_entropy(
            scores[:, :-1].double().flatten(0, 1) / temperature,
            labels[:, 1:].flatten(),
            reduction="none",
        )
        expected = flat.view(2, 8).sum(dim=1)
        torch.testing.assert_close(statistics[:, place].double(), expected, rtol=2e-6, atol=2e-5)


def slopes(
    likelihood: Likelihood, logits: torch.Tensor, labels: torch.Tensor, seed: int
) -> torch.Tensor:
    """The slopes of the drawn scalar with respect to the logits, at a temperature of 1.6."""
    logits = logits.clone().requires_grad_(True)
    drawn = likelihood.drawn_slope(logits, labels, 1.6, torch.Generator().manual_seed(seed))
    return torch.autograd.grad(drawn, logits)[0].double()


def test_the_drawn_slopes_have_the_second_derivative_of_the_loss_as_their_second_moment() -> None:
    """By the formula diag(p) - p p' over T^2; slopes of two labels do not depend on each other."""
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, 3.0]])
    labels = torch.tensor([0, 1])
    draws = 20_000
    likelihood = Categorical()
    rows = slopes(likelihood, logits.repeat(draws, 1), labels.repeat(draws), 0).view(draws, 6)
    found = rows.T @ rows / draws
    expected = torch.zeros(6, 6, dtype=torch.float64)
    for row, scores in enumerate(logits.double()):
        p = (scores / 1.6).softmax(dim=0)
        expected[3 * row : 3 * row + 3, 3 * row : 3 * row + 3] = (
            p.diag() - torch.outer(p, p)
        ) / 1.6**2
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    many = torch.stack(
        [slopes(likelihood, logits, labels, seed).flatten() for seed in range(2_000)]
    )
    torch.testing.assert_close(many.T @ many / 2_000, expected, rtol=0, atol=8e-3)


def test_several_labels_or_numbers_of_a_row_have_the_losses_and_slopes_of_their_formulas() -> None:
    """Labels are drawn by themselves: the second derivative is p (1 - p) / T^2 on a diagonal. Of
    numbers with the variance T it is 1 / T."""
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, 3.0]])
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    p = (logits.double() / 1.6).sigmoid()
    own = p * labels + (1 - p) * (1 - labels)
    square = (logits - labels).double().square()
    normal = square / 3.2 + math.log(2 * math.pi * 1.6) / 2
    cases = ((Binary(), -own.log(), (p * (1 - p)) / 1.6**2), (Gaussian(), normal, 1 / 1.6 + 0 * p))
    for likelihood, losses, second in cases:
        statistics, weights = likelihood.statistics(logits, labels)
        assert weights.tolist() == [3, 3]
        assert torch.equal(likelihood.weights(logits, labels), torch.tensor([3, 3]))
        found = likelihood.losses(statistics, 1.6, weights)
        torch.testing.assert_close(found, losses.sum(dim=1), rtol=1e-4, atol=1e-4)
        assert float(likelihood.loss(logits, labels, 1.6)) == pytest.approx(float(losses.sum()))
        draws = 20_000
        drawn = slopes(likelihood, logits.repeat(draws, 1), labels.repeat(draws, 1), 0)
        rows = drawn.view(draws, 6)
        torch.testing.assert_close(
            rows.T @ rows / draws, second.flatten().diag(), rtol=0, atol=8e-3
        )


def test_drawn_slopes_are_the_same_for_the_same_seed_and_zero_at_tokens_without_a_label() -> None:
    scores = torch.randn(2, 5, 7)
    labels = torch.tensor([[-100, 1, -100, 2, -100], [-100] * 5])
    likelihood = Categorical(shifted=True)
    one, again, other = (slopes(likelihood, scores, labels, seed) for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.ne(0).any(dim=-1).tolist() == [[True, False, True, False, False], [False] * 5]


class Recorded:
    """A likelihood whose temperature is the mean statistic of the rows that chose it, and whose
    loss adds it `times` so often."""

    def __init__(self, times: float = 100.0) -> None:
        self.times = times

    def fitted(self, statistics: torch.Tensor, weights: torch.Tensor) -> float:
        return float(statistics.sum() / weights.sum())

    def losses(
        self, statistics: torch.Tensor, temperature: float, weights: torch.Tensor
    ) -> torch.Tensor:
        return statistics[:, 0] + self.times * temperature


LIKELIHOOD: Any = Recorded()


def column(*values: float) -> torch.Tensor:
    return torch.tensor([[value] for value in values], dtype=torch.float64)


def test_a_fold_never_meets_its_own_temperature() -> None:
    judged = cross_fitted(
        LIKELIHOOD, [column(1, 3, 5, 7, 9)], torch.ones(5).double(), np.array([0, 0, 1, 1, 2])
    )
    of_others = [7, 7, 13 / 3, 13 / 3, 4]
    assert judged.losses.tolist() == pytest.approx(
        [x + 100 * t for x, t in zip((1, 3, 5, 7, 9), of_others, strict=True)]
    )
    alone = cross_fitted(LIKELIHOOD, [column(1, 3)], torch.ones(2).double(), np.array([0, 0]))
    assert alone.losses.tolist() == [201, 203], "of one group there is nothing else to choose by"


def test_a_fold_never_chooses_its_own_candidate() -> None:
    """On each of two folds the candidate is better that is worse on the others."""
    likelihood: Any = Recorded(times=0.0)
    one = column(1, 1, 9, 9, 9)
    other = column(9, 9, 1, 1, 9)
    judged = cross_fitted(
        likelihood, [one, other], torch.ones(5).double(), np.array([0, 0, 1, 1, 2])
    )
    assert judged.losses[:4].tolist() == [9.0] * 4, "by its own choice each loss would be 1"


def test_the_part_that_is_kept_and_its_error_are_those_of_many_samples() -> None:
    generator = np.random.default_rng(0)
    parts = []
    errors = []
    for _ in range(300):
        base = generator.normal(1.0, 0.5, 200)
        gained = generator.normal(0.4, 0.3, 200)
        lost = generator.normal(0.1, 0.2, 200)
        weights = torch.ones(200, dtype=torch.float64)
        whole, head, cut = (
            Judged(torch.from_numpy(losses), weights)
            for losses in (base, base + gained, base + lost)
        )
        part, error = kept(cut, whole, head)
        parts.append(part)
        errors.append(error)
    assert np.mean(parts) == pytest.approx(0.75, abs=0.02)
    assert np.mean(errors) == pytest.approx(np.std(parts), rel=0.15)


def test_the_error_of_the_part_that_is_kept_counts_what_is_not_sure_of_the_gain() -> None:
    """Rows that lose half of what they gain, whatever they gain: the part is surely a half."""
    generator = np.random.default_rng(0)
    weights = torch.ones(50, dtype=torch.float64)
    whole = generator.normal(1.0, 0.1, 50)
    gained = generator.normal(0.4, 0.3, 50)
    of_whole, head, half = (
        Judged(torch.from_numpy(losses), weights)
        for losses in (whole, whole + gained, whole + gained / 2)
    )
    assert kept(half, of_whole, head) == pytest.approx((0.5, 0.0), abs=1e-12)
    assert half.above(of_whole)[1] > 0.01


def test_the_error_of_few_draws_is_that_of_a_sample_of_them_and_a_group_is_one() -> None:
    """Where all draws weigh the same, it is the standard deviation over n - 1, divided by the root
    of n."""
    values = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    weights = torch.full((3,), 2.0, dtype=torch.float64)
    assert float(ratio_error(2 * values, weights)) == pytest.approx(float(values.std()) / 3**0.5)
    rest = np.array([6.0, 12.0]) - np.array([4.0, 2.0]) * 3.0
    together = np.array([0, 0, 1])
    assert float(ratio_error(2 * values, weights, together)) == pytest.approx(
        np.sqrt((rest**2).sum() * 2) / 6
    )
    assert Judged(2 * values, weights).loss == 3.0, "per label, not per row"
    difference = Judged(2 * values, weights, together).above(Judged(0 * values, weights))
    assert difference == pytest.approx((3.0, np.sqrt((rest**2).sum() * 2) / 6))
    assert ratio_error(values[:1], weights[:1]) == float("inf")


def test_held_out_rows_of_one_group_do_not_choose_their_own_temperature() -> None:
    """Even and odd rows were the halves, so that a copy of a text chose the temperature of the
    other copy."""
    groups = np.array([0, 0, 1, 1, 2])
    statistics = column(1, 1, 5, 5, 3)
    judged = calibrated(LIKELIHOOD, statistics, torch.ones(5, dtype=torch.float64), groups)
    assert judged is not None
    of_other = [500, 500, 100 * 5 / 3, 100 * 5 / 3, 500]
    assert judged.losses.tolist() == pytest.approx(
        [a + b for a, b in zip([1, 1, 5, 5, 3], of_other, strict=True)]
    )
    without_label = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    assert calibrated(LIKELIHOOD, statistics, without_label, groups) is None
