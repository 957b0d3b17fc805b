"""The inner and the outer problem: what the inner problem stores of each step, and the gradient of beta (Eq. 4, 5)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from autolora.problems.data import Batch
from autolora.problems.hypergradients import InnerStep, Tensors, registered
from autolora.problems.level import BilevelProblem
from autolora.problems.models.precision import weights_in_fp32


class InnerProblem(BilevelProblem):
    """The inner problem: W, trained on D_tr.

    It stores what a hypergradient needs of the last inner step W -> W': its rate, its gradients, and W before it; and,
    if the hypergradient reads them, all steps since the last outer one.
    `eta` is the size of the inner step in the implicit term: a number, "lr" (Eq. 4: the current learning rate of W) or
    "betty" (1).
    """

    def __init__(self, *args: Any, eta: float | str = "betty", **options: Any) -> None:
        super().__init__(*args, **options)
        self.eta_setting = eta
        self.weights_before: list[Tensor] = []
        self._steps: list[InnerStep] = []
        self._steps_skipped: list[Tensor] = []
        self.outer_step_taken = False
        self.beta_gradient: list[Tensor] = []
        self.norm_before_clipping: Tensor | None = None

    @property
    def steps(self) -> list[InnerStep]:
        """The inner steps since the last outer one, but those that were skipped, as W did not depend on their loss.

        This reads from the device which ones were skipped, for all of them at once.
        """
        pairs = zip(self._steps, _read(self._steps_skipped), strict=True)
        return [step for step, skipped in pairs if not skipped]

    def forget_steps(self) -> None:
        """Begins a new list of inner steps, as after an outer step."""
        self._steps, self._steps_skipped = [], []

    def eta(self, step: InnerStep | None = None) -> float:
        """eta of Eq. 4 at an inner step; None: at the last one."""
        if self.eta_setting == "betty":
            return 1.0
        if self.eta_setting == "lr":
            return float(self._step_rate if step is None else step.rate)
        return float(self.eta_setting)

    def get_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        self._step_rate = self.optimizer.param_groups[0]["lr"]
        return super().get_loss(batch)

    def backward(self, loss: Tensor, params: Tensors, paths: Any, **options: Any) -> None:
        """Writes dL_tr/dW into .grad.

        Stores dL_tr/dbeta (from the same backward pass) and W before the step, if the hypergradient reads them.
        """
        method = registered(self.config.type)
        self.passes.backward += 1
        self.beta_gradient = []
        beta = [b for parent in self.parents for b in parent.trainable_parameters()]
        wanted = [*params, *beta] if method.reads_beta_gradient else params
        torch.autograd.backward(loss, inputs=wanted)
        for other in self.other_losses():
            self.passes.backward += 1
            torch.autograd.backward(other, inputs=wanted)  # adds to .grad
        self._add_up(wanted)
        if method.reads_beta_gradient:
            self.beta_gradient = [torch.zeros_like(b) if b.grad is None else b.grad for b in beta]
            for b in beta:
                b.grad = None
        if method.reads_weights_before:
            self.weights_before = [p.detach().clone() for p in params]
        if method.reads_steps:
            self._keep_step()

    def _keep_step(self) -> None:
        """Adds the present inner step to `steps`; the first one after an outer step begins a new list."""
        if self.outer_step_taken:
            self.forget_steps()
            self.outer_step_taken = False
        weights = [p.detach().clone() for p in self.trained]
        self._steps.append(InnerStep(weights=weights, parts=self._parts, masks=self._masks, rate=self._step_rate))

    def _add_up(self, parameters: Tensors) -> None:
        """Sums .grad and the loss over all processes; both are then those of the whole batch."""
        if self.processes.size == 1:
            return
        # A weight may be unused in some processes alone: each process drops other layers (layerdrop).
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=self.last_loss.device)
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        *grads, used, self.last_loss = self.processes.summed([*own, used, self.last_loss])
        for parameter, grad, count in zip(parameters, grads, used.tolist(), strict=True):
            parameter.grad = grad if count else None

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Takes the step; also stores the gradient that Adam just used, if the hypergradient reads it."""
        super().optimizer_step(*args, **kwargs)
        method = registered(self.config.type)
        if method.reads_steps:
            self._steps_skipped.append(self.skipped)
        if method.reads_last_gradient:
            for parameter in self.trained:
                state = self.optimizer.state.get(parameter)
                if state:  # else no step has ever used it
                    # Without a gradient, this step did not use it (layerdrop), and clipping did not count it.
                    grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach()
                    before = state.get("last_grad", torch.zeros_like(grad))
                    state["last_grad"] = torch.where(self.skipped, before, grad)

    def clip_grad(self) -> None:
        """Clips the gradient as Betty does, and stores the norm that it had."""
        norm = torch.nn.utils.clip_grad_norm_(self.trainable_parameters(), max_norm=self.gradient_clipping)
        self.norm_before_clipping = norm.detach()

    @contextmanager
    def in_fp32(self) -> Iterator[None]:
        """Inside the context nothing is rounded to bf16: no autocast, and fp32 copies of frozen bf16 weights.

        The backward pass must also lie inside. Weights in 4 bits stay as they are, but products with them are in fp32.
        """
        kept = self.compute
        self.compute = replace(kept, bf16=False)
        try:
            with weights_in_fp32(self.module):
                yield
        finally:
            self.compute = kept

    @contextmanager
    def at(self, weights: Tensors) -> Iterator[None]:
        """Sets W to `weights` inside the context, and afterwards restores the earlier W.

        W is copied and restored bit for bit: adding a change and subtracting it again would leave rounding errors.
        """
        kept = [p.detach().clone() for p in self.trained]
        try:
            self._write(weights)
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: Tensors) -> None:
        for parameter, value in zip(self.trained, values, strict=True):
            parameter.copy_(value)


