"""The base models that stages borrow: a script's, and what second derivatives ask of it."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autolora.configs.errors import UserError
from autolora.problems.machine.compute import same_random_numbers
from autolora.problems.models.base import BaseOfScript
from autolora.problems.models.load import BaseModel


@pytest.mark.parametrize("kernel", ["sdpa", "eager", None])
def test_second_derivatives_need_an_attention_that_has_them(kernel: str | None) -> None:
    model: Any = nn.Linear(2, 1)
    if kernel is not None:  # a model of one's own has no configuration
        model.config = SimpleNamespace(_attn_implementation=kernel)
    base = BaseOfScript(BaseModel(model, []), [])
    assert base.lend(second_order=False)
    said = r"^hypergradient: .* second derivatives, .* attention 'sdpa' .* lacks; allowed"
    with pytest.raises(UserError, match=said) if kernel == "sdpa" else nullcontext():
        base.lend(second_order=True)


def test_random_numbers_of_all_gpus_go_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeding before a training seeds all of them, and only that of the model was restored."""
    gpus = [1, 2]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(gpus))
    monkeypatch.setattr(
        torch.cuda, "set_rng_state_all", lambda states: gpus.__setitem__(slice(None), states)
    )
    with same_random_numbers(torch.device("cpu")):
        gpus[:] = [42, 42]
    assert gpus == [1, 2]
