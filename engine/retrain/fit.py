"""One training of any method, by transformers.Trainer: this program's order of rows and dropout
masks, steps that are the same on one and on several processes, a stop on a signal, and an end at
NaN."""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from autolora.engine.retrain import checkpoint
from autolora.engine.retrain.judge import NotFinite
from autolora.engine.retrain.prepared import Prepared, Training
from autolora.engine.world import World
from autolora.problems.batches import epoch_batches, local_parts
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.draws import seed_of
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.models.dry_run import try_longest_batch
from autolora.problems.models.recompute import recompute_blocks
from autolora.problems.tasks.base import model_loss

POINTS = 50
"""About how many points the curve of the training loss has."""
SECONDS = "seconds"
"""A key of each point: seconds of training, those before a stop included."""


def begin(prepared: Prepared, training: Training, world: World) -> None:
    """Lets the model recompute its blocks if the training asks for it, tries the longest batch,
    then writes down that the stage has begun. Whatever can refuse the training comes before."""
    model: Any = prepared.model
    if training.recompute:
        recompute_blocks(model)
    if trained_parameters(model):
        model.to(world.compute.device).train()
        try_longest_batch(
            model,
            training.rows,
            training.settings.batch_size,
            partial(model_loss, model),
            world.compute,
            world.processes,
        )
    world.begin()


def trained_parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def fit(prepared: Prepared, training: Training, world: World) -> tuple[Prepared, TrainerState]:
    """Trains on the rows; no best epoch is chosen. A model without trainable parameters is left as
    it is.

    Resumes from the newest whole checkpoint in `world.work`. Returns what the method makes of the
    trained model, and Trainer's state at the end. Raises Interrupted when a signal asked to stop,
    NotFinite when the loss is not finite.
    """
    prepared.model.to(world.compute.device)
    state = TrainerState()
    if trained_parameters(prepared.model):
        state = _trained(prepared, training, world)
    if world.processes.agree(world.stop):
        world.stop.check()
    return (prepared if prepared.finish is None else prepared.finish()), state


def _trained(prepared: Prepared, training: Training, world: World) -> TrainerState:
    """Trains, or goes on with a training; returns Trainer's state at the end."""
    model: Any = prepared.model
    config: Any = getattr(model, "config", None)
    caches = getattr(config, "use_cache", None)
    with ExitStack() as inside:
        folder = world.work or Path(inside.enter_context(TemporaryDirectory()))
        trainer = RetrainTrainer(
            model=model,
            args=training_arguments(prepared, training, world.compute, folder),
            train_dataset=training.rows,
            data_collator=training.rows.collate,
            batch=training.settings.batch_size,
            compute=world.compute,
            processes=world.processes,
            callbacks=[*prepared.callbacks, Watch(world, inside)],
        )
        trainer.remove_callback(PrinterCallback)
        step = world.processes.of_first(lambda: checkpoint.newest(folder))
        if step is None:
            trainer.train()
        elif not trainer.ended_at(checkpoint.place(folder, step)):
            trainer.train(resume_from_checkpoint=str(checkpoint.place(folder, step)))
    # Trainer sets it to False: who loads the saved model would generate without a cache
    if caches is not None:
        config.use_cache = caches
    return trainer.state


