"""The search, Algorithm 1: Betty's Engine over both problems, the stage that runs it, and what is
written meanwhile.

`search` is read from top to bottom. The engine takes the steps; `SearchHook` reads it after each,
and never steers.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from accelerate.utils import send_to_device
from betty.configs import EngineConfig
from betty.engine import Engine
from betty.logging import get_logger
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import get_scheduler, set_seed

from autolora.configs.errors import UserError
from autolora.configs.schema import Autolora
from autolora.configs.search import Difference
from autolora.engine.disk import checkpoint
from autolora.engine.disk.files import (
    read_json_lines,
    remove,
    replacing,
    write_json,
    write_json_lines,
)
from autolora.engine.export.lora_config import of_the_model
from autolora.engine.ranks.record import kept_components
from autolora.engine.ranks.rules import refuse_early
from autolora.engine.run.context import Context
from autolora.engine.run.resources import peak_memory
from autolora.engine.search.trajectory import Trajectory, send_curves, send_point, to_singular_basis
from autolora.engine.terminal.bar import Bar
from autolora.engine.terminal.rank_map import RankMap
from autolora.engine.tracking import NOWHERE, Tracker
from autolora.problems.batches import Batches
from autolora.problems.bilevel import (
    Level,
    LoraProblem,
    SelectionProblem,
    SelectionVariables,
    Shared,
)
from autolora.problems.gates import Gates
from autolora.problems.hypergradients import approximation
from autolora.problems.machine.compute import Compute, holds_bf16, wait_for
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.models.attach import ADAPTER, attach_components
from autolora.problems.models.layers import refuse_large_k
from autolora.problems.models.recompute import recompute_blocks
from autolora.problems.rows import Rows
from autolora.problems.tasks.base import Loss, model_loss

log = logging.getLogger("autolora")


def search(run: Context, tracker: Tracker = NOWHERE) -> "SearchEngine":
    """Learns alpha and writes search/; resumes from its checkpoint if there is one.

    Returns the engine after its last step; in the first process its components are in the singular
    basis. Raises Interrupted if a signal asked to stop, UserError for what the user must change.
    """
    config = run.searched
    # one that cannot be made fails here, before the data is read
    approximation(config.hypergradient)
    engine = build_search(run, second_order=config.hypergradient.second_order)
    engine.train()
    run.try_longest_batch(
        engine.lora.module, run.data.train, config.search.batch_size, engine.lora.training_step
    )
    hook = SearchHook(engine, run, tracker)
    run.begin("search")
    hook.resume()
    with hook.progress:
        engine.run(hook.after_step)
    if run.processes.first:
        _record(run, engine, hook)
    return engine


def build_search(run: Context, *, second_order: bool) -> "SearchEngine":
    """An engine on the run's data, before any training; `second_order`: attention must have second
    derivatives.

    Raises UserError if the search, or what follows it, could not work with this model, data and
    settings.
    """
    config = run.searched
    set_seed(config.seed)
    d_tr, d_val = run.split()
    base = run.base(second_order=second_order)
    refuse_large_k(base.model, config.lora)
    if isinstance(config.hypergradient, Difference) and holds_bf16(base.model):
        log.warning(
            "--hypergradient.type %s: with weights in bf16 or 4 bits a finite difference "
            "loses accuracy to rounding; take first_order or exact",
            config.hypergradient.type,
        )
    model = attach_components(base.model, config.lora, run.kind.peft_type, base.trained_whole)
    engine = build_engine(
        config,
        model,
        d_tr,
        d_val,
        run.compute,
        run.processes,
        run.kind.loss,
    )
    refuse_early(config.choose, len(d_val), engine.lora.gates.parameters_per_rank().values())
    log.info(
        "search: %d layers x k = %d, D_tr %d rows, D_val %d rows, %s, %s",
        len(engine.lora.gates.names),
        config.lora.k,
        len(d_tr),
        len(d_val),
        run.compute.device,
        "bf16" if run.compute.bf16 else "fp32",
    )
    return engine


def build_engine(
    config: Autolora,
    model: PeftModel,
    d_tr: Rows,
    d_val: Rows,
    compute: Compute,
    processes: Processes = ALONE,
    loss: Loss = model_loss,
) -> "SearchEngine":
    """An engine over a model with LoRA attached, before any training; every process starts from the
    weights of the first.

    `loss`: the loss of a batch.
    """
    settings = config.search
    seed = config.seed
    gates = Gates(model)
    if config.model.gradient_checkpointing:
        recompute_blocks(model)
    variables = SelectionVariables(
        len(gates.names), gates.k, settings.constraint, settings.gate
    ).to(compute.device)
    model.to(compute.device)
    weights = [p for p in model.parameters() if p.requires_grad]
    processes.same(weights)
    sizes: dict[str, Any] = {
        "device": compute.device,
        "processes": processes,
        "parts": settings.gradient_accumulation,
    }
    shared = Shared(compute, processes)
    optimizer = torch.optim.AdamW(
        weights, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    scheduler = get_scheduler(
        "constant_with_warmup" if settings.scheduler == "constant" else settings.scheduler,
        optimizer,
        num_warmup_steps=round(settings.warmup_ratio * settings.steps),
        num_training_steps=settings.steps,
    )
    lora = LoraProblem(
        model,
        weights,
        optimizer,
        Batches(d_tr, settings.batch_size, seed, **sizes),
        shared,
        scheduler,
        gates=gates,
        loss=loss,
        dropout=settings.dropout,
        unroll_steps=settings.unroll_steps,
        # Inner steps before the first outer step: all of them if alpha is fixed, so that no outer
        # step is taken.
        warmup_steps=0 if config.hypergradient.moves_alpha else settings.steps,
        gradient_clipping=settings.gradient_clipping,
    )
    beta = list(variables.parameters())
    # Without weight decay, which would pull alpha to uniform.
    of_beta = torch.optim.AdamW(
        beta, lr=settings.selection_learning_rate, weight_decay=0.0, fused=True
    )
    # Another seed, so that the two levels do not walk through their rows in the same order.
    outer_batches = Batches(d_val, settings.batch_size, seed + 1, **sizes)
    selection = SelectionProblem(
        variables,
        beta,
        of_beta,
        outer_batches,
        shared,
        hypergradient=approximation(config.hypergradient),
        seed=seed,
    )
    return SearchEngine(lora, selection, config)


class SearchEngine(Engine):
    """Betty's Engine over `lora` (inner) and `selection` (outer).

    `by_threshold`: whether ranks come from the threshold on alpha; only then they are logged, and
    end the search once none has changed for `patience` checks in a row (0: never), `check_every`
    steps apart.
    """

    lora: LoraProblem
    selection: SelectionProblem

    def __init__(self, lora: LoraProblem, selection: SelectionProblem, config: Autolora) -> None:
        self._device = lora.shared.compute.device
        self.by_threshold = config.choose.rule == "threshold"
        self.check_every, patience = config.search.checks
        self.patience = patience if self.by_threshold and config.hypergradient.moves_alpha else 0
        self.last_ranks: list[int] = []
        self.unchanged = 0
        # Betty logs every problem at the start; the program logs its own line instead.
        get_logger().setLevel(logging.WARNING)
        super().__init__(
            problems=[selection, lora],
            config=EngineConfig(train_iters=config.search.steps),
            dependencies={"u2l": {selection: [lora]}, "l2u": {lora: [selection]}},
        )

    def configure_systems(self) -> dict[str, Any]:
        """Gives Betty the run's device and a single process: the problems sum gradients over
        processes themselves."""
        self.device = self._device
        return {"strategy": "default", "backend": None, "world_size": 1, "rank": 0, "local_rank": 0}

    def run(
        self, after_step: Callable[["SearchEngine", bool], None] = lambda engine, over: None
    ) -> None:
        """Takes steps from `global_step` on. `after_step` is told of each, and whether it was the
        last."""
        self.train()
        over = self.global_step >= self.train_iters
        try:
            while not over:
                self.global_step += 1
                self.train_step()
                over = self.settled() or self.global_step >= self.train_iters
                after_step(self, over)
        finally:
            self.lora.gates.values = None

    def settled(self) -> bool:
        """Whether the search may stop, as no rank has changed for long."""
        if not self.patience or self.global_step % self.check_every:
            return False
        ranks = self.ranks()
        self.unchanged = self.unchanged + 1 if ranks == self.last_ranks else 0
        self.last_ranks = ranks
        return self.unchanged >= self.patience

    def skipped_steps(self) -> int:
        """The steps, of both levels, that were skipped because their loss or gradient was not
        finite."""
        return self.lora.skipped_steps + self.selection.skipped_steps

    @torch.no_grad()
    def alpha(self) -> Tensor:
        """alpha [layers, k] on the CPU, fp32."""
        return self.selection.module.alpha().detach().float().cpu()

    def contribution(self) -> Tensor:
        """|alpha_j| |B_j| |A_j| of every component [layers, k].

        The loss sees this product, not alpha alone."""
        return self.alpha().abs() * self.lora.gates.norms()

    def ranks(self) -> list[int]:
        """The current ranks by threshold, in the order of the gates; empty if another rule makes
        the ranks."""
        if not self.by_threshold:
            return []
        return [
            int(n)
            for n in kept_components(self.alpha(), self.selection.module.constraint).sum(dim=1)
        ]


class SearchHook:
    """The engine calls this after every step; it writes log lines, points of the trajectory, and
    checkpoints.

    Attribute `seconds`: time of the search so far, including the time before it was stopped and
    resumed.
    """

    def __init__(self, engine: SearchEngine, run: Context, tracker: Tracker) -> None:
        self.engine = engine
        self.processes = run.processes
        self.search = run.searched.search
        self.folder = run.folder
        self.stop = run.stop
        self.tracker = tracker
        self.trajectory = Trajectory(engine.lora.gates.names)
        self.map = RankMap(engine.lora.gates.names, engine.lora.gates.k)
        self.seconds = self._seconds_at_line = 0.0
        self._clock = time.perf_counter()
        self._losses: list[Tensor] = []
        """L_tr and L_val [2] of each step since the last line of metrics.jsonl; NaN where no outer
        step was taken."""
        self._save_is_due = self._stop_is_due = False

    def resume(self) -> None:
        """Resumes from the checkpoint; without one, starts the trajectory with the point at step
        0."""
        engine = self.engine
        self.tracker.begin()
        found = self.processes.of_first(lambda: checkpoint.load(self.folder.search_checkpoint))
        if found is None:
            if self.processes.first:
                self.folder.search_metrics.unlink(missing_ok=True)
            self.trajectory.add(0, engine.alpha(), engine.contribution())
        else:
            restore(engine, found)
            self.trajectory = Trajectory(**found["trajectory"])
            self.seconds, self._seconds_at_line = found["seconds"]
            self._losses = send_to_device(found["losses"], engine.lora.shared.compute.device)
            if self.processes.first:
                # the lines after the checkpoint are written again
                path = self.folder.search_metrics
                write_json_lines(
                    path, [x for x in read_json_lines(path) if x["step"] <= engine.global_step]
                )
            log.info("search: resumes from step %d", engine.global_step)
        self.progress = Bar("search", self.search.steps, engine.global_step, [self.map])
        self._clock = time.perf_counter()

    def after_step(self, engine: SearchEngine, over: bool) -> None:
        """The engine calls this after every step. Raises Interrupted if a signal asked to stop,
        UserError if too many steps were skipped."""
        step = engine.global_step
        last_loss = engine.lora.last_loss
        takes_outer = step % self.search.unroll_steps == 0
        # The last step always has a line and a point, as the report and the ranks are about it.
        logged = over or step % self.search.log_every == 0
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
        if self.processes.size == 1 or step % self.search.log_every == 0:
            self._stop_is_due |= self.processes.agree(self.stop)
        self._save_is_due |= self._stop_is_due or step % self.search.checkpoint_every == 0
        # After an outer step, as a checkpoint does not hold the inner steps since the last one.
        # None after the last step: the search is over, and one resumed from it could take further
        # steps.
        if takes_outer and self._save_is_due and not over:
            self._save()
            if self._stop_is_due:
                self.stop.check()
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
        if self.processes.first:
            # JSON has no NaN.
            told = {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in line.items()
            }
            self.folder.search.mkdir(parents=True, exist_ok=True)
            with self.folder.search_metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(told) + "\n")
        self.trajectory.add(engine.global_step, engine.alpha(), engine.contribution())
        send_point(self.tracker, line, self.trajectory, ranks, self.search.steps)
        validation = "-" if math.isnan(val_loss) else f"{val_loss:z.3f}"
        mean_rank = f"  mean rank {line['mean_rank']:.2f}, not decided yet" if ranks else ""
        self.progress.numbers.plain = f"L_tr {train_loss:z.3f}  L_val {validation}{mean_rank}"
        self.map.ranks = ranks
        if skipped > self.search.max_bad_steps:
            raise UserError(
                f"--search.max_bad_steps: by step {engine.global_step} the loss or gradient of "
                f"{skipped} steps was not finite, allowed {self.search.max_bad_steps}; lower "
                f"--search.learning_rate ({self.search.learning_rate:g}) or "
                f"--search.selection_learning_rate ({self.search.selection_learning_rate:g}), "
                "or take another --hypergradient.type, with --overwrite"
            )

    def _save(self) -> None:
        self._save_is_due = False
        if self.processes.first:
            state = snapshot(self.engine) | {
                "trajectory": vars(self.trajectory),
                "losses": self._losses,
            }
            state |= {"seconds": (self.seconds, self._seconds_at_line)}
            checkpoint.save(self.folder.search_checkpoint, state)
        self._clock = time.perf_counter()


def snapshot(engine: SearchEngine) -> dict[str, Any]:
    """The state of a search after an outer step, with which a resumed search ends with the same
    bits: weights, beta, optimisers, what the hypergradient carries, counters. The tensors are not
    copied, so the next step changes them."""
    return {
        "step": engine.global_step,
        "settled": (engine.last_ranks, engine.unchanged),
        "passes": dict(vars(engine.lora.shared.passes)),
        "problems": {
            problem.name: _state_of(problem) for problem in (engine.lora, engine.selection)
        },
        "hypergradient": engine.selection.state,
    }


def restore(engine: SearchEngine, state: dict[str, Any]) -> None:
    """Loads a `snapshot` into newly built problems; `state` itself does not change."""
    state = deepcopy(state)
    device = engine.lora.shared.compute.device
    engine.global_step = state["step"]
    engine.last_ranks, engine.unchanged = state["settled"]
    vars(engine.lora.shared.passes).update(state["passes"])
    engine.lora.steps = []
    for problem in (engine.lora, engine.selection):
        _restore(problem, state["problems"][problem.name])
    engine.selection.state = send_to_device(state["hypergradient"], device)


_LAST = ("last_loss", "direct", "implicit", "skipped_steps")
"""Values that log lines show until the next step of the level sets them."""


def _state_of(problem: Level) -> dict[str, Any]:
    return {
        "count": problem._count,
        "weights": list(problem.trained),
        "optimizer": problem.optimizer.state_dict(),
        "last": {key: getattr(problem, key) for key in _LAST if hasattr(problem, key)},
    }


@torch.no_grad()
def _restore(problem: Level, state: dict[str, Any]) -> None:
    problem._count = state["count"]
    for parameter, value in zip(problem.trained, state["weights"], strict=True):
        parameter.copy_(value)
    problem.optimizer.load_state_dict(state["optimizer"])
    if problem.scheduler is not None:
        problem.scheduler.last_epoch = problem._count  # its rate is in the groups
    for key, value in state["last"].items():
        setattr(problem, key, send_to_device(value, problem.shared.compute.device))


def _record(run: Context, engine: SearchEngine, hook: SearchHook) -> None:
    """Writes the files that the measurement and the report read: summary.json last, as it marks the
    search as finished."""
    folder = run.folder
    config = run.searched
    if skipped := engine.skipped_steps():
        log.warning("%d steps were skipped, as their loss or gradient was not finite", skipped)
    hook.trajectory.write(folder.trajectory)
    send_curves(hook.tracker, hook.trajectory)
    numbers = {"alpha": engine.alpha(), "contribution": engine.contribution()}
    numbers["singular_values"] = to_singular_basis(engine.lora.gates, engine.selection.module())
    names = {id(p): name for name, p in engine.lora.module.named_parameters()}
    weights = {names[id(p)]: p for p in engine.lora.trained}
    for path, tensors in ((folder.search_weights, weights), (folder.search_numbers, numbers)):
        with replacing(path) as place:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                place,
            )
    write_json(
        folder.search_summary,
        {
            "steps": engine.global_step,
            "seconds": hook.seconds,
            "parameters_per_rank": engine.lora.gates.parameters_per_rank(),
            "stopped": "ranks settled"
            if engine.global_step < config.search.steps
            else "steps used up",
            "passes": vars(engine.lora.shared.passes),
            "peak_memory_mib": peak_memory(run.compute),
            "peft": of_the_model(engine.lora.module.peft_config[ADAPTER]),
        },
    )
    remove(folder.search_checkpoint)
