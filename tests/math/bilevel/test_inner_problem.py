"""The inner problem: its first loss is that of plain LoRA, and its dropout can be switched off."""

from collections.abc import Callable

import pytest
import torch

from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.search.search import build_search
from autolora.problems.models.attach import lora_layers


def test_the_first_step_is_that_of_plain_lora(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    engine = build_search(run_of(tiny_config(dropout=0.0)), second_order=False)
    for layer in lora_layers(engine.lora.module).values():
        torch.nn.init.normal_(layer.lora_B["default"].weight)
    loader = engine.lora.batches
    batch = loader.collate([loader.rows[i] for i in range(8)])
    engine.lora.module.eval()
    with torch.no_grad():
        gated = engine.lora.training_step(batch)
        engine.lora.gates.values = None
        assert gated == engine.lora.module(**batch).loss


@pytest.mark.parametrize("dropout", [True, False])
def test_search_dropout_switches_the_models_dropout(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], dropout: bool
) -> None:
    engine = build_search(run_of(tiny_config("--search.dropout", str(dropout).lower())), second_order=False)
    engine.train()
    loader = engine.lora.batches
    batch = loader.collate([loader.rows[i] for i in range(8)])
    first, second = (engine.lora.training_step(batch).item() for _ in range(2))
    assert (first != second) is dropout
