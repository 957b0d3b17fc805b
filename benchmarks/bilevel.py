"""What does each hypergradient approximation reach where the answer is known?
`python -m benchmarks.bilevel`

The problem is a ridge regression with a penalty of its own for every weight:

    inner problem: w minimises     |x w - y|^2 / 2n + sum_i c_i w_i^2 / 2  on D_tr
    outer problem: beta minimises  |x w - y|^2 / 2n                        on D_val

The penalties are c = 3 sigmoid(beta). Half of the inputs have nothing to do with y, so that their
penalties should grow; the inputs have different sizes, so that the inner problem is solved slowly
along some of them.

Every approximation learns the penalties with as many passes as the others. The table has the cosine
of its outer gradients to the true hypergradient, and how much of the way from the start to the best
penalties it went. sama and exact_adamw model a step of Adam; they are tried with --inner adam. An
approximation of your own is FILE.py:CLASS.
"""

import argparse
import itertools
import json
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from betty.configs import EngineConfig
from betty.engine import Engine
from betty.logging import get_logger
from scipy.optimize import minimize
from torch import Tensor, nn

from autolora.configs.search import BUILT_IN, COMPARED, OwnHypergradient
from autolora.configs.user_class import is_own
from autolora.problems.batches import Batch
from autolora.problems.bilevel import LoraProblem, SelectionProblem, Shared
from autolora.problems.hypergradients import Hypergradient, approximation
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.draws import seed_of
from benchmarks import options, write

Rows = dict[str, Tensor]

START = -4.0
"""beta at the start, in every direction."""
LARGEST = 3.0
"""The largest penalty: with a larger one, gradient descent on w would need a smaller rate."""
_LIMITS = (-12.0, 12.0)
_NOISE = 0.5
_OF_ADAM = ("sama", "exact_adamw")
OPTIONS: dict[str, Any] = {
    "methods": [name for name in COMPARED if name not in _OF_ADAM],
    "inner": "sgd",
    "unroll_steps": [1, 10],
    "options": "{}",
    "eta": "lr",
    "cg_eta": "100",
    "terms": 10,
    "inner_rate": 0.0,
    "outer_rate": 0.05,
    "passes": 4000,
    "inputs": 20,
    "rows": 40,
    "batch_rows": 0,
    "seeds": 3,
}
"""`options`: arguments of an approximation of your own, as JSON; `cg_eta`: cg's damping is 1 /
eta; `inner_rate` 0: 0.3 with sgd, 0.03 with adam; `batch_rows`: rows that each step draws anew,
0: all."""


class Weights(nn.Module):
    """w, from 0; called with rows and the penalties [inputs] or None, it gives the loss."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(inputs, dtype=torch.float64))

    def forward(self, rows: Rows, penalty: Tensor | None) -> Tensor:
        loss = (rows["x"] @ self.w - rows["y"]).square().mean() / 2
        return loss if penalty is None else loss + (penalty * self.w.square()).sum() / 2


class LogPenalty(nn.Module):
    """beta [inputs]; called without arguments, it gives the penalties."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.full((inputs,), START, dtype=torch.float64))

    def forward(self) -> Tensor:
        return penalties(self.beta)


def penalties(beta: Tensor) -> Tensor:
    """The penalty of each weight [inputs]."""
    return LARGEST * beta.sigmoid()


