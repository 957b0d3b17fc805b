"""What both problems need of Betty and stock Betty 0.2.1 does not give, by subclassing `ImplicitProblem`.

Stock Betty trains every parameter of a module, rebuilds the optimiser from its defaults (which AdamW refuses), knows
autocast on CUDA only, reads the loss back from the device at every step, and evaluates the two sides of a finite
difference under different dropout masks.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from betty.configs import Config
from betty.problems import ImplicitProblem
from torch import Tensor, nn

from problems.hypergradients import Tensors, registered
from problems.machine.compute import Compute, random_state, replay
from problems.machine.processes import ALONE, Processes


@dataclass
class Passes:
    """Forward and backward passes through the model so far (a Hessian-vector product is one backward)."""

    forward: int = 0
    backward: int = 0


class BilevelProblem(ImplicitProblem):
    """One level of the bilevel problem: `trained` is descended on the loss of `training_step`, batch by batch.

    `loader` is endless and yields plain dicts of tensors; `passes` may be shared by both problems.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        module: nn.Module,
        trained: Iterable[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        loader: Iterable[dict[str, Tensor]],
        compute: Compute,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
        passes: Passes | None = None,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(name, config, module, optimizer, scheduler, loader)
        self.trained = list(trained)
        self.compute = compute
        self.passes = passes or Passes()
        self.processes = processes
        self.last_loss: Tensor = torch.tensor(float("nan"))
        self.skipped = torch.tensor(False, device=compute.device)
        self.skip_count = torch.tensor(0, device=compute.device)
        self.still_count = torch.tensor(0, device=compute.device)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters that this problem descends; stock Betty returns the frozen ones too."""
        return self.trained

    def parameters(self) -> list[nn.Parameter]:
        """As `trainable_parameters`: Betty's methods mix the two lists."""
        return self.trained

    def patch_optimizer(self) -> None:
        """Keeps the given optimiser; stock Betty rebuilds it from its defaults, which fails for AdamW."""

    def patch_scheduler(self) -> None:
        """Keeps the given scheduler; stock Betty rebuilds it and loses its position."""

    def training_step_exec(self, batch: Any) -> Tensor:
        """The loss of one batch, under this run's autocast; among several processes, this one's part of it."""
        self.passes.forward += 1
        with self.compute.autocast():
            loss = self.training_step(batch)
        return loss if self.processes.size == 1 else loss * self.train_data_loader[0].share

    def get_loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, kept on its device: reading it back at every step would stall a GPU."""
        loss = self.training_step_exec(batch)
        self.last_loss = loss.detach()
        return loss / self.gas, {"loss": self.last_loss}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """As Betty's, but nothing moves where the loss or a gradient is not finite: `skipped` says so, `still_count`
        counts such steps, and `skip_count` those of them that no other problem has counted."""
        self.skipped = ~self._finite()
        self.still_count = self.still_count + self.skipped
        self.skip_count = self.skip_count + self._newly_skipped()
        if self.optimizer.defaults.get("fused"):
            # The kernel itself leaves out the step: reading the answer back would stall the GPU.
            self.optimizer.found_inf = self.skipped.float()
        elif self.skipped:
            return
        super().optimizer_step(*args, **kwargs)

    def _newly_skipped(self) -> Tensor:
        return self.skipped

    def _finite(self) -> Tensor:
        """Whether the last loss and its gradients are finite. Boolean scalar."""
        grads = [p.grad for p in self.trained if p.grad is not None]
        finite = torch.isfinite(self.last_loss)
        return finite & torch.isfinite(torch.nn.utils.get_total_norm(grads)) if grads else finite

    def gradient(self, loss: Tensor | Tensors, inputs: Tensors, **options: Any) -> list[Tensor]:
        """d loss / d inputs over the whole batch, zeros where an input was not used; counted as one backward pass."""
        return self.processes.summed(self.own_gradient(loss, inputs, **options))

    def own_gradient(self, loss: Tensor | Tensors, inputs: Tensors, **options: Any) -> list[Tensor]:
        """This process's own gradient, before the sum over all processes: second-order methods differentiate it."""
        self.passes.backward += 1
        grads = torch.autograd.grad(loss, inputs, allow_unused=True, **options)
        return [torch.zeros_like(i) if g is None else g for g, i in zip(grads, inputs, strict=True)]


class InnerProblem(BilevelProblem):
    """W on D_tr. Keeps what a hypergradient needs of the inner step W -> W': its batch, dropout masks and W itself.

    `eta` is the size of the inner step in the implicit term: a number, "lr" (Eq. 4: the current rate of W) or "betty"
    (1).
    """

    def __init__(self, *args: Any, eta: float | str = "betty", fp32_difference: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fp32_difference = fp32_difference
        self.eta_setting = eta
        self._masks = random_state(self.compute.device)
        self.weights_before: list[Tensor] = []
        self.beta_gradient: list[Tensor] = []

    def eta(self) -> float:
        """eta of Eq. 4 at this step."""
        if self.eta_setting == "betty":
            return 1.0
        if self.eta_setting == "lr":
            return float(self._step_rate)
        return float(self.eta_setting)

    def get_loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        self._masks = random_state(self.compute.device)
        self._step_rate = self.optimizer.param_groups[0]["lr"]
        return super().get_loss(batch)

    def backward(self, loss: Tensor, params: Tensors, paths: Any, **options: Any) -> None:
        """dL_tr/dW into .grad; with it, at no further pass, W itself and dL_tr/dbeta where the hypergradient reads
        them."""
        method = registered(self.config.type)
        self.passes.backward += 1
        self.beta_gradient = []
        beta = [b for parent in self.parents for b in parent.trainable_parameters()]
        wanted = [*params, *beta] if method.reads_beta_gradient else params
        torch.autograd.backward(loss, inputs=wanted)
        self._add_up(wanted)
        if method.reads_beta_gradient:
            self.beta_gradient = [torch.zeros_like(b) if b.grad is None else b.grad for b in beta]
            for b in beta:
                b.grad = None
        if method.reads_weights_before:
            self.weights_before = [p.detach().clone() for p in params]

    def _add_up(self, parameters: Tensors) -> None:
        """.grad of the whole batch in all processes, and its loss with it."""
        if self.processes.size == 1:
            return
        used = [p for p in parameters if p.grad is not None]
        *grads, self.last_loss = self.processes.summed([*(p.grad for p in used if p.grad is not None), self.last_loss])
        for parameter, grad in zip(used, grads, strict=True):
            parameter.grad = grad

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """As Betty's; keeps the gradient that Adam just saw where the hypergradient needs Adam's derivative."""
        super().optimizer_step(*args, **kwargs)
        if registered(self.config.type).reads_last_gradient:
            for parameter in self.trained:
                if parameter.grad is not None:  # None: the loss does not use it
                    state, grad = self.optimizer.state[parameter], parameter.grad.detach()
                    if len(state):  # empty: no step was ever taken
                        before = state.get("last_grad", torch.zeros_like(grad))
                        state["last_grad"] = torch.where(self.skipped, before, grad)

    def loss_again(self, *, fp32: bool = False) -> Tensor:
        """L_tr of the last inner step's batch under the same dropout masks, at the weights as they are now.

        `fp32` leaves autocast out, for what is subtracted afterwards.
        """
        kept = self.compute
        if fp32:
            self.compute = replace(kept, bf16=False)
        try:
            with replay(self._masks, self.compute.device):
                return self.training_step_exec(self.cur_batch)
        finally:
            self.compute = kept

    @contextmanager
    def at(self, weights: Tensors) -> Iterator[None]:
        """W replaced by `weights`; afterwards bit-equal to before (add and subtract would drift)."""
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
    """beta on D_val: the direct gradient and dL_val/dW in one backward pass, then the implicit term of the
    registry."""

    # Empty until the first outer step, which comes after `unroll_steps` inner ones.
    direct = torch.zeros(0)
    implicit = torch.zeros(0)

    def backward(self, loss: Tensor, params: Tensors, paths: Any, **options: Any) -> None:
        """Sets .grad of beta to direct + implicit (Eq. 5), by the method that the inner problem's config type
        names."""
        inner = paths[0][1]
        self._inner_skipped = inner.skipped
        method = registered(inner.config.type)
        weights = inner.meta_trainable_parameters() if method.reads_vector else []
        own = self.own_gradient(loss, [*params, *weights])
        *grads, self.last_loss = self.processes.summed([*own, self.last_loss])
        direct, vector = grads[: len(params)], grads[len(params) :]
        self.direct = torch.cat([g.flatten() for g in direct]).detach()
        implicit = method.implicit(vector, inner, self)
        self.implicit = torch.cat([g.flatten() for g in implicit]).detach()
        self.set_grads(params, [d + i for d, i in zip(direct, implicit, strict=True)])

    def _newly_skipped(self) -> Tensor:
        """A step is counted once: an outer step left out for its inner step's sake was counted there."""
        return self.skipped & ~self._inner_skipped

    def _finite(self) -> Tensor:
        """False also when the inner step before this outer step was skipped."""
        return super()._finite() & ~self._inner_skipped

    def diagnostics(self) -> dict[str, float | None]:
        """|implicit| / |direct| and their cosine in the last outer step: 0 where one of the two is zero, None before
        the first one."""
        if not self.direct.numel():
            return {"implicit_to_direct": None, "cosine": None}
        direct, implicit = self.direct.cpu().double(), self.implicit.cpu().double()  # mps has no float64
        sizes = float(direct.norm()), float(implicit.norm())
        cosine = float(direct @ implicit) / (sizes[0] * sizes[1]) if min(sizes) > 0 else 0.0
        return {"implicit_to_direct": sizes[1] / sizes[0] if sizes[0] > 0 else 0.0, "cosine": cosine}
