"""The implicit term of the outer gradient, by nine approximations and by those of users:

    d L_val(W') / d beta = direct + implicit
    implicit = - [d^2 L_tr(W) / d beta d W] M v
    v = dL_val/dW at W'

W -> W' is the last inner step, and L_tr the loss of its batch under its dropout masks. The
approximations differ in M, which stands for the derivative of W' with respect to the negative
gradient, and in how they take the product: for the one-step unroll of AutoLoRA Eq. 4, M is eta
times the identity. Betty's own functions differ: they evaluate at W', and the eta of its `darts` is
1.

Each class belongs to one class of settings (configs/search.py, APPROXIMATIONS below), of which it
is made. An approximation of a user's is a class in a file of theirs (docs/hypergradients.md).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from betty.hypergradient.utils import precondition
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Adam, AdamW

from autolora.configs import search
from autolora.configs.user_class import user_class
from autolora.problems.batches import Batch

Tensors = Sequence[Tensor]
State = dict[str, Any]
"""What an approximation carries from one outer step to the next: tensors, numbers, texts, and lists
and dicts of them."""
Inner: TypeAlias = Any
"""LoraProblem of problems/bilevel.py, which imports this module."""
Outer: TypeAlias = Any
"""SelectionProblem."""


@dataclass
class Step:
    """An inner step W -> W'. `weights`: W. `rate`: its learning rate. `by_beta`: dL_tr/dbeta at W.
    `used`: dL_tr/dW as the optimiser used it, after clipping."""

    batch: Batch
    weights: list[Tensor]
    rate: float
    by_beta: list[Tensor]
    used: list[Tensor]


class Hypergradient(ABC):
    """One approximation. It reads the problems of problems/bilevel.py: both have `weights` (W),
    `trained`, `batch` (that of the last step), `draw()` (a further batch), `gradient(batch,
    inputs)` and `products(batch)`; the inner one also has `steps`, `at(weights)`, `norm`,
    `gradient_clipping` and `optimizer`, the outer one `direct`, flat."""

    reads: ClassVar[Literal["nothing", "last step", "every step"]] = "last step"
    """Which inner steps since the last outer one are kept for it, in `inner.steps`; nothing: v is
    empty, too."""
    second_order: ClassVar[bool] = False
    """Of a user's class: whether it differentiates a gradient again, as then the attention kernel
    must allow it. What ours need is known by their settings."""

    def start(self, inner: Inner) -> State:
        """The state before the first outer step."""
        return {}

    @abstractmethod
    def term(
        self, state: State, v: list[Tensor], inner: Inner, outer: Outer
    ) -> tuple[list[Tensor], State]:
        """The implicit term, a tensor of its shape for each of `outer.trained`, and the new state.
        Leaves W bit-equal."""


class FirstOrder(Hypergradient):
    """M = 0, the ablation "eta = 0" of Table 4. Source: DARTS' first-order form."""

    reads = "nothing"

    def __init__(self, settings: search.HypergradientConfig) -> None:
        self.settings = settings

    def term(self, state: State, v: Any, inner: Inner, outer: Outer) -> tuple[list[Tensor], State]:
        return [torch.zeros_like(beta) for beta in outer.trained], state


