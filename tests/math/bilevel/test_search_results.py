"""What a search leaves: its numbers are those of its last step, and its stored model computes what it computed."""

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
from autolora.engine.search.trajectory import read_numbers, searched_model
from tests.helpers.searching import find_ranks


@pytest.fixture
def searched(tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]) -> tuple[Context, object]:
    """A run after its search, and the engine that the search left."""
    run = run_of(tiny_config())
    return run, search(run)


@pytest.mark.trains
def test_a_search_leaves_numbers_curves_and_weights(searched: tuple[Context, object]) -> None:
    run, engine = searched
    folder, summary = run.folder, json.loads(run.folder.search_summary.read_text())
    assert (summary["steps"], summary["stopped"], summary["commit"]) == (6, "steps used up", commit())
    assert trajectory.read(folder.trajectory).names == list(summary["parameters_per_rank"])
    assert torch.equal(read_numbers(folder)["alpha"], engine.alpha())  # type: ignore[attr-defined]
    weights = load_file(folder.search_weights)
    trained = {name: p for name, p in engine.lora.module.named_parameters() if p.requires_grad}  # type: ignore[attr-defined]
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in trained)
    assert not folder.search_checkpoint.exists()


@pytest.mark.trains
def test_contribution_is_that_of_the_last_step_and_not_of_the_singular_basis(
    searched: tuple[Context, object],
) -> None:
    """The fold overwrites A and B; afterwards alpha |B_j| |A_j| would be alpha times the singular values."""
    run, _ = searched
    found, numbers = trajectory.read(run.folder.trajectory), read_numbers(run.folder)
    torch.testing.assert_close(numbers["contribution"], torch.tensor(found.contribution[-1]))
    assert not torch.allclose(
        numbers["contribution"], numbers["alpha"] * numbers["singular_values"].float(), rtol=1e-2
    )


@pytest.mark.trains
@pytest.mark.parametrize("gate", ["start", "paper"])
def test_the_stored_model_computes_what_the_search_computed_with_its_gates(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], gate: str
) -> None:
    given = ("--search.steps", "12", "--search.learning_rate", "3e-2", "--search.gate", gate)
    searched = build_search(run_of(tiny_config(*given)), second_order=False)
    searched.run()
    run = run_of(tiny_config(*given))
    search(run)
    model, gates = searched_model(run)
    batch = run.data.collate(run.data.train.__getitems__(list(range(8))))
    with torch.no_grad():
        with searched.lora.gates.open(searched.selection.module()):
            expected = searched.lora.module.eval()(**batch).logits
        with gates.open(torch.zeros(len(gates.names), gates.k)):
            without = model.eval()(**batch).logits
        with gates.open(torch.ones(len(gates.names), gates.k)):
            torch.testing.assert_close(model(**batch).logits, expected, rtol=0, atol=1e-5)
    assert (without - expected).abs().max() > 1e-4


@pytest.mark.trains
def test_search_head_and_measurement_use_one_model_and_give_what_fresh_ones_give(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    """Each begins with the model as it was loaded, a head with random weights included."""
    given = ("--answer.rule", "shares", "--answer.rows", "20", "--lora.dropout", "0.1")
    once, anew = run_of(tiny_config(*given, "--name", "once")), run_of(tiny_config(*given, "--name", "anew"))
    with once.base_loaded_once():
        engine = find_ranks(once)
        assert once.base().model is engine.lora.module.get_base_model()
    find_ranks(anew)
    assert once.folder.ranks.read_bytes() == anew.folder.ranks.read_bytes()
