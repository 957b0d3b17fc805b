"""Small bilevel problems in float64 on Betty's own Engine, and what their hypergradients must be.

The expected values come from closed forms and from `torch.func` through the whole step: nothing of the code under test
is used for them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from betty.configs import Config, EngineConfig
from betty.engine import Engine
from betty.logging import get_logger
from torch import Tensor, nn
from torch.func import functional_call, grad

from autolora.problems.bilevel import InnerProblem, OuterProblem
from autolora.problems.hypergradients import HYPERGRADIENTS, Hypergradient, betty_type, registered
from autolora.problems.level import Passes
from autolora.problems.machine.compute import Compute, RandomState, random_state, replay, seeded
from autolora.problems.selection import SelectionVariables

CPU = torch.device("cpu")
METHODS = sorted(HYPERGRADIENTS)
Batch = dict[str, Tensor]


class Ridge(nn.Module):
    """|x w - y|^2 / 2n + share/2 sum_i exp(beta_i) w_i^2: linear algebra says everything about it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(size))

    def forward(self, batch: Batch, penalty: Tensor, mask: Tensor | None = None) -> Tensor:
        error = batch["x"] @ self.w - batch["y"]
        return error.square().mean() / 2 + batch["share"] * (penalty * self.w.square()).sum() / 2


class LogPenalty(nn.Module):
    """beta, the logarithm of the penalty of each weight."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.linspace(-1, 1, size))

    def forward(self) -> Tensor:
        return self.beta.exp()


class LoraNet(nn.Module):
    """Two frozen layers with LoRA gated as in Eq. 2, dropout between them, cross-entropy on top."""

    def __init__(self, k: int, dropout: float, inputs: int = 5, hidden: int = 7, classes: int = 3) -> None:
        super().__init__()
        shapes = [(hidden, inputs), (classes, hidden)]
        self.frozen = nn.ParameterList([nn.Parameter(torch.randn(s) / s[1] ** 0.5, False) for s in shapes])
        # B away from zero: at B = 0 half of the mixed derivatives vanish and would go untested.
        self.a = nn.ParameterList([nn.Parameter(torch.randn(k, s[1]) / s[1] ** 0.5) for s in shapes])
        self.b = nn.ParameterList([nn.Parameter(torch.randn(s[0], k) * 0.5) for s in shapes])
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch, gates: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden = torch.tanh(self._layer(0, batch["x"], gates))
        hidden = self.dropout(hidden) if mask is None else hidden * mask
        return nn.functional.cross_entropy(self._layer(1, hidden, gates), batch["y"])

    def mask(self, batch: Batch, masks: RandomState) -> Tensor:
        """The dropout mask that `forward` draws for this batch from that random state."""
        with replay(masks, CPU):
            return self.dropout(torch.ones(len(batch["x"]), self.frozen[0].shape[0]))

    def _layer(self, i: int, x: Tensor, gates: Tensor) -> Tensor:
        return x @ self.frozen[i].T + (x @ self.a[i].T * gates[i]) @ self.b[i].T


class ToyInner(InnerProblem):
    """Notes the random state that its last step drew its dropout masks from."""

    outer: Any
    masks: RandomState

    def get_loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        self.masks = random_state(CPU)
        return super().get_loss(batch)

    def training_step(self, batch: Batch) -> Tensor:
        return self.module(batch, self.outer.module())


class ToyOuter(OuterProblem):
    """Notes what its last step started from and which gradient reached the optimiser."""

    inner: Any
    masks: RandomState
    beta_before: Tensor
    gradient_seen: Tensor

    def training_step(self, batch: Batch) -> Tensor:
        self.masks = random_state(CPU)
        self.beta_before = self.module.beta.detach().clone()
        return self.inner.module(batch, self.module())

    def grad_callback(self) -> None:
        self.gradient_seen = self.module.beta.grad.detach().clone()


@dataclass
class Toy:
    """Both problems after some steps of the engine, and the weights around the last one."""

    engine: Engine
    inner: ToyInner
    outer: ToyOuter
    before: list[Tensor]
    after: list[Tensor]

    def step(self) -> None:
        """One step of Betty's Engine."""
        self.before = copies(self.inner.trained)
        self.engine.train_step()
        self.after = copies(self.inner.trained)


