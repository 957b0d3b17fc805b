"""How many pairs a verdict trains is planned before the first one."""

from collections.abc import Callable
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine.run.resuming import Outdated
from tests.helpers.verdicts import FakeLauncher, better


@pytest.mark.trains
def test_a_verdict_trains_no_more_pairs_than_are_planned(verdict: Callable[..., Any], log_lines: list[str]) -> None:
    launcher = FakeLauncher(better(0.0))
    found, _ = verdict(launcher, "--verdict.pairs", "8", "--study.launcher", "ray")
    assert (found["ending"], found["pairs"], len(launcher.trained)) == ("equal", 8, 18)
    assert "INFO 8 pairs take about 1 minute" in log_lines


@pytest.mark.trains
def test_a_plan_is_not_changed_after_the_first_pair(verdict: Callable[..., Any]) -> None:
    verdict(FakeLauncher(better(0.3), stop_after=7), "--verdict.pairs", "16")
    with pytest.raises(
        Outdated, match=r"^--verdict\.pairs: the pairs in .* were planned as 16 at most, now it is 8; "
    ):
        verdict(FakeLauncher(better(0.3)), "--verdict.pairs", "8")
    found, folder = verdict(FakeLauncher(better(0.0)), "--verdict.pairs", "8", overwrite=True)
    assert found["pairs"] == 8
    with pytest.raises(Outdated, match=r"planned as 8 at most, now it is 24; give the old value"):
        verdict(FakeLauncher(better(0.0)), "--verdict.pairs", "24")
    (folder.verdict / "plan.json").write_text("{}")
    with pytest.raises(UserError, match=r"plan\.json: pairs is missing; --overwrite trains every pair again"):
        verdict(FakeLauncher(better(0.3)), "--verdict.pairs", "8")
