"""A verdict that time or a signal ends: it judges the complete pairs, and the same command trains the others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.study.launchers import Running
from tests.helpers.verdicts import FakeLauncher, better


@pytest.mark.trains
def test_time_that_is_over_leaves_the_complete_pairs_and_the_same_command_goes_on(verdict: Callable[..., Any]) -> None:
    first = FakeLauncher(better(0.3), stop_after=9)
    found, _ = verdict(first)
    assert (found["ending"], found["pairs"], len(first.trained)) == ("undecided", 3, 9)
    assert "at least 8 are needed" in found["sentence"]
    second = FakeLauncher(better(0.3))
    found, _ = verdict(second)
    assert (found["ending"], found["pairs"]) == ("matter", 8)
    names = [str(config.name) for config in (*first.trained, *second.trained)]
    assert len(names) == len(set(names)) == 18


@pytest.mark.trains
def test_a_signal_leaves_a_verdict_on_the_complete_pairs_and_the_same_command_goes_on(
    verdict: Callable[..., Any], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "runs" / "tiny")
    with pytest.raises(Interrupted) as stopped:
        verdict(FakeLauncher(better(0.3), stop_after=2, code=130))
    assert stopped.value.code == 130
    assert not folder.verdict_summary.exists(), "without a head the pair tells nothing yet"
    with pytest.raises(Interrupted) as stopped:
        verdict(FakeLauncher(better(0.3), stop_after=6, code=143))
    assert stopped.value.code == 143
    found = json.loads(folder.verdict_summary.read_text())
    assert (found["ending"], found["pairs"]) == ("undecided", 3)
    assert "The same command trains further pairs" in found["recommendation"]
    assert found["sentence"] in folder.report.read_text()
    found, _ = verdict(FakeLauncher(better(0.3)))
    assert (found["ending"], found["pairs"]) == ("matter", 8)


@pytest.mark.trains
def test_a_second_signal_ends_it_at_once(verdict: Callable[..., Any], tmp_path: Path) -> None:
    """It judged the pairs and drew the report first, until a third signal."""
    launcher = FakeLauncher(better(0.3), stop_after=6)

    def twice(running: Running, settings: Any, stop: StopRequest) -> list[str]:
        try:
            return launcher(running, settings, stop)
        except Interrupted as stopped:
            raise Interrupted(130, at_once=True) from stopped

    with pytest.raises(Interrupted):
        verdict(twice)
    assert len(launcher.trained) == 6
    assert not RunFolder(tmp_path / "runs" / "tiny").verdict_summary.exists()


@pytest.mark.trains
def test_a_signal_goes_before_a_damaged_file(verdict: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "samples.jsonl").write_text("{")
    with pytest.raises(Interrupted):
        verdict(FakeLauncher(better(0.3), stop_after=6, code=130))


@pytest.mark.trains
def test_a_signal_stops_it_and_time_that_ends_before_the_first_pair_is_said(verdict: Callable[..., Any]) -> None:
    with pytest.raises(Interrupted):
        verdict(FakeLauncher(better(0.3), stop_after=3, code=130))
    with pytest.raises(UserError, match=r"^--verdict.minutes: 14 minutes are over, and the first pair"):
        verdict(FakeLauncher(better(0.3), stop_after=1), "--name", "other")
