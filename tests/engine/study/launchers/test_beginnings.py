"""A cell begins when it writes its config.yaml; each is told once."""

import dataclasses
import os
from pathlib import Path

import pytest

from autolora.engine.run.folder import RunFolder
from autolora.engine.study.launchers import beginnings
from autolora.engine.study.launchers.base import Job
from tests.helpers.studies import job


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    monkeypatch.setattr(beginnings, "SECONDS_BETWEEN_LOOKS", 0)
    found = [dataclasses.replace(job(name), folder=RunFolder(tmp_path / name)) for name in "ab"]
    for one in found:
        one.folder.root.mkdir()
    return found


def test_a_cell_that_begins_or_resumes_is_told_once(jobs: list[Job], log_lines: list[str]) -> None:
    fresh, half_done = jobs
    half_done.folder.config.write_text("seed: 0\n")
    watched = beginnings.Beginnings()
    for one in jobs:
        watched.expect(one)
    watched.look()
    assert log_lines == []
    fresh.folder.config.write_text("seed: 1\n")
    watched.look()
    watched.look()
    assert [line.split(": ")[1] for line in log_lines] == ["a"]
    os.utime(half_done.folder.config, ns=(1, 1))
    watched.look()
    assert [line.split(": ")[1] for line in log_lines] == ["a", "b"]


def test_a_cell_that_has_ended_is_no_longer_watched(jobs: list[Job], log_lines: list[str]) -> None:
    watched = beginnings.Beginnings()
    watched.expect(jobs[0])
    watched.forget(jobs[0])
    jobs[0].folder.config.write_text("seed: 0\n")
    watched.look()
    assert log_lines == []


def test_the_folders_are_not_looked_at_all_the_time(
    jobs: list[Job], log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginnings, "SECONDS_BETWEEN_LOOKS", 3600)
    watched = beginnings.Beginnings()
    watched.expect(jobs[0])
    jobs[0].folder.config.write_text("seed: 0\n")
    watched.look()
    assert log_lines == []