def copies(tensors: Any) -> list[Tensor]:
    return [t.detach().clone() for t in tensors]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Whether the tensors of both lists are equal bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def make_toy(
    net: nn.Module,
    variables: nn.Module,
    batches: tuple[Callable[[], Batch], Callable[[], Batch]],
    method: str = "exact",
    eta: float | str = "betty",
    rate: float = 0.1,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    scheduler: Callable[..., Any] | None = None,
    steps: int = 1,
    parts: Sequence[int] = (),
    **config: Any,
) -> Toy:
    """A toy on a real Engine after `steps` inner steps, as the program would set it up.

    `parts`: the rows of each part in which a batch goes through the model; none: all at once.
    """
    get_logger().setLevel("WARNING")
    compute, passes = Compute(CPU, bf16=False), Passes()
    trained = [p for p in net.parameters() if p.requires_grad]
    descent = optimizer(trained, lr=rate)
    inner = ToyInner(
        "inner", Config(type=betty_type(method), **config), net, trained, descent, Endless(batches[0], parts), compute,
        scheduler=scheduler(descent) if scheduler else None, passes=passes, eta=eta,
    )  # fmt: skip
    outer = ToyOuter(
        "outer", Config(), variables, variables.parameters(), torch.optim.SGD(variables.parameters(), lr=0.1),
        Endless(batches[1], parts), compute, passes=passes,
    )  # fmt: skip
    engine = Engine(
        problems=[outer, inner],
        config=EngineConfig(strategy="cpu"),
        dependencies={"u2l": {outer: [inner]}, "l2u": {inner: [outer]}},
    )
    engine.train()
    toy = Toy(engine, inner, outer, [], [])
    for _ in range(steps):
        toy.step()
    return toy


class Endless:
    """Makes batches for ever; if `parts` is not empty, cuts each into parts of these numbers of rows."""

    def __init__(self, make: Callable[[], Batch], parts: Sequence[int]) -> None:
        self.make = make
        self.sizes = list(parts)
        self.shares = [rows / sum(parts) for rows in parts]

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield tuple(self._parts()) if self.sizes else self.make()

    def draw(self, seed: int) -> tuple[list[Batch], list[float]]:
        with seeded(seed, CPU):
            return (self._parts(), self.shares) if self.sizes else ([self.make()], [1.0])

    def _parts(self) -> list[Batch]:
        cut = {name: values.split(self.sizes) for name, values in self.make().items()}
        return [{k: v[i] for k, v in cut.items()} for i in range(len(self.sizes))]


def ridge_toy(method: str, *, solved: bool = False, size: int = 4, share: float = 1.0, **options: Any) -> Toy:
    """Ridge regression; D_val has a tenth of the penalty, so that the direct gradient is not zero.

    `solved`: w starts at the solution of the inner problem, as the implicit function theorem wants. `share` of the
    penalty in D_tr: below zero the inner problem is not convex.
    """
    generator = torch.Generator().manual_seed(0)
    train, validation = _regression(generator, size, share), _regression(generator, size, 0.1)
    torch.manual_seed(0)
    net, penalty = Ridge(size), LogPenalty(size)
    if solved:
        with torch.no_grad():
            net.w.copy_(ridge_solution(train, penalty()))
    return make_toy(net, penalty, (lambda: dict(train), lambda: dict(validation)), method, **options)


def ridge_hessian(batch: Batch, penalty: Tensor) -> Tensor:
    return batch["x"].T @ batch["x"] / len(batch["x"]) + torch.diag(batch["share"] * penalty)


def ridge_solution(batch: Batch, penalty: Tensor) -> Tensor:
    """w*(beta), differentiable."""
    return torch.linalg.solve(ridge_hessian(batch, penalty), batch["x"].T @ batch["y"] / len(batch["x"]))


def _regression(generator: torch.Generator, size: int, share: float) -> Batch:
    x, y = torch.randn(20, size, generator=generator), torch.randn(20, generator=generator)
    return {"x": x, "y": y, "share": torch.tensor(share)}


