"""Two processes by torchrun do what one does; a run whose output nobody takes ends as any other.
Most of it soaks."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import run
from tests.contract.conftest import Models, Tiny
from tests.contract.inputs import once
from tests.contract.program import Fork, refused, torchrun
from tests.contract.readers import adapter_weights, read
from tests.helpers.tiny import tiny_arguments

# 41 rows, D_tr 20 and D_val 21, batch 9: the last batches have 2 and 3 rows, the retraining's 5;
# parts are unequal. They stand in a file, so that a method or a hypergradient without such a key
# leaves it out.
CASE = {
    "task.train_rows": 41,
    "search.batch_size": 9,
    "retrain.batch_size": 9,
    "search.patience": 0,
    "search.steps": 7,
    "retrain.max_steps": 7,
    "search.warmup_ratio": 0,
    "task.evaluation_rows": 67,
    "measure.rows": 1000,
    "hypergradient.eta": 0.1,
}


@pytest.fixture
def argv(model_folder: Models, tmp_path: Path) -> list[str]:
    return tiny_arguments(model_folder("bert", 0.0), tmp_path, **CASE)


def both(argv: list[str], folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The folders of the run by one process and by two."""
    Fork(argv, tmp_path / "one.txt").succeed()
    alone = folder.rename(folder.with_name("alone"))
    for process in torchrun(argv, tmp_path / "two.txt"):
        process.succeed()
    return alone, folder


def assert_same_adapter(one: Path, two: Path) -> None:
    weights = [adapter_weights(root / "adapter") for root in (one, two)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=1e-4)


OF_SOAK = [
    pytest.param(kind, marks=pytest.mark.soak) for kind in ("first_order", "exact", "unrolled")
]


@pytest.mark.parametrize("kind", ["darts", *OF_SOAK])
def test_two_processes_search_and_retrain_as_one(
    argv: list[str], folder: Path, tmp_path: Path, kind: str
) -> None:
    one, two = both(once([*argv, "--hypergradient.type", kind]), folder, tmp_path)
    layers = [read(root / "ranks.json")["layers"] for root in (one, two)]
    for ours, theirs in zip(*layers, strict=True):
        np.testing.assert_allclose(ours["alpha"], theirs["alpha"], atol=1e-4)
        assert ours["rank"] == theirs["rank"]
    assert_same_adapter(one, two)
    metrics = [read(root / "metrics.json") for root in (one, two)]
    assert metrics[1]["loss"] == pytest.approx(metrics[0]["loss"], abs=1e-4)
    logged = [read(root / "search" / "metrics.jsonl") for root in (one, two)]
    for ours, theirs in zip(*logged, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-4)


@pytest.mark.soak
@pytest.mark.parametrize("method", ["adalora", "eva", "para"])
def test_two_processes_train_the_baselines_as_one(
    argv: list[str], folder: Path, tmp_path: Path, method: str
) -> None:
    assert_same_adapter(
        *both(once([*argv, "--method", method, "--retrain.max_steps", "12"]), folder, tmp_path)
    )


@pytest.mark.soak
def test_a_signal_to_one_process_stops_all(argv: list[str], folder: Path, tmp_path: Path) -> None:
    two = torchrun(once([*argv, "--search.steps", "100000"]), tmp_path / "two.txt")
    two[0].wait_for((folder / "search" / "metrics.jsonl").exists)
    os.kill(two[1].pid, signal.SIGTERM)
    assert [process.wait() for process in two] == [143, 143], [process.said() for process in two]


@pytest.mark.soak
@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_that_dies_ends_the_run_which_goes_on(
    argv: list[str], folder: Path, tmp_path: Path, rank: int
) -> None:
    argv = once([*argv, "--search.steps", "300", "--search.checkpoint_every", "2"])
    two = torchrun(argv, tmp_path / "two.txt")
    two[0].wait_for((folder / "search" / "metrics.jsonl").exists)
    os.kill(two[rank].pid, signal.SIGKILL)
    codes = [process.wait() for process in two]
    assert codes[rank] == -signal.SIGKILL
    assert codes[1 - rank] != 0, two[1 - rank].said()
    for process in torchrun(argv, tmp_path / "again.txt"):
        process.succeed()
    assert read(folder / "metrics.json")["steps"] == {"search": 300, "retrain": 7}


@pytest.mark.parametrize(
    "more",
    [
        ("--study.axes", "{seed: [0, 1]}"),
        ("--method", "lora_grid"),
        ("--retrain.learning_rate", "[1e-3,1e-2]"),
    ],
)
def test_what_is_one_process_work_is_refused_to_several(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "torchrun" in refused(*tiny(*more))
    assert not (tmp_path / "runs").exists()


def read_no_further() -> None:
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.close(writing)
    os.close(reading)


def test_a_run_goes_on_to_its_end_when_nobody_reads_its_output(
    tiny: Tiny, folder: Path, tmp_path: Path
) -> None:
    """As behind `| head`."""
    Fork(
        tiny("--method", "lora", "--retrain.max_steps", "1"), tmp_path / "output", read_no_further
    ).succeed()
    assert (folder / "report.html").exists()


@pytest.mark.soak
def test_a_full_disk_stops_a_run_that_goes_on_later(
    tiny: Tiny, folder: Path, tmp_path: Path
) -> None:
    """A disk of 4 MiB, on which a report alone has more than one."""
    disk = tmp_path / "runs"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    try:
        argv = tiny(
            "--search.steps", "300", "--search.patience", "0", "--search.checkpoint_every", "1"
        )
        process = Fork(argv, tmp_path / "out.txt")
        process.wait_for((folder / "search" / "metrics.jsonl").exists)
        filler = disk / "filler"
        with suppress(OSError):  # more than there is room for, as the run goes on writing
            filler.write_bytes(bytes(4 << 20))
        assert process.wait() == 2
        (line,) = [line for line in process.said().splitlines() if line.startswith("error: ")]
        assert "No space left on device" in line
        filler.unlink()
        Fork(argv, tmp_path / "again.txt").succeed()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("number", "after"), [(signal.SIGINT, 0.3), (signal.SIGTERM, 1.0), (signal.SIGINT, 3.0)]
)
def test_a_signal_while_the_program_starts_is_no_traceback(
    tiny: Tiny, number: signal.Signals, after: float
) -> None:
    start = [sys.executable, "run.py", *tiny("--search.steps", "100000")]
    place = Path(run.__file__).parent
    process = subprocess.Popen(
        start, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(after)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode in (128 + number, -number)  # to a shell both are 128 + number
    assert "Traceback" not in errors
