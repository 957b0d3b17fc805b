"""A command's folder is made when nothing refuses it, and a refused command leaves it as it was."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.files import to_yaml
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.opening import again_if_outdated, nothing_left_when_refused, opened
from autolora.engine.run.resuming import Outdated
from tests.helpers.run_folders import WHOLE, names


def no(asked: Asked) -> None:
    raise UserError("refused")


def test_a_folder_that_cannot_be_written_is_named(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = dataclasses.replace(tiny_config(), runs_folder=str(tmp_path / "file"))
    with (
        pytest.raises(UserError, match=r"^--runs_folder: cannot write .*file/tiny \(Not a directory\)"),
        opened(Asked(config, RunFolder.of(config)), (), ()),
    ):
        pytest.fail("it cannot be opened")


@pytest.mark.trains
@pytest.mark.parametrize("overwrite", [False, True])
def test_refusals_are_asked_in_their_order_before_anything_is_written(
    finished: tuple[RunConfig, RunFolder], overwrite: bool
) -> None:
    config, folder = finished
    told: list[str] = []
    asked = Asked(config, folder, "all", overwrite)
    refusals = (lambda _: told.append("first"), no, lambda _: told.append("third"))
    with pytest.raises(UserError, match=r"^refused$"), opened(asked, refusals, ()):
        pytest.fail("it was refused")
    assert told == ["first"]
    with pytest.raises(UserError, match=r"^refused$"), opened(asked, (), (lambda _: told.append("resuming"), no)):
        pytest.fail("it was refused")
    assert told == ["first", "resuming"]
    assert names(folder) == WHOLE
    assert [path.name for path in folder.root.parent.iterdir()] == ["tiny"]


def test_half_done_new_results_are_left_alone_without_overwrite_and_said(
    tiny_config: Callable[..., RunConfig], log_lines: list[str]
) -> None:
    folder = RunFolder.of(tiny_config())
    growing = folder.root.with_name(".tiny.overwrite")
    growing.mkdir(parents=True)
    (growing / "config.yaml").write_text("half done")
    with opened(Asked(tiny_config(), folder), (), ()) as work:
        assert work == folder
    assert (growing / "config.yaml").read_text() == "half done"
    assert any(f"half-done new results in {growing} are left alone" in line for line in log_lines)


def test_a_link_to_a_folder_that_is_not_there_makes_that_folder(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny_config()
    link = RunFolder.of(config).root
    link.parent.mkdir()
    link.symlink_to(tmp_path / "disk" / "elsewhere")
    with opened(Asked(config, RunFolder.of(config)), (), ()) as folder:
        folder.config.touch()
    assert (tmp_path / "disk" / "elsewhere" / "config.yaml").exists()


@pytest.mark.trains
def test_outdated_new_results_are_begun_again_once(finished: tuple[RunConfig, RunFolder]) -> None:
    """Other data is known only once it is loaded, when the half-done new results are open already."""
    config, folder = finished
    begun: list[set[str]] = []

    def work(asked: Asked) -> None:
        with opened(asked, (), ()) as growing:
            begun.append(names(growing))
            if growing.begun:
                raise Outdated("other rows")
            growing.config.touch()
            if len(begun) == 1:
                raise UserError("stopped")

    asked = Asked(config, folder, "all", overwrite=True)
    with pytest.raises(UserError, match="stopped"):
        again_if_outdated(asked, work)
    again_if_outdated(asked, work)
    assert begun == [{".overwrite.json"}, {".overwrite.json", "config.yaml"}, {".overwrite.json"}]
    assert names(folder) == {"config.yaml"}
    with pytest.raises(Outdated, match="other rows"):
        again_if_outdated(Asked(config, folder), work)


@pytest.mark.trains
@pytest.mark.parametrize("same", [True, False])
def test_results_whose_exchange_was_interrupted_are_not_made_again_by_the_same_command(
    finished: tuple[RunConfig, RunFolder], same: bool
) -> None:
    config, folder = finished
    asked = Asked(config if same else dataclasses.replace(config, seed=1), folder, "all", overwrite=True)
    folder.config.write_text(to_yaml(config))
    write_json(folder.root / ".overwrite.json", {"ours": folder.patterns()})
    with opened(asked, (), ()) as work:
        assert (work == folder) is same
        assert names(work) == (WHOLE if same else {".overwrite.json"})


def refused_after(folder: RunFolder, write: Callable[[], object]) -> None:
    def body() -> None:
        with nothing_left_when_refused(folder):
            write()
            raise UserError("refused")

    with pytest.raises(UserError, match="refused"):
        body()


def test_a_refused_run_leaves_nothing_of_wandb(tmp_path: Path) -> None:
    """Beside a finished search, too, whose earlier curves stay."""
    folder = RunFolder(tmp_path)
    (tmp_path / "wandb" / "offline-run-1").mkdir(parents=True)
    folder.search.mkdir()

    def write() -> None:
        folder.wandb_id.write_text("abc")
        (tmp_path / "wandb" / "offline-run-2").mkdir()

    refused_after(folder, write)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["offline-run-1", "search", "wandb"]


def test_what_a_run_wrote_after_it_began_to_train_stays(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.config.write_text("of an earlier command")

    def write() -> None:
        folder.wandb_id.write_text("abc")
        folder.config.unlink()
        folder.config.write_text("of this one")

    refused_after(folder, write)
    assert folder.wandb_id.exists()
