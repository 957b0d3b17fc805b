"""Approximations of a user's own, for tests that name this file in hypergradient.type."""

from typing import Any

import numpy as np
import torch

from autolora.configs import search
from autolora.problems.hypergradients import Darts, State


class Carrying(Darts):
    """A running mean of the central difference. It fails at call number `fails_at`."""

    def __init__(self, keeps: float = 0.5, fails_at: int = 0) -> None:
        super().__init__(search.Darts())
        self.keeps = keeps
        self.fails_at = fails_at

    def start(self, inner: Any) -> State:
        return {"calls": 0, "mean": None}

    def term(self, state: State, v: Any, inner: Any, outer: Any) -> Any:
        calls = state["calls"] + 1
        mean = state["mean"]
        if calls == self.fails_at:
            raise ValueError("it is time")
        found, _ = super().term({}, v, inner, outer)
        if mean is not None:
            found = [
                self.keeps * m + (1 - self.keeps) * f for m, f in zip(mean, found, strict=True)
            ]
        return found, {"calls": calls, "mean": found}


class Drawing(Darts):
    """The central difference times random numbers of torch and of numpy between 0 and 2, plus both
    losses' gradients over beta on two further batches each."""

    def __init__(self) -> None:
        super().__init__(search.Darts())

    def term(self, state: State, v: Any, inner: Any, outer: Any) -> Any:
        found = [
            4 * np.random.rand() * torch.rand_like(f) * f
            for f in super().term(state, v, inner, outer)[0]
        ]
        for problem in (inner, outer, inner, outer):
            more = problem.gradient(problem.draw(), outer.trained)
            found = [f + m for f, m in zip(found, more, strict=True)]
        return found, state
