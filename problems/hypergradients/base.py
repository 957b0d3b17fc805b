"""The interface of a hypergradient approximation.

All of them return the implicit term of the outer gradient,

    d L_val(W') / d beta = direct + implicit,    implicit = - [d^2 L_tr(W) / d beta d W] M v,    v = dL_val/dW at W'

Here W -> W' is the last inner step, and L_tr is the loss of its batch under its dropout masks. Each approximation has
its own M, which stands for the derivative of W' with respect to the negative gradient: for the one-step unroll of
AutoLoRA Eq. 4, M is eta times the identity. Betty's own functions differ: they evaluate at W', and the eta of its
`darts` is 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from autolora.problems.machine.compute import Compute, RandomState

Tensors = Sequence[Tensor]
Part = tuple[dict[str, Tensor], float]
"""One part of a batch, and its weight in the batch's mean loss."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A batch. `parts`: its rows. `masks`: the random states from which the dropout masks of the parts are drawn."""

    parts: Sequence[Part]
    masks: Sequence[RandomState]


@dataclass(frozen=True, kw_only=True)
class InnerStep(Drawn):
    """One inner step W -> W', with its batch. `weights`: W before it. `rate`: its learning rate."""

    weights: list[Tensor]
    rate: float


class Inner(Protocol):
    """What an approximation reads of the inner problem; problems/bilevel.py implements it.

    `sama` also passes it to Betty's `precondition`, which reads the optimiser's state.
    """

    config: Any
    """Betty's Config: `darts_alpha` is the radius, `neumann_iterations` and `cg_iterations` are numbers of terms."""
    module: nn.Module
    """The model with its LoRA."""
    compute: Compute
    seed: int
    """The run's seed."""
    optimizer: torch.optim.Optimizer
    weights_before: list[Tensor]
    """W before the inner step; set only for approximations with `reads_weights_before`."""
    beta_gradient: list[Tensor]
    """dL_tr/dbeta of the inner step; set only for approximations with `reads_beta_gradient`."""

    @property
    def steps(self) -> list[InnerStep]:
        """The inner steps since the last outer step, the oldest first, without those that were skipped; kept only for
        approximations with `reads_steps`. On a GPU, each reading waits for it."""

    gradient_clipping: float
    """The largest norm of W's gradient; 0: it is not clipped."""
    norm_before_clipping: Tensor | None
    """The norm of W's last gradient before it was clipped; None if nothing was clipped yet."""
    eta_setting: float | str
    """hypergradient.eta as configured: a number, lr or betty."""

    def eta(self, step: InnerStep | None = None) -> float:
        """eta of Eq. 4 at an inner step; None: at the last one."""

    def trainable_parameters(self) -> list[nn.Parameter]:
        """W."""

    def at(self, weights: Tensors) -> AbstractContextManager[None]:
        """Sets W to `weights` inside the context; afterwards W is bit-equal to before."""

    part_count: int
    """The number of parts in which the inner step's batch went through the model."""

    def losses_again(self) -> Iterator[Tensor]:
        """The losses of the parts of the inner step's batch, computed again at the current weights.

        They sum to L_tr and use the inner step's dropout masks.
        """

    def draw(self) -> Drawn:
        """A further batch of D_tr, of rows drawn at random, with dropout masks of its own.

        Its rows follow from the run's seed, the number of the inner step, and how many batches were drawn since that
        step began. Drawing does not change the search's own batches."""

    def losses_of(self, batch: Drawn) -> Iterator[Tensor]:
        """The losses of the parts of one of `steps`, or of a batch of `draw`, at the current weights and always under
        the same dropout masks; they sum to its loss."""

    def in_fp32(self) -> AbstractContextManager[None]:
        """Inside the context nothing is rounded to bf16: no autocast, and fp32 copies of frozen bf16 weights."""

    def gradient(self, losses: Iterable[Tensor], inputs: Tensors) -> list[Tensor]:
        """d sum(losses) / d inputs, summed over all processes."""

    def own_gradient(self, loss: Tensor | Tensors, inputs: Tensors, **options: Any) -> list[Tensor]:
        """d loss / d inputs for one part and this process's rows; second-order methods differentiate the result."""

    def summed(self, gradients: Iterable[list[Tensor]]) -> list[Tensor]:
        """The sum of gradients over the parts of a batch, and over all processes."""


class Outer(Protocol):
    """What an approximation reads of the outer problem."""

    direct: Tensor
    """The direct gradient dL_val/dbeta of this outer step, flat."""

    @property
    def count(self) -> int:
        """The number of this outer step, from 1 on."""

    def trainable_parameters(self) -> list[nn.Parameter]:
        """beta."""

    def losses_again(self) -> Iterator[Tensor]:
        """The losses of the parts of the outer step's batch, computed again at the current weights.

        They sum to L_val and use the outer step's dropout masks.
        """

    def draw(self) -> Drawn:
        """A further batch of D_val; otherwise as that of the inner problem."""

    def losses_of(self, batch: Drawn) -> Iterator[Tensor]:
        """The losses of the parts of a batch of `draw`, as those of the inner problem."""

    def gradient(self, losses: Iterable[Tensor], inputs: Tensors) -> list[Tensor]:
        """d sum(losses) / d inputs, summed over all processes."""


class Hypergradient(ABC):
    """One approximation; `OuterProblem.backward` looks it up by the inner problem's config type and calls `implicit`.

    The docstring of each class says At (the W at which L_tr is differentiated), eta and Source; a test asks for all
    three.
    """

    name: ClassVar[str]
    reads_vector: ClassVar[bool] = True
    """Needs v = dL_val/dW."""
    reads_weights_before: ClassVar[bool] = True
    """Needs W as it was before the inner step."""
    reads_steps: ClassVar[bool] = False
    """Needs all inner steps since the last outer step: a copy of W and the batch of each."""
    reads_beta_gradient: ClassVar[bool] = False
    """Needs dL_tr/dbeta from the inner step's own backward pass."""
    reads_last_gradient: ClassVar[bool] = False
    """Needs the gradient of the inner step in the optimiser's state as `last_grad`."""
    second_order: ClassVar[bool] = False
    """Differentiates a gradient again: the attention kernel must allow it (eager does, sdpa does not)."""

    @abstractmethod
    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        """The implicit term, one tensor per parameter of `outer`; leaves W bit-equal."""

    @property
    def carries(self) -> bool:
        """Whether it carries anything from one outer step to the next: whether its class has a state_dict of its own.
        A comparison calls such an approximation at every outer step, and the others only where it measures."""
        return type(self).state_dict is not Hypergradient.state_dict

    def state_dict(self) -> dict[str, Any]:
        """What the approximation carries from one outer step to the next, for checkpoints: tensors, numbers and texts
        by name, also in lists and dicts. Empty, as here, if it carries nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 (most carry nothing)
        """Takes back what `state_dict` returned (a tuple as a list, every tensor on the search's device), before the
        first outer step of a search that resumes."""
