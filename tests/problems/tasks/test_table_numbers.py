"""Labels of a user's own table that look like numbers to predict, or like the texts themselves."""

from pathlib import Path
from typing import Any

import pytest

from configs.errors import UserError
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
