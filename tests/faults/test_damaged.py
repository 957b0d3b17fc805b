"""Damaged checkpoints of the retraining, and damaged model folders."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import run
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.run.folder import RunFolder
from tests.helpers.faults import Argv
from tests.helpers.processes import Process, fresh, outcome


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def die_in_step_6() -> None:
    """The process kills itself in the sixth step of its retraining."""
    original = RetrainTrainer.training_step

    def training_step(self: Any, *arguments: Any) -> Any:
        if self.state.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *arguments)

    RetrainTrainer.training_step = training_step  # type: ignore[method-assign]


@pytest.mark.slow
def test_a_damaged_checkpoint_of_the_retraining_is_left_out(argv: Argv, folder: RunFolder, tmp_path: Path) -> None:
    """tests/engine/retrain/test_checkpoint.py has the other ways of damage."""
    command = argv("--retrain.max_steps", "6", "--retrain.checkpoint_every", "2", "--lora.dropout", "0.1")
    assert Process(command, tmp_path / "whole.txt", draw=False).wait() == 0
    whole = outcome(folder.root)
    fresh(folder.root)
    assert Process(command, tmp_path / "half.txt", die_in_step_6, draw=False).wait() == -9
    assert sorted(path.name for path in folder.retrain.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    flip(folder.retrain / "checkpoint-4" / "adapter_model.safetensors")
    again = Process(command, tmp_path / "again.txt", draw=False)
    assert again.wait() == 0, again.output.read_text()
    assert "is damaged; trying the one before" in " ".join(again.output.read_text().split())
    assert outcome(folder.root) == whole


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
