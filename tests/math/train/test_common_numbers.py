"""Two trainings of one seed differ in their ranks alone: A, batches and masks are the same wherever both have them."""

import dataclasses
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.retrain.common_numbers import CommonDropout, CommonMasks, Moment
from autolora.engine.retrain.methods import METHODS
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.problems.models.attach import ADAPTER, lora_layers
from tests.helpers.methods import LEARNED, NAMES, K
from tests.helpers.retraining import FEW, retrain, rows_of, with_ranks

WRITES_LORA = ["autolora", "lora", "lora_grid", "lora_ranks", "lora_shuffled", "lora_random"]


@pytest.fixture
def ranks_file(tmp_path: Path) -> Path:
    path = tmp_path / "learned.json"
    write_json(path, {"k": K, "layers": [{"name": n, "rank": r} for n, r in zip(NAMES, LEARNED, strict=True)]})
    return path


def words_of(method: str, ranks_file: Path) -> tuple[str, ...]:
    """The method, and the ranks that it needs."""
    needed = {"lora": ("--lora.r", "2"), "autolora": (), "lora_grid": ()}
    return ("--method", method, *needed.get(method, ("--lora.ranks_from", str(ranks_file))))


def start_of(config: RunConfig, run_of: Callable[..., Context]) -> dict[str, Tensor]:
    """A of every layer as a method starts with it."""
    folder = RunFolder.of(config)
    folder.root.mkdir(parents=True)
    if config.method in ("autolora", "lora_grid"):
        ranks = [{"name": n, "rank": r} for n, r in zip(NAMES, LEARNED, strict=True)]
        folder.ranks.write_text(json.dumps({"k": K, "layers": ranks}))
    run = run_of(config)
    torch.manual_seed(torch.seed())  # whatever was drawn before
    prepared = METHODS[type(config)].prepare(run.base(), run, 20)
    return {name: layer.lora_A[ADAPTER].weight.detach() for name, layer in lora_layers(prepared.model).items()}


@pytest.mark.trains
@pytest.mark.parametrize("method", WRITES_LORA)
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
def masks(monkeypatch: pytest.MonkeyPatch, seen: list[Any]) -> list[Any]:
    """Where the outputs of each dropout were 0 in the training ("base", or the name of LoRA's), one after the other;
    passes before it, which ask how much memory it needs, do not count."""
    found: list[Any] = []
    base, lora = nn.Dropout.forward, CommonDropout.forward

    def of_base(self: nn.Dropout, x: Tensor) -> Tensor:
        y = base(self, x)
        if self.training and self.p and seen:
            found.append(("base", y == 0))
        return y

    def of_lora(self: CommonDropout, x: Tensor) -> Tensor:
        y = lora(self, x)
        if self.training and seen:
            found.append((self.name, y == 0))
        return y

    monkeypatch.setattr(nn.Dropout, "forward", of_base)
    monkeypatch.setattr(CommonDropout, "forward", of_lora)
    return found


@pytest.mark.trains
@pytest.mark.parametrize("method", ["autolora", "lora", "lora_ranks", "lora_shuffled", "lora_random"])
def test_two_methods_of_one_seed_see_the_same_batches_and_masks(
    method: str, tiny_config: Callable[..., RunConfig], masks: list[Any], seen: list[dict[str, Any]], ranks_file: Path
) -> None:
    def trained(rank: int, name: str, *more: str) -> tuple[list[Any], list[Tensor], dict[str, list[Tensor]]]:
        options = (*FEW, "--retrain.max_steps", "4", "--retrain.gradient_accumulation", "2", "--name", name, *more)
        config, folder = with_ranks(tiny_config(*options, dropout=0.2))
        record = json.loads(folder.ranks.read_text())
        for layer in record["layers"]:
            layer["rank"] = rank
        folder.ranks.write_text(json.dumps(record))
        if config.method != "autolora":
            folder.ranks.unlink()
        masks.clear()
        seen.clear()
        retrain(config)
        of_lora: dict[str, list[Tensor]] = {}
        for place, mask in masks:
            of_lora.setdefault(place, []).append(mask)
        return rows_of(seen), of_lora.pop("base"), of_lora

    rows, base, lora = trained(1, "one")
    again, base_again, lora_again = trained(4, "four", *words_of(method, ranks_file))
    assert rows == again
    assert len(base) > 8
    assert all(torch.equal(a, b) for a, b in zip(base, base_again, strict=True))
    assert len(lora) == 2
    assert len(lora.keys() & lora_again.keys()) == 2
    for name, found in lora.items():
        assert len(found) == len(lora_again[name]) > 4
        assert all(torch.equal(a, b) for a, b in zip(found, lora_again[name], strict=True))
        assert not any(a.shape == b.shape and torch.equal(a, b) for a, b in pairwise(found))
    _, other, _ = trained(1, "other", "--seed", "1")
    assert not any(a.shape == b.shape and torch.equal(a, b) for a, b in zip(base, other, strict=False))


def test_a_mask_is_of_seed_layer_and_moment_and_scales_up_what_it_keeps() -> None:
    x = torch.ones(50, 40)
    dropout = CommonDropout(0.25, 3, "layer.0")
    first = dropout(x)
    torch.rand(7)
    assert torch.equal(first, dropout(x))
    assert sorted(set(first.flatten().tolist())) == pytest.approx([0, 4 / 3])
    assert (first == 0).float().mean().item() == pytest.approx(0.25, abs=0.04)
    others = [CommonDropout(0.25, 4, "layer.0"), CommonDropout(0.25, 3, "layer.1")]
    assert not any(torch.equal(first, other(x)) for other in others)
    for changed in ({"step": 1}, {"batch": 1}, {"process": 1}):
        dropout.moment = dataclasses.replace(Moment(0), **changed)
        assert not torch.equal(first, dropout(x))
    assert dropout.eval()(x) is x


def test_batches_of_one_step_have_masks_of_their_own_and_a_step_begins_anew() -> None:
    dropout = CommonDropout(0.5, 0, "layer")
    masks = CommonMasks(nn.Sequential(dropout), seed=0, process=2)
    found = []
    for step in (0, 0, 1):
        masks.begin(step)
        found.append((dropout.moment, torch.rand(3).tolist()))
    assert [moment for moment, _ in found] == [Moment(0, 0, 2), Moment(0, 1, 2), Moment(1, 0, 2)]
    again = CommonMasks(nn.Sequential(), seed=0, process=2)
    torch.rand(11)
    again.begin(1)
    assert torch.rand(3).tolist() == found[2][1]
    assert found[0][1] != found[1][1] != found[2][1]
