"""What a rule needs of a search is asked before it is made."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.measure import RuleConfig, Shares, Size, Threshold
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.interrupt import StopRequest
from autolora.engine.ranks.rules import refuse_early
from autolora.engine.stages import run_stages


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        (Threshold(), False),
        (Shares(), True),
        (Shares(budget=0.5), True),
        (Size(), True),
        (Size(budget=0.5), False),
    ],
)
def test_too_few_rows_are_refused_where_the_rule_needs_them(
    settings: RuleConfig, needed: bool
) -> None:
    refuse_early(settings, 8, [10, 10])
    said = rf"--choose.rule: {settings.rule} is measured on D_val, whose 7 rows"
    with pytest.raises(UserError, match=said) if needed else nullcontext():
        refuse_early(settings, 7, [10, 10])


def test_what_could_not_be_answered_is_not_searched(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config(
        "--measure.rows", "1000", "--choose.rule", "shares", "--choose.budget", "0.1"
    )
    with pytest.raises(UserError, match=r"--choose.budget"):
        run_stages(Request(config, "all", False, "test"), StopRequest())
    assert not (Path(config.runs_folder) / str(config.name) / "config.yaml").exists()
