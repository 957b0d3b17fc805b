"""The inner and the outer problem: what is remembered of a step, and what is reported."""

import math
from functools import partial
from typing import Any

import pytest
import torch

from autolora.problems.hypergradients import HYPERGRADIENTS
from autolora.problems.machine.processes import Processes
from tests.helpers.bilevel_toys import METHODS, Toy, copies, cosine, equal, lora_toy, unrolled

pytestmark = pytest.mark.usefixtures("float64")

READS_WEIGHTS = [name for name in METHODS if HYPERGRADIENTS[name].reads_weights_before]


@pytest.mark.parametrize(("eta", "value"), [(0.25, 0.25), ("betty", 1.0), ("lr", 0.3)])
def test_eta(eta: Any, value: float) -> None:
    """`lr` is the rate of the step that was taken; when the hypergradient asks, the scheduler has moved on."""
    rates = [0.1, 0.2, 0.3, 0.4]
    toy = lora_toy(
        eta=eta,
        rate=1.0,
        steps=3,
        scheduler=partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: rates[step]),
    )
    assert toy.inner.optimizer.param_groups[0]["lr"] == 0.4
    assert toy.inner.eta() == value
    assert cosine(toy.outer.implicit, unrolled(toy, value)[1]) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("method", READS_WEIGHTS)
def test_remembers_the_weights_of_before_the_step(method: str) -> None:
    toy = lora_toy(method, optimizer=torch.optim.AdamW, steps=3)
    assert equal(toy.inner.weights_before, toy.before)


def test_weights_come_back_bit_for_bit_even_after_an_error() -> None:
    toy = lora_toy()
    before = copies(toy.inner.trained)
    with pytest.raises(KeyboardInterrupt), toy.inner.at([1e30 * p for p in before]):
        raise KeyboardInterrupt
    assert equal(before, copies(toy.inner.trained))


def test_the_inner_backward_gives_the_beta_gradient_for_nothing() -> None:
    toy = lora_toy("forward_difference", dropout=0.5)
    with torch.no_grad():
        toy.outer.module.beta.copy_(toy.outer.beta_before)
    with toy.inner.at(toy.before):
        expected = torch.autograd.grad(next(toy.inner.losses_again()), toy.outer.trained)
    assert torch.allclose(toy.inner.beta_gradient[0], expected[0], rtol=1e-12, atol=1e-16)
    assert toy.outer.module.beta.grad is None


@pytest.mark.parametrize("method", METHODS)
def test_the_inner_step_is_the_same_whatever_reads_it(method: str) -> None:
    """What a hypergradient wants to know of the inner step must not change the step."""
    step = {"dropout": 0.1, "optimizer": torch.optim.AdamW, "steps": 1}
    assert equal(lora_toy(method, **step).after, lora_toy("first_order", **step).after)


@pytest.mark.parametrize("fused", [True, False])
def test_a_skipped_step_leaves_the_gradient_that_adams_moments_hold(fused: bool) -> None:
    """An approximation of one's own is asked after such a step, too, and may carry what it reads for good."""
    toy = lora_toy("exact_adamw", optimizer=partial(torch.optim.AdamW, fused=fused), rate=0.01)
    states = [toy.inner.optimizer.state[weight] for weight in toy.inner.trained]
    before, right = copies(state["last_grad"] for state in states), toy.inner.training_step
    toy.inner.training_step = lambda batch: right(batch) * math.nan
    toy.step()
    assert toy.inner.skipped
    assert equal(before, [state["last_grad"] for state in states])


def with_terms(toy: Toy, direct: list[float], implicit: list[float]) -> dict[str, float]:
    toy.outer.direct, toy.outer.implicit = torch.tensor(direct), torch.tensor(implicit)
    return toy.outer.diagnostics()


class TestDiagnostics:
    @pytest.mark.parametrize(
        ("direct", "implicit", "ratio", "angle"),
        [
            ([3.0, 4.0], [3.0, 4.0], 1.0, 1.0),
            ([3.0, 4.0], [-6.0, -8.0], 2.0, -1.0),
            ([3.0, 4.0], [4.0, -3.0], 1.0, 0.0),
            ([3.0, 4.0], [0.0, 0.0], 0.0, 0.0),
            ([0.0, 0.0], [3.0, 4.0], None, 0.0),  # B = 0: the implicit term is all there is, not nothing
            ([0.0, 0.0], [0.0, 0.0], 0.0, 0.0),
            ([1e-30, 0.0], [1e-30, 1e-30], 2**0.5, 0.5**0.5),  # their product is no fp32 number
            ([math.nan, 4.0], [3.0, 4.0], None, None),
            ([3.0, 4.0], [math.inf, 4.0], None, None),  # such as the sum of a Neumann series that diverges
        ],
    )
    def test_values(
        self, direct: list[float], implicit: list[float], ratio: float | None, angle: float | None
    ) -> None:
        found = with_terms(lora_toy(steps=0), direct, implicit)
        assert found["cosine"] == (None if angle is None else pytest.approx(angle))
        assert found["implicit_to_direct"] == (None if ratio is None else pytest.approx(ratio))

    def test_of_a_step(self) -> None:
        toy = lora_toy("exact", eta=0.1)
        direct, implicit = unrolled(toy, 0.1)
        expected = {"implicit_to_direct": float(implicit.norm() / direct.norm()), "cosine": cosine(direct, implicit)}
        assert toy.outer.diagnostics() == pytest.approx(expected)

    def test_before_the_first_outer_step(self) -> None:
        """A line of the log can come before it when unroll_steps is long."""
        toy = lora_toy(steps=1, unroll_steps=2)
        assert toy.outer.diagnostics() == {"implicit_to_direct": None, "cosine": None}


class Second(Processes):
    """The second of two processes: `heard` is what the first one has sent."""

    def __init__(self, heard: list[torch.Tensor] | None = None) -> None:
        super().__init__(1, 2)
        object.__setattr__(self, "heard", heard)
        object.__setattr__(self, "sent", [])

    def summed(self, tensors: Any) -> list[torch.Tensor]:
        self.sent.extend(copies(tensors))
        return [a + b for a, b in zip(tensors, self.heard or tensors, strict=True)]


def test_a_weight_that_some_processes_do_not_use_gets_its_own_gradient() -> None:
    """With layerdrop each process drops other layers. The gradients of these layers were mixed up."""
    toy = lora_toy("first_order")
    a, b, c, d = toy.inner.trained

    def gradients(used: dict[torch.Tensor, float], processes: Processes) -> None:
        toy.inner.processes = processes
        for weight in toy.inner.trained:
            weight.grad = None
        toy.inner.backward(sum(by * weight.sum() for weight, by in used.items()), toy.inner.trained, None)

    first = Second()
    gradients({a: 1.0, b: 10.0}, first)
    gradients({b: 20.0, c: 300.0}, Second(first.sent))
    for weight, value in ((a, 1.0), (b, 30.0), (c, 300.0)):
        assert torch.equal(weight.grad, torch.full_like(weight, value))
    assert d.grad is None, "a weight that no process uses is not moved, not even by weight decay"
