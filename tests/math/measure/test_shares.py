"""Shares: they add up to what was gained along the path, and their errors are those of independent draws."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from autolora.engine.measure.passes import LEAST_BATCHES, Sample
from autolora.engine.measure.shares import NODES, Division, Shares, allowed_gap, complete, integrate, ratio_error
from autolora.problems.gates import NotByRow
from autolora.problems.machine.processes import Processes
from autolora.problems.models.attach import ADAPTER
from tests.helpers.branches import planted, sample_of, searched, searched_with_head, train


def test_shares_add_up_to_the_loss_of_switching_lora_off() -> None:
    model, inputs, labels = planted(branches=4, needed=(1,), rows=400, seed=0)
    train(model, inputs, labels, steps=60)
    found, sample = searched(model), sample_of(inputs, labels)
    ends = sample.statistics(model, [found.cut(found.all() & False), found.cut(found.all())])[0]
    measured = gain_of(sample, ends, 1.7)
    shares = integrate(found, 1.7, sample, 16)
    assert measured > 0.05
    assert float(shares.mean().sum()) == pytest.approx(measured, rel=0.01)
    assert shares.head == 0, "no head moves"


def gain_of(sample: Sample, statistics: Iterable[torch.Tensor], temperature: float) -> float:
    """The mean loss by the first statistics minus that by the second."""
    weights = torch.ones(len(sample.rows), dtype=torch.float64)
    first, last = (sample.likelihood.losses(at, temperature, weights).mean() for at in statistics)
    return float(first - last)


@pytest.mark.parametrize("mixed", [False, True])
def test_where_a_head_moves_its_share_and_those_of_the_components_add_up_to_the_gain_over_the_head_alone(
    mixed: bool,
) -> None:
    found, sample = searched_with_head(200)
    ends = [found.cut(found.all() & False, head=0.0), found.cut(found.all())]
    measured = gain_of(sample, sample.statistics(found.model, ends)[0], 2.0)
    if mixed:
        mix_rows(found.model)
    shares = integrate(found, 2.0, sample, 16, nodes=8)
    assert abs(shares.head) > 0.05
    assert shares.total() == pytest.approx(measured, rel=1e-3)
    for part in (shares.by_layer(), *shares.halves()):
        assert not hasattr(part, "total"), "without the head's share the sum would be another one, 6.0 instead of 6.7"


def test_a_share_is_the_slope_of_the_loss_with_the_head_in_between() -> None:
    """One node: the derivative in the middle of the path, against the difference of two losses there."""
    found, sample = searched_with_head(100)
    shares, losses = integrate(found, 1.0, sample, 100, nodes=1), []
    for step in (-0.02, 0.02):
        gates = torch.full((3, 4), 0.5)
        gates[1, 0] += step
        statistics, weights = sample.statistics(found.model, [found.cut(gates, head=0.5)])
        losses.append(float(sample.likelihood.losses(statistics[0], 1.0, weights).mean()))
    assert abs(losses[0] - losses[1]) > 1e-3
    assert float(shares.mean()[1, 0]) == pytest.approx((losses[0] - losses[1]) / 0.04, rel=1e-2)


def test_of_a_loss_quadratic_in_the_gates_each_share_is_the_derivative_in_the_middle() -> None:
    """Where the loss is quadratic in the gates, its partial derivatives along the line are linear in t."""
    model, inputs, labels = planted(branches=3, needed=(0, 2), rows=80, seed=1)
    train(model, inputs, labels, steps=20)
    found = searched(model)

    class Quadratic:
        """loss = sum of (logits - label)^2 / temperature."""

        def labelled_positions(self, labels: torch.Tensor) -> None:
            return None

        def statistics(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return logits[:, :1], torch.ones(len(labels))

        def weights(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(labels))

        def loss(self, logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
            return (logits - labels.unsqueeze(1)).square().sum() / temperature

    sample = sample_of(inputs, labels, likelihood=Quadratic())
    shares = integrate(found, 2.0, sample, 80)

    def loss_at(gates: torch.Tensor) -> float:
        with found.gates.open(gates.float()), torch.no_grad():
            logits = model(x=inputs).logits
        return float((logits - labels.unsqueeze(1)).double().square().sum() / 2.0) / len(labels)

    step = 1e-2
    for layer, component in ((0, 0), (2, 0), (1, 1)):
        up, down = (torch.full((3, 4), 0.5) for _ in range(2))
        up[layer, component] += step
        down[layer, component] -= step
        expected = -(loss_at(up) - loss_at(down)) / (2 * step)
        assert float(shares.mean()[layer, component]) == pytest.approx(expected, abs=2e-3)
    assert float(shares.mean().sum()) == pytest.approx(
        loss_at(torch.zeros(3, 4)) - loss_at(torch.ones(3, 4)), rel=1e-4
    )


def test_the_batches_change_nothing() -> None:
    model, inputs, labels = planted(branches=3, needed=(1,), rows=200, seed=2)
    train(model, inputs, labels, steps=40)
    found, sample = searched(model), sample_of(inputs, labels)
    one = integrate(found, 1.0, sample, 200)
    many = integrate(found, 1.0, sample, 7)
    assert torch.allclose(one.mean(), many.mean(), atol=1e-6)
    assert torch.allclose(one.standard_error(), many.standard_error(), atol=1e-6)
    assert 0 < float(many.by_layer().standard_error()[1, 0]) < float(many.by_layer().mean()[1, 0])
    first, second = one.halves()
    assert torch.allclose((first.mean() + second.mean()) / 2, one.mean(), atol=1e-9)


def mix_rows(model: Any) -> None:
    """As experts do: layers get one list of the tokens of all rows."""
    for layer in model.get_base_model().branch:
        layer.lora_A[ADAPTER].register_forward_pre_hook(lambda module, args: (args[0].repeat(2, 1),))
        layer.lora_A[ADAPTER].register_forward_hook(lambda module, args, output: output[: len(output) // 2])


@pytest.mark.parametrize("sources", [50, 1])
def test_batches_of_one_source_are_one_draw(sources: int) -> None:
    """Each source has more rows than a batch; as draws of their own, the batches would look surer than they are."""
    model, inputs, labels = planted(branches=2, needed=(1,), rows=50, seed=2)
    train(model, inputs, labels, steps=40)
    inputs, labels = inputs.repeat_interleave(8, dim=0), labels.repeat_interleave(8, dim=0)
    found, sample = searched(model), sample_of(inputs, labels)
    rows = sample.rows.add_column("source", [f"record {number // (400 // sources)}" for number in range(400)])
    sample = dataclasses.replace(sample, rows=rows)
    by_row = integrate(found, 1.0, sample, 4)
    mix_rows(model)
    mixed = integrate(found, 1.0, sample, 4)
    assert len(mixed.weights) == (50 if sources == 50 else 100), "with a single source, each batch is a draw"
    assert torch.allclose(mixed.mean(), by_row.mean(), atol=1e-6)
    if sources == 50:
        assert torch.allclose(mixed.standard_error(), by_row.standard_error(), atol=1e-6)


def test_a_model_that_mixes_its_rows_is_integrated_by_random_batches() -> None:
    model, inputs, labels = planted(branches=3, needed=(1,), rows=200, seed=2)
    train(model, inputs, labels, steps=40)
    found, sample = searched(model), sample_of(inputs, labels)
    by_row = integrate(found, 1.0, sample, 16)
    mix_rows(model)
    with pytest.raises(NotByRow), found.gates.open(torch.ones(4, 3, 4)):
        model(x=inputs[:4])
    mixed = integrate(found, 1.0, sample, 16)
    assert len(mixed.weights) >= LEAST_BATCHES
    assert len(by_row.weights) == 200
    assert torch.allclose(mixed.mean(), by_row.mean(), atol=1e-6)
    assert torch.allclose(mixed.by_layer().standard_error(), by_row.by_layer().standard_error(), rtol=0.5)
    assert int(mixed.first.sum()) == len(mixed.first) // 2
    for one, other in zip(mixed.halves(), by_row.halves(), strict=True):  # each half measures what the other chose
        assert torch.allclose(one.mean(), other.mean(), atol=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_shares_of_two_processes_are_those_of_all_rows(mixed: bool) -> None:
    class Half(Processes):
        """One of two processes: `heard` is what the other one has sent."""

        def __init__(self, rank: int, heard: list[torch.Tensor] | None = None) -> None:
            super().__init__(rank, 2)
            object.__setattr__(self, "heard", heard)
            object.__setattr__(self, "sent", [])

        def summed(self, tensors: Any) -> list[torch.Tensor]:
            self.sent.extend(tensor.clone() for tensor in tensors)
            return [a + b for a, b in zip(tensors, self.heard or tensors, strict=True)]

        def largest(self, number: int) -> int:
            return number

    found, sample = searched_with_head(80)
    if mixed:
        mix_rows(found.model)
    first = Half(0)
    integrate(found, 1.5, dataclasses.replace(sample, processes=first), 16)
    both = integrate(found, 1.5, dataclasses.replace(sample, processes=Half(1, first.sent)), 16)
    alone = integrate(found, 1.5, sample, 16)
    for one, other in zip((both.sums, both.weights), (alone.sums, alone.weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert both.head == pytest.approx(alone.head, rel=1e-5)


def test_no_weight_is_changed_or_left_with_a_gradient() -> None:
    found, sample = searched_with_head(80)
    model = found.model
    trained = [p.requires_grad for p in model.parameters()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    integrate(found, 1.5, sample, 16)
    assert [p.requires_grad for p in model.parameters()] == trained
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_dropout_is_off() -> None:
    found, sample = searched_with_head(80)
    modes: set[bool] = set()
    found.model.register_forward_pre_hook(lambda module, _: modes.add(module.training))
    found.model.train()
    integrate(found, 1.5, sample, 16)
    assert modes == {False}


def test_the_error_of_a_quotient_is_that_of_many_draws() -> None:
    generator = np.random.default_rng(0)
    errors, means = [], []
    for _ in range(400):
        weights = generator.integers(1, 9, 60).astype(float)
        sums = weights * 0.3 + generator.normal(0, 1, 60) * np.sqrt(weights)
        errors.append(float(ratio_error(torch.from_numpy(sums), torch.from_numpy(weights))))
        means.append(sums.sum() / weights.sum())
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)


def test_the_error_of_a_part_is_that_of_many_draws() -> None:
    """Rows raise both shares together, so that the error of a share in units of the sum was three times too large."""
    generator = np.random.default_rng(0)
    errors, parts = [], []
    for _ in range(300):
        easy = generator.gamma(1.0, 1.0, (80, 1, 1))  # how much LoRA does for a row, whichever layer
        sums = easy * np.array([3.0, 1.0]).reshape(1, 2, 1) + generator.normal(0, 0.3, (80, 2, 1))
        shares = Shares(torch.from_numpy(sums), torch.ones(80, dtype=torch.float64), torch.ones(80, dtype=torch.bool))
        errors.append(shares.part_error().flatten().tolist())
        parts.append((sums.sum(axis=0) / sums.sum()).flatten())
    assert np.mean(errors, axis=0) == pytest.approx(np.std(parts, axis=0), rel=0.1)
    whole = float(shares.mean().sum())
    assert float(shares.standard_error()[0]) / whole > 3 * errors[-1][0]


def test_the_part_of_a_single_layer_is_sure() -> None:
    """It was told as 100 % +- 40."""
    sums = torch.rand(50, 1, 1, dtype=torch.float64)
    shares = Shares(sums, torch.ones(50, dtype=torch.float64), torch.ones(50, dtype=torch.bool))
    assert float(shares.part_error()) < 1e-12


def test_the_error_of_few_draws_is_that_of_a_sample_of_them() -> None:
    """Where all draws weigh the same, it is the standard deviation over n - 1, divided by the root of n."""
    values = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    weights = torch.full((3,), 2.0, dtype=torch.float64)
    assert float(ratio_error(2 * values, weights)) == pytest.approx(float(values.std()) / 3**0.5)
    together = ratio_error(2 * values, weights, np.array([0, 0, 1]))
    sums, counts = np.array([6.0, 12.0]), np.array([4.0, 2.0])
    rest = sums - counts * 3.0
    assert float(together) == pytest.approx(np.sqrt((rest**2).sum() * 2) / 6)
    alone = ratio_error(2 * values, weights, np.zeros(3, dtype=int))
    assert float(alone) == float(ratio_error(2 * values, weights)), "of one source, each row counts as a draw"
    assert ratio_error(values[:1], weights[:1]) == float("inf")


def test_the_nodes_are_doubled_where_the_sum_misses_the_measured_loss() -> None:
    asked: list[int] = []

    def by_nodes(nodes: int) -> Division:
        asked.append(nodes)
        each = torch.full((2, 1, 1), 0.97 if nodes == NODES else 1.0)
        return Division(each, torch.ones(2), torch.tensor([True, False]), head=0.0)

    in_fp32, in_bf16 = (allowed_gap(rounds=rounds) for rounds in (False, True))
    assert complete(by_nodes, 0.96, in_fp32)[1] == NODES
    assert asked == [NODES]
    assert complete(by_nodes, 1.0, in_fp32)[1] == 2 * NODES
    assert asked[1:] == [NODES, 2 * NODES]
    assert complete(by_nodes, 1.0, in_bf16)[1] == NODES
