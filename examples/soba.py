r"""A hypergradient with settings and a memory, after SOBA (Dagreou et al. 2022).

    uv run run.py --config quickstart.yaml --name soba \
        --hypergradient.type examples/soba.py:Soba
"""

from autolora.problems.hypergradients import Hypergradient, minus


class Soba(Hypergradient):
    """M v is x, a running solution of (H + I/eta) x = v: each outer step takes `solves` descent
    steps towards it.

    The damping 1/eta keeps x bounded where H, the Hessian of L_tr over W, is not positive definite.
    """

    second_order = True

    def __init__(self, rate: float = 0.1, eta: float = 10.0, solves: int = 1):
        self.rate = rate
        self.eta = eta
        self.solves = solves

    def start(self, inner):
        return {"x": [0 * weight.detach() for weight in inner.weights]}

    def term(self, state, v, inner, outer):
        step = inner.steps[-1]
        x = state["x"]
        with inner.at(step.weights):  # W before the inner step
            product = inner.products(step.batch)
            for _ in range(self.solves):
                residual = minus(minus(product(x, inner.weights), -1 / self.eta, x), 1, v)
                x = minus(x, self.rate, residual)
            mixed = product(x, outer.trained)
        return [-m for m in mixed], {"x": x}
