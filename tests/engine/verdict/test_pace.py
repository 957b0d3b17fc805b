"""In which order a verdict trains, and how long it says that its pairs take."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.verdicts import FakeLauncher, better


@pytest.mark.trains
def test_on_several_workers_one_pair_comes_first_and_then_all_up_to_a_look(verdict: Callable[..., Any]) -> None:
    launcher = FakeLauncher(better(0.3))
    found, _ = verdict(launcher, "--study.launcher", "ray")
    assert (found["ending"], found["pairs"], len(launcher.trained)) == ("matter", 8, 18)
    assert launcher.asked == [2, 2, 14]  # a pair, whose time is told; the heads; seven pairs side by side


@pytest.mark.trains
def test_the_pace_is_told_after_the_first_pair(verdict: Callable[..., Any], log_lines: list[str]) -> None:
    verdict(FakeLauncher(better(0.3)), "--verdict.pairs", "24")
    told = [line for line in log_lines if "pairs" in line or line.startswith("INFO pair ")]
    assert told[0].startswith("INFO pair 1: loss 1.0000 at the learned ranks, 1.2")
    assert told[1] == "INFO 8 pairs take about 1 minute, 24 pairs 1"
    assert told[2].startswith("INFO pair 2: ")
    assert sum("24 pairs" in line for line in told) == 1


@pytest.mark.trains
def test_the_pace_is_that_of_whole_pairs_without_the_heads(
    verdict: Callable[..., Any], log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that counts 10 minutes for each training of a pair and 1 for each head."""
    launcher = FakeLauncher(better(0.3))

    def clock() -> float:
        return sum(60.0 if str(config.name).startswith("head") else 600.0 for config in launcher.trained)

    monkeypatch.setattr("autolora.engine.verdict.stage.time", SimpleNamespace(monotonic=clock))
    verdict(launcher, "--verdict.pairs", "24")
    assert "INFO 8 pairs take about 160 minutes, 24 pairs 480" in log_lines


@pytest.mark.trains
def test_a_small_difference_is_not_told_as_nothing(verdict: Callable[..., Any], log_lines: list[str]) -> None:
    """A language model's pair had equal losses and a difference of +0.0000."""
    verdict(FakeLauncher(lambda arm, pair: {"learned": 1.0, "head": 2.0}.get(arm, 1.00003)))
    (told,) = (line for line in log_lines if line.startswith("INFO pair 1: "))
    assert told == (
        "INFO pair 1: loss 1.00000 at the learned ranks, 1.00003 at shuffled ranks, difference +0.000030 (mean "
        "+0.000030)"
    )
