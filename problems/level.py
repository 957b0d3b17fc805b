"""A subclass of Betty's `ImplicitProblem` with what both levels need and stock Betty 0.2.1 does not have.

Stock Betty trains every parameter of a module, rebuilds the optimiser from its defaults (which AdamW refuses), knows
autocast on CUDA only, reads the loss back from the device at every step, and evaluates the two sides of a finite
difference under different dropout masks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from typing import Any

import torch
from betty.configs import Config
from betty.problems import ImplicitProblem
from torch import Tensor, nn

from autolora.problems.data import Batch
from autolora.problems.hypergradients import Drawn, Part, Tensors
from autolora.problems.machine.compute import Compute, RandomState, on_device, random_state, replay, seeded
from autolora.problems.machine.draws import seed_of
from autolora.problems.machine.processes import ALONE, Processes


@dataclass
class Passes:
    """Forward and backward passes through the model so far (a Hessian-vector product is one backward)."""

    forward: int = 0
    backward: int = 0


class BilevelProblem(ImplicitProblem):
    """One level of the bilevel problem: its optimiser changes the parameters `trained` to lower the loss of a batch.

    `loader` is endless. It yields a plain dict of tensors, or a tuple of dicts if a batch goes through the model in
    parts; its `shares` are the weights of the parts, and its `draw` gives a further batch from a seed. Both problems
    may count their passes in the same `passes`. `seed`: the run's seed, from which a hypergradient may draw.
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
        seed: int = 0,
    ) -> None:
        super().__init__(name, config, module, optimizer, scheduler, loader)
        self.seed = seed
        self.trained = list(trained)
        self.compute = compute
        self.passes = passes or Passes()
        self.processes = processes
        self.last_loss: Tensor = torch.full((), float("nan"), device=compute.device)
        self._parts: list[Part] = []
        self._masks: list[RandomState] = []
        self._draws = 0
        self.skipped = torch.tensor(False, device=compute.device)
        self.own_skips = torch.tensor(0, device=compute.device)
        self.skipped_steps = torch.tensor(0, device=compute.device)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters that this problem trains; stock Betty returns the frozen ones too."""
        return self.trained

    def parameters(self) -> list[nn.Parameter]:
        """The same as `trainable_parameters`: Betty calls sometimes one method, sometimes the other."""
        return self.trained

    def patch_optimizer(self) -> None:
        """Keeps the given optimiser; stock Betty rebuilds it from its defaults, which fails for AdamW."""

    def patch_scheduler(self) -> None:
        """Keeps the given scheduler; stock Betty rebuilds it and loses its position."""

    def parts(self, batch: Batch) -> list[Part]:
        """The parts of a batch, which go through the model one after the other, each with its weight in the loss."""
        if isinstance(batch, tuple):
            return self._on_device(batch, self.train_data_loader[0].shares)
        return [(batch, 1.0 if self.processes.size == 1 else self.train_data_loader[0].shares[0])]

    def _on_device(self, parts: Sequence[dict[str, Tensor]], shares: Sequence[float]) -> list[Part]:
        return [(on_device(part, self.compute.device), share) for part, share in zip(parts, shares, strict=True)]

    def part_loss(self, part: Part) -> Tensor:
        """The loss of one part of a batch times its weight, under this run's autocast.

        Summed over all parts and processes, this is the mean loss of the batch. The random state from which the part's
        dropout masks are drawn is stored for `losses_again`.
        """
        self._masks.append(random_state(self.compute.device))
        return self._weighted_loss(part)

    def _weighted_loss(self, part: Part) -> Tensor:
        inputs, share = part
        self.passes.forward += 1
        with self.compute.autocast():
            loss = self.training_step(inputs)
        return loss if share == 1 else loss * share

    def get_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the batch's first part. It stays on its device: reading it at every step would stall a GPU.

        `backward` computes the losses of the other parts one by one, so that only one graph is in memory.
        """
        self._parts, self._masks, self._draws = self.parts(batch), [], 0
        loss = self.part_loss(self._parts[0])
        self.last_loss = loss.detach()
        return loss, {"loss": self.last_loss}

    def other_losses(self) -> Iterator[Tensor]:
        """The losses of the batch's other parts, one after the other; each is also added to `last_loss`."""
        for part in self._parts[1:]:
            loss = self.part_loss(part)
            self.last_loss = self.last_loss + loss.detach()
            yield loss

    @property
    def part_count(self) -> int:
        """The number of parts in which the last step's batch went through the model."""
        return len(self._parts)

    def losses_again(self) -> Iterator[Tensor]:
        """The losses of the parts of the last step's batch, computed again at the current weights.

        They sum to the loss of that step and use its dropout masks. No loss is held while the next one is computed.
        """
        return self.losses_of(Drawn(parts=self._parts, masks=self._masks))

    def losses_of(self, batch: Drawn) -> Iterator[Tensor]:
        """The losses of the parts of a batch at the current weights, always under the same dropout masks.

        They sum to its loss. No loss is held while the next one is computed.
        """
        return starmap(self._loss_again, zip(batch.parts, batch.masks, strict=True))

    def draw(self) -> Drawn:
        """A further batch of this problem's rows, drawn at random, with dropout masks of its own.

        Its rows follow from the run's seed, the number of this problem's step and how many batches were drawn since
        this step began, also in a search that resumes; all processes draw the same rows, and each its own masks.
        """
        self._draws += 1
        seed = seed_of(self.seed, "batch", self.name, self.count, self._draws)
        with seeded(seed, self.compute.device):  # the collator of a script may draw
            parts = self._on_device(*self.train_data_loader[0].draw(seed))
        return Drawn(parts=parts, masks=[self._drawn_masks(seed, number) for number in range(len(parts))])

    def _drawn_masks(self, seed: int, part: int) -> RandomState:
        with seeded(seed_of(seed, self.processes.rank, part), self.compute.device):
            return random_state(self.compute.device)

    def _loss_again(self, part: Part, masks: RandomState) -> Tensor:
        with replay(masks, self.compute.device):
            return self._weighted_loss(part)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Takes the step, or skips it if its loss or gradient is not finite: then no parameter changes.

        `skipped` tells whether this step was skipped, and `skipped_steps` counts all such steps. `own_skips` leaves
        out an outer step that was skipped only because the inner step before it was, as the inner problem has counted
        that one.
        """
        self.skipped = ~self._finite()
        self.skipped_steps = self.skipped_steps + self.skipped
        self.own_skips = self.own_skips + self._newly_skipped()
        if self.optimizer.defaults.get("fused"):
            # The fused kernel skips the step by itself: reading `skipped` here would stall the GPU.
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
        """d sum(losses) / d inputs, summed over all processes; one backward pass for each loss.

        A loss is computed only after the graph of the loss before it has been freed.
        """
        # map, and no loop: a loop's variable would hold what is left of a graph while the next loss is computed.
        return self.summed(map(partial(self.own_gradient, inputs=inputs), losses))

    def summed(self, gradients: Iterable[list[Tensor]]) -> list[Tensor]:
        """The sum of gradients over the parts of a batch, and over all processes."""
        parts = iter(gradients)
        total = next(parts)
        for part in parts:
            total = [t + p for t, p in zip(total, part, strict=True)]
        return self.processes.summed(total)

    def own_gradient(self, loss: Tensor | Tensors, inputs: Tensors, **options: Any) -> list[Tensor]:
        """d loss / d inputs in this process alone, zeros for an unused input; counts as one backward pass.

        Second-order methods differentiate the result again.
        """
        self.passes.backward += 1
        grads = torch.autograd.grad(loss, inputs, allow_unused=True, **options)
        return [torch.zeros_like(i) if g is None else g for g, i in zip(grads, inputs, strict=True)]
