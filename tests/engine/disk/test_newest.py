"""Which checkpoint is the newest intact one, told without its tensors."""

import json
from pathlib import Path

import pytest

from autolora.engine.disk.newest import (
    STATE,
    SUMS,
    TENSORS,
    candidates,
    checksum,
    clear,
    half_written,
    intact,
    peek,
    previous,
)

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of nothing."""


def put(folder: Path, number: int) -> Path:
    """A checkpoint, as `checkpoint.save` leaves one."""
    folder.mkdir()
    (folder / TENSORS).write_bytes(bytes([number]))
    (folder / STATE).write_text(json.dumps({"number": number}))
    (folder / SUMS).write_text(json.dumps({name: checksum(folder / name) for name in (TENSORS, STATE)}))
    return folder


def test_the_newer_comes_first_and_the_one_before_has_its_own_name(tmp_path: Path) -> None:
    assert list(candidates(tmp_path / "c.d")) == [tmp_path / "c.d", tmp_path / "c.d.previous"]
    assert previous(tmp_path / "c.d") == tmp_path / "c.d.previous"


def test_a_checksum_is_sha_256_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert checksum(tmp_path / "a") == EMPTY
    (tmp_path / "a").write_bytes(b"x" * 2**20)
    assert checksum(tmp_path / "a") != EMPTY


@pytest.mark.parametrize("name", [TENSORS, STATE, SUMS])
@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff\xfe", b"[" * 100_000, None])
def test_a_checkpoint_with_a_changed_or_missing_file_is_not_intact(
    tmp_path: Path, name: str, damage: bytes | None
) -> None:
    folder = put(tmp_path / "c", 1)
    assert intact(folder)
    (folder / name).unlink() if damage is None else (folder / name).write_bytes(damage)
    assert not intact(folder)


def test_a_checkpoint_that_is_not_there_or_is_a_file_is_not_intact(tmp_path: Path) -> None:
    assert not intact(tmp_path / "none")
    (tmp_path / "file").touch()
    assert not intact(tmp_path / "file")


def test_the_state_is_that_of_the_newest_whose_state_is_intact(tmp_path: Path) -> None:
    newer, older = put(tmp_path / "c", 2), put(tmp_path / "c.previous", 1)
    assert peek(tmp_path / "c") == {"number": 2}
    (newer / TENSORS).write_bytes(b"damaged")  # which `peek` does not read
    assert peek(tmp_path / "c") == {"number": 2}
    (newer / STATE).write_text('{"number": 3}')
    assert peek(tmp_path / "c") == {"number": 1}
    (older / SUMS).unlink()
    assert peek(tmp_path / "c") == {}


def test_clear_removes_both_and_nothing_beside_them(tmp_path: Path) -> None:
    clear(tmp_path / "c")
    for name in ("c", "c.previous", "c.other"):
        put(tmp_path / name, 1)
    clear(tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["c.other"]


def test_clear_leaves_nothing_also_of_one_that_was_half_written(tmp_path: Path) -> None:
    """A process that was killed while it saved leaves it; a run that ended before it saved again had kept it."""
    for folder in (tmp_path / "c", tmp_path / "c.previous", half_written(tmp_path / "c"), tmp_path / "other"):
        put(folder, 1)
    clear(tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
