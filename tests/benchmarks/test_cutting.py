"""The benchmark that cuts finished runs in several ways."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from autolora.engine.measure.bases import Basis, kept_within
from benchmarks import cutting
from tests.contract.program import succeed
from tests.helpers.tiny import tiny_arguments


def test_the_energy_threshold_keeps_what_peft_keeps() -> None:
    """convert_to_lora(threshold) keeps of each layer the first components that have this part of
    its energy."""
    draw = torch.Generator().manual_seed(0)
    sizes = [
        torch.rand(6, generator=draw, dtype=torch.float64).sort(descending=True).values
        for _ in range(3)
    ]
    bases = [Basis(torch.zeros(6, 4), torch.zeros(4, 6), size) for size in sizes]
    for part in (0.3, 0.6, 0.9):
        wanted = [
            int(torch.searchsorted(s.square().cumsum(0), part * s.square().sum())) + 1
            for s in sizes
        ]
        costs = [8, 4, 2]
        budget = sum(rank * cost for rank, cost in zip(wanted, costs, strict=True))
        kept = kept_within(cutting.energy_threshold(bases, costs), costs, budget)
        assert kept.sum(1).tolist() == wanted


@pytest.mark.trains
def test_each_cut_of_a_run_is_a_row_and_is_made_once(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "CHOOSING", (40,))
    monkeypatch.setattr(cutting, "UNEVEN", (1,))
    rows = {"task.train_rows": 40, "task.unused_rows": 60, "retrain.learning_rate": 3e-2}
    words = tiny_arguments(model_folder("bert"), tmp_path, **rows)
    succeed(*words, "--method", "lora", "--lora.r", 4)
    table = tmp_path / "cuts.csv"
    assert cutting.main([str(table), str(tmp_path / "runs" / "tiny")]) == 0
    found = pd.read_csv(table)
    before = table.read_bytes()
    even = found[found["cut"].isin(["plain", "balanced"])]
    assert set(even["rank"]) == {1, 2}
    assert set(found["cut"]) == {
        "whole",
        "plain",
        "plain uneven",
        "energy threshold",
        "balanced",
        "balanced uneven",
        "shares",
    }
    assert (even.groupby("rank")["parameters"].nunique() == 1).all()
    assert found["loss"].between(0, 5).all()
    assert even[even["cut"] == "balanced"]["told"].notna().all()
    assert cutting.main([str(table), str(tmp_path / "runs" / "tiny")]) == 0
    assert table.read_bytes() == before
