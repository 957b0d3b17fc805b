"""Labels of a user's own table that look like numbers to predict, or like the texts themselves."""

from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from tests.helpers.tables import task_of, write


def numbers(count: int, digits: int = 3) -> list[float]:
    return [round(number / 7 + 0.001, digits) for number in range(count)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    "labels",
    [numbers(3), numbers(40), [*numbers(38), 0.001, 0.001], list(range(40)), [f"{n},5" for n in range(40)]],
    ids=["three", "forty", "nearly each", "whole", "decimal commas"],
)
def test_a_number_of_its_own_in_each_row_is_no_class(tmp_path: Path, suffix: str, labels: list[Any]) -> None:
    path = write(tmp_path / f"d{suffix}", {"text": [f"t{n}" for n in range(len(labels))], "label": labels})
    with pytest.raises(
        UserError, match=r"^--task\.path: column 'label' of .* nearly one a row; to learn numbers, set --task\.k"
    ):
        task_of(path).rows()
    if "," not in str(labels[0]):
        assert len(task_of(path, kind="regression").rows().train) == len(labels)


def test_a_text_of_its_own_in_each_row_is_no_class(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", {"text": [f"t{n}" for n in range(40)], "label": [f"word {n}" for n in range(40)]})
    with pytest.raises(UserError, match=r"nearly one a row; are these the labels \(--task\.label_column\)\?"):
        task_of(path).rows()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([n % 30 for n in range(120)], "many different numbers, taken for 30 classes"),
        (numbers(30) * 4, "fractional numbers, taken for 30 classes"),
        ([f"{n},5" for n in range(30)] * 4, "fractional numbers, taken for 30 classes"),
        ([*numbers(30), "n/a"] * 4, "fractional numbers, taken for 31 classes"),
        ([n % 5 for n in range(120)], None),
        ([f"intent {n % 30}" for n in range(120)], None),
    ],
)
def test_many_numbers_taken_for_classes_are_warned_of(
    tmp_path: Path, labels: list[Any], said: str | None, log_lines: list[str]
) -> None:
    task_of(write(tmp_path / "d.csv", {"text": [f"t{n}" for n in range(len(labels))], "label": labels})).rows()
    lines = [line for line in log_lines if " holds " in line]
    assert len(lines) == (said is not None)
    assert all(f"holds {said}" in line and "--task.kind regression" in line for line in lines)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("labels", [["0.1", "0.10", "1e-1"], ["5", "5.0", "5"], ["-2", " -2", "-2.00"]])
@pytest.mark.parametrize("held_out", [False, True])
def test_one_number_spelt_in_several_ways_is_one_number(
    tmp_path: Path, suffix: str, labels: list[Any], held_out: bool
) -> None:
    path = write(tmp_path / f"d{suffix}", {"text": ["a", "b", "c"] * 4, "label": labels * 4})
    told = rf"^--task\.path: column 'label' of .* has the one number {float(labels[0]):g}; two or more are needed$"
    with pytest.raises(UserError, match=told):
        task_of(path, kind="regression", **({"validation_path": None} if held_out else {})).rows()


def test_one_word_in_all_rows_is_told_as_a_word(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", {"text": ["a", "b"], "label": ["same", "same"]})
    with pytest.raises(UserError, match=r"d\.csv, line 2: label 'same' is not a number$"):
        task_of(path, kind="regression").rows()


def test_one_number_in_the_rows_that_are_not_held_out_is_refused(tmp_path: Path) -> None:
    """Nothing can be learned from it, and the numbers to evaluate on would be guessed."""
    for place in range(10):
        labels = [5] * place + [6] + [5] * (9 - place)
        path = write(tmp_path / "d.csv", {"text": [f"t{n}" for n in range(10)], "label": labels})
        task = task_of(path, kind="regression", validation_path=None)
        try:
            assert len(set(task.rows().train["label"])) == 2
        except UserError as error:
            message = str(error)
    assert message == (
        f"--task.path: column 'label' of {path} has the one number 5 in the 9 of 10 rows that are not held out "
        f"(another --task.seed holds out others); two or more are needed"
    )
