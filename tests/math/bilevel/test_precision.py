"""Frozen weights in bf16, everything that is trained in fp32, and what is computed with them."""

from collections.abc import Callable

import pytest
import torch

from autolora.engine.search.engine import SearchEngine
from autolora.problems.machine.compute import Compute

BF16 = ("--model.dtype", "bf16")


def test_autocast_computes_in_bf16_and_only_when_asked() -> None:
    layer = torch.nn.Linear(2, 2)
    x = torch.ones(1, 2)
    for bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with Compute(torch.device("cpu"), bf16).autocast():
            assert layer(x).dtype == dtype


@pytest.mark.parametrize("kind", ["roberta", "gpt2"])
def test_frozen_weights_are_bf16_and_trained_ones_fp32(
    built: Callable[..., SearchEngine], kind: str
) -> None:
    engine = built(*BF16, kind=kind)
    parameters = [
        (n, p) for n, p in engine.lora.module.named_parameters() if ".original_module." not in n
    ]
    for name, parameter in parameters:
        assert parameter.dtype == (torch.float32 if parameter.requires_grad else torch.bfloat16), (
            name
        )
    assert any(parameter.requires_grad and ".lora_" not in name for name, parameter in parameters)


@pytest.mark.trains
@pytest.mark.parametrize(("kind", "compute"), [("bert", "bf16"), ("llama", "fp32")])
def test_a_search_with_bf16_weights_is_close_to_that_with_fp32_weights(
    built: Callable[..., SearchEngine], kind: str, compute: str
) -> None:
    """The logits of the same trained numbers: bf16 has 8 bits. A module that is trained whole
    stands among them."""
    whole = "[pooler]" if kind == "bert" else "[norm]"
    given = ("--precision", compute, "--lora.modules_to_save", whole, "--search.dropout", "false")
    found = []
    for more in ((), BF16):
        engine = built(*given, *more, kind=kind)
        engine.train()
        with torch.no_grad():
            torch.manual_seed(0)
            for parameter in engine.lora.trained:
                parameter.copy_(0.3 * torch.randn_like(parameter))
        loader = engine.lora.batches
        batch = loader.rows.batch(range(8))
        with engine.lora.shared.compute.autocast():
            found.append(engine.lora.module(**batch).logits.float())
    assert found[0].abs().max() > 0.1
    torch.testing.assert_close(
        found[1], found[0], rtol=0.05, atol=0.05 * float(found[0].detach().abs().max())
    )