class OuterProblem(BilevelProblem):
    """The outer problem: beta, trained on D_val.

    One backward pass gives the direct gradient and dL_val/dW; the registered hypergradient gives the implicit term.
    """

    # Empty until the first outer step, which comes after `unroll_steps` inner ones.
    direct = torch.zeros(0)
    implicit = torch.zeros(0)

    def backward(self, loss: Tensor, params: Tensors, paths: Any, **options: Any) -> None:
        """Sets .grad of beta to direct + implicit (Eq. 5); the inner problem's config names the hypergradient."""
        inner = paths[0][1]
        self._inner_skipped = inner.skipped
        method = registered(inner.config.type)
        weights = inner.meta_trainable_parameters() if method.reads_vector else []
        own = self.own_gradient(loss, [*params, *weights])
        for other in self.other_losses():
            own = [o + p for o, p in zip(own, self.own_gradient(other, [*params, *weights]), strict=True)]
        *grads, self.last_loss = self.processes.summed([*own, self.last_loss])
        direct, vector = grads[: len(params)], grads[len(params) :]
        self.direct = torch.cat([g.flatten() for g in direct]).detach()
        implicit = method.implicit(vector, inner, self)
        inner.outer_step_taken = True
        self.implicit = torch.cat([g.flatten() for g in implicit]).detach()
        for parameter, d, i in zip(params, direct, implicit, strict=True):
            parameter.grad = i.detach()  # torch refuses a term of another shape or dtype, such as a user's class gives
            parameter.grad = d + parameter.grad

    def _newly_skipped(self) -> Tensor:
        """Whether this outer step was skipped and the inner problem has not already counted the skip."""
        return self.skipped & ~self._inner_skipped

    def _finite(self) -> Tensor:
        """False also when the inner step before this outer step was skipped."""
        return super()._finite() & ~self._inner_skipped

    def diagnostics(self) -> dict[str, float | None]:
        """|implicit| / |direct| and the cosine of the two in the last outer step.

        Both are None before the first outer step, and if one of the two terms is not finite. If the implicit gradient
        is zero, both are 0. If only the direct gradient is zero (B = 0), the cosine is 0 and the ratio, which would be
        infinite, is None.
        """
        unknown: dict[str, float | None] = {"implicit_to_direct": None, "cosine": None}
        if not self.direct.numel():
            return unknown
        direct, implicit = self.direct.cpu().double(), self.implicit.cpu().double()  # mps has no float64
        sizes = float(direct.norm()), float(implicit.norm())
        if not all(map(math.isfinite, sizes)):
            return unknown
        cosine = float(direct @ implicit) / (sizes[0] * sizes[1]) if min(sizes) > 0 else 0.0
        ratio = sizes[1] / sizes[0] if sizes[0] > 0 else None if sizes[1] > 0 else 0.0
        return {"implicit_to_direct": ratio, "cosine": cosine}


def _read(flags: list[Tensor]) -> list[bool]:
    """The values of boolean scalars, for which a GPU is waited for once."""
    return torch.stack(flags).tolist() if flags else []