class WithEta(Hypergradient):
    """One with an eta, the size of the inner step in the term."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def size(self, step: Step) -> float:
        """eta at an inner step."""
        eta = self.settings.eta
        return {"betty": 1.0, "lr": step.rate}[eta] if isinstance(eta, str) else float(eta)


class Darts(WithEta):
    """M = eta, by the central difference (g(W + e v) - g(W - e v)) / 2e of g = dL_tr/dbeta, |e v| =
    radius.

    Error: second order in the radius. Source: DARTS (Liu et al. 2019, Eq. 8), which AutoLoRA's code
    uses. Betty's draws new masks for each side, whose noise is 25 times the signal at dropout 0.1.
    """

    def term(self, state: State, v: list[Tensor], inner: Inner, outer: Outer) -> Any:
        step = inner.steps[-1]
        along = self.direction(v, inner)
        e, per_e = self.step_along(along)
        plus = beta_gradient(inner, step, e, along, outer.trained)
        minus = beta_gradient(inner, step, -e, along, outer.trained)
        return [
            -self.size(step) * ((p - m) * per_e / 2) for p, m in zip(plus, minus, strict=True)
        ], state

    def direction(self, v: list[Tensor], inner: Inner) -> list[Tensor]:
        """M v / eta."""
        return v

    def step_along(self, v: list[Tensor]) -> tuple[Tensor, Tensor]:
        """e with |e v| = radius, and 1/e; for v = 0 some finite e, and 0. Without a test, which
        would stall a GPU."""
        length = get_total_norm(v)
        radius = self.settings.radius
        limits = torch.finfo(length.dtype)
        return radius / length.clamp_min(limits.tiny / limits.eps), length / radius


class ForwardDifference(Darts):
    """M = eta, by the one-sided difference (g(W + e v) - g(W)) / e: the inner step's own backward
    pass gave g(W).

    Error: first order in the radius.
    """

    def term(self, state: State, v: list[Tensor], inner: Inner, outer: Outer) -> Any:
        step = inner.steps[-1]
        (e, per_e) = self.step_along(v)
        plus = beta_gradient(inner, step, e, v, outer.trained)
        return [
            -self.size(step) * (p - g) * per_e for p, g in zip(plus, step.by_beta, strict=True)
        ], state


class Sama(Darts):
    """M = eta D, by a central difference along D v, where D is the diagonal of d(Adam's
    update)/d(gradient).

    D is 0 at the first step, where Adam has no history, and the identity if the optimiser is SGD.
    Adam's bias correction is left out, which makes the term too large by the factor (1 - b1^t) /
    sqrt(1 - b2^t) (6.5 at step 10, 1.3 at 1000); clipping is not differentiated, so that after a
    clipped step D is that of the clipped gradient. Source: SAMA (Choe et al. 2023) by Betty's
    `precondition`; Betty's radius of 1.0 is far outside the linear range of LoRA's weights.
    """

    def direction(self, v: list[Tensor], inner: Inner) -> list[Tensor]:
        for weight, gradient in zip(inner.trained, inner.steps[-1].used, strict=True):
            inner.optimizer.state[weight]["last_grad"] = gradient
        group = inner.optimizer.param_groups[0]
        # Betty multiplies by the rate; it is the next step's already, and eta says the size.
        rate = group["lr"]
        group["lr"] = 1.0
        along: list[Tensor] = precondition(v, inner)
        group["lr"] = rate
        for weight in inner.trained:
            del inner.optimizer.state[weight]["last_grad"]  # no moment: a checkpoint leaves it out
        return along


class Exact(WithEta):
    """M = eta, by a second derivative. At plain gradient descent of rate eta, the gradient of
    Algorithm 1's L_val(W - eta dL_tr/dW); after AdamW's step v and the direct term are those at the
    W' that it reached.

    Error: rounding. Source: AutoLoRA Eq. 4 and 5.
    """

    def term(self, state: State, v: list[Tensor], inner: Inner, outer: Outer) -> Any:
        step = inner.steps[-1]
        with inner.at(step.weights):
            product = inner.products(step.batch)
            x = self.solve(v, lambda direction: product(direction, inner.trained), inner)
            mixed = product(x, outer.trained)
        return [-m for m in mixed], state

    def solve(
        self, v: list[Tensor], hessian: Callable[[Tensors], list[Tensor]], inner: Inner
    ) -> list[Tensor]:
        """M v. `hessian`: multiplies by H = d^2 L_tr/dW^2."""
        return [self.size(inner.steps[-1]) * part for part in v]


class ExactAdamW(Exact):
    """M = eta C D: D is the diagonal of d(AdamW's update)/d(gradient) at learning rate 1, bias
    correction included, C the derivative of clipping. With `lr` the term is that of the step that
    was taken.

    The moments of earlier steps are constants, as in any one-step unroll; D is the identity if the
    optimiser is no Adam. Error: rounding. Source: the chain rule through torch's AdamW and
    clip_grad_norm_.
    """

    @torch.no_grad()
    def solve(self, v: list[Tensor], hessian: Any, inner: Inner) -> list[Tensor]:
        step = inner.steps[-1]
        x = [self.size(step) * part for part in v]
        if isinstance(inner.optimizer, Adam | AdamW):
            slopes = (
                _adam_slope(inner, w, g) for w, g in zip(inner.trained, step.used, strict=True)
            )
            x = [slope * part for slope, part in zip(slopes, x, strict=True)]
        if not inner.gradient_clipping:
            return x
        # Clipping multiplies a gradient longer than clip by c = clip / (norm + 1e-6), and c falls
        # with the norm.
        factor = inner.gradient_clipping / (inner.norm + 1e-6)
        share = inner.norm / (inner.norm + 1e-6)
        length = get_total_norm(step.used).clamp_min(torch.finfo(inner.norm.dtype).tiny)
        along = share * _dot(step.used, x) / length**2
        return [
            torch.where(factor < 1, factor * (a - along * g), a)
            for a, g in zip(x, step.used, strict=True)
        ]


def _adam_slope(inner: Inner, weight: Tensor, gradient: Tensor) -> Tensor:
    """The derivative of Adam's update, m / (sqrt(v) + epsilon) with corrected moments, with respect
    to the gradient."""
    state = inner.optimizer.state[weight]
    group = inner.optimizer.param_groups[0]
    one, two = group["betas"]
    steps = state["step"]  # a tensor: reading it would stall a GPU
    first = 1 - one**steps
    second = 1 - two**steps
    root = (state["exp_avg_sq"] / second).sqrt()
    size = root + group["eps"]
    bend = torch.where(root > 0, (1 - two) / second * gradient / root, 0.0)
    return (1 - one) / first / size - state["exp_avg"] / first / size.square() * bend


class Neumann(Exact):
    """M = eta sum_{j=0..terms} (I - eta H)^j: towards the inverse Hessian; no terms is `exact`. It
    converges for a positive definite H and eta < 2 / |H|. Source: Lorraine et al. 2020."""

    def solve(
        self, v: list[Tensor], hessian: Callable[[Tensors], list[Tensor]], inner: Inner
    ) -> list[Tensor]:
        eta = self.size(inner.steps[-1])
        total = v
        for _ in range(self.settings.terms):
            v = minus(v, eta, hessian(v))
            total = minus(total, -1, v)
        return [eta * part for part in total]


class ConjugateGradient(Exact):
    """M = (H + I/eta)^-1 by at most `terms` steps of conjugate gradients; eta v if no step is
    taken. A small eta gives the one-step unroll, a large one the implicit function theorem. It
    stops at a direction without positive curvature.

    Source: iMAML (Rajeswaran et al. 2019). Betty's `cg` has no damping and uses a stale residual.
    """

    def solve(
        self, v: list[Tensor], hessian: Callable[[Tensors], list[Tensor]], inner: Inner
    ) -> list[Tensor]:
        eta = self.size(inner.steps[-1])
        x = [eta * part for part in v]
        residual = v
        direction = v
        for number in range(self.settings.terms if eta else 0):
            image = minus(hessian(direction), -1 / eta, direction)
            curvature = _dot(direction, image)
            size = _dot(residual, residual)
            if size == 0 or curvature <= 0:
                break
            x = minus(x if number else [0 * part for part in v], -size / curvature, direction)
            residual = minus(residual, size / curvature, image)
            direction = minus(residual, -_dot(residual, residual) / size, direction)
        return x


class Unrolled(WithEta):
    """- sum_t eta_t [d^2 L_t / d beta d W] v_t over the inner steps t = 1..n since the last outer
    one, backwards from v_n = v by v_(t-1) = (I - eta_t d^2 L_t / d W^2) v_t: each as a step of
    gradient descent. n = 1 is `exact`.

    With `lr`, eta_t is the learning rate of each step. Source: truncated reverse mode (Shaban et
    al. 2019).
    """

    reads = "every step"

    def term(self, state: State, v: list[Tensor], inner: Inner, outer: Outer) -> Any:
        term = [torch.zeros_like(beta) for beta in outer.trained]
        for step in reversed(inner.steps):
            with inner.at(step.weights):
                products = inner.products(step.batch)(v, [*inner.trained, *outer.trained])
            eta = self.size(step)
            term = minus(term, eta, products[len(v) :])
            v = minus(v, eta, products[: len(v)])
        return term, state


def beta_gradient(
    inner: Inner, step: Step, e: Tensor | float, along: Tensors, beta: Tensors
) -> list[Tensor]:
    """dL_tr/dbeta at W + e * along, on a step's batch."""
    with inner.at(minus(step.weights, -e, along)):
        return inner.gradient(step.batch, beta)


def minus(values: Tensors, factor: Tensor | float, others: Tensors) -> list[Tensor]:
    """values - factor * others."""
    return [value - factor * other for value, other in zip(values, others, strict=True)]


def _dot(values: Tensors, others: Tensors) -> Tensor:
    return torch.stack(
        [(value * other).sum() for value, other in zip(values, others, strict=True)]
    ).sum()


APPROXIMATIONS: dict[type[search.HypergradientConfig], Callable[[Any], Hypergradient]] = {
    search.FirstOrder: FirstOrder,
    search.Nothing: FirstOrder,  # the search takes no outer step
    search.Darts: Darts,
    search.ForwardDifference: ForwardDifference,
    search.Sama: Sama,
    search.Exact: Exact,
    search.ExactAdamW: ExactAdamW,
    search.Neumann: Neumann,
    search.ConjugateGradient: ConjugateGradient,
    search.Unrolled: Unrolled,
    search.OwnHypergradient: lambda settings: user_class(settings.type, "hypergradient.type")(
        **settings.options
    ),
}
"""Settings -> their approximation. Each call makes a new object."""


def approximation(settings: search.HypergradientConfig) -> Hypergradient:
    """The approximation of these settings. Raises UserError if a user's file or class is missing;
    what a user's class raises goes on with its traceback."""
    return APPROXIMATIONS[type(settings)](settings)
