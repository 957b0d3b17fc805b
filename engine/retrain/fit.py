"""The one training loop of stage 2 and of every baseline: transformers.Trainer, with our order of rows and our
stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from configs.schema import RunConfig
from engine.retrain import checkpoint as retrain_checkpoint
from engine.retrain.callbacks import Clock, NotFinite, Seal, StopAtNaN, StopWhenAsked, no_number
from engine.retrain.trainer import RetrainTrainer
from engine.run.interrupt import StopRequest
from engine.terminal.console import console
from problems.data import Data
from problems.machine.compute import Compute
from problems.machine.processes import ALONE, Processes
from problems.tasks import Task


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
    clock = Clock(last.seconds if last else 0.0)
    trainer = RetrainTrainer(
        model=model,
        processes=processes,
        args=_arguments(config, task, compute, folder),
        train_dataset=data.train,
        data_collator=data.collate,
        callbacks=[*callbacks, StopWhenAsked(stop, processes), clock],
    )
    if not processes.first:
        torch.manual_seed(config.seed + 1_000_003 * processes.rank)  # its own dropout masks; the weights are DDP's
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StopAtNaN(trainer, config))
    trainer.add_callback(Seal(clock, processes))
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
        raise NotFinite(no_number("the loss on the evaluation rows", config))
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
        # It would read the loss back from the device at every step; StopAtNaN looks now and then.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=not console.is_terminal,
    )
    # Several GPUs in one process would be DataParallel, with a batch for each; torchrun is the way to use them.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
