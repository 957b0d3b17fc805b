"""Small bilevel problems in float64 on Betty's own Engine, and what their hypergradients must be.

The expected values come from closed forms and from `torch.func` through the whole step: nothing of
the code under test is used for them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from betty.configs import EngineConfig
from betty.engine import Engine
from betty.logging import get_logger
from torch import Tensor, nn
from torch.func import functional_call, grad

from autolora.configs.search import BUILT_IN, COMPARED, OwnHypergradient
from autolora.problems.batches import Batch as StepBatch
from autolora.problems.bilevel import LoraProblem, SelectionProblem, SelectionVariables, Shared
from autolora.problems.hypergradients import Hypergradient, Step, approximation
from autolora.problems.machine.compute import Compute, seeded
from autolora.problems.machine.draws import seed_of
from tests.helpers.paths import ROOT

CPU = torch.device("cpu")
METHODS = sorted(COMPARED)
Batch = dict[str, Tensor]


class Ridge(nn.Module):
    """|x w - y|^2 / 2n + share/2 sum_i exp(beta_i) w_i^2.

    Linear algebra says everything about it."""

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

    def __init__(
        self, k: int, dropout: float, inputs: int = 5, hidden: int = 7, classes: int = 3
    ) -> None:
        super().__init__()
        shapes = [(hidden, inputs), (classes, hidden)]
        self.frozen = nn.ParameterList(
            [nn.Parameter(torch.randn(s) / s[1] ** 0.5, False) for s in shapes]
        )
        # B away from zero: at B = 0 half of the mixed derivatives vanish and would go untested.
        self.a = nn.ParameterList(
            [nn.Parameter(torch.randn(k, s[1]) / s[1] ** 0.5) for s in shapes]
        )
        self.b = nn.ParameterList([nn.Parameter(torch.randn(s[0], k) * 0.5) for s in shapes])
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch, gates: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden = torch.tanh(self._layer(0, batch["x"], gates))
        hidden = self.dropout(hidden) if mask is None else hidden * mask
        return nn.functional.cross_entropy(self._layer(1, hidden, gates), batch["y"])

    def mask(self, batch: StepBatch) -> Tensor:
        """The dropout mask that `forward` draws for the only part of this batch."""
        with seeded(seed_of(batch.seed, "masks", 0), CPU):
            return self.dropout(torch.ones(len(batch.parts[0][0]["x"]), self.frozen[0].shape[0]))

    def _layer(self, i: int, x: Tensor, gates: Tensor) -> Tensor:
        return x @ self.frozen[i].T + (x @ self.a[i].T * gates[i]) @ self.b[i].T


class ToyInner(LoraProblem):
    def training_step(self, batch: Batch) -> Tensor:
        loss: Tensor = self.module(batch, self.selection.module())
        return loss


class ToyOuter(SelectionProblem):
    """Notes what its last step started from and which gradient reached the optimiser."""

    beta_before: Tensor
    gradient_seen: Tensor

    def training_step(self, batch: Batch) -> Tensor:
        self.beta_before = self.module.beta.detach().clone()
        loss: Tensor = self.lora.module(batch, self.module())
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.gradient_seen = self.module.beta.grad.detach().clone()
        super().optimizer_step(*args, **kwargs)


@dataclass
class Toy:
    """Both problems after some steps of the engine, and the weights around the last one."""

    engine: Engine
    inner: ToyInner
    outer: ToyOuter
    before: list[Tensor]
    after: list[Tensor]
    last_steps: list[Step] = field(default_factory=list)

    @property
    def train(self) -> Batch:
        """The rows of D_tr of the last step, whose batch has one part."""
        return self.inner.batch.parts[0][0]

    @property
    def held_out(self) -> Batch:
        """The rows of D_val of the last outer step."""
        return self.outer.batch.parts[0][0]

    def step(self) -> None:
        """One step of Betty's Engine; keeps the inner steps that its outer step forgets."""
        self.before = copies(self.inner.trained)
        descent = self.inner.descent

        def kept(batch: StepBatch) -> Any:
            found = descent(batch)
            self.last_steps = self.inner.steps
            return found

        self.inner.descent = kept  # type: ignore[method-assign]
        self.engine.train_step()
        del self.inner.descent
        self.after = copies(self.inner.trained)


