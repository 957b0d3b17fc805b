"""What a rule needs of a search is asked before it is made."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.configs.search import AnswerConfig, Shares, Size, Threshold
from autolora.engine.ranks.needs import refuse_unanswerable
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from tests.helpers.tiny import MEASURED


@pytest.mark.parametrize(
    ("settings", "needed"),
    [(Threshold(), False), (Shares(), True), (Shares(budget=0.5), True), (Size(), True), (Size(budget=0.5), False)],
)
def test_too_few_rows_are_refused_where_the_rule_needs_them(settings: AnswerConfig, needed: bool) -> None:
    assert settings.needs_evidence == needed
    refuse_unanswerable(settings, 8, [10, 10])
    if needed:
        with pytest.raises(UserError, match=rf"--answer.rule: {settings.rule} is measured on D_val, whose 7 rows"):
            refuse_unanswerable(settings, 7, [10, 10])
    else:
        refuse_unanswerable(settings, 7, [10, 10])


@pytest.mark.parametrize("sizes", [[768] * 12, [10, 10, 40], [1, 999], [5], [3] * 7])
def test_the_smallest_budget_that_a_refusal_names_is_allowed(sizes: list[int]) -> None:
    with pytest.raises(UserError, match=r"--answer.budget: 1e-06 is not allowed for this model") as refused:
        refuse_unanswerable(Shares(budget=1e-6), 100, sizes)
    named = re.search(r"allowed: ([0-9.e-]+) or more", str(refused.value))
    assert named is not None
    refuse_unanswerable(Shares(budget=float(named[1])), 100, sizes)


def test_budget_auto_needs_a_budget_of_the_curve_with_room_for_a_component() -> None:
    """The run failed after the search, and said that the curve had not been measured."""
    small = Shares(curve_budgets=[0.25])
    with pytest.raises(
        UserError,
        match=r"--answer.curve_budgets: none is large enough .*; allowed: at least one budget of 0\.5 ",
    ):
        refuse_unanswerable(small, 100, [10, 10])
    refuse_unanswerable(small, 100, [10] * 4)
    refuse_unanswerable(Shares(curve_budgets=[0.25, 1]), 100, [10, 10])


@pytest.mark.parametrize(
    "arguments", [("--answer.budget", "0.1"), ("--task.train_rows", "12")], ids=["small budget", "few rows"]
)
def test_what_could_not_be_answered_is_not_searched(
    tiny_config: Callable[..., RunConfig], arguments: tuple[str, str]
) -> None:
    config = tiny_config(*MEASURED, "--answer.rule", "shares", *arguments)
    with pytest.raises(UserError, match=r"--answer\."):
        run_stages(Request(config, "all", False, "test"), StopRequest())
    assert not (Path(config.runs_folder) / str(config.name) / "config.yaml").exists()
