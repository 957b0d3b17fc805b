"""How this process was started, and what torchrun's environment says of it."""

import pytest

from autolora.configs.launch import processes_started, program, speaks


def started(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_without_torchrun_there_is_one_process_and_it_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch)
    assert processes_started() == 1
    assert speaks()


def test_of_several_the_first_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for rank in range(3):
        started(monkeypatch, WORLD_SIZE="3", RANK=str(rank))
        assert processes_started() == 3
        said.append(speaks())
    assert said == [True, False, False]


def test_a_rank_left_over_from_elsewhere_silences_no_single_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, RANK="3")
    assert speaks()


def test_a_command_begins_as_this_one_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    monkeypatch.setattr("sys.argv", ["my programs/run.py"])
    assert program().endswith(" 'my programs/run.py'")
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert program() == "uv run 'my programs/run.py'"
