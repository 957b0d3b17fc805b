"""The search: Betty's Engine over both problems of Algorithm 1, until the steps are used up or the ranks settle."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from betty.configs import EngineConfig
from betty.engine import Engine
from betty.logging import get_logger
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import get_scheduler

from autolora.configs.schema import Autolora
from autolora.engine.ranks.threshold import kept_components
from autolora.problems.bilevel import LoraProblem, SelectionProblem, SelectionVariables, Shared
from autolora.problems.data import Batches
from autolora.problems.gates import Gates
from autolora.problems.hypergradients import approximation
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.models.recompute import recompute_blocks
from autolora.problems.tasks import Collate
from autolora.problems.tasks.kind import Loss, own_loss


@dataclass
class RanksSettled:
    """The search has converged once no rank has changed for `patience` checks in a row; with `patience` 0, never."""

    patience: int
    last: list[int] | None = None
    unchanged: int = 0

    def check(self, ranks: list[int]) -> bool:
        """Records the ranks of one check; returns whether the search may stop."""
        self.unchanged = self.unchanged + 1 if ranks == self.last else 0
        self.last = ranks
        return 0 < self.patience <= self.unchanged


class SearchEngine(Engine):
    """Betty's Engine over `lora` (inner) and `selection` (outer).

    `by_threshold`: whether ranks come from the threshold on alpha; only then they are logged, and end the search once
    they have settled, which is checked every `check_every` steps.
    """

    lora: LoraProblem
    selection: SelectionProblem

    def __init__(self, lora: LoraProblem, selection: SelectionProblem, config: Autolora) -> None:
        self._device = lora.shared.compute.device
        self.by_threshold = config.answer.rule == "threshold"
        self.check_every, patience = config.search.checks
        self.settled = RanksSettled(patience if self.by_threshold and config.hypergradient.moves_alpha else 0)
        # Betty logs every problem at the start; the program logs its own line instead.
        get_logger().setLevel(logging.WARNING)
        super().__init__(
            problems=[selection, lora],
            config=EngineConfig(train_iters=config.search.steps),
            dependencies={"u2l": {selection: [lora]}, "l2u": {lora: [selection]}},
        )

    def configure_systems(self) -> dict[str, Any]:
        """Gives Betty the run's device and a single process: the problems sum gradients over processes themselves."""
        self.device = self._device
        return {"strategy": "default", "backend": None, "world_size": 1, "rank": 0, "local_rank": 0}

    def run(self, after_step: Callable[["SearchEngine", bool], None] = lambda engine, over: None) -> None:
        """Takes steps from `global_step` on. `after_step` is told of each, and whether it was the last; it does not
        steer."""
        self.train()
        over = self.global_step >= self.train_iters
        while not over:
            self.global_step += 1
            self.train_step()
            settled = self.global_step % self.check_every == 0 and self.settled.check(self.ranks())
            over = settled or self.global_step >= self.train_iters
            after_step(self, over)
        self.lora.gates.values = None

    def skipped_steps(self) -> int:
        """The steps, of both levels, that were skipped because their loss or gradient was not finite."""
        return int(self.lora.skipped_steps + self.selection.skipped_steps)

    @torch.no_grad()
    def alpha(self) -> Tensor:
        """alpha [layers, k] on the CPU, fp32."""
        return self.selection.module.alpha().detach().float().cpu()

    def contribution(self) -> Tensor:
        """|alpha_j| |B_j| |A_j| of every component [layers, k]; the loss sees this product, not alpha alone."""
        return self.alpha().abs() * self.lora.gates.sizes()

    def ranks(self) -> list[int]:
        """The current ranks by threshold, in the order of the gates; empty if another rule makes the ranks."""
        if not self.by_threshold:
            return []
        return [int(n) for n in kept_components(self.alpha(), self.selection.module.constraint).sum(dim=1)]


def build_engine(
    config: Autolora, model: PeftModel, d_tr: Dataset, d_val: Dataset, collate: Collate, compute: Compute,
    processes: Processes = ALONE, loss: Loss = own_loss,
) -> SearchEngine:  # fmt: skip
    """An engine over a model with LoRA attached, before any training. `loss`: the loss of a batch.

    Every process starts from the weights of the first process.
    """
    search, seed = config.search, config.seed
    gates = Gates(model)
    if config.model.gradient_checkpointing:
        recompute_blocks(model)
    variables = SelectionVariables(len(gates.names), gates.k, search.constraint, search.gate).to(compute.device)
    model.to(compute.device)
    weights = [p for p in model.parameters() if p.requires_grad]
    processes.same(weights)
    sizes: dict[str, Any] = {"device": compute.device, "processes": processes, "parts": search.gradient_accumulation}
    shared = Shared(compute, processes)
    optimizer = torch.optim.AdamW(
        weights, lr=search.learning_rate, weight_decay=search.weight_decay, fused=compute.fused
    )  # fmt: skip
    scheduler = get_scheduler(
        "constant_with_warmup" if search.scheduler == "constant" else search.scheduler,
        optimizer,
        num_warmup_steps=round(search.warmup_ratio * search.steps),
        num_training_steps=search.steps,
    )
    lora = LoraProblem(
        model, weights, optimizer, Batches(d_tr, search.batch_size, collate, seed, **sizes), shared, scheduler,
        gates=gates, loss=loss, dropout=search.dropout, unroll_steps=search.unroll_steps,
        # Inner steps before the first outer step: all of them if alpha is fixed, so that no outer step is taken.
        warmup_steps=0 if config.hypergradient.moves_alpha else search.steps,
        gradient_clipping=search.gradient_clipping,
    )  # fmt: skip
    beta = list(variables.parameters())
    # Without weight decay, which would pull alpha to uniform.
    of_beta = torch.optim.AdamW(beta, lr=search.selection_learning_rate, weight_decay=0.0, fused=compute.fused)
    # Another seed, so that the two levels do not walk through their rows in the same order.
    outer_batches = Batches(d_val, search.batch_size, collate, seed + 1, **sizes)
    selection = SelectionProblem(
        variables, beta, of_beta, outer_batches, shared, hypergradient=approximation(config.hypergradient), seed=seed
    )
    return SearchEngine(lora, selection, config)
