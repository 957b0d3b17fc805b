"""From which checkpoint the retraining resumes, and which checkpoints are deleted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.engine.retrain.checkpoint import newest, place, seal


def write(folder: Path, step: int, *, sealed: bool = True) -> Path:
    """What Trainer writes for a step of ten, with a file in a folder of its own."""
    checkpoint = place(folder, step)
    (checkpoint / "inner").mkdir(parents=True)
    (checkpoint / "inner" / "weights.safetensors").write_bytes(bytes(range(step)))
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": 10}))
    if sealed:
        seal(checkpoint, step / 2, {"settings": {"seed": step}})
    return checkpoint


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_newest_is_that_of_the_last_step(tmp_path: Path) -> None:
    for step in (9, 10, 2):
        write(tmp_path, step)
    found = newest(tmp_path)
    assert found is not None
    assert (found.folder, found.step, found.max_steps, found.seconds) == (place(tmp_path, 10), 10, 10, 5.0)
    assert len(left(tmp_path)) == 3, "whole ones stay"


def test_there_may_be_none(tmp_path: Path) -> None:
    assert newest(tmp_path / "absent") is None


def test_a_half_written_one_is_removed_without_a_word(tmp_path: Path, log_lines: list[str]) -> None:
    write(tmp_path, 2)
    write(tmp_path, 4, sealed=False)
    found = newest(tmp_path)
    assert found is not None
    assert found.step == 2
    assert left(tmp_path) == {"checkpoint-2"}
    assert log_lines == []


def change(checkpoint: Path) -> None:
    (checkpoint / "inner" / "weights.safetensors").write_bytes(b"\x01" + bytes(range(1, 4)))


def lose(checkpoint: Path) -> None:
    (checkpoint / "inner" / "weights.safetensors").unlink()


def garble(checkpoint: Path) -> None:
    (checkpoint / "sealed.json").write_text("[1, 2]")


def cut(checkpoint: Path) -> None:
    (checkpoint / "sealed.json").write_bytes((checkpoint / "sealed.json").read_bytes()[:20])


@pytest.mark.parametrize("damage", [change, lose, garble, cut])
def test_a_damaged_one_is_removed_with_a_warning_and_the_one_before_is_used(
    tmp_path: Path, log_lines: list[str], damage: Callable[[Path], Any]
) -> None:
    write(tmp_path, 2)
    damage(write(tmp_path, 4))
    found = newest(tmp_path)
    assert found is not None
    assert found.step == 2
    assert left(tmp_path) == {"checkpoint-2"}
    assert log_lines == [f"WARNING checkpoint {place(tmp_path, 4)} is damaged; trying the one before"]


def test_an_old_damaged_one_goes_without_a_word(tmp_path: Path, log_lines: list[str]) -> None:
    """Nothing is lost by it, but Trainer would count it among those that it keeps."""
    change(write(tmp_path, 4))
    write(tmp_path, 6)
    found = newest(tmp_path)
    assert found is not None
    assert found.step == 6
    assert left(tmp_path) == {"checkpoint-6"}
    assert log_lines == []


def test_only_damaged_ones_are_as_good_as_none(tmp_path: Path) -> None:
    change(write(tmp_path, 4))
    write(tmp_path, 6, sealed=False)
    assert newest(tmp_path) is None
    assert left(tmp_path) == set()


def test_what_is_no_checkpoint_is_let_alone(tmp_path: Path) -> None:
    for name in ("checkpoint-best", "checkpoint-2.old", "runs"):
        (tmp_path / name).mkdir()
    assert newest(tmp_path) is None
    assert left(tmp_path) == {"checkpoint-best", "checkpoint-2.old", "runs"}
