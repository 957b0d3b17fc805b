"""The fully bilevel candidate: ranks under one budget are themselves the outer variables.

    rho_l = k sigmoid((beta_l - zeta) / tau),   zeta such that sum_l c_l rho_l = C        (the rank of layer l)
    g_lj = sigmoid((rho_l - j + 1/2) / T)                                                 (the gate of component j)

beta has one number for each layer; c_l are the parameters of one of its components, and C is the budget. The sum over
all layers is fixed, so a layer's rank can rise only if others fall: unlike in the paper's softmax inside each layer,
what a layer is worth as a whole reaches beta. (S3Delta, too, meets a budget by one shift that all layers share.)
"""

from collections.abc import Sequence
from typing import Any

import torch
from scipy.optimize import brentq
from scipy.special import expit
from torch import Tensor, nn
from transformers import set_seed

from configs.schema import RunConfig
from engine.run.workbench import Workbench
from engine.search.engine import MakeOuter, SearchEngine, build_engine
from engine.terminal.bar import Bar
from problems.gates import Gates
from problems.hypergradients import betty_type, registered
from problems.machine.compute import Compute
from problems.models.attach import attach_components

TAU = 0.25
"""How far apart two beta must be for very different ranks: Adam moves beta by about 0.5 in such a search."""
FROZEN = 1 / 3
"""The part of the search in which beta stays uniform, as LoRA has not learned anything yet."""
SHARPEST = 0.25
"""T falls from 1 to this value, so that the gates end near 0 or 1."""


class OrderedRanks(nn.Module):
    """beta [layers], and the ranks and gates that follow. `sizes`: the parameters of a component of each layer;
    `budget`: an average rank below k."""

    sizes: Tensor

    def __init__(self, sizes: Sequence[int], k: int, budget: float) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(len(sizes)))
        self.register_buffer("sizes", torch.tensor(sizes, dtype=torch.float32))
        self.k, self.budget = k, budget
        self.sharpness = 1.0
        """T: the smaller it is, the closer each gate is to 0 or 1."""

    def ranks(self) -> Tensor:
        """rho [layers]; they use up the budget: an average rank, weighted by the sizes."""
        part, scaled = self.sizes / self.sizes.sum(), self.beta / TAU
        fixed, weights = scaled.detach().cpu().double().numpy(), part.cpu().double().numpy()

        def too_much(shift: float) -> float:
            return float(weights @ expit(fixed - shift)) - self.budget / self.k

        # One step of Newton's method from the root changes nothing but lets the gradient pass through the shift.
        root = brentq(too_much, fixed.min() - 50, fixed.max() + 50)
        open_ = (scaled - root).sigmoid()
        slope = (part * open_ * (1 - open_)).sum().detach()
        shift = root + ((part * open_).sum() - self.budget / self.k) / slope
        return self.k * (scaled - shift).sigmoid()

    def forward(self) -> Tensor:
        """The gates [layers, k]."""
        places = torch.arange(1, self.k + 1, device=self.beta.device)
        return ((self.ranks().unsqueeze(1) - places + 0.5) / self.sharpness).sigmoid()

    def alpha(self) -> Tensor:
        """The gates [layers, k]; the search's log and checkpoints read them under this name."""
        return self()


class OneScaleAdam(torch.optim.Optimizer):
    """Adam whose second moment is one number for all parameters, so that a layer with a large gradient moves far.

    With one second moment for each layer, as in Adam, all layers would move equally far.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Takes one step."""
        for group in self.param_groups:
            used = [p for p in group["params"] if p.grad is not None]
            squares = sum(float(p.grad.square().sum()) for p in used) / max(1, sum(p.numel() for p in used))
            first, second = group["betas"]
            group["steps"] = steps = group.get("steps", 0) + 1
            group["square"] = second * group.get("square", 0.0) + (1 - second) * squares
            size = (group["square"] / (1 - second**steps)) ** 0.5 + 1e-12
            for p in used:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - first)
                p.sub_(mean, alpha=group["lr"] / (1 - first**steps) / size)


def ordered(budget: float) -> MakeOuter:
    """Makes beta and its optimiser for an average rank of `budget`."""

    def make(config: RunConfig, gates: Gates, compute: Compute) -> tuple[OrderedRanks, OneScaleAdam]:
        made = OrderedRanks(list(gates.parameters_per_rank().values()), gates.k, budget)
        return made, OneScaleAdam(made.parameters(), lr=config.search.selection_learning_rate)

    return make


def learned_ranks(run: Workbench, budget: float) -> Tensor:
    """rho [layers] after a search of its own on D_tr and D_val, with the settings of the run's search."""
    config, (d_tr, d_val) = run.config, run.halves()
    set_seed(config.seed)
    base = run.base(second_order=registered(betty_type(config.hypergradient.type)).second_order)
    model = attach_components(base.model, config.lora, run.kind.peft_type, base.trained_whole)
    rows = run.data.train
    engine = build_engine(
        config, model, rows.select(d_tr), rows.select(d_val), run.data.collate, run.compute, run.processes,
        run.kind.loss, ordered(budget),
    )  # fmt: skip
    return ranks_after_search(engine, config)


def ranks_after_search(engine: SearchEngine, config: RunConfig) -> Tensor:
    """rho [layers] after all steps of an engine whose outer variables are OrderedRanks."""
    with Bar("ordered ranks", config.search.steps) as bar:
        schedule = _Schedule(bar, config.search.selection_learning_rate)
        schedule.begin(engine, 0.0)
        engine.after_step = schedule
        engine.run()
    found: Tensor = engine.selection.module.ranks().detach().cpu().double()
    return found


class _Schedule:
    """Freezes beta in the first part of the search, and sharpens the gates step by step."""

    def __init__(self, bar: Bar, rate: float) -> None:
        self.bar, self.rate = bar, rate

    def begin(self, engine: SearchEngine, done: float) -> None:
        """Sets what holds in the next step; `done`: the part of the search that is over."""
        engine.selection.module.sharpness = 1 - (1 - SHARPEST) * done
        for group in engine.selection.optimizer.param_groups:
            group["lr"] = 0.0 if done < FROZEN else self.rate

    def __call__(self, engine: SearchEngine) -> bool:
        self.bar.step(engine.global_step)
        self.begin(engine, engine.global_step / engine.train_iters)
        return False
