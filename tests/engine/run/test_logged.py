"""log.txt: nothing before the run begins, then every line with its time, and how the run ended."""

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted
from autolora.engine.run.logged import logged, warnings_in

log, rows = logging.getLogger("autolora"), logging.getLogger("autolora.inputs")


@pytest.fixture(autouse=True)
def all_levels() -> Iterator[None]:
    level = log.level
    log.setLevel(logging.INFO)
    yield
    log.setLevel(level)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def lines_of(folder: RunFolder) -> list[str]:
    """The lines without their times, which must be there."""
    lines = folder.log.read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines if line[:2] == "20")
    return [re.sub(r"^[\d-]+ [\d:]+ ", "", line) for line in lines]


def test_what_was_said_before_the_run_began_is_written_with_the_rest(folder: RunFolder) -> None:
    with logged(folder):
        rows.warning("%d rows are cut", 2)
        assert not folder.log.exists()
        folder.config.write_text("seed: 0")
        log.info("step 1")
        assert lines_of(folder) == ["warning: 2 rows are cut", "step 1"], "a killed run has its lines"
    log.info("of another run")
    assert lines_of(folder) == ["warning: 2 rows are cut", "step 1", "finished"]


@pytest.mark.parametrize("begun", [True, False])
def test_a_command_that_does_not_begin_leaves_the_log_as_it_was(folder: RunFolder, begun: bool) -> None:
    if begun:
        folder.config.write_text("seed: 0")
        folder.log.write_text("of before\n")
    with suppress(UserError), logged(folder):
        log.warning("2 rows are cut")
        raise UserError("no")
    assert (folder.log.read_text() if begun else folder.log.exists()) == ("of before\n" if begun else False)


def test_a_resumed_run_appends_and_a_warning_counts_once(folder: RunFolder) -> None:
    for stop in (True, False):
        with suppress(Interrupted), logged(folder):
            rows.warning("2 rows are cut")
            folder.config.write_text(f"stop: {stop}")
            log.warning("alpha has collapsed")
            if stop:
                raise Interrupted(130)
    told = ["warning: 2 rows are cut", "warning: alpha has collapsed"]
    assert lines_of(folder) == [*told, "stopped", *told, "finished"]
    assert warnings_in(folder) == ["2 rows are cut", "alpha has collapsed"]


@pytest.mark.parametrize("error", [UserError("out of memory"), KeyError("layer.0")])
def test_an_error_is_told_last_and_with_its_traceback_if_nobody_expected_it(
    folder: RunFolder, error: Exception
) -> None:
    with suppress(type(error)), logged(folder):
        folder.config.write_text("seed: 0")
        raise error
    first, *trace = lines_of(folder)
    assert first == ("error: out of memory" if isinstance(error, UserError) else "error: the run failed")
    assert trace[-1:] == ([] if isinstance(error, UserError) else ["KeyError: 'layer.0'"])


def test_what_would_control_a_terminal_is_escaped(folder: RunFolder) -> None:
    with logged(folder):
        folder.config.write_text("seed: 0")
        log.warning("column \x1b[31mred")
    assert warnings_in(folder) == [r"column \x1b[31mred"]


def test_a_folder_without_a_log_has_no_warnings(folder: RunFolder) -> None:
    assert warnings_in(folder) == []
