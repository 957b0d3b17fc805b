"""The one training loop of stage 2 and of every baseline: transformers.Trainer, with our order of rows and our
stop."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from configs.errors import UserError
from configs.schema import RunConfig
from engine import retrain_checkpoint
from engine.interrupt import StopRequest
from engine.progress import console, log
from engine.sharding import SharedBatches
from problems.compute import Compute
from problems.data import Data, LengthGroupedOrder
from problems.processes import ALONE, Processes
from problems.tasks import Task


class NotFinite(UserError):
    """The loss of a training is no number."""


@dataclass(frozen=True)
class Fitted:
    """What a training gave: metrics on the evaluation split, seconds of training, optimiser steps, the text of the
    predictions (of tasks that keep them)."""

    metrics: dict[str, float]
    seconds: float
    steps: int
    predictions: str | None = None


def fit(
    model: nn.Module,
    data: Data,
    task: Task,
    config: RunConfig,
    compute: Compute,
    folder: Path,
    stop: StopRequest,
    callbacks: Sequence[TrainerCallback] = (),
    processes: Processes = ALONE,
) -> Fitted:
    """Trains `model` on D_tr + D_val and evaluates it after the last step (no split chooses an epoch).

    `folder` holds the checkpoints; the newest there is gone on from. The caller removes it when the result is safe.
    Raises Interrupted when a stop was asked for, NotFinite when the loss is no number.
    """
    last = processes.of_first(lambda: retrain_checkpoint.newest(folder))
    clock = _Clock(last.seconds if last else 0.0)
    trainer = _OurTrainer(
        model=model,
        processes=processes,
        args=_arguments(config, task, compute, folder),
        train_dataset=data.train,
        data_collator=data.collate,
        callbacks=[*callbacks, _StopWhenAsked(stop, processes), clock],
    )
    if not processes.first:
        torch.manual_seed(config.seed + 1_000_003 * processes.rank)  # its own dropout masks; the weights are DDP's
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_StopAtNaN(trainer, config))
    trainer.add_callback(_Seal(clock, processes))
    if last is not None and last.step >= last.max_steps:
        # Trainer would make one step more.
        trainer.take_weights(last.folder)
        steps = last.step
    else:
        trainer.train(resume_from_checkpoint=None if last is None else str(last.folder))
        steps = trainer.state.global_step
    if processes.agree(stop):
        stop.check()
    by_split, texts = {}, []
    for name, rows in data.evaluation.items():
        by_split[name], text = _measure(trainer, task, rows)
        texts += [] if text is None else [text]
    if not all(np.isfinite(found["loss"]) for found in by_split.values()):
        raise NotFinite(_no_number("the loss on the evaluation rows", config))
    return Fitted(task.combine(by_split), clock.seconds, steps, "".join(texts) or None)


def _measure(trainer: Trainer, task: Task, rows: Dataset) -> tuple[dict[str, float], str | None]:
    """The task's metrics and the loss on every row of one split, and the text of its predictions.

    Trainer predicts in the order of the rows; a metric that needs more of them than outputs and labels can so be had.
    """
    output = trainer.predict(rows, metric_key_prefix="eval")
    loss = {"loss": float((output.metrics or {})["eval_loss"])}
    if not task.reads_outputs:
        return loss, None
    outputs, labels = np.asarray(output.predictions), np.asarray(output.label_ids)
    metrics = task.metrics(outputs, labels, rows) | loss
    return metrics, task.predictions(outputs, labels, rows)


def _arguments(config: RunConfig, task: Task, compute: Compute, folder: Path) -> TrainingArguments:
    settings = config.retrain
    arguments = TrainingArguments(
        output_dir=str(folder),
        # Of all processes together: one process more changes the time of a step, not the step.
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
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
        torch_compile=settings.torch_compile,
        # Compiling would switch TF32 on for the whole process, and with it change what fp32 means.
        tf32=False if settings.torch_compile else None,
        prediction_loss_only=not task.reads_outputs,
        save_strategy="steps",
        save_steps=settings.checkpoint_every,
        save_total_limit=2,
        logging_strategy="no",
        # It would read the loss back from the device at every step; _StopAtNaN looks now and then.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=not console.is_terminal,
    )
    # Several GPUs in one process would be DataParallel, with a batch for each; torchrun is the way to use them.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class _OurTrainer(Trainer):
    """Trainer whose order of rows depends on seed and epoch alone, so that a resumed run sees the same rows, and whose
    step descends the mean loss over all labels of its rows, in however many batches and processes they come.

    Among several processes each takes its own rows of the same batches: Trainer's own sharding fills the last batch of
    an epoch up and weighs unequal parts alike.
    """

    def __init__(self, *args: Any, processes: Processes = ALONE, **options: Any) -> None:
        super().__init__(*args, **options)
        self.processes = processes
        # Trainer takes every model whose forward has **kwargs for one that divides its loss by the step's labels. Most
        # with a class head do not: accumulated, their gradients would be as many times too large.
        self.model_accepts_loss_kwargs = False
        self._batches = 1
        self._labels: Any = 0

    def get_train_dataloader(self) -> Any:
        if self.processes.size == 1:
            return super().get_train_dataloader()
        return SharedBatches.loader(self.train_dataset, self._order(), self.data_collator, self.processes)

    def get_batch_samples(self, *args: Any, **options: Any) -> Any:
        """The batches of one step, whose labels are counted."""
        batches, count = super().get_batch_samples(*args, **options)
        self._batches = len(batches)
        # Not where it is not needed: the batches may be on a GPU already.
        self._labels = sum(_labels(batch) for batch in batches) if self._batches > 1 else 0
        return batches, count

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        share = inputs.pop("share", None)
        if share is not None:
            # DDP averages the gradients over the processes.
            return super().compute_loss(model, inputs) * share * self.processes.size
        if not model.training or self._batches == 1:
            return super().compute_loss(model, inputs, *args, **options)
        # Trainer divides by the number of batches.
        return super().compute_loss(model, inputs) * _labels(inputs) * self._batches / self._labels

    def prediction_step(self, *args: Any, **options: Any) -> Any:
        """Keeps the logits alone: some models return their hidden states besides, which would fill the memory."""
        loss, outputs, labels = super().prediction_step(*args, **options)
        return loss, outputs[0] if isinstance(outputs, tuple) else outputs, labels

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler | None:
        return self._order()

    def _order(self) -> LengthGroupedOrder:
        rows: Any = self.train_dataset
        return LengthGroupedOrder(rows["length"], self.args.per_device_train_batch_size, self.args.seed)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As Trainer's; keeps the sum of the losses on the device: once not a number, always not a number."""
        loss = super().training_step(*args, **kwargs)
        self.loss_sum = loss.detach() + getattr(self, "loss_sum", 0.0)
        return loss

    def take_weights(self, checkpoint: Path) -> None:
        """The trained weights of a checkpoint, and nothing else of it."""
        self._load_from_checkpoint(str(checkpoint))


