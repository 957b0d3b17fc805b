"""No hypergradient: beta stays at its start, and the search is plain LoRA of rank k on D_tr. A control."""

from torch import Tensor

from problems.hypergradients.base import Cost, Hypergradient, Inner, Outer, Tensors


class NoHypergradient(Hypergradient):
    """No outer step is taken, so that nothing is computed on D_val. At: nowhere. eta: not read. Source: ours, what a
    search by gradients is held against."""

    name = "none"
    reads_vector = False
    reads_weights_before = False

    def cost(self, terms: int) -> Cost:
        return Cost(forward=1, backward=1)

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        raise RuntimeError("hypergradient.type none takes no outer step")
