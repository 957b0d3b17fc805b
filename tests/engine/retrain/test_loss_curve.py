"""The curve of a training: the mean loss of each interval, the same after a stop."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autolora.configs.schema import RunConfig
from autolora.engine.retrain.loss_curve import POINTS, LossCurve, SendLoss
from autolora.problems.machine.processes import ALONE, Processes
from tests.helpers.retraining import FEW, retrain, with_ranks


def points(losses: list[float], *, saves: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """The history after a training with these losses."""
    trainer: Any = SimpleNamespace(processes=ALONE, loss_sum=0.0)
    state = SimpleNamespace(global_step=0, max_steps=len(losses), log_history=[])
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    curve = LossCurve(trainer)
    curve.on_train_begin(None, state, None)
    for step, loss in enumerate(losses, start=1):
        state.global_step = step
        trainer.loss_sum = torch.tensor(loss) + trainer.loss_sum
        curve.on_step_end(None, state, SimpleNamespace(should_save=step in saves), optimizer=optimizer)
    return state.log_history


def test_a_point_is_the_mean_loss_since_the_point_before() -> None:
    found = points([float(i) for i in range(2 * POINTS + 1)])
    assert [point["step"] for point in found[:2]] == [2, 4]
    assert [point["loss"] for point in found[:2]] == [0.5, 2.5]
    assert (found[-1]["step"], found[-1]["loss"]) == (2 * POINTS + 1, 2 * POINTS)
    assert found[0]["learning_rate"] == 0.1


def test_with_two_processes_it_is_the_loss_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process's loss is its part of the batch's, times the number of processes; the sum was that many times too
    large."""
    two = Processes(rank=0, size=2)
    monkeypatch.setattr(Processes, "summed", lambda self, own: [value + 5.0 * 2 * 0.5 for value in own])
    trainer: Any = SimpleNamespace(processes=two, loss_sum=4.0 * 2 * 0.5)  # mean losses of 4 and 5 on equal halves
    assert LossCurve(trainer)._sum() == 4.5


def test_a_checkpoint_ends_an_interval() -> None:
    found = points([1.0] * (4 * POINTS), saves=(6,))
    assert [point["step"] for point in found[:3]] == [4, 6, 8]


def test_the_points_are_sent_while_the_training_goes_on() -> None:
    """wandb showed nothing of a training of hours until it had ended."""
    sent: list[dict[str, Any]] = []
    resumed: list[bool] = []
    tracker: Any = SimpleNamespace(log=sent.append, resumes=lambda: resumed.append(True))
    state: Any = SimpleNamespace(log_history=[])
    send = SendLoss(tracker)
    send.on_train_begin(None, state, None)
    for step in (1, 2):
        state.log_history += [{"step": step, "loss": 1.0}, {"epoch": 1.0}]
        send.on_step_end(None, state, None)
        assert sent[-1] == {"retrain/step": step, "retrain/loss": 1.0}
    state.log_history.append({"step": 3, "loss": 0.5})
    send.on_train_end(None, state, None)
    assert [point["retrain/step"] for point in sent] == [1, 2, 3]
    assert not resumed


def test_a_training_that_resumes_sends_the_points_of_its_checkpoint_too() -> None:
    """A point may be in the checkpoint and not yet sent; the tracker leaves out those that it has."""
    told: list[Any] = []
    tracker: Any = SimpleNamespace(log=told.append, resumes=lambda: told.append("resumes"))
    state: Any = SimpleNamespace(log_history=[{"step": 1, "loss": 3.0}])
    send = SendLoss(tracker)
    send.on_train_begin(None, state, None)
    send.on_step_end(None, state, None)
    assert told == ["resumes", {"retrain/step": 1, "retrain/loss": 3.0}]


@pytest.mark.trains
def test_the_file_has_every_step_of_a_short_training(tiny_config: Callable[..., RunConfig]) -> None:
    config, folder = with_ranks(tiny_config(*FEW, "--retrain.max_steps", "5", "--retrain.checkpoint_every", "3"))
    retrain(config)
    lines = [json.loads(line) for line in Path(folder.retrain_metrics).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert all(0 < line["loss"] < 5 for line in lines)
