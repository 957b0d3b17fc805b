r"""A hypergradient without second derivatives, after F2SA (Kwon et al. 2023).

    uv run run.py --config quickstart.yaml --name penalty \
        --hypergradient.type examples/penalty.py:Penalty
"""

from autolora.problems.hypergradients import Hypergradient, minus


class Penalty(Hypergradient):
    """The gradient over beta of L_val(y) + weight * (L_tr(y) - L_tr(W')), where y lowers L_val +
    weight * L_tr.

    y is kept as its distance to W', which moves. `rate`: of plain gradient descent; small on a
    network.
    """

    def __init__(self, rate: float = 0.1, weight: float = 10.0, steps: int = 1):
        self.rate = rate
        self.weight = weight
        self.steps = steps

    def start(self, inner):
        return {"distance": [0 * weight.detach() for weight in inner.weights]}

    def term(self, state, v, inner, outer):
        both = [*inner.weights, *outer.trained]
        here = [weight.detach().clone() for weight in inner.weights]
        at_here = inner.gradient(inner.batch, both)

        def slope(distance):  # over W and beta
            with inner.at(minus(here, -1, distance)):
                of_val = outer.gradient(outer.batch, both)
                of_train = inner.gradient(inner.batch, both)
            return minus(of_val, -self.weight, minus(of_train, 1, at_here))

        distance = state["distance"]
        for _ in range(self.steps):
            distance = minus(distance, self.rate / self.weight, slope(distance)[: len(here)])
        # it is added to what is returned
        direct = outer.direct.split([beta.numel() for beta in outer.trained])
        term = [s - d.view_as(s) for s, d in zip(slope(distance)[len(here) :], direct, strict=True)]
        return term, {"distance": distance}
