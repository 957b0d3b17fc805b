"""The loss of a training over its steps, for the report and the tracker."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState

from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.tracking import Tracker

POINTS = 50
"""About how many points a curve has."""


@dataclass(eq=False)
class LossCurve(TrainerCallback):
    """Adds points to the history in Trainer's state, which every checkpoint saves.

    A point has the step, the mean training loss of the steps since the previous point, and the learning rate. Each
    checkpoint adds a point, so that a training resumed from a regular checkpoint has the points of an unbroken one.
    """

    trainer: RetrainTrainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._every = max(1, state.max_steps // POINTS)
        self._last = (state.global_step, self._sum())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step
        if step % self._every and step < state.max_steps and not control.should_save:
            return
        (before, total), now = self._last, self._sum()
        self._last = (step, now)
        rate = kwargs["optimizer"].param_groups[0]["lr"]
        state.log_history.append({"step": step, "loss": (now - total) / (step - before), "learning_rate": rate})

    def _sum(self) -> float:
        """The sum of the losses of all batches so far."""
        processes = self.trainer.processes
        # Each process's loss is a part of the batch's, times the number of processes, as DDP averages gradients.
        return float(processes.summed([torch.as_tensor(self.trainer.loss_sum)])[0]) / processes.size


@dataclass(eq=False)
class SendLoss(TrainerCallback):
    """Sends the points of LossCurve to the tracker during the training, each at the end of the step after it."""

    tracker: Tracker

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._sent = 0
        if points_of(state):  # those of the checkpoint from which the training resumes
            self.tracker.resumes()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for point in points_of(state)[self._sent :]:
            self.tracker.log({f"retrain/{key}": value for key, value in point.items()})
            self._sent += 1

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_step_end(args, state, control)


def points_of(state: TrainerState) -> list[dict[str, Any]]:
    """The points of a training. Leaves out Trainer's own entries in the history, which have no `loss`."""
    return [dict(entry) for entry in state.log_history if "loss" in entry]


def points_in(checkpoint: Path) -> list[dict[str, Any]]:
    """The points that a checkpoint holds."""
    return points_of(TrainerState.load_from_json(str(checkpoint / "trainer_state.json")))
