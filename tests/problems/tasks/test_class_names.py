"""The line that tells the classes."""

import pytest

from autolora.problems.tasks.class_names import tell_classes

pytestmark = pytest.mark.unit


def test_the_largest_of_many_classes_are_told_in_one_line(log_lines: list[str]) -> None:
    tell_classes("9 rows of a.csv", {"b": 3, "a": 6})
    assert log_lines == ["INFO data: 9 rows of a.csv, 2 classes: b (3), a (6)"]
    log_lines.clear()
    tell_classes("55 rows of a.csv", {f"class\n{i}": i for i in range(1, 11)})
    assert log_lines == [
        "INFO data: 55 rows of a.csv, 10 classes: class 10 (10), class 9 (9), class 8 (8), class 7 (7), class 6 (6), "
        "class 5 (5), class 4 (4), class 3 (3) and 2 more"
    ]