@dataclass(frozen=True)
class Ridge:
    """The rows of D_tr and D_val, and everything that linear algebra says about the problem."""

    train: Rows
    validation: Rows

    @classmethod
    def drawn(cls, seed: int, inputs: int, rows: int) -> "Ridge":
        """`rows` rows for each of D_tr and D_val; the same for the same seed."""
        draw = torch.Generator().manual_seed(seed)
        sizes = torch.logspace(0, -0.7, inputs, dtype=torch.float64)[
            torch.randperm(inputs, generator=draw)
        ]
        true = torch.randn(inputs, generator=draw, dtype=torch.float64) / sizes
        true[torch.randperm(inputs, generator=draw)[: inputs // 2]] = 0

        def part() -> Rows:
            x = torch.randn(rows, inputs, generator=draw, dtype=torch.float64) * sizes
            return {
                "x": x,
                "y": x @ true + _NOISE * torch.randn(rows, generator=draw, dtype=torch.float64),
            }

        return cls(part(), part())

    @property
    def inputs(self) -> int:
        """The number of weights."""
        return self.train["x"].shape[1]

    def solution(self, beta: Tensor) -> Tensor:
        """w*(beta), the solution of the inner problem [inputs]; differentiable."""
        x = self.train["x"]
        y = self.train["y"]
        return torch.linalg.solve(x.T @ x / len(x) + torch.diag(penalties(beta)), x.T @ y / len(x))

    def objective(self, beta: Tensor) -> Tensor:
        """What the outer problem minimises: L_val at w*(beta). Scalar."""
        return (
            self.validation["x"] @ self.solution(beta) - self.validation["y"]
        ).square().mean() / 2

    def hypergradient(self, beta: Tensor) -> Tensor:
        """d objective / d beta [inputs]: the true hypergradient, which every approximation stands
        for."""
        at = beta.detach().requires_grad_()
        return torch.autograd.grad(self.objective(at), at)[0]

    def at_start(self) -> float:
        """The objective at the first beta."""
        return float(self.objective(torch.full((self.inputs,), START, dtype=torch.float64)))

    def best(self) -> float:
        """The lowest objective that L-BFGS finds from the start with true hypergradients.
        Scalar."""

        def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
            at = torch.from_numpy(beta.copy())
            return float(self.objective(at)), self.hypergradient(at).numpy()

        start = np.full(self.inputs, START)
        bounds = [_LIMITS] * self.inputs
        return float(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).fun)


class Batches:
    """Batches of `size` of the rows, drawn by `seed` without putting back; 0: all rows, each
    time."""

    def __init__(self, rows: Rows, size: int, seed: int) -> None:
        self.rows = rows
        self.size = size
        self.seed = seed

    def __getitem__(self, number: int) -> Batch:
        return self._drawn(seed_of(self.seed, number))

    def drawn(self, *place: int) -> Batch:
        """One more batch."""
        return self._drawn(seed_of(self.seed, "drawn", *place))

    def _drawn(self, seed: int) -> Batch:
        rows = self.rows
        if self.size:
            order = torch.randperm(len(rows["y"]), generator=torch.Generator().manual_seed(seed))[
                : self.size
            ]
            rows = {name: values[order] for name, values in rows.items()}
        return Batch([(rows, 1.0)], seed)


class _Inner(LoraProblem):
    def training_step(self, batch: Rows) -> Tensor:
        loss: Tensor = self.module(batch, self.selection.module())
        return loss


class _Outer(SelectionProblem):
    def training_step(self, batch: Rows) -> Tensor:
        loss: Tensor = self.lora.module(batch, None)
        return loss


def learn(
    ridge: Ridge, made: Hypergradient, unroll_steps: int, asked: argparse.Namespace
) -> Iterator[tuple[float, float]]:
    """Takes outer steps, each after `unroll_steps` inner ones, until the passes are used.

    Yields after each step the cosine of its outer gradient to the true hypergradient at the same
    beta (NaN if the gradient is zero), and L_val at w*(beta); at last NaN for both if a step's
    gradient was not finite."""
    get_logger().setLevel(logging.WARNING)
    weights = Weights(ridge.inputs)
    penalty = LogPenalty(ridge.inputs)
    shared = Shared(Compute(torch.device("cpu"), False))
    adam = asked.inner == "adam"
    descent: Any = torch.optim.Adam if adam else torch.optim.SGD
    inner = _Inner(
        weights,
        weights.parameters(),
        descent(weights.parameters(), lr=asked.inner_rate or (0.03 if adam else 0.3)),
        Batches(ridge.train, asked.batch_rows, 0),
        shared,
        unroll_steps=unroll_steps,
    )
    outer = _Outer(
        penalty,
        penalty.parameters(),
        torch.optim.Adam(penalty.parameters(), lr=asked.outer_rate),
        Batches(ridge.validation, asked.batch_rows, 1),
        shared,
        hypergradient=made,
    )
    engine = Engine(
        problems=[outer, inner],
        config=EngineConfig(strategy="cpu"),
        dependencies={"u2l": {outer: [inner]}, "l2u": {inner: [outer]}},
    )
    engine.train()
    while shared.passes.forward + shared.passes.backward < asked.passes:
        true = ridge.hypergradient(outer.module.beta)
        for _ in range(unroll_steps):
            engine.train_step()
        if outer.skipped or inner.skipped:
            yield math.nan, math.nan
            return
        gradient = outer.direct + outer.implicit
        sizes = float(gradient.norm() * true.norm())
        cosine = float(gradient @ true) / sizes if sizes > 0 else math.nan
        yield cosine, float(ridge.objective(outer.module.beta.detach()))


def approximation_of(name: str, asked: argparse.Namespace) -> Hypergradient:
    """The approximation of this name, a new object. Raises UserError for a file or a class that
    there is not."""
    if is_own(name):
        return approximation(OwnHypergradient(type=name, options=json.loads(asked.options)))
    given = {"eta": asked.cg_eta if name == "cg" else asked.eta, "terms": asked.terms}
    kind = BUILT_IN[name]
    return approximation(
        kind.model_validate({key: one for key, one in given.items() if key in kind.model_fields})
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Tries every approximation on every problem, prints a line for each, and writes the
    numbers."""
    asked = options(__doc__, OPTIONS, argv)
    if asked.inner == "adam" and asked.methods == OPTIONS["methods"]:
        asked.methods = COMPARED
    problems = [Ridge.drawn(seed, asked.inputs, asked.rows) for seed in range(asked.seeds)]
    ways = [(ridge.at_start(), ridge.at_start() - ridge.best()) for ridge in problems]
    rows = []
    print(f"{asked.passes:,} passes each; mean over {asked.seeds} problems")
    for unroll, name in itertools.product(asked.unroll_steps, asked.methods):
        runs = [
            list(learn(ridge, approximation_of(name, asked), unroll, asked)) for ridge in problems
        ]
        cosine = pd.Series([pd.Series([one for one, _ in run]).mean() for run in runs])
        closed = pd.Series(
            [
                (start - run[-1][1]) / way if run else math.nan
                for run, (start, way) in zip(runs, ways, strict=True)
            ]
        )
        rows.append(
            {
                "method": name,
                "unroll_steps": unroll,
                "cosine": cosine.tolist(),
                "closed": closed.tolist(),
            }
        )
        print(
            f"{name:20} {unroll:3} inner steps: cosine to the truth {cosine.mean():.2f}, "
            f"part of the way {closed.mean(skipna=False):.2f}"
        )
    write(asked.json, {"rows": rows}, asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
