"""`kill -9` at any moment, then the same command: the same alpha, ranks, adapter and metrics, bit for bit."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autolora.engine.run.folder import RunFolder
from tests.helpers.processes import Process, die_at_operation, fresh, outcome
from tests.helpers.tiny import MEASURED, tiny_arguments

# Dropout on in both stages, both loaders shuffle, more than one epoch in each stage, checkpoints inside the epochs.
CASE = [
    "--lora.dropout", "0.1", "--task.train_rows", "40", "--search.steps", "12", "--search.patience", "0",
    "--search.checkpoint_every", "2", "--retrain.max_steps", "13", "--retrain.checkpoint_every", "2",
]  # fmt: skip


@dataclass
class Uninterrupted:
    """How the run ends when nothing happens to it, and how long and how many file operations that takes."""

    argv: list[str]
    root: Path
    outcome: dict[str, Any]
    seconds: float
    operations: int


@pytest.fixture(scope="module")
def whole(model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    folder = tmp_path_factory.mktemp("kill")
    argv = [*tiny_arguments(model_folder("bert", 0.1), folder), *MEASURED, *CASE]
    root, counted = folder / "runs" / "tiny", folder / "count"
    process = Process(argv, folder / "whole.txt", partial(die_at_operation, 0, counted))
    assert process.wait() == 0, process.output.read_text()
    began = time.monotonic()
    fresh(root)
    assert Process(argv, folder / "whole.txt").wait() == 0
    seconds = time.monotonic() - began
    return Uninterrupted(argv, root, outcome(root), seconds, int(counted.read_text()))


def finish(whole: Uninterrupted, output: Path) -> None:
    """The same command again; it must resume and end as if nothing had happened.

    The report is drawn after a kill that may have left a part of it. After an earlier kill it would be drawn from
    files that are compared here, so that it is left out.
    """
    draw = RunFolder(whole.root).metrics.exists()
    process = Process(whole.argv, output, draw=draw)
    assert process.wait() == 0, output.read_text()
    assert "damaged" not in output.read_text()
    found = outcome(whole.root)
    drawn = () if draw else ("report.html", "figures")
    expected = {**whole.outcome, "files": [f for f in whole.outcome["files"] if not f.startswith(drawn)]}
    for key, value in expected.items():
        assert found[key] == value, key


def killed_at_operation(whole: Uninterrupted, tmp_path: Path, moment: int) -> None:
    fresh(whole.root)
    process = Process(whole.argv, tmp_path / "killed.txt", partial(die_at_operation, moment))
    assert process.wait() == -9, process.output.read_text()
    finish(whole, tmp_path / "again.txt")


def killed_at_random(whole: Uninterrupted, tmp_path: Path, seed: int) -> None:
    times = random.Random(seed)
    while True:
        fresh(whole.root)
        process = Process(whole.argv, tmp_path / "killed.txt")
        time.sleep(times.uniform(0.02, whole.seconds))
        if process.kill() == -9 and not RunFolder(whole.root).report.exists():
            break  # otherwise it was done already
    finish(whole, tmp_path / "again.txt")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(15))
def test_a_kill_at_a_file_operation(whole: Uninterrupted, tmp_path: Path, number: int) -> None:
    # The last few are after the report: there is nothing left to resume.
    killed_at_operation(whole, tmp_path, 1 + round(number * (whole.operations - 8) / 14))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_kill_at_a_random_time(whole: Uninterrupted, tmp_path: Path, seed: int) -> None:
    killed_at_random(whole, tmp_path, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5, 25))
def test_twenty_more_kills_at_random_times(whole: Uninterrupted, tmp_path: Path, seed: int) -> None:
    killed_at_random(whole, tmp_path, seed)
