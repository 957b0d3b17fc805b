"""All rows of a user's table that have no text or no label are told at once, and so is a class of nearly all rows."""

from pathlib import Path
from typing import Any

import pytest

from configs.errors import UserError
from configs.schema import TaskConfig
from problems.tasks.data_to_text import SourceTarget
from tests.helpers.tables import LABELS, TEXTS, task_of, write

LAST = "; fill them in or remove the rows"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("texts", "labels", "told"),
    [
        ([2], [], ", row 2: column 'text' has no text; fill it in or remove the row"),
        ([], [4], ", row 4: the label is empty; fill it in or remove the row"),
        ([2, 3], [], f": column 'text' has no text in 2 rows (2, 3){LAST}"),
        ([], [1, 5], f": the label is empty in 2 rows (1, 5){LAST}"),
        ([6], [1, 3], f": column 'text' has no text in 1 row (6) and the label is empty in 2 rows (1, 3){LAST}"),
        ([1, 2, 3, 4, 5, 6], [], f": column 'text' has no text in 6 rows (1, 2, 3, 4, 5, ...){LAST}"),
    ],
)
def test_rows_without_a_text_or_a_label_are_counted_and_the_first_are_named(
    tmp_path: Path, suffix: str, texts: list[int], labels: list[int], told: str
) -> None:
    path = tmp_path / f"d{suffix}"
    good = write(tmp_path / f"g{suffix}", {"text": TEXTS, "label": LABELS})
    empty: Any = " " if suffix in (".csv", ".tsv") else None
    write(path, {
        "text": [empty if row in texts else text for row, text in enumerate(TEXTS, 1)],
        "label": [empty if row in labels else label for row, label in enumerate(LABELS, 1)],
    })  # fmt: skip
    for task, option in ((task_of(path), "path"), (task_of(good, validation_path=str(path)), "validation_path")):
        with pytest.raises(UserError) as caught:
            task.rows()
        assert str(caught.value) == f"--task.{option}: {path}{told}"


def test_numbers_without_a_label_are_counted_too(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", {"text": TEXTS, "label": ["", 1, "", 2, "", 3]})
    with pytest.raises(UserError, match=r"d\.csv: the label is empty in 3 rows \(1, 3, 5\); fill them in"):
        task_of(path, kind="regression").rows()


def test_sources_and_targets_without_a_text_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", {"source": ["a", "", "c", ""], "target": ["x", "y", " ", "z"]})
    with pytest.raises(UserError) as caught:
        SourceTarget(TaskConfig(type="generation", path=str(path)), 0).records()
    assert str(caught.value) == (
        f"--task.path: {path}: column 'source' has no text in 2 rows (2, 4) and column 'target' has no text in 1 row "
        f"(3){LAST}"
    )


@pytest.mark.parametrize(
    ("settings", "warned"),
    [({}, True), ({"metrics": ["accuracy", "f1_macro"]}, True), ({"metrics": ["f1_macro", "accuracy"]}, False)],
)
@pytest.mark.parametrize("held_out", [False, True])
def test_a_class_of_nearly_all_rows_is_told_where_accuracy_is_the_main_metric(
    tmp_path: Path, settings: dict[str, Any], warned: bool, held_out: bool, log_lines: list[str]
) -> None:
    texts = [f"text {number}" for number in range(40)]
    path = write(tmp_path / "d.csv", {"text": texts, "label": ["good"] * 34 + ["bad"] * 6})
    task_of(path, **settings, **({"validation_path": None} if held_out else {})).rows()
    found = [line for line in log_lines if line.startswith("WARNING")]
    begins = "WARNING 40 rows of d.csv: 85.0 % are of the class good, so that always guessing it has an accuracy of "
    assert len(found) == warned
    assert all(line.startswith(begins) for line in found)
    log_lines.clear()
    even = write(tmp_path / "e.csv", {"text": texts, "label": ["good", "bad"] * 20})
    task_of(even, **settings).rows()
    assert not any(line.startswith("WARNING") for line in log_lines)
