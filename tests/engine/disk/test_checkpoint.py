"""A checkpoint is whole or not there; one whole one is there at every moment."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.engine.disk import checkpoint, newest


def write(folder: Path, number: int) -> None:
    checkpoint.save(folder, {"x": torch.full((3,), float(number)), "none": torch.zeros(0), "number": number})


def number_in(folder: Path) -> int | None:
    found = checkpoint.load(folder)
    if found is None:
        return None
    assert found["x"].tolist() == [float(found["number"])] * 3, "tensors and state are of one moment"
    return int(found["number"])


def test_what_was_saved_comes_back_bit_by_bit(tmp_path: Path) -> None:
    tensors = {
        "view": torch.arange(12.0).reshape(3, 4).T,
        "same": torch.tensor([math.nan, math.inf, -0.0]),
        "whole": torch.tensor([2**62, -1]),
        "bytes": torch.tensor([0, 255], dtype=torch.uint8),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
    }
    tensors["shared"] = tensors["view"][1:]
    state = {"step": 7, "list": [1, None, 0.1, -1e-300], "nan": math.nan, "text": "é"}
    checkpoint.save(tmp_path / "c", {**state, "deep": [{"tensors": tensors}], "pair": (1, [2])})
    found = checkpoint.load(tmp_path / "c")
    assert found is not None
    (deep,) = found.pop("deep")
    assert deep["tensors"].keys() == tensors.keys()
    for name, value in tensors.items():
        assert deep["tensors"][name].dtype == value.dtype
        assert torch.equal(deep["tensors"][name].view(torch.uint8), value.contiguous().view(torch.uint8)), name
    assert math.isnan(found.pop("nan"))
    assert found.pop("pair") == [1, [2]]
    state.pop("nan")
    assert found == state


def test_the_state_can_be_looked_at_without_its_tensors(tmp_path: Path) -> None:
    assert newest.peek(tmp_path / "c") == {}
    write(tmp_path / "c", 1)
    write(tmp_path / "c", 2)
    assert newest.peek(tmp_path / "c")["number"] == 2
    (tmp_path / "c" / "state.json").unlink()
    assert newest.peek(tmp_path / "c")["number"] == 1


def test_nothing_there_is_none_and_clear_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    assert checkpoint.load(folder) is None
    assert newest.peek(folder) == {}
    write(folder, 1)
    write(folder, 2)
    assert newest.peek(folder) != {}
    newest.clear(folder)
    assert list(tmp_path.iterdir()) == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "checksums.json"])
@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_a_damaged_newest_is_seen_and_the_one_before_is_used(
    tmp_path: Path, log_lines: list[str], name: str, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "c"
    write(folder, 1)
    write(folder, 2)
    damage(folder / name)
    assert number_in(folder) == 1
    assert len(log_lines) == 1
    assert log_lines[0].startswith("WARNING checkpoint")
    # The next save must not push the good one out in favour of the damaged one.
    write(folder, 3)
    assert number_in(folder) == 3
    damage(folder / name)
    assert number_in(folder) == 1


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_a_damaged_state_is_not_looked_into(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Settings and data are compared with those in it: a flipped bit there is no change by the user."""
    for number in (1, 2):
        write(tmp_path / "c", number)
    last = newest.peek(tmp_path / "c")
    damage(tmp_path / "c" / "state.json")
    before = newest.peek(tmp_path / "c")
    assert before.keys() == last.keys()
    assert before != last


def test_only_damaged_ones_are_as_good_as_none(tmp_path: Path, log_lines: list[str]) -> None:
    write(tmp_path / "c", 1)
    flip(tmp_path / "c" / "state.json")
    assert checkpoint.load(tmp_path / "c") is None
    assert len(log_lines) == 1


class Killed(BaseException):
    """Not an Exception: nothing may catch it."""


def dying(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """The process dies at its `moment`-th file operation of a save: before it, or half-way through a removal."""
    count = [0]

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] == moment:
                if original is removal and arguments[0].is_dir():
                    next(arguments[0].iterdir()).unlink()
                raise Killed
            return original(*arguments, **options)

        return call

    removal = checkpoint.remove
    monkeypatch.setattr(checkpoint, "remove", guarded(removal))
    monkeypatch.setattr(checkpoint, "save_file", guarded(checkpoint.save_file))
    monkeypatch.setattr(os, "replace", guarded(os.replace))
    monkeypatch.setattr(os, "fsync", guarded(os.fsync))
    monkeypatch.setattr(Path, "mkdir", guarded(Path.mkdir))
    monkeypatch.setattr(Path, "write_text", guarded(Path.write_text))


@pytest.mark.parametrize("damaged", [False, True])
def test_a_kill_at_any_moment_of_a_save_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    seen = set()
    for moment in range(1, 100):
        folder = tmp_path / str(moment) / "c"
        write(folder, 1)
        write(folder, 2)
        if damaged:
            flip(folder / "state.json")
        old = 1 if damaged else 2
        with monkeypatch.context() as patch:
            dying(patch, moment)
            try:
                write(folder, 3)
            except Killed:
                killed = True
            else:
                killed = False
        found = number_in(folder)
        assert found in (old, 3)
        seen.add(found)
        write(folder, 4)
        assert number_in(folder) == 4
        assert newest.peek(folder)["number"] == 4
        if not killed:
            break
    assert seen == {old, 3}
    assert not killed
    assert moment > 8, "every file operation was tried"


def test_every_file_is_on_the_disk_before_the_checkpoint_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = checkpoint.sync, os.replace
    monkeypatch.setattr(checkpoint, "sync", lambda path: (done.append(path.name), sync(path)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), replace(*paths)))
    write(tmp_path / "c", 1)
    assert (set(done[:3]), done[3:]) == ({newest.TENSORS, newest.STATE, newest.SUMS}, ["replace", tmp_path.name])
