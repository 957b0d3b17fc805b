"""What LoRA gains over the head alone: of which trainings it is the mean, and that all of them are trained."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import Head
from tests.helpers.verdicts import FakeLauncher, better


@pytest.mark.trains
def test_the_gain_is_of_both_heads_also_where_the_time_was_over_between_them(verdict: Callable[..., Any]) -> None:
    def loss(arm: str, pair: int) -> float:
        return {"learned": 1.0 + 0.1 * pair, "head": 2.0 + 0.3 * pair}.get(arm, 1.5)

    with pytest.raises(UserError, match=r"--verdict\.minutes: .* the same command resumes them"):
        verdict(FakeLauncher(loss, stop_after=3))
    launcher = FakeLauncher(loss)
    found, _ = verdict(launcher)
    assert [config.name for config in launcher.trained[:2]] == ["head-2", "pair-02-learned"]
    assert found["gain"] == pytest.approx(2.45 - (1 + 0.1 * (1 + found["pairs"]) / 2))


@pytest.mark.trains
def test_a_head_that_was_removed_is_trained_again_and_no_further_pair(verdict: Callable[..., Any]) -> None:
    """Without it, the gain compared other seeds than before."""
    before, folder = verdict(FakeLauncher(better(0.3)))
    shutil.rmtree(folder.verdict / "cells" / "head-1")
    launcher = FakeLauncher(better(0.3))
    found, _ = verdict(launcher)
    assert [config.name for config in launcher.trained] == ["head-1"]
    assert found == before


@pytest.mark.trains
def test_the_gain_over_a_base_model_without_a_head_is_of_all_pairs_too(
    verdict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Head, "evaluates_base", True)
    launcher = FakeLauncher(lambda arm, pair: {"learned": 1.0 + 0.1 * pair, "head": 2.0}.get(arm, 1.5))
    found, _ = verdict(launcher)
    assert [config.name for config in launcher.trained if config.method == "head"] == ["head-1"]
    assert found["gain"] == pytest.approx(1 - 0.1 * (1 + found["pairs"]) / 2)


@pytest.mark.trains
def test_an_overwrite_puts_a_finished_verdict_aside_and_judges_anew(verdict: Callable[..., Any]) -> None:
    before, folder = verdict(FakeLauncher(better(0.3)))
    launcher = FakeLauncher(better(-0.3))
    assert verdict(launcher, overwrite=True)[0] == before, "of this command already"
    with pytest.raises(UserError, match=r"--verdict\.pairs 16, now it is 24"):
        verdict(launcher, "--verdict.pairs", "24")
    found, _ = verdict(launcher, "--verdict.pairs", "24", overwrite=True)
    assert (before["ending"], found["ending"]) == ("matter", "worse")
    assert len(list(folder.root.glob("verdict.old-1/cells/pair-*/metrics.json"))) == 2 * before["pairs"]
