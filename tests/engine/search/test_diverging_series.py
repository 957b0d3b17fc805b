"""A Neumann series that diverges is named as the reason why outer steps are skipped, or why alpha follows it alone."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.search.stage import search
from autolora.problems.lora import LoraProblem
from autolora.problems.selection import SelectionProblem
from tests.helpers.searching import spoil

NEUMANN = ("--hypergradient.type", "neumann", "--search.log_every", "1")
"""A search by a Neumann series, whose sum is not finite with enough terms and a large eta."""


@pytest.mark.trains
@pytest.mark.parametrize("allowed", [0, 99])
def test_a_diverging_series_is_blamed_and_no_learning_rate(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], log_lines: list[str], allowed: int
) -> None:
    """Both messages blamed the learning rates, and lowering these changed nothing."""
    diverges = ("--hypergradient.terms", "40", "--hypergradient.eta", "1000", "--search.max_bad_steps", str(allowed))
    run = run_of(tiny_config(*NEUMANN, *diverges))
    remedy = "the Neumann series diverges: lower --hypergradient.eta (now 1000) or --hypergradient.terms (now 40)"
    if allowed:
        search(run)
        (said,) = [line for line in log_lines if "outer step" in line]
        assert said.startswith("WARNING alpha moved in 0 of 6 outer steps, so the ranks are still those of the start")
        assert said.endswith(f"not finite; {remedy}")
    else:
        with pytest.raises(UserError) as error:
            search(run)
        said = str(error.value)
        assert said.startswith("--search.max_bad_steps: by step 1 ")
        assert said.endswith(f"; {remedy}, with --overwrite")
    assert "learning_rate" not in said


@pytest.mark.trains
@pytest.mark.parametrize("problem", [LoraProblem, SelectionProblem])
def test_a_series_is_not_blamed_for_a_loss_that_is_not_finite(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch,
    problem: type,
) -> None:  # fmt: skip
    spoil(monkeypatch, problem, set(range(99)), math.nan)
    run = run_of(tiny_config(*NEUMANN, "--hypergradient.eta", "lr", "--search.max_bad_steps", "1"))
    with pytest.raises(UserError, match=r"; --search\.learning_rate is 0\.01") as error:
        search(run)
    assert "Neumann" not in str(error.value)


@pytest.mark.trains
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--hypergradient.eta", "1000", "--hypergradient.terms", "6"), True),
        (("--hypergradient.eta", "lr"), False),
        (("--hypergradient.eta", "1000000", "--hypergradient.terms", "0"), False),  # without terms it is no series
        (("--hypergradient.eta", "1000000", "--hypergradient.type", "exact"), False),
    ],
)
def test_a_series_that_outgrows_the_direct_term_is_spoken_of_at_the_end(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], log_lines: list[str], given: Any, said: bool
) -> None:
    search(run_of(tiny_config(*NEUMANN, *given)))
    found = [line for line in log_lines if "implicit term" in line]
    assert len(found) == said
    for line in found:
        assert line.startswith("WARNING in the last outer step the implicit term was ")
        assert line.endswith("lower --hypergradient.eta (now 1000) or --hypergradient.terms (now 6)")
