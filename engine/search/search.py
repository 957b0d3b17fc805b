"""The search: takes the steps of Algorithm 1 and leaves alpha and the searched model.

`search` is read from top to bottom. The engine takes the steps; `SearchHook` reads it after each,
and never steers.
"""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from scipy.stats import entropy
from torch import Tensor
from transformers import set_seed

from autolora.configs.errors import UserError
from autolora.configs.search import Difference, SearchConfig
from autolora.engine.disk import checkpoint
from autolora.engine.disk.files import read_json_lines, write_json_lines
from autolora.engine.export.lora_config import of_the_model
from autolora.engine.ranks.rules import refuse_early
from autolora.engine.run.resources import peak_memory
from autolora.engine.search.engine import SearchEngine, build_engine, restore, snapshot
from autolora.engine.search.searched import Algorithm, Searched, Trajectory, to_singular_basis
from autolora.engine.tracking.picture import rank_picture
from autolora.engine.world import Tracking, World
from autolora.problems.hypergradients import approximation
from autolora.problems.machine.compute import holds_bf16, wait_for
from autolora.problems.models.attach import ADAPTER, attach_components
from autolora.problems.models.base import Base
from autolora.problems.models.dry_run import try_longest_batch
from autolora.problems.models.layers import refuse_large_k
from autolora.problems.models.names import key_names
from autolora.problems.rows import Rows
from autolora.problems.tasks.scoring import Scoring

log = logging.getLogger("autolora")

MOST_PICTURES = 20
"""About this many rank maps are sent to wandb in a search: each is a file, and more would only
crowd its slider."""


def search(
    base: Base, d_tr: Rows, d_val: Rows, scoring: Scoring, algorithm: Algorithm, world: World
) -> Searched:
    """Learns alpha by Algorithm 1; W and the head learn from D_tr, beta from D_val.

    With `world.work` the search resumes from checkpoint.pt there, and metrics.jsonl grows in it.
    Raises Interrupted if a signal asked to stop, UserError for what the user must change.
    """
    # one that cannot be made fails here, before a model is loaded
    approximation(algorithm.hypergradient)
    engine = prepare_search(base, d_tr, d_val, scoring, algorithm, world)
    engine.train()
    size = algorithm.search.batch_size
    try_longest_batch(
        engine.lora.module,
        max((d_tr, d_val), key=lambda rows: int(np.sort(rows.lengths)[-size:].sum())),
        size,
        engine.lora.training_step,
        world.compute,
        world.processes,
    )
    hook = SearchHook(engine, algorithm.search, world)
    world.begin()
    hook.resume()
    with hook.progress:
        engine.run(hook.after_step)
    return _leave(engine, algorithm.search, hook, world)


def prepare_search(
    base: Base,
    d_tr: Rows,
    d_val: Rows,
    scoring: Scoring,
    algorithm: Algorithm,
    world: World,
    *,
    second_order: bool = False,
) -> SearchEngine:
    """The engine before any training. `second_order`: attention must have second derivatives, also
    where the hypergradient needs none.

    Raises UserError if the search, or what follows it, could not work with this model, data and
    settings.
    """
    set_seed(algorithm.seed)
    lora = algorithm.lora
    hypergradient = algorithm.hypergradient
    lent = base.lend(second_order=second_order or hypergradient.second_order)
    refuse_large_k(lent.model, lora)
    if isinstance(hypergradient, Difference) and holds_bf16(lent.model):
        log.warning(
            "--hypergradient.type %s: with weights in bf16 or 4 bits a finite difference "
            "loses accuracy to rounding; take first_order or exact",
            hypergradient.type,
        )
    engine = build_engine(
        attach_components(lent.model, lora, scoring.peft_type, lent.trained_whole),
        d_tr,
        d_val,
        algorithm.search,
        hypergradient,
        algorithm.seed,
        world.compute,
        world.processes,
        loss=scoring.loss,
        by_threshold=algorithm.rule.rule == "threshold",
        recompute=algorithm.recompute,
    )
    sizes = engine.lora.gates.parameters_per_rank().values()
    refuse_early(algorithm.rule, len(d_val), sizes)
    log.info(
        "search: %d layers x k = %d, D_tr %d rows, D_val %d rows, %s, %s",
        len(engine.lora.gates.names),
        lora.k,
        len(d_tr),
        len(d_val),
        world.compute.device,
        "bf16" if world.compute.bf16 else "fp32",
    )
    return engine


