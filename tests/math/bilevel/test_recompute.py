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
@pytest.mark.parametrize(("kind", "method"), [("bert", "darts"), ("gpt2", "forward_difference"), ("llama", "sama")])
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
