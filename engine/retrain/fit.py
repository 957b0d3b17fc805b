"""The training loop of all methods: transformers.Trainer, with this program's order of rows and a stop when a signal
asks for it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedConfig, PrinterCallback, TrainerCallback, TrainingArguments

from autolora.configs.schema import RunConfig
from autolora.engine.retrain import checkpoint as retrain_checkpoint
from autolora.engine.retrain.callbacks import Clock, Progress, SaveAsAsked, Seal, StopAtNaN, StopWhenAsked
from autolora.engine.retrain.evaluate import evaluate
from autolora.engine.retrain.loss_curve import LossCurve, points_in, points_of
from autolora.engine.retrain.methods.base import Prepared
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.run.context import Context
from autolora.problems.data import Data
from autolora.problems.machine.compute import Compute


@dataclass(frozen=True)
class Fitted:
    """The result of a training: metrics on the evaluation split, seconds of training, optimiser steps, the text or the
    table of the predictions (for tasks that keep them), the log loss at a fitted temperature, and the loss of every
    row (with `retrain.row_losses`).
    """

    metrics: dict[str, float]
    seconds: float
    steps: int
    predictions: str | None = None
    predicted_rows: pd.DataFrame | None = None
    calibrated_loss: float | None = None
    row_losses: pd.DataFrame | None = None
    rows: int = 0
    """How many rows were evaluated."""
    seconds_evaluation: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)
    """Points of the training loss: step, loss, learning_rate."""
    found_in: float | None = None
    """Seconds that the method took to find its ranks; None if it looked for none."""


def fit(run: Context, prepared: Prepared, data: Data, folder: Path, begun: Mapping[str, Any] | None = None) -> Fitted:
    """Trains on `data.train` and evaluates once, after the last step; no best epoch is chosen.

    A model without trainable parameters is only evaluated.

    Resumes from the newest intact checkpoint in `folder`. The caller removes the checkpoints once the result is
    written. Each checkpoint stores `begun`: the settings, data and ranks that are compared before it is resumed.
    Raises Interrupted when a signal asked to stop, NotFinite when the loss is not finite.
    """
    with _own_cache(prepared.model):
        return _fit(run, prepared, data, folder, begun)


def _fit(run: Context, prepared: Prepared, data: Data, folder: Path, begun: Mapping[str, Any] | None) -> Fitted:
    config, processes = run.config, run.processes
    last = processes.of_first(lambda: retrain_checkpoint.newest(folder))
    clock = Clock(last.seconds if last else 0.0)
    seal = Seal(clock, begun or {}, processes)
    trainer = _trainer(run, prepared, data, folder, [clock, seal])
    with Progress(trainer) as progress:
        trainer.add_callback(progress)
        trainer.add_callback(LossCurve(trainer))
        curve: list[dict[str, Any]] = []
        if not any(p.requires_grad for p in prepared.model.parameters()):
            steps = 0  # the base model is evaluated without training
        elif last is not None and last.step >= last.max_steps:
            # Trainer, asked to resume here, would take one step too many.
            trainer.take_weights(last.folder)
            steps, curve = last.step, points_in(last.folder)
        else:
            with _usual_masks(compiled=config.retrain.torch_compile):
                trainer.train(resume_from_checkpoint=None if last is None else str(last.folder))
            steps, curve = trainer.state.global_step, points_of(trainer.state)
        if processes.agree(run.stop):
            run.stop.check()
        if prepared.finish is not None:
            prepared.finish()
        found = evaluate(trainer, run, data)
        return Fitted(seconds=clock.seconds, steps=steps, curve=curve, **vars(found))


def _trainer(
    run: Context, prepared: Prepared, data: Data, folder: Path, callbacks: Sequence[TrainerCallback]
) -> RetrainTrainer:
    """The Trainer of this training, with `callbacks` besides those of every training."""
    with _same_fp32(compiled=run.config.retrain.torch_compile):
        trainer = RetrainTrainer(
            model=prepared.model,
            compute=run.compute,
            processes=run.processes,
            args=training_arguments(run.config, run.compute, folder),
            train_dataset=data.train,
            data_collator=data.collate,
            callbacks=[*prepared.callbacks, SaveAsAsked(), StopWhenAsked(run.stop, run.processes), *callbacks],
        )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StopAtNaN(trainer, run.config))
    return trainer


@contextmanager
def _same_fp32(*, compiled: bool) -> Iterator[None]:
    """A context in which building the Trainer of a compiled model leaves the precision of fp32 as it is. Otherwise
    accelerate would let CUDA multiply in TF32 for the rest of the process, and compiling would change the results."""
    if not compiled:
        yield
        return
    backends: Any = torch.backends
    # transformers sets the first one, for all backends, where it is told to leave TF32 off.
    everywhere, matmul = backends.fp32_precision, backends.cuda.matmul.allow_tf32
    try:
        yield
    finally:
        backends.fp32_precision, backends.cuda.matmul.allow_tf32 = everywhere, matmul


@contextmanager
def _own_cache(model: Any) -> Iterator[None]:
    """Restores the model's own `use_cache`, which Trainer sets to False.

    A saved config.json would keep that, and whoever loads the model would generate without a cache."""
    settings = getattr(model, "config", None)
    own = vars(settings) if isinstance(settings, PreTrainedConfig) else {}
    before = {name: own[name] for name in ("use_cache",) if name in own}
    try:
        yield
    finally:
        own.pop("use_cache", None)
        own.update(before)


def _usual_masks(*, compiled: bool) -> AbstractContextManager[Any]:
    """A context in which a compiled model draws the same dropout masks as an uncompiled one. Otherwise the masks
    depend on how the model is cut into graphs, and two trainings with one seed differ in more than their ranks."""
    if not compiled:
        return nullcontext()
    settings: Any = import_module("torch._inductor.config")  # this import takes a second
    patched: AbstractContextManager[Any] = settings.patch(fallback_random=True)
    return patched


def training_arguments(config: RunConfig, compute: Compute, folder: Path) -> TrainingArguments:
    """What Trainer is told of a training by `config`, which writes its checkpoints into `folder`."""
    settings = config.retrain
    arguments = TrainingArguments(
        output_dir=str(folder),
        # The batch is divided among the processes: more of them change the time of a step, but not its result.
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        per_device_eval_batch_size=config.evaluation_batch,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.rate,
        weight_decay=settings.weight_decay,
        lr_scheduler_type="constant_with_warmup" if settings.scheduler == "constant" else settings.scheduler,
        warmup_steps=settings.warmup_ratio,
        max_grad_norm=settings.gradient_clipping,
        use_cpu=compute.device.type == "cpu",
        seed=config.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        torch_compile=settings.torch_compile,
        # Otherwise transformers would turn TF32 on for a compiled model. accelerate does so in any case: `_same_fp32`.
        tf32=False if settings.torch_compile else None,
        save_strategy="steps",
        save_steps=settings.checkpoint_every,
        save_total_limit=2,
        logging_strategy="no",
        # Trainer's own filter would copy the loss from the device at every step; StopAtNaN checks it less often.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,  # Progress shows the training
    )
    # RetrainTrainer applies autocast; the environment variable ACCELERATE_MIXED_PRECISION must not apply it again.
    arguments.mixed_precision = "no"
    # With several GPUs in one process Trainer would use DataParallel, with a batch for each; use torchrun instead.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
