"""What every tracker can be told, and that a tracker of nothing takes it too."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.tracking import NOWHERE, Tracker, open_tracker
from autolora.engine.tracking.wandb_run import Wandb
from tests.helpers.fake_wandb import fake_wandb


def test_the_program_tells_wandb_nothing_that_another_tracker_could_not_be_told() -> None:
    assert {name for name in vars(Wandb) if not name.startswith("_")} <= set(vars(Tracker))


def test_nowhere_takes_everything_and_keeps_nothing(tmp_path: Path) -> None:
    with NOWHERE as tracker:
        tracker.log({"x": 1})
        tracker.image("figure", tmp_path / "x.png")
        tracker.lines("chart", [0, 1], {"line": [0.5, 0.25]})
        tracker.table("table", ["a"], [[1]])
        tracker.keep("x", "ranks", tmp_path / "x")
        tracker.finish({"x": 1})
    assert not tracker.alive
    assert not list(tmp_path.iterdir())


def test_a_run_is_opened_at_wandb(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_wandb(monkeypatch)
    tracker = open_tracker(tiny_config("--tracking.wandb", "offline"), tmp_path, job="lora", tags=["sst2"])
    assert tracker.alive
    assert (run.options["job_type"], run.options["tags"]) == ("lora", ["sst2"])
