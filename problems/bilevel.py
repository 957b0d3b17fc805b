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

from problems.data import Batch
from problems.hypergradients import Tensors, registered
from problems.machine.compute import Compute, RandomState, random_state, replay
from problems.machine.processes import ALONE, Processes

Part = tuple[dict[str, Tensor], float]
"""One part of a batch, and its weight in the batch's mean loss."""


@dataclass
class Passes:
    """Forward and backward passes through the model so far (a Hessian-vector product is one backward)."""

    forward: int = 0
    backward: int = 0


class BilevelProblem(ImplicitProblem):
    """One level of the bilevel problem: `trained` is descended on the loss of `training_step`, batch by batch.

    `loader` is endless and yields plain dicts of tensors, or tuples of them where a batch goes through the model in
    parts (then it has `shares`, their weights); `passes` may be shared by both problems.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        module: nn.Module,
        trained: Iterable[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        loader: Iterable[Batch],
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

    def parts(self, batch: Batch) -> list[Part]:
        """The parts of a batch, which go through the model one after the other, each with its weight in the loss."""
        if isinstance(batch, tuple):
            there = [{key: value.to(self.compute.device) for key, value in part.items()} for part in batch]
            return list(zip(there, self.train_data_loader[0].shares, strict=True))
        return [(batch, 1.0 if self.processes.size == 1 else self.train_data_loader[0].shares[0])]

    def training_step_exec(self, batch: Batch) -> Tensor:
        """The loss of a whole batch: what Betty's own hypergradients ask for."""
        return torch.stack([BilevelProblem.part_loss(self, part) for part in self.parts(batch)]).sum()

    def part_loss(self, part: Part) -> Tensor:
        """The loss of one part of a batch times its weight, under this run's autocast: the sum over the parts and the
        processes is the mean loss of the batch."""
        inputs, share = part
        self.passes.forward += 1
        with self.compute.autocast():
            loss = self.training_step(inputs)
        return loss if share == 1 else loss * share

    def get_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the batch's first part, kept on its device: reading it back at every step would stall a GPU.

        `backward` takes the other parts, each after the graph of the one before is gone.
        """
        first, *self._others = self.parts(batch)
        loss = self.part_loss(first)
        self.last_loss = loss.detach()
        return loss, {"loss": self.last_loss}

    def other_losses(self) -> Iterator[Tensor]:
        """The losses of the batch's other parts, one after the other, which `last_loss` adds up."""
        for part in self._others:
            loss = self.part_loss(part)
            self.last_loss = self.last_loss + loss.detach()
            yield loss

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

    def gradient(self, losses: Iterable[Tensor], inputs: Tensors) -> list[Tensor]:
        """d sum(losses) / d inputs, one backward pass each, summed over all processes; a loss is asked for when the
        graph of the one before is gone."""
        return self.summed(self.own_gradient(loss, inputs) for loss in losses)

    def summed(self, gradients: Iterable[list[Tensor]]) -> list[Tensor]:
        """The sum of gradients over the parts of a batch, and over all processes."""
        parts = iter(gradients)
        total = next(parts)
        for part in parts:
            total = [t + p for t, p in zip(total, part, strict=True)]
        return self.processes.summed(total)

    def own_gradient(self, loss: Tensor | Tensors, inputs: Tensors, **options: Any) -> list[Tensor]:
        """d loss / d inputs in this process, zeros where an input was not used; counted as one backward pass.
        Second-order methods differentiate it."""
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
        self._masks: list[RandomState] = []
        self.weights_before: list[Tensor] = []
        self.beta_gradient: list[Tensor] = []

    def eta(self) -> float:
        """eta of Eq. 4 at this step."""
        if self.eta_setting == "betty":
            return 1.0
        if self.eta_setting == "lr":
            return float(self._step_rate)
        return float(self.eta_setting)

    def get_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        self._masks = []
        self._step_rate = self.optimizer.param_groups[0]["lr"]
        return super().get_loss(batch)

    def part_loss(self, part: Part) -> Tensor:
        """As the base class's; keeps the random state from which the part's dropout masks are drawn."""
        self._masks.append(random_state(self.compute.device))
        return super().part_loss(part)

    def backward(self, loss: Tensor, params: Tensors, paths: Any, **options: Any) -> None:
        """dL_tr/dW into .grad; with it, at no further pass, W itself and dL_tr/dbeta where the hypergradient reads
        them."""
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

    @property
    def part_count(self) -> int:
        """In how many parts the last inner step's batch went through the model."""
        return len(self._masks)

    def losses_again(self, *, fp32: bool = False) -> Iterator[Tensor]:
        """The losses of the parts of the last inner step's batch, which sum to its L_tr, under the same dropout masks
        and at the weights as they are now.

        `fp32` leaves autocast out, for what is subtracted afterwards.
        """
        for part, masks in zip(self.parts(self.cur_batch), self._masks, strict=True):
            kept = self.compute
            if fp32:
                self.compute = replace(kept, bf16=False)
            try:
                with replay(masks, self.compute.device):
                    loss = super().part_loss(part)
            finally:
                self.compute = kept
            yield loss

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
        for other in self.other_losses():
            own = [o + p for o, p in zip(own, self.own_gradient(other, [*params, *weights]), strict=True)]
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
