"""How a command with bad or odd input is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import run
from tests.helpers.bad_input import Answer, Command


@pytest.fixture
def command(
    make_argv: Callable[[Path], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> Command:
    """command("--seed", "-1") -> exit code and the lines on stderr; {here} stands for the test's folder."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")

    def call(*arguments: str) -> Answer:
        argv = make_argv(tmp_path)  # the first call makes the model, with a word on stderr
        given = [argument.replace("{here}", str(tmp_path)) for argument in arguments]
        capsys.readouterr()
        code = run.main([*argv, *given])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        return code, [line for line in shown.err.splitlines() if line.strip()]

    return call
