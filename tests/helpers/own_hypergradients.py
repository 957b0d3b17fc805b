"""Approximations of a user's own, for tests that name this file in hypergradient.type."""

from typing import Any

import torch
from torch import Tensor

from autolora.problems.hypergradients import Hypergradient, Inner, Outer, Tensors
from autolora.problems.hypergradients.difference import CentralDifference


class Carrying(CentralDifference):
    """A running mean of the central difference. It fails at call number `fails_at`."""

    def __init__(self, keeps: float = 0.5, fails_at: int = 0) -> None:
        self.keeps = keeps
        self.fails_at = fails_at
        self.calls = 0
        self.mean: list[Tensor] | None = None

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        self.calls += 1
        if self.calls == self.fails_at:
            raise ValueError("it is time")
        found = super().implicit(vector, inner, outer)
        if self.mean is not None:
            found = [self.keeps * m + (1 - self.keeps) * f for m, f in zip(self.mean, found, strict=True)]
        self.mean = found
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls, "mean": self.mean}

    def load_state_dict(self, state: Any) -> None:
        self.calls, self.mean = state["calls"], state["mean"]


class Drawing(CentralDifference):
    """The central difference times random numbers between 0 and 2, plus both losses' gradients over beta on two
    further batches each."""

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        found = [2 * torch.rand_like(f) * f for f in super().implicit(vector, inner, outer)]
        for problem in (inner, outer, inner, outer):
            more = problem.gradient(problem.losses_of(problem.draw()), outer.trainable_parameters())
            found = [f + m for f, m in zip(found, more, strict=True)]
        return found


class Endless(Hypergradient):
    """Its term is `size` everywhere."""

    reads_vector = False

    def __init__(self, size: float = float("inf")) -> None:
        self.size = size

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        return [torch.full_like(b, self.size) for b in outer.trainable_parameters()]
