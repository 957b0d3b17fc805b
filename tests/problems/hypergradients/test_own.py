"""A user's approximation: what is wrong with it is said in one line, and it disturbs nothing."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autolora.configs.errors import UserError
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


def raised(_: nn.Parameter, __: nn.Parameter) -> None:
    raise KeyError("term")


def left(_: nn.Parameter, __: nn.Parameter) -> None:
    raise SystemExit(3)


def moved(beta: nn.Parameter, weight: nn.Parameter) -> list[Tensor]:
    with torch.no_grad():
        weight.add_(1)
    return [torch.zeros_like(beta)]


WRONG: dict[str, tuple[Callable[[nn.Parameter, nn.Parameter], Any], str]] = {
    "nothing": (
        lambda b, w: None,
        r"returned NoneType from implicit\(\), not a list of tensors; allowed: 1 tensor, one",
    ),
    "one tensor": (lambda b, w: torch.zeros_like(b), r"returned Tensor from implicit\(\)"),
    "numbers": (lambda b, w: [0.0], r"returned list from implicit\(\), not a list of tensors"),
    "too many": (lambda b, w: [b.detach(), b.detach()], r"returned 2 tensors from implicit\(\)"),
    "none": (lambda b, w: [], r"returned 0 tensors"),
    "another shape": (lambda b, w: [b.detach().T], r"returned tensor 1 of shape \[8, 3\] .*, where beta has \[3, 8\]"),
    "one that would be broadcast": (lambda b, w: [b.detach()[:1]], r"returned tensor 1 of shape \[1, 8\]"),
    "another dtype": (
        lambda b, w: [b.detach().double()],
        r"returned tensor 1 of .* and torch\.float64 from .* and torch\.float32",
    ),
    "an error": (raised, r"fails at line \d+ of .*test_own\.py \(KeyError: 'term'\)"),
    "an exit": (left, r"fails at line \d+ of .*test_own\.py \(SystemExit: 3\)"),
    "other weights": (moved, r"changed W, the inner problem's weights; allowed: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(case: str) -> None:
    made, said = WRONG[case]
    with pytest.raises(UserError, match=rf"^--hypergradient\.type: mine\.py:Given {said}"):
        called(made)


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


def test_changed_weights_are_restored_and_gradients_do_not_count() -> None:
    beta, weight = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    inner, outer = problems(beta, weight)
    with pytest.raises(UserError, match="changed W"):
        Own(Given(moved), "mine.py:Given").implicit([], inner, outer)
    assert torch.equal(weight, torch.ones(2))

    def backward(beta: nn.Parameter, weight: nn.Parameter) -> list[Tensor]:
        (beta.sum() * weight.sum()).backward()
        return [torch.zeros_like(beta)]

    weight.grad = torch.full((2,), 7.0)
    Own(Given(backward), "mine.py:Given").implicit([], inner, outer)
    assert beta.grad is None
    assert torch.equal(weight.grad, torch.full((2,), 7.0))


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


@pytest.mark.parametrize("state", [None, [1], {1: 2}, {"x": {2}}, {"x": [object()]}, {"x": {"y": b""}}])
def test_what_no_checkpoint_can_hold_is_refused(state: Any) -> None:
    said = r"^--hypergradient\.type: mine\.py:Carrying returned from state_dict\(\) what no checkpoint can hold; allo"
    with pytest.raises(UserError, match=said):
        carrying(state).state_dict()


def test_a_state_of_another_class_is_one_line() -> None:
    with pytest.raises(UserError, match=r"mine\.py:Carrying fails at line \d+ of .*test_own\.py \(KeyError: 'x'\)"):
        carrying({}).load_state_dict({})


def test_the_flags_are_those_of_the_class() -> None:
    own = Own(Given(lambda b, w: None), "mine.py:Given")
    assert (own.reads_vector, own.reads_weights_before, own.second_order) == (False, True, True)


class Reads(Given):
    """Counts its calls, which no state_dict saves, and reads what it has not asked for."""

    def __init__(self, reads: str) -> None:
        self.reads, self.calls = reads, 0

    def implicit(self, vector: Any, inner: Any, outer: Any) -> list[Tensor]:
        self.calls += 1
        if self.reads:
            getattr(inner, self.reads)
        return [torch.zeros_like(p) for p in outer.trainable_parameters()]


class Saves(Reads):
    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls}


def test_what_was_not_asked_for_is_refused_with_the_name_of_the_flag() -> None:
    inner, outer = problems(nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2)))
    with pytest.raises(
        UserError, match=r"inner.beta_gradient is not kept unless the class says reads_beta_gradient = "
    ):
        Own(Reads("beta_gradient"), "mine.py:Reads").implicit([], inner, outer)
    inner.weights_before = "kept, as the flag is set by default"
    Own(Saves("weights_before"), "mine.py:Saves").implicit([], inner, outer)


def test_a_state_that_no_state_dict_saves_is_warned_of_once(log_lines: list[str]) -> None:
    inner, outer = problems(nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2)))
    for wrapped in (Reads(""), Saves("")):
        method = Own(wrapped, f"mine.py:{type(wrapped).__name__}")
        for _ in range(2):
            method.implicit([], inner, outer)
    (line,) = log_lines
    assert line.startswith(
        "WARNING --hypergradient.type: mine.py:Reads changes calls in implicit(), but has no state_dict()"
    )


class Remembers(Given):
    """Its attributes stay the same objects, and `changes` changes one of them in place."""

    def __init__(self, changes: Callable[["Remembers"], object]) -> None:
        self.changes, self.mean, self.history = changes, torch.ones(2), [[torch.ones(2)]]
        self.counts: dict[str, int] = {"calls": 0}

    def implicit(self, vector: Any, inner: Any, outer: Any) -> list[Tensor]:
        self.changes(self)
        return [torch.zeros_like(p) for p in outer.trainable_parameters()]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda mine: mine.mean.mul_(0.9), "mean"),
        (lambda mine: mine.history.append([]), "history"),
        (lambda mine: mine.history[0][0].add_(1), "history"),
        (lambda mine: mine.history[0].__setitem__(0, torch.ones(2)), "history"),
        (lambda mine: mine.counts.update(calls=1), "counts"),
        (lambda mine: (mine.mean + 1, mine.history[0], mine.counts["calls"]), ""),
    ],
)
def test_a_state_that_is_changed_in_place_is_warned_of(
    change: Callable[[Remembers], object], name: str, log_lines: list[str]
) -> None:
    inner, outer = problems(nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2)))
    Own(Remembers(change), "mine.py:Remembers").implicit([], inner, outer)
    assert [f"changes {name} in implicit()" in line for line in log_lines] == ([True] if name else [])
