"""beta -> alpha -> gates -> LoRA: the start, the three constraints, Eq. 2, and the derivative by
beta."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from autolora.problems.bilevel import SelectionVariables
from autolora.problems.gates import Gates
from autolora.problems.models.attach import ADAPTER, lora_layers

K = 3
INPUTS = 5
OUTPUTS = 4
LORA_ALPHA = 6.0


@pytest.mark.parametrize("k", [1, 3, 7, 8])
@pytest.mark.parametrize(
    ("constraint", "start"), [("softmax", None), ("sigmoid", 0.5), ("none", 1.0)]
)
def test_alpha_starts_uniform_and_the_gate_at_one(
    constraint: Any, start: float | None, k: int
) -> None:
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
    torch.testing.assert_close(
        alpha("softmax"), exponentials / exponentials.sum(dim=1, keepdim=True)
    )
    torch.testing.assert_close(alpha("sigmoid"), 1 / (1 + (-beta).exp()))
    assert torch.equal(alpha("none"), beta)


class Net(nn.Module):
    """Two layers that take LoRA, with something curved between them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        make = nn.Linear if kind == "linear" else lambda i, o: Conv1D(o, i)
        self.first = make(INPUTS, OUTPUTS)
        self.second = make(OUTPUTS, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


def gated(kind: str) -> tuple[Any, Gates]:
    """The net with LoRA whose B is not zero, as after some steps."""
    torch.manual_seed(0)
    net = Net(kind)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    config = LoraConfig(
        r=K,
        lora_alpha=LORA_ALPHA,
        target_modules=["first", "second"],
        fan_in_fan_out=kind == "conv1d",
    )
    model = get_peft_model(net, config)
    for layer in lora_layers(model).values():
        nn.init.normal_(layer.lora_B[ADAPTER].weight)
    return model, Gates(model)


def dense(gates: Gates, name: str, kind: str, values: Tensor) -> Tensor:
    """W + scaling * sum_j gate_j B_j A_j, written out."""
    layer = gates.layers[name]
    weight = layer.get_base_layer().weight
    full = weight.T if kind == "conv1d" else weight
    a = layer.lora_A[ADAPTER].weight
    b = layer.lora_B[ADAPTER].weight
    components = sum(values[j] * torch.outer(b[:, j], a[j]) for j in range(K))
    return full + LORA_ALPHA / K * components


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_the_output_is_equation_2(kind: str) -> None:
    model, gates = gated(kind)
    values = torch.randn(2, K)
    x = torch.randn(7, INPUTS)
    base = model.get_base_model()
    hidden = torch.tanh(
        x @ dense(gates, "first", kind, values[0]).T + base.first.get_base_layer().bias
    )
    expected = (
        hidden @ dense(gates, "second", kind, values[1]).T + base.second.get_base_layer().bias
    )
    with gates.open(values):
        found = model(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_outside_open_and_after_remove_it_is_plain_peft() -> None:
    model, gates = gated("linear")
    x = torch.randn(7, INPUTS)
    plain = model(x)
    with gates.open(torch.ones(2, K)):
        assert torch.equal(model(x), plain)
    with pytest.raises(ZeroDivisionError), gates.open(torch.zeros(2, K)):  # noqa: PT012
        assert not torch.equal(model(x), plain)
        raise ZeroDivisionError
    assert torch.equal(model(x), plain)
    with gates.open(torch.zeros(2, K)):
        shut = model(x)
        with gates.open(torch.ones(2, K)):
            assert torch.equal(model(x), plain)
        assert torch.equal(model(x), shut), "the gates from before are open again"
    gates.remove()
    with gates.open(torch.zeros(2, K)):
        assert torch.equal(model(x), plain)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("scale", ["start", "paper"])
@pytest.mark.parametrize("constraint", ["softmax", "sigmoid", "none"])
def test_the_derivative_by_beta_is_the_numerical_one(constraint: Any, scale: str) -> None:
    model, gates = gated("linear")
    variables = SelectionVariables(2, K, constraint, scale)
    with torch.no_grad():
        variables.beta += torch.randn(2, K)
    x = torch.randn(7, INPUTS)
    target = torch.randn(7, OUTPUTS)

    def loss(beta: Tensor) -> Tensor:
        """Of the gates of beta, a parameter that `variables` has already."""
        with gates.open(variables()):
            return (model(x) - target).square().mean()

    assert torch.autograd.gradcheck(loss, variables.beta, eps=1e-5, atol=1e-8, rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_sizes_are_the_norms_of_the_components_and_counts_those_of_their_numbers() -> None:
    _, gates = gated("conv1d")
    assert gates.k == K
    for row, layer in zip(gates.norms(), gates.layers.values(), strict=True):
        a = layer.lora_A[ADAPTER].weight
        b = layer.lora_B[ADAPTER].weight
        expected = [torch.outer(b[:, j], a[j]).norm().item() for j in range(K)]
        assert row.tolist() == pytest.approx(expected, rel=1e-5)
    assert gates.parameters_per_rank() == {"first": INPUTS + OUTPUTS, "second": OUTPUTS + OUTPUTS}
