"""Doubts about the implicit term that are told."""

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autolora.configs.schema import RunConfig
from autolora.engine.search.implicit_term import (
    smaller_term,
    term_is_not_finite,
    warn_about_large_term,
    warn_about_rounded_difference,
    warn_about_short_unroll,
)
from tests.helpers.four_bits import FourBits


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [
        (("--hypergradient.type", "darts"), True),
        (("--hypergradient.type", "darts", "--hypergradient.eta", "lr"), False),
        (("--hypergradient.type", "darts", "--hypergradient.eta", "1e-4"), False),
        (("--hypergradient.type", "darts", "--hypergradient.eta", "1e-3", "--search.learning_rate", "1e-3"), False),
        (("--hypergradient.type", "darts", "--hypergradient.eta", "0.5"), True),
        (("--hypergradient.type", "sama", "--hypergradient.eta", "lr"), True),
        (("--hypergradient.type", "exact"), False),
        (("--hypergradient.type", "first_order"), False),
    ],
)
@pytest.mark.parametrize("rounds", [True, False])
@pytest.mark.parametrize("make", [lambda dtype: torch.nn.Linear(2, 2, dtype=dtype), FourBits])
def test_a_finite_difference_in_bf16_is_warned_of_where_it_counts(
    tiny_config: Callable[..., RunConfig], log_lines: list[str], arguments: tuple[str, ...], warned: bool,
    make: Callable[[torch.dtype], torch.nn.Module], rounds: bool,
) -> None:  # fmt: skip
    config = tiny_config(*arguments)
    warn_about_rounded_difference(make(torch.bfloat16 if rounds else torch.float32), config)
    expected = warned and rounds
    assert [line.startswith(f"WARNING --hypergradient.type {config.hypergradient.type}: ") for line in log_lines] == [
        True
    ] * expected


@pytest.mark.parametrize(("steps", "warned"), [("1", True), ("2", False)])
def test_an_unroll_over_a_single_step_is_told_to_be_exact(
    tiny_config: Callable[..., RunConfig], log_lines: list[str], steps: str, warned: bool
) -> None:
    for kind in ("unrolled", "exact"):
        warn_about_short_unroll(tiny_config("--hypergradient.type", kind, "--search.unroll_steps", steps))
    told = ["WARNING --hypergradient.type unrolled: with --search.unroll_steps 1 it computes what exact computes; "]
    assert [line.partition("give")[0] for line in log_lines] == told * warned


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [
        (("--hypergradient.type", "unrolled", "--search.unroll_steps", "2"), True),
        (("--hypergradient.type", "unrolled"), False),
        (("--hypergradient.type", "neumann"), True),
        (("--hypergradient.type", "neumann", "--hypergradient.terms", "0"), False),
        (("--hypergradient.type", "exact"), False),
    ],
)
def test_a_term_that_hides_the_direct_one_is_warned_of_where_it_is_no_one_step_unroll(
    tiny_config: Callable[..., RunConfig], log_lines: list[str], arguments: tuple[str, ...], warned: bool
) -> None:
    outer = SimpleNamespace(diagnostics=lambda: {"implicit_to_direct": 1e4})
    engine: Any = SimpleNamespace(selection=outer)
    warn_about_large_term(engine, tiny_config(*arguments))
    assert len(log_lines) == warned


def of_own_class(config: RunConfig) -> RunConfig:
    """The configuration of a search by an approximation in a user's file, of which the program knows nothing."""
    return replace(config, hypergradient=replace(config.hypergradient, type="mine.py:Mine"))


@pytest.mark.parametrize(("ratio", "warned"), [(None, False), (100.0, False), (101.0, True)])
def test_a_term_hides_the_direct_one_at_more_than_100_times_its_size(
    tiny_config: Callable[..., RunConfig], log_lines: list[str], ratio: float | None, warned: bool
) -> None:
    engine: Any = SimpleNamespace(selection=SimpleNamespace(diagnostics=lambda: {"implicit_to_direct": ratio}))
    warn_about_large_term(engine, tiny_config("--hypergradient.type", "neumann"))
    assert len(log_lines) == warned


def test_of_an_approximation_of_the_users_own_a_large_term_alone_is_told(
    tiny_config: Callable[..., RunConfig], log_lines: list[str]
) -> None:
    config = of_own_class(tiny_config("--search.unroll_steps", "1"))
    warn_about_rounded_difference(torch.nn.Linear(2, 2, dtype=torch.bfloat16), config)
    warn_about_short_unroll(config)
    assert log_lines == []
    engine: Any = SimpleNamespace(selection=SimpleNamespace(diagnostics=lambda: {"implicit_to_direct": 1e4}))
    warn_about_large_term(engine, config)
    (line,) = log_lines
    assert line.endswith(", or look into mine.py:Mine")


@pytest.mark.parametrize(
    ("own_skips", "direct", "implicit", "expected"),
    [
        (0, 1.0, math.inf, True),
        (1, 1.0, math.inf, False),  # an inner step was skipped, too
        (0, math.nan, math.nan, False),
        (0, 1.0, 1.0, False),
    ],
)
def test_the_term_alone_is_blamed_where_nothing_else_is_not_finite(
    own_skips: int, direct: float, implicit: float, expected: bool
) -> None:
    outer = SimpleNamespace(direct=torch.tensor([1.0, direct]), implicit=torch.tensor([1.0, implicit]))
    engine: Any = SimpleNamespace(selection=outer, lora=SimpleNamespace(own_skips=torch.tensor(own_skips)))
    assert term_is_not_finite(engine) is expected


def test_fewer_terms_of_a_neumann_series_are_proposed_where_it_has_terms(
    tiny_config: Callable[..., RunConfig],
) -> None:
    neumann = ("--hypergradient.type", "neumann", "--hypergradient.eta", "0.5", "--hypergradient.terms")
    assert smaller_term(tiny_config(*neumann, "3")) == (
        "the Neumann series diverges: lower --hypergradient.eta (now 0.5) or --hypergradient.terms (now 3)"
    )
    assert smaller_term(tiny_config(*neumann, "0")) == "lower --hypergradient.eta (now 0.5)"
