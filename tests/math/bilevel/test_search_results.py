"""What a search leaves: its numbers are those of its last step, and its stored model, in the singular basis, computes
what it computed."""

import json
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file

from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.run.program import commit
from autolora.engine.search import trajectory
from autolora.engine.search.search import build_search, search
from autolora.engine.search.trajectory import searched_model, to_singular_basis
from autolora.problems.gates import Gates
from autolora.problems.models.attach import ADAPTER, factors
from tests.helpers.searching import find_ranks

pytestmark = pytest.mark.trains


def test_a_search_leaves_the_numbers_of_its_last_step_its_curves_and_its_weights(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config())
    engine = search(run)
    folder, summary = run.folder, json.loads(run.folder.search_summary.read_text())
    assert (summary["steps"], summary["stopped"], summary["commit"]) == (6, "steps used up", commit())
    found, numbers = trajectory.read(folder.trajectory), load_file(folder.search_numbers)
    assert found.names == list(summary["parameters_per_rank"])
    assert torch.equal(numbers["alpha"], engine.alpha())
    weights = load_file(folder.search_weights)
    trained = {name: p for name, p in engine.lora.module.named_parameters() if p.requires_grad}
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in trained)
    assert not folder.search_checkpoint.exists()
    # The fold overwrites A and B; afterwards alpha |B_j| |A_j| would be alpha times the singular values.
    torch.testing.assert_close(numbers["contribution"], torch.tensor(found.contribution[-1]))
    after_the_fold = numbers["alpha"] * numbers["singular_values"].float()
    assert not torch.allclose(numbers["contribution"], after_the_fold, rtol=1e-2)


@pytest.mark.parametrize(("gate", "whole"), [("start", "[pooler]"), ("paper", "[]")])
def test_the_stored_model_computes_what_the_search_computed_with_its_gates(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], gate: str, whole: str
) -> None:
    given = ("--search.steps", "12", "--search.learning_rate", "3e-2", "--search.gate", gate)
    given += ("--lora.modules_to_save", whole)
    searched = build_search(run_of(tiny_config(*given)), second_order=False)
    searched.run()
    run = run_of(tiny_config(*given))
    search(run)
    model = searched_model(run)
    gates = Gates(model)
    batch = run.data.collate(run.data.train.__getitems__(list(range(8))))
    with torch.no_grad():
        with searched.lora.gates.open(searched.selection.module()):
            expected = searched.lora.module.eval()(**batch).logits
        with gates.open(torch.zeros(len(gates.names), gates.k)):
            without = model.eval()(**batch).logits
        with gates.open(torch.ones(len(gates.names), gates.k)):
            torch.testing.assert_close(model(**batch).logits, expected, rtol=0, atol=1e-5)
    assert (without - expected).abs().max() > 1e-4


def test_search_head_and_measurement_use_one_model_and_give_what_fresh_ones_give(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    """Each begins with the model as it was loaded, a head with random weights included."""
    given = ("--answer.rule", "shares", "--answer.rows", "20", "--answer.curve_ranks", "[1]", "--lora.dropout", "0.1")
    once, anew = run_of(tiny_config(*given, "--name", "once")), run_of(tiny_config(*given, "--name", "anew"))
    with once.base_loaded_once():
        engine = find_ranks(once)
        assert once.base().model is engine.lora.module.get_base_model()
    find_ranks(anew)
    assert once.folder.ranks.read_bytes() == anew.folder.ranks.read_bytes()


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
