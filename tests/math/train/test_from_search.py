"""The start of a retraining from the searched components."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.configs.layers import with_values
from autolora.configs.schema import Autolora
from autolora.engine import ranks
from autolora.engine.retrain.methods.lora import lora_at
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.search.search import SearchEngine
from autolora.problems.models.attach import lora_layers
from tests.helpers.searching import find_ranks, kept_mask

Searched = tuple[Autolora, Context, SearchEngine]
BY_SIZE = ("--answer.rule", "size", "--answer.budget", "2")


@pytest.fixture(scope="module")
def searched(
    make_config: Callable[..., Autolora], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Searched]:
    """A finished search with its model still at hand; for reading only."""
    made: dict[tuple[str, ...], Searched] = {}

    def make(kind: str, *arguments: str) -> Searched:
        key = (kind, *arguments)
        if key not in made:
            large = ("--search.steps", "8", "--search.learning_rate", "5e-2", "--lora.lora_alpha", "6", "--seed", "1")
            config = make_config(tmp_path_factory.mktemp("searched"), kind, *large, *arguments)
            run = Context(config, StopRequest())
            made[key] = (config, run, find_ranks(run))
        return made[key]

    return make


def batch_of(engine: SearchEngine) -> dict[str, Tensor]:
    batches = engine.selection.batches
    return batches.collate([batches.rows[i] for i in range(8)])


def retrained_model(config: Autolora, run: Context, record: ranks.RankRecord | None = None) -> Any:
    """The model at the ranks of the record, that of the run unless it is given."""
    at = run.under(with_values(config, {"retrain.init": "search"}))
    return lora_at(record or ranks.load(run.folder.ranks), at.base(), at).model


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
    searched: Callable[..., Searched], kind: str, constraint: str, gate: str, rule: str, retrain_scale: Any
) -> None:
    given = ("--search.constraint", constraint, "--search.gate", gate)
    config, run, engine = searched(kind, *(BY_SIZE if rule == "size" else given))
    record = ranks.load(run.folder.ranks)
    kept = kept_mask(record)
    assert 0 < kept.sum() < kept.numel(), "some components are dropped, some kept"
    batch = batch_of(engine)
    search_model = engine.lora.module.eval()
    with torch.no_grad():
        with engine.lora.gates.open(kept.float()):  # in the singular basis the gates of the search are 1
            expected = search_model(**batch).logits
        with engine.lora.gates.open(torch.ones(kept.shape)):
            assert not torch.allclose(search_model(**batch).logits, expected, rtol=1e-6, atol=1e-7)
    changed = with_values(config, {"retrain.scale": retrain_scale})
    assert isinstance(changed, Autolora)
    model = retrained_model(changed, run).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, expected, rtol=1e-5, atol=1e-6)
    found = {name: layer.r["default"] for name, layer in lora_layers(model).items()}
    assert found == record.kept
    if rule == "threshold":
        assert [layer.rank for layer in record.layers] == engine.ranks()


@pytest.mark.trains
def test_init_search_takes_the_components_of_the_largest_shares_by_rule_shares(
    searched: Callable[..., Searched],
) -> None:
    """A large singular value may have no share."""
    config, run, engine = searched("bert", *BY_SIZE)
    record = ranks.load(run.folder.ranks)
    share, kept = (-0.1, 0.0, 0.3, 0.2), torch.zeros(4, 4)
    for row, chosen in zip(kept, ([2], [2, 3], [0, 2, 3], []), strict=True):
        row[chosen] = 1
    layers = (
        dataclasses.replace(layer, rank=int(row.sum()), share=share, share_standard_error=(0.0,) * 4)
        for layer, row in zip(record.layers, kept, strict=True)
    )
    by_shares = dataclasses.replace(record, layers=tuple(layers), rule="shares")
    batch = batch_of(engine)
    model = retrained_model(config, run, by_shares).eval()
    with torch.no_grad(), engine.lora.gates.open(kept):
        expected = engine.lora.module.eval()(**batch).logits
        torch.testing.assert_close(model(**batch).logits, expected, rtol=1e-5, atol=1e-6)
