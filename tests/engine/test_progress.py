"""The progress of a run that is still running, or was stopped."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.files import to_yaml
from autolora.configs.parser import parse
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.disk.lock import locked
from autolora.engine.progress import print_progress, progress_lines
from autolora.engine.ranks import save
from autolora.engine.run.folder import RunFolder
from tests.helpers.rank_records import answered_record


@pytest.fixture
def begun(tmp_path: Path) -> Callable[..., RunFolder]:
    """begun("--method", "lora"): a folder in which such a run has begun to train."""

    def make(*arguments: str) -> RunFolder:
        folder = RunFolder(tmp_path / "a")
        write_text(folder.config, to_yaml(parse(["--name", "a", "--runs_folder", str(tmp_path), *arguments]).config))
        return folder

    return make


def test_a_run_is_told_from_its_first_step_to_the_retraining(begun: Callable[..., RunFolder]) -> None:
    folder = begun("--search.steps", "1500")
    resumes = "stopped; the same command resumes it"
    assert list(progress_lines(folder)) == ["search: no step is logged yet", resumes]
    lines = [{"step": 10, "train_loss": 1.0, "val_loss": None}, {"step": 1200, "train_loss": None, "val_loss": 0.25}]
    write_text(folder.search_metrics, "".join(json.dumps(line) + "\n" for line in lines))
    assert next(progress_lines(folder)) == "search: step 1,200 of 1,500   L_val 0.250"
    write_json(folder.search_summary, {})
    assert next(progress_lines(folder)) == "search: finished; its answer on D_val is not measured yet"
    save(answered_record(), folder.ranks)
    assert list(progress_lines(folder)) == ["the search is finished; --stage retrain trains at its ranks"]
    with locked(folder.root):
        assert next(progress_lines(folder)) == "retraining: no checkpoint yet"
    for step in (200, 1400):
        write_json(folder.retrain / f"checkpoint-{step}" / "sealed.json", {})
    (folder.retrain / "checkpoint-1600").mkdir()  # half-written
    assert next(progress_lines(folder)) == "retraining: the newest checkpoint is at step 1,400"
    with locked(folder.root):
        running = f"still running: process {os.getpid()} on {socket.gethostname()}"
        assert list(progress_lines(folder))[-1] == running


def test_what_searches_nothing_has_no_line_about_a_search(begun: Callable[..., RunFolder]) -> None:
    assert next(progress_lines(begun("--method", "full"))) == "retraining: no checkpoint yet"
    grid = begun("--method", "lora_grid", "--lora.grid", "[1, 2]", "--lora.target_modules", "[query, value]")
    assert next(progress_lines(grid)) == "lora_grid: 0 of 4 trials are finished"


TRIAL = {"tried": {}, "metrics": {}, "steps": 1, "seconds": 1.0}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--method", "optuna", "--lora.trials", "5"), "optuna: 1 of 5 trials are finished"),
    ],
)
def test_trials_of_ranks_are_counted(begun: Callable[..., RunFolder], arguments: tuple[str, ...], line: str) -> None:
    folder = begun(*arguments)
    write_json(folder.grid, {"trials": [TRIAL]})
    assert next(progress_lines(folder)) == line
    save(answered_record(), folder.ranks)
    assert next(progress_lines(folder)).startswith("the search is finished; ")


@pytest.mark.parametrize("method", ["lora", "autolora", "optuna"])
def test_trials_of_learning_rates_are_counted_until_one_is_chosen(
    begun: Callable[..., RunFolder], method: str
) -> None:
    folder = begun("--method", method, "--retrain.learning_rates", "[1e-3,1e-2,1e-1]")
    save(answered_record(), folder.ranks)
    with locked(folder.root):
        assert next(progress_lines(folder)) == "sweep of learning rates: 0 of 3 trials are finished"
    write_json(folder.sweep, {"trials": [TRIAL, TRIAL]})
    assert next(progress_lines(folder)) == "sweep of learning rates: 2 of 3 trials are finished"
    write_json(folder.sweep, {"chosen": {"learning_rate": 1e-3}, "trials": [TRIAL, TRIAL, TRIAL]})
    assert next(progress_lines(folder)) == "retraining: no checkpoint yet"
    write_json(folder.metrics, {})
    assert next(progress_lines(folder)).startswith("stopped; ")


def test_a_single_rate_is_no_sweep(begun: Callable[..., RunFolder]) -> None:
    folder = begun("--method", "lora", "--retrain.learning_rates", "[1e-3]")
    assert next(progress_lines(folder)) == "retraining: no checkpoint yet"


def test_looking_neither_takes_over_the_lock_of_a_killed_run_nor_says_so(
    begun: Callable[..., RunFolder], log_lines: list[str]
) -> None:
    folder = begun("--method", "full")
    left = folder.root.with_name(f".{folder.root.name}.lock")
    write_json(left, {"pid": 2**22 + 1, "host": socket.gethostname(), "started": 1.0})
    assert list(progress_lines(folder))[-1].startswith("stopped; ")
    write_json(left, {"pid": 7, "host": "elsewhere", "started": 1.0})
    (last,) = list(progress_lines(folder))[1:]
    assert last.startswith("process 7 on elsewhere is running it, or was killed, which cannot be seen from here; ")
    assert left.exists()
    assert log_lines == []


def test_a_run_begun_with_overwrite_is_running_while_its_old_results_are_locked(
    begun: Callable[..., RunFolder],
) -> None:
    folder = begun("--method", "full")
    growing = RunFolder(folder.root.with_name(".a.overwrite"))
    folder.root.rename(growing.root)
    assert list(progress_lines(growing))[-1] == "stopped; the same command resumes it"
    with locked(folder.root):
        assert list(progress_lines(growing))[-1].startswith("still running: process ")


def test_a_folder_in_which_nothing_has_begun_has_no_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_progress(RunFolder(tmp_path))
    assert capsys.readouterr().out == ""