def copies(tensors: Any) -> list[Tensor]:
    return [t.detach().clone() for t in tensors]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Whether the tensors of both lists are equal bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def made(
    method: str, eta: float | str = "betty", radius: float = 0.01, terms: int = 3
) -> Hypergradient:
    """An approximation of ours, with those of these settings that it reads."""
    kind = BUILT_IN[method]
    given = {"eta": eta, "radius": radius, "terms": terms}
    read = {key: value for key, value in given.items() if key in kind.model_fields}
    # also values that the program refuses
    return approximation(kind.model_construct(type=method, **read))


def example(name: str, **options: Any) -> Hypergradient:
    """An approximation of examples/."""
    return approximation(
        OwnHypergradient(type=f"{ROOT / 'examples' / name.lower()}.py:{name}", options=options)
    )


def make_toy(
    net: nn.Module,
    variables: nn.Module,
    batches: tuple[Callable[[], Batch], Callable[[], Batch]],
    method: str | Hypergradient = "exact",
    eta: float | str = "betty",
    rate: float = 0.1,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    scheduler: Callable[..., Any] | None = None,
    steps: int = 1,
    parts: Sequence[int] = (),
    radius: float = 0.01,
    terms: int = 3,
    **config: Any,
) -> Toy:
    """A toy on a real Engine after `steps` inner steps, as the program would set it up.

    `parts`: the rows of each part in which a batch goes through the model; none: all at once.
    """
    get_logger().setLevel("WARNING")
    shared = Shared(Compute(CPU, bf16=False))
    hypergradient = made(method, eta, radius, terms) if isinstance(method, str) else method
    trained = [p for p in net.parameters() if p.requires_grad]
    descent = optimizer(trained, lr=rate)
    train, held_out = (Endless(make, parts, seed) for seed, make in enumerate(batches))
    schedule = scheduler(descent) if scheduler else None
    inner = ToyInner(net, trained, descent, train, shared, schedule, **config)
    ascent = torch.optim.SGD(variables.parameters(), lr=0.1)
    outer = ToyOuter(
        variables, variables.parameters(), ascent, held_out, shared, hypergradient=hypergradient
    )
    dependencies = {"u2l": {outer: [inner]}, "l2u": {inner: [outer]}}
    engine = Engine(
        problems=[outer, inner], config=EngineConfig(strategy="cpu"), dependencies=dependencies
    )
    engine.train()
    toy = Toy(engine, inner, outer, [], [])
    for _ in range(steps):
        toy.step()
    return toy


class Endless:
    """Makes batches for ever; if `parts` is not empty, cuts each into parts of these numbers of
    rows."""

    def __init__(self, make: Callable[[], Batch], parts: Sequence[int], seed: int) -> None:
        self.make = make
        self.sizes = list(parts)
        self.seed = seed

    def __getitem__(self, number: int) -> StepBatch:
        return self.drawn(number)

    def drawn(self, *place: int) -> StepBatch:
        seed = seed_of(self.seed, *place)
        with seeded(seed, CPU):
            whole = self.make()
        if not self.sizes:
            return StepBatch([(whole, 1.0)], seed)
        cut = {name: values.split(self.sizes) for name, values in whole.items()}
        shares = [rows / sum(self.sizes) for rows in self.sizes]
        return StepBatch(
            [({k: v[i] for k, v in cut.items()}, share) for i, share in enumerate(shares)], seed
        )


