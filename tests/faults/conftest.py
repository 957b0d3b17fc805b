"""The command of a tiny run, its folder, and a disk that is soon full."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autolora.engine.run.folder import RunFolder
from tests.helpers.faults import Argv
from tests.helpers.tiny import MEASURED, tiny_arguments


@pytest.fixture
def argv(model_folder: Callable[..., Path], tmp_path: Path) -> Argv:
    """argv("--seed", "1"): the command line of a tiny run in tmp_path/runs/tiny."""
    return lambda *more: [*tiny_arguments(model_folder("bert", 0.1), tmp_path), *MEASURED, *more]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "tiny")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB (a report alone has more than one) at tmp_path/runs."""
    place = tmp_path / "runs"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
