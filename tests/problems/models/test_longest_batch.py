"""The longest batch is tried before the first step, and nothing is left of it."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autolora.configs.schema import RunConfig
from autolora.problems.batches import local_parts
from autolora.problems.machine.processes import Processes
from autolora.problems.models import dry_run
from autolora.problems.models.dry_run import try_longest_batch
from tests.contract.program import command
from tests.helpers.stages import Stages
from tests.helpers.tiny import MEASURED, tiny_arguments
from tests.helpers.untouched import left_as_it_was


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
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Stages], processes: Processes
) -> None:
    run = run_of(tiny_config())
    model = Counting()
    rows = run.rows.train
    shapes: list[torch.Size] = []

    def loss(batch: dict[str, Any]) -> Tensor:
        shapes.append(batch["input_ids"].shape)
        return model(batch)

    def numbers() -> tuple[Any, ...]:
        of_numpy: Any = np.random.get_state()
        return random.getstate(), of_numpy[1].tolist(), torch.get_rng_state().tolist()

    before = numbers()
    with left_as_it_was(model):
        try_longest_batch(model, rows, 6, loss, run.world.compute, processes)
    padded = rows.batch([int(np.argmax(rows.lengths))])["input_ids"].shape[1]
    assert shapes == [(6 // processes.size, padded)]
    assert numbers() == before
    assert model.seen == ()


@pytest.mark.trains
def test_what_the_device_refuses_is_one_line_before_each_stage(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search, the measurement and the retraining try their longest batch; what was finished
    before stays."""
    argv = [*tiny_arguments(model_folder("bert"), tmp_path), *MEASURED]
    folder = tmp_path / "runs" / "tiny"
    for granted, done, unwritten in (
        (0, (), "config.yaml"),
        (1, ("search/summary.json",), "measure/summary.json"),
        (1, ("ranks.json",), "adapter"),
    ):
        trials = iter(range(granted))

        def cut(*arguments: Any, trials: Iterator[int] = trials) -> Any:
            if next(trials, None) is None:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return local_parts(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(dry_run, "local_parts", cut)
            assert command(*argv).line.startswith("error: out of memory: ")
        assert all((folder / name).exists() for name in done)
        assert not (folder / unwritten).exists()
