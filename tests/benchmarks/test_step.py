"""The steps of benchmarks.step on a tiny model: what its JSON holds. No time is asserted."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from autolora.configs.search import COMPARED as TYPES
from benchmarks import step
from benchmarks.command import main
from benchmarks.stock import StockStep
from benchmarks.workload import Workload, make_workload

ModelFolder = Callable[..., Path]


@pytest.fixture
def work(model_folder: ModelFolder) -> Workload:
    values = {
        "model.name": str(model_folder("bert", 0.0)), "search.batch_size": 4, "lora.k": 4, "precision": "fp32",
        "device": "cpu",
    }  # fmt: skip
    return make_workload(values, None, rows=32)


@pytest.mark.slow
@pytest.mark.trains
def test_step(model_folder: ModelFolder, tmp_path: Path) -> None:
    place = tmp_path / "step.json"
    sizes = ["--rounds", "1", "--warmup", "1", "--stock_rounds", "1", "--batch_size", "4", "--stock_length", "80"]
    argv = ["--json", str(place), "--model", str(model_folder("bert")), "--k", "4", "--device", "cpu", *sizes]
    assert main(step.StepSettings, step.measure, argv) == 0
    numbers = json.loads(place.read_text())
    assert set(numbers["ratio_to_lora"]) == {*TYPES, "adalora"}
    assert all(math.isfinite(x) and x > 0 for x in numbers["ratio_to_lora"].values())
    assert set(numbers["stock"]) == {"dynamic padding", "with roll_back", "the paper's way"}
    assert set(numbers["stock"]["the paper's way"]["times_slower_than"]) == set(TYPES)
    assert len(numbers["tokens_per_row"]) == 1


def test_step_refuses_an_unknown_hypergradient(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(step.StepSettings, step.measure, ["--methods", "[newton]"]) == 2
    assert "newton" in capsys.readouterr().err


def test_stock_padding_changes_no_loss(work: Workload) -> None:
    """What (c) adds is computed for nothing: the padded batch has the same loss."""
    stock = StockStep(work, pad_to=64)
    (batch,) = work.batches(1)
    stock(batch)
    padded = stock.handed.batch
    assert padded["input_ids"].shape == (4, 64)
    model = stock.engine.lora.module.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(**padded).loss, model(**batch).loss)


@pytest.mark.parametrize("roll_back", [False, True])
def test_stock_betty_moves_both_levels(work: Workload, roll_back: bool) -> None:
    stock = StockStep(work, roll_back=roll_back)
    weights = [p.detach().clone() for p in stock.engine.lora.trainable_parameters()]
    for batch in work.batches(2):
        stock(batch)
    assert any(not torch.equal(a, b) for a, b in zip(weights, stock.engine.lora.trainable_parameters(), strict=True))
    assert stock.engine.selection.module.beta.abs().max() > 0
