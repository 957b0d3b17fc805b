"""What the stages of a run share is loaded once."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.configs.schema import RunConfig
from autolora.engine.run import context
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.problems.machine.processes import Processes


def test_the_folder_is_that_of_the_configuration(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    config = tiny_config()
    assert run_of(config).folder == RunFolder.of(config)


def test_config_yaml_says_what_was_asked_for_once_training_begins(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], tmp_path: Path
) -> None:
    """Not the rate that a trial is at; and not before."""
    config = tiny_config()
    run = Context(config, StopRequest(), folder=RunFolder(tmp_path / "growing"))
    other = run.under(dataclasses.replace(config, seed=7))
    assert not other.folder.begun
    other.begin()
    assert load_config(tmp_path / "growing" / "config.yaml") == config
    assert not RunFolder.of(config).root.exists()


def test_of_several_processes_the_first_writes_config_yaml(tiny_config: Callable[..., RunConfig]) -> None:
    run = Context(tiny_config(), StopRequest(), Processes(1, 2))
    run.begin()
    assert not run.folder.begun


def test_other_settings_share_the_rows_and_leave_the_run_as_it_is(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config())
    rows, tokenizer = run.data, run.tokenizer
    other = run.under(dataclasses.replace(run.config, seed=7))
    assert (other.config.seed, run.config.seed) == (7, 0)
    assert other.data is rows
    assert other.tokenizer is tokenizer
    assert other.task is run.task
    assert other.folder == run.folder


def test_the_trials_of_a_sweep_say_once_that_the_pooler_was_never_trained(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial has its own copy of the run; that the message was shown had been noted on the copy."""
    told: list[object] = []
    monkeypatch.setattr(context, "tell_of_pooler", lambda *_: told.append(1))
    run = run_of(tiny_config())
    for seed in range(3):
        run.under(dataclasses.replace(run.config, seed=seed)).base()
    assert told == [1]


def test_every_base_model_is_a_fresh_one(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config())
    run.data  # noqa: B018 - the head's classes are known once the rows are
    first, second = run.base(), run.base()
    assert first.model is not second.model
    assert "classifier" in first.trained_whole


def test_rows_longer_than_the_models_positions_are_refused_before_any_training(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config("--task.max_length", "400"))
    run.data = dataclasses.replace(run.data, train=run.data.train.map(lambda row: {"length": 300}))
    with pytest.raises(UserError, match=r"^--task\.max_length: 400 is not allowed, as a row has 300 tokens"):
        run.base()
