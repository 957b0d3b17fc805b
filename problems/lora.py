"""The inner problem over the weights of LoRA and the task head (AutoLoRA Eq. 4)."""

from typing import Any

from torch import Tensor

from autolora.problems.bilevel import InnerProblem
from autolora.problems.gates import Gates
from autolora.problems.tasks.kind import Loss, own_loss


class LoraProblem(InnerProblem):
    """The inner problem: W (LoRA weights and task head) on D_tr. Betty sets `self.selection` to the outer problem."""

    selection: Any

    def __init__(
        self, *args: Any, gates: Gates, dropout: bool = True, loss_of: Loss = own_loss, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.gates = gates
        self._loss_of = loss_of
        self._dropout = dropout

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        """L_tr of one batch of D_tr at the gates of the current beta. Scalar."""
        return self.loss(batch, self.selection())

    def loss(self, batch: dict[str, Tensor], gates: Tensor) -> Tensor:
        """The task's loss of one batch with `gates` [layers, k] on the LoRA components (Eq. 2). Scalar."""
        with self.gates.open(gates):
            return self._loss_of(self.module, batch)

    def train(self) -> None:
        """Switches training mode on; if the search runs without dropout, the model stays in evaluation mode."""
        super().train()
        self.module.train(self._dropout)
