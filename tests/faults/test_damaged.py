"""Damaged checkpoints of the retraining, and damaged model folders."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import run
from engine.retrain.trainer import RetrainTrainer
from engine.run.folder import RunFolder
from tests.helpers.faults import Argv
from tests.helpers.processes import Process, outcome
from tests.helpers.shared import made_once
from tests.helpers.tiny import MEASURED, tiny_arguments

RETRAINED = ("--retrain.max_steps", "6", "--retrain.checkpoint_every", "2", "--lora.dropout", "0.1")


@pytest.fixture(scope="session")
def half_retrained(model_folder: Callable[..., Path], shared_folder: Path) -> Path:
    """A folder with two runs of one command, less --runs_folder: `half`, killed in its retraining with checkpoints of
    steps 2 and 4, and `whole`. Made once; do not write."""

    def train(place: Path) -> None:
        command = [*tiny_arguments(model_folder("bert", 0.1), place), *MEASURED, *RETRAINED]

        def prepare() -> None:
            original = RetrainTrainer.training_step

            def training_step(self: Any, *arguments: Any) -> Any:
                if self.state.global_step == 5:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(self, *arguments)

            RetrainTrainer.training_step = training_step  # type: ignore[method-assign]

        halves = [*command, "--runs_folder", str(place / "half")]
        assert Process(halves, place / "half.txt", prepare, draw=False).wait() == -9
        retrain = RunFolder(place / "half" / "tiny").retrain
        assert sorted(path.name for path in retrain.iterdir()) == ["checkpoint-2", "checkpoint-4"]
        whole = [*command, "--runs_folder", str(place / "whole")]
        assert Process(whole, place / "whole.txt", draw=False).wait() == 0

    return made_once(shared_folder / "half-retrained", train)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.trains
def test_a_damaged_checkpoint_of_the_retraining_is_left_out(
    half_retrained: Path, argv: Argv, folder: RunFolder, tmp_path: Path
) -> None:
    """tests/engine/retrain/test_checkpoint.py has the other ways of damage."""
    shutil.copytree(half_retrained / "half" / "tiny", folder.root)
    flip(folder.retrain / "checkpoint-4" / "adapter_model.safetensors")
    again = Process(argv(*RETRAINED), tmp_path / "again.txt", draw=False)
    assert again.wait() == 0, again.output.read_text()
    assert "is damaged; trying the one before" in " ".join(again.output.read_text().split())
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
