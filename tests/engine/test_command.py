"""What a request starts, and what is refused among several processes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from configs.cli import Request, ScoreRequest, ShowRequest
from configs.errors import UserError
from configs.schema import RunConfig, StudyConfig
from engine import stages
from engine.command import run_request
from engine.interrupt import StopRequest
from engine.run_folder import RunFolder, write_json
from problems import processes
from problems.processes import Processes

RESULT = {
    "task": "sample",
    "split": "test",
    "metrics": {"accuracy": 0.75},
    "lora_parameters": 0,
    "trainable_parameters": 1234,
    "seconds": {"total": 3.0},
}


def start(request: Any) -> None:
    run_request(request, StopRequest())


def test_show_prints_a_run_without_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Full fine-tuning and bottleneck adapters have none."""
    write_json(RunFolder(tmp_path).metrics, RESULT)
    start(ShowRequest(str(tmp_path)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "accuracy 0.7500" in shown
    assert "1,234 trainable parameters" in shown


def test_show_of_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=rf"^--show: {folder} has no ranks\.json; give the folder of a run"):
            start(ShowRequest(str(folder)))


def test_score_writes_the_values_of_the_files(tmp_path: Path) -> None:
    for name in ("hyp", "ref"):
        (tmp_path / name).write_text("a b c d e\n")
    start(ScoreRequest("e2e", str(tmp_path / "hyp"), str(tmp_path / "ref"), str(tmp_path / "out"), ["BLEU"]))
    assert json.loads((tmp_path / "out").read_text()) == {"BLEU": 1.0}


def study(config: RunConfig) -> RunConfig:
    return dataclasses.replace(config, study=StudyConfig(variants={"a": {}, "b": {}}))


ONE_PROCESS = {
    "a study of variants": ((), study, r"^torchrun: a study is one process's work; start run\.py itself"),
    "a grid": (("--method", "lora_grid"), lambda c: c, r"^torchrun: trying ranks or learning rates .*lora_grid"),
    "a sweep": (
        ("--retrain.learning_rates", "[1e-3]"), lambda c: c, r"^torchrun: trying .*--retrain\.learning_rates"
    ),
    "accumulation": (
        ("--retrain.gradient_accumulation", "2"), lambda c: c, r"^torchrun: --retrain\.gradient_accumulation is"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ONE_PROCESS)
def test_what_is_one_process_work_is_refused_to_several_before_anything_is_written(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, case: str
) -> None:
    arguments, change, message = ONE_PROCESS[case]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=message):
        start(Request(change(tiny_config(*arguments)), "all", False, "x"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_the_first_says_the_result(
    tiny_config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rank: int,
) -> None:
    config = tiny_config()
    folder = RunFolder(Path(config.runs_folder) / "tiny")
    given: list[Processes] = []

    @contextmanager
    def joined(device: str) -> Iterator[Processes]:
        assert device == "cpu"
        yield Processes(rank, 2)

    def run_stages(request: Request, stop: StopRequest, *, processes: Processes) -> RunFolder:
        given.append(processes)
        write_json(folder.metrics, RESULT)
        return folder

    monkeypatch.setattr(processes, "joined", joined)
    monkeypatch.setattr(stages, "run_stages", run_stages)
    start(Request(config, "all", False, "quickstart.yaml"))
    assert given == [Processes(rank, 2)]
    shown = capsys.readouterr().out
    assert ("accuracy 0.7500" in shown) is (rank == 0)
    assert ("--name tiny-first-order" in shown) is (rank == 0), "what to try next"
