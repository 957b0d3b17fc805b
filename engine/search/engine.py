"""Algorithm 1 on Betty: the Engine over both problems, how it is built, and its state in a
checkpoint."""

import logging
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from accelerate.utils import send_to_device
from betty.configs import EngineConfig
from betty.engine import Engine
from betty.logging import get_logger
from peft import PeftModel
from torch import Tensor
from transformers import get_scheduler

from autolora.configs.search import HypergradientConfig, SearchConfig
from autolora.engine.ranks.record import kept_components
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
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.models.recompute import recompute_blocks
from autolora.problems.rows import Rows
from autolora.problems.tasks.base import Loss, model_loss


class SearchEngine(Engine):
    """Betty's Engine over `lora` (inner) and `selection` (outer).

    `by_threshold`: whether ranks come from the threshold on alpha; only then they are logged, and
    end the search once none has changed for `patience` checks in a row (0: never), `check_every`
    steps apart.
    """

    lora: LoraProblem
    selection: SelectionProblem

    def __init__(
        self,
        lora: LoraProblem,
        selection: SelectionProblem,
        settings: SearchConfig,
        *,
        by_threshold: bool,
    ) -> None:
        self._device = lora.shared.compute.device
        self.by_threshold = by_threshold
        self.check_every, patience = settings.checks
        self.patience = patience if by_threshold else 0
        self.last_ranks: list[int] = []
        self.unchanged = 0
        # Betty logs every problem at the start; the program logs its own line instead.
        get_logger().setLevel(logging.WARNING)
        super().__init__(
            problems=[selection, lora],
            config=EngineConfig(train_iters=settings.steps),
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
        kept = kept_components(self.alpha(), self.selection.module.constraint)
        return [int(rank) for rank in kept.sum(dim=1)]


def build_engine(
    model: PeftModel,
    d_tr: Rows,
    d_val: Rows,
    settings: SearchConfig,
    hypergradient: HypergradientConfig,
    seed: int,
    compute: Compute,
    processes: Processes = ALONE,
    *,
    loss: Loss = model_loss,
    by_threshold: bool = False,
    recompute: bool = False,
) -> SearchEngine:
    """An engine over a model with LoRA attached, before any training; every process starts from the
    weights of the first.

    `loss`: the loss of a batch. `recompute`: whether blocks keep no activations.
    """
    gates = Gates(model)
    if recompute:
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
        warmup_steps=0 if hypergradient.moves_alpha else settings.steps,
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
        hypergradient=approximation(hypergradient),
        seed=seed,
    )
    engine = SearchEngine(lora, selection, settings, by_threshold=by_threshold)
    if not hypergradient.moves_alpha:  # ranks that never change have not settled
        engine.patience = 0
    return engine


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
