"""A model's snapshot puts everything back, and adapters come off without a change of their weights."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from autolora.problems.models.bare import Snapshot, take_adapters_off
from tests.helpers.untouched import left_as_it_was


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_what_a_search_does_to_a_model_is_undone() -> None:
    model = small()
    model(torch.randn(8, 4)).sum().backward()
    with left_as_it_was(model):
        snapshot = Snapshot(model, ["2"])
        model.zero_grad()
        found: Any = get_peft_model(model, LoraConfig(target_modules=["0"], modules_to_save=["2"]))
        found.register_forward_hook(lambda *_: None)
        model[0].register_forward_hook(lambda *_: None)
        found.train()(torch.randn(8, 4)).sum().backward()
        with torch.no_grad():
            model[2].original_module.weight.add_(1)
        model.to(torch.float64).eval()
        snapshot.restore()


def test_a_hook_can_still_be_removed_by_its_handle() -> None:
    model = small()
    handle = model[0].register_forward_hook(lambda *_: None)
    snapshot = Snapshot(model)
    model[0].register_forward_hook(lambda *_: None)
    snapshot.restore()
    handle.remove()
    assert not model[0]._forward_hooks


def test_adapters_come_off_and_go_on_again() -> None:
    model = small()
    inputs = torch.randn(8, 4)
    plain = model.eval()(inputs)
    adapted: Any = get_peft_model(model, LoraConfig(target_modules=["0"], modules_to_save=["2"]))
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter.add_(0.5 if parameter.requires_grad else 0.0)
    base = adapted.get_base_model()
    with left_as_it_was(adapted):
        snapshot = Snapshot(base)
        take_adapters_off(base)
        assert [type(module) for module in base] == [nn.Linear, nn.BatchNorm1d, nn.Linear]
        assert torch.equal(base.eval()(inputs), plain)
        assert not hasattr(base, "peft_config")
        snapshot.restore()
    assert not torch.equal(adapted.eval()(inputs), plain)
