"""Faults of the world, each caused: full and read-only disks, signals, memory, wandb, damaged files."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import run
from engine.disk import checkpoint
from engine.retrain.trainer import RetrainTrainer
from engine.run.folder import RunFolder
from engine.search.hook import SearchHook
from tests.helpers.processes import Process, outcome
from tests.helpers.run_folders import everything
from tests.helpers.shared import made_once
from tests.helpers.tiny import tiny_arguments

Argv = Callable[..., list[str]]
RETRAINED = ("--retrain.max_steps", "6", "--retrain.checkpoint_every", "2", "--lora.dropout", "0.1")
LONG = ("--search.steps", "100000", "--search.patience", "0", "--retrain.max_steps", "100000")


@pytest.fixture
def argv(model_folder: Callable[..., Path], tmp_path: Path) -> Argv:
    """argv("--seed", "1"): the command line of a tiny run in tmp_path/runs/tiny."""
    return lambda *more: [*tiny_arguments(model_folder("bert", 0.1), tmp_path), *more]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "tiny")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB (a report alone has more than one) at tmp_path/runs."""
    place = tmp_path / "runs"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def one_line(output: Path) -> str:
    """The error line; nothing else was said on stderr, and no traceback."""
    text = output.read_text()
    assert "Traceback" not in text, text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.trains
@pytest.mark.parametrize("stage", ["search", pytest.param("retrain", marks=pytest.mark.slow)])
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    small_disk: Path, argv: Argv, folder: RunFolder, tmp_path: Path, stage: str
) -> None:
    filler = small_disk / "filler"

    def fill(*_: Any) -> None:
        with open(filler, "wb") as file:
            try:
                while True:
                    file.write(b"x" * 4096)
                    file.flush()
            except OSError:
                pass

    def prepare() -> None:
        # The search saves by a function of this program, the retraining by transformers' own method.
        place: Any = checkpoint if stage == "search" else RetrainTrainer
        name = "save" if stage == "search" else "_save_checkpoint"
        original = getattr(place, name)

        def save(*arguments: Any) -> None:
            if bool(checkpoint.peek(folder.search_checkpoint)) or any(folder.root.glob("retrain/*/sealed.json")):
                fill()
            original(*arguments)

        setattr(place, name, save)

    # The tiny model's log lines and parquet need little; a checkpoint of it does not fit any more.
    more = ("--retrain.checkpoint_every", "1")
    process = Process(argv(*more), tmp_path / "out.txt", prepare)
    assert process.wait() == 2
    line = one_line(process.output)
    assert "cannot write" in line
    assert "no space is left" in line
    filler.unlink()
    again = Process(argv(*more), tmp_path / "again.txt")
    assert again.wait() == 0, again.output.read_text()
    assert "damaged" not in again.output.read_text()


@pytest.mark.slow
def test_a_full_disk_during_an_overwrite_keeps_the_old_result_and_the_new_one_goes_on(
    small_disk: Path, argv: Argv, folder: RunFolder, tmp_path: Path, finished_run: Callable[..., RunFolder]
) -> None:
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    shutil.copytree(finished_run("bert").root, folder.root)
    before = everything(folder.root)
    growing, filler = RunFolder(small_disk / ".tiny.overwrite"), small_disk / "filler"

    def prepare() -> None:
        original = checkpoint.save

        def save(*arguments: Any) -> None:
            if checkpoint.peek(growing.search_checkpoint):
                free = os.statvfs(small_disk)
                filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize))
            original(*arguments)

        checkpoint.save = save

    more = ("--overwrite", "--search.patience", "0", "--lora.dropout", "0.1")
    process = Process(argv(*more), tmp_path / "out.txt", prepare)
    assert process.wait() == 2
    assert "no space is left" in one_line(process.output)
    assert everything(folder.root) == before
    filler.unlink()
    again = Process(argv(*more), tmp_path / "again.txt")
    assert again.wait() == 0, again.output.read_text()
    assert "goes on from step" in again.output.read_text()
    assert [path.name for path in small_disk.iterdir()] == ["tiny"]
    assert folder.config.read_bytes() != before["config.yaml"]


