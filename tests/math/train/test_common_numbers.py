"""Two trainings of one seed differ in their ranks alone: A, batches and masks are the same wherever both have them."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.retrain.methods import METHODS
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.problems.models.attach import ADAPTER, lora_layers
from tests.helpers.methods import LEARNED, NAMES, K
from tests.helpers.retraining import FEW, retrain, rows_of, with_ranks


@pytest.fixture
def ranks_file(tmp_path: Path) -> Path:
    path = tmp_path / "learned.json"
    write_json(path, {"k": K, "layers": [{"name": n, "rank": r} for n, r in zip(NAMES, LEARNED, strict=True)]})
    return path


def words_of(method: str, ranks_file: Path) -> tuple[str, ...]:
    """The method, and the ranks that it needs."""
    needed = {"lora": ("--lora.r", "2"), "autolora": ()}
    return ("--method", method, *needed.get(method, ("--lora.ranks_from", str(ranks_file))))


def start_of(config: RunConfig, run_of: Callable[..., Context]) -> dict[str, Tensor]:
    """A of every layer as a method starts with it."""
    folder = RunFolder.of(config)
    folder.root.mkdir(parents=True)
    if config.method == "autolora":
        ranks = [{"name": n, "rank": r} for n, r in zip(NAMES, LEARNED, strict=True)]
        folder.ranks.write_text(json.dumps({"k": K, "layers": ranks}))
    run = run_of(config)
    torch.manual_seed(torch.seed())  # whatever was drawn before
    prepared = METHODS[type(config)](run.base(), run)
    return {name: layer.lora_A[ADAPTER].weight.detach() for name, layer in lora_layers(prepared.model).items()}


@pytest.mark.trains
@pytest.mark.parametrize("method", ["autolora", "lora", "lora_random"])
def test_a_of_every_method_is_the_first_rows_of_one_matrix(
    method: str, tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], ranks_file: Path
) -> None:
    whole = start_of(tiny_config(*FEW, "--method", "lora", "--lora.r", "6", "--name", "whole"), run_of)
    options = (*FEW, *words_of(method, ranks_file))
    found = start_of(tiny_config(*options), run_of)
    assert set(found) <= set(whole)
    assert len({len(a) for a in found.values()}) > (method != "lora") - 1
    for name, a in found.items():
        assert torch.equal(a, whole[name][: len(a)]), name
    other = start_of(tiny_config(*options, "--seed", "1", "--name", "o"), run_of)
    assert not any(torch.equal(other[name][:1], whole[name][:1]) for name in other)
    assert len({tuple(a[0].tolist()) for a in whole.values()}) == len(NAMES), "no two layers of one width share an A"


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch, seen: list[Any]) -> list[Tensor]:
    """Where the outputs of each dropout were 0 in the training, one after the other; passes before it, which ask how
    much memory it needs, do not count."""
    found: list[Tensor] = []
    original = nn.Dropout.forward

    def forward(self: nn.Dropout, x: Tensor) -> Tensor:
        y = original(self, x)
        if self.training and self.p and seen:
            found.append(y == 0)
        return y

    monkeypatch.setattr(nn.Dropout, "forward", forward)
    return found


@pytest.mark.trains
def test_two_methods_of_one_seed_see_the_same_batches_and_masks(
    tiny_config: Callable[..., RunConfig], masks: list[Tensor], seen: list[dict[str, Any]], ranks_file: Path
) -> None:
    def trained(rank: int, name: str, *more: str) -> tuple[list[Any], list[Tensor]]:
        rows = ("--task.train_rows", "20", "--task.evaluation_rows", "20")
        options = ("--retrain.max_steps", "4", "--retrain.gradient_accumulation", "2", "--name", name)
        config, folder = with_ranks(tiny_config(*rows, *options, *more, dropout=0.2))
        record = json.loads(folder.ranks.read_text())
        for layer in record["layers"]:
            layer["rank"] = rank
        folder.ranks.write_text(json.dumps(record))
        if config.method != "autolora":
            folder.ranks.unlink()
        masks.clear()
        seen.clear()
        retrain(config)
        return rows_of(seen), list(masks)

    rows, base = trained(1, "one")
    again, base_again = trained(4, "four", *words_of("lora_random", ranks_file))
    assert rows == again
    assert len(base) > 8
    assert all(torch.equal(a, b) for a, b in zip(base, base_again, strict=True))
    _, other = trained(1, "other", "--seed", "1")
    assert not any(a.shape == b.shape and torch.equal(a, b) for a, b in zip(base, other, strict=False))
    # Each batch of each step has masks of its own. Those of one seed begin alike, whatever their shape.
    assert len(base) % len(seen) == 0
    of_batch = len(base) // len(seen)
    first = [base[i].flatten()[:512].tolist() for i in range(0, len(base), of_batch)]
    assert len(first) == 6
    assert all(one != other for one, other in combinations(first, 2))
