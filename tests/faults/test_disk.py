"""Disks that are full, read-only, or become so."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.engine.disk import checkpoint, newest
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.run.folder import RunFolder
from tests.helpers.faults import Argv, one_line
from tests.helpers.processes import Process
from tests.helpers.run_folders import everything


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
            if bool(newest.peek(folder.search_checkpoint)) or any(folder.root.glob("retrain/*/sealed.json")):
                fill()
            original(*arguments)

        setattr(place, name, save)

    # The tiny model's log lines and parquet need little; a checkpoint of it does not fit any more.
    more = ("--retrain.checkpoint_every", "1")
    process = Process(argv(*more), tmp_path / "out.txt", prepare, draw=False)
    assert process.wait() == 2
    line = one_line(process.output)
    assert "cannot read or write" in line
    assert "No space left on device" in line
    filler.unlink()
    again = Process(argv(*more), tmp_path / "again.txt", draw=False)
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
            if newest.peek(growing.search_checkpoint):
                free = os.statvfs(small_disk)
                filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize))
            original(*arguments)

        checkpoint.save = save

    more = ("--overwrite", "--search.patience", "0", "--lora.dropout", "0.1")
    process = Process(argv(*more), tmp_path / "out.txt", prepare)
    assert process.wait() == 2
    assert "No space left on device" in one_line(process.output)
    assert everything(folder.root) == before
    filler.unlink()
    again = Process(argv(*more), tmp_path / "again.txt")
    assert again.wait() == 0, again.output.read_text()
    assert "resumes from step" in again.output.read_text()
    assert [path.name for path in small_disk.iterdir()] == ["tiny"]
    assert folder.config.read_bytes() != before["config.yaml"]


@pytest.mark.trains
def test_a_read_only_folder_is_one_line(small_disk: Path, argv: Argv, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    process = Process(argv(), tmp_path / "out.txt")
    assert process.wait() == 2
    assert f"--runs_folder: cannot write {small_disk / 'tiny'} (Read-only file system)" in one_line(process.output)
