"""The longest batch is tried before the first step, and nothing is left of it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import run as command
from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.trial_batch import try_longest_batch
from autolora.problems.machine.processes import Processes
from tests.contract.readers import everything
from tests.helpers.full_memory import refuse_allocations
from tests.helpers.tiny import MEASURED, tiny_arguments


class Counting(nn.Module):
    """A model that draws random numbers, averages in a buffer and may change its own mode."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.norm = nn.BatchNorm1d(1)
        self.seen: tuple[int, ...] = ()

    def forward(self, batch: dict[str, Any]) -> Tensor:
        self.seen += tuple(batch["input_ids"].shape)
        self.norm(batch["input_ids"].float().view(-1, 1))
        noise = random.random() + float(np.random.rand()) + torch.rand(2)
        self.norm.eval()
        return (self.weight * noise).sum()


@pytest.mark.trains
@pytest.mark.parametrize("processes", [Processes(), Processes(rank=1, size=2)])
def test_the_longest_rows_pass_once_and_leave_nothing(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], processes: Processes
) -> None:
    run, model = run_of(tiny_config()), Counting()
    rows = run.data.train
    run.processes = processes
    shapes: list[torch.Size] = []

    def loss(batch: dict[str, Any]) -> Tensor:
        shapes.append(batch["input_ids"].shape)
        return model(batch)

    def numbers() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]

    before = numbers()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    try_longest_batch(run, model, rows, 6, loss)
    padded = run.data.collate(rows.__getitems__([int(np.argmax(rows["length"]))]))["input_ids"].shape[1]
    assert shapes == [(6 // processes.size, padded)]
    assert numbers() == before
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert model.weight.grad is None
    assert model.norm.training
    assert model.seen == ()


@pytest.mark.trains
@pytest.mark.parametrize(("granted", "unwritten"), [(0, "config"), (1, "measured"), (2, "adapter")])
def test_what_the_device_refuses_is_one_line_before_each_stage(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], granted: int, unwritten: str,
) -> None:  # fmt: skip
    """Of a run the search, the measurement and the retraining try their longest batch, in this order."""
    argv, folder = [*tiny_arguments(model_folder("bert"), tmp_path), *MEASURED], RunFolder(tmp_path / "runs" / "tiny")
    refuse_allocations(monkeypatch, granted)
    assert command.main(argv) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: out of memory: ")
    assert not getattr(folder, unwritten).exists()
    before = everything(folder.root)
    assert command.main(argv) == 2
    assert {name: before[name] for name in before if "log" not in name} == {
        name: content for name, content in everything(folder.root).items() if "log" not in name
    }
