"""Doubts about the implicit term that are told."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from configs.schema import RunConfig
from engine.search.implicit_term import warn_about_large_term, warn_about_rounded_difference, warn_about_short_unroll
from tests.helpers.four_bits import FourBits


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [
        (("--hypergradient.type", "darts"), True),
        (("--hypergradient.type", "darts", "--hypergradient.eta", "lr"), False),
        (("--hypergradient.type", "darts", "--hypergradient.eta", "1e-4"), False),
        (("--hypergradient.type", "darts", "--hypergradient.eta", "0.5"), True),
        (("--hypergradient.type", "sama", "--hypergradient.eta", "lr"), True),
        (("--hypergradient.type", "darts", "--hypergradient.fp32_difference", "true"), False),
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
