"""Blocks that are computed again give what blocks that keep their activations give, bit for bit on a CPU."""

from collections.abc import Callable

import pytest
import torch

from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.search.search import SearchEngine, build_search

ON = ("--model.gradient_checkpointing", "true")


def steps(engine: SearchEngine, count: int = 4) -> SearchEngine:
    engine.train_iters = count
    engine.run()
    return engine


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *(("bert", method) for method in ("first_order", "forward_difference", "darts", "sama")),
        *((kind, "darts") for kind in ("roberta", "gpt2", "llama")),
    ],
)
def test_a_search_takes_the_same_steps(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], kind: str, method: str
) -> None:
    """Gates and dropout masks of the second pass are those of the first, also where gates differ in between."""
    given = ("--hypergradient.type", method, "--search.warmup_ratio", "0", "--search.steps", "4")
    kept, again = (
        steps(build_search(run_of(tiny_config(*given, *more, kind=kind, dropout=0.1)), second_order=False))
        for more in ((), ON)
    )
    assert torch.equal(kept.alpha(), again.alpha())
    assert torch.equal(kept.selection.implicit, again.selection.implicit)
    for one, other in zip(kept.lora.trained, again.lora.trained, strict=True):
        assert torch.equal(one, other)
    assert (kept.alpha() - 0.25).abs().max() > 1e-3


def test_the_gates_of_a_pass_are_those_of_its_second_forward_pass(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    grads = []
    for more in ((), ON):
        engine = build_search(run_of(tiny_config("--search.dropout", "false", *more)), second_order=False)
        engine.train()
        with torch.no_grad():
            for layer in engine.lora.gates.layers.values():
                layer.lora_B["default"].weight.fill_(0.1)
        loader, gates = engine.lora.batches, engine.lora.gates
        batch = loader.collate([loader.rows[i] for i in range(4)])
        values = torch.linspace(0.2, 1, len(gates.names) * gates.k).view(len(gates.names), gates.k)
        values.requires_grad_(True)
        with gates.open(values):
            loss = engine.lora.module(**batch).loss
            grads.append(torch.autograd.grad(loss, values)[0])
    assert torch.equal(*grads)
    assert grads[0].abs().max() > 0
