r"""A hypergradient that draws batches of its own, after stocBiO (Ji et al. 2021).

    uv run run.py --config quickstart.yaml --name stocbio \
        --hypergradient.type examples/stocbio.py:StocBio
"""

from autolora.problems.hypergradients import Hypergradient, minus


class StocBio(Hypergradient):
    """M = eta sum_{j<=terms} (I - eta H)^j at W', as `neumann`, but each product takes a batch of
    D_tr of its own: the Hessian of a single batch, inverted, is no good stand-in for that of all
    rows."""

    second_order = True

    def __init__(self, eta: float = 1.0, terms: int = 3):
        self.eta = eta
        self.terms = terms

    def term(self, state, v, inner, outer):
        total = v
        for _ in range(self.terms):
            v = minus(v, self.eta, inner.products(inner.draw())(v, inner.weights))
            total = minus(total, -1, v)
        mixed = inner.products(inner.draw())(total, outer.trained)
        return [-self.eta * m for m in mixed], state
