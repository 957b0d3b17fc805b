"""Names of classes and numbers to be learned, as they come from any kind of file."""

from typing import Any

import numpy as np
import pytest

from autolora.configs.errors import UserError
from autolora.problems.tasks.labels import (
    LARGEST,
    count_labels,
    find_classes,
    label_text,
    no_label,
    number_of,
    value_of,
)

HINT = "--task.kind regression"


def test_classes_are_sorted_numbers_by_value_and_then_words() -> None:
    assert find_classes("x", ["10", "b", 2, "a", 2.0, None, ""], HINT) == ["2", "10", "a", "b"]


@pytest.mark.parametrize(("value", "name"), [(1, "1"), (1.0, "1"), (np.float32(2), "2"), (" 1", "1"), (0.5, "0.5")])
def test_one_class_has_one_name_in_every_kind_of_file(value: Any, name: str) -> None:
    assert label_text(value) == name


def test_an_empty_label_is_none() -> None:
    assert all(no_label(value) for value in (None, "", "  ", float("nan")))
    assert not any(no_label(value) for value in (0, "0", False))


def test_fractions_are_classes_with_a_warning_that_names_the_other_way(log_lines: list[str]) -> None:
    assert find_classes("column x", ["0,5", "1,5", "0,5"] * 4, HINT) == ["0,5", "1,5"]
    (line,) = log_lines
    assert line.startswith("WARNING column x holds fractional numbers, taken for 2 classes")
    assert HINT in line


@pytest.mark.parametrize("labels", [["a"] * 9, [str(i) for i in range(30)], [f"name {i}" for i in range(30)]])
def test_one_class_and_a_class_for_each_row_are_refused(labels: list[str]) -> None:
    with pytest.raises(UserError, match=r"^column x has "):
        find_classes("column x", labels, HINT)


@pytest.mark.parametrize(
    ("form", "hint"),
    [("{}", f"to learn numbers, {HINT}"), ("word {}", r"are these the labels \(--task\.label_column\)\?")],
)
def test_the_most_classes_are_named_and_numbers_only_where_labels_are_numbers(form: str, hint: str) -> None:
    labels = [form.format(i % 1200) for i in range(2400)]
    with pytest.raises(UserError, match=rf"^x has 1200 different labels; allowed: at most 1000 classes; {hint}$"):
        find_classes("x", labels, HINT)


def test_a_class_has_its_number_and_an_unknown_one_is_refused() -> None:
    assert number_of("row 1", " b", ["a", "b"]) == 1
    with pytest.raises(UserError, match=r"^row 2: label 'c' does not occur in the training rows; known: a, b$"):
        number_of("row 2", "c", ["a", "b"])


def test_a_long_label_is_shortened_in_messages() -> None:
    """A column of texts, named as the labels, made lines of thousands of characters."""
    for read in (lambda label: number_of("row 1", label, ["a" * 5000, "b"]), lambda label: value_of("row 1", label)):
        with pytest.raises(UserError, match=r"^row 1: label 'long long") as refused:
            read("long " * 1000)
        assert len(str(refused.value)) < 400


def test_a_number_is_taken_up_to_what_fp32_can_square() -> None:
    assert value_of("row 1", str(LARGEST)) == LARGEST
    for label, words in ((2 * LARGEST, "too large"), ("two", "not a number"), ("inf", "not a number"), ("", "empty")):
        with pytest.raises(UserError, match=rf"^row 1: .*label .*{words}"):
            value_of("row 1", label)


@pytest.mark.parametrize(
    ("labels", "count"),
    [([-100, 3, -100, 0], 2), ([], 0), (-100, 0), (4, 1), (-100.0, 1), ([-100.0, 0.5], 2), ([[1, -100], [2, 3]], 3)],
)
def test_labels_that_a_loss_leaves_out_are_whole_numbers(labels: Any, count: int) -> None:
    assert count_labels(labels) == count_labels(np.asarray(labels)) == count
