"""A path that stands for each cell of a study."""

from collections.abc import Callable
from pathlib import Path

import pytest

from configs.schema import RunConfig
from engine.run.places import filled_in

pytestmark = pytest.mark.unit


def test_seed_task_and_runs_are_the_runs_own(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--seed", "7")
    expected = Path(config.runs_folder) / "seed-7_name-sample" / "ranks.json"
    assert filled_in("{runs}/seed-{seed}_name-{task}/ranks.json", config) == expected


def test_a_home_may_be_written_short(tiny_config: Callable[..., RunConfig]) -> None:
    assert filled_in("~/ranks.json", tiny_config()) == Path.home() / "ranks.json"
