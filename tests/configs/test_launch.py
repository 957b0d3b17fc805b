"""How this process was started, and what torchrun's environment says of it."""

from pathlib import Path

import pytest

from autolora.configs.errors import UserError
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


@pytest.mark.parametrize("value", ["", "many", "0", "-1", "2.5"])
def test_a_world_size_that_is_no_number_of_processes_is_one_line(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    started(monkeypatch, WORLD_SIZE=value)
    for read in (processes_started, speaks):
        with pytest.raises(UserError, match=rf"^WORLD_SIZE: '{value}' in the environment is not allowed; allowed: "):
            read()


def test_a_rank_left_over_from_elsewhere_silences_no_single_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, RANK="3")
    assert speaks()


def test_a_command_to_try_begins_as_this_one_began(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With uv, with the shell's own Python, with another one, and from another folder."""
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    python = tmp_path / "python"
    python.write_text("")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    monkeypatch.setattr("sys.argv", ["run.py"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program() == "python run.py"
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", ["my programs/run.py"])
    assert program() == f"{python} 'my programs/run.py'"
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert program() == "uv run 'my programs/run.py'"
    monkeypatch.setattr("sys.argv", ["/bin/pytest"])
    assert program() == "uv run run.py"
