"""--overwrite through the real command: mistakes cost nothing, and at every moment a whole result stands."""

import json
import random
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import run
from autolora.configs.parser import parse
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted
from autolora.engine.stages import run_stages
from tests.helpers.full_memory import refuse_allocations
from tests.helpers.half_done import StopInTraining
from tests.helpers.processes import Process, die_at_operation, outcome
from tests.helpers.run_folders import everything
from tests.helpers.tiny import MEASURED, tiny_arguments

Argv = Callable[..., list[str]]

TYPOS = {
    "path": ("--task.type", "text", "--task.path", "nosuch.csv"),
    "model": ("--model.name", "nosuch/model"),
    "target": ("--lora.target_modules", "[nosuch]"),
    "metric": ("--task.metrics", "[nosuch]"),
    "device": ("--device", "cuda"),
    "k": ("--lora.k", "1000"),
    "share": ("--task.validation_share", "0.0001"),
    "module": ("--lora.modules_to_save", "[nosuch]"),
}
# A retraining takes layers and k from ranks.json, and trains on all rows.
CASES = [(stage, typo) for stage in ("all", "retrain") for typo in TYPOS if stage == "all" or typo not in (
    "target", "k", "share")]  # fmt: skip


@pytest.fixture
def argv(model_folder: Callable[..., Path], tmp_path: Path) -> Argv:
    """argv("--seed", "1"): the command line of a tiny run in tmp_path/runs/tiny."""
    return lambda *more: [*tiny_arguments(model_folder("bert"), tmp_path), *more]


def finished_in(place: Path, finished_run: Callable[..., RunFolder]) -> RunFolder:
    """A finished run in place/runs/tiny, with a note of the user's."""
    folder = RunFolder(place / "runs" / "tiny")
    shutil.copytree(finished_run("bert").root, folder.root)
    (folder.root / "notes.txt").write_text("mine")
    return folder


@pytest.fixture
def folder(finished_run: Callable[..., RunFolder], tmp_path: Path) -> RunFolder:
    """A finished run with a note of the user's."""
    return finished_in(tmp_path, finished_run)


@pytest.mark.trains
@pytest.mark.parametrize(("stage", "typo"), CASES)
def test_a_mistake_leaves_the_old_result_as_it_was(
    argv: Argv, folder: RunFolder, capsys: pytest.CaptureFixture[str], stage: str, typo: str
) -> None:
    before = everything(folder.root.parent)
    capsys.readouterr()
    assert run.main(argv("--stage", stage, "--overwrite", *TYPOS[typo])) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "--overwrite" not in line
    assert everything(folder.root.parent) == before


@pytest.mark.trains
@pytest.mark.parametrize("typo", ["path", "model", "module"])
def test_a_refused_retraining_changes_no_byte(argv: Argv, folder: RunFolder, typo: str) -> None:
    """A report was drawn from settings that had never run."""
    for path in (folder.metrics, folder.report):
        path.unlink()
    before = everything(folder.root.parent)
    assert run.main(argv("--stage", "retrain", *TYPOS[typo])) == 2
    assert everything(folder.root.parent) == before


@pytest.mark.trains
def test_a_file_that_has_the_name_of_a_hidden_place_stays(
    argv: Argv, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.root.parent / ".tiny.overwrite").write_text("mine")
    before = everything(folder.root.parent)
    assert run.main(argv("--overwrite")) == 2
    assert "error: --overwrite: " in capsys.readouterr().err
    assert everything(folder.root.parent) == before