class _StopWhenAsked(TrainerCallback):
    """Saves and ends the training after the step in which a signal came (several processes agree now and then)."""

    def __init__(self, stop: StopRequest, processes: Processes) -> None:
        self.stop = stop
        self.processes = processes

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.processes.size > 1 and state.global_step % 10 != 0:
            return
        if self.processes.agree(self.stop):
            control.should_save = True
            control.should_training_stop = True


class _StopAtNaN(TrainerCallback):
    """Ends the training when a loss was no number, before a checkpoint of it is written."""

    def __init__(self, trainer: _OurTrainer, config: RunConfig) -> None:
        self.trainer = trainer
        self.config = config

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        look = state.global_step % 20 == 0 or control.should_save or control.should_training_stop
        if look and not bool(torch.isfinite(self.trainer.processes.summed([self.trainer.loss_sum])[0])):
            raise NotFinite(_no_number(f"the loss by step {state.global_step}", self.config))


def _no_number(what: str, config: RunConfig) -> str:
    return (
        f"--retrain.learning_rate: {what} is not finite at rate {config.retrain.learning_rate:g}; try a lower rate, "
        f"--retrain.gradient_clipping 1 or --precision fp32, with --stage retrain --overwrite (a cell of a "
        f"study: with its folder removed)"
    )


class _Seal(TrainerCallback):
    """Marks each checkpoint as complete once Trainer has written it."""

    def __init__(self, clock: _Clock, processes: Processes) -> None:
        self.clock = clock
        self.processes = processes

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.processes.wait()  # each has written its random state
        if not self.processes.first:
            return
        retrain_checkpoint.seal(
            retrain_checkpoint.place(Path(args.output_dir), state.global_step), self.clock.so_far()
        )


class _Clock(TrainerCallback):
    """Seconds of training, those before a stop included; without a terminal, a line now and then in the bar's
    place."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began = 0.0
        self._last_line = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = self._last_line = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.perf_counter()
        if not console.is_terminal and now - self._last_line > 10:
            self._last_line = now
            log.info("retrain %d/%d", state.global_step, state.max_steps)

    def so_far(self) -> float:
        """Seconds until now, while the training goes on."""
        return self.seconds + time.perf_counter() - self._began

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds += time.perf_counter() - self._began


def _labels(batch: Mapping[str, Any]) -> Any:
    """How many entries of a batch its mean loss is over: a class or a number a row, or those that are not -100."""
    labels = batch["labels"]
    return labels.numel() if labels.dim() == 1 else (labels != -100).sum()
