"""Which earlier pairs a verdict keeps, and in which words it refuses the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.errors import UserError
from configs.schema import RunConfig
from engine.disk.files import write_json
from engine.search.settings import FOUND
from tests.helpers.methods import LEARNED
from tests.helpers.verdicts import FakeLauncher, better


@pytest.mark.trains
def test_other_ranks_and_other_settings_are_refused_until_all_is_trained_again(verdict: Callable[..., Any]) -> None:
    verdict(FakeLauncher(better(0.3), stop_after=7))
    with pytest.raises(UserError, match="these are not the ranks that the pairs"):
        verdict(FakeLauncher(better(0.3)), ranks=LEARNED[::-1])
    with pytest.raises(UserError, match=r"^--retrain.learning_rate: .* --overwrite to train every pair again"):
        verdict(FakeLauncher(better(0.3)), "--retrain.learning_rate", "0.5")
    launcher = FakeLauncher(better(0.3))
    found, _ = verdict(launcher, "--retrain.learning_rate", "0.5", ranks=LEARNED[::-1], overwrite=True)
    assert found["ending"] == "matter"
    assert len(launcher.trained) == 18


CHANGED = {
    "--verdict.rows": ("5", "trained with 4000, now it is 5"),
    "--verdict.shuffle": ("type", "trained with 'size', now it is 'type'"),
    "--seed": ("3", "trained with 0, now it is 3"),
    "--task.train_rows": ("9", "trained with 64, now it is 9"),
}


@pytest.mark.trains
@pytest.mark.parametrize("key", CHANGED)
def test_a_changed_setting_is_named_as_it_was_given(key: str, verdict: Callable[..., Any]) -> None:
    verdict(FakeLauncher(better(0.3), stop_after=7))
    value, message = CHANGED[key]
    with pytest.raises(UserError, match=rf"^{key}: the pairs in .*/verdict were {message}; give the old value, or"):
        verdict(FakeLauncher(better(0.3)), key, value)


@pytest.mark.trains
def test_a_run_that_was_moved_or_is_named_otherwise_goes_on(verdict: Callable[..., Any], tmp_path: Path) -> None:
    verdict(FakeLauncher(better(0.3), stop_after=7))
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    launcher = FakeLauncher(better(0.3))
    found, _ = verdict(launcher, "--runs_folder", f"{tmp_path}/../{tmp_path.name}/elsewhere")
    assert (found["ending"], len(launcher.trained)) == ("matter", 18 - 7)


SEARCHED_ON = {
    "--seed": ("3", "the rows of seed 0, now it is 3", ("--task.seed", "0")),
    "--task.seed": ("3", "the rows of seed 0, now it is 3", ("--task.seed", "0")),
    "--task.train_rows": ("9", "64, now it is 9", ("--task.train_rows", "64")),
}


@pytest.mark.trains
@pytest.mark.parametrize("by_grid", [False, True])
@pytest.mark.parametrize("key", SEARCHED_ON)
def test_rows_that_chose_the_ranks_do_not_judge_them(
    key: str, by_grid: bool, verdict: Callable[..., Any], tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    settings = {"settings": FOUND.of(tiny_config())}
    if by_grid:
        write_json(tmp_path / "runs" / "tiny" / "grid.json", settings)
    searched = {} if by_grid else settings
    value, message, old = SEARCHED_ON[key]
    launcher = FakeLauncher(better(0.3))
    with pytest.raises(UserError, match=rf"^{key}: .*ranks.json was found with {message}; rows that chose the ranks"):
        verdict(launcher, key, value, searched=searched)
    assert not launcher.trained
    assert verdict(launcher, key, value, *old, searched=searched)[0]["ending"] == "matter"