class SearchHook:
    """The engine calls this after every step; it writes log lines, points of the trajectory, and
    checkpoints.

    Attribute `seconds`: time of the search so far, including the time before it was stopped and
    resumed.
    """

    def __init__(self, engine: SearchEngine, settings: SearchConfig, world: World) -> None:
        self.engine = engine
        self.settings = settings
        self.world = world
        self.trajectory = Trajectory(engine.lora.gates.names)
        self.seconds = self._seconds_at_line = 0.0
        self._clock = time.perf_counter()
        self._losses: list[Tensor] = []
        """L_tr and L_val [2] of each step since the last line of metrics.jsonl; NaN where no outer
        step was taken."""
        self._save_is_due = self._stop_is_due = False

    def _file(self, name: str) -> Path | None:
        """A file that the first process writes; None if nothing is kept."""
        work = self.world.work
        return work / name if work is not None and self.world.processes.first else None

    def resume(self) -> None:
        """Resumes from the checkpoint; without one, starts the trajectory with the point at step
        0."""
        engine = self.engine
        self.world.tracker.begin()
        saved = self.world.processes.of_first(self._saved)
        metrics = self._file("metrics.jsonl")
        if saved is None:
            if metrics is not None:
                metrics.unlink(missing_ok=True)
            self.trajectory.add(0, engine.alpha(), engine.contribution())
        else:
            restore(engine, saved)
            self.trajectory = Trajectory(**saved["trajectory"])
            self.seconds, self._seconds_at_line = saved["seconds"]
            self._losses = send_to_device(saved["losses"], engine.lora.shared.compute.device)
            if metrics is not None:
                # the lines after the checkpoint are written again
                lines = read_json_lines(metrics)
                done = [line for line in lines if line["step"] <= engine.global_step]
                write_json_lines(metrics, done)
            log.info("search: resumes from step %d", engine.global_step)
        gates = engine.lora.gates
        self.progress = self.world.progress(
            "search", self.settings.steps, engine.global_step, gates.names, gates.k
        )
        self._clock = time.perf_counter()

    def _saved(self) -> dict[str, Any] | None:
        path = self._file("checkpoint.pt")
        return None if path is None else checkpoint.load(path)

    def after_step(self, engine: SearchEngine, over: bool) -> None:
        """The engine calls this after every step. Raises Interrupted if a signal asked to stop,
        UserError if too many steps were skipped."""
        step = engine.global_step
        last_loss = engine.lora.last_loss
        takes_outer = step % self.settings.unroll_steps == 0
        # The last step always has a line and a point, as the report and the ranks are about it.
        logged = over or step % self.settings.log_every == 0
        if logged:  # wait for a GPU, so that the seconds of this line are those of its own steps
            wait_for(last_loss.device)
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now
        outer_loss = (
            engine.selection.last_loss if takes_outer else torch.full_like(last_loss, math.nan)
        )
        self._losses.append(torch.stack((last_loss.float(), outer_loss.float())))
        if logged:
            self._write_line()
        if over and step < engine.train_iters:
            log.info(
                "search: stops at step %d, as no rank changed for %d checks", step, engine.patience
            )
        # several processes stop together
        processes = self.world.processes
        if processes.size == 1 or step % self.settings.log_every == 0:
            self._stop_is_due |= processes.agree(self.world.stop)
        self._save_is_due |= self._stop_is_due or step % self.settings.checkpoint_every == 0
        # After an outer step, as a checkpoint does not hold the inner steps since the last one.
        # None after the last step: the search is over, and one resumed from it could take further
        # steps.
        if takes_outer and self._save_is_due and not over:
            self._save()
            if self._stop_is_due:
                self.world.stop.check()
        self.progress.step(step)

    def _write_line(self) -> None:
        """Writes a line of metrics.jsonl (means since the line before) and adds a point to the
        trajectory."""
        engine = self.engine
        train_loss, val_loss = torch.stack(self._losses).nanmean(dim=0).tolist()
        ranks = engine.ranks()
        skipped = engine.skipped_steps()
        line = {
            "step": engine.global_step,
            "train_loss": train_loss,
            "val_loss": val_loss,
            **engine.selection.diagnostics(),
            "seconds": (self.seconds - self._seconds_at_line) / len(self._losses),
            **({"mean_rank": sum(ranks) / len(ranks)} if ranks else {}),
            "forward_passes": engine.lora.shared.passes.forward,
            "backward_passes": engine.lora.shared.passes.backward,
            "skipped_steps": skipped,
        }
        self._losses = []
        self._seconds_at_line = self.seconds
        self._append(line)
        self.trajectory.add(engine.global_step, engine.alpha(), engine.contribution())
        send_point(self.world.tracker, line, self.trajectory, ranks, self.settings.steps)
        validation = "-" if math.isnan(val_loss) else f"{val_loss:z.3f}"
        mean_rank = f"  mean rank {line['mean_rank']:.2f}, not decided yet" if ranks else ""
        self.progress.show(f"L_tr {train_loss:z.3f}  L_val {validation}{mean_rank}", ranks)
        if skipped > self.settings.max_bad_steps:
            raise UserError(
                f"--search.max_bad_steps: by step {engine.global_step} the loss or gradient of "
                f"{skipped} steps was not finite, allowed {self.settings.max_bad_steps}; lower "
                f"--search.learning_rate ({self.settings.learning_rate:g}) or "
                f"--search.selection_learning_rate ({self.settings.selection_learning_rate:g}), "
                "or take another --hypergradient.type, with --overwrite"
            )

    def _append(self, line: dict[str, Any]) -> None:
        """Adds a line to metrics.jsonl; JSON has no NaN."""
        path = self._file("metrics.jsonl")
        if path is None:
            return
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in line.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")

    def _save(self) -> None:
        self._save_is_due = False
        if path := self._file("checkpoint.pt"):
            state = snapshot(self.engine) | {
                "trajectory": vars(self.trajectory),
                "losses": self._losses,
                "seconds": (self.seconds, self._seconds_at_line),
            }
            checkpoint.save(path, state)
        self._clock = time.perf_counter()


