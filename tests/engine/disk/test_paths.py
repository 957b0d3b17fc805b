"""A folder whose class lists its content one line a path."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from autolora.engine.disk.paths import At, misplaced


@dataclass(frozen=True)
class Shelf:
    root: Path

    book = At("book.txt")
    page = At("book/page-1.txt")


def test_a_path_lies_under_the_root_of_its_own_folder() -> None:
    one, other = Shelf(Path("a")), Shelf(Path("b"))
    assert (one.book, one.page) == (Path("a/book.txt"), Path("a/book/page-1.txt"))
    assert other.book == Path("b/book.txt")


def test_a_listed_path_is_no_field_of_the_folder() -> None:
    assert Shelf(Path("a")) == Shelf(Path("a"))
    assert list(vars(Shelf(Path("a")))) == ["root"]


def test_the_class_itself_shows_the_listed_path_to_inspection() -> None:
    assert Shelf.page.relative == "book/page-1.txt"


@dataclass(frozen=True)
class Room:
    root: Path

    shelf = At("shelf", folder=True)
    note = At("note.txt")


@pytest.mark.parametrize(
    ("name", "kind"), [("shelf", "file"), ("shelf", "nowhere"), ("note.txt", "folder"), ("note.txt", "nowhere")]
)
def test_what_is_of_the_wrong_kind_is_told(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "nowhere":
        path.symlink_to(tmp_path / "gone")
    elif kind == "file":
        path.touch()
    else:
        path.mkdir()
    assert list(misplaced(Room(tmp_path))) == [(path, "folder" if name == "shelf" else "file")]


def test_what_is_absent_or_right_or_linked_is_not_told(tmp_path: Path) -> None:
    assert list(misplaced(Room(tmp_path))) == []
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "shelf").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "note.txt").touch()
    assert list(misplaced(Room(tmp_path))) == []
