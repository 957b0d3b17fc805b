"""One training of any method, by transformers.Trainer: this program's order of rows and dropout masks, steps that are
the same on one and on several processes, a stop on a signal, and an end at NaN; then the evaluation."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from autolora.configs.schema import RunConfig, WithLora
from autolora.engine import ranks
from autolora.engine.ranks import RankRecord
from autolora.engine.retrain import checkpoint
from autolora.engine.retrain.evaluate import NotFinite
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.engine.run.trial_batch import try_longest_batch
from autolora.engine.terminal.live_view import RetrainProgress
from autolora.engine.tracking import NOWHERE, Tracker
from autolora.problems.data import Data, LengthGroupedOrder, own_parts
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.draws import seed_of
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.models.recompute import recompute_blocks
from autolora.problems.tasks.base import own_loss

POINTS = 50
"""About how many points the curve of the training loss has."""


@dataclass(frozen=True)
class Fitted:
    """A trained model with its ranks (None without LoRA) and what saves it (None: it is saved as plain LoRA), the
    seconds of its training, its optimiser steps, and the points (step, loss, learning_rate) of its training loss."""

    model: nn.Module
    record: RankRecord | None
    save: Callable[[], None] | None
    seconds: float
    steps: int
    curve: Sequence[Mapping[str, Any]] = ()


def begin(run: Context, prepared: Prepared, data: Data, *stages: str) -> None:
    """Lets the model recompute its blocks if the run asks for it, tries the longest batch, then writes config.yaml,
    the manifests of `stages` and, if ranks or scale are new, ranks.json.

    From then on the folder counts as begun: whatever can refuse the training comes before.
    """
    model: Any = prepared.model
    if run.config.model.gradient_checkpointing and run.config.trains_blocks:
        recompute_blocks(model)
    if any(parameter.requires_grad for parameter in model.parameters()):
        model.to(run.compute.device)
        model.train()
        try_longest_batch(run, model, data.train, run.config.retrain.batch_size, partial(own_loss, model))
    run.begin(*stages)
    path, config, record = run.folder.ranks, run.config, prepared.record
    if record is None or not run.processes.first:
        return
    if prepared.new_ranks:
        ranks.save(record, path)
    elif path.exists() and isinstance(config, WithLora) and (kept := ranks.load(path)).lora_alpha is not None:
        ranks.save(ranks.of_run(kept, config), path)  # the search may have been made with another retrain.scale


def fit(run: Context, prepared: Prepared, data: Data, folder: Path, tracker: Tracker = NOWHERE) -> Fitted:
    """Trains on `data.train`; no best epoch is chosen. A model without trainable parameters is left as it is.

    Resumes from the newest complete checkpoint in `folder`. Raises Interrupted when a signal asked to stop, NotFinite
    when the loss is not finite.
    """
    watch = Watch(run, tracker)
    model: Any = prepared.model.to(run.compute.device)
    state = TrainerState()
    if any(parameter.requires_grad for parameter in model.parameters()):
        state = _trained(run, prepared, data, folder, watch)
    if run.processes.agree(run.stop):
        run.stop.check()
    if prepared.finish is not None:
        prepared = prepared.finish()
    points = points_of(state)
    return Fitted(prepared.model, prepared.record, prepared.save, watch.seconds, state.global_step, points)


def _trained(run: Context, prepared: Prepared, data: Data, folder: Path, watch: "Watch") -> TrainerState:
    """Trains, or goes on with a training; returns Trainer's state at the end."""
    model: Any = prepared.model
    settings: Any = getattr(model, "config", None)
    caches = getattr(settings, "use_cache", None)
    args = training_arguments(run.config, run.compute, folder)
    if not prepared.resumes:
        args.set_save("no")
    trainer = RetrainTrainer(
        model=model, args=args, train_dataset=data.train,
        data_collator=data.collate, batch=run.config.retrain.batch_size, compute=run.compute,
        processes=run.processes, callbacks=[*prepared.callbacks, watch],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    last = run.processes.of_first(lambda: checkpoint.newest(folder))
    if last is not None:
        watch.seconds = last.seconds
    if last is not None and last.step >= last.max_steps:
        # Trainer, asked to resume here, would take one step too many.
        trainer._load_from_checkpoint(str(last.folder))
        trainer.state = TrainerState.load_from_json(str(last.folder / "trainer_state.json"))
    else:
        with watch:
            trainer.train(resume_from_checkpoint=None if last is None else str(last.folder))
    if caches is not None:  # Trainer sets it to False: who loads the saved model would generate without a cache
        settings.use_cache = caches
    return trainer.state


def training_arguments(config: RunConfig, compute: Compute, folder: Path) -> TrainingArguments:
    """What Trainer is told of a training by `config`, which writes its checkpoints into `folder`."""
    settings = config.retrain
    arguments = TrainingArguments(
        output_dir=str(folder),
        # A step's rows, which RetrainTrainer cuts into batches and divides among the processes.
        per_device_train_batch_size=settings.batch_size * settings.gradient_accumulation,
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
        save_strategy="steps",
        save_steps=settings.checkpoint_every,
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=1 / POINTS,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,  # RetrainProgress shows the training
    )
    # With several GPUs in one process Trainer would use DataParallel, with a batch for each; use torchrun instead.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class RetrainTrainer(Trainer):
    """Trainer whose step minimises the mean loss over all labels of its rows, however these rows are cut into batches
    of `batch` rows and divided among processes. The rows of a step depend on the seed and the epoch alone, and
    its dropout masks on the seed and the step, so that a resumed training, or another one of this seed, has the same.
    """

    def __init__(self, *args: Any, batch: int, compute: Compute, processes: Processes = ALONE, **options: Any) -> None:
        super().__init__(*args, **options)
        self.batch = batch
        self.compute = compute
        self.processes = processes

    def get_train_dataloader(self) -> Any:
        rows: Any = self.train_dataset
        order = LengthGroupedOrder(rows["length"], self.batch, self.args.seed)
        steps = _Steps(order, self.args.per_device_train_batch_size, drop_last=False)
        numbers: Any = range(len(rows))
        return _Loader(numbers, batch_sampler=steps, collate_fn=self._parts)

    def _parts(self, numbers: list[int]) -> dict[str, Any]:
        """This process's rows of a step as batches, and the share of each in the labels of the step."""
        rows: Any = self.train_dataset
        parts, shares = own_parts(rows, numbers, self.batch, self.processes)
        return {"batches": [self.data_collator(part) for part in parts], "shares": shares}

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """The gradient of a step; returns this process's part of its loss, times the number of processes, as DDP
        averages gradients."""
        model.train()
        total = torch.zeros((), device=self.args.device)
        inputs = self._prepare_inputs(inputs)
        for number, (batch, share) in enumerate(zip(inputs["batches"], inputs["shares"], strict=True)):
            torch.manual_seed(seed_of(self.args.seed, "masks", self.state.global_step, number, self.processes.rank))
            with self.compute.autocast():
                loss = model(**batch).loss * (share * self.processes.size)
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0


class _Steps(BatchSampler):
    """The rows of each step of an epoch."""

    sampler: LengthGroupedOrder

    def set_epoch(self, epoch: int) -> None:
        """Trainer calls this on the sampler itself once it has skipped the steps that were taken before a stop."""
        self.sampler.set_epoch(epoch)


class _Loader(DataLoader[Any]):
    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch whose steps the next iteration gives; Trainer calls this."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


@dataclass(eq=False)
class Watch(TrainerCallback):
    """Ends a training at a signal or a loss that is not finite, seals its checkpoints, and shows and sends its loss.

    `seconds`: of the training, those before a stop included. Used in a `with` statement, it takes its view off the
    terminal."""

    run: Context
    tracker: Tracker
    seconds: float = 0.0
    view: RetrainProgress | None = None
    shown: tuple[float, float] = (math.nan, math.nan)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.save_steps = args.save_steps  # a resumed training would keep the value of its checkpoint
        self._began = time.perf_counter() - self.seconds
        self.view = RetrainProgress(state.max_steps, state.global_step).__enter__()
        if points_of(state):
            self.tracker.resumes()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.view is not None
        processes = self.run.processes
        # Several processes agree to stop only at every 10th step.
        if (processes.size == 1 or state.global_step % 10 == 0) and processes.agree(self.run.stop):
            control.should_training_stop = True
            control.should_save = args.save_strategy != "no"
        # A point at each checkpoint, so that a resumed training has the points of an unbroken one.
        control.should_log |= control.should_save or state.global_step >= state.max_steps
        self.view.show(state.global_step, *self.shown)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise NotFinite(f"a loss up to step {state.global_step}")
        self.shown = logs["loss"], logs["learning_rate"]
        self.tracker.log({f"retrain/{key}": value for key, value in points_of(state)[-1].items()})

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.run.processes.wait()  # until each process has written its random state
        if self.run.processes.first:
            self.seconds = time.perf_counter() - self._began
            checkpoint.seal(checkpoint.place(Path(args.output_dir), state.global_step), self.seconds)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = time.perf_counter() - self._began

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *error: object) -> None:
        if self.view is not None:
            self.view.__exit__()


def points_of(state: TrainerState) -> list[dict[str, Any]]:
    """The points of a training. Trainer's own last entry in the history has no `loss`."""
    keys = ("step", "loss", "learning_rate")
    return [{key: entry[key] for key in keys} for entry in state.log_history if "loss" in entry]
