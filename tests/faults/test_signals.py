"""Signals, memory that is short, and errors of the program itself."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import run
from autolora.engine.run.folder import RunFolder
from autolora.engine.search.hook import SearchHook
from tests.helpers.faults import LONG, Argv
from tests.helpers.processes import Process, outcome


@pytest.mark.trains
@pytest.mark.parametrize(
    ("stage", "number", "code"), [("search", signal.SIGTERM, 143), ("retrain", signal.SIGINT, 130)]
)
def test_a_signal_saves_and_ends(
    argv: Argv, folder: RunFolder, tmp_path: Path, stage: str, number: int, code: int
) -> None:
    more = ("--search.checkpoint_every", "100000", "--retrain.checkpoint_every", "100000")
    steps = LONG if stage == "search" else LONG[4:]
    process = Process(argv(*steps, *more), tmp_path / "out.txt")
    begun = folder.search_metrics if stage == "search" else folder.ranks
    process.wait_for(begun.exists)
    assert process.kill(number) == code
    if stage == "search":
        assert folder.search_checkpoint.exists()
    assert not folder.metrics.exists()
    assert not folder.root.with_name(".tiny.lock").exists()
    assert "the same command resumes from what was saved" in process.output.read_text()


@pytest.mark.slow
def test_a_signal_loses_nothing(argv: Argv, folder: RunFolder, tmp_path: Path) -> None:
    assert Process(argv(), tmp_path / "whole.txt", draw=False).wait() == 0
    whole = outcome(folder.root)
    shutil.rmtree(folder.root)
    original = SearchHook.after_step

    def prepare() -> None:
        def after_step(self: Any, engine: Any) -> bool:
            if engine.global_step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(self, engine)

        SearchHook.after_step = after_step  # type: ignore[method-assign]

    assert Process(argv(), tmp_path / "out.txt", prepare, draw=False).wait() == 143
    assert Process(argv(), tmp_path / "out.txt", draw=False).wait() == 0
    assert outcome(folder.root) == whole


@pytest.mark.trains
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError("DefaultCPUAllocator: can't allocate")]
)
def test_out_of_memory_names_what_needs_less(
    argv: Argv, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(SearchHook, "after_step", fail)
    assert run.main(argv()) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "error: out of memory: give a lower --search.batch_size" in line


@pytest.mark.trains
def test_an_error_of_the_program_itself_is_not_hidden(argv: Argv, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(SearchHook, "after_step", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        run.main(argv())
