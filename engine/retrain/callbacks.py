"""Trainer callbacks: stop on a signal, check the loss, seal checkpoints, measure the time, show the progress."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from transformers import TrainerCallback

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.retrain import checkpoint as retrain_checkpoint
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.terminal.bar import Bar
from autolora.engine.terminal.live_view import RetrainProgress
from autolora.problems.machine.processes import Processes


class NotFinite(UserError):
    """The loss of a training is infinite or NaN."""


class SaveAsAsked(TrainerCallback):
    """Lets `retrain.checkpoint_every` hold for a training that resumes: Trainer takes the value of its checkpoint."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.save_steps = args.save_steps


@dataclass(eq=False)
class StopWhenAsked(TrainerCallback):
    """Saves a checkpoint and ends the training after the step in which a signal came; several processes agree to stop
    only at every 10th step."""

    stop: StopRequest
    processes: Processes

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        looks = self.processes.size == 1 or state.global_step % 10 == 0
        if looks and self.processes.agree(self.stop):
            control.should_save = control.should_training_stop = True

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Raises Interrupted if a signal came during an evaluation, which the resumed run makes anew. In several
        processes it does nothing, as they would have to agree after every batch."""
        if self.processes.size == 1:
            self.stop.check()


@dataclass(eq=False)
class StopAtNaN(TrainerCallback):
    """Ends the training if a loss was infinite or NaN. Checks every 20th step, and before a checkpoint is written."""

    trainer: RetrainTrainer
    config: RunConfig

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        look = state.global_step % 20 == 0 or control.should_save or control.should_training_stop
        if look and not bool(torch.isfinite(self.trainer.processes.summed([self.trainer.loss_sum])[0])):
            raise NotFinite(not_finite_words(f"a loss up to step {state.global_step}", self.config))


def not_finite_words(what: str, config: RunConfig) -> str:
    """The message for a loss that is infinite or NaN; `what` says which loss."""
    retrain = config.retrain
    others = [] if config.precision == "fp32" else ["--precision fp32"]
    if not 0 < retrain.gradient_clipping <= 1:  # 0: gradients are not clipped
        others.append("--retrain.gradient_clipping 1")
    return (
        f"--retrain.learning_rate: {what} is not finite at rate {retrain.rate:g}; try "
        f"{' or '.join(['a lower rate', *others])}, with --stage retrain --overwrite (for a cell of a study, remove "
        f"its folder instead)"
    )


@dataclass(eq=False)
class Clock(TrainerCallback):
    """Measures the seconds of training, including those before a stop."""

    seconds: float

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()

    def so_far(self) -> float:
        """Seconds of training until now; valid only during the training."""
        return self.seconds + time.perf_counter() - self._began

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = self.so_far()


@dataclass(eq=False)
class Progress(TrainerCallback):
    """Shows the live view of the training and the progress bar of the evaluation; leaving the `with` block removes
    both, also after an error."""

    trainer: RetrainTrainer
    view: RetrainProgress | None = None
    evaluation: Bar | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.view = RetrainProgress(state.max_steps, state.global_step).__enter__()
        self._from = (state.global_step, 0.0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.view is not None
        if not self.view.due:
            self.view.step(state.global_step)
            return
        step, loss_sum = self._from
        # The loss of this process alone: the processes refresh their views at different steps, so that a sum over all
        # of them could wait forever.
        now = float(self.trainer.loss_sum)
        rate = kwargs["optimizer"].param_groups[0]["lr"]
        self.view.show(state.global_step, (now - loss_sum) / (state.global_step - step), rate)
        self._from = (state.global_step, now)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.close()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.evaluation is None:
            self.evaluation = Bar("evaluate", len(kwargs["eval_dataloader"])).__enter__()
            self._batches = 0
        self._batches += 1
        self.evaluation.step(self._batches)

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """Removes the view and the bar from the terminal."""
        for bar in (self.view, self.evaluation):
            if bar is not None:
                bar.__exit__()
        self.view = self.evaluation = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass(eq=False)
class Seal(TrainerCallback):
    """Marks each checkpoint as complete once Trainer has written it.

    `clock` gives the seconds that `seal` stores in the checkpoint, and `begun` the settings, data and ranks.
    """

    clock: Clock
    begun: Mapping[str, Any]
    processes: Processes

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.processes.wait()  # until each process has written its random state
        if self.processes.first:
            folder = retrain_checkpoint.place(Path(args.output_dir), state.global_step)
            retrain_checkpoint.seal(folder, self.clock.so_far(), self.begun)