def lora_toy(
    method: str = "exact", *, k: int = 8, constraint: Any = "softmax", dropout: float = 0.0, **options: Any
) -> Toy:
    """The two-layer LoRA net with the program's selection variables, away from their uniform start."""
    torch.manual_seed(1)
    net, variables = LoraNet(k, dropout), SelectionVariables(2, k, constraint)
    with torch.no_grad():
        variables.beta.add_(0.3 * torch.randn_like(variables.beta))

    def draw() -> Batch:
        return {"x": torch.randn(16, 5), "y": torch.randint(3, (16,))}

    return make_toy(net, variables, (draw, draw), method, **{"steps": 2, **options})


Update = Callable[[list[Tensor]], list[Tensor]]


def unrolled(toy: Toy, eta: float, update: Update = lambda gradient: gradient) -> tuple[Tensor, Tensor]:
    """Direct and implicit gradient of the last outer step, by `torch.func` through W'(beta).

    W'(beta) has the value of the true step, and the derivative of W - eta * update(dL_tr/dW). If the true step is SGD
    and eta its rate, W'(beta) is W - eta dL_tr/dW itself.
    """
    names = [n for n, p in toy.inner.module.named_parameters() if p.requires_grad]
    before, after = (dict(zip(names, values, strict=True)) for values in (toy.before, toy.after))

    net, train, held_out = toy.inner.module, toy.inner.cur_batch, toy.outer.cur_batch
    masks = [None, None]
    if isinstance(net, LoraNet):
        masks = [net.mask(train, toy.inner.masks), net.mask(held_out, toy.outer.masks)]

    def loss(weights: dict[str, Tensor], beta: Tensor, batch: Batch, mask: Tensor | None) -> Tensor:
        gates = functional_call(toy.outer.module, {"beta": beta}, ())
        return functional_call(net, weights, (batch, gates, mask))

    def move(beta: Tensor) -> dict[str, Tensor]:
        gradient = grad(loss)(before, beta, train, masks[0])
        return dict(zip(names, update([gradient[n] for n in names]), strict=True))

    def validation(weights: dict[str, Tensor], beta: Tensor) -> Tensor:
        return loss(weights, beta, held_out, masks[1])

    beta = toy.outer.beta_before
    here = move(beta)

    def whole(beta: Tensor) -> Tensor:
        moved = move(beta)
        return validation({n: after[n] - eta * (moved[n] - here[n]) for n in names}, beta)

    direct = grad(validation, argnums=1)(after, beta)
    return direct.flatten(), (grad(whole)(beta) - direct).flatten()


def random_vector(toy: Toy) -> list[Tensor]:
    """Some direction in the space of W."""
    return [torch.randn_like(p) for p in toy.inner.trained]


def implicit(toy: Toy, vector: list[Tensor]) -> Tensor:
    """The implicit term of the toy's method for that v, flat."""
    method = registered(toy.inner.config.type)
    return torch.cat([t.flatten() for t in method.implicit(vector, toy.inner, toy.outer)])


def called_by_betty(method: Hypergradient) -> Callable[..., list[Tensor] | None]:
    """The approximation as Betty's own `get_grads` calls an entry of its table: with `sync` the implicit term is added
    to .grad of the outer problem's parameters, and nothing is returned."""

    def entry(vector: list[Tensor], inner: ToyInner, outer: ToyOuter, sync: bool) -> list[Tensor] | None:
        term = method.implicit(vector, inner, outer)
        return outer.set_grads(outer.trainable_parameters(), term) if sync else term

    return entry


def cosine(one: Tensor, other: Tensor) -> float:
    return float(one.flatten() @ other.flatten() / (one.norm() * other.norm()))


def agree(given: Tensor, expected: Tensor, tolerance: float) -> None:
    """Same direction and same length, each to `tolerance`."""
    given, expected = given.flatten(), expected.flatten()
    assert given.isfinite().all()
    assert 1 - cosine(given, expected) <= tolerance
    assert abs(float(given.norm() / expected.norm()) - 1) <= tolerance
