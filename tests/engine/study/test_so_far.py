"""The report of a study grows while its cells run, and never stops them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from autolora.configs.schema import RunConfig, StudyConfig
from autolora.engine.run.interrupt import Interrupted
from autolora.engine.study import so_far
from autolora.engine.study.cells import expand
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.so_far import SECONDS_BETWEEN, ReportSoFar
from tests.helpers.studies import finish


class Clock:
    """A clock that the test moves, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(so_far, "time", made)
    return made


def test_the_report_grows_at_most_once_a_minute(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, clock: Clock, log_lines: list[str]
) -> None:
    config = dataclasses.replace(tiny_config("--method", "full"), study=StudyConfig({"seed": [0, 1, 2, 3]}))
    folder = StudyFolder(tmp_path)
    cells = expand(config, folder)
    report = ReportSoFar(config, folder, cells)
    clock.now += SECONDS_BETWEEN + 1
    report()
    assert not folder.report.exists(), "no cell has finished"
    folder.config.write_text("")
    seen = []
    for cell, seconds in zip(cells, (SECONDS_BETWEEN + 1, 1.0, SECONDS_BETWEEN + 1, 1.0), strict=True):
        finish(cell, 0.5)
        clock.now += seconds
        report()
        seen.append(len(pd.read_parquet(folder.results)))
    assert seen == [1, 1, 3, 3]
    assert "\n3 of 4 runs of " in folder.table.read_text()
    assert len([line for line in log_lines if str(folder.report) in line]) == 1


def test_a_report_that_takes_long_is_written_more_rarely(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(tiny_config("--method", "full"), study=StudyConfig({"seed": [0, 1]}))
    written = []

    def write(*_: object) -> None:
        written.append(clock.now)
        clock.now += 10

    monkeypatch.setattr(so_far, "write_study_report", write)
    cells = expand(config, StudyFolder(tmp_path))
    finish(cells[0], 0.5)
    report = ReportSoFar(config, StudyFolder(tmp_path), cells)
    for _ in range(40):
        clock.now += 10
        report()
    assert len(written) == 2
    assert written[1] - written[0] >= 10 / 0.05


def test_a_report_that_cannot_be_written_is_told_and_nothing_else(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch,
    log_lines: list[str],
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(so_far, "write_study_report", fail)
    config = dataclasses.replace(tiny_config("--method", "full"), study=StudyConfig({"seed": [0, 1]}))
    cells = expand(config, StudyFolder(tmp_path))
    finish(cells[0], 0.5)
    report = ReportSoFar(config, StudyFolder(tmp_path), cells)
    clock.now += SECONDS_BETWEEN + 1
    report()
    assert log_lines == ["WARNING the report so far was not written (OSError: no space left); the study goes on"]


def test_a_second_signal_ends_the_program_during_the_report(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise Interrupted(130)

    monkeypatch.setattr(so_far, "finished", interrupted)
    report = ReportSoFar(tiny_config(), StudyFolder(tmp_path), [])
    clock.now += SECONDS_BETWEEN + 1
    with pytest.raises(Interrupted):
        report()
