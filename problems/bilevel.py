"""Algorithm 1 of AutoLoRA as two Betty problems.

    inner, on D_tr:   W    <- W    - rate * dL_tr/dW                        LoraProblem, Eq. 4
    outer, on D_val:  beta <- beta - rate * (dL_val/dbeta + implicit) at W' SelectionProblem, Eq. 5

Betty's Engine decides whose turn it is: `unroll_steps` inner steps, then an outer one. Each turn is
one `one_step_descent`, the only method of Betty's that decides anything here. Stock Betty 0.2.1
would train every parameter of a module, rebuild the optimiser from its defaults (which AdamW
refuses), read the loss back from the device at every step, and draw other dropout masks for each
side of a finite difference.

A batch, with its dropout masks, is a function of the run's seed and the step
(problems/batches.py), so that a checkpoint holds no random state.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from betty.configs import Config
from betty.problems import ImplicitProblem
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from autolora.configs.search import Constraint
from autolora.problems.batches import (
    Batch,
    Batches,
    Gradient,
    loss_and_gradient,
    losses,
    summed,
)
from autolora.problems.gates import Gates
from autolora.problems.hypergradients import Hypergradient, State, Step, Tensors
from autolora.problems.machine.compute import Compute, seeded
from autolora.problems.machine.draws import seed_of
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.tasks.base import Loss, model_loss


@dataclass
class Passes:
    """Forward and backward passes through the model so far (a Hessian-vector product is one
    backward)."""

    forward: int = 0
    backward: int = 0


@dataclass
class Shared:
    """What both levels share: where they compute, the processes among which they divide a batch,
    the passes."""

    compute: Compute
    processes: Processes = ALONE
    passes: Passes = field(default_factory=Passes)


class Level(ImplicitProblem):
    """One level of the bilevel problem: its optimiser changes the parameters `trained` to lower the
    loss of a batch.

    Attributes: `batch`, `last_loss`, `norm` (of its gradient before clipping) and `skipped` of the
    last step; `skipped_steps`, how many steps were skipped so far because their loss or gradient
    was not finite.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        trained: Iterable[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        batches: Batches,
        shared: Shared,
        scheduler: Any = None,
        **config: Any,
    ) -> None:
        super().__init__(name, Config(**config), module, optimizer, scheduler)
        self.trained = list(trained)
        self.batches = batches
        self.shared = shared
        self.batch = Batch([], 0)
        self.last_loss = torch.full((), math.nan, device=shared.compute.device)
        self.norm = torch.zeros((), device=shared.compute.device)
        self.skipped = False
        self.skipped_steps = 0
        self._further = 0

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters that this problem trains; Betty's own are all of the module, the frozen
        ones too."""
        return self.trained

    parameters = trainable_parameters  # Betty calls sometimes one, sometimes the other

    def patch_optimizer(self) -> None:
        """Keeps the given optimiser; Betty's own builds it anew."""

    def patch_scheduler(self) -> None:
        """Keeps the given scheduler; Betty's own would lose its position."""

    def draw(self) -> Batch:
        """A further batch of this level's rows, the same in a search that resumes; the search's own
        stay as they are."""
        self._further += 1
        return self.batches.drawn(self.count, self._further)

    def one_step_descent(self, batch: Any = None) -> dict[str, Tensor]:
        """Takes a step, or skips it if its loss or gradient is not finite: then no parameter
        changes."""
        # Betty has counted the step already
        self.batch = self.batches[self.count - 1]
        self._further = 0
        self.last_loss, gradient = self.descent(self.batch)
        self.norm = get_total_norm(gradient)
        self.skipped = not (self.last_loss + self.norm).isfinite()
        self.skipped_steps += self.skipped
        for parameter, slope in zip(self.trained, gradient, strict=True):
            parameter.grad = slope
        if not self.skipped:
            self.optimizer_step()
        self.zero_grad()
        return {"loss": self.last_loss}

    def descent(self, batch: Batch) -> tuple[Tensor, Gradient]:
        """The loss of a batch, and the gradient that the optimiser is to follow."""
        raise NotImplementedError

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """The losses of the parts of a batch at the current W and beta (`batches.losses`)."""
        return losses(batch, self._counted_loss, self.shared.compute)

    def _counted_loss(self, inputs: dict[str, Tensor]) -> Tensor:
        self.shared.passes.forward += 1
        loss: Tensor = self.training_step(inputs)
        return loss

    def loss_and_gradient(self, batch: Batch, inputs: Tensors) -> tuple[Tensor, Gradient]:
        """L and dL/d inputs of a batch at the current W and beta, zeros for an unused input."""
        return loss_and_gradient(self.losses(batch), inputs, self.shared.processes, self._grad)

    def gradient(self, batch: Batch, inputs: Tensors) -> Gradient:
        """dL/d inputs of a batch at the current W and beta, zeros for an unused input."""
        return self.loss_and_gradient(batch, inputs)[1]

    def products(self, batch: Batch) -> Callable[[Tensors, Tensors], list[Tensor]]:
        """Products with the second derivatives of L at the current W and beta: a function of a
        direction in W and of inputs, which returns d (dL/dW . direction) / d inputs.

        dL/dW of a single part is computed once and kept. That of several parts is computed anew for
        every product: a batch is cut into parts because the graphs of all its rows do not fit into
        memory.
        """
        weights = self.weights

        def gradients() -> Iterator[Gradient]:
            return map(partial(self._grad, inputs=weights, create_graph=True), self.losses(batch))

        kept = list(gradients()) if len(batch.parts) == 1 else None

        def product(direction: Tensors, inputs: Tensors) -> list[Tensor]:
            def along(gradient: Gradient) -> Gradient:
                # torch refuses to differentiate a constant.
                used = [(g, d) for g, d in zip(gradient, direction, strict=True) if g.requires_grad]
                slopes, directions = zip(*used, strict=True)
                return self._grad(
                    slopes, inputs, grad_outputs=directions, retain_graph=kept is not None
                )

            parts = gradients() if kept is None else kept
            return summed(along, parts, self.shared.processes)

        return product

    @property
    def weights(self) -> list[nn.Parameter]:
        """W."""
        raise NotImplementedError

    def _grad(self, loss: Any, inputs: Tensors, **options: Any) -> Gradient:
        self.shared.passes.backward += 1
        return list(torch.autograd.grad(loss, inputs, materialize_grads=True, **options))