def training_arguments(
    prepared: Prepared, training: Training, compute: Compute, folder: Path
) -> TrainingArguments:
    """What Trainer is told of a training that writes its checkpoints into `folder`."""
    settings = training.settings
    arguments = TrainingArguments(
        output_dir=str(folder),
        # A step's rows, which RetrainTrainer cuts into batches and divides among the processes.
        per_device_train_batch_size=settings.batch_size * settings.gradient_accumulation,
        num_train_epochs=settings.epochs,
        max_steps=prepared.max_steps or settings.max_steps or -1,
        learning_rate=settings.rates[0],
        weight_decay=settings.weight_decay,
        lr_scheduler_type="constant_with_warmup"
        if settings.scheduler == "constant"
        else settings.scheduler,
        warmup_steps=settings.warmup_ratio,
        max_grad_norm=settings.gradient_clipping,
        use_cpu=compute.device.type == "cpu",
        seed=training.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        save_strategy="no" if prepared.callbacks else "steps",
        save_steps=settings.checkpoint_every,
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=1 / POINTS,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,  # Watch shows the training
    )
    # With several GPUs in one process Trainer would use DataParallel, with a batch for each; use
    # torchrun instead.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class RetrainTrainer(Trainer):
    """Trainer whose step minimises the mean loss over all labels of its rows, however these rows
    are cut into batches of `batch` rows and divided among processes. The rows of a step depend on
    the seed and the epoch alone, and its dropout masks on the seed and the step, so that a resumed
    training, or another one of this seed, has the same.
    """

    def __init__(
        self, *args: Any, batch: int, compute: Compute, processes: Processes = ALONE, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.batch = batch
        self.compute = compute
        self.processes = processes

    def ended_at(self, folder: Path) -> bool:
        """Whether the training had ended at a checkpoint, whose weights and state are then loaded.
        (Asked to resume there, Trainer would take one step too many.)"""
        state = TrainerState.load_from_json(str(folder / checkpoint.STATE))
        if state.global_step < state.max_steps:
            return False
        self._load_from_checkpoint(str(folder))
        self.state = state
        return True

    def get_train_dataloader(self) -> Any:
        numbers: Any = range(len(self.train_dataset))  # type: ignore[arg-type]
        return DataLoader(numbers, batch_sampler=_Steps(self), collate_fn=self._parts)

    def _parts(self, numbers: list[int]) -> dict[str, Any]:
        """This process's rows of a step as batches, and the share of each in the labels of the
        step."""
        rows: Any = self.train_dataset
        parts, shares = local_parts(rows, numbers, self.batch, self.processes)
        return {"batches": [self.data_collator(part) for part in parts], "shares": shares}

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """The gradient of a step; returns this process's part of its loss, times the number of
        processes, as DDP averages gradients."""
        model.train()
        total = torch.zeros((), device=self.args.device)
        inputs = self._prepare_inputs(inputs)
        for number, (batch, share) in enumerate(
            zip(inputs["batches"], inputs["shares"], strict=True)
        ):
            torch.manual_seed(
                seed_of(
                    self.args.seed, "masks", self.state.global_step, number, self.processes.rank
                )
            )
            with self.compute.autocast():
                loss = model(**batch).loss * (share * self.processes.size)
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0


class _Steps:
    """The rows of each step of the epoch in which the next step lies."""

    def __init__(self, trainer: RetrainTrainer) -> None:
        rows: Any = trainer.train_dataset
        self.trainer = trainer
        self.lengths = rows.lengths

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.trainer.args.per_device_train_batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        args = self.trainer.args
        epoch = self.trainer.state.global_step // len(self)
        return iter(
            epoch_batches(
                self.lengths, args.per_device_train_batch_size, args.seed, epoch, short_last=True
            )
        )


class Watch(TrainerCallback):
    """Ends a training at a signal or a loss that is not finite, and shows and sends its loss.
    `views`: where its view of the training is opened, to be closed by the caller."""

    def __init__(self, world: World, views: ExitStack) -> None:
        self.world = world
        self.views = views

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.world.tracker.begin()
        self.began = time.perf_counter() - seconds_of(state)
        progress = self.world.progress("retrain", state.max_steps, state.global_step)
        self.view = self.views.enter_context(progress)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        processes = self.world.processes
        # Several processes agree to stop only at every 10th step.
        if (processes.size == 1 or state.global_step % 10 == 0) and processes.agree(
            self.world.stop
        ):
            control.should_training_stop = True
            control.should_save = args.save_strategy != "no"
        # A point at each checkpoint, so that a resumed training has the points of an unbroken one.
        control.should_log |= control.should_save or state.global_step >= state.max_steps
        self.view.step(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise NotFinite(f"a loss up to step {state.global_step}")
        self.view.show(f"loss {logs['loss']:z.3f}  learning rate {logs['learning_rate']:.2g}")
        state.log_history[-1][SECONDS] = time.perf_counter() - self.began
        point = {f"retrain/{key}": value for key, value in points_of(state)[-1].items()}
        self.world.tracker.log(point)


def points_of(state: TrainerState) -> list[dict[str, Any]]:
    """The points of a training. Trainer's own last entry in the history has no `loss`."""
    keys = ("step", "loss", "learning_rate")
    return [{key: entry[key] for key in keys} for entry in state.log_history if "loss" in entry]


def seconds_of(state: TrainerState) -> float:
    """The seconds of a training, those before a stop included."""
    return max((entry.get(SECONDS, 0.0) for entry in state.log_history), default=0.0)
