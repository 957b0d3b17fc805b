"""A path that stands for each cell of a study."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.files import to_yaml
from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_text
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.places import filled_in, options_of

pytestmark = pytest.mark.unit


def test_seed_task_and_runs_are_the_runs_own(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--seed", "7")
    expected = Path(config.runs_folder) / "seed-7_name-sample" / "ranks.json"
    assert filled_in("{runs}/seed-{seed}_name-{task}/ranks.json", config) == expected


def test_a_home_may_be_written_short(tiny_config: Callable[..., RunConfig]) -> None:
    assert filled_in("~/ranks.json", tiny_config()) == Path.home() / "ranks.json"


def test_a_command_works_in_the_folder_where_a_run_lies_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """config.yaml of a run that was moved still names the old folder, where the command would begin anew."""
    config = parse(["--name", "a", "--runs_folder", str(tmp_path / "runs")]).config
    folder = RunFolder.of(config)
    write_text(folder.config, to_yaml(config))
    assert options_of(folder) == ["--config", str(folder.config)]
    moved = RunFolder(folder.root.rename(tmp_path / "b"))
    monkeypatch.chdir(moved.root)
    for root in (moved.root, Path(".")):
        found = parse(options_of(RunFolder(root))).config
        assert RunFolder.of(found).root == moved.root
