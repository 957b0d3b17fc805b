"""What a search leaves: its numbers are those of its last step, and its stored model, in the
singular basis, computes what it computed."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from autolora.engine.search.engine import SearchEngine
from autolora.engine.search.searched import Trajectory, to_singular_basis
from autolora.problems.gates import Gates
from autolora.problems.models import base
from autolora.problems.models.attach import ADAPTER
from autolora.problems.models.load import load_base
from tests.helpers.shell import words
from tests.helpers.stages import Stages

pytestmark = pytest.mark.trains


def test_a_search_leaves_the_numbers_and_the_weights_of_its_last_step(
    new_run: Callable[..., Stages],
) -> None:
    run = new_run()
    engine = run.engine()
    engine.run()
    searched = run.search()
    folder = run.folder
    summary = json.loads(run.folder.search_summary.read_text())
    assert (summary["steps"], summary["stopped"]) == (6, "steps used up")
    found = Trajectory.read(folder.trajectory)
    numbers = load_file(folder.search_numbers)
    assert found.names == list(summary["parameters_per_rank"])
    assert torch.equal(numbers["alpha"], engine.alpha())
    weights = load_file(folder.search_weights)
    model = searched.model(run.base(), run.config.lora, run.inputs.scoring)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in trained)
    assert not folder.search_checkpoint.exists()
    # The fold overwrites A and B; afterwards alpha |B_j| |A_j| would be alpha times the singular
    # values.
    torch.testing.assert_close(numbers["contribution"], torch.tensor(found.contribution[-1]))
    after_the_fold = numbers["alpha"] * numbers["singular_values"].float()
    assert not torch.allclose(numbers["contribution"], after_the_fold, rtol=1e-2)


@pytest.mark.parametrize(("gate", "whole"), [("start", "[pooler]"), ("paper", "[]")])
def test_the_stored_model_computes_what_the_search_computed_with_its_gates(
    new_run: Callable[..., Stages], built: Callable[..., SearchEngine], gate: str, whole: str
) -> None:
    given = ("--search.steps", "12", "--search.learning_rate", "3e-2")
    given += ("--search.gate", gate, "--lora.modules_to_save", whole)
    searched = built(*given)
    run = new_run(*given)
    searched.run()
    run.search()
    model = run.searched_model()
    gates = Gates(model)
    batch = searched.lora.batches[0].parts[0][0]
    with torch.no_grad():
        with searched.lora.gates.open(searched.selection.module()):
            expected = searched.lora.module.eval()(**batch).logits
        with gates.open(torch.zeros(len(gates.names), gates.k)):
            without = model.eval()(**batch).logits
        with gates.open(torch.ones(len(gates.names), gates.k)):
            torch.testing.assert_close(model(**batch).logits, expected, rtol=0, atol=1e-5)
    assert (without - expected).abs().max() > 1e-4


def test_search_head_and_measurement_use_one_model_as_they_would_fresh_ones(
    new_run: Callable[..., Stages], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each begins with the model as it was loaded, a head with random weights included."""
    given = words(
        "--choose.rule shares --measure.rows 20 --measure.curve_ranks [1] --lora.dropout 0.1"
    )
    once, anew = (new_run(*given, "--name", name) for name in ("once", "anew"))
    loads = []

    def load(*arguments: Any, **options: Any) -> Any:
        loads.append(arguments)
        return load_base(*arguments, **options)

    monkeypatch.setattr(base, "load_base", load)
    with once.lent.loaded_once():
        once.find_ranks()
    assert len(loads) == 1
    anew.find_ranks()
    assert len(loads) == 4
    assert once.folder.ranks.read_bytes() == anew.folder.ranks.read_bytes()


@pytest.mark.parametrize(
    ("kind", "targets"), [("gpt2", "[c_attn.q,c_attn.v]"), ("llama", "[q_proj,down_proj]")]
)
@torch.no_grad()
def test_the_logits_stay_and_the_components_are_singular(
    built: Callable[..., SearchEngine], kind: str, targets: str
) -> None:
    lora = built("--lora.target_modules", targets, kind=kind).lora
    model = lora.module.eval()
    gates = lora.gates
    batch = lora.batches[0].parts[0][0]
    for _, b in gates.factors():  # B starts at 0
        b.normal_()
    # constraint none has negative alphas, too
    values = torch.rand(len(gates.names), gates.k) * 3 - 0.5

    def deltas(values: torch.Tensor) -> list[torch.Tensor]:
        """The update of each layer, LoRA's scale included."""
        scales = [layer.scaling[ADAPTER] for layer in gates.layers.values()]
        return [
            scale * (b * g) @ a
            for scale, (a, b), g in zip(scales, gates.factors(), values, strict=True)
        ]

    with gates.open(values):
        before = model(**batch).logits
        expected = deltas(values)
    singular = to_singular_basis(gates, values)
    torch.testing.assert_close(model(**batch).logits, before, rtol=0, atol=1e-4)
    assert singular.shape == values.shape
    found = deltas(torch.ones_like(values))
    for size, (a, b), delta, own in zip(singular, gates.factors(), expected, found, strict=True):
        torch.testing.assert_close(own, delta, rtol=0, atol=1e-4)
        torch.testing.assert_close(
            size.float(), torch.linalg.svdvals(delta)[: gates.k], rtol=1e-4, atol=1e-5
        )
        # Both factors carry the root of the singular value, and no two components overlap.
        torch.testing.assert_close(a @ a.T, b.T @ b, rtol=0, atol=1e-3 * float(size.max()))
    assert not to_singular_basis(gates, torch.zeros_like(values)).any(), (
        "an update of zeros has no components"
    )
    assert all(torch.isfinite(tensor).all() for pair in gates.factors() for tensor in pair)
