"""Houlsby's bottleneck: what it computes. (That a saved one is the trained model: test_methods.)"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from autolora.engine.retrain.methods.adapter import Bottleneck, insert
from tests.helpers.tiny import LAYERS

WIDTH = 16
NARROW = 3


@pytest.mark.usefixtures("float64")
def test_a_bottleneck_is_the_identity_plus_up_of_gelu_of_down() -> None:
    torch.manual_seed(0)
    inner = Bottleneck(WIDTH, NARROW)
    x = torch.randn(2, 5, WIDTH)
    assert 0 < float((inner(x) - x).detach().abs().max()) < 1e-2, "nearly the identity at the start"
    for linear in (inner.down, inner.up):
        assert float(linear.weight.detach().abs().max()) <= 2e-2
        nn.init.normal_(linear.weight)
        nn.init.normal_(linear.bias)
    hidden = x @ inner.down.weight.T + inner.down.bias
    gelu = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    torch.testing.assert_close(inner(x), x + gelu @ inner.up.weight.T + inner.up.bias)


def test_every_block_computes_through_its_two_bottlenecks(
    model_folder: Callable[..., Path],
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(model_folder("bert", 0.0))
    insert(model, NARROW, ["classifier"])
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(name.endswith("bottleneck.down.weight") for name in trained) == 2 * LAYERS
    ids = torch.tensor([[1, 5, 9, 2]])
    model(input_ids=ids, labels=torch.tensor([1])).loss.backward()
    assert [name for name, p in trained.items() if p.grad is None] == []
