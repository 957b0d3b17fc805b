"""A finished run that a test may change."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.run.folder import RunFolder


@pytest.fixture
def finished(
    finished_run: Callable[..., RunFolder], tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> tuple[RunConfig, RunFolder]:
    """A copy of a finished run, to be changed."""
    shutil.copytree(finished_run("bert").root, tmp_path / "runs" / "tiny")
    return tiny_config(), RunFolder(tmp_path / "runs" / "tiny")
