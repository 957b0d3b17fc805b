"""Folders in which a run has begun."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.files import to_yaml
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_text
from autolora.engine.run.folder import RunFolder


@pytest.fixture
def begun(tiny_config: Callable[..., RunConfig]) -> RunFolder:
    """A folder in which a run was started, and got nowhere yet."""
    config = tiny_config()
    folder = RunFolder(Path(config.runs_folder) / "tiny")
    write_text(folder.config, to_yaml(config))
    return folder
