"""Two folders are exchanged in one step, or nothing happens."""

import ctypes
import errno
from pathlib import Path
from typing import Any

import pytest

from autolora.engine.disk.exchange import swap


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("a", "b"):
        (tmp_path / name / name).mkdir(parents=True)
    return tmp_path / "a", tmp_path / "b"


def test_each_name_leads_to_the_others_folder(two: tuple[Path, Path]) -> None:
    a, b = two
    if not swap(a, b):
        pytest.skip("this file system cannot exchange two folders")
    assert [path.name for path in (*a.iterdir(), *b.iterdir())] == ["b", "a"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_system_that_cannot_says_so_and_changes_nothing(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class Library:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def renameat2(self, *_: Any) -> int:
            ctypes.set_errno(number)
            return -1

        renamex_np = renameat2

    monkeypatch.setattr(ctypes, "CDLL", Library)
    assert not swap(*two)
    assert [path.name for path in two[0].iterdir()] == ["a"]


def test_an_old_c_library_is_a_system_that_cannot(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert not swap(*two)


def test_what_is_in_the_way_is_an_error(two: tuple[Path, Path]) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        swap(two[0], two[0].with_name("absent"))
