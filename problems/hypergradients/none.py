"""No hypergradient: beta stays at its start, and the search is plain LoRA of rank k on D_tr. A control."""

from torch import Tensor

from autolora.problems.hypergradients.base import Hypergradient, Inner, Outer, Tensors


class NoHypergradient(Hypergradient):
    """No outer step is taken, so nothing is computed on D_val.

    At: nothing is evaluated. eta: not read. Source: our own control, with which a search by gradients is compared.
    """

    name = "none"
    reads_vector = False
    reads_weights_before = False

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        raise RuntimeError("hypergradient.type none takes no outer step")
