"""Learn the penalties of a ridge regression by one hypergradient approximation, on Betty's Engine."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from betty.configs import EngineConfig
from betty.engine import Engine
from betty.logging import get_logger
from torch import Tensor

from autolora.problems.bilevel import LoraProblem, SelectionProblem, Shared
from autolora.problems.hypergradients import Hypergradient
from autolora.problems.machine.compute import Compute
from benchmarks.bilevel.batches import Batches
from benchmarks.bilevel.ridge import Batch, LogPenalty, Ridge, Weights

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Descent:
    """How beta is learned. `make`: makes the approximation, a new object for each problem. `unroll_steps`: inner steps
    for each outer one. `rates`: the learning rates of w and of beta. `adam`: whether Adam moves w, too, and not plain
    gradient descent; beta is always moved by Adam. `batch_rows`: the rows of D_tr and of D_val that each step draws;
    None: all."""

    make: Callable[[], Hypergradient]
    unroll_steps: int
    rates: tuple[float, float]
    adam: bool = False
    batch_rows: int | None = None


@dataclass(frozen=True)
class Point:
    """An outer step. `passes`: forward and backward passes so far. `cosine`: of the step's outer gradient to the true
    hypergradient at the same beta; NaN if the gradient is zero. `objective`: L_val at w*(beta) after the step."""

    passes: int
    cosine: float
    objective: float


class _Inner(LoraProblem):
    def training_step(self, batch: Batch) -> Tensor:
        loss: Tensor = self.module(batch, self.selection.module())
        return loss


class _Outer(SelectionProblem):
    def training_step(self, batch: Batch) -> Tensor:
        loss: Tensor = self.lora.module(batch, None)
        return loss


def learn(ridge: Ridge, how: Descent, budget: int) -> Iterator[Point]:
    """Takes outer steps until `budget` passes are used, and yields a point after each.

    It stops early if a step was skipped, because its gradient was not finite."""
    engine, inner, outer = _engine(ridge, how)
    engine.train()
    passes = inner.shared.passes
    while passes.forward + passes.backward < budget:
        beta = outer.module.beta.detach().clone()
        for _ in range(how.unroll_steps):
            engine.train_step()
        if outer.skipped or inner.skipped:
            return
        gradient = outer.direct + outer.implicit
        yield Point(
            passes.forward + passes.backward, _cosine(gradient, ridge.hypergradient(beta)),
            float(ridge.objective(outer.module.beta.detach())),
        )  # fmt: skip


def _engine(ridge: Ridge, how: Descent) -> tuple[Engine, _Inner, _Outer]:
    get_logger().setLevel(logging.WARNING)
    inputs = ridge.train["x"].shape[1]
    weights, penalty = Weights(inputs), LogPenalty(inputs)
    shared = Shared(Compute(CPU, bf16=False))
    descent = torch.optim.Adam if how.adam else torch.optim.SGD
    inner = _Inner(
        weights, weights.parameters(), descent(weights.parameters(), lr=how.rates[0]),
        Batches(ridge.train, how.batch_rows, 0), shared, unroll_steps=how.unroll_steps,
    )  # fmt: skip
    outer = _Outer(
        penalty, penalty.parameters(), torch.optim.Adam(penalty.parameters(), lr=how.rates[1]),
        Batches(ridge.validation, how.batch_rows, 1), shared, hypergradient=how.make(),
    )  # fmt: skip
    engine = Engine(
        problems=[outer, inner],
        config=EngineConfig(strategy="cpu"),
        dependencies={"u2l": {outer: [inner]}, "l2u": {inner: [outer]}},
    )
    return engine, inner, outer


def _cosine(one: Tensor, other: Tensor) -> float:
    sizes = float(one.norm()) * float(other.norm())
    return float(one @ other) / sizes if sizes > 0 else float("nan")
