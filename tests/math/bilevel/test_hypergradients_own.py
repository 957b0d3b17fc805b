"""A user's approximation disturbs nothing, and carries its state."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from autolora.problems.hypergradients.base import Hypergradient
from autolora.problems.hypergradients.own import Own


class Given(Hypergradient):
    """Returns what a function makes of beta and W."""

    reads_vector = False
    second_order = True

    def __init__(self, made: Callable[[nn.Parameter, nn.Parameter], Any]) -> None:
        self.made = made

    def implicit(self, vector: Any, inner: Any, outer: Any) -> list[Tensor]:
        found: list[Tensor] = self.made(outer.trainable_parameters()[0], inner.trainable_parameters()[0])
        return found


def problems(beta: nn.Parameter, weight: nn.Parameter, seed: int = 0, step: int = 1) -> tuple[Any, Any]:
    """The inner and the outer problem of a run with this seed at this outer step."""
    compute = SimpleNamespace(device=torch.device("cpu"))
    inner = SimpleNamespace(compute=compute, seed=seed, trainable_parameters=lambda: [weight])
    return inner, SimpleNamespace(count=step, trainable_parameters=lambda: [beta])


def called(made: Callable[[nn.Parameter, nn.Parameter], Any], seed: int = 0, step: int = 1) -> list[Tensor]:
    inner, outer = problems(nn.Parameter(torch.zeros(3, 8)), nn.Parameter(torch.ones(2)), seed, step)
    return Own(Given(made), "mine.py:Given").implicit([], inner, outer)


def test_what_is_right_is_passed_on_and_its_random_numbers_leave_the_dropout_masks_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    (found,) = called(lambda beta, _: [beta + torch.randn_like(beta)])
    assert found.abs().sum() > 0
    assert not found.requires_grad, "it would keep the graph alive"
    assert torch.equal(torch.get_rng_state(), state)


def test_its_random_numbers_follow_from_the_seed_and_the_outer_step_alone() -> None:
    """Each process drew others, as each draws dropout masks of its own: beta then differed between them."""

    def drawn(stream: int, seed: int, step: int) -> Tensor:
        torch.manual_seed(stream)
        return called(lambda beta, _: [torch.randn_like(beta)], seed, step)[0]

    assert torch.equal(drawn(1, seed=3, step=7), drawn(2, seed=3, step=7))
    for seed, step in ((3, 8), (4, 7)):
        assert not torch.equal(drawn(1, seed=3, step=7), drawn(1, seed=seed, step=step))


class Carrying(Given):
    """Carries what it is given."""

    state: Any = None

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state["x"]


def carrying(state: Any) -> Own:
    wrapped = Carrying(lambda b, w: None)
    wrapped.state = state
    return Own(wrapped, "mine.py:Carrying")


def test_what_a_checkpoint_can_hold_is_passed_on() -> None:
    state = {"x": [torch.ones(2), (1, 2.5, None, True)], "words": {"a": "b"}}
    own = carrying(state)
    assert own.carries
    assert own.state_dict() is state
    own.load_state_dict({"x": 3})
    assert own.wrapped.state == 3
    plain = Own(Given(lambda b, w: None), "mine.py:Given")
    assert not plain.carries
    assert plain.state_dict() == {}
    plain.load_state_dict({})


class Remembers(Given):
    """Its attributes stay the same objects, and `changes` changes one of them in place."""

    def __init__(self, changes: Callable[["Remembers"], object]) -> None:
        self.changes, self.mean, self.history = changes, torch.ones(2), [[torch.ones(2)]]
        self.counts: dict[str, int] = {"calls": 0}

    def implicit(self, vector: Any, inner: Any, outer: Any) -> list[Tensor]:
        self.changes(self)
        return [torch.zeros_like(p) for p in outer.trainable_parameters()]
