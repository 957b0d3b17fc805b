"""How much a search step tells the other processes: the table in docs/machines.md."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from torch import Tensor

from autolora.configs.schema import RunConfig
from autolora.configs.search import COMPARED
from autolora.engine.run.context import Context
from autolora.engine.search.search import build_search
from autolora.problems.machine.processes import Processes

TERMS = 3


@dataclass(frozen=True)
class Counting(Processes):
    """One of two processes whose other half has nothing to add; notes the size of each message."""

    size: int = 2
    sent: list[int] = field(default_factory=list)

    def summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        self.sent.append(sum(t.numel() for t in tensors))
        return list(tensors)

    def same(self, tensors: Sequence[Tensor]) -> None:
        pass

    def wait(self) -> None:
        pass


@pytest.mark.parametrize("method", sorted(COMPARED))
def test_what_a_step_sends(tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], method: str) -> None:
    config = tiny_config("--hypergradient.type", method, dropout=0.0)
    run = run_of(config)
    run.processes = Counting()
    engine = build_search(run, second_order=run.searched.second_order)
    engine.train()
    engine.train_step()
    engine.lora.shared.processes.sent.clear()  # the first step of sama and cg has no history
    engine.train_step()
    n = sum(weight.numel() for weight in engine.lora.trained)
    b = engine.selection.module.beta.numel()
    inner = [n + 1] if method == "first_order" else [n + b + 1]
    outer = [b + 1] if method == "first_order" else [b + n + 1]
    implicit = {
        "first_order": [], "forward_difference": [b + 1], "darts": [b + 1] * 2, "sama": [b + 1] * 2, "exact": [b],
        "exact_adamw": [b], "unrolled": [n + b],
        "neumann": [n] * TERMS + [b], "cg": [n] * TERMS + [b],
    }[method]  # fmt: skip
    sent = engine.lora.shared.processes.sent
    if method == "cg":  # it may stop earlier: where a direction has no positive curvature, or at the solution
        assert (sent[:2], sent[-1]) == (inner + outer, b)
        assert set(sent[2:-1]) <= {n}
        assert len(sent) - 3 <= TERMS
    else:
        assert sent == inner + outer + implicit
