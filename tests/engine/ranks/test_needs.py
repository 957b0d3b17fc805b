"""What a rule needs of a search is asked before it is made."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.facts import needs_evidence
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.configs.schema_answer import AnswerConfig
from autolora.engine.ranks.needs import refuse_unanswerable
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from tests.helpers.tiny import MEASURED


@pytest.mark.parametrize(
    ("answer", "needed"),
    [
        ({"rule": "threshold"}, False),
        ({"rule": "shares"}, True),
        ({"rule": "shares", "budget": 0.5}, True),
        ({"rule": "size"}, True),
        ({"rule": "size", "budget": 0.5}, False),
    ],
)
def test_too_few_rows_are_refused_where_the_rule_needs_them(answer: dict[str, Any], needed: bool) -> None:
    settings = AnswerConfig(**answer)
    assert needs_evidence(settings) == needed
    refuse_unanswerable(settings, 8, [10, 10])
    if needed:
        with pytest.raises(UserError, match=rf"--answer.rule: {settings.rule} is measured on D_val, whose 7 rows"):
            refuse_unanswerable(settings, 7, [10, 10])
    else:
        refuse_unanswerable(settings, 7, [10, 10])


@pytest.mark.parametrize("sizes", [[768] * 12, [10, 10, 40], [1, 999], [5], [3] * 7])
def test_the_smallest_budget_that_a_refusal_names_is_allowed(sizes: list[int]) -> None:
    with pytest.raises(UserError, match=r"--answer.budget: 1e-06 is not allowed for this model") as refused:
        refuse_unanswerable(AnswerConfig(rule="shares", budget=1e-6), 100, sizes)
    named = re.search(r"allowed: ([0-9.e-]+) or more", str(refused.value))
    assert named is not None
    refuse_unanswerable(AnswerConfig(rule="shares", budget=float(named[1])), 100, sizes)
    refuse_unanswerable(AnswerConfig(rule="threshold", budget=1e-6), 100, sizes)


def test_budget_auto_needs_a_budget_of_the_curve_with_room_for_a_component() -> None:
    """The run failed after the search, and said that the curve had not been measured."""
    small = AnswerConfig(rule="shares", budget="auto", curve_budgets=[0.25])
    with pytest.raises(
        UserError,
        match=r"--answer.curve_budgets: none is large enough .*; allowed: at least one budget of 0\.5 ",
    ):
        refuse_unanswerable(small, 100, [10, 10])
    refuse_unanswerable(small, 100, [10] * 4)
    refuse_unanswerable(AnswerConfig(rule="shares", budget="auto", curve_budgets=[0.25, 1]), 100, [10, 10])


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
