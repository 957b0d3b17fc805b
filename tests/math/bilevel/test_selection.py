"""beta -> alpha -> gates: the start, the three constraints, and the direct gradient of the outer loss."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autolora.problems.bilevel import SelectionProblem, SelectionVariables


@pytest.mark.parametrize("k", [1, 3, 7, 8])
@pytest.mark.parametrize(("constraint", "start"), [("softmax", None), ("sigmoid", 0.5), ("none", 1.0)])
def test_alpha_starts_uniform_and_the_gate_at_one(constraint: Any, start: float | None, k: int) -> None:
    variables = SelectionVariables(4, k, constraint)
    alpha = variables.alpha()
    assert alpha.shape == (4, k)
    torch.testing.assert_close(alpha, torch.full((4, k), start or 1 / k))
    assert alpha.unique().numel() == 1
    torch.testing.assert_close(variables(), torch.ones(4, k), rtol=3e-7, atol=0)
    assert torch.equal(SelectionVariables(4, k, constraint, "paper")(), alpha)


def test_the_constraints_are_those_of_the_paper() -> None:
    beta = torch.tensor([[0.0, 1.0, -2.0], [3.0, 3.0, 0.5]])

    def alpha(constraint: Any) -> torch.Tensor:
        variables = SelectionVariables(2, 3, constraint)
        variables.beta.data.copy_(beta)
        return variables.alpha()

    exponentials = beta.exp()
    torch.testing.assert_close(alpha("softmax"), exponentials / exponentials.sum(dim=1, keepdim=True))
    torch.testing.assert_close(alpha("sigmoid"), 1 / (1 + (-beta).exp()))
    assert torch.equal(alpha("none"), beta)


@pytest.mark.usefixtures("float64")
def test_the_outer_loss_is_that_of_the_batch_at_the_gates_of_beta_and_has_a_direct_gradient() -> None:
    """At the uniform start of softmax, where a gate is k alpha, it is that of the gates less its mean in the layer."""
    variables, by = SelectionVariables(2, 3), torch.tensor([[1.0, 2.0, 6.0], [0.0, -3.0, 0.0]])
    problem: Any = SimpleNamespace(lora=SimpleNamespace(training_step=lambda batch: (batch["by"] * variables()).sum()))
    loss = SelectionProblem.training_step(problem, {"by": by})
    assert loss.item() == pytest.approx(by.sum().item())
    (found,) = torch.autograd.grad(loss, variables.beta)
    torch.testing.assert_close(found, by - by.mean(dim=1, keepdim=True))
