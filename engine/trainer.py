"""The one training loop of stage 2 and of every baseline: transformers.Trainer, with our order of rows and our
stop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from configs.schema import RunConfig
from engine.interrupt import StopRequest
from engine.progress import console, log
from problems.compute import Compute
from problems.data import Data, LengthGroupedOrder
from problems.tasks import Task


@dataclass(frozen=True)
class Fitted:
    """What a training gave: metrics on the evaluation split, seconds of training, optimiser steps."""

    metrics: dict[str, float]
    seconds: float
    steps: int


def fit(
    model: nn.Module, data: Data, task: Task, config: RunConfig, compute: Compute, folder: Path, stop: StopRequest
) -> Fitted:
    """Trains `model` on D_tr + D_val and evaluates it after the last step (no split chooses an epoch).

    `folder` holds the checkpoints; the newest there is gone on from. The caller removes it when the result is safe.
    Raises Interrupted when a stop was asked for.
    """
    clock = _Clock()
    trainer = _OurTrainer(
        model=model,
        args=_arguments(config, compute, folder),
        train_dataset=data.train,
        data_collator=data.collate,
        compute_metrics=lambda output: task.metrics(_first(output), np.asarray(output.label_ids)),
        callbacks=[_StopWhenAsked(stop), clock],
    )
    trainer.remove_callback(PrinterCallback)
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    stop.check()
    by_split = {name: _measure(trainer, rows) for name, rows in data.evaluation.items()}
    return Fitted(task.combine(by_split), clock.seconds, trainer.state.global_step)


def _measure(trainer: Trainer, rows: Dataset) -> dict[str, float]:
    """The task's metrics and the loss on every row of one split."""
    measured = trainer.evaluate(rows, metric_key_prefix="eval")
    return {
        name.removeprefix("eval_"): float(value)
        for name, value in measured.items()
        if name.startswith("eval_") and name not in _SPEEDS
    }


_SPEEDS = {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time"}


def _arguments(config: RunConfig, compute: Compute, folder: Path) -> TrainingArguments:
    settings = config.retrain
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.eval_batch_size,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        lr_scheduler_type="constant_with_warmup" if settings.scheduler == "constant" else settings.scheduler,
        warmup_steps=settings.warmup_ratio,
        max_grad_norm=settings.gradient_clipping,
        bf16=compute.bf16,
        use_cpu=compute.device.type == "cpu",
        seed=config.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        save_strategy="steps",
        save_steps=settings.checkpoint_every,
        save_total_limit=2,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=not console.is_terminal,
    )


class _OurTrainer(Trainer):
    """Trainer whose order of rows depends on seed and epoch alone, so that a resumed run sees the same rows."""

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler | None:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return LengthGroupedOrder(rows["length"], self.args.per_device_train_batch_size, self.args.seed)


class _StopWhenAsked(TrainerCallback):
    """Saves and ends the training after the step in which a signal came."""

    def __init__(self, stop: StopRequest) -> None:
        self.stop = stop

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.stop.code is not None:
            control.should_save = True
            control.should_training_stop = True


class _Clock(TrainerCallback):
    """Seconds of training in this process; without a terminal, a line now and then in the bar's place."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0
        self._last_line = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = self._last_line = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.perf_counter()
        if not console.is_terminal and now - self._last_line > 10:
            self._last_line = now
            log.info("retrain %d/%d", state.global_step, state.max_steps)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds += time.perf_counter() - self._began


def _first(output: EvalPrediction) -> np.ndarray:
    """The logits: some models return more than those."""
    predictions = output.predictions
    return predictions[0] if isinstance(predictions, tuple) else predictions
