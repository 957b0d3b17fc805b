"""The start of a retraining from the searched components."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from autolora.configs.layers import with_values
from autolora.engine import ranks
from autolora.engine.methods import form_of
from autolora.engine.ranks.record import kept_components
from autolora.problems.gates import Gates
from autolora.problems.models.attach import lora_layers
from tests.helpers.shell import words
from tests.helpers.stages import Stages

Search = Callable[..., tuple[Stages, PeftModel]]
BY_SIZE = ("--choose.rule", "size", "--choose.budget", "2")


@pytest.fixture
def searched(new_run: Callable[..., Stages]) -> Search:
    """A finished search, and its model."""

    def search(kind: str, *arguments: str) -> tuple[Stages, PeftModel]:
        large = words("--search.steps 8 --search.learning_rate 5e-2 --lora.lora_alpha 6 --seed 1")
        run = new_run(*large, *arguments, kind=kind)
        run.find_ranks()
        return run, run.searched_model()

    return search


def retrained_model(run: Stages, record: ranks.RankRecord, scale: str = "mean_rank") -> Any:
    """The model at the ranks of the record, before its first step."""
    config = with_values(run.config, {"retrain.init": "search", "retrain.scale": scale})
    form = form_of(config, run.folder)
    return form.at(record, run.base(), run.training).model.eval()


@pytest.mark.trains
@pytest.mark.parametrize(
    ("kind", "constraint", "gate", "rule", "retrain_scale"),
    [
        ("gpt2", "sigmoid", "start", "threshold", "fixed"),
        ("llama", "none", "paper", "threshold", "rslora"),
        ("bert", "softmax", "start", "size", "mean_rank"),
    ],
)
def test_init_search_computes_what_the_search_computes_with_dropped_gates_at_zero(
    searched: Search, kind: str, constraint: str, gate: str, rule: str, retrain_scale: str
) -> None:
    given = ("--search.constraint", constraint, "--search.gate", gate)
    run, model = searched(kind, *(BY_SIZE if rule == "size" else given))
    record = ranks.load(run.folder.ranks)
    kept = torch.arange(record.k) < torch.tensor(list(record.ranks.values())).unsqueeze(1)
    assert 0 < kept.sum() < kept.numel(), "some components are dropped, some kept"
    batch = run.rows.train.batch(range(8))
    gates = Gates(model)
    model.eval()
    with torch.no_grad():
        # in the singular basis the gates of the search are 1
        with gates.open(kept.float()):
            expected = model(**batch).logits
        with gates.open(torch.ones(kept.shape)):
            assert not torch.allclose(model(**batch).logits, expected, rtol=1e-6, atol=1e-7)
    retrained = retrained_model(run, record, retrain_scale)
    with torch.no_grad():
        torch.testing.assert_close(retrained(**batch).logits, expected, rtol=1e-5, atol=1e-6)
    found = {name: layer.r["default"] for name, layer in lora_layers(retrained).items()}
    assert found == record.kept
    if rule == "threshold":
        alpha = load_file(run.folder.search_numbers)["alpha"]
        by_threshold = kept_components(alpha, run.config.search.constraint).sum(dim=1)
        assert list(record.ranks.values()) == by_threshold.tolist()
