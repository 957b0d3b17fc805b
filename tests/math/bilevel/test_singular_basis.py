"""The singular basis: the same logits, and ordered components."""

from collections.abc import Callable

import pytest
import torch

from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.search.search import build_search
from autolora.engine.search.trajectory import to_singular_basis
from autolora.problems.gates import Gates
from autolora.problems.models.attach import ADAPTER, factors

CASES = {
    "parts of a fused layer": ("gpt2", "[c_attn.q,c_attn.v]"),
    "llama": ("llama", "[q_proj,down_proj]"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_logits_stay_and_the_components_are_singular(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], case: str
) -> None:
    kind, targets = CASES[case]
    run = run_of(tiny_config("--lora.target_modules", targets, kind=kind))
    engine = build_search(run, second_order=False)
    model, gates = engine.lora.module, engine.lora.gates
    torch.manual_seed(0)
    with torch.no_grad():
        for _, b in gates.factors():  # B starts at 0
            b.normal_()
    values = torch.rand(len(gates.names), gates.k) * 3 - 0.5  # constraint none has negative alphas, too
    batch = run.data.collate(run.data.train.__getitems__(list(range(6))))
    model.eval()
    with torch.no_grad():
        with gates.open(values):
            before = model(**batch).logits
        deltas = [_delta(gates, name, values[i]) for i, name in enumerate(gates.names)]
        singular = to_singular_basis(gates, values)
        after = model(**batch).logits
    assert torch.allclose(before, after, atol=1e-4)
    assert singular.shape == values.shape
    for i, name in enumerate(gates.names):
        assert torch.allclose(_delta(gates, name, torch.ones(gates.k)), deltas[i], atol=1e-4)
        expected = torch.linalg.svdvals(deltas[i])[: gates.k]
        assert torch.allclose(singular[i], expected, rtol=1e-4, atol=1e-6)
        a, b = _own(gates, name)
        # Both factors carry the root of the singular value, and no two components overlap.
        assert torch.allclose(a @ a.T, b.T @ b, atol=1e-3 * float(singular[i].max()))
    assert not to_singular_basis(gates, torch.zeros(values.shape)).any(), "an update of zeros has no components"
    assert all(torch.isfinite(tensor).all() for pair in gates.factors() for tensor in pair)


def _own(gates: Gates, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = factors(gates.layers[name])
    return a.double(), b.double()


def _delta(gates: Gates, name: str, values: torch.Tensor) -> torch.Tensor:
    """The update of a layer, LoRA's scale included, in float64."""
    a, b = _own(gates, name)
    return (b * values.double()) @ a * gates.layers[name].scaling[ADAPTER]