class LoraProblem(Level):
    """The inner problem: W, the weights of LoRA and of the task head, on D_tr.

    Betty sets `self.selection`. `steps`: the inner steps since the last outer one, as far as the
    hypergradient reads them. `dropout`: false keeps the model in evaluation mode.
    """

    selection: Any

    def __init__(
        self,
        *arguments: Any,
        gates: Any = None,
        loss: Loss = model_loss,
        dropout: bool = True,
        **options: Any,
    ) -> None:
        super().__init__("lora", *arguments, **options)
        self.gates: Gates = gates
        self._loss_of = loss
        self._dropout = dropout
        self.steps: list[Step] = []

    @property
    def weights(self) -> list[nn.Parameter]:
        return self.trained

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        """L(W, alpha(beta)) of one batch. Scalar."""
        self.gates.values = self.selection.module()  # they stay for the backward pass
        return self._loss_of(self.module, batch)

    def descent(self, batch: Batch) -> tuple[Tensor, Gradient]:
        """Eq. 4: the gradient over W. One backward pass also gives dL_tr/dbeta, where the
        hypergradient reads it."""
        reads = self.selection.hypergradient.reads
        beta = [] if reads == "nothing" else self.selection.trained
        loss, found = self.loss_and_gradient(batch, [*self.trained, *beta])
        gradient = found[: len(self.trained)]
        if reads != "nothing":
            before = [weight.detach().clone() for weight in self.trained]
            # the scheduler moves on after this step
            rate = float(self.optimizer.param_groups[0]["lr"])
            step = Step(batch, before, rate, found[len(gradient) :], gradient)
            self.steps = [*self.steps, step] if reads == "every step" else [step]
        return loss, gradient

    def one_step_descent(self, batch: Any = None) -> dict[str, Tensor]:
        found = super().one_step_descent(batch)
        if self.skipped:  # W' is W, which does not depend on beta
            self.steps = self.steps[:-1]
        return found

    @contextmanager
    def at(self, weights: Tensors) -> Iterator[None]:
        """Inside the context W is `weights`; afterwards it is what it was, bit for bit: adding a
        change and subtracting it again would leave rounding errors."""
        kept = [weight.detach().clone() for weight in self.trained]
        try:
            _write(self.trained, weights)
            yield
        finally:
            _write(self.trained, kept)

    def train(self) -> None:
        super().train()
        self.module.train(self._dropout)