@pytest.mark.trains
def test_damaged_ranks_are_named_where_they_were_edited(
    argv: Argv, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.ranks.write_text("[]")
    assert run.main(argv("--stage", "retrain", "--overwrite")) == 2
    assert f"error: {folder.ranks}: needs an object" in capsys.readouterr().err


@pytest.mark.trains
def test_the_users_folder_is_not_taken_for_a_run(argv: Argv, tmp_path: Path) -> None:
    root = tmp_path / "runs" / "tiny"
    for name in ("trials/a.txt", "retrain/b.txt", "config.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("mine")
    before = everything(tmp_path)
    for more in ((), ("--overwrite",)):
        assert run.main(argv(*more)) == 2
    assert everything(tmp_path) == before


@pytest.mark.trains
@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_ranks_that_a_control_reads_are_not_cleared_for_it(
    argv: Argv, folder: RunFolder, capsys: pytest.CaptureFixture[str], overwrite: tuple[str, ...]
) -> None:
    before = everything(folder.root.parent)
    more = ("--method", "lora_shuffled", "--lora.ranks_from", str(folder.ranks))
    assert run.main(argv(*more, *overwrite)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: --lora.ranks_from: ")
    assert "--overwrite" not in line
    assert everything(folder.root.parent) == before


@pytest.mark.trains
def test_an_overwrite_replaces_the_run_and_keeps_the_users_files(argv: Argv, folder: RunFolder) -> None:
    (folder.root / "wandb" / "offline-run-1").mkdir(parents=True)
    assert run.main(argv("--overwrite", "--retrain.max_steps", "2")) == 0
    assert json.loads(folder.metrics.read_text())["steps"]["retrain"] == 2
    assert "runs_folder: " + str(folder.root.parent) in folder.config.read_text()
    assert (folder.root / "notes.txt").read_text() == "mine"
    assert (folder.root / "wandb" / "offline-run-1").exists()
    assert [path.name for path in folder.root.parent.iterdir()] == ["tiny"]


NEW = (
    "--overwrite", "--search.patience", "0", "--search.steps", "8", "--search.checkpoint_every", "2",
    "--retrain.max_steps", "9", "--retrain.checkpoint_every", "2", "--lora.dropout", "0.1",
)  # fmt: skip


@pytest.mark.trains
def test_the_same_command_goes_on_with_the_half_done_new_result(argv: Argv, folder: RunFolder, tmp_path: Path) -> None:
    before = everything(folder.root)
    long = argv("--overwrite", "--search.patience", "0", "--search.checkpoint_every", "2", "--search.steps", "4000")
    process = Process(long, tmp_path / "killed.txt")
    growing = RunFolder(tmp_path / "runs" / ".tiny.overwrite")
    process.wait_for(growing.search_checkpoint.exists)
    assert process.kill() == -9
    assert everything(folder.root) == before
    process = Process(long, tmp_path / "again.txt")
    process.wait_for(lambda: process.output.exists() and "resumes from step" in process.output.read_text())
    assert process.kill() == -9
    # A typo in the next command costs the half-done result nothing either.
    half = everything(growing.root)
    assert run.main(argv("--overwrite", "--lora.target_modules", "[nosuch]")) == 2
    assert everything(growing.root).keys() == half.keys()
    assert everything(folder.root) == before


@pytest.mark.trains
@pytest.mark.parametrize("method", [(), ("--retrain.learning_rates", "[1e-3,1e-2]"), ("--method", "eva")])
def test_a_training_refused_for_its_memory_leaves_the_half_done_new_result(
    argv: Argv, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, method: tuple[str, ...]
) -> None:
    stage = () if "eva" in method else ("--stage", "retrain")
    begun = argv("--overwrite", *stage, *method, "--retrain.max_steps", "9")
    growing = RunFolder(folder.root.parent / ".tiny.overwrite")
    with pytest.raises(Interrupted):
        run_stages(parse(begun), StopInTraining(growing), draw=False)
    half = everything(growing.root)
    refuse_allocations(monkeypatch)
    assert run.main([*begun, "--retrain.batch_size", "3"]) == 2  # other settings, so it would begin anew
    assert everything(growing.root) == half


class Uninterrupted:
    """How the overwrite ends when nothing happens to it, in how many seconds and operations on files."""

    def __init__(self, argv: list[str], folder: RunFolder, place: Path) -> None:
        self.argv, self.folder, self.place = argv, folder, place
        self.old = everything(folder.root)
        shutil.copytree(folder.root, place / "old")
        counted = place / "count"
        assert Process(self.argv, place / "whole.txt", partial(die_at_operation, 0, counted)).wait() == 0
        self.operations = int(counted.read_text())
        self.again()
        began = time.monotonic()
        assert Process(self.argv, place / "whole.txt").wait() == 0
        self.seconds = time.monotonic() - began
        self.new = outcome(folder.root)

    def again(self) -> None:
        """The old result stands, and nothing else."""
        shutil.rmtree(self.folder.root.parent)
        shutil.copytree(self.place / "old", self.folder.root)

    def check(self, output: Path) -> None:
        """After a kill the old or the new result stands; the same command ends with the new one."""
        if everything(self.folder.root) != self.old:
            found = outcome(self.folder.root)  # its own record and the user's files may be on their way
            assert found | {"files": ()} == self.new | {"files": ()}
        process = Process(self.argv, output)
        assert process.wait() == 0, process.output.read_text()
        assert "damaged" not in process.output.read_text()
        assert outcome(self.folder.root) == self.new
        assert (self.folder.root / "notes.txt").read_text() == "mine"
        assert [path.name for path in self.folder.root.parent.iterdir()] == ["tiny"]


@pytest.fixture(scope="module")
def whole(
    model_folder: Callable[..., Path],
    finished_run: Callable[..., RunFolder],
    tmp_path_factory: pytest.TempPathFactory,
) -> Uninterrupted:
    place = tmp_path_factory.mktemp("overwrite")
    argv = [*tiny_arguments(model_folder("bert"), place), *MEASURED, *NEW]
    return Uninterrupted(argv, finished_in(place, finished_run), place)


def kill_at_random(whole: Uninterrupted, tmp_path: Path, kills: int) -> None:
    times, done = random.Random(0), 0
    while done < kills:
        whole.again()
        process = Process(whole.argv, tmp_path / "killed.txt")
        time.sleep(times.uniform(0.05, whole.seconds))
        if process.kill() != -9:
            continue  # it was done already
        whole.check(tmp_path / "again.txt")
        done += 1


@pytest.mark.slow
def test_five_kills_at_random_times(whole: Uninterrupted, tmp_path: Path) -> None:
    kill_at_random(whole, tmp_path, 5)


@pytest.mark.slow
@pytest.mark.soak
def test_twenty_kills_at_random_times(whole: Uninterrupted, tmp_path: Path) -> None:
    kill_at_random(whole, tmp_path, 20)


@pytest.mark.slow
def test_kills_at_the_operations_of_the_exchange(whole: Uninterrupted, tmp_path: Path) -> None:
    for before_the_end in (5, 18, 35):
        whole.again()
        moment = whole.operations - before_the_end
        process = Process(whole.argv, tmp_path / "killed.txt", partial(die_at_operation, moment))
        assert process.wait() == -9, process.output.read_text()
        whole.check(tmp_path / "again.txt")
