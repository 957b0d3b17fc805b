"""The search: Betty's Engine over inner and outer problem, and the loop of Algorithm 1 until the ranks settle."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from betty.configs import Config, EngineConfig
from betty.engine import Engine
from betty.logging import get_logger
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import get_scheduler

from autolora.configs.schema import Autolora
from autolora.configs.search import OwnHypergradient
from autolora.engine.ranks.rules import kept_components
from autolora.problems.data import EndlessLoader
from autolora.problems.gates import Gates
from autolora.problems.hypergradients import betty_type
from autolora.problems.level import Passes
from autolora.problems.lora import LoraProblem
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.models.recompute import recompute_blocks
from autolora.problems.selection import SelectionProblem, SelectionVariables
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

    `after_step` is called after every inner step, when the step is complete; if it returns True, the search ends.
    `by_threshold`: whether ranks come from the threshold on alpha; only then they are logged and may end the search.
    """

    lora: LoraProblem
    selection: SelectionProblem

    def __init__(
        self,
        lora: LoraProblem,
        selection: SelectionProblem,
        steps: int,
        compute: Compute,
        *,
        by_threshold: bool = True,
    ) -> None:
        self._compute = compute
        self.by_threshold = by_threshold
        self.after_step: Callable[[SearchEngine], bool] = lambda engine: False
        # Betty logs every problem at the start; the program logs its own line instead.
        get_logger().setLevel(logging.WARNING)
        super().__init__(
            problems=[selection, lora],
            config=EngineConfig(train_iters=steps),
            dependencies={"u2l": {selection: [lora]}, "l2u": {lora: [selection]}},
        )

    def configure_systems(self) -> dict[str, Any]:
        """Gives Betty the run's device and a single process: the problems sum gradients over processes themselves."""
        self.device = self._compute.device
        return {"strategy": "default", "backend": None, "world_size": 1, "rank": 0, "local_rank": 0}

    def run(self) -> None:
        """Takes steps, from `global_step` on, until `after_step` returns True or `train_iters` is reached."""
        self.train()
        while self.global_step < self.train_iters:
            self.global_step += 1
            self.train_step()
            if self.after_step(self):
                break

    def own_skips(self) -> Tensor:
        """The number of steps, so far, that were skipped because their own loss or gradient was not finite. Scalar."""
        return self.lora.own_skips + self.selection.own_skips

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

    Every process starts from the weights of the first process and draws its own dropout masks.
    """
    search = config.search
    gates = Gates(model, config.lora.target_modules)
    if config.model.gradient_checkpointing:
        recompute_blocks(model, gates.again)
    variables, optimizer = _beta_of_components(config, gates, compute)
    model.to(compute.device)
    processes.same([p for p in model.parameters() if p.requires_grad])
    if not processes.first:
        torch.manual_seed(config.seed + 1_000_003 * processes.rank)
    parts = search.gradient_accumulation
    batches = EndlessLoader(d_tr, search.batch_size, collate, config.seed, processes, parts)
    # Another seed, so that the two loaders do not draw in the same order.
    outer_batches = EndlessLoader(d_val, search.batch_size, collate, config.seed + 1, processes, parts)
    shared: dict[str, Any] = {"compute": compute, "passes": Passes(), "processes": processes, "seed": config.seed}
    lora = _inner_problem(config, model, gates, batches, shared, loss)
    beta = variables.parameters()
    selection = SelectionProblem("selection", Config(), variables, beta, optimizer, outer_batches, **shared)
    by_threshold = config.answer.rule == "threshold"
    return SearchEngine(lora, selection, search.steps, compute, by_threshold=by_threshold)


def _inner_problem(
    config: Autolora, model: PeftModel, gates: Gates, batches: EndlessLoader, shared: dict[str, Any], loss: Loss
) -> LoraProblem:
    """The inner problem: AdamW trains W on D_tr with the configured schedule."""
    search, hypergradient = config.search, config.hypergradient
    known = ("eta", "radius", "terms")
    given = {name: OwnHypergradient.model_fields[name].default for name in known} | vars(hypergradient)
    weights = [p for p in model.parameters() if p.requires_grad]
    fused = shared["compute"].fused
    optimizer = torch.optim.AdamW(weights, lr=search.learning_rate, weight_decay=search.weight_decay, fused=fused)
    scheduler = get_scheduler(
        "constant_with_warmup" if search.scheduler == "constant" else search.scheduler,
        optimizer,
        num_warmup_steps=round(search.warmup_ratio * search.steps),
        num_training_steps=search.steps,
    )
    settings = Config(
        type=betty_type(hypergradient.type),
        unroll_steps=search.unroll_steps,
        # Inner steps before the first outer step: all of them if alpha is fixed, so that no outer step is taken.
        warmup_steps=0 if config.hypergradient.moves_alpha else search.steps,
        gradient_clipping=search.gradient_clipping,
        darts_alpha=given["radius"],
        neumann_iterations=given["terms"],
        cg_iterations=given["terms"],
    )
    return LoraProblem(
        "lora", settings, model, weights, optimizer, batches, scheduler=scheduler, gates=gates,
        eta=given["eta"], dropout=search.dropout, loss_of=loss,
        **shared,
    )  # fmt: skip


def _beta_of_components(
    config: Autolora, gates: Gates, compute: Compute
) -> tuple[SelectionVariables, torch.optim.Optimizer]:
    """The paper's outer variables, beta [layers, k], and AdamW without weight decay, which would pull alpha to
    uniform."""
    search = config.search
    variables = SelectionVariables(len(gates.names), gates.k, search.constraint, search.gate).to(compute.device)
    rate = search.selection_learning_rate
    return variables, torch.optim.AdamW(variables.parameters(), lr=rate, weight_decay=0.0, fused=compute.fused)