def ridge_toy(
    method: str | Hypergradient,
    *,
    solved: bool = False,
    size: int = 4,
    share: float = 1.0,
    **options: Any,
) -> Toy:
    """Ridge regression; D_val has a tenth of the penalty, so that the direct gradient is not zero.

    `solved`: w starts at the solution of the inner problem, as the implicit function theorem wants.
    `share` of the penalty in D_tr: below zero the inner problem is not convex.
    """
    generator = torch.Generator().manual_seed(0)
    train = _regression(generator, size, share)
    validation = _regression(generator, size, 0.1)
    torch.manual_seed(0)
    net = Ridge(size)
    penalty = LogPenalty(size)
    if solved:
        with torch.no_grad():
            net.w.copy_(ridge_solution(train, penalty()))
    return make_toy(
        net, penalty, (lambda: dict(train), lambda: dict(validation)), method, **options
    )


def ridge_hessian(batch: Batch, penalty: Tensor) -> Tensor:
    return batch["x"].T @ batch["x"] / len(batch["x"]) + torch.diag(batch["share"] * penalty)


def ridge_solution(batch: Batch, penalty: Tensor) -> Tensor:
    """w*(beta), differentiable."""
    return torch.linalg.solve(
        ridge_hessian(batch, penalty), batch["x"].T @ batch["y"] / len(batch["x"])
    )


def _regression(generator: torch.Generator, size: int, share: float) -> Batch:
    x = torch.randn(20, size, generator=generator)
    y = torch.randn(20, generator=generator)
    return {"x": x, "y": y, "share": torch.tensor(share)}


def lora_toy(
    method: str | Hypergradient = "exact",
    *,
    k: int = 8,
    constraint: Any = "softmax",
    dropout: float = 0.0,
    **options: Any,
) -> Toy:
    """The two-layer LoRA net with the program's selection variables, away from their uniform
    start."""
    torch.manual_seed(1)
    net = LoraNet(k, dropout)
    variables = SelectionVariables(2, k, constraint)
    with torch.no_grad():
        variables.beta.add_(0.3 * torch.randn_like(variables.beta))

    def draw() -> Batch:
        return {"x": torch.randn(16, 5), "y": torch.randint(3, (16,))}

    return make_toy(net, variables, (draw, draw), method, **{"steps": 2, **options})


Update = Callable[[list[Tensor]], list[Tensor]]


def unrolled(
    toy: Toy, eta: float, update: Update = lambda gradient: gradient
) -> tuple[Tensor, Tensor]:
    """Direct and implicit gradient of the last outer step, by `torch.func` through W'(beta).

    W'(beta) has the value of the true step, and the derivative of W - eta * update(dL_tr/dW). If
    the true step is SGD and eta its rate, W'(beta) is W - eta dL_tr/dW itself.
    """
    names = [n for n, p in toy.inner.module.named_parameters() if p.requires_grad]
    before, after = (dict(zip(names, values, strict=True)) for values in (toy.before, toy.after))

    net = toy.inner.module
    masks = [
        net.mask(level.batch) if isinstance(net, LoraNet) else None
        for level in (toy.inner, toy.outer)
    ]
    train = toy.train
    held_out = toy.held_out

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


def implicit(toy: Toy, vector: list[Tensor], method: Hypergradient | None = None) -> Tensor:
    """The implicit term for that v, flat, by the toy's method or another one."""
    chosen = method or toy.outer.hypergradient
    toy.inner.steps = toy.last_steps
    term, _ = chosen.term(chosen.start(toy.inner), vector, toy.inner, toy.outer)
    return torch.cat([t.detach().flatten() for t in term])


def cosine(one: Tensor, other: Tensor) -> float:
    return float(one.flatten() @ other.flatten() / (one.norm() * other.norm()))


def agree(given: Tensor, expected: Tensor, tolerance: float) -> None:
    """Same direction and same length, each to `tolerance`."""
    given = given.flatten()
    expected = expected.flatten()
    assert given.isfinite().all()
    assert 1 - cosine(given, expected) <= tolerance
    assert abs(float(given.norm() / expected.norm()) - 1) <= tolerance