@pytest.mark.trains
def test_a_read_only_folder_is_one_line(small_disk: Path, argv: Argv, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    process = Process(argv(), tmp_path / "out.txt")
    assert process.wait() == 2
    assert f"--runs_folder: cannot write {small_disk / 'tiny'} (Read-only file system)" in one_line(process.output)


@pytest.mark.trains
def test_a_folder_that_becomes_read_only_is_one_line(small_disk: Path, argv: Argv, tmp_path: Path) -> None:
    process = Process(argv(*LONG), tmp_path / "out.txt")
    process.wait_for((small_disk / "tiny" / "search" / "checkpoint").exists)
    # A file that is open for writing forbids the change for a moment; the lock always is, so the disk is swapped.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(small_disk)], check=True)
    try:
        assert process.wait() == 2
    finally:
        subprocess.run(["umount", "-l", str(small_disk)], check=True)
    assert "it is read-only" in one_line(process.output)


@pytest.mark.trains
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("stage", ["search", "retrain"])
def test_a_signal_saves_and_ends(
    argv: Argv, folder: RunFolder, tmp_path: Path, number: int, code: int, stage: str
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
    assert "the same command goes on from there" in process.output.read_text()


@pytest.mark.slow
def test_a_signal_loses_nothing(argv: Argv, folder: RunFolder, tmp_path: Path) -> None:
    assert Process(argv(), tmp_path / "whole.txt").wait() == 0
    whole = outcome(folder.root)
    shutil.rmtree(folder.root)
    original = SearchHook.after_step

    def prepare() -> None:
        def after_step(self: Any, engine: Any) -> bool:
            if engine.global_step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(self, engine)

        SearchHook.after_step = after_step  # type: ignore[method-assign]

    assert Process(argv(), tmp_path / "out.txt", prepare).wait() == 143
    assert Process(argv(), tmp_path / "out.txt").wait() == 0
    assert outcome(folder.root) == whole


@pytest.mark.trains
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError("DefaultCPUAllocator: can't allocate")]
)
def test_out_of_memory_names_the_batch_size(
    argv: Argv, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(SearchHook, "after_step", fail)
    assert run.main(argv("--search.batch_size", "7")) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "out of memory: lower --search.batch_size (now 7)" in line


@pytest.mark.trains
def test_an_error_of_the_program_itself_is_not_hidden(argv: Argv, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(SearchHook, "after_step", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        run.main(argv())


@pytest.fixture(scope="session")
def half_retrained(model_folder: Callable[..., Path], shared_folder: Path) -> Path:
    """A folder with two runs of one command, less --runs_folder: `half`, killed in its retraining with checkpoints of
    steps 2 and 4, and `whole`. Made once; do not write."""

    def train(place: Path) -> None:
        command = [*tiny_arguments(model_folder("bert", 0.1), place), *RETRAINED]

        def prepare() -> None:
            original = RetrainTrainer.training_step

            def training_step(self: Any, *arguments: Any) -> Any:
                if self.state.global_step == 5:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(self, *arguments)

            RetrainTrainer.training_step = training_step  # type: ignore[method-assign]

        halves = [*command, "--runs_folder", str(place / "half")]
        assert Process(halves, place / "half.txt", prepare).wait() == -9
        retrain = RunFolder(place / "half" / "tiny").retrain
        assert sorted(path.name for path in retrain.iterdir()) == ["checkpoint-2", "checkpoint-4"]
        assert Process([*command, "--runs_folder", str(place / "whole")], place / "whole.txt").wait() == 0

    return made_once(shared_folder / "half-retrained", train)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.trains
@pytest.mark.parametrize(
    ("name", "damage", "warned"),
    [
        ("adapter_model.safetensors", flip, True),
        pytest.param("optimizer.pt", truncate, True, marks=pytest.mark.slow),
        pytest.param("rng_state.pth", Path.unlink, True, marks=pytest.mark.slow),
        pytest.param("sealed.json", truncate, True, marks=pytest.mark.slow),
        pytest.param("sealed.json", Path.unlink, False, marks=pytest.mark.slow),
    ],
    ids=["a bit flipped", "truncated", "missing", "seal damaged", "half-written"],
)
def test_a_damaged_checkpoint_of_the_retraining_is_left_out(
    half_retrained: Path,
    argv: Argv,
    folder: RunFolder,
    tmp_path: Path,
    name: str,
    damage: Callable[[Path], None],
    warned: bool,
) -> None:
    shutil.copytree(half_retrained / "half" / "tiny", folder.root)
    damage(folder.retrain / "checkpoint-4" / name)
    again = Process(argv(*RETRAINED), tmp_path / "again.txt")
    assert again.wait() == 0, again.output.read_text()
    text = " ".join(again.output.read_text().split())
    assert ("is damaged; trying the one before" in text) is warned
    assert outcome(folder.root) == outcome(half_retrained / "whole" / "tiny")


@pytest.mark.trains
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", [truncate, lambda path: path.write_bytes(b""), Path.unlink])
def test_a_damaged_model_folder_is_one_line(
    argv: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], Any]
) -> None:
    command = argv()
    model = Path(command[command.index("--model.name") + 1])
    shutil.copytree(model, tmp_path / "model")
    damage(tmp_path / "model" / name)
    capsys.readouterr()
    assert run.main([*command, "--model.name", str(tmp_path / "model")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"--model.name: cannot load '{tmp_path / 'model'}'" in line


@pytest.mark.slow
def test_a_run_whose_wandb_process_is_killed_ends_well(argv: Argv, folder: RunFolder, tmp_path: Path) -> None:
    def prepare() -> None:
        os.environ.pop("WANDB_MODE", None)
        original = SearchHook.after_step

        def after_step(self: Any, engine: Any) -> bool:
            if engine.global_step == 3:
                children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
                services = [c for c in children if b"wandb" in Path(f"/proc/{c}/cmdline").read_bytes()]
                assert services, "wandb has a process of its own"
                for child in services:
                    os.kill(int(child), signal.SIGKILL)
            return original(self, engine)

        SearchHook.after_step = after_step  # type: ignore[method-assign]

    process = Process(argv("--tracking.wandb", "offline"), tmp_path / "out.txt", prepare)
    assert process.wait() == 0, process.output.read_text()
    assert json.loads(folder.metrics.read_text())["steps"]["retrain"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("answers", [False, True], ids=["nobody listens", "takes calls and never answers"])
def test_a_run_whose_wandb_cannot_be_reached_is_kept_offline(
    argv: Argv, folder: RunFolder, tmp_path: Path, answers: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if not answers:
            server.close()

        def prepare() -> None:
            os.environ.pop("WANDB_MODE", None)
            os.environ.update(WANDB_BASE_URL=address, WANDB_API_KEY="a" * 40)

        process = Process(argv("--tracking.wandb", "online"), tmp_path / "out.txt", prepare)
        assert process.wait() == 0, process.output.read_text()
    assert "wandb cannot be reached, the curves are kept offline" in " ".join(process.output.read_text().split())
    assert json.loads(folder.metrics.read_text())["steps"]["retrain"] == 4
    assert list((folder.root / "wandb").glob("offline-run-*/*.wandb"))
