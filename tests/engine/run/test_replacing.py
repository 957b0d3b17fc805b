"""New results grow beside the old ones; half-done ones go on, or make room for others that have begun to train."""

import dataclasses
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.replacing import replacing, workplace
from autolora.engine.run.resuming import Outdated
from tests.helpers.processes import killed_at
from tests.helpers.run_folders import WHOLE, everything, names

pytestmark = pytest.mark.trains
Finished = tuple[RunConfig, RunFolder]
SEARCHED = {"search", "ranks.json", "lora_config", "log.txt"}


class Stop(Exception):
    """The body ends before its results are complete."""


def refuse_other_seeds(asked: Asked) -> None:
    """Stands for the refusals of the stages: what config.yaml says must be what is asked for."""
    if asked.folder.begun and asked.folder.config.read_text() != str(asked.config.seed):
        raise UserError("--seed: another")


def never(asked: Asked) -> None:
    raise UserError("--task.path: a typo")


def grow(asked: Asked, *write: str, done: bool = False) -> set[str]:
    """A command that begins to train, writes some files, and is stopped or done; the names that it began with."""
    began: set[str] = set()
    with suppress(Stop), replacing(asked, (refuse_other_seeds,)) as folder:
        began = names(folder)
        for name in write:
            (folder.root / name).write_text(str(asked.config.seed))
        if not done:
            raise Stop
    return began - {".overwrite.json"}


@pytest.fixture
def asked(finished: Finished) -> Callable[..., Asked]:
    """asked("retrain", seed=1): what --overwrite asks of a finished run."""
    config, folder = finished
    return lambda stage="all", seed=0: Asked(dataclasses.replace(config, seed=seed), folder, stage, overwrite=True)


def beside(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.root.parent.iterdir())


@pytest.mark.parametrize(("stage", "began"), [("all", set()), ("search", set()), ("retrain", SEARCHED)])
def test_new_results_begin_with_what_the_stage_needs_and_the_old_ones_stay(
    asked: Callable[..., Asked], stage: Any, began: set[str]
) -> None:
    folder = asked().folder
    before = everything(folder.root)
    assert grow(asked(stage), "config.yaml") == began
    assert everything(folder.root) == before
    assert beside(folder) == [".tiny.overwrite", "tiny"]


def test_a_retraining_that_replaces_another_gets_a_wandb_run_of_its_own(asked: Callable[..., Asked]) -> None:
    folder = asked().folder
    folder.wandb_id.write_text("me/autolora/searched")
    assert grow(asked("retrain"), "config.yaml", "wandb_id", "metrics.json", done=True) == SEARCHED
    assert folder.wandb_id.read_text() == "0", "the new one"
    folder.metrics.unlink()
    assert grow(asked("retrain")) == {*SEARCHED, "wandb_id"}, "nothing is replaced"


@pytest.mark.parametrize("stage", ["all", "retrain"])
def test_complete_new_results_replace_the_old_ones(asked: Callable[..., Asked], stage: Any) -> None:
    folder = asked().folder
    (folder.root / "my notes.txt").write_text("mine")
    ranks = folder.ranks.read_bytes()
    grow(asked(stage), "config.yaml", "metrics.json", done=True)
    kept = SEARCHED if stage == "retrain" else set()
    assert names(folder) == kept | {"config.yaml", "metrics.json", "my notes.txt"}
    assert beside(folder) == ["tiny"]
    if kept:
        assert folder.ranks.read_bytes() == ranks
        assert folder.search_weights.stat().st_nlink == 1


def test_the_same_command_goes_on_where_it_was_stopped(asked: Callable[..., Asked], log_lines: list[str]) -> None:
    grow(asked(), "config.yaml", "half.txt")
    assert grow(asked(), "more.txt") == {"config.yaml", "half.txt"}
    assert any("resuming the half-done new results in" in line for line in log_lines)


def test_what_did_not_begin_to_train_leaves_nothing(asked: Callable[..., Asked]) -> None:
    grow(asked(), "half.txt")
    assert beside(asked().folder) == ["tiny"]


