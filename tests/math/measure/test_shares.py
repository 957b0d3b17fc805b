"""Shares: they add up to what was gained along the path, and their errors are those of independent draws."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from autolora.engine.measure.gated import Cut, Gated
from autolora.engine.measure.measure import NODES, Plan, measure
from autolora.engine.measure.passes import Passes
from autolora.engine.measure.shares import Shares
from autolora.problems.machine.processes import Processes
from tests.helpers.branches import gated, gated_with_head, passes_of, planted, train


def fall(found: Gated, passes: Passes, temperature: float, *ends: Cut) -> float:
    """The mean loss under the first cut minus that under the second."""
    statistics, weights = passes.of_cuts(found, passes.rows.folds(1), [[end] for end in ends])
    first, last = (passes.likelihood.losses(at, temperature, weights).mean() for at in statistics)
    return float(first - last)


def shares_of(found: Gated, passes: Passes, temperature: float = 1.0, batch: int = 16, nodes: int = NODES) -> Shares:
    return passes.shares(found, passes.rows.folds(5), temperature, batch, nodes, 20)


@pytest.fixture
def trained() -> tuple[Gated, Passes]:
    """Three branches of which LoRA has learned something, and 200 rows."""
    model, inputs, labels = planted(branches=3, needed=(1,), rows=200, seed=2)
    train(model, inputs, labels, steps=40)
    return gated(model), passes_of(inputs, labels)


def test_shares_add_up_to_the_loss_of_switching_lora_off(trained: tuple[Gated, Passes]) -> None:
    found, passes = trained
    measured = fall(found, passes, 1.7, Cut(found.even(0)), Cut(found.even(4)))
    shares = shares_of(found, passes, 1.7)
    assert measured > 0.05
    assert float(shares.mean().sum()) == pytest.approx(measured, rel=1e-3)
    assert shares.head == 0, "no head moves"


def test_where_a_head_moves_its_share_and_those_of_the_components_add_up_to_the_gain_over_the_head_alone() -> None:
    found, passes = gated_with_head(200)
    measured = fall(found, passes, 2.0, Cut(found.even(0), head=0.0), Cut(found.even(4)))
    shares = shares_of(found, passes, 2.0, nodes=8)
    assert abs(shares.head) > 0.05
    assert shares.total() == pytest.approx(measured, rel=1e-3)


def test_a_share_is_the_slope_of_the_loss_with_the_head_in_between() -> None:
    """One node: the derivative in the middle of the path, against the difference of two losses there."""
    found, passes = gated_with_head(100)
    shares, ends = shares_of(found, passes, nodes=1), []
    for step in (-0.02, 0.02):
        gates = torch.full((3, 4), 0.5)
        gates[1, 0] += step
        ends.append(Cut(gates, head=0.5))
    difference = fall(found, passes, 1.0, *ends)
    assert abs(difference) > 1e-3
    assert float(shares.mean()[1, 0]) == pytest.approx(difference / 0.04, rel=1e-2)


def test_the_batches_change_nothing_but_the_draws(trained: tuple[Gated, Passes]) -> None:
    found, passes = trained
    one, many, rows = (shares_of(found, passes, batch=batch) for batch in (200, 7, 1))
    assert (len(one.weights), len(rows.weights)) == (20, 200)
    for other in (many, rows):
        torch.testing.assert_close(one.mean(), other.mean(), rtol=1e-4, atol=1e-7)
        errors = (shares.by_layer().standard_error() for shares in (one, other))
        torch.testing.assert_close(*errors, rtol=0.5, atol=0)
    assert 0 < float(many.by_layer().standard_error()[1, 0]) < float(many.by_layer().mean()[1, 0])
    of_layers = one.mean().sum(dim=1, keepdim=True)
    torch.testing.assert_close(one.by_layer().mean(), of_layers)
    four, fifth = one.without(3), one.folds == 3
    assert four.sums.shape[0] == 16
    rest = one.mean() * 200 - one.sums[torch.from_numpy(fifth)].sum(dim=0)
    torch.testing.assert_close(four.mean() * 160, rest)


def test_a_group_that_is_larger_than_a_batch_is_one_draw(trained: tuple[Gated, Passes]) -> None:
    found, passes = trained
    groups = np.arange(200) // 8
    grouped = dataclasses.replace(passes, rows=dataclasses.replace(passes.rows, groups=groups))
    shares, by_row = shares_of(found, grouped, batch=3), shares_of(found, passes, batch=1)
    assert shares.weights.tolist() == [8.0] * 25
    torch.testing.assert_close(shares.mean(), by_row.mean(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(shares.sums, by_row.sums.view(25, 8, 3, 4).sum(dim=1), rtol=1e-4, atol=1e-5)


class Half(Processes):
    """One of two processes: `heard` is what the other one has sent."""

    def __init__(self, rank: int, heard: list[torch.Tensor] | None = None) -> None:
        super().__init__(rank, 2)
        object.__setattr__(self, "heard", heard)
        object.__setattr__(self, "sent", [])

    def summed(self, tensors: Any) -> list[torch.Tensor]:
        self.sent.extend(tensor.clone() for tensor in tensors)
        return [a + b for a, b in zip(tensors, self.heard or tensors, strict=True)]


Measure = Callable[[Gated, Passes], list[torch.Tensor]]


def _shares(found: Gated, passes: Passes) -> list[torch.Tensor]:
    shares = shares_of(found, passes, 1.5)
    return [shares.sums, shares.weights, torch.tensor(shares.head)]


def _moments(found: Gated, passes: Passes) -> list[torch.Tensor]:
    return list(vars(passes.moments(found, passes.rows.folds(5), 1.5, 4)).values())


def _statistics(found: Gated, passes: Passes) -> list[torch.Tensor]:
    statistics, weights = passes.of_cuts(found, passes.rows.folds(5), [[Cut(found.even(1))] * 5])
    return [*statistics, weights]


@pytest.mark.parametrize("of", [_shares, _moments, _statistics])
def test_two_processes_together_measure_what_one_does(of: Measure) -> None:
    found, passes = gated_with_head(80)
    first = Half(0)
    of(found, dataclasses.replace(passes, processes=first, batch=5))
    both = of(found, dataclasses.replace(passes, processes=Half(1, first.sent), batch=5))
    for one, other in zip(both, of(found, dataclasses.replace(passes, batch=5)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_no_weight_is_changed_or_left_with_a_gradient_and_dropout_is_off() -> None:
    found, passes = gated_with_head(80)
    model, modes = found.model, set[bool]()
    trained = [p.requires_grad for p in model.parameters()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.register_forward_pre_hook(lambda module, _: modes.add(module.training))
    model.train()
    shares_of(found, passes)
    assert modes == {False}
    assert [p.requires_grad for p in model.parameters()] == trained
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def shares_from(sums: np.ndarray) -> Shares:
    """Shares from draws [draws, layers, k] of one label each."""
    return Shares(torch.from_numpy(sums), torch.ones(len(sums), dtype=torch.float64), np.arange(len(sums)) % 5)


def test_the_error_of_a_part_is_that_of_many_draws() -> None:
    """Rows raise both shares together, so that the error of a share in units of the sum was three times too large."""
    generator = np.random.default_rng(0)
    errors, parts = [], []
    for _ in range(300):
        easy = generator.gamma(1.0, 1.0, (80, 1, 1))  # how much LoRA does for a row, whichever layer
        sums = easy * np.array([3.0, 1.0]).reshape(1, 2, 1) + generator.normal(0, 0.3, (80, 2, 1))
        shares = shares_from(sums)
        errors.append(shares.part_error().flatten().tolist())
        parts.append((sums.sum(axis=0) / sums.sum()).flatten())
    assert np.mean(errors, axis=0) == pytest.approx(np.std(parts, axis=0), rel=0.1)
    whole = float(shares.mean().sum())
    assert float(shares.standard_error()[0]) / whole > 3 * errors[-1][0]
    assert float(shares_from(sums[:, :1]).part_error()) < 1e-12, "the part of a single layer is sure"


def test_the_record_has_the_shares_of_components_and_layers_and_their_errors() -> None:
    """The error of a layer is not the sum of those of its components, which here move against each other."""
    noise = np.random.default_rng(0).normal(0, 1, 40)
    columns = shares_from(np.stack([3 + noise, 1 - noise], axis=1).reshape(40, 1, 2)).columns()
    assert columns["share"].flatten().tolist() == pytest.approx([3 + noise.mean(), 1 - noise.mean()])
    assert columns["share_standard_error"].flatten().tolist() == pytest.approx([noise.std(ddof=1) / 40**0.5] * 2)
    assert columns["layer_share"].tolist() == pytest.approx([4.0])
    assert columns["layer_share_standard_error"].tolist() == pytest.approx([0.0], abs=1e-12)
    assert columns["layer_part_standard_error"].tolist() == pytest.approx([0.0], abs=1e-12)


@pytest.mark.parametrize(("missing", "asked"), [(0.019, [NODES]), (0.021, [NODES, 2 * NODES])])
def test_the_nodes_are_doubled_once_where_the_sum_misses_the_measured_fall(
    trained: tuple[Gated, Passes], missing: float, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, passes = trained
    nodes, extended, exact = list[int](), list[int](), measure(found, passes, Plan()).evidence.fall

    def shares(
        self: Passes, gated: Gated, folds: np.ndarray, temperature: float, batch: int, n: int, _: int
    ) -> Shares:
        nodes.append(n)
        sums = torch.full((20, 3, 4), exact * (1 - missing) / 12, dtype=torch.float64)
        return Shares(sums, torch.ones(20, dtype=torch.float64), np.arange(20) % 5)

    monkeypatch.setattr(Passes, "shares", shares)
    evidence = measure(found, dataclasses.replace(passes, extend=extended.append), Plan()).evidence
    assert nodes == asked
    assert evidence.nodes == asked[-1]
    assert evidence.fall == exact
    assert evidence.share_total == pytest.approx(exact * (1 - missing)), "the miss is recorded"
    assert extended == ([] if len(asked) == 1 else [2 * 2 * NODES * 200])
