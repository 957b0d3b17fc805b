"""Houlsby's bottleneck: what it computes. (That a saved one is the trained model: test_methods.)"""

import pytest
import torch
from torch import nn

from autolora.problems.models.bottleneck import Bottleneck

WIDTH, NARROW = 16, 3


@pytest.mark.usefixtures("float64")
def test_a_bottleneck_is_the_identity_plus_up_of_gelu_of_down() -> None:
    torch.manual_seed(0)
    inner, x = Bottleneck(WIDTH, NARROW), torch.randn(2, 5, WIDTH)
    assert 0 < float((inner(x) - x).detach().abs().max()) < 1e-2, "nearly the identity at the start"
    for linear in (inner.down, inner.up):
        assert float(linear.weight.detach().abs().max()) <= 2e-2
        nn.init.normal_(linear.weight)
        nn.init.normal_(linear.bias)
    hidden = x @ inner.down.weight.T + inner.down.bias
    gelu = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    torch.testing.assert_close(inner(x), x + gelu @ inner.up.weight.T + inner.up.bias)
