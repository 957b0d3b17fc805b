"""`kill -9` at any moment, then the same command: the same alpha, ranks, adapter and metrics, bit for bit."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import Finished, Tiny
from tests.contract.inputs import once
from tests.contract.program import Fork, command, die_at_operation
from tests.contract.readers import everything, outcome, read
from tests.helpers.tiny import MEASURED, tiny_arguments

pytestmark = pytest.mark.trains

# Dropout on in both stages, both loaders shuffle, more than one epoch in each stage, checkpoints inside the epochs.
CASE = (
    "--lora.dropout", "0.1", "--task.train_rows", "40", "--task.evaluation_rows", "16", "--search.steps", "12",
    "--search.patience", "0", "--search.checkpoint_every", "2", "--retrain.max_steps", "13",
    "--retrain.checkpoint_every", "2",
)  # fmt: skip
DRAWN = ("report.html", "figures")


@dataclass
class Whole:
    """How the run ends when nothing happens to it, in how many seconds, and how far it was at each operation."""

    argv: list[str]
    root: Path
    outcome: dict[str, Any]
    seconds: float
    stages: str

    def moment(self, stage: str, part: float) -> int:
        """The operation at that part of a stage (s: search and measurement, r: retraining), counted from 1."""
        own = [i + 1 for i, letter in enumerate(self.stages) if letter == stage]
        return own[round(part * (len(own) - 1))]

    def ends_alike(self, output: Path) -> None:
        """The same command again; it must resume and end as if nothing had happened."""
        process = Fork(self.argv, output)
        assert process.wait() == 0, process.said()
        assert "damaged" not in process.said()
        found = outcome(self.root)
        for key, value in self.outcome.items():
            assert found[key] == value, key


@pytest.fixture(scope="module")
def whole(model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    place = tmp_path_factory.mktemp("kill")
    argv = once([*tiny_arguments(model_folder("bert", 0.1), place), *MEASURED, *CASE])
    root, log = place / "runs" / "tiny", place / "log"
    began = time.monotonic()
    process = Fork(argv, place / "whole.txt", partial(die_at_operation, 0, log, root))
    assert process.wait() == 0, process.said()
    return Whole(argv, root, outcome(root), time.monotonic() - began, log.read_text())


def killed_at(whole: Whole, tmp_path: Path, moment: int) -> None:
    shutil.rmtree(whole.root, ignore_errors=True)
    process = Fork(whole.argv, tmp_path / "killed.txt", partial(die_at_operation, moment))
    assert process.wait() == -signal.SIGKILL, process.said()
    whole.ends_alike(tmp_path / "again.txt")


@pytest.mark.parametrize("part", [0.1, 0.6, 1])
@pytest.mark.parametrize("stage", ["s", "r"])
def test_a_kill_at_a_file_operation(whole: Whole, tmp_path: Path, stage: str, part: float) -> None:
    killed_at(whole, tmp_path, whole.moment(stage, part))


@pytest.mark.soak
@pytest.mark.parametrize("part", [0, 0.03, 0.06, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98])
@pytest.mark.parametrize("stage", ["s", "r"])
def test_more_kills_at_file_operations(whole: Whole, tmp_path: Path, stage: str, part: float) -> None:
    killed_at(whole, tmp_path, whole.moment(stage, part))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_kills_at_random_times(whole: Whole, tmp_path: Path, seed: int) -> None:
    times = random.Random(seed)
    while True:
        shutil.rmtree(whole.root, ignore_errors=True)
        process = Fork(whole.argv, tmp_path / "killed.txt")
        time.sleep(times.uniform(0.02, whole.seconds))
        if process.kill() == -signal.SIGKILL and not (whole.root / "report.html").exists():
            break  # otherwise it was done already
    whole.ends_alike(tmp_path / "again.txt")


LONG = {
    "search": ("--search.steps", "300", "--search.patience", "0", "--search.checkpoint_every", "100000"),
    "retrain": ("--method", "lora", "--retrain.max_steps", "400", "--retrain.checkpoint_every", "100000"),
}


@pytest.mark.parametrize(
    ("stage", "number", "code"), [("search", signal.SIGTERM, 143), ("retrain", signal.SIGINT, 130)]
)
def test_a_signal_saves_and_ends(tiny: Tiny, folder: Path, tmp_path: Path, stage: str, number: int, code: int) -> None:
    """Ctrl-C, or the signal of a queue; the same command then goes on where it stopped."""
    argv = tiny(*LONG[stage], "--stage", "search" if stage == "search" else "all")
    process = Fork(argv, tmp_path / "out.txt")
    begun = folder / "search" / "metrics.jsonl" if stage == "search" else folder / "ranks.json"
    process.wait_for(begun.exists)
    assert process.kill(number) == code
    assert "Traceback" not in process.said()
    assert not (folder / "metrics.json").exists()
    again = Fork(argv, tmp_path / "again.txt")
    assert again.wait() == 0, again.said()
    if stage == "search":
        assert "resumes from step" in again.said()
        logged = [line["step"] for line in read(folder / "search" / "metrics.jsonl")]
        assert logged == sorted(set(logged)), "no line twice"
    else:
        assert read(folder / "metrics.json")["steps"]["retrain"] == 400


def test_two_commands_never_work_in_one_folder(tiny: Tiny, folder: Path, tmp_path: Path) -> None:
    argv = tiny("--search.steps", "100000", "--search.patience", "0")
    process = Fork(argv, tmp_path / "out.txt")
    process.wait_for((folder / "search" / "metrics.jsonl").exists)
    answer = command(*argv)
    assert process.kill() == -signal.SIGKILL
    assert answer.code == 2
    assert str(folder) in answer.line


def test_a_kill_during_an_overwrite_keeps_the_old_result(
    tiny: Tiny, finished: Finished, folder: Path, tmp_path: Path
) -> None:
    """And the same command goes on with the half-done new one."""
    shutil.copytree(finished(), folder)
    before = everything(folder)
    argv = tiny("--overwrite", "--search.patience", "0", "--search.steps", "400", "--search.checkpoint_every", "2")
    process = Fork(argv, tmp_path / "killed.txt")
    process.wait_for(lambda: len(list(folder.parent.rglob("checkpoint.safetensors"))) > 0)
    assert process.kill() == -signal.SIGKILL
    assert everything(folder) == before
    again = Fork(argv, tmp_path / "again.txt")
    assert again.wait() == 0, again.said()
    assert "resumes from step" in again.said()
    assert read(folder / "metrics.json")["steps"]["search"] == 400
    assert everything(folder.parent / "tiny.old-1") == before


@pytest.mark.soak
def test_kills_at_operations_of_an_overwrite(
    tiny: Tiny, finished: Finished, folder: Path, tmp_path: Path, whole: Whole
) -> None:
    """At every moment the old result stands whole, or the new one."""
    argv = tiny("--overwrite", *CASE)
    for moment in range(10, 3 * len(whole.stages), 25):
        shutil.rmtree(folder.parent, ignore_errors=True)
        shutil.copytree(finished(), folder)
        old = everything(folder)
        if Fork(argv, tmp_path / "killed.txt", partial(die_at_operation, moment)).wait() == 0:
            break
        if folder.exists() and everything(folder) != old:
            assert read(folder / "metrics.json")["steps"] == {"search": 12, "retrain": 13}
        again = Fork(argv, tmp_path / "again.txt")
        assert again.wait() == 0, again.said()
        assert read(folder / "metrics.json")["steps"] == {"search": 12, "retrain": 13}
        assert everything(folder.parent / "tiny.old-1") == old
        assert {path.name.split("-")[0] for path in folder.parent.iterdir()} == {"tiny", "tiny.old"}
