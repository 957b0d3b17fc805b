"""The start of a retraining from the searched components."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from autolora.configs.layers import with_values
from autolora.engine import ranks
from autolora.engine.retrain.methods.lora import lora_at
from autolora.engine.run.context import Context
from autolora.engine.search.search import SearchEngine
from autolora.problems.models.attach import lora_layers
from tests.helpers.searching import find_ranks
from tests.helpers.shell import words

Searched = Callable[..., tuple[Context, SearchEngine]]
BY_SIZE = ("--choose.rule", "size", "--choose.budget", "2")


@pytest.fixture
def searched(new_run: Callable[..., Context]) -> Searched:
    """A finished search with its model still at hand."""

    def search(kind: str, *arguments: str) -> tuple[Context, SearchEngine]:
        large = words("--search.steps 8 --search.learning_rate 5e-2 --lora.lora_alpha 6 --seed 1")
        run = new_run(*large, *arguments, kind=kind)
        return run, find_ranks(run)

    return search


def retrained_model(run: Context, record: ranks.RankRecord, scale: str = "mean_rank") -> Any:
    """The model at the ranks of the record, before its first step."""
    at = run.under(with_values(run.config, {"retrain.init": "search", "retrain.scale": scale}))
    return lora_at(record, at.base(), at).model.eval()


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
    searched: Searched, kind: str, constraint: str, gate: str, rule: str, retrain_scale: str
) -> None:
    given = ("--search.constraint", constraint, "--search.gate", gate)
    run, engine = searched(kind, *(BY_SIZE if rule == "size" else given))
    record = ranks.load(run.folder.ranks)
    kept = torch.arange(record.k) < torch.tensor(list(record.ranks.values())).unsqueeze(1)
    assert 0 < kept.sum() < kept.numel(), "some components are dropped, some kept"
    batch = engine.lora.batches[0].parts[0][0]
    search_model = engine.lora.module.eval()
    with torch.no_grad():
        # in the singular basis the gates of the search are 1
        with engine.lora.gates.open(kept.float()):
            expected = search_model(**batch).logits
        with engine.lora.gates.open(torch.ones(kept.shape)):
            assert not torch.allclose(search_model(**batch).logits, expected, rtol=1e-6, atol=1e-7)
    model = retrained_model(run, record, retrain_scale)
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, expected, rtol=1e-5, atol=1e-6)
    found = {name: layer.r["default"] for name, layer in lora_layers(model).items()}
    assert found == record.kept
    if rule == "threshold":
        assert [layer.rank for layer in record.layers] == engine.ranks()
