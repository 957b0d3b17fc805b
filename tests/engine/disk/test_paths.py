"""A folder whose class lists its content one line a path."""

from dataclasses import dataclass
from pathlib import Path

from engine.disk.paths import At


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