def _leave(
    engine: SearchEngine, settings: SearchConfig, hook: SearchHook, world: World
) -> Searched:
    """What a search leaves after its last step, in the singular basis."""
    if skipped := engine.skipped_steps():
        log.warning("%d steps were skipped, as their loss or gradient was not finite", skipped)
    send_curves(world.tracker, hook.trajectory)
    gates = engine.lora.gates
    numbers = {"alpha": engine.alpha(), "contribution": engine.contribution()}
    numbers["singular_values"] = to_singular_basis(gates, engine.selection.module())
    names = {id(parameter): name for name, parameter in engine.lora.module.named_parameters()}
    weights = {
        names[id(parameter)]: parameter.detach().cpu().contiguous().clone()
        for parameter in engine.lora.trained
    }
    settled = engine.global_step < settings.steps
    return Searched(
        weights,
        {name: tensor.detach().cpu().contiguous() for name, tensor in numbers.items()},
        hook.trajectory,
        gates.parameters_per_rank(),
        {
            "steps": engine.global_step,
            "seconds": hook.seconds,
            "stopped": "ranks settled" if settled else "steps used up",
            "passes": dict(vars(engine.lora.shared.passes)),
            "peak_memory_mib": peak_memory(world.compute),
        },
        of_the_model(engine.lora.module.peft_config[ADAPTER]),
    )


def send_point(
    tracker: Tracking,
    line: Mapping[str, Any],
    history: Trajectory,
    ranks: Sequence[int],
    steps: int,
) -> None:
    """Sends a line of metrics.jsonl, the newest point of `history`, and the ranks at that point
    (empty: none), in a search of `steps` steps; docs/run-folder.md describes it for users.
    Components count from 1, as in the paper."""
    if not tracker.alive:
        return
    alpha = history.alpha[-1]
    contribution = history.contribution[-1]
    entropies = entropy(alpha.clip(0).numpy(), axis=1, base=max(2, alpha.shape[1]))
    values: dict[str, Any] = {f"search/{key}": value for key, value in line.items()}
    values["search/mean_entropy"] = float(entropies.mean())
    for index, name in enumerate(key_names(history.names)):
        if ranks:
            values[f"rank/{name}"] = ranks[index]
        values[f"entropy/{name}"] = float(entropies[index])
        for kind, rows in (("alpha", alpha), ("contribution", contribution)):
            values |= {
                f"{kind}/{name}/{j}": value for j, value in enumerate(rows[index].tolist(), start=1)
            }
    period = max(1.0, steps / MOST_PICTURES)
    before, now = [int(step / period) for step in history.steps[-2:]]
    if ranks and now > before:
        values["search/rank_map"] = rank_picture(history.names, ranks, alpha.shape[1])
    tracker.log(values)


def send_curves(tracker: Tracking, history: Trajectory) -> None:
    """Sends a chart of alpha for each layer."""
    if not tracker.alive:
        return
    alpha = torch.stack(history.alpha)
    for index, name in enumerate(key_names(history.names)):
        curves = {f"component {j + 1}": alpha[:, index, j].tolist() for j in range(alpha.shape[2])}
        tracker.lines(f"trajectories/{name}", history.steps, curves)