def test_half_done_results_of_other_settings_make_room_for_those_that_train(
    asked: Callable[..., Asked], log_lines: list[str]
) -> None:
    grow(asked(), "config.yaml", "of seed 0")
    assert grow(asked(seed=1), "config.yaml", "of seed 1") == set()
    assert any("are not resumed (--seed: another)" in line for line in log_lines)
    assert beside(asked().folder) == [".tiny.overwrite", "tiny"]
    assert grow(asked(seed=1)) == {"config.yaml", "of seed 1"}


def test_half_done_results_come_back_when_others_are_refused_before_they_train(asked: Callable[..., Asked]) -> None:
    grow(asked(), "config.yaml", "of seed 0")
    grow(asked(seed=1), "of seed 1")
    with pytest.raises(UserError, match="a typo"), replacing(asked(seed=1), (refuse_other_seeds, never)):
        pytest.fail("it is refused")
    assert grow(asked()) == {"config.yaml", "of seed 0"}
    assert beside(asked().folder) == [".tiny.overwrite", "tiny"]


def test_half_done_results_come_back_when_others_are_killed_before_they_train(asked: Callable[..., Asked]) -> None:
    grow(asked(), "config.yaml", "of seed 0")
    moment, killed = 0, True
    while killed:
        moment += 1
        killed = killed_at(moment, lambda: grow(asked(seed=1), "of seed 1"))
        assert grow(asked()) == {"config.yaml", "of seed 0"}, moment
    assert moment > 3


def test_edited_ranks_begin_a_half_done_retraining_again(asked: Callable[..., Asked], log_lines: list[str]) -> None:
    folder = asked().folder
    grow(asked("retrain"), "config.yaml", "half.txt")
    folder.ranks.write_text(folder.ranks.read_text() + " ")  # in its place, as many editors do
    assert grow(asked("retrain")) == SEARCHED
    assert any("they began with other files" in line for line in log_lines)


def test_a_message_about_a_copied_file_names_the_users(asked: Callable[..., Asked]) -> None:
    """The copy is removed with the refused results."""
    wanted = asked("retrain")

    def refuse(at_work: Asked) -> None:
        raise Outdated(f"{at_work.folder.ranks}: layers[0]: rank is -1; {at_work.folder.metrics} is none of them")

    with pytest.raises(Outdated) as caught, replacing(wanted, (refuse,)):
        pass
    growing = workplace(wanted)
    assert str(caught.value) == f"{wanted.folder.ranks}: layers[0]: rank is -1; {growing.metrics} is none of them"


def test_another_stage_does_not_go_on_with_a_half_done_retraining(asked: Callable[..., Asked]) -> None:
    grow(asked("retrain"), "config.yaml", "half.txt")
    assert grow(asked("all"), "config.yaml") == set()
    assert grow(asked("search")) == {"config.yaml"}, "a search and all stages begin alike"


def test_what_is_linked_does_not_change_with_the_old_results(asked: Callable[..., Asked]) -> None:
    folder = asked().folder
    grow(asked("retrain"), "config.yaml")
    shutil.rmtree(folder.search)
    growing = workplace(asked("retrain"))
    assert growing.search_weights.stat().st_size > 0
    assert names(folder) == WHOLE - {"search"}


def test_where_no_link_can_be_made_files_are_copied(
    asked: Callable[..., Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    assert grow(asked("retrain"), "config.yaml") == SEARCHED
    assert workplace(asked("retrain")).search_weights.read_bytes() == asked().folder.search_weights.read_bytes()


def test_what_is_in_the_way_of_the_exchange_is_one_line(
    asked: Callable[..., Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(one: Path, other: Path) -> bool:
        raise OSError(16, "Device or resource busy", str(other))

    monkeypatch.setattr("autolora.engine.disk.exchange.swap", fail)
    before = everything(asked().folder.root)
    with pytest.raises(UserError, match=r"^--overwrite: the new results of .*tiny are complete, but .*busy"):
        grow(asked(), "config.yaml", done=True)
    assert everything(asked().folder.root) == before
    monkeypatch.undo()
    grow(asked(), done=True)
    assert names(asked().folder) == {"config.yaml"}