class SelectionProblem(Level):
    """The outer problem: beta on D_val.

    Betty sets `self.lora`. `direct` and `implicit`: the two terms of the last outer gradient, flat,
    empty before the first outer step. `state`: what the hypergradient carries from one outer step
    to the next.
    """

    lora: Any

    def __init__(
        self, *arguments: Any, hypergradient: Hypergradient, seed: int = 0, **options: Any
    ) -> None:
        super().__init__("selection", *arguments, **options)
        self.hypergradient = hypergradient
        self.seed = seed
        self.direct = self.implicit = torch.zeros(0)
        self.state: State | None = None

    @property
    def weights(self) -> list[nn.Parameter]:
        trained: list[nn.Parameter] = self.lora.trained
        return trained

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        """L(W', alpha(beta)) of one batch. Scalar."""
        loss: Tensor = self.lora.training_step(batch)
        return loss

    def one_step_descent(self, batch: Any = None) -> dict[str, Tensor]:
        before = self.state
        found = super().one_step_descent(batch)
        if self.state and (self.skipped or self.lora.skipped):
            self.state = before  # numbers that are not finite would stay in it
        return found

    def descent(self, batch: Batch) -> tuple[Tensor, Gradient]:
        """Eq. 5: one backward pass gives the direct term and v = dL_val/dW', the hypergradient
        gives the implicit one."""
        inputs = (
            self.trained
            if self.hypergradient.reads == "nothing"
            else [*self.trained, *self.weights]
        )
        loss, found = self.loss_and_gradient(batch, inputs)
        self.direct = _flat(found[: len(self.trained)])
        self.implicit = _flat(self._implicit(found[len(self.trained) :]))
        self.lora.steps = []
        parts = (self.direct + self.implicit).split([beta.numel() for beta in self.trained])
        return loss, [part.view_as(beta) for part, beta in zip(parts, self.trained, strict=True)]

    def _implicit(self, v: list[Tensor]) -> list[Tensor]:
        """The implicit term. What the hypergradient draws is the same in all processes, and in a
        search that resumes."""
        if self.hypergradient.reads != "nothing" and not self.lora.steps:  # all were skipped
            return [torch.zeros_like(beta) for beta in self.trained]
        with seeded(seed_of(self.seed, "hypergradient", self.count), self.shared.compute.device):
            if self.state is None:
                self.state = self.hypergradient.start(self.lora)
            term, self.state = self.hypergradient.term(self.state, v, self.lora, self)
        shapes = [one.shape for one in term], [beta.shape for beta in self.trained]
        if shapes[0] != shapes[1]:  # of another shape it would be scrambled over beta
            raise ValueError(f"the implicit term has the shapes {shapes[0]}, beta has {shapes[1]}")
        return term

    def diagnostics(self) -> dict[str, float | None]:
        """|implicit| / |direct| and the cosine of the two in the last outer step.

        None where they are not defined: before the first outer step, and where a term is not finite
        or the direct one is zero (as at B = 0)."""
        # mps has no float64
        direct = self.direct.cpu().double()
        implicit = self.implicit.cpu().double()
        sizes = float(direct.norm()), float(implicit.norm())
        if not sizes[0] or not all(map(math.isfinite, sizes)):
            return {"implicit_to_direct": None, "cosine": None}
        cosine = float(direct @ implicit) / (sizes[0] * sizes[1]) if sizes[1] else 0.0
        return {"implicit_to_direct": sizes[1] / sizes[0], "cosine": cosine}


class SelectionVariables(nn.Module):
    """beta [layers, k], and the alpha and the gates that are computed from it.

    | constraint | alpha            | beta at the start | alpha at the start |
    |------------|------------------|-------------------|--------------------|
    | softmax    | softmax(beta_l)  | 0                 | 1/k                |
    | sigmoid    | sigmoid(beta)    | 0                 | 1/2                |
    | none       | beta             | 1                 | 1                  |

    alpha starts uniform, so that random noise decides no rank. (The paper's text does not say how
    alpha starts; its code draws beta at random in one place and sets it uniform in others.)
    """

    def __init__(
        self, layers: int, k: int, constraint: Constraint = "softmax", scale: str = "start"
    ) -> None:
        super().__init__()
        self.constraint = constraint
        self.scale = scale
        self.beta = nn.Parameter(torch.full((layers, k), 1.0 if constraint == "none" else 0.0))
        self.alpha_at_start = {"softmax": 1.0 / k, "sigmoid": 0.5, "none": 1.0}[constraint]

    def alpha(self) -> Tensor:
        """alpha [layers, k] (AutoLoRA Eq. 3; sigmoid and none are the ablations of Table 4)."""
        if self.constraint == "softmax":
            return self.beta.softmax(dim=-1)
        return self.beta.sigmoid() if self.constraint == "sigmoid" else self.beta

    def forward(self) -> Tensor:
        """Gates [layers, k] for the LoRA components.

        With scale "start" a gate is alpha divided by its start value: softmax alone makes the
        update k times smaller than plain LoRA's, and the search learns slowly. lora_alpha can
        absorb the constant, so Eq. 2 is unchanged.
        """
        alpha = self.alpha()
        return alpha / self.alpha_at_start if self.scale == "start" else alpha


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


@torch.no_grad()
def _write(parameters: Sequence[nn.Parameter], values: Tensors) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
