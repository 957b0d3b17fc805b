"""Ridge regression with a penalty of its own for every weight: a bilevel problem whose solution is known.

Inner problem: w minimises |x w - y|^2 / 2n + sum_i c_i w_i^2 / 2 on D_tr, with the penalties c = 3 sigmoid(beta).
Outer problem: beta minimises |x w - y|^2 / 2n on D_val. Half of the inputs have nothing to do with y, so that their
penalties should grow. The inputs have different sizes, so that the inner problem is solved slowly along some of them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

Batch = dict[str, Tensor]

START = -4.0
"""beta at the start, in every direction."""
LARGEST = 3.0
"""The largest penalty: with a larger one, gradient descent on w would need a smaller rate."""
_LIMITS = (-12.0, 12.0)
_NOISE = 0.5


class Weights(nn.Module):
    """w, from 0; called with a batch and the penalties [inputs] or None, it gives the loss."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(inputs, dtype=torch.float64))

    def forward(self, batch: Batch, penalty: Tensor | None) -> Tensor:
        loss = (batch["x"] @ self.w - batch["y"]).square().mean() / 2
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

    train: Batch
    validation: Batch

    @classmethod
    def drawn(cls, seed: int, inputs: int, rows: int) -> "Ridge":
        """`rows` rows for each of D_tr and D_val; the same for the same seed."""
        draw = torch.Generator().manual_seed(seed)
        sizes = torch.logspace(0, -0.7, inputs, dtype=torch.float64)[torch.randperm(inputs, generator=draw)]
        true = torch.randn(inputs, generator=draw, dtype=torch.float64) / sizes
        true[torch.randperm(inputs, generator=draw)[: inputs // 2]] = 0

        def part() -> Batch:
            x = torch.randn(rows, inputs, generator=draw, dtype=torch.float64) * sizes
            return {"x": x, "y": x @ true + _NOISE * torch.randn(rows, generator=draw, dtype=torch.float64)}

        return cls(part(), part())

    def solution(self, beta: Tensor) -> Tensor:
        """w*(beta), the solution of the inner problem [inputs]; differentiable."""
        x, y = self.train["x"], self.train["y"]
        return torch.linalg.solve(x.T @ x / len(x) + torch.diag(penalties(beta)), x.T @ y / len(x))

    def objective(self, beta: Tensor) -> Tensor:
        """What the outer problem minimises: L_val at w*(beta). Scalar."""
        return (self.validation["x"] @ self.solution(beta) - self.validation["y"]).square().mean() / 2

    def hypergradient(self, beta: Tensor) -> Tensor:
        """d objective / d beta [inputs]: the true hypergradient, which every approximation stands for."""
        at = beta.detach().requires_grad_()
        return torch.autograd.grad(self.objective(at), at)[0]

    def at_start(self) -> float:
        """The objective at the first beta."""
        return float(self.objective(torch.full((self.train["x"].shape[1],), START, dtype=torch.float64)))

    def best(self) -> float:
        """The lowest objective that L-BFGS finds from the start with true hypergradients. Scalar."""

        def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
            at = torch.from_numpy(beta.copy())
            return float(self.objective(at)), self.hypergradient(at).numpy()

        inputs = self.train["x"].shape[1]
        found = minimize(loss, np.full(inputs, START), jac=True, method="L-BFGS-B", bounds=[_LIMITS] * inputs)
        return float(found.fun)
