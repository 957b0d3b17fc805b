"""How a command with bad input is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import run
from configs.parser import parse_command
from configs.requests import Request
from engine.command import run_request
from engine.retrain.methods import METHODS
from engine.run.context import Context
from engine.run.interrupt import StopRequest
from engine.search.stage import build_search
from problems.hypergradients import approximation
from tests.helpers.bad_input import Answer, Begin, Command


@pytest.fixture
def command(
    make_argv: Callable[[Path], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> Command:
    """command("--seed", "-1") -> exit code and the lines on stderr; {here} stands for the test's folder."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")

    def call(*arguments: str) -> Answer:
        argv = make_argv(tmp_path)  # the first call makes the model, with a word on stderr
        given = [argument.replace("{here}", str(tmp_path)) for argument in arguments]
        capsys.readouterr()
        code = run.main([*argv, *given])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        return code, [line for line in shown.err.splitlines() if line.strip()]

    return call


@pytest.fixture
def begin(make_argv: Callable[[Path], list[str]], tmp_path: Path) -> Begin:
    """begin("--seed", "-1"): what a command does before it trains, in this process and without the run's folder."""

    def call(*arguments: str) -> None:
        request = parse_command([*make_argv(tmp_path), *(a.replace("{here}", str(tmp_path)) for a in arguments)])
        if not isinstance(request, Request):
            return run_request(request, StopRequest())
        run = Context(request.config, StopRequest())
        if request.stage == "retrain":
            METHODS[request.config.method].prepare(run.base(), run, len(run.data.train))
        else:
            build_search(run, second_order=approximation(request.config.hypergradient.type).second_order)
        return None

    return call
