"""What runs beside a training: the stop, the check of the loss, the seal of a checkpoint, the clock."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from configs.errors import UserError
from configs.schema import RunConfig
from engine.retrain import checkpoint as retrain_checkpoint
from engine.retrain.trainer import RetrainTrainer
from engine.run.interrupt import StopRequest
from engine.terminal.ticker import Ticker
from problems.machine.processes import Processes


class NotFinite(UserError):
    """The loss of a training is no number."""


@dataclass(eq=False)
class StopWhenAsked(TrainerCallback):
    """Saves and ends the training after the step in which a signal came; several processes ask each other at every
    10th step."""

    stop: StopRequest
    processes: Processes

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        looks = self.processes.size == 1 or state.global_step % 10 == 0
        if looks and self.processes.agree(self.stop):
            control.should_save = control.should_training_stop = True


@dataclass(eq=False)
class StopAtNaN(TrainerCallback):
    """Ends the training when a loss was no number, before a checkpoint of it is written."""

    trainer: RetrainTrainer
    config: RunConfig

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        look = state.global_step % 20 == 0 or control.should_save or control.should_training_stop
        if look and not bool(torch.isfinite(self.trainer.processes.summed([self.trainer.loss_sum])[0])):
            raise NotFinite(no_number(f"the loss by step {state.global_step}", self.config))


def no_number(what: str, config: RunConfig) -> str:
    return (
        f"--retrain.learning_rate: {what} is not finite at rate {config.retrain.learning_rate:g}; try a lower rate, "
        f"--retrain.gradient_clipping 1 or --precision fp32, with --stage retrain --overwrite (a cell of a "
        f"study: with its folder removed)"
    )


@dataclass(eq=False)
class Clock(TrainerCallback):
    """Seconds of training, those before a stop included; without a terminal, a line now and then in the bar's
    place."""

    seconds: float

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()
        self._ticker = Ticker("retrain", state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._ticker.tick(state.global_step)

    def so_far(self) -> float:
        """Seconds until now, while the training goes on."""
        return self.seconds + time.perf_counter() - self._began

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = self.so_far()


@dataclass(eq=False)
class Seal(TrainerCallback):
    """Marks each checkpoint as complete once Trainer has written it."""

    clock: Clock
    begun: Mapping[str, Any]
    processes: Processes

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.processes.wait()  # each has written its random state
        if self.processes.first:
            folder = retrain_checkpoint.place(Path(args.output_dir), state.global_step)
            retrain_checkpoint.seal(folder, self.clock.so_far(), self.begun)
