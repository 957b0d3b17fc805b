"""The reason of a failure stays until the cell begins to train again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.run.asked import Asked
from autolora.engine.run.context import Context
from autolora.engine.run.failure import failure_of, has_traceback, keep_failure
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.run.ownership import refuse_foreign


@pytest.mark.parametrize("trace", ["", "Traceback (most recent call last):\n  ...\nKeyError: 1"])
def test_the_reason_is_read_back_without_the_traceback(tmp_path: Path, trace: str) -> None:
    folder = RunFolder(tmp_path / "cell")
    assert failure_of(folder) == ""
    keep_failure(folder, "KeyError: \x1b[31m\udc80", trace)
    assert failure_of(folder) == "KeyError: \\x1b[31m\\udc80"
    assert has_traceback(folder) is bool(trace)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cell").touch()
    keep_failure(RunFolder(tmp_path / "cell"), "no")
    assert failure_of(RunFolder(tmp_path / "cell")) == ""


def test_a_cell_that_failed_before_it_trained_may_begin_and_forgets_the_reason(
    tiny_config: Callable[..., RunConfig],
) -> None:
    config = tiny_config()
    folder = RunFolder.of(config)
    keep_failure(folder, "no")
    refuse_foreign(Asked(config, folder))
    Context(config, StopRequest()).begin()
    assert not folder.failure.exists()
    assert folder.begun
