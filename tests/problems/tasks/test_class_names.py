"""The line that tells the classes, and the warnings of names that are probably mistakes."""

import pytest

from autolora.problems.tasks.class_names import tell_classes, warn_of_majority

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


@pytest.mark.parametrize("name", ["nan", "NaN", "NA", "None", "null", "N/A", "B-NaN"])
def test_a_class_that_probably_is_no_label_is_warned_of(name: str, log_lines: list[str]) -> None:
    tell_classes("5 rows of a.csv", {"yes": 3, name: 2})
    assert log_lines[1:] == [
        f"WARNING 5 rows of a.csv: {name!r} (2) is learned as a class of its own; if it stands for an empty label, "
        f"remove these rows"
    ]


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("Pos", "pos", "'Pos' (3) and 'pos' (1)"),
        ("1", "1.0", "'1' (3) and '1.0' (1)"),
        ("True", "1", "'True' (3) and '1' (1)"),
        ("0", "False", "'0' (3) and 'False' (1)"),
        ("very good", "very  good", "'very good' (3) and 'very  good' (1)"),
        ("caf\u00e9", "cafe\u0301", r"'caf\xe9' (3) and 'cafe\u0301' (1)"),
    ],
)
def test_classes_of_nearly_the_same_name_are_warned_of(
    first: str, second: str, told: str, log_lines: list[str]
) -> None:
    tell_classes("7 rows of a.csv", {first: 3, "neg": 2, "none": 1, second: 1})
    assert log_lines[1:] == [
        f"WARNING 7 rows of a.csv: {told} are nearly the same name and are learned as 2 classes; if they are one, "
        f"write them alike"
    ]


def test_a_class_of_more_than_three_quarters_is_warned_of_with_its_share(log_lines: list[str]) -> None:
    warn_of_majority("100 rows of a.csv", {"a": 75, "b": 25})
    warn_of_majority("3 rows of a.csv", {"a": 1, "b": 1, "c": 1})
    assert log_lines == []
    warn_of_majority("200 rows of a.csv", {"b": 11, "very\ngood": 177, "c": 12})
    assert log_lines == [
        "WARNING 200 rows of a.csv: 88.5 % are of the class very good, so that always guessing it has an accuracy of "
        'about 0.885; for a metric that counts all classes alike, set --task.metrics "[f1_macro]"'
    ]
